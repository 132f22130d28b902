"""Environments that change or pay late: when they change, to what, and what that leaves alone. Statistical bounds are
5 standard errors: under 6e-7 false alarms for each number compared."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from armfold.core import random
from armfold.core.bandits import kl_ucb
from armfold.core.check import ShapeError
from armfold.core.envs import abrupt, adversarial, bernoulli, delayed, drifting
from armfold.shell import simulate
from tests.purity import same_bits


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def roll(env, steps, batch=(), action=None):
    """States before each step and the rewards of it, with arm 0 where nothing else is said."""
    state, action = env.init(keys(batch)), torch.zeros(batch, dtype=torch.int64) if action is None else action
    for t in range(steps):
        moved, reward = env.pull(state, keys(batch, 1 + t), action)
        yield state, reward
        state = moved


def uniform_on_the_unit_interval(x):
    x = x.double().flatten()
    off = abs(x.mean() - 0.5) / math.sqrt(1 / 12 / len(x)), abs(x.var() - 1 / 12) / math.sqrt(1 / 180 / len(x))
    return max(off) < 5


def apart(x, y):
    return torch.corrcoef(torch.stack((x.flatten(), y.flatten())))[0, 1].abs() < 5 / math.sqrt(x.numel())


# --- abrupt


def test_phases_follow_one_another_and_the_reward_comes_first():
    """Arms of 0 and 1 exactly: rewards say which phase paid them."""
    table = ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
    states, rewards = zip(*roll(abrupt(p=table, period=2), 14, (3,)), strict=True)
    assert torch.stack(rewards, -1).tolist() == [[0, 0, 1, 1, 1, 1] * 2 + [0, 0]] * 3
    assert [state.phase[0].item() for state in states] == [t // 2 for t in range(14)]
    assert [state.age[0].item() for state in states] == [t % 2 for t in range(14)]
    for t, state in enumerate(states):
        assert state.p[0].tolist() == list(table[t // 2 % 3])


def test_drawn_arms_stay_for_a_period_and_are_then_drawn_afresh():
    ps = torch.stack([state.p for state, _ in roll(abrupt(arms=4, period=3), 9, (3000,))])
    for phase in range(3):
        assert torch.equal(ps[3 * phase], ps[3 * phase + 1])
        assert torch.equal(ps[3 * phase], ps[3 * phase + 2])
        assert uniform_on_the_unit_interval(ps[3 * phase])
        assert phase == 0 or (apart(ps[3 * phase], ps[3 * phase - 1]) and (ps[3 * phase] != ps[3 * phase - 1]).all())
    for arm in range(1, 4):
        assert apart(ps[3, :, 0], ps[3, :, arm])


def test_a_hazard_ends_phases_like_a_coin():
    """Changes in 10 steps are binomial, and a reward tells nothing of whether a change follows it."""
    lanes, hazard = 20_000, 0.3
    states, rewards = zip(*roll(abrupt(arms=2, hazard=hazard), 11, (lanes,)), strict=True)
    changes = states[-1].phase.double()
    spread = 10 * hazard * (1 - hazard)
    assert abs(changes.mean() - 10 * hazard) < 5 * math.sqrt(spread / lanes)
    assert abs(changes.var() - spread) < 5 * spread * math.sqrt(2 / lanes)  # kurtosis below a normal's
    assert apart(rewards[0], (states[1].phase > 0).float())
    for before, after in itertools.pairwise(states):
        moved = after.phase > before.phase
        assert torch.equal((after.p != before.p).any(-1), moved)
        assert torch.equal(after.age, torch.where(moved, 0, before.age + 1))


def test_a_hazard_may_differ_between_lanes():
    *_, (state, _) = roll(abrupt(arms=2, hazard=torch.tensor([0.0, 1.0])), 8, (2,))
    assert state.phase.tolist() == [0, 7]
    for value, phase in ((0.0, 0), (1.0, 7)):
        *_, (alone, _) = roll(abrupt(arms=2, hazard=value), 8, (2,))
        assert alone.phase.tolist() == [phase, phase]


def test_a_table_of_phases_may_be_a_tensor_and_reaches_every_lane():
    table = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)
    for batch in ((), (2,), (2, 3)):
        *_, (state, _) = roll(abrupt(p=table, period=1), 2, batch)
        assert torch.equal(state.p, table[1].float().expand(*batch, 2))


def test_bad_changes_are_refused():
    for bad in (0, -1, 2.0, True, "x"):
        with pytest.raises(ValueError, match=rf"period .*{bad}"):
            abrupt(arms=2, period=bad)
    for bad in (-0.1, 1.1, math.nan, True, "x"):
        with pytest.raises(ValueError, match=rf"hazard .*{bad}"):
            abrupt(arms=2, hazard=bad)
    for bad in ([[0.5, 1.5]], [[0.5, -1.0]], [[0.5, math.nan]]):
        with pytest.raises(ValueError, match=rf"p .*{bad[0][1]}"):
            abrupt(p=bad)
    for bad in ((0.1, 0.2), [[0.1]], [[0.1, 0.2], [0.3]], [["x", 0.1]], torch.ones(2), torch.ones(2, 2).long(), []):
        with pytest.raises(ShapeError, match="p "):
            abrupt(p=bad)


# --- adversarial


@pytest.mark.parametrize("growth", [1.6, 2.0, 1.05, 7.3])
def test_phases_grow_by_their_factor(growth):
    """Against floor(growth^i) in exact arithmetic, of the number that the float is."""
    env, wanted, i = adversarial(arms=3, growth=growth), [], 0
    while len(wanted) < 200:
        wanted += [i] * math.floor(Fraction(growth) ** i)
        i += 1
    phases = [state.phase.item() for state, _ in roll(env, 200)]
    assert phases == wanted[:200]


def test_the_best_arm_is_best_by_the_gap_in_every_phase():
    lanes, gap = 9000, 0.2
    env, best = adversarial(arms=3, gap=gap), None
    for t, (state, _) in enumerate(roll(env, 5, (lanes,))):
        means = env.means(state).double()
        high = t not in (1, 4)  # phases of 1, 1, 2, ... steps
        ordered = means.sort(-1).values
        wanted = torch.tensor([1 - gap, 1 - gap, 1.0] if high else [0.0, 0.0, gap]).double()
        torch.testing.assert_close(ordered, wanted.expand(lanes, 3), rtol=0, atol=1e-7)
        assert best is None or torch.equal(means.argmax(-1), best)
        best = means.argmax(-1)
    share = torch.bincount(best, minlength=3) / lanes
    assert ((share - 1 / 3).abs() < 5 * math.sqrt(2 / 9 / lanes)).all()


def test_gap_and_growth_may_differ_between_lanes():
    gaps, growths = (0.5, 0.125), (2.0, 1.6)
    swept = adversarial(arms=2, gap=torch.tensor(gaps), growth=torch.tensor(growths, dtype=torch.float64))
    many = [(state, swept.means(state)) for state, _ in roll(swept, 12, (2,))]
    for i in range(2):
        env = adversarial(arms=2, gap=gaps[i], growth=growths[i])
        for (state, _), seen in zip(roll(env, 12, (2,)), many, strict=True):
            alone = *state, env.means(state)
            assert all(same_bits(x[i], y[i]) for x, y in zip(alone, (*seen[0], seen[1]), strict=True))


def test_a_phase_may_outlast_every_counter():
    env = adversarial(arms=2, growth=1e300)
    state = env.init(keys(()))._replace(length=torch.tensor(1e10, dtype=torch.float64))
    for _ in range(2):
        state, _ = env.pull(state._replace(left=torch.tensor(1)), keys(()), torch.tensor(0))
        assert state.left == 2**53


def test_bad_adversaries_are_refused():
    for bad in (0.0, -0.1, 1.1, math.nan, True, "x"):
        with pytest.raises(ValueError, match=rf"gap .*{bad}"):
            adversarial(arms=2, gap=bad)
    for bad in (1.0, 0.5, math.nan, math.inf, True, "x"):
        with pytest.raises(ValueError, match=rf"growth .*{bad}"):
            adversarial(arms=2, growth=bad)


@pytest.mark.slow
def test_optimism_suffers_from_the_adversary():
    """As the paper shows, and the same gap costs KL-UCB little without one. Means of 64 lanes: 91 with standard error
    10, and 2.9 with 0.2, so that a false alarm is 6 standard errors away."""
    options = {"steps": 1500, "runs": 64, "compile": "off", "progress": False}
    calm = simulate(kl_ucb(arms=4), bernoulli(p=(1.0, 0.875, 0.875, 0.875)), **options).regret.mean()
    harsh = simulate(kl_ucb(arms=4), adversarial(arms=4), **options).regret.mean()
    assert harsh > 10 * calm


# --- delayed


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("batch", [(), (40,)])
def test_rewards_are_those_of_plain_arms_only_later(delay, batch):
    late, plain = delayed(arms=3, delay=delay), bernoulli(arms=3)
    state, arms = late.init(keys(batch)), plain.init(keys(batch))
    earned = [torch.zeros(batch)] * delay
    for t in range(12):
        assert same_bits(late.means(state), plain.means(arms))
        action = random.randint(keys(batch, 100 + t), high=3)
        state, paid = late.pull(state, keys(batch, 1 + t), action)
        arms, reward = plain.pull(arms, keys(batch, 1 + t), action)
        earned.append(reward)
        assert same_bits(paid, earned[t])


def test_an_action_outside_earns_nan_when_its_time_comes():
    env, rng = delayed(p=(1.0, 1.0), delay=2), keys((3,))
    state, paid = env.init(rng), []
    for action in ([0, -1, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]):
        state, reward = env.pull(state, rng, torch.tensor(action))
        paid.append(reward)
    wanted = torch.tensor([[0, 0, 1, 1], [0, 0, torch.nan, 1], [0, 0, torch.nan, 1]])
    torch.testing.assert_close(torch.stack(paid, -1), wanted, rtol=0, atol=0, equal_nan=True)


def test_bad_delays_are_refused():
    for bad in (-1, 2.0, True, "x"):
        with pytest.raises(ValueError, match=rf"delay .*{bad}"):
            delayed(arms=2, delay=bad)


# --- drifting, reflected


def folded(x):
    """`x` mirrored at 0 and at 1 until it lies between."""
    while x < 0 or x > 1:
        x = -x if x < 0 else 2 - x
    return x


def test_reflection_is_a_mirror_at_both_ends():
    """Steps z of the same keys, read from a walk too narrow to reach an end."""
    lanes, start = 200, (0.1, 0.5, 1.0)
    narrow = drifting(p=(0.5, 0.5, 0.5), sigma=2.0**-10)
    wide = drifting(p=start, sigma=4.0, boundary="reflect")
    (_, (inside, _)), (_, (got, _)) = (roll(env, 2, (lanes,)) for env in (narrow, wide))
    walked = torch.tensor(start).double() + 4.0 * (inside.p.double() - 0.5) * 2**10
    assert ((walked < -1) | (walked > 2)).any()
    np.testing.assert_allclose(got.p.numpy(), np.vectorize(folded)(walked.numpy()), atol=2.0**-12)


def test_reflection_leaves_uniform_arms_uniform_and_clipping_does_not():
    ends = {}
    for boundary in ("reflect", "clip"):
        *_, (state, _) = roll(drifting(arms=5, sigma=0.3, boundary=boundary), 31, (4000,))
        ends[boundary] = state.p
    assert uniform_on_the_unit_interval(ends["reflect"])
    assert not uniform_on_the_unit_interval(ends["clip"])
    assert ((ends["clip"] == 0) | (ends["clip"] == 1)).double().mean() > 0.2
    with pytest.raises(ValueError, match=r"boundary .*'bounce'"):
        drifting(arms=2, boundary="bounce")
