"""Bandits with expert advice. Rewards in [0, 1].

An obs [*B, K, E] holds the advice: obs[..., k, e] >= 0 is how strongly expert e speaks for arm k.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.adversarial import exponentials
from armfold.core.check import check_available, check_key, check_number, check_shape, check_size, require_obs
from armfold.core.types import Bandit, Scalar, per_lane


class State(NamedTuple):
    """What each expert has earned."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    log_weights: Tensor  # [*B, E] float, of the experts, from the largest at the last update on


def init(rng: Tensor, *, arms: int, features: int, dtype: torch.dtype = torch.float32) -> State:
    """Equal weights, for each key in rng [*B, 2]."""
    check_key(rng)
    pulls = _arms.init(rng, arms=arms).pulls
    return State(pulls, torch.zeros((*rng.shape[:-1], features), dtype=dtype, device=rng.device))


def advice(state: State, obs: Tensor | None, available: Tensor | None = None) -> Tensor:
    """Each expert's law over the available arms, [*B, K, E]: obs scaled to sum to 1. What is below 0 or not finite
    counts as 0, and an expert who speaks for no arm as one who speaks for all."""
    *batch, arms = state.pulls.shape
    check_available(available, batch, arms)
    said = require_obs(obs, tuple(batch), arms, state.log_weights.shape[-1]).to(state.log_weights.dtype)
    said = torch.where((said > 0) & (said < torch.inf), said, 0)
    heard = torch.ones_like(said[..., :1]) if available is None else available.unsqueeze(-1).to(said.dtype)
    said = said * heard
    said = torch.where(said.sum(-2, keepdim=True) > 0, said, heard)
    return torch.where(heard > 0, said / said.sum(-2, keepdim=True), 0)


def law(state: State, said: Tensor, *, gamma: Scalar, available: Tensor | None = None) -> Tensor:
    """Probabilities [*B, K]: the experts' laws `said` [*B, K, E] by weight, mixed with gamma of uniform play."""
    weights, total = exponentials(state.log_weights)
    by_weight = (said * (weights / total).unsqueeze(-2)).sum(-1)
    uniform = masked.argmax_probs(torch.zeros_like(by_weight), available)
    gamma = per_lane(gamma, by_weight.dtype)
    return (1 - gamma) * by_weight + gamma * uniform


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    gamma: Scalar = 0.1,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]. `samples` is not used."""
    check_key(rng, state.pulls.shape[:-1])
    return law(state, advice(state, obs, available), gamma=gamma, available=available)


def select(
    state: State, rng: Tensor, obs: Tensor | None = None, *, gamma: Scalar = 0.1, available: Tensor | None = None
) -> Tensor:
    """An arm from the law of `policy`: int64 [*B]."""
    return masked.draw(rng, policy(state, rng, obs, gamma=gamma, available=available))


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
    """Every expert's log-weight grows by gamma / K of the reward it would have earned, as estimated: reward /
    probability of the arm. Nothing is learned where that probability is not above 0."""
    check_key(rng, state.pulls.shape[:-1])
    played = _arms.chosen(state.pulls, action, reward)
    said = advice(state, obs, available)
    if propensity is None:
        chance = torch.where(played, law(state, said, gamma=gamma, available=available), 0).sum(-1)
    else:
        check_shape("propensity", propensity, action.shape)
        chance = propensity.to(said.dtype)
    rate = per_lane(gamma, said.dtype, 0) / said.shape[-2]
    played = played & (chance > 0).unsqueeze(-1)
    earned = (rate * reward.to(said.dtype) / chance).unsqueeze(-1) * masked.take(said, action)
    grown = state.log_weights - state.log_weights.amax(-1, keepdim=True) + earned
    counted = played.any(-1, keepdim=True)
    return State(_arms.add_pull(state.pulls, played), torch.where(counted, grown, state.log_weights))


def exp4(*, arms: int, features: int, gamma: Scalar = 0.1, dtype: torch.dtype = torch.float32) -> Bandit:
    """EXP4: exponential weights of experts, whose advice is the context.

    arms: K >= 2; features: E >= 1 experts, with obs[..., k, e] >= 0 the probability that expert e gives arm k.
    gamma in (0, 1], the share of uniform play: a number or a tensor [*B]. Rewards in [0, 1]. Raises ValueError for
    values outside, ShapeError for advice that is not [*B, K, E].
    Source: Auer, Cesa-Bianchi, Freund and Schapire 2002, figure 4.
    """
    check_size("arms", arms, low=2)
    check_size("features", features)
    check_number("gamma", gamma, low=0.0, high=1.0, open_low=True)
    return Bandit(
        partial(init, arms=arms, features=features, dtype=dtype),
        partial(select, gamma=gamma),
        partial(update, gamma=gamma),
        partial(policy, gamma=gamma),
    )
