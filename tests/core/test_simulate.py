"""One step of a learner in an environment: what the trace says, which keys serve, and that lanes are on their own."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from armfold.core import random, simulate
from armfold.core.bandits import beta_ts, epsilon_greedy, kl_ucb, lin_ts, lin_ucb, ucb1
from armfold.core.check import ShapeError
from armfold.core.envs import bernoulli, classification, contextual, drifting, gaussian
from armfold.core.types import Bandit, BanditEnv
from tests.purity import check_pure, same_bits

MEANS = torch.tensor([[1.0, 3.0, 3.0], [8.0, 2.0, 5.0]])  # even steps, odd steps


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def same(left, right):
    """Bitwise, whatever the layout in memory."""
    left, right = tree_map(torch.Tensor.contiguous, (left, right))
    return all(same_bits(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True))


def fold(bandit, env, carry, steps):
    """The last carry, and every field of the trace with time in front: [steps, *B]."""
    traces = []
    for _ in range(steps):
        carry, trace = simulate.step(bandit, env, carry)
        traces.append(trace)
    return carry, tree_map(lambda *x: torch.stack(x), *traces)


class Clock(NamedTuple):
    """An environment whose expected rewards go by the clock, and whose rewards are something else."""

    time: Tensor  # [*B] int64


def clock():
    return BanditEnv(
        lambda rng: Clock(torch.zeros(rng.shape[:-1], dtype=torch.int64)),
        lambda state: state.time[..., None, None].expand(*state.time.shape, 3, 1).float(),
        lambda state: MEANS[state.time % 2],
        lambda state, rng, action: (Clock(state.time + 1), torch.where(action >= 0, 100.0 * action, torch.nan)),
    )


class Seen(NamedTuple):
    """What a learner with a plan was last told."""

    plays: Tensor  # [*B] int64
    obs: Tensor  # [*B] float
    action: Tensor  # [*B] int64
    reward: Tensor  # [*B] float


def planned(*actions):
    """A learner that plays `actions` in turn."""
    plan = torch.tensor(actions)

    def init(rng):
        zero = torch.zeros(rng.shape[:-1])
        return Seen(zero.long(), zero, zero.long(), zero)

    return Bandit(
        init,
        lambda state, rng, obs: plan[state.plays % len(plan)],
        lambda state, rng, obs, action, reward: Seen(state.plays + 1, obs[..., 0, 0], action, reward),
        lambda state, rng, obs: torch.nn.functional.one_hot(plan[state.plays % len(plan)], 3).float(),
    )


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_the_trace_tells_what_happened(batch):
    bandit, env = planned(2, 2, 0, 1), clock()
    carry, trace = fold(bandit, env, simulate.init(bandit, env, keys(batch)), 4)
    wanted = simulate.Trace(
        action=torch.tensor([2, 2, 0, 1]),
        reward=torch.tensor([200.0, 200.0, 0.0, 100.0]),
        expected=torch.tensor([3.0, 5.0, 1.0, 2.0]),
        regret=torch.tensor([0.0, 3.0, 2.0, 6.0]),  # by expected rewards, whatever was paid
        optimal=torch.tensor([True, False, False, False]),
    )
    for name, field, row in zip(wanted._fields, trace, wanted, strict=True):
        assert same(field, row.reshape(4, *(1,) * len(batch)).expand(4, *batch)), name
    for told, value in zip(carry.bandit, (4, 3.0, 1, 100.0), strict=True):  # the obs of the step, not of the next
        assert (told == value).all()
    assert (carry.time == 4).all()
    assert (carry.env.time == 4).all()
    assert not carry.faults.any()
    assert carry.faults.shape == carry.time.shape == batch


def test_a_player_of_best_arms_has_no_regret():
    bandit, env = planned(1, 0, 2, 0), clock()
    _, trace = fold(bandit, env, simulate.init(bandit, env, keys((3,))), 8)
    assert not trace.regret.any()
    assert trace.optimal.all()


@pytest.mark.parametrize("env", [drifting(arms=3, sigma=0.3), contextual(arms=3, features=2)])
def test_expected_rewards_are_those_before_the_pull(env):
    bandit = epsilon_greedy(arms=3, epsilon=0.5)
    carry = simulate.init(bandit, env, keys((50,)))
    for _ in range(5):
        means = env.means(carry.env)
        carry, trace = simulate.step(bandit, env, carry)
        assert same(trace.expected, means.gather(-1, trace.action.unsqueeze(-1)).squeeze(-1))
        assert same(trace.regret, means.amax(-1) - trace.expected)
        assert same(trace.optimal, trace.regret == 0)
        assert not torch.equal(env.means(carry.env), means)


def test_faults_are_counted_and_teach_nothing():
    env = gaussian(mean=(0.0, 1.0, 2.0))._replace(means=lambda state: state.mean.clone())
    bandit = ucb1(arms=3)
    odd = bandit._replace(select=lambda state, rng, obs: torch.tensor([0, -1, 3, 2]))
    carry = simulate.init(odd, env, keys((4,)))
    carry, trace = fold(odd, env, carry, 5)
    assert carry.faults.tolist() == [0, 5, 5, 0]
    assert carry.bandit.pulls.sum(-1).tolist() == [5, 0, 0, 5]
    assert torch.isnan(trace.reward).any(0).tolist() == [False, True, True, False]
    assert torch.isnan(trace.regret).all(0).tolist() == [False, True, True, False]
    assert trace.optimal.all(0).tolist() == [False, False, False, True]

    burst = env._replace(pull=lambda state, rng, action: (state, torch.full(action.shape, torch.inf)))
    carry, _ = fold(bandit, burst, simulate.init(bandit, burst, keys((4,))), 3)
    assert carry.faults.tolist() == [3] * 4
    assert not carry.bandit.pulls.any()


# --- lanes

X = random.normal(random.key(1), (11, 3))
PAIRS = {
    "ucb1, bernoulli": (ucb1(arms=3), bernoulli(arms=3)),
    "kl_ucb, drifting": (kl_ucb(arms=3), drifting(arms=3)),
    "beta_ts, bernoulli": (beta_ts(arms=3), bernoulli(p=(0.2, 0.5, 0.7))),
    "epsilon_greedy, gaussian": (epsilon_greedy(arms=3, epsilon=0.5), gaussian(arms=3)),
    "lin_ucb, contextual": (lin_ucb(arms=3, features=9), contextual(arms=3, features=9)),
    "lin_ts, classification": (lin_ts(arms=3, features=3), classification(x=X, y=torch.arange(11) % 3, arms=3)),
}
every = pytest.mark.parametrize("pair", PAIRS)


@every
def test_a_lane_alone_takes_bitwise_the_path_of_its_lane_in_a_batch(pair):
    bandit, env = PAIRS[pair]
    rng = keys((37,))
    many = fold(bandit, env, simulate.init(bandit, env, rng), 12)
    for i in (0, 19, 36):
        alone = fold(bandit, env, simulate.init(bandit, env, rng[i]), 12)
        shard = fold(bandit, env, simulate.init(bandit, env, rng[i : i + 1]), 12)
        assert same(alone[0], tree_map(lambda x, i=i: x[i], many[0]))
        assert_met_alike(alone[1], tree_map(lambda x, i=i: x[:, i], many[1]))
        assert_met_alike(shard[1], tree_map(lambda x, i=i: x[:, i : i + 1], many[1]))


def assert_met_alike(trace, other):
    """The same choices and rewards; expected rewards up to rounding, because torch's vector code and the scalar code
    that takes what is left of a vector differ in the last bit of a sigmoid. The shell's blocks have nothing left."""
    assert same([trace.action, trace.reward, trace.optimal], [other.action, other.reward, other.optimal])
    torch.testing.assert_close((trace.expected, trace.regret), (other.expected, other.regret), rtol=0, atol=2e-7)


@every
def test_step_vmapped_agrees_and_is_pure(pair, variants):
    bandit, env = PAIRS[pair]
    carry, _ = fold(bandit, env, simulate.init(bandit, env, keys((5,))), 6)
    variants(partial(simulate.step, bandit, env), carry, traced=False)
    check_pure(partial(simulate.step, bandit, env), carry)


@pytest.mark.slow
@every
def test_step_compiled_agrees(pair, variants):
    bandit, env = PAIRS[pair]
    carry, _ = fold(bandit, env, simulate.init(bandit, env, keys((64,))), 6)
    variants(partial(simulate.step, bandit, env), carry, atol=1e-5, compiled=True)


# --- keys


def actions(bandit, env, rng, agent_rng=None, steps=10):
    return fold(bandit, env, simulate.init(bandit, env, rng, agent_rng=agent_rng), steps)[1].action


def test_the_agents_seed_breaks_ties_and_nothing_else_does():
    """Arms that never pay: every choice of UCB1 is among ties, or among the least played."""
    env, bandit = bernoulli(p=(0.0, 0.0, 0.0)), ucb1(arms=3)
    here, there, agent, other = (keys((100,), seed) for seed in range(4))
    first = actions(bandit, env, here, agent)
    assert torch.equal(first, actions(bandit, env, here, agent))
    assert torch.equal(first, actions(bandit, env, there, agent))
    alike = (first == actions(bandit, env, here, other))[0].double().mean()
    assert abs(alike - 1 / 3) < 5 * math.sqrt(2 / 9 / 100)
    assert torch.equal(actions(bandit, env, here), actions(bandit, env, here, here))


def test_learners_with_one_environment_key_meet_one_environment():
    env, rng = contextual(arms=3, features=2), keys((50,))
    runs = [
        (ucb1(arms=3), rng),
        (ucb1(arms=3), keys((50,), 7)),
        (lin_ucb(arms=3, features=2), None),
    ]
    carries = [simulate.init(bandit, env, rng, agent_rng=agent) for bandit, agent in runs]
    for _ in range(5):
        assert same(carries[0].env, carries[1].env)
        assert same(carries[0].env, carries[2].env)
        carries, traces = zip(
            *(simulate.step(b, env, carry) for (b, _), carry in zip(runs, carries, strict=True)), strict=True
        )
        for trace in traces[1:]:
            alike = trace.action == traces[0].action
            assert alike.any()
            assert torch.equal(trace.reward[alike], traces[0].reward[alike])
    assert not torch.equal(carries[0].bandit_rng, carries[1].bandit_rng)


def test_no_key_serves_twice():
    """Every key that a learner or an environment is given, in every lane, is another one."""
    used = []

    def note(function, at):
        def noting(*arguments):
            used.append(arguments[at])
            return function(*arguments)

        return noting

    bandit, env = ucb1(arms=3), bernoulli(arms=3)
    bandit = bandit._replace(init=note(bandit.init, 0), select=note(bandit.select, 1), update=note(bandit.update, 1))
    env = env._replace(init=note(env.init, 0), pull=note(env.pull, 1))
    for rng, agent_rng in ((keys((20,)), None), (keys((20,), 1), keys((20,), 2))):
        carry, _ = fold(bandit, env, simulate.init(bandit, env, rng, agent_rng=agent_rng), 10)
        used += [rng, carry.bandit_rng, carry.env_rng]
    every_key = torch.cat(used)
    assert len(every_key) == 2 * 20 * (2 + 3 * 10 + 3)
    assert len(every_key.unique(dim=0)) == len(every_key)


def test_wrong_keys_are_refused():
    bandit, env, rng = ucb1(arms=3), bernoulli(arms=3), keys((4,))
    for bad in (rng.int(), rng.double(), torch.tensor(1), torch.zeros(4, 3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"rng "):
            simulate.init(bandit, env, bad)
        with pytest.raises(ShapeError, match=r"rng "):
            simulate.init(bandit, env, rng, agent_rng=bad)
    for bad in (rng[:3], rng[0], rng.unsqueeze(0)):
        with pytest.raises(ShapeError, match=r"rng "):
            simulate.init(bandit, env, rng, agent_rng=bad)


# --- rescale


def test_rescaled_rewards_are_what_the_learner_sees():
    bandit = simulate.rescale_rewards(ucb1(arms=3), -1.0, 3.0)
    state, rng = bandit.init(keys((4,))), keys((4,))
    reward = torch.tensor([-1.0, 3.0, 0.0, torch.nan])
    learned = bandit.update(state, rng, None, torch.tensor([0, 1, 2, 0]), reward, propensity=torch.ones(4))
    assert learned.reward_sum.sum(-1).tolist() == [0.0, 1.0, 0.25, 0.0]
    assert learned.pulls.sum(-1).tolist() == [1, 1, 1, 0]


def test_rescaling_a_learner_undoes_the_scale_of_its_rewards():
    plain, wide = bernoulli(p=(0.2, 0.5, 0.6)), bernoulli(p=(0.2, 0.5, 0.6))

    def pull(state, rng, action):
        state, reward = plain.pull(state, rng, action)
        return state, 8 * reward - 2

    wide = wide._replace(pull=pull)
    inner = kl_ucb(arms=3)
    outer = simulate.rescale_rewards(inner, -2.0, 6.0)
    assert torch.equal(actions(inner, plain, keys((50,)), steps=20), actions(outer, wide, keys((50,)), steps=20))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.nan), (0.0, math.inf)])
def test_a_bad_range_of_rewards_is_refused(low, high):
    with pytest.raises(ValueError, match=rf"reward_range .*\({low}, {high}\)"):
        simulate.rescale_rewards(ucb1(arms=2), low, high)
