"""What every algorithm of the registry owes. A new one is checked by being in it. Masks: test_available.py."""

import inspect
import math
import re
from functools import cache, partial

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from armfold.core import masked, random
from armfold.core.bandits import ALGORITHMS
from armfold.core.check import ShapeError
from tests.core.bandits.helpers import (
    FORMS,
    MONTE_CARLO,
    WEIGHS_BY_PROPENSITY,
    D,
    K,
    among,
    arm_axes,
    assert_law,
    close,
    context,
    contextual,
    keys,
    lane,
    make,
    played,
    same,
    sampled,
    spread,
)
from tests.purity import check_pure
from tests.tiers import thinned

# --- what does not hold for all, and why

# Keep weights or losses counted from the best arm's, which an update counts anew; EXP3.P adds to every arm besides.
COUNTS_FROM_THE_BEST = {"exp3", "exp3_ix", "exp3_p", "tsallis_inf"}
# Forget: by discounting all arms at each step, when the oldest play leaves the window, when a test finds a change.
FORGETS = {"d_ucb", "discounted_ts", "sw_ucb", "glr_kl_ucb"}
# Drops the worse arms after the last play of a round, whichever arm that was of.
DROPS_ARMS = {"successive_halving"}
# Reads the context as experts' advice: scaled to sum to 1, with what is negative or not finite left out.
TAKES_ADVICE = {"exp4"}
# Play each arm once before any twice, in random order, once they do not explore.
UNPLAYED_FIRST = {"ucb1", "ucb_v", "moss", "kl_ucb", "kl_ucb_pp", "imed", "d_ucb", "sw_ucb", "successive_halving",
                  "track_and_stop", "epsilon_greedy", "glr_kl_ucb"}  # fmt: skip
UNEXPLORING = {"epsilon_greedy": {"epsilon": 0.0}, "glr_kl_ucb": {"alpha": 0.0}}
# One of each family is traced here, the rest in slow tests; what a family shares is the code that runs in a step.
TRACED = ["kl_ucb", "gaussian_ts", "sw_ucb", "exp3_p", "exp4"]

TUNABLES = [(name, tunable) for name, algorithm in ALGORITHMS.items() for tunable in algorithm.tunables]
CHOICES = [(name, choice) for name, algorithm in ALGORITHMS.items() for choice in algorithm.choices]
CONTEXTUAL = [form for form in FORMS if contextual(form)]

every = pytest.mark.parametrize("name", ALGORITHMS)
every_form = pytest.mark.parametrize("form", FORMS)
half_of_the_forms = pytest.mark.parametrize("form", thinned(FORMS, keep=2))  # the others are slow
every_contextual = pytest.mark.parametrize("form", CONTEXTUAL)
each_tunable = pytest.mark.parametrize(("name", "tunable"), TUNABLES)


def positional(function):
    kinds = inspect.signature(function).parameters.values()
    return [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]


# --- what it looks like


def test_what_is_exempt_is_there():
    """That no exemption outlives its algorithm."""
    for names in (WEIGHS_BY_PROPENSITY, COUNTS_FROM_THE_BEST, FORGETS, DROPS_ARMS, TAKES_ADVICE, UNPLAYED_FIRST):
        assert names <= set(ALGORITHMS)
    assert set(TRACED) <= set(FORMS)


@every
def test_constructor_takes_keywords_only_and_says_its_source(name):
    algorithm = ALGORITHMS[name]
    assert name == algorithm.name == algorithm.make.__name__
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(algorithm.make).parameters.values())
    assert algorithm.summary.endswith(".")
    assert re.search(r"[A-Z]\w+.* (19|20)\d\d", algorithm.source)


@every
def test_options_are_float_tunables_or_choices(name):
    algorithm = ALGORITHMS[name]
    assert algorithm.options.keys() == algorithm.tunables.keys() | algorithm.choices.keys()


@every
def test_signatures(name):
    bandit = make(name)
    assert positional(bandit.init) == ["rng"]
    assert positional(bandit.select) == ["state", "rng", "obs"]
    assert positional(bandit.update) == ["state", "rng", "obs", "action", "reward"]
    assert positional(bandit.policy) == ["state", "rng", "obs"]
    for function, options in ((bandit.select, ["available"]), (bandit.policy, ["available", "samples"]),
                              (bandit.update, ["propensity", "available"])):  # fmt: skip
        parameters = inspect.signature(function).parameters
        assert all(parameters[option].kind is inspect.Parameter.KEYWORD_ONLY for option in options)
        assert all(parameters[option].default is None for option in options if option != "samples")


@every_form
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_state_is_a_documented_named_tuple_of_tensors(form, batch):
    state = make(form).init(keys(batch))
    assert not {"count", "index"} & set(state._fields)
    assert all(isinstance(leaf, Tensor) and leaf.shape[: len(batch)] == batch for leaf in state)
    assert state[0].shape == (*batch, K)
    source = inspect.getsource(type(state))
    for field in state._fields:
        assert re.search(rf"    {field}: Tensor  # \[\*B.*\w", source), field


@half_of_the_forms
def test_functions_are_pure(form):
    bandit = make(form)
    state, obs, action, reward = played(form, (4,))
    rng = keys((4,), 9)
    check_pure(bandit.init, rng)
    check_pure(bandit.select, state, rng, obs)
    check_pure(bandit.update, state, rng, obs, action, reward)
    check_pure(partial(bandit.policy, samples=8), state, rng, obs)


# --- lanes


@half_of_the_forms
def test_a_batch_is_its_lanes_one_by_one(form):
    """Bit for bit."""
    bandit, batch = make(form), (2, 3)
    state, obs, action, reward = played(form, batch)
    rng = keys(batch, 9)
    chosen, probs = bandit.select(state, rng, obs), bandit.policy(state, rng, obs, samples=8)
    learned = bandit.update(state, rng, obs, action, reward)
    assert chosen.shape == batch
    assert chosen.dtype == torch.int64
    assert ((chosen >= 0) & (chosen < K)).all()
    assert probs.shape == (*batch, K)
    for at in torch.cartesian_prod(*map(torch.arange, batch)).tolist():
        one = [lane(tree, *at) for tree in (state, rng, obs)]
        assert same(bandit.select(*one), chosen[tuple(at)])
        assert same(bandit.policy(*one, samples=8), probs[tuple(at)])
        assert same(bandit.update(*one, lane(action, *at), lane(reward, *at)), lane(learned, *at))


def step(state, rng, obs, action, reward, *, bandit):
    """All that a step can ask of a bandit."""
    learned = bandit.update(state, rng, obs, action, reward)
    return learned, bandit.select(learned, rng, obs), bandit.policy(learned, rng, obs, samples=8)


@half_of_the_forms
def test_vmap_agrees(form, variants):
    variants(partial(step, bandit=make(form)), *stepped(form, (5,)), traced=False)


def stepped(form, batch):
    """A state, and the arguments of one step more."""
    state, obs, action, reward = played(form, batch)
    return state, keys(batch, 9), obs, action, reward


@pytest.mark.parametrize("form", thinned(TRACED, keep=2))
def test_traced_agrees(form, variants):
    variants(partial(step, bandit=make(form)), *stepped(form, (5,)), atol=1e-5, batch=0)


@pytest.mark.slow
@every_form
def test_compiled_agrees(form, variants):
    """On states far enough from ties that another rounding changes no choice."""
    traced = form not in TRACED
    variants(partial(step, bandit=make(form)), *stepped(form, (64,)), atol=1e-5, batch=0, traced=traced, compiled=True)


# --- options


def within(tunable):
    """Three values of a tunable that every algorithm takes."""
    return [8.0, 16.0, 64.0] if tunable == "horizon" else [0.5, 1.0, 0.75]


@pytest.mark.parametrize(("name", "tunable"), thinned(TUNABLES))
def test_a_tunable_may_differ_between_lanes(name, tunable):
    may_differ_between_lanes(name, tunable)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ALGORITHMS])
def test_a_tunable_of_another_structure_may_differ_between_lanes(form):
    """Those that the structure itself takes; the rest are the rule's, and tested with its default structure."""
    may_differ_between_lanes(form, "delta" if among(form, FORGETS) else "ridge")


def may_differ_between_lanes(form, tunable):
    values = within(tunable)
    swept = make(form, **{tunable: torch.tensor(values)})
    state, obs, action, reward = played(form, (3,))
    rng = keys((3,), 9)
    chosen, probs = swept.select(state, rng, obs), swept.policy(state, rng, obs, samples=64)
    learned = swept.update(state, rng, obs, action, reward)
    start = swept.init(rng)
    for i, value in enumerate(values):
        fixed = make(form, **{tunable: value})
        one = [lane(tree, i) for tree in (state, rng, obs)]
        assert same(fixed.select(*one), chosen[i])
        torch.testing.assert_close(fixed.policy(*one, samples=64), probs[i], rtol=0, atol=1e-6)
        close(fixed.update(*one, action[i], reward[i]), lane(learned, i), 1e-6)
        close(fixed.init(rng[i]), lane(start, i), 1e-6)


@pytest.mark.parametrize(("name", "tunable"), thinned(TUNABLES))
def test_a_float64_tunable_leaves_a_float32_learner_what_it_is(name, tunable):
    """A sweep made by numpy.linspace."""
    value = within(tunable)[-1]
    swept, fixed = make(name, **{tunable: torch.full((3,), value, dtype=torch.float64)}), make(name, **{tunable: value})
    state, obs, action, reward = played(name, (3,))
    rng = keys((3,), 9)
    assert same(swept.init(rng), fixed.init(rng))
    assert same(*(bandit.select(state, rng, obs) for bandit in (swept, fixed)))
    for x, y in zip(swept.update(state, rng, obs, action, reward), fixed.update(state, rng, obs, action, reward)):
        assert x.dtype == y.dtype
    assert same(*(bandit.policy(state, rng, obs, samples=64) for bandit in (swept, fixed)))


@cache
def lived(name, lanes=16, steps=20, **tunables):
    """Where a life leads whose best arm changes half way: the actions taken, and what was learned."""
    bandit = make(name, **tunables)
    state, actions = bandit.init(keys((lanes,))), []
    for t in range(steps):
        obs, rng = context(name, (lanes,), t), keys((lanes,), 1000 + t)
        actions.append(bandit.select(state, rng, obs))
        reward = 0.9 * (actions[-1] == 2 * t // steps) + 0.1 * random.uniform(keys((lanes,), 2000 + t))
        state = bandit.update(state, rng, obs, actions[-1], reward)
    return torch.stack(actions), state


@pytest.mark.parametrize(("name", "tunable"), thinned(TUNABLES, keep=6))
def test_a_tunable_matters(name, tunable):
    """With the same keys everything is the same, bit for bit, unless the tunable is used."""
    default = ALGORITHMS[name].tunables[tunable]
    other = 5.0 if tunable == "horizon" else 1.0 if tunable == "delta" or default == 0.5 else 0.5
    assert not same(lived(name, **{tunable: other}), lived(name))


@each_tunable
def test_a_bad_tunable_is_refused_by_name(name, tunable):
    below = [] if tunable == "prior_mean" else [-1.0]  # a mean may be negative
    for value in (*below, float("nan"), float("-inf"), True, "0.5", None, torch.tensor([1, 2])):
        told = "int64" if isinstance(value, Tensor) else re.escape(str(value))
        with pytest.raises(ValueError, match=rf"{tunable} .*{told}"):
            make(name, **{tunable: value})


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_a_bad_choice_is_refused_by_name(name, choice):
    whole = isinstance(ALGORITHMS[name].choices[choice], int)
    for value in (-1, 2.5, True, None, "3") if whole else ("other", 3, None):
        with pytest.raises(ValueError, match=rf"{choice} .*{re.escape(str(value))}"):
            make(name, **{choice: value})


@every
def test_a_bad_size_is_refused_by_name(name):
    for value in (0, -3, 2.0, True, "3", None):
        for size in ("arms", "features") if contextual(name) else ("arms",):
            with pytest.raises(ValueError, match=rf"{size} .*{re.escape(str(value))}"):
                make(name, **{size: value})
    with pytest.raises(ValueError, match=r"arms .*1"):
        make(name, arms=1)


# --- bad data


def refuse(argument, call, *arguments):
    with pytest.raises(ShapeError, match=f"{argument} "):
        call(*arguments)


@every_form
@pytest.mark.parametrize("call", ["select", "update", "policy"])
def test_wrong_keys_and_contexts_are_refused(form, call):
    function, rng = getattr(make(form), call), keys((4,))
    state, obs, *more = played(form, (4,))
    more = more if call == "update" else []
    for bad in (rng[:3], rng.unsqueeze(1), rng[0], torch.zeros(4, 3, dtype=torch.int64), rng.int(), rng.double()):
        refuse("rng", function, state, bad, obs, *more)
    for shape in ((4, K), (4, K + 1, D), (3, K, D), (1, K, D), (4, 1, K, D), (K, D)):
        refuse("obs", function, state, rng, torch.zeros(shape), *more)
    if contextual(form):
        refuse("obs", function, state, rng, torch.zeros(4, K, D + 1), *more)
        refuse("obs", function, state, rng, None, *more)


@every
def test_wrong_keys_to_start_with_are_refused(name):
    for bad in (torch.zeros(4, 3, dtype=torch.int64), torch.tensor(3), keys((4,)).int(), torch.zeros(4, 2)):
        refuse("rng", make(name).init, bad)


@every_form
def test_wrong_actions_and_rewards_are_refused(form):
    update, rng = make(form).update, keys((4,))
    state, obs, action, reward = played(form, (4,))
    for bad in (action.double(), action.int(), action[:3], action.unsqueeze(1), action[0], action > 0):
        refuse("action", update, state, rng, obs, bad, reward)
    for bad in (action, reward[:3], reward.unsqueeze(1), reward[0], reward > 0):
        refuse("reward", update, state, rng, obs, action, bad)


@every
def test_a_context_is_used_by_those_who_look_at_it_alone(name):
    bandit, rng = make(name), keys((4,))
    state, obs, action, reward = played(name, (4,))
    if contextual(name):
        assert not same(*(bandit.update(state, rng, seen, action, reward) for seen in (obs, obs + 1)))
        return
    obs = torch.ones(4, K, D)
    assert same(*(bandit.select(state, rng, seen) for seen in (obs, None)))
    assert same(*(bandit.policy(state, rng, seen, samples=8) for seen in (obs, None)))
    assert same(*(bandit.update(state, rng, seen, action, reward) for seen in (obs, None)))


@half_of_the_forms
def test_bad_values_leave_their_lane_bitwise_unchanged(form):
    bandit = make(form)
    state, obs, _, _ = played(form, (6,))
    action = torch.tensor([1, -1, K, 0, 2, 0])
    reward = torch.tensor([0.5, 0.5, 0.5, torch.nan, torch.inf, -torch.inf])
    learned = bandit.update(state, keys((6,)), obs, action, reward)
    assert not same(lane(learned, 0), lane(state, 0))
    for i in range(1, 6):
        assert same(lane(learned, i), lane(state, i)), (action[i], reward[i])


def taught(form):
    """A state before and after a step of 6 lanes, and which of the arms were not played, bool [6, K]."""
    state, obs, action, reward = played(form, (6,))
    return state, make(form).update(state, keys((6,)), obs, action, reward), ~masked.one_hot(action, K)


@pytest.mark.parametrize("form", [form for form in FORMS if not among(form, FORGETS | COUNTS_FROM_THE_BEST)])
def test_only_the_played_arm_changes(form):
    """What is common to all arms may change; of what each arm has of its own, only the played arm's."""
    state, learned, other = taught(form)
    assert (learned.pulls == state.pulls + ~other).all()
    for field, axis in arm_axes(form).items():
        before, after = (getattr(s, field).movedim(axis, 1)[other] for s in (state, learned))
        assert same(after, before) or (among(form, DROPS_ARMS) and field == "dropped_round"), field


@pytest.mark.parametrize("form", [form for form in FORMS if among(form, FORGETS)])
def test_what_forgets_learns_of_no_arm_but_the_played_one(form):
    state, learned, other = taught(form)
    assert (learned.pulls[other] <= state.pulls[other]).all()
    assert (learned.reward_sum[other] <= state.reward_sum[other]).all()


@pytest.mark.parametrize("name", sorted(COUNTS_FROM_THE_BEST))
def test_the_weights_of_other_arms_move_alike(name):
    """Or with EXP3.P, whose bonus is one over the probability, the further up the rarer they are."""
    state, learned, other = taught(name)
    moved = (learned[0] - state[0])[other].reshape(6, 2)
    apart = moved[:, 0] - moved[:, 1]
    assert ((learned[0] - state[0])[~other] != moved[:, 0]).all()
    if name == "exp3_p":
        law = make(name).policy(state, keys((6,)), None)[other].reshape(6, 2)
        assert (apart * (law[:, 0] - law[:, 1]) <= 0).all()
        assert (apart != 0).any()
    else:
        torch.testing.assert_close(apart, torch.zeros(6), rtol=0, atol=1e-5)


# --- propensities


@every_form
def test_a_propensity_is_taken(form):
    bandit, rng = make(form), keys((4,))
    state, obs, action, reward = played(form, (4,))
    learned = bandit.update(state, rng, obs, action, reward)
    half = bandit.update(state, rng, obs, action, reward, propensity=torch.full((4,), 0.25))
    if among(form, WEIGHS_BY_PROPENSITY):
        law = bandit.policy(state, rng, obs)
        close(bandit.update(state, rng, obs, action, reward, propensity=masked.take(law, action)), learned)
        assert not any(same(lane(half, i), lane(learned, i)) for i in range(4))
    else:
        assert same(half, learned)


@pytest.mark.parametrize("name", sorted(WEIGHS_BY_PROPENSITY))
def test_a_bad_propensity_teaches_nothing_or_is_refused(name):
    bandit, rng = make(name), keys((4,))
    state, obs, action, reward = played(name, (4,))
    bad = torch.tensor([0.0, torch.nan, -0.5, 0.5])
    learned = bandit.update(state, rng, obs, action, reward, propensity=bad)
    assert [same(lane(learned, i), lane(state, i)) for i in range(4)] == [True, True, True, False]
    for wrong in (bad[:3], bad.unsqueeze(-1), bad[0]):
        with pytest.raises(ShapeError, match="propensity "):
            bandit.update(state, rng, obs, action, reward, propensity=wrong)


# --- bad contexts


@every_contextual
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_context_of_one_arm_harms_no_other(form, bad):
    bandit, rng = make(form), keys((6,))
    state, obs, action, reward = played(form, (6,))
    other = masked.one_hot((action + 1) % K, K).unsqueeze(-1)
    hurt = torch.where(other, bad, obs)
    # Advice for one arm is advice against the others: what is not heard is as if nothing had been said.
    whole = torch.where(other, 0, obs) if among(form, TAKES_ADVICE) else obs
    assert same(*(bandit.update(state, rng, seen, action, reward) for seen in (hurt, whole)))


@every_contextual
def test_a_context_of_nans_is_not_played_and_not_learned(form):
    bandit, rng, first = make(form), keys((6,)), torch.ones(6, dtype=torch.int64)
    state, obs, _, reward = played(form, (6,))
    nans = torch.full_like(obs, torch.nan)
    if among(form, TAKES_ADVICE):  # who speaks for no arm speaks for all
        assert same(*(bandit.policy(state, rng, seen) for seen in (nans, torch.ones_like(obs))))
        assert same(*(bandit.update(state, rng, seen, first, reward) for seen in (nans, torch.ones_like(obs))))
        return
    one = obs.clone()
    one[:, 1:] = torch.nan
    assert (bandit.select(state, rng, nans) == -1).all()
    assert (bandit.policy(state, rng, nans, samples=8) == 0).all()
    assert (bandit.select(state, rng, one) == 0).all()
    assert same(bandit.update(state, rng, nans, first, reward), state)


# --- laws


@half_of_the_forms
@pytest.mark.parametrize("steps", [0, 7])
def test_policy_is_the_law_of_select(form, steps):
    """8,000 keys, each arm within 5 standard errors: under 1e-4 false alarms in all."""
    lanes, bandit = 8_000, make(form)
    state, obs = bandit.init(keys(())), context(form, ())
    for t in range(steps):
        state = bandit.update(state, keys(()), context(form, (), t), torch.tensor(t % K), torch.tensor(t / (t + 5)))
    law = bandit.policy(state, keys((), 5), obs, samples=lanes)
    many, seen = spread([state, obs], lanes)
    drawn = bandit.select(many, keys((lanes,), 6), seen)
    assert law.sum() == pytest.approx(1, abs=1e-6)
    assert_law(torch.bincount(drawn, minlength=K) / lanes, law, lanes, sides=2 if sampled(form) else 1)


@half_of_the_forms
def test_policy_sums_to_one(form):
    state, obs, _, _ = played(form, (50,))
    probs = make(form).policy(state, keys((50,), 3), obs, samples=64)
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(50))


@pytest.mark.parametrize("name", sorted(MONTE_CARLO))
def test_samples_must_be_a_size(name):
    state, obs, _, _ = played(name, (4,))
    for samples in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=rf"samples .*{samples}"):
            make(name).policy(state, keys((4,)), obs, samples=samples)


@pytest.mark.parametrize("name", sorted(UNPLAYED_FIRST))
def test_arms_never_played_come_first_in_random_order(name):
    """First arms within 5 standard errors of uniform."""
    lanes = 3000
    bandit = make(name, **UNEXPLORING.get(name, {}))
    state, actions = bandit.init(keys((lanes,))), []
    for t in range(K):
        actions.append(bandit.select(state, keys((lanes,), 1 + t), None))
        state = bandit.update(state, keys((lanes,)), None, actions[-1], torch.ones(lanes))
    assert (torch.stack(actions, -1).sort(-1).values == torch.arange(K)).all()
    assert_law(torch.bincount(actions[0], minlength=K) / lanes, torch.full((K,), 1 / K), lanes)


# --- long runs and precision


def float64(state):
    return tree_map(lambda x: x.double() if x.is_floating_point() else x, state)


@pytest.mark.parametrize("form", [form for form in FORMS if not among(form, FORGETS | COUNTS_FROM_THE_BEST)])
def test_counters_outlast_float32_and_saturate(form):
    bandit, rng, dtype = make(form), keys((3,)), torch.float32
    state, obs, _, _ = played(form, (3,))
    most = 2**63 - 1
    pulls = torch.tensor([[2**24, 5, 2**24 + 1], [most, most - 1, 3], [most, most, most]])
    sums = {f: pulls.double() * 0.5 for f in ("reward_sum", "square_sum") if f in state._fields}
    state = state._replace(pulls=pulls, **sums)
    assert played(form, (3,))[0].pulls.dtype == torch.int64
    learned = bandit.update(state, rng, obs, torch.tensor([0, 1, 2]), torch.ones(3, dtype=dtype))
    learned = bandit.update(learned, rng, obs, torch.tensor([0, 1, 2]), torch.ones(3, dtype=dtype))
    wanted = torch.tensor([[2**24 + 2, 5, 2**24 + 1], [most, most, 3], [most, most, most]])
    assert torch.equal(learned.pulls, wanted)
    for field in sums:
        assert getattr(learned, field)[0, 0] == 2**23 + 2
    chooses_and_has_a_law(bandit, learned, obs)


def chooses_and_has_a_law(bandit, state, obs):
    lanes = state[0].shape[:1]
    action = bandit.select(state, keys(lanes), obs)
    assert ((action >= 0) & (action < K)).all()
    probs = bandit.policy(state, keys(lanes), obs, samples=16)
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1).double(), torch.ones(lanes).double())


@pytest.mark.parametrize("name", sorted(COUNTS_FROM_THE_BEST))
def test_weights_that_lie_far_apart_are_no_harm(name):
    """What a run of 1e30 steps could leave behind."""
    bandit, sign = make(name), 1 if name == "tsallis_inf" else -1
    far = sign * torch.tensor([[0.0, 1e30, 1.0], [1e30, 1e30, 0.0], [0.0, 3e15, 1e-30]])
    state = played(name, (3,))[0]
    state = state._replace(**{state._fields[0]: far})
    for rewards in (torch.zeros(3), torch.ones(3)):
        action = bandit.select(state, keys((3,)), None)
        state = bandit.update(state, keys((3,)), None, action, rewards)
        assert all(torch.isfinite(leaf).all() for leaf in state)
        chooses_and_has_a_law(bandit, state, None)


@half_of_the_forms
def test_float64_works(form):
    bandit, rng = make(form, dtype=torch.float64), keys((5,), 9)
    state, obs, action, reward = played(form, (5,), dtype=torch.float64)
    learned = bandit.update(state, rng, obs, action, reward)
    assert {leaf.dtype for leaf in learned} <= {torch.int64, torch.float64}
    if not sampled(form):
        assert bandit.policy(state, rng, obs).dtype == torch.float64
    chooses_and_has_a_law(bandit, learned, obs)


@pytest.mark.parametrize("form", [form for form in FORMS if not sampled(form)])  # whose noise differs
def test_float64_and_float32_have_one_law(form):
    """But where indices agree to rounding, as here for no more than one lane in 50."""
    state, obs, _, _ = played(form, (200,))
    single, double = (make(form, dtype=dtype).policy(s, keys((200,), 9), o) for dtype, s, o in (
        (torch.float32, state, obs), (torch.float64, float64(state), None if obs is None else obs.double())
    ))  # fmt: skip
    assert ((single - double).abs().amax(-1) < 1e-4).double().mean() > 0.98
    assert math.isfinite(double.sum())
