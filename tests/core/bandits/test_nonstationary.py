"""Learners for rewards that change, against plain re-implementations that keep the whole history, in numpy float64.

Comparisons of regret are paired: both learners meet the same arms, changes and coins in each lane.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bernoulli as coin_law

from armfold.core import envs, random, simulate
from armfold.core.bandits import ALGORITHMS, changepoint, d_ucb, discounted, discounted_ts, glr_kl_ucb, sw_ucb, window
from armfold.core.bandits import arms as plain
from armfold.core.bandits.divergence import kl_ucb_index
from armfold.core.bandits.thompson import beta_posterior
from armfold.core.bandits.ucb import ucb1_index
from tests import oracle

K = 3
NAMES = ("d_ucb", "sw_ucb", "discounted_ts", "glr_kl_ucb")
KEY = random.key(0)

rewards = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))
plays = st.lists(st.tuples(st.integers(0, K - 1), rewards), max_size=40)


def learn(bandit, history, state=None):
    """The state after (arm, reward) pairs, one lane."""
    state = bandit.init(KEY) if state is None else state
    for arm, reward in history:
        state = bandit.update(state, KEY, None, torch.tensor(arm), torch.tensor(reward, dtype=torch.float64))
    return state


def totals(history, weights=None):
    """Plays and rewards of each arm, each pair of the history with its weight: two arrays [K]."""
    weights = np.ones(len(history)) if weights is None else weights
    n, s = np.zeros(K), np.zeros(K)
    for (arm, reward), weight in zip(history, weights, strict=True):
        n[arm] += weight
        s[arm] += weight * reward
    return n, s


def random_history(seed, steps):
    made = np.random.default_rng(seed)
    return list(zip(made.integers(0, K, steps).tolist(), made.uniform(size=steps).tolist(), strict=True))


# --- discounting


@settings(max_examples=20)
@given(plays, st.sampled_from([1.0, 0.99, 0.7, 0.01]), st.sampled_from([0.6, 1.0]))
def test_discounted_index_and_posterior_are_those_of_the_whole_history(history, gamma, xi):
    state = learn(d_ucb(arms=K, gamma=gamma), history)
    n, s = totals(history, gamma ** np.arange(len(history))[::-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(n > 0, s / n + 2 * np.sqrt(xi * np.log(1 + n.sum()) / n), np.inf)
    found = discounted.d_ucb_index(state, xi=xi, dtype=torch.float64).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    a, b = beta_posterior(state, prior_a=0.5, prior_b=2.0, dtype=torch.float64)
    np.testing.assert_allclose(a, s + 0.5, rtol=1e-12)
    np.testing.assert_allclose(b, n - s + 2, rtol=1e-12)


@settings(max_examples=20)
@given(plays)
def test_without_discount_it_is_ucb1(history):
    """With c = 4 xi."""
    state = learn(d_ucb(arms=K, gamma=1.0), history)
    wanted = ucb1_index(plain.State(state.pulls.to(torch.int64), state.reward_sum), c=2.4, dtype=torch.float64)
    torch.testing.assert_close(discounted.d_ucb_index(state, xi=0.6, dtype=torch.float64), wanted, rtol=1e-14, atol=0)


def test_without_discount_thompson_sampling_draws_what_beta_ts_draws():
    faded, whole = discounted_ts(arms=K, gamma=1.0, prior_b=2.0), ALGORITHMS["beta_ts"].make(arms=K, prior_b=2.0)
    keys = random.split(random.key(3), 100)
    left, right = faded.init(keys), whole.init(keys)
    for t in range(12):
        rng = random.fold_in(keys, t)
        action = faded.select(left, rng)
        assert torch.equal(action, whole.select(right, rng))
        reward = random.bernoulli(random.fold_in(rng, 9), 0.2 + 0.3 * action).to(torch.float32)
        left = faded.update(left, rng, None, action, reward)
        right = whole.update(right, rng, None, action, reward)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plays_of_an_arm_that_is_kept_away_fade_to_nothing_and_never_to_nan(dtype):
    """A play multiplied by 2**-10 is 0 after 108 steps: these states are all that 1e6 steps could come to."""
    bandit = d_ucb(arms=2, gamma=2**-10, dtype=dtype)
    only = torch.tensor([False, True])
    state, before = learn(bandit, [(0, 1.0), (1, 1.0)]), 0.0
    for t in range(120):
        assert bandit.select(state, random.fold_in(KEY, t), available=only) == 1
        state = learn(bandit, [(1, 0.5)], state)
        index = discounted.d_ucb_index(state, dtype=dtype)
        assert before <= index[0]
        assert torch.isfinite(index[1])
        before = index[0]
    assert state.pulls[0] == state.reward_sum[0] == 0
    assert state.pulls[1] == pytest.approx(1 / (1 - 2**-10))
    assert bandit.select(state, KEY) == 0
    fresh = discounted_ts(arms=2, gamma=2**-10, dtype=dtype)
    assert (beta_posterior(state, dtype=dtype)[0][0], fresh.select(state, KEY, available=~only)) == (1, 0)


# --- a window


@settings(max_examples=20)
@given(plays, st.sampled_from([1, 2, 5, 64]), st.sampled_from([0.6, 2.0]))
def test_window_index_is_that_of_the_last_steps(history, size, xi):
    state = learn(sw_ucb(arms=K, window=size), history)
    n, s = totals(history[-size:])
    assert state.pulls.tolist() == n.tolist()
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.sqrt(xi * np.log(min(1 + len(history), size)) / n)
        wanted = np.where(n > 0, s / n + width, np.inf)
    found = window.sw_ucb_index(state, xi=xi, dtype=torch.float64).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    whole = ucb1_index(plain.State(state.pulls, state.reward_sum), c=xi, dtype=torch.float64)
    assert len(history) >= size or torch.equal(torch.from_numpy(found), whole)


def test_window_sums_of_coins_are_exact_and_bad_rewards_take_no_slot():
    bandit, made = sw_ucb(arms=K, window=7), np.random.default_rng(1)
    state, history = bandit.init(KEY), []
    for _ in range(300):
        arm, reward = int(made.integers(K)), float(made.choice([0.0, 1.0, math.nan, math.inf]))
        state = learn(bandit, [(arm, reward)], state)
        history += [(arm, reward)] * math.isfinite(reward)
        n, s = totals(history[-7:])
        assert (state.pulls.tolist(), state.reward_sum.tolist()) == (n.tolist(), s.tolist())


def test_window_sums_forget_what_rounding_took():
    """After 1e12 has passed through, subtraction alone would leave errors near 1e-4 in the sum for ever."""
    history = random_history(2, 60)
    history[20] = (history[20][0], 1e12 / 3)
    state = learn(sw_ucb(arms=K, window=10), history)
    np.testing.assert_allclose(state.reward_sum, totals(history[-10:])[1], rtol=0, atol=1e-14)


# --- change points


def brute_force(x, last):
    """The statistic over every split that is among the last ones, from the definition."""
    n, best = len(x), 0.0
    for s in range(max(1, n - last), n):
        parts = np.array([np.mean(x[:s]), np.mean(x[s:])])
        best = max(best, float(oracle.divergence(parts, np.full(2, np.mean(x))) @ [s, n - s]))
    return best


@settings(max_examples=20)
@given(st.lists(rewards, min_size=1, max_size=30), st.sampled_from([1, 4, 64]))
def test_glr_statistic_is_the_largest_over_all_splits(x, size):
    ring, sums = torch.full((size,), 7.0, dtype=torch.float64), np.cumsum(x)
    for s in range(1, len(x)):
        ring[(s - 1) % size] = sums[s - 1]
    found = changepoint.glr_statistic(ring, torch.tensor(len(x)), torch.tensor(sums[-1]))
    assert float(found) == pytest.approx(brute_force(x, size), rel=1e-6, abs=1e-7)


def test_glr_statistic_is_the_log_likelihood_ratio():
    """Of two coins to one, in a sequence with its change in the middle."""
    x = np.repeat([0, 1, 0, 1], [5, 1, 2, 8])
    apart = max(
        coin_law.logpmf(x[:s], x[:s].mean()).sum() + coin_law.logpmf(x[s:], x[s:].mean()).sum() for s in range(1, 16)
    )
    ring = torch.tensor(np.cumsum(x)[:-1], dtype=torch.float64)
    ring = torch.cat([ring, torch.zeros(1, dtype=torch.float64)])
    found = changepoint.glr_statistic(ring, torch.tensor(16), torch.tensor(9.0, dtype=torch.float64))
    assert float(found) == pytest.approx(apart - coin_law.logpmf(x, x.mean()).sum(), rel=1e-12)


def test_glr_statistic_of_arms_that_always_or_never_pay_is_nothing():
    n = 10**9
    splits = torch.arange(n - 50, n, dtype=torch.float64)
    ring = torch.empty(50, dtype=torch.float64)
    ring[(torch.arange(n - 50, n) - 1) % 50] = splits
    for share in (0.0, 1.0):
        total = torch.tensor(share * n, dtype=torch.float64)
        assert abs(float(changepoint.glr_statistic(share * ring, torch.tensor(n), total))) < 1e-5


def test_glr_threshold():
    assert float(changepoint.glr_threshold(torch.tensor(100), 0.01)) == pytest.approx(math.log(300_000))


@pytest.mark.parametrize("restart", ["global", "local"])
@pytest.mark.parametrize("size", [4, 50])
def test_restarts_are_those_of_the_whole_history(restart, size):
    """A step by step re-implementation with a list of rewards for each arm, over means that change twice."""
    bandit, made = glr_kl_ucb(arms=K, delta=0.5, window=size, restart=restart), np.random.default_rng(size)
    state, seen, age, restarts = bandit.init(KEY), [[] for _ in range(K)], np.zeros(K, int), 0
    for t in range(150):
        arm, mean = int(made.integers(K)), (0.1, 0.9, 0.3)[t // 50]
        reward = float(made.uniform() < mean)
        state = learn(bandit, [(arm, reward)], state)
        seen[arm].append(reward)
        age += 1
        if brute_force(seen[arm], size) >= math.log(3 * len(seen[arm]) ** 1.5 / 0.5):
            restarts += 1
            for k in range(K) if restart == "global" else [arm]:
                seen[k], age[k] = [], 0
        assert state.pulls.tolist() == [len(x) for x in seen]
        assert state.reward_sum.tolist() == [sum(x) for x in seen]
        assert state.age.tolist() == age.tolist()
    assert restarts >= 1


@settings(max_examples=20)
@given(plays)
def test_before_any_restart_the_index_is_that_of_kl_ucb(history):
    state = learn(glr_kl_ucb(arms=K, delta=1e-30, window=4), history)
    index = changepoint.glr_kl_ucb_index(state, dtype=torch.float64)
    assert torch.equal(index, kl_ucb_index(plain.State(*state[:2]), c=0.0, dtype=torch.float64))


def pulled(bandit, p):
    """The first step at which arm 0 restarts when it alone is played, for means p [steps, lanes]; inf for none."""
    steps, lanes = p.shape
    state, first = bandit.init(random.split(KEY, lanes)), torch.full((lanes,), torch.inf)
    keys = random.split(random.key(4), lanes)
    for t in range(steps):
        reward = random.bernoulli(random.jump(keys, t), p[t]).to(torch.float32)
        state = bandit.update(state, keys, None, torch.zeros(lanes, dtype=torch.int64), reward)
        first = torch.where((state.pulls[:, 0] == 0) & torch.isinf(first), t + 1, first)
    return first


def test_abrupt_changes_are_found_soon():
    """0.2 to 0.8 after 100 plays: seldom before, and within 50 plays in all of 100 lanes."""
    p = torch.tensor([0.2] * 100 + [0.8] * 50).unsqueeze(-1).expand(150, 100)
    first = pulled(glr_kl_ucb(arms=2, window=60), p)
    assert (first <= 100).sum() <= 3
    assert torch.isfinite(first).all()
    assert 105 < first.median() < 120


@pytest.mark.slow
@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_false_alarms_are_fewer_than_delta(delta):
    """In 600 plays of an arm that stays, p = 0.1, 0.5 or 0.9: 600 lanes each, 4 standard errors allowed."""
    p = torch.tensor([0.1, 0.5, 0.9]).repeat(600).expand(600, 1800)
    rate = torch.isfinite(pulled(glr_kl_ucb(arms=2, delta=delta, window=100), p)).reshape(600, 3).double().mean(0)
    assert (rate < delta + 4 * math.sqrt(delta * (1 - delta) / 600)).all(), rate


# --- structure


def test_bad_structure_is_refused_by_name():
    for make in (sw_ucb, glr_kl_ucb):
        for value in (0, -1, 2.0, True):
            with pytest.raises(ValueError, match=f"window .*{value}"):
                make(arms=2, window=value)
    with pytest.raises(ValueError, match=r"restart .*'both'"):
        glr_kl_ucb(arms=2, restart="both")
    for make in (d_ucb, discounted_ts):
        for gamma in (0.0, 1.5):
            with pytest.raises(ValueError, match=f"gamma .*{gamma}"):
                make(arms=2, gamma=gamma)


@pytest.mark.parametrize("name", NAMES)
def test_arms_that_are_not_available_are_not_played(name):
    """Even where they have never been played, and exploration is all there is."""
    bandit = ALGORITHMS[name].make(arms=K, **({"alpha": 0.5} if name == "glr_kl_ucb" else {}))
    state, keys = bandit.init(KEY), random.split(random.key(1), 200)
    for history in ([], [(0, 1.0), (0, 1.0)], random_history(3, 20)):
        state = learn(bandit, history, state)
        many = type(state)(*(leaf.expand(200, *leaf.shape) for leaf in state))
        for available in ([False, True, True], [False, False, True], [False] * 3):
            mask = torch.tensor(available).expand(200, K)
            action, law = bandit.select(many, keys, available=mask), bandit.policy(state, KEY, available=mask[0])
            drawn = torch.bincount(action + 1, minlength=K + 1)
            assert drawn[0] == 200 * (not any(available))
            assert not drawn[1:][~mask[0]].any()
            assert not law[~mask[0]].any()
            assert float(law.sum()) == pytest.approx(float(any(available)))


# --- what it is good for

TWINS = {"d_ucb": "ucb1", "sw_ucb": "ucb1", "discounted_ts": "beta_ts", "glr_kl_ucb": "kl_ucb"}
WORLDS = {
    "abrupt": envs.abrupt(arms=10, period=500),
    "drifting": envs.drifting(arms=10, sigma=0.02),
    "bernoulli": envs.bernoulli(arms=10),
}


@cache
def regrets(name, world, steps=2500, lanes=128):
    """Total regret of each lane, [lanes], with the tunables that are the defaults (of kl_ucb: c as in glr_kl_ucb)."""
    bandit = ALGORITHMS[name].make(arms=10, **({"c": 0.0} if name == "kl_ucb" else {}))
    carry = simulate.init(bandit, WORLDS[world], random.split(random.key(5), lanes))
    total = torch.zeros(lanes, dtype=torch.float64)
    for _ in range(steps):
        carry, trace = simulate.step(bandit, WORLDS[world], carry)
        total += trace.regret
    return total


@pytest.mark.slow
@pytest.mark.parametrize("world", ["abrupt", "drifting"])
@pytest.mark.parametrize("name", NAMES)
def test_it_beats_its_stationary_twin_where_arms_change(name, world):
    """By 5 standard errors of the paired difference."""
    less = regrets(name, world) - regrets(TWINS[name], world)
    assert less.mean() < -5 * less.std() / math.sqrt(len(less)), (less.mean(), less.std())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "factor"), [("d_ucb", 1.0), ("sw_ucb", 1.0), ("discounted_ts", 2.5), ("glr_kl_ucb", 1.5)]
)
def test_it_loses_little_where_nothing_changes(name, factor):
    """Less than `factor` times the regret of its twin, by 4 standard errors."""
    excess = regrets(name, "bernoulli") - factor * regrets(TWINS[name], "bernoulli")
    assert excess.mean() < -4 * excess.std() / math.sqrt(len(excess)), (excess.mean(), excess.std())
