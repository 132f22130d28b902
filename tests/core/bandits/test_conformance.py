"""What every algorithm of the registry owes. A new one is checked by being in it."""

import inspect
import re
from functools import cache, partial

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from armfold.core import random
from armfold.core.bandits import ALGORITHMS, divergence, linear, quantile, ucb
from armfold.core.check import ShapeError
from tests.purity import check_pure, same_bits

K, D = 3, 2
BATCHES = [(), (4,), (2, 3)]
UNPLAYED_FIRST = ("epsilon_greedy", "ucb1", "ucb_v", "moss", "kl_ucb", "kl_ucb_pp", "imed")
MONTE_CARLO = ("beta_ts", "gaussian_ts", "lin_ts")
INDEX = {
    "ucb1": ucb.ucb1_index,
    "ucb_v": ucb.ucb_v_index,
    "moss": ucb.moss_index,
    "kl_ucb": divergence.kl_ucb_index,
    "kl_ucb_pp": divergence.kl_ucb_pp_index,
    "imed": divergence.imed_index,
    "bayes_ucb": quantile.bayes_ucb_index,
}
BELOW = -1.0
TUNABLES = [(name, tunable) for name, algorithm in ALGORITHMS.items() for tunable in algorithm.tunables]

every = pytest.mark.parametrize("name", ALGORITHMS)
each_tunable = pytest.mark.parametrize(("name", "tunable"), TUNABLES)


def make(name, **kwargs):
    features = {"features": D} if ALGORITHMS[name].contextual else {}
    return ALGORITHMS[name].make(**{"arms": K, **features, **kwargs})


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def context(name, batch, seed=0, dtype=torch.float32):
    return random.normal(keys(batch, 10_000 + seed), (K, D), dtype=dtype) if ALGORITHMS[name].contextual else None


@cache
def played(name, batch, steps=12, dtype=torch.float32):
    """A state after some steps, every arm played, and the obs, action and reward of one step more."""
    bandit = make(name, dtype=dtype)
    state = bandit.init(keys(batch))
    for t in range(steps + 1):
        obs, rng = context(name, batch, t, dtype), keys(batch, 100 + t)
        action = bandit.select(state, rng, obs) if t >= K else torch.full(batch, t)
        reward = random.uniform(keys(batch, 200 + t), dtype=dtype) * (action + 1) / K
        if t < steps:
            state = bandit.update(state, rng, obs, action, reward)
    return state, obs, action, reward


def same(left, right):
    """Bitwise equality of two tensors, or of two states, whatever the layout in memory."""
    left, right = tree_map(torch.Tensor.contiguous, (left, right))
    return all(same_bits(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True))


def lane(tree, *at):
    """One lane of a tensor, of a state, or of both in a list; None stays None."""
    return tree_map(lambda x: x[at] if isinstance(x, Tensor) else x, tree)


def spread(tree, lanes):
    """The first lane, `lanes` times."""
    return tree_map(lambda x: x[:1].expand(lanes, *x.shape[1:]) if isinstance(x, Tensor) else x, tree)


def positional(function):
    kinds = inspect.signature(function).parameters.values()
    return [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]


# --- what it looks like


@every
def test_constructor_takes_keywords_only_and_says_its_source(name):
    algorithm = ALGORITHMS[name]
    assert name == algorithm.name == algorithm.make.__name__
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(algorithm.make).parameters.values())
    assert algorithm.summary.endswith(".")
    assert re.search(r"[A-Z]\w+.* (19|20)\d\d", algorithm.source)


@every
def test_signatures(name):
    bandit = make(name)
    assert positional(bandit.init) == ["rng"]
    assert positional(bandit.select) == ["state", "rng", "obs"]
    assert positional(bandit.update) == ["state", "rng", "obs", "action", "reward"]
    assert positional(bandit.policy) == ["state", "rng", "obs"]
    assert inspect.signature(bandit.update).parameters["propensity"].default is None
    assert inspect.signature(bandit.policy).parameters["samples"].kind is inspect.Parameter.KEYWORD_ONLY


@every
@pytest.mark.parametrize("batch", BATCHES)
def test_state_is_a_documented_named_tuple_of_tensors(name, batch):
    state = make(name).init(keys(batch))
    assert not {"count", "index"} & set(state._fields)
    assert all(isinstance(leaf, Tensor) and leaf.shape[: len(batch)] == batch for leaf in state)
    source = inspect.getsource(type(state))
    for field in state._fields:
        assert re.search(rf"    {field}: Tensor  # \[\*B.*\w", source), field


@every
def test_functions_are_pure(name):
    bandit = make(name)
    state, obs, action, reward = played(name, (4,))
    rng = keys((4,), 9)
    check_pure(bandit.init, rng)
    check_pure(bandit.select, state, rng, obs)
    check_pure(bandit.update, state, rng, obs, action, reward)
    check_pure(bandit.policy, state, rng, obs)


# --- lanes


@every
@pytest.mark.parametrize("batch", BATCHES)
def test_every_batch_shape_is_its_lanes_one_by_one(name, batch):
    bandit = make(name)
    state, obs, action, reward = played(name, batch)
    rng = keys(batch, 9)
    chosen, probs = bandit.select(state, rng, obs), bandit.policy(state, rng, obs)
    learned = bandit.update(state, rng, obs, action, reward)
    assert chosen.shape == batch
    assert chosen.dtype == torch.int64
    assert ((chosen >= 0) & (chosen < K)).all()
    assert probs.shape == (*batch, K)
    for at in torch.cartesian_prod(*map(torch.arange, batch)).reshape(-1, len(batch)).tolist() if batch else [()]:
        one = [lane(tree, *at) for tree in (state, rng, obs)]
        assert same(bandit.select(*one), chosen[tuple(at)])
        assert same(bandit.policy(*one), probs[tuple(at)])
        assert same(bandit.update(*one, lane(action, *at), lane(reward, *at)), lane(learned, *at))


def learn_and_select(bandit):
    def step(state, rng, obs, action, reward):
        learned = bandit.update(state, rng, obs, action, reward)
        return learned, bandit.select(learned, rng, obs)

    return step


@every
def test_eager_traced_and_vmapped_agree(name, variants):
    bandit, rng = make(name), keys((5,), 9)
    state, obs, action, reward = played(name, (5,))
    variants(learn_and_select(bandit), state, rng, obs, action, reward, traced=name != "beta_ts")  # 4 s; traced below
    variants(bandit.policy, state, rng, obs, traced=False)


@pytest.mark.slow
@every
def test_compiled_agrees(name, variants):
    """On states far enough from ties that another rounding changes no choice."""
    bandit, rng = make(name), keys((64,), 9)
    state, obs, action, reward = played(name, (64,))
    variants(learn_and_select(bandit), state, rng, obs, action, reward, atol=1e-5, compiled=True)
    variants(partial(bandit.policy, samples=8), state, rng, obs, atol=1e-5, compiled=True)


# --- tunables


@each_tunable
def test_a_tunable_may_differ_between_lanes(name, tunable):
    values = [8.0, 16.0, 64.0] if tunable == "horizon" else [0.5, 1.0, 0.75]
    swept = make(name, **{tunable: torch.tensor(values)})
    state, obs, action, reward = played(name, (3,))
    rng = keys((3,), 9)
    chosen, probs = swept.select(state, rng, obs), swept.policy(state, rng, obs)
    learned = swept.update(state, rng, obs, action, reward)
    start = swept.init(rng)
    for i, value in enumerate(values):
        fixed = make(name, **{tunable: value})
        one = [lane(tree, i) for tree in (state, rng, obs)]
        assert same(fixed.select(*one), chosen[i])
        torch.testing.assert_close(fixed.policy(*one), probs[i], rtol=0, atol=1e-6)
        assert same(fixed.update(*one, action[i], reward[i]), lane(learned, i))
        torch.testing.assert_close(tuple(fixed.init(rng[i])), tuple(lane(start, i)), rtol=1e-6, atol=0)


@each_tunable
def test_a_float64_tunable_leaves_a_float32_learner_what_it_is(name, tunable):
    """A sweep made by numpy.linspace."""
    value = 16.0 if tunable == "horizon" else 0.7
    swept, fixed = make(name, **{tunable: torch.full((3,), value, dtype=torch.float64)}), make(name, **{tunable: value})
    state, obs, _, _ = played(name, (3,))
    assert same(swept.init(keys((3,))), fixed.init(keys((3,))))
    assert same(*(bandit.select(state, keys((3,), 9), obs) for bandit in (swept, fixed)))
    assert same(*(bandit.policy(state, keys((3,), 9), obs, samples=64) for bandit in (swept, fixed)))


def indexed(name, state, obs, **tunables):
    """Some float outcome of the algorithm in which every tunable shows."""
    bandit = make(name, **tunables)
    if name in INDEX:
        return bandit.select.keywords["index"](state)
    if name == "lin_ucb" and "alpha" in tunables:
        return linear.ucb_index(state, obs, alpha=tunables["alpha"])
    if "ridge" in tunables:
        return bandit.init(keys((64,))).covariance
    many, seen = spread([state, obs], 20_000)
    return torch.bincount(bandit.select(many, keys((20_000,)), seen), minlength=K) / 20_000


@each_tunable
def test_a_tunable_matters(name, tunable):
    state, obs, _, _ = played(name, (2,), 6)
    low, high = {"horizon": (1.0, 4000.0), "epsilon": (0.5, 1.0), "decay": (0.0, 4.0)}.get(tunable, (0.5, 4.0))
    if name == "bayes_ucb" and tunable == "c":
        state = state._replace(pulls=state.pulls + 5)
    less, more = (indexed(name, state, obs, **{tunable: value}) for value in (low, high))
    assert (less - more).abs().max() > 0.02  # 5 standard errors of a frequency in 20,000


@each_tunable
def test_a_bad_tunable_is_refused_by_name(name, tunable):
    for value in (BELOW, float("nan"), float("-inf"), True, "0.5", None, torch.tensor([1, 2])):
        if tunable == "prior_mean" and value is BELOW:  # a mean may be negative
            continue
        told = "int64" if isinstance(value, Tensor) else re.escape(str(value))
        with pytest.raises(ValueError, match=rf"{tunable} .*{told}"):
            make(name, **{tunable: value})


@every
def test_a_bad_size_is_refused_by_name(name):
    for value in (0, -3, 2.0, True, "3", None):
        for size in ("arms", "features") if ALGORITHMS[name].contextual else ("arms",):
            with pytest.raises(ValueError, match=rf"{size} .*{re.escape(str(value))}"):
                make(name, **{size: value})
    with pytest.raises(ValueError, match=r"arms .*1"):
        make(name, arms=1)


# --- bad data


def refuse(argument, call, *arguments):
    with pytest.raises(ShapeError, match=f"{argument} "):
        call(*arguments)


@every
@pytest.mark.parametrize("call", ["select", "update", "policy"])
def test_wrong_keys_and_contexts_are_refused(name, call):
    function, rng = getattr(make(name), call), keys((4,))
    state, obs, *more = played(name, (4,))
    more = more if call == "update" else []
    for bad in (rng[:3], rng.unsqueeze(1), rng[0], torch.zeros(4, 3, dtype=torch.int64), rng.int(), rng.double()):
        refuse("rng", function, state, bad, obs, *more)
    for shape in ((4, K), (4, K + 1, D), (3, K, D), (1, K, D), (4, 1, K, D), (K, D)):
        refuse("obs", function, state, rng, torch.zeros(shape), *more)
    if ALGORITHMS[name].contextual:
        refuse("obs", function, state, rng, torch.zeros(4, K, D + 1), *more)
        refuse("obs", function, state, rng, None, *more)


@every
def test_wrong_keys_to_start_with_are_refused(name):
    for bad in (torch.zeros(4, 3, dtype=torch.int64), torch.tensor(3), keys((4,)).int(), torch.zeros(4, 2)):
        refuse("rng", make(name).init, bad)


@every
def test_wrong_actions_and_rewards_are_refused(name):
    update, rng = make(name).update, keys((4,))
    state, obs, action, reward = played(name, (4,))
    for bad in (action.double(), action.int(), action[:3], action.unsqueeze(1), action[0], action > 0):
        refuse("action", update, state, rng, obs, bad, reward)
    for bad in (action, reward[:3], reward.unsqueeze(1), reward[0], reward > 0):
        refuse("reward", update, state, rng, obs, action, bad)


@every
def test_a_context_changes_nothing_for_a_learner_that_looks_at_none(name):
    bandit = make(name)
    state, obs, action, reward = played(name, (4,))
    if ALGORITHMS[name].contextual:
        assert not same(bandit.update(state, keys((4,)), obs, action, reward),
                        bandit.update(state, keys((4,)), 2 * obs, action, reward))  # fmt: skip
        return
    obs = torch.ones(4, K, D)
    assert same(bandit.select(state, keys((4,)), obs), bandit.select(state, keys((4,)), None))
    assert same(bandit.policy(state, keys((4,)), obs), bandit.policy(state, keys((4,)), None))
    assert same(*(bandit.update(state, keys((4,)), o, action, reward) for o in (obs, None)))


@every
def test_bad_values_leave_their_lane_bitwise_unchanged(name):
    bandit = make(name)
    state, obs, _, _ = played(name, (6,))
    action = torch.tensor([1, -1, K, 0, 2, 0])
    reward = torch.tensor([0.5, 0.5, 0.5, torch.nan, torch.inf, -torch.inf])
    learned = bandit.update(state, keys((6,)), obs, action, reward)
    assert not same(lane(learned, 0), lane(state, 0))
    for i in range(1, 6):
        assert same(lane(learned, i), lane(state, i)), (action[i], reward[i])


@every
def test_only_the_played_arm_changes(name):
    bandit = make(name)
    state, obs, action, reward = played(name, (6,))
    learned = bandit.update(state, keys((6,)), obs, action, reward)
    arm = torch.arange(K) == action.unsqueeze(-1)
    for before, after in zip(state, learned, strict=True):
        assert torch.equal(before[~arm], after[~arm])
    assert (learned.pulls == state.pulls + arm).all()


@every
def test_a_propensity_is_taken(name):
    bandit = make(name)
    state, obs, action, reward = played(name, (4,))
    given = bandit.update(state, keys((4,)), obs, action, reward, propensity=torch.full((4,), 0.5))
    assert same(given, bandit.update(state, keys((4,)), obs, action, reward))  # none of these weighs by it


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if ALGORITHMS[name].contextual])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_context_of_one_arm_harms_no_other(name, bad):
    bandit = make(name)
    state, obs, action, reward = played(name, (6,))
    other = (action + 1) % K
    hurt = torch.where((torch.arange(K) == other.unsqueeze(-1)).unsqueeze(-1), bad, obs)
    assert same(bandit.update(state, keys((6,)), hurt, action, reward),
                bandit.update(state, keys((6,)), obs, action, reward))  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if ALGORITHMS[name].contextual])
def test_a_context_of_nans_is_not_played_and_not_learned(name):
    bandit = make(name)
    state, obs, _, reward = played(name, (6,))
    nans = torch.full_like(obs, torch.nan)
    one = obs.clone()
    one[:, 1:] = torch.nan
    assert (bandit.select(state, keys((6,)), nans) == -1).all()
    assert (bandit.policy(state, keys((6,)), nans) == 0).all()
    assert (bandit.select(state, keys((6,)), one) == 0).all()
    assert same(bandit.update(state, keys((6,)), nans, torch.ones(6, dtype=torch.int64), reward), state)


# --- laws


@every
@pytest.mark.parametrize("steps", [0, 7])
def test_policy_is_the_law_of_select(name, steps):
    """20,000 keys, each arm within 5 standard errors: under 6e-5 false alarms in all."""
    lanes, bandit = 20_000, make(name)
    state, obs = bandit.init(keys(())), context(name, ())
    for t in range(steps):
        state = bandit.update(state, keys(()), context(name, (), t), torch.tensor(t % K), torch.tensor(t / (t + 5)))
    law = bandit.policy(state, keys((), 5), obs, samples=lanes).double()
    many, seen = spread(lane([state, obs], None), lanes)
    drawn = bandit.select(many, keys((lanes,), 6), seen)
    found = torch.bincount(drawn, minlength=K).double() / lanes
    assert law.sum() == pytest.approx(1, abs=1e-6)
    sides = 2 if name in MONTE_CARLO else 1
    assert ((found - law).abs() <= 1e-6 + 5 * torch.sqrt(sides * law * (1 - law) / lanes)).all(), (found, law)


@every
def test_policy_sums_to_one(name):
    bandit = make(name)
    state, obs, _, _ = played(name, (50,))
    probs = bandit.policy(state, keys((50,), 3), obs, samples=64)
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(50))


@pytest.mark.parametrize("name", MONTE_CARLO)
def test_samples_must_be_a_size(name):
    state, obs, _, _ = played(name, (4,))
    for samples in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=rf"samples .*{samples}"):
            make(name).policy(state, keys((4,)), obs, samples=samples)


@pytest.mark.parametrize("name", UNPLAYED_FIRST)
def test_arms_never_played_come_first_in_random_order(name):
    """First arms within 5 standard errors of uniform."""
    lanes, tunables = 3000, {"epsilon": 0.0} if name == "epsilon_greedy" else {}
    bandit = make(name, **tunables)
    state = bandit.init(keys((lanes,)))
    for t in range(K):
        action = bandit.select(state, keys((lanes,), 1 + t), None)
        if t == 0:
            share = torch.bincount(action, minlength=K) / lanes
            assert ((share - 1 / K).abs() < 5 * (2 / 9 / lanes) ** 0.5).all()
        state = bandit.update(state, keys((lanes,)), None, action, torch.ones(lanes))
    assert (state.pulls == 1).all()


# --- long runs and precision


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counters_outlast_float32_and_saturate(name, dtype):
    bandit = make(name, dtype=dtype)
    state, obs, _, _ = played(name, (3,), dtype=dtype)
    most = 2**63 - 1
    pulls = torch.tensor([[2**24, 5, 2**24 + 1], [most, most - 1, 3], [most, most, most]])
    sums = {f: pulls.double() * 0.5 for f in ("reward_sum", "square_sum") if f in state._fields}
    state = state._replace(pulls=pulls, **sums)
    assert state.pulls.dtype == torch.int64
    learned = bandit.update(state, keys((3,)), obs, torch.tensor([0, 1, 2]), torch.ones(3, dtype=dtype))
    learned = bandit.update(learned, keys((3,)), obs, torch.tensor([0, 1, 2]), torch.ones(3, dtype=dtype))
    wanted = torch.tensor([[2**24 + 2, 5, 2**24 + 1], [most, most, 3], [most, most, most]])
    assert torch.equal(learned.pulls, wanted)
    for field in sums:
        assert getattr(learned, field)[0, 0] == 2**23 + 2
    action = bandit.select(learned, keys((3,)), obs)
    assert ((action >= 0) & (action < K)).all()
    torch.testing.assert_close(
        bandit.policy(learned, keys((3,)), obs, samples=16).sum(-1).double(), torch.ones(3).double()
    )
    if name in INDEX:
        assert torch.isfinite(bandit.select.keywords["index"](learned)).all()


@every
def test_float64_works(name, variants):
    bandit = make(name, dtype=torch.float64)
    state, obs, action, reward = played(name, (5,), dtype=torch.float64)
    rng = keys((5,), 9)
    assert {leaf.dtype for leaf in state} == {torch.int64, torch.float64}
    if name in INDEX:
        assert bandit.select.keywords["index"](state).dtype == torch.float64
    variants(bandit.policy, state, rng, obs, traced=False)
    learned = bandit.update(state, rng, obs, action, reward)
    assert (learned.pulls.sum(-1) == state.pulls.sum(-1) + 1).all()


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in MONTE_CARLO])  # whose noise differs
def test_float64_and_float32_choose_alike(name):
    """But where indices agree to rounding."""
    single, double = make(name), make(name, dtype=torch.float64)
    state, obs, _, _ = played(name, (200,))
    wide = tree_map(lambda x: x.double() if x.is_floating_point() else x, state)
    rng = keys((200,), 9)
    assert (single.select(state, rng, obs) == double.select(wide, rng, obs)).float().mean() > 0.98
