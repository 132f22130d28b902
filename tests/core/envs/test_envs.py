"""What every bandit environment owes, and what each of them is. Statistical bounds are 5 standard errors: under 6e-7
false alarms for each number compared."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves, tree_map

from armfold.core import random
from armfold.core.bandits import ALGORITHMS
from armfold.core.check import ShapeError
from armfold.core.envs import (
    ENVIRONMENTS,
    abrupt,
    adversarial,
    bernoulli,
    classification,
    contextual,
    dataset,
    delayed,
    drifting,
    gaussian,
    logistic,
)
from armfold.core.envs.labels import State as Labels
from tests.purity import check_pure, same_bits
from tests.tiers import thinned

K, ROWS = 3, 7
X = torch.tensor(np.random.default_rng(1).normal(size=(ROWS, 4)), dtype=torch.float32)
Y = torch.tensor([0, 2, 1, 1, 0, 2, 2])
P = torch.tensor(np.random.default_rng(2).uniform(size=(ROWS, K)), dtype=torch.float32)
OWN = torch.tensor(np.random.default_rng(3).normal(size=(ROWS, K, 4)), dtype=torch.float32)
THETA = torch.tensor(np.random.default_rng(4).normal(size=(K, 4)), dtype=torch.float32)
PHASES = ((0.2, 0.5, 0.9), (0.7, 0.1, 0.4))

CASES = {
    "bernoulli": bernoulli(arms=K),
    "bernoulli, p": bernoulli(p=(0.2, 0.5, 0.9)),
    "gaussian": gaussian(arms=K, std=0.5),
    "gaussian, mean": gaussian(mean=(-1, 0.5, 2)),
    "drifting": drifting(arms=K),
    "drifting, reflect": drifting(arms=K, boundary="reflect"),
    "abrupt": abrupt(arms=K, period=2),
    "abrupt, p": abrupt(p=PHASES, hazard=0.5),
    "adversarial": adversarial(arms=K),
    "delayed": delayed(arms=K, delay=2),
    "contextual": contextual(arms=K, features=4),
    "classification": classification(x=X, y=Y, arms=K),
    "classification, blocks": classification(x=X, y=Y, arms=K, context="blocks"),
    "dataset": dataset(x=X, p=P),
    "dataset, own": dataset(x=OWN, p=P),
    "dataset, blocks": dataset(x=X, p=P, context="blocks"),
}
FEATURES = {
    "contextual": 4,
    "classification": 4,
    "classification, blocks": 12,
    "dataset": 4,
    "dataset, own": 4,
    "dataset, blocks": 12,
}
# Like another case in all but `init` or a line: tracing takes seconds.
UNTRACED = (
    "bernoulli, p",
    "gaussian, mean",
    "drifting, reflect",
    "dataset, own",
    "dataset, blocks",
)
LATE = {"delayed": 2}  # steps from a pull to its reward
every = pytest.mark.parametrize("name", CASES)
at_once = pytest.mark.parametrize("name", [name for name in CASES if name not in LATE])


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def same(left, right):
    """Bitwise, whatever the layout in memory."""
    left, right = tree_map(torch.Tensor.contiguous, (left, right))
    return all(same_bits(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True))


def test_every_environment_of_the_registry_is_here():
    assert {name.split(",")[0] for name in CASES} == set(ENVIRONMENTS)
    for name, environment in ENVIRONMENTS.items():
        assert environment.name == name
        assert environment.summary.endswith(".")
        assert any(char.isdigit() for char in environment.source)


@every
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_shapes(name, batch):
    env = CASES[name]
    state = env.init(keys(batch))
    assert all(leaf.shape[: len(batch)] == batch for leaf in state)
    assert not {"count", "index"} & set(state._fields)
    for t in range(3):
        obs, means = env.observe(state), env.means(state)
        state, reward = env.pull(state, keys(batch, t + 1), torch.full(batch, t))
        assert (obs is None) == (name not in FEATURES)
        assert obs is None or obs.shape == (*batch, K, FEATURES[name])
        assert means.shape == (*batch, K)
        assert means.dtype == reward.dtype == torch.float32
        assert reward.shape == batch
        assert torch.isfinite(reward).all()


@every
def test_functions_are_pure(name):
    env, rng = CASES[name], keys((4,), 1)
    state = check_pure(env.init, rng)
    check_pure(env.observe, state)
    check_pure(env.means, state)
    check_pure(env.pull, state, rng, torch.tensor([0, 1, 2, 1]))


@pytest.mark.parametrize(
    "name",  # every third family; the others, and the other forms of one, are slow
    thinned(name for name in CASES if "," not in name)
    + [pytest.param(name, marks=pytest.mark.slow) for name in CASES if "," in name],
)
def test_eager_traced_and_vmapped_agree(name, variants):
    env = CASES[name]

    def step(state, rng, action):
        seen = (env.observe(state),) if name in FEATURES else ()  # vmap takes no None from a function
        return seen, env.means(state), env.pull(state, rng, action)

    variants(env.init, keys((4,)), exact=True, traced=False)
    args = env.init(keys((4,))), keys((4,), 1), torch.tensor([0, 2, -1, 1])
    variants(step, *args, traced=name not in UNTRACED)


@every
def test_a_lane_alone_is_bitwise_the_lane_of_a_batch(name):
    """In 130 lanes, so that vector code and its remainder both serve."""
    env, action = CASES[name], torch.arange(130) % K
    many = env.init(keys((130,)))
    drawn = env.means(many), env.pull(many, keys((130,), 1), action)
    for i in (0, 63, 129):
        one = env.init(keys((130,))[i])
        assert same(one, tree_map(lambda x, i=i: x[i], many))
        alone = env.means(one), env.pull(one, keys((130,), 1)[i], action[i])
        assert same(alone, tree_map(lambda x, i=i: x[i], drawn))


@every
def test_reward_has_the_mean_that_is_told(name):
    """For each arm, and weighted by the mean: a reward that ignored its own lane would fail the second."""
    env, lanes = CASES[name], 20_000
    state = env.init(keys((lanes,)))
    means = env.means(state)
    for arm in range(K):
        now = state
        for _ in range(1 + LATE.get(name, 0)):
            now, reward = env.pull(now, keys((lanes,), 1 + arm), torch.full((lanes,), arm))
        error = (reward - means[:, arm]).double()
        for weighed in (error, error * (means[:, arm].double() - means[:, arm].double().mean())):
            assert weighed.mean().abs() <= 5 * weighed.std() / lanes**0.5
        if name == "gaussian":
            assert abs(error.std() / 0.5 - 1) < 5 / math.sqrt(2 * lanes)
        elif name != "gaussian, mean":
            assert set(reward.unique().tolist()) == {0.0, 1.0}


@at_once
def test_what_happens_depends_on_the_key_and_the_arm_alone(name):
    """Two learners with the environment's keys in common: the same arms, contexts, and rewards of like pulls."""
    env, lanes = CASES[name], 50
    left = right = env.init(keys((lanes,)))
    for t in range(5):
        rng = keys((lanes,), 1 + t)
        one, other = random.randint(keys((lanes,), 100 + t), high=K), torch.full((lanes,), t % K)
        left, first = env.pull(left, rng, one)
        right, second = env.pull(right, rng, other)
        assert same(left, right)
        alike = one == other
        assert alike.any()
        assert torch.equal(first[alike], second[alike])


@pytest.mark.parametrize("learners", [("ucb1", "beta_ts")])
def test_paired_learners_meet_the_same_rewards(learners):
    env, rng = bernoulli(p=(0.4, 0.6, 0.5)), keys((200,))
    first, second = (ALGORITHMS[name].make(arms=K) for name in learners)
    states, arms = [first.init(rng), second.init(rng)], env.init(rng)
    for t in range(10):
        key, pulls = keys((200,), 1 + t), []
        for i, bandit in enumerate((first, second)):
            action = bandit.select(states[i], keys((200,), 50 + t), None)
            reward = env.pull(arms, key, action)[1]
            states[i] = bandit.update(states[i], key, None, action, reward)
            pulls.append((action, reward))
        (a, r), (b, s) = pulls
        assert (a == b).any()
        assert torch.equal(r[a == b], s[a == b])


@pytest.mark.parametrize("env", [bernoulli(p=(0.5, 0.5)), gaussian(mean=(0, 0))])
def test_arms_of_one_key_have_their_own_noise(env):
    lanes, rng = 20_000, keys((20_000,), 3)
    state = env.init(rng)
    zero, one = (env.pull(state, rng, torch.full((lanes,), arm))[1] for arm in (0, 1))
    assert torch.corrcoef(torch.stack((zero, one)))[0, 1].abs() < 5 / lanes**0.5


@at_once
def test_an_action_outside_gets_nan_and_time_goes_on(name):
    env, rng = CASES[name], keys((4,), 1)
    state = env.init(rng)
    bad, reward = env.pull(state, rng, torch.tensor([-1, K, 10**9, 1]))
    good, _ = env.pull(state, rng, torch.tensor([0, 0, 0, 1]))
    assert torch.isnan(reward).tolist() == [True, True, True, False]
    assert same(bad, good)


@every
def test_wrong_keys_and_actions_are_refused(name):
    env, rng, action = CASES[name], keys((4,)), torch.tensor([0, 1, 2, 0])
    state = env.init(rng)
    for bad in (torch.zeros(4, 3, dtype=torch.int64), torch.tensor(1), rng.int(), rng.double()):
        with pytest.raises(ShapeError, match=r"rng "):
            env.init(bad)
    for bad in (action.int(), action.double(), action[:3], action.unsqueeze(1), action[0]):
        with pytest.raises(ShapeError, match=r"action "):
            env.pull(state, rng, bad)
    for bad in (rng[:3], rng[0], rng.unsqueeze(1), rng.int(), torch.zeros(4, 3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"rng "):
            env.pull(state, bad, action)


@pytest.mark.parametrize("make", [bernoulli, drifting, delayed])
def test_bad_probabilities_are_refused(make):
    for bad in (1.5, -0.1, math.nan, math.inf, True, "x"):
        with pytest.raises(ValueError, match=rf"p\[1\] .*{bad}"):
            make(p=(0.5, bad))
    for bad in (torch.tensor(0.5), torch.ones(1), torch.ones(4, 1), torch.ones(3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"p .*"):
            make(p=bad)
    with pytest.raises(ShapeError, match=r"p "):
        make(p=(0.5,))


def test_bad_means_are_refused():
    for bad in (math.nan, math.inf, True, "x"):
        with pytest.raises(ValueError, match=rf"mean\[1\] .*{bad}"):
            gaussian(mean=(0.5, bad))
    for bad in (torch.tensor(0.5), torch.ones(1), torch.ones(3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"mean "):
            gaussian(mean=bad)


@pytest.mark.parametrize(("make", "name"), [(bernoulli, "p"), (drifting, "p"), (delayed, "p"), (gaussian, "mean")])
def test_arms_must_fit_the_lanes(make, name):
    env = make(**{name: torch.tensor([[0.1, 0.9], [0.3, 0.4], [0.5, 0.6]])})
    assert torch.equal(env.means(env.init(keys((3,)))), env.means(env.init(keys((2, 3))))[1])
    for batch in ((), (4,), (3, 2)):
        with pytest.raises(ShapeError, match=f"{name} "):
            env.init(keys(batch))


@pytest.mark.parametrize("make", [bernoulli, drifting, delayed, abrupt, gaussian])
def test_either_arms_or_their_values(make):
    name = "mean" if make is gaussian else "p"
    for arguments in ({}, {"arms": 2, name: (0.1, 0.2)}):
        with pytest.raises(ValueError, match=f"either {name} or arms"):
            make(**arguments)


@pytest.mark.parametrize("make", [bernoulli, drifting, abrupt, adversarial, delayed, gaussian, contextual])
@pytest.mark.parametrize("arms", [0, 1, -2, 2.0, True, "3"])
def test_bad_arms_are_refused(make, arms):
    with pytest.raises(ValueError, match=rf"arms .*{arms}"):
        make(arms=arms)


@pytest.mark.parametrize(("make", "name"), [(drifting, "sigma"), (gaussian, "std"), (contextual, "scale")])
def test_a_spread_may_differ_between_lanes_and_must_not_be_negative(make, name):
    for bad in (-0.1, math.nan, math.inf, True, "x"):
        with pytest.raises(ValueError, match=rf"{name} .*{bad}"):
            make(arms=2, **{name: bad})
    rng, action = keys((2,)), torch.tensor([1, 1])
    swept = make(arms=2, **{name: torch.tensor([0.0, 0.5])})
    many = swept.pull(swept.init(rng), keys((2,), 1), action)
    for i, value in enumerate((0.0, 0.5)):
        fixed = make(arms=2, **{name: value})
        one = fixed.pull(fixed.init(rng), keys((2,), 1), action)
        assert same(*(tree_map(lambda x, i=i: x[i], tree) for tree in (one, many)))


def test_arms_that_are_drawn():
    uniform = bernoulli(arms=5).init(keys((4000,))).p.double()
    normal = gaussian(arms=5).init(keys((4000,))).mean.double()
    assert ((uniform >= 0) & (uniform < 1)).all()
    assert abs(uniform.mean() - 0.5) < 5 * math.sqrt(1 / 12 / 20_000)
    assert abs(uniform.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / 20_000)  # Var (u - 1/2)^2 = 1/180
    assert abs(normal.mean()) < 5 / math.sqrt(20_000)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / 20_000)


# --- drifting


@given(sigma=st.floats(0, 100), seed=st.integers(0, 2**63 - 1))
def test_drift_stays_in_the_unit_interval(sigma, seed):
    env = drifting(arms=3, sigma=sigma)
    state = env.init(keys((5,), seed))
    for t in range(5):
        before = state
        state, reward = env.pull(state, random.fold_in(keys((5,), seed), 100 + t), torch.full((5,), t % 3))
        assert ((state.p >= 0) & (state.p <= 1)).all()
        assert ((reward == 0) | (reward == 1)).all()
        assert sigma > 0 or same(state, before)


def test_the_reward_comes_before_the_drift():
    """Arms of 0 and 1 that drift far in one step: the first reward is still certain, the next is not."""
    env, lanes = drifting(p=(0.0, 1.0), sigma=5.0), 400
    state = env.init(keys((lanes,)))
    for arm in (0, 1):
        after, reward = env.pull(state, keys((lanes,), 1), torch.full((lanes,), arm))
        assert (reward == arm).all()
        assert 100 < (after.p[:, arm] == arm).sum() < 300  # by half of the steps, which were clipped
        again = env.pull(after, keys((lanes,), 2), torch.full((lanes,), arm))[1]
        assert 100 < again.sum() < 300


def test_drift_is_a_normal_walk():
    env, lanes = drifting(p=(0.5, 0.5), sigma=0.05), 20_000
    state = env.init(keys((lanes,)))
    for t in range(4):
        state, reward = env.pull(state, keys((lanes,), t), torch.zeros(lanes, dtype=torch.int64))
    moved = (state.p - 0.5).double() / (0.05 * 2)  # four steps: twice sigma
    assert moved.mean(0).abs().max() < 5 / math.sqrt(lanes)
    assert (moved.var(0) - 1).abs().max() < 5 * math.sqrt(2 / lanes)
    assert torch.corrcoef(moved.T)[0, 1].abs() < 5 / math.sqrt(lanes)
    assert torch.corrcoef(torch.stack((moved[:, 0], reward.double())))[0, 1] > 0  # it pulls what has drifted


# --- contextual


def test_contexts_are_logistic_in_their_weights():
    env = contextual(arms=4, features=6, scale=2.0)
    state = env.init(keys((5000,)))
    assert same(env.observe(state), state.x)
    wanted = np.einsum("nkd,nkd->nk", state.x.double().numpy(), state.theta.double().numpy())
    np.testing.assert_allclose(logistic.logits(state).numpy(), wanted, atol=2e-5)
    np.testing.assert_allclose(env.means(state).numpy(), 1 / (1 + np.exp(-wanted)), atol=5e-6)
    after, _ = env.pull(state, keys((5000,), 1), torch.zeros(5000, dtype=torch.int64))
    assert same(after.theta, state.theta)
    draws = {"theta": state.theta / 2, "first": state.x, "next": after.x}
    for draw in draws.values():
        n = draw.numel()
        assert draw.double().mean().abs() < 5 / math.sqrt(n)
        assert (draw.double().var() - 1).abs() < 5 * math.sqrt(2 / n)
    table = torch.corrcoef(torch.stack([draw.flatten() for draw in draws.values()])) - torch.eye(3)
    assert table.abs().max() < 5 / math.sqrt(5000 * 24)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_weights_may_be_given(batch):
    """The weights are those given, for all lanes or each; contexts and coins are those that weights drawn meet."""
    drawn, rng = contextual(arms=K, features=4), keys(batch)
    each = torch.stack((THETA, -THETA, 2 * THETA.flip(0)))
    for theta in (THETA, THETA.double(), each)[: 2 if batch == () else 3]:
        env = contextual(theta=theta)
        state, other = env.init(rng), drawn.init(rng)
        assert same(state.theta, theta.float().expand(*batch, K, 4))
        assert same(state.x, other.x)
        alike = other._replace(theta=state.theta)
        moved, reward = env.pull(state, keys(batch, 1), torch.ones(batch, dtype=torch.int64))
        assert same((moved, reward), drawn.pull(alike, keys(batch, 1), torch.ones(batch, dtype=torch.int64)))


def test_lanes_of_given_weights_are_pure_and_on_their_own(variants):
    env = contextual(theta=THETA)
    check_pure(env.init, keys((4,)))
    variants(env.init, keys((4,)), exact=True, traced=False)


def test_bad_weights_are_refused():
    for bad in (THETA[0], THETA[:1], THETA[:, :0], THETA.long()):
        with pytest.raises(ShapeError, match=r"theta "):
            contextual(theta=bad)
    for bad in (math.nan, math.inf, 1e39):
        with pytest.raises(ValueError, match=r"theta .*(nan|inf|1e\+39)"):
            contextual(theta=THETA.double().index_fill(0, torch.tensor(1), bad))
    for other in ({"arms": K}, {"features": 4}):
        with pytest.raises(ValueError, match="either theta"):
            contextual(theta=THETA, **other)
    for scale in (0.5, torch.ones(3)):
        with pytest.raises(ValueError, match=r"scale .*beside theta"):
            contextual(theta=THETA, scale=scale)
    with pytest.raises(ValueError, match="either theta"):
        contextual()
    env = contextual(theta=THETA.expand(3, K, 4))
    for batch in ((), (4,), (3, 2)):
        with pytest.raises(ShapeError, match="theta "):
            env.init(keys(batch))


# --- classification


@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_every_lane_meets_every_row_once_a_round(batch):
    env = CASES["classification"]
    state, seen = env.init(keys(batch)), []
    for t in range(2 * ROWS):
        obs, means = env.observe(state), env.means(state)
        rows = (obs[..., :1, :] == X).all(-1).long().argmax(-1)
        assert torch.equal(obs, X[rows].unsqueeze(-2).expand(*batch, K, 4))
        assert torch.equal(means, torch.nn.functional.one_hot(Y[rows], K).float())
        state, reward = env.pull(state, keys(batch, t), torch.full(batch, t % K))
        assert torch.equal(reward, (Y[rows] == t % K).float())
        seen.append(rows)
    first, second = torch.stack(seen[:ROWS], -1), torch.stack(seen[ROWS:], -1)
    assert torch.equal(first.sort(-1).values, torch.arange(ROWS).expand(*batch, ROWS))
    assert torch.equal(first, second)


def test_lanes_have_their_own_uniform_order():
    order = CASES["classification"].init(keys((7000,))).order
    assert len(order.unique(dim=0)) > 2000  # of 5040
    share = torch.nn.functional.one_hot(order[:, 0].long(), ROWS).double().mean(0)
    assert ((share - 1 / ROWS).abs() < 5 * math.sqrt(6 / 49 / 7000)).all()


def test_blocks_hold_the_features_in_the_arms_own_block():
    env, shared = CASES["classification, blocks"], CASES["classification"]
    state = env.init(keys((6,)))
    obs, features = env.observe(state), shared.observe(state)
    for arm in range(K):
        wanted = torch.zeros(6, K, 4)
        wanted[:, arm] = features[:, arm]
        assert torch.equal(obs[:, arm], wanted.flatten(1))


def test_bad_data_sets_are_refused():
    for x in (X[0], X.unsqueeze(0), X.long(), X[:0]):
        with pytest.raises(ShapeError, match=r"x "):
            classification(x=x, y=Y, arms=K)
    for y in (Y[:-1], Y.unsqueeze(1), Y.int(), Y.float(), Y[0]):
        with pytest.raises(ShapeError, match=r"y "):
            classification(x=X, y=y, arms=K)
    with pytest.raises(ValueError, match=r"context .*'block'"):
        classification(x=X, y=Y, arms=K, context="block")
    with pytest.raises(ValueError, match=r"arms .*1"):
        classification(x=X, y=Y, arms=1)


@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_every_row_of_contexts_comes_with_its_chances(batch):
    for name, shown in {"dataset": X.unsqueeze(1).expand(ROWS, K, 4), "dataset, own": OWN}.items():
        env, seen = CASES[name], []
        state = env.init(keys(batch))
        for t in range(2 * ROWS):
            means = env.means(state)
            rows = (means[..., :1] == P[:, 0]).long().argmax(-1)
            assert torch.equal(means, P[rows])
            assert torch.equal(env.observe(state), shown[rows])
            state, _ = env.pull(state, keys(batch, t), torch.full(batch, t % K))
            seen.append(rows)
        first, second = torch.stack(seen[:ROWS], -1), torch.stack(seen[ROWS:], -1)
        assert torch.equal(first.sort(-1).values, torch.arange(ROWS).expand(*batch, ROWS))
        assert torch.equal(first, second)


def test_blocks_of_contexts_are_those_of_classification():
    left, right = CASES["dataset, blocks"], CASES["classification, blocks"]
    assert torch.equal(*(env.observe(env.init(keys((6,)))) for env in (left, right)))


def test_certain_chances_are_certain_rewards():
    """The same rows, arms and rewards as those of the classes, from chances of 0 and 1."""
    left, right = dataset(x=X, p=torch.nn.functional.one_hot(Y).double()), CASES["classification"]
    one, other = left.init(keys((6,))), right.init(keys((6,)))
    for t in range(ROWS):
        action = torch.arange(6) % K
        assert same(left.means(one), right.means(other))
        (one, first), (other, second) = left.pull(one, keys((6,), t), action), right.pull(other, keys((6,), t), action)
        assert torch.equal(first, second)


def test_bad_contexts_and_chances_are_refused():
    for x in (X[0], X[:-1], X.unsqueeze(0), X.long(), OWN[:, :2], OWN.unsqueeze(0)):
        with pytest.raises(ShapeError, match=r"x "):
            dataset(x=x, p=P)
    for p in (P[0], P[:, :1], P[:0], P.long(), P.unsqueeze(0)):
        with pytest.raises(ShapeError, match=r"p "):
            dataset(x=X, p=p)
    for bad in (-0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"p .*{bad}"):
            dataset(x=X, p=P.index_fill(0, torch.tensor(2), bad))
    for x, context in ((X, "block"), (OWN, "blocks")):
        with pytest.raises(ValueError, match=rf"context .*'{context}'"):
            dataset(x=x, p=P, context=context)


def test_a_row_of_a_large_data_set_is_read_where_its_lane_is():
    x = torch.arange(70_000.0).unsqueeze(1)  # beyond int16
    env = classification(x=x, y=torch.arange(70_000) % 2, arms=2)
    state = env.init(keys((3,)))
    assert state.order.sort(-1).values.equal(torch.arange(70_000, dtype=torch.int32).expand(3, -1))
    there = Labels(state.order, torch.tensor([0, 69_999, 35_000]))
    rows = torch.stack([state.order[i, p] for i, p in enumerate(there.position)]).long()
    assert torch.equal(env.observe(there)[:, 0, 0], rows.float())
    assert torch.equal(env.means(there).argmax(-1), rows % 2)
    assert env.pull(there, keys((3,)), rows % 2)[0].position.tolist() == [1, 0, 35_001]
