"""Exact values for two Bernoulli arms by dynamic programming over plays and successes: float64, nothing sampled.

Written from the papers, and independently of `core`, whose learners are compared with it. A state is plays n1, n2 and
successes s1, s2; at t plays in all it is stored as t + 1 tables [s1, s2], one for each n1. A `Choice` gives the
probability of playing arm 1 in every cell of such a table.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

Array = NDArray[np.float64]
Index = Callable[[Array, Array, int], Array]  # plays of an arm >= 1, its successes, plays of both -> its index
Choice = Callable[[int, Array, int, Array], Array]  # n1, s1, n2, s2 -> P(arm 1)


def larger(first: Array, second: Array) -> Array:
    """P(arm 1) where the larger index is played, ties 1/2. IMED has ties between different logarithms
    (1/(1 - 2/3) against 3): a tie is what agrees to 1e-12."""
    tied = np.isclose(first, second, rtol=1e-12, atol=1e-12)
    return np.where(tied, 0.5, first > second)


def by_index(index: Index) -> Choice:
    """Play the larger index; an arm never played comes first."""

    @cache
    def table(t: int) -> Array:
        n, s = np.arange(t + 1.0)[:, None], np.arange(t + 1.0)
        return np.where(n == 0, np.inf, index(np.maximum(n, 1), np.minimum(s, n), t))

    def choice(n1: int, s1: Array, n2: int, s2: Array) -> Array:
        bounds = table(n1 + n2)
        return larger(bounds[n1, : n1 + 1, None], bounds[n2, : n2 + 1])

    return choice


def divergence(p: Array, q: Array) -> Array:
    """KL(Bernoulli(p), Bernoulli(q)), with 0 ln 0 = 0."""

    def part(a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(a > 0, a * np.log(a / b), 0.0)

    return part(p, q) + part(1 - p, 1 - q)


def kl_upper(mean: Array, budget: Array) -> Array:
    """Largest u >= mean with KL(mean, u) <= budget, by 100 bisections."""
    low, high = np.array(mean), np.ones_like(mean)
    for _ in range(100):
        middle = (low + high) / 2
        inside = divergence(mean, middle) <= budget
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low


def ucb1(step: int = 1) -> Choice:
    """mean + sqrt(2 ln t / n) with t = plays so far + `step`; the published table is at step 1."""
    return by_index(lambda n, s, t: s / n + np.sqrt(2 * np.log(max(1, t + step)) / n))


def kl_ucb(c: float, step: int = 1) -> Choice:
    """n KL(mean, u) <= ln t + c ln max(1, ln t) with t = plays so far + `step`; the published table is at step 1."""

    def index(n: Array, s: Array, t: int) -> Array:
        log_time = np.log(max(1, t + step))
        return kl_upper(s / n, (log_time + c * np.log(max(1.0, log_time))) / n)

    return by_index(index)


def imed(n1: int, s1: Array, n2: int, s2: Array) -> Array:
    """Play the least n KL(mean, best mean) + ln n. Honda and Takemura 2015."""
    if n1 == 0 or n2 == 0:
        return np.full(np.broadcast_shapes(s1.shape, s2.shape), 0.5 if n1 == n2 else float(n1 == 0))
    best = np.maximum(s1 / n1, s2 / n2)
    return larger(-n1 * divergence(s1 / n1, best) - np.log(n1), -n2 * divergence(s2 / n2, best) - np.log(n2))


def beta_ts(n1: int, s1: Array, n2: int, s2: Array) -> Array:
    """P(theta1 > theta2) under Beta(1 + s, 1 + n - s) posteriors: the finite sum for whole parameters."""
    a1, b1, a2, b2 = 1 + s1, 1 + n1 - s1, 1 + s2, 1 + n2 - s2
    total = np.zeros(np.broadcast_shapes(s1.shape, s2.shape))
    for i in range(n1 + 1):
        term = np.exp(betaln(a2 + i, b1 + b2) - np.log(b1 + i) - betaln(1 + i, b1) - betaln(a2, b2))
        total += np.where(i < a1, term, 0.0)
    return total


def _tables(t: int) -> list[tuple[int, Array, int, Array]]:
    """(n1, s1 [n1 + 1, 1], n2, s2 [1, n2 + 1]) for n1 = 0..t."""
    whole = [np.arange(n + 1, dtype=np.float64) for n in range(t + 1)]
    return [(n, whole[n][:, None], t - n, whole[t - n][None, :]) for n in range(t + 1)]


def regret(choice: Choice, p: tuple[float, float], horizon: int) -> Array:
    """Expected pseudo-regret after 1, 2, .. `horizon` plays: [horizon]."""
    p1, p2 = p
    mass = [np.ones((1, 1))]
    lost = np.zeros(horizon)
    for t in range(horizon):
        after = [np.zeros((n + 1, t + 2 - n)) for n in range(t + 2)]
        for n1, s1, n2, s2 in _tables(t):
            first = mass[n1] * choice(n1, s1, n2, s2)
            second = mass[n1] - first
            lost[t] += (max(p) - p1) * first.sum() + (max(p) - p2) * second.sum()
            after[n1 + 1][1:, :] += p1 * first
            after[n1 + 1][:-1, :] += (1 - p1) * first
            after[n1][:, 1:] += p2 * second
            after[n1][:, :-1] += (1 - p2) * second
        mass = after
    return lost.cumsum()


def bayes_value(horizon: int) -> float:
    """Largest expected reward of any policy in `horizon` plays when p1 and p2 are uniform on (0, 1)."""
    value = [np.zeros((n + 1, horizon + 1 - n)) for n in range(horizon + 1)]
    for t in reversed(range(horizon)):
        before = []
        for n1, s1, n2, s2 in _tables(t):
            m1, m2 = (s1 + 1) / (n1 + 2), (s2 + 1) / (n2 + 2)
            first = m1 * (1 + value[n1 + 1][1:, :]) + (1 - m1) * value[n1 + 1][:-1, :]
            second = m2 * (1 + value[n1][:, 1:]) + (1 - m2) * value[n1][:, :-1]
            before.append(np.maximum(first, second))
        value = before
    return float(value[0][0, 0])
