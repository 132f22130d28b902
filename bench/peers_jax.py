"""Bandits in JAX, to race against: environment, random numbers and regret inside one jitted program.

`idiomatic` is what a JAX user writes: a function of one lane, scanned over time, vmapped over lanes, then jitted.
`pointwise` is what a patient one writes: batched [N, K] code by hand, the scan outside, no vmap.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_TINY = 1e-7


class Counts(NamedTuple):
    """Plain statistics of each arm."""

    pulls: Array  # [*B, K] float32
    wins: Array  # [*B, K] float32, sum of rewards


class Posterior(NamedTuple):
    """A ridge regression for each arm of one lane."""

    inverse: Array  # [K, d, d] float32
    moment: Array  # [K, d] float32


class Score(NamedTuple):
    """What a lane's regressions say of a context."""

    mean: Array  # [K] float32
    std: Array  # [K] float32


def random_argmax(index: Array, key: Array) -> Array:
    """Position of the largest index along the last axis, ties at random."""
    tied = index == index.max(-1, keepdims=True)
    return jnp.argmax(jnp.where(tied, jax.random.uniform(key, index.shape), -1.0), -1)


def kl_excess(p: Array, budget: Array) -> Callable[[Array], Array]:
    """KL(p, u) - budget as a function of u, for p in (0, 1), what does not depend on u being computed once."""
    goal = budget - p * jnp.log(p) - (1 - p) * jnp.log(1 - p)
    return lambda u: -p * jnp.log(u) - (1 - p) * jnp.log(1 - u) - goal


def kl_terms(state: Counts, c: float = 3.0) -> tuple[Array, Array]:
    """Means [*B, K], kept off 0 and 1, and KL-UCB's budgets (ln t + c ln max(1, ln t)) / n [*B, K]."""
    plays = jnp.maximum(state.pulls, 1)
    log_time = jnp.log(1 + state.pulls.sum(-1, keepdims=True))
    mean = jnp.clip(state.wins / plays, _TINY, 1 - _TINY)
    return mean, (log_time + c * jnp.log(jnp.maximum(log_time, 1))) / plays


def ucb1(state: Counts, key: Array) -> Array:
    """UCB1 with sqrt(2 ln t / n)."""
    plays = jnp.maximum(state.pulls, 1)
    width = jnp.sqrt(2 * jnp.log(jnp.maximum(state.pulls.sum(), 1)) / plays)
    return random_argmax(jnp.where(state.pulls == 0, jnp.inf, state.wins / plays + width), key)


def kl_ucb(state: Counts, key: Array) -> Array:
    """KL-UCB, c = 3, by 25 bisections, unrolled: 1.3 times as fast on a CPU as the loop."""
    mean, budget = kl_terms(state)
    excess = kl_excess(mean, budget)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = excess(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    _, index = jax.lax.fori_loop(0, 25, halve, (mean, jnp.ones_like(mean)), unroll=True)
    return random_argmax(jnp.where(state.pulls == 0, jnp.inf, index), key)


def beta_ts(state: Counts, key: Array) -> Array:
    """Thompson sampling from Beta(1 + wins, 1 + losses)."""
    return jnp.argmax(jax.random.beta(key, 1 + state.wins, 1 + state.pulls - state.wins))


def score(state: Posterior, x: Array) -> Score:
    """Mean and standard deviation, of unit noise, of x'w for every arm's x [K, d]."""
    direction = jnp.einsum("kij,kj->ki", state.inverse, x)
    return Score((direction * state.moment).sum(-1), jnp.sqrt(jnp.maximum((direction * x).sum(-1), 0)))


def lin_ucb(state: Posterior, key: Array, x: Array) -> Array:
    """LinUCB, disjoint, alpha = 1."""
    mean, std = score(state, x)
    return random_argmax(mean + std, key)


def lin_ts(state: Posterior, key: Array, x: Array) -> Array:
    """Linear Thompson sampling, disjoint, scale 0.1, from the exact law of each arm's score."""
    mean, std = score(state, x)
    return jnp.argmax(mean + 0.1 * std * jax.random.normal(key, mean.shape))


def learn(state: Posterior, action: Array, x: Array, reward: Array) -> Posterior:
    """The played arm's regression given its features x [d] and the reward (Sherman and Morrison 1950)."""
    inverse = state.inverse[action]
    direction = inverse @ x
    smaller = inverse - jnp.outer(direction, direction) / (1 + x @ direction)
    return Posterior(state.inverse.at[action].set(smaller), state.moment.at[action].add(reward * x))


def no_plays(arms: int) -> Counts:
    """The counts of one lane before its first step."""
    return Counts(jnp.zeros(arms), jnp.zeros(arms))


def tally(state: Counts, action: Array, reward: Array) -> Counts:
    """One play counted."""
    return Counts(state.pulls.at[action].add(1), state.wins.at[action].add(reward))


def exp3_law(log_weights: Array, gamma: float = 0.07) -> Array:
    """EXP3's probabilities [K]."""
    return (1 - gamma) * jax.nn.softmax(log_weights) + gamma / log_weights.size


def exp3(log_weights: Array, key: Array) -> Array:
    """EXP3, gamma = 0.07. `choice` inverts a running sum: twice as fast as `categorical` with its K Gumbels."""
    return jax.random.choice(key, log_weights.size, p=exp3_law(log_weights))


def exp3_learn(log_weights: Array, action: Array, reward: Array, gamma: float = 0.07) -> Array:
    """The log-weights [K] given the reward of the action."""
    gain = gamma / log_weights.size * reward / exp3_law(log_weights, gamma)[action]
    return log_weights.at[action].add(gain)


def arms_lane(
    key: Array,
    *,
    select: Callable[..., Array],
    start: Callable[[int], Any] = no_plays,
    learn: Callable[..., Any] = tally,
    steps: int,
    arms: int,
    features: int,
) -> Array:
    """Regret of one lane on Bernoulli arms p ~ U(0, 1). `features` is not used."""
    key, arms_key = jax.random.split(key)
    p = jax.random.uniform(arms_key, (arms,))

    def step(carry: tuple[Any, Array, Array], _: None) -> tuple[tuple[Any, Array, Array], None]:
        state, key, regret = carry
        key, select_key, reward_key = jax.random.split(key, 3)
        action = select(state, select_key)
        reward = jax.random.bernoulli(reward_key, p[action]).astype(jnp.float32)
        return (learn(state, action, reward), key, regret + p.max() - p[action]), None

    regret: Array = jax.lax.scan(step, (start(arms), key, jnp.float32(0)), None, length=steps)[0][2]
    return regret


def contexts_lane(key: Array, *, select: Callable[..., Array], steps: int, arms: int, features: int) -> Array:
    """Regret of one lane on logistic rewards: theta ~ N(0, 1), x ~ N(0, 1) anew at every step."""
    key, arms_key = jax.random.split(key)
    theta = jax.random.normal(arms_key, (arms, features))

    def step(carry: tuple[Posterior, Array, Array], _: None) -> tuple[tuple[Posterior, Array, Array], None]:
        state, key, regret = carry
        key, context_key, select_key, reward_key = jax.random.split(key, 4)
        x = jax.random.normal(context_key, (arms, features))
        means = jax.nn.sigmoid((x * theta).sum(-1))
        action = select(state, select_key, x)
        reward = jax.random.bernoulli(reward_key, means[action]).astype(jnp.float32)
        return (learn(state, action, x[action], reward), key, regret + means.max() - means[action]), None

    eye = jnp.broadcast_to(jnp.eye(features), (arms, features, features))
    start = (Posterior(eye, jnp.zeros((arms, features))), key, jnp.float32(0))
    regret: Array = jax.lax.scan(step, start, None, length=steps)[0][2]
    return regret


IDIOMATIC: dict[str, Callable[..., Array]] = {
    "ucb1": partial(arms_lane, select=ucb1),
    "kl_ucb": partial(arms_lane, select=kl_ucb),
    "beta_ts": partial(arms_lane, select=beta_ts),
    "exp3": partial(arms_lane, select=exp3, start=jnp.zeros, learn=exp3_learn),
    "lin_ucb": partial(contexts_lane, select=lin_ucb),
    "lin_ts": partial(contexts_lane, select=lin_ts),
}


def kl_upper(p: Array, budget: Array) -> Array:
    """Largest u with KL(p, u) <= budget: 4 Newton steps from above reach rounding, 1.5e-6.

    They start at the lower of two upper bounds, Pinsker's and the one that drops p log(1/u): from Pinsker's alone,
    which may lie beyond 1, 5 steps stop 0.13 away.
    """
    entropy, excess = p * jnp.log(p), kl_excess(p, budget)
    u = jnp.minimum(p + jnp.sqrt(budget / 2), 1 - (1 - p) * jnp.exp((entropy - budget) / (1 - p)))
    u = jnp.minimum(u, 1 - _TINY)
    for _ in range(4):
        u = jnp.minimum(u - excess(u) * u * (1 - u) / jnp.maximum(u - p, _TINY), 1 - _TINY)
    return u


def kl_ucb_pointwise(key: Array, *, lanes: int, steps: int, arms: int) -> Array:
    """Regret [N] of KL-UCB on Bernoulli arms p ~ U(0, 1): [N, K] arrays and one key for all lanes."""
    key, arms_key = jax.random.split(key)
    p = jax.random.uniform(arms_key, (lanes, arms))
    best = p.max(-1)

    def step(carry: tuple[Counts, Array, Array], _: None) -> tuple[tuple[Counts, Array, Array], None]:
        (pulls, wins), key, regret = carry
        key, select_key, reward_key = jax.random.split(key, 3)
        index = jnp.where(pulls == 0, jnp.inf, kl_upper(*kl_terms(Counts(pulls, wins))))
        played = jax.nn.one_hot(random_argmax(index, select_key), arms)
        mean = (p * played).sum(-1)
        reward = (jax.random.uniform(reward_key, (lanes,)) < mean).astype(jnp.float32)
        return (Counts(pulls + played, wins + played * reward[:, None]), key, regret + best - mean), None

    start = (Counts(jnp.zeros((lanes, arms)), jnp.zeros((lanes, arms))), key, jnp.zeros(lanes))
    regret: Array = jax.lax.scan(step, start, None, length=steps)[0][2]
    return regret


POINTWISE: dict[str, Callable[..., Array]] = {"kl_ucb": kl_ucb_pointwise}


def player(
    algorithm: str, style: str, *, lanes: int, arms: int, features: int, seed: int, device: str
) -> Callable[[int], np.ndarray]:
    """A function that plays so many steps of `algorithm`, written in `style`, and returns the regret [N]."""
    key = jax.device_put(jax.random.key(seed), jax.devices(device)[0])

    def idiomatic(key: Array, steps: int) -> Array:
        lane = partial(IDIOMATIC[algorithm], steps=steps, arms=arms, features=features)
        return jax.vmap(lane)(jax.random.split(key, lanes))

    def pointwise(key: Array, steps: int) -> Array:
        return POINTWISE[algorithm](key, lanes=lanes, steps=steps, arms=arms)

    program = jax.jit({"idiomatic": idiomatic, "pointwise": pointwise}[style], static_argnames="steps")
    return lambda steps: np.asarray(program(key, steps))
