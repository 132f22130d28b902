"""Learning from late rewards: against a queue of steps kept by hand, and against arms whose rewards are certain."""

from collections import deque
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from armfold.core import random
from armfold.core.bandits import ALGORITHMS, epsilon_greedy, lin_ucb, ucb1, with_delay
from armfold.core.check import ShapeError
from armfold.core.envs import bernoulli, delayed
from armfold.core.types import Bandit
from armfold.shell import simulate
from tests.purity import check_pure, same_bits

K, D = 3, 2


class Heard(NamedTuple):
    """What the last update was told, and how many were told."""

    told: Tensor  # [*B] int64, updates with an action that is an arm
    chance: Tensor  # [*B] float, propensity
    usable: Tensor  # [*B, K] float, mask


def _init(rng):
    batch = rng.shape[:-1]
    return Heard(torch.zeros(batch, dtype=torch.int64), torch.zeros(batch), torch.zeros(*batch, K))


def _law(state, rng, obs=None, *, available=None, samples=None):
    """Different at every step, so that a propensity read at another one shows."""
    weights = torch.arange(1, K + 1) + state.told.unsqueeze(-1)
    weights = torch.where(torch.ones_like(weights, dtype=torch.bool) if available is None else available, weights, 0)
    return weights / weights.sum(-1, keepdim=True)


def _select(state, rng, obs=None, *, available=None):
    return _law(state, rng, obs, available=available).argmax(-1)


def _update(state, rng, obs, action, reward, *, propensity=None, available=None):
    there = action >= 0
    chance = torch.full_like(state.chance, -1.0) if propensity is None else propensity
    usable = torch.full_like(state.usable, -1.0) if available is None else available.to(state.usable.dtype)
    return Heard(
        state.told + there,
        torch.where(there, chance, state.chance),
        torch.where(there.unsqueeze(-1), usable, state.usable),
    )


LISTENER = Bandit(_init, _select, _update, _law)


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def same(left, right):
    return all(same_bits(x, y) for x, y in zip(tree_leaves(left), tree_leaves(right), strict=True))


def contexts(batch, t):
    return random.normal(keys(batch, 500 + t), (K, D))


@pytest.mark.parametrize("delay", [1, 4])
@pytest.mark.parametrize("batch", [(5,), *(pytest.param(batch, marks=pytest.mark.slow) for batch in ((), (2, 3)))])
@pytest.mark.parametrize("name", ["ucb1", "epsilon_greedy", "lin_ucb"])
def test_each_reward_is_learned_with_its_own_step(name, batch, delay):
    features = {"features": D} if ALGORITHMS[name].contextual else {}
    inner = ALGORITHMS[name].make(arms=K, **features)
    late, waiting = with_delay(inner, delay=delay, arms=K, **features), deque()
    state, alone = late.init(keys(batch)), inner.init(keys(batch))
    for t in range(3 * delay + 2):
        rng, obs, reward = keys(batch, 100 + t), contexts(batch, t), random.uniform(keys(batch, 900 + t))
        action = late.select(state, rng, obs)
        assert torch.equal(action, inner.select(alone, rng, obs))
        assert same(late.policy(state, rng, obs, samples=8), inner.policy(alone, rng, obs, samples=8))
        state = late.update(state, rng, obs, action, reward)
        waiting.append((obs, action))
        if len(waiting) > delay:
            alone = inner.update(alone, rng, *waiting.popleft(), reward)
        assert same(state.learner, alone), t
    assert not same(alone, inner.init(keys(batch)))


@pytest.mark.parametrize("given", [False, True])
def test_the_propensity_and_the_mask_are_those_of_the_step(given):
    delay, batch, waiting = 3, (4,), deque()
    late = with_delay(LISTENER, delay=delay, arms=K, masks=True, propensities=True)
    state = late.init(keys(batch))
    for t in range(10):
        available = random.bernoulli(keys(batch, 50 + t), 0.7, (K,)) if t % 2 else None
        available = available if available is None else available.index_fill(-1, torch.tensor(0), True)
        law = late.policy(state, keys(batch), available=available)
        action = late.select(state, keys(batch), available=available)
        chance = random.uniform(keys(batch, 70 + t)) if given else law.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        told = {"propensity": chance} if given else {}
        state = late.update(state, keys(batch), None, action, torch.ones(batch), available=available, **told)
        waiting.append((chance, torch.ones(*batch, K) if available is None else available.float()))
        if len(waiting) > delay:
            wanted, usable = waiting.popleft()
            torch.testing.assert_close(state.learner.chance, wanted, rtol=0, atol=1e-7)
            assert torch.equal(state.learner.usable, usable)
        assert (state.learner.told == max(0, t + 1 - delay)).all()


def test_what_is_not_kept_is_not_told_and_not_taken():
    late, rng, action = with_delay(LISTENER, delay=1), keys((2,)), torch.tensor([0, 1])
    state = late.init(rng)
    for _ in range(2):
        state = late.update(state, rng, torch.ones(2, K, D), action, torch.ones(2))
    assert (state.learner.chance == -1).all()
    assert (state.learner.usable == -1).all()
    with pytest.raises(ValueError, match="propensities=True"):
        late.update(state, rng, None, action, torch.ones(2), propensity=torch.ones(2))
    with pytest.raises(ValueError, match="masks=True"):
        late.update(state, rng, None, action, torch.ones(2), available=torch.ones(2, K, dtype=torch.bool))


def test_nothing_is_learned_before_the_first_reward_and_from_no_play():
    late = with_delay(ucb1(arms=K), delay=3)
    state = late.init(keys((2,)))
    for t in range(3):
        state = late.update(state, keys((2,)), None, torch.tensor([-1, t]), torch.zeros(2))
        assert same(state.learner, ucb1(arms=K).init(keys((2,))))
    state = late.update(state, keys((2,)), None, torch.tensor([1, 1]), torch.ones(2))
    assert state.learner.pulls.tolist() == [[0, 0, 0], [1, 0, 0]]  # a play that was none is not learned from


@pytest.mark.parametrize("delay", [0, 1, 7])
def test_arms_whose_rewards_are_certain_are_never_taken_for_one_another(delay):
    p, steps, rng = (0.0, 1.0, 0.0), 40, keys((20,))
    bandit, env = with_delay(epsilon_greedy(arms=K, epsilon=0.5), delay=delay), delayed(p=p, delay=delay)
    state, arms = bandit.init(rng), env.init(rng)
    for t in range(steps):
        action = bandit.select(state, keys((20,), 2 * t), None)
        arms, reward = env.pull(arms, keys((20,), 2 * t + 1), action)
        state = bandit.update(state, rng, None, action, reward)
    learned = state.learner if delay else state
    assert (learned.pulls.sum(-1) == steps - delay).all()
    assert torch.equal(learned.reward_sum, learned.pulls * torch.tensor(p).double())


def test_no_delay_is_the_learner_itself():
    bandit = ucb1(arms=K)
    assert with_delay(bandit, delay=0) is bandit
    options = {"steps": 30, "runs": 64, "compile": "off", "progress": False}
    plain, late = (simulate(bandit, env, **options) for env in (bernoulli(arms=K), delayed(arms=K, delay=0)))
    assert same_bits(plain.regret, late.regret)
    assert same_bits(plain.reward, late.reward)


@pytest.mark.parametrize(("name", "free"), [
    *((name, True) for name in ("ucb1", "kl_ucb", "epsilon_greedy", "lin_ucb", "exp3", "exp3_ix", "tsallis_inf")),
    *((name, False) for name in ("d_ucb", "sw_ucb", "exp3_p", "logistic_ucb")),
])  # fmt: skip
def test_rewards_may_come_in_any_order_for_those_whose_past_is_a_sum(name, free):
    """What docs/bandits.md says: 200 lanes of 30 steps, learned from in their order and from last to first."""
    options = {"features": D} if ALGORITHMS[name].contextual else {"window": 10} if name == "sw_ucb" else {}
    bandit, laws, lanes = ALGORITHMS[name].make(arms=K, **options), [], (200,)
    steps = [
        (contexts(lanes, t), random.randint(keys(lanes, t), high=K), random.bernoulli(keys(lanes, 40 + t), t / 30))
        for t in range(30)
    ]
    for order in (steps, steps[::-1]):
        state = bandit.init(keys(lanes))
        for obs, action, reward in order:
            state = bandit.update(state, keys(lanes), obs, action, reward.float(), propensity=0.2 + action / 4)
        laws.append(bandit.policy(state, keys(lanes), contexts(lanes, 99)))
    assert torch.allclose(*laws, rtol=0, atol=1e-4) is free


FULL = {"arms": K, "features": D, "masks": True, "propensities": True}


@pytest.mark.parametrize("options", [{}, pytest.param(FULL, marks=pytest.mark.slow)], ids=["bare", "full"])
def test_functions_are_pure_and_agree_in_every_way_to_run_them(options, variants):
    inner = epsilon_greedy(arms=K) if options else ucb1(arms=K)
    late, rng, obs = with_delay(inner, delay=2, **options), keys((4,)), contexts((4,), 0)
    state = check_pure(late.init, rng)
    mask = torch.tensor([[True, True, False]] * 4) if options else None
    update = partial(_update_with, late.update)
    for t in range(3):
        action = check_pure(late.select, state, keys((4,), t), obs)
        state = check_pure(update, state, rng, obs, action, torch.ones(4), mask)
    variants(late.init, rng, exact=True, traced=False)
    variants(update, state, rng, obs, torch.tensor([0, 1, -1, 2]), torch.ones(4), mask)


def _update_with(update, state, rng, obs, action, reward, mask):
    return update(state, rng, obs, action, reward, available=mask)


def test_contexts_and_propensities_keep_their_precision():
    inner = lin_ucb(arms=K, features=D, dtype=torch.float64)
    late = with_delay(inner, delay=2, arms=K, features=D, propensities=True, dtype=torch.float64)
    steps = late.init(keys(())).steps
    assert steps["obs"].dtype == steps["propensity"].dtype == torch.float64


def test_bad_delays_are_refused():
    bandit = ucb1(arms=K)
    for bad in (-1, 2.0, True, "x"):
        with pytest.raises(ValueError, match=rf"delay .*{bad}"):
            with_delay(bandit, delay=bad)
    with pytest.raises(ValueError, match=r"arms .*1"):
        with_delay(bandit, delay=1, arms=1)
    with pytest.raises(ValueError, match=r"features .*0"):
        with_delay(bandit, delay=1, arms=2, features=0)
    for lost in ({"features": 2}, {"masks": True}):
        with pytest.raises(ValueError, match=r"arms must be given"):
            with_delay(bandit, delay=1, **lost)


def test_wrong_shapes_are_refused():
    late, rng = with_delay(LISTENER, delay=2, **FULL), keys((4,))
    state, good = late.init(rng), (contexts((4,), 0), torch.zeros(4, dtype=torch.int64), torch.ones(4))
    for name, bad in {"obs": None, "action": torch.zeros(4), "reward": torch.ones(3)}.items():
        step = [bad if name == which else value for which, value in zip(("obs", "action", "reward"), good, strict=True)]
        with pytest.raises(ShapeError, match=f"{name} "):
            late.update(state, rng, *step)
    with pytest.raises(ShapeError, match="obs "):
        late.update(state, rng, good[0][..., :1], *good[1:])
    with pytest.raises(ShapeError, match="propensity "):
        late.update(state, rng, *good, propensity=torch.ones(3))
    for bad in (torch.ones(4, K), torch.ones(4, 2, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="available "):
            late.update(state, rng, *good, available=bad)
    with pytest.raises(ShapeError, match="rng "):
        late.init(rng.int())
