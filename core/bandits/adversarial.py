"""Learners for rewards that an adversary may choose: exponential weights and Tsallis-INF. Rewards in [0, 1].

Weights are kept as logarithms, counted from the largest: nothing overflows, and what matters is not rounded away.
Estimates divide by the probability of the arm when it was chosen: give `propensity` where the reward comes late. One
that is not above 0, as that of an arm that was not available, teaches nothing.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits import arms as _arms
from armfold.core.check import check_key, check_number, check_shape, check_size
from armfold.core.types import Bandit, Scalar, per_lane


class State(NamedTuple):
    """Exponential weights."""

    log_weights: Tensor  # [*B, K] float, from the largest at the last update on


def init(rng: Tensor, *, arms: int, dtype: torch.dtype = torch.float32) -> State:
    """Equal weights, for each key in rng [*B, 2]."""
    check_key(rng)
    return State(torch.zeros((*rng.shape[:-1], arms), dtype=dtype, device=rng.device))


def exponentials(log_weights: Tensor, available: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """exp(log_weights) [*B, K], 0 for arms that are not available, on a scale where the largest is 1; their sum
    [*B, 1]."""
    if available is None:
        weights = torch.exp(log_weights - log_weights.amax(-1, keepdim=True))
    else:
        best = torch.where(available, log_weights, -torch.inf).amax(-1, keepdim=True)
        weights = torch.where(available, torch.exp(log_weights - best), 0)
    return weights, weights.sum(-1, keepdim=True)


def mixed(log_weights: Tensor, gamma: Scalar, available: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights [*B, K] and total [*B, 1] of the law (1 - gamma) softmax + gamma uniform, over the available arms."""
    weights, total = exponentials(log_weights, available)
    gamma = per_lane(gamma, total.dtype)
    if available is None:
        return (1 - gamma) * weights + gamma / weights.shape[-1] * total, total
    share = torch.where(available, total / available.sum(-1, keepdim=True), 0)
    return (1 - gamma) * weights + gamma * share, total


def _law(weights: Tensor, total: Tensor) -> Tensor:
    return torch.where(total > 0, weights / total, 0)


def select(
    state: State, rng: Tensor, obs: Tensor | None = None, *, gamma: Scalar = 0.0, available: Tensor | None = None
) -> Tensor:
    """An arm from the law of `policy`: int64 [*B]."""
    _arms.check_select(state.log_weights, rng, obs, available)
    return masked.draw(rng, mixed(state.log_weights, gamma, available)[0])


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    gamma: Scalar = 0.0,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]: (1 - gamma) softmax + gamma uniform. `samples` is not used."""
    _arms.check_select(state.log_weights, rng, obs, available)
    return _law(*mixed(state.log_weights, gamma, available))


def _learn(log_weights: Tensor, grown: Tensor, action: Tensor, counted: Tensor, gain: Tensor) -> Tensor:
    """`grown` [*B, K] counted anew from their largest, with gain [*B] added to the action's; `log_weights` as they were
    in lanes where not `counted`."""
    # Stacked, as numbers of one kind, they are stored once; the compiler would work them out for each arm again.
    gain, arm = torch.stack((gain, torch.where(counted, action, -1).to(gain.dtype))).unsqueeze(-1)
    centred = grown - grown.amax(-1, keepdim=True)
    arms = torch.arange(grown.shape[-1], dtype=gain.dtype, device=gain.device)
    return torch.where(arm < 0, log_weights, torch.where(arms == arm, centred + gain, centred))


def _chance(
    log_weights: Tensor, action: Tensor, gamma: Scalar, propensity: Tensor | None, available: Tensor | None
) -> Tensor:
    """Probability [*B] with which the action was chosen: as given, or else by the weights as they are now."""
    if propensity is not None:
        check_shape("propensity", propensity, action.shape)
        return propensity.to(log_weights.dtype)
    weights, total = exponentials(log_weights, available)
    hot, gamma = masked.one_hot(action, weights.shape[-1]), per_lane(gamma, weights.dtype, 0)
    uniform = 1 / weights.shape[-1] if available is None else (hot & available).sum(-1) / available.sum(-1)
    return (1 - gamma) * torch.where(hot, weights, 0).sum(-1) / total.squeeze(-1) + gamma * uniform


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    gamma: Scalar,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """EXP3: the played arm's log-weight grows by gamma / K of its estimated reward, reward / probability."""
    _arms.check_select(state.log_weights, rng, obs, available)
    counted = _arms.counts(state.log_weights, action, reward)
    chance = _chance(state.log_weights, action, gamma, propensity, available)
    rate = per_lane(gamma, chance.dtype, 0) / state.log_weights.shape[-1]
    gain = rate * reward.to(chance.dtype) / chance
    return State(_learn(state.log_weights, state.log_weights, action, counted & (chance > 0), gain))


def exp3(*, arms: int, gamma: Scalar = 0.07, dtype: torch.dtype = torch.float32) -> Bandit:
    """EXP3: exponential weights of estimated rewards, at rate gamma / K, mixed with uniform play.

    arms: K >= 2. gamma in (0, 1], the share of uniform play: a number or a tensor [*B]; its best value for T steps is
    min(1, sqrt(K ln K / ((e - 1) T))). Rewards in [0, 1]. Raises ValueError for values outside.
    Source: Auer, Cesa-Bianchi, Freund and Schapire 2002, figure 1.
    """
    check_size("arms", arms, low=2)
    check_number("gamma", gamma, low=0.0, high=1.0, open_low=True)
    return Bandit(
        partial(init, arms=arms, dtype=dtype),
        partial(select, gamma=gamma),
        partial(update, gamma=gamma),
        partial(policy, gamma=gamma),
    )


def update_ix(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    gamma: Scalar,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """EXP3-IX: the played arm's log-weight falls by 2 gamma times its loss over its probability plus gamma."""
    _arms.check_select(state.log_weights, rng, obs, available)
    counted = _arms.counts(state.log_weights, action, reward)
    chance = _chance(state.log_weights, action, 0.0, propensity, available)
    gamma = per_lane(gamma, chance.dtype, 0)
    gain = -2 * gamma * (1 - reward.to(chance.dtype)) / (chance + gamma)
    return State(_learn(state.log_weights, state.log_weights, action, counted & (chance > 0), gain))


def exp3_ix(*, arms: int, gamma: Scalar = 0.05, dtype: torch.dtype = torch.float32) -> Bandit:
    """EXP3-IX: exponential weights of losses, whose estimates are held down by gamma instead of uniform play.

    arms: K >= 2. gamma > 0, the implicit exploration, with learning rate 2 gamma: a number or a tensor [*B]; its best
    value for T steps is sqrt(ln K / (2 K T)). Rewards in [0, 1]. Raises ValueError for values outside.
    Source: Neu 2015, algorithm 1 and theorem 1.
    """
    check_size("arms", arms, low=2)
    check_number("gamma", gamma, low=0.0, open_low=True)
    return Bandit(partial(init, arms=arms, dtype=dtype), select, partial(update_ix, gamma=gamma), policy)


def rates_p(arms: int, horizon: Scalar, delta: Scalar, dtype: torch.dtype) -> tuple[Scalar, Scalar, Scalar]:
    """gamma, eta and beta of EXP3.P for T = horizon steps and a bound that fails with probability delta."""
    horizon, delta = (torch.as_tensor(x, dtype=dtype) for x in (horizon, delta))
    spread = torch.sqrt(math.log(arms) / (arms * horizon))
    beta = torch.sqrt(torch.log(arms / delta) / (arms * horizon))
    return (1.05 * arms * spread).clamp(max=0.5), 0.95 * spread, beta


def select_p(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    horizon: Scalar,
    delta: Scalar,
    available: Tensor | None = None,
) -> Tensor:
    """An arm from the law of `policy_p`: int64 [*B]."""
    gamma, _, _ = rates_p(state.log_weights.shape[-1], horizon, delta, state.log_weights.dtype)
    return select(state, rng, obs, gamma=gamma, available=available)


def policy_p(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    horizon: Scalar,
    delta: Scalar,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select_p`, [*B, K]. `samples` is not used."""
    gamma, _, _ = rates_p(state.log_weights.shape[-1], horizon, delta, state.log_weights.dtype)
    return policy(state, rng, obs, gamma=gamma, available=available)


def update_p(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    horizon: Scalar,
    delta: Scalar,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """EXP3.P: every available arm's log-weight grows by eta beta / probability, the played one's by its reward too."""
    gamma, eta, beta = rates_p(state.log_weights.shape[-1], horizon, delta, state.log_weights.dtype)
    law = policy(state, rng, obs, gamma=gamma, available=available)
    counted = _arms.counts(state.log_weights, action, reward)
    chance = _chance(state.log_weights, action, gamma, propensity, available)
    bonus = torch.where(law > 0, per_lane(eta * beta, law.dtype) / law, 0)
    gain = per_lane(eta, law.dtype, 0) * reward.to(law.dtype) / chance
    return State(_learn(state.log_weights, state.log_weights + bonus, action, counted & (chance > 0), gain))


def exp3_p(
    *, arms: int, horizon: Scalar = 10_000.0, delta: Scalar = 0.05, dtype: torch.dtype = torch.float32
) -> Bandit:
    """EXP3.P: EXP3 with optimistic estimates, whose regret is bounded with high probability.

    arms: K >= 2. horizon: T >= 1, in steps; delta in (0, 1), the probability that the bound may fail; each a number or
    a tensor [*B]. Rewards in [0, 1]. Raises ValueError for values outside.
    Source: Auer et al. 2002, figure 2; rates of Bubeck and Cesa-Bianchi 2012, theorem 3.2.
    """
    check_size("arms", arms, low=2)
    check_number("horizon", horizon, low=1.0)
    check_number("delta", delta, low=0.0, high=1.0, open_low=True)
    return Bandit(
        partial(init, arms=arms, dtype=dtype),
        partial(select_p, horizon=horizon, delta=delta),
        partial(update_p, horizon=horizon, delta=delta),
        partial(policy_p, horizon=horizon, delta=delta),
    )
