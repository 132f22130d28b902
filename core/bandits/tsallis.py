"""Tsallis-INF: best of both worlds, stochastic and adversarial, without knowing which. Rewards in [0, 1]."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits import arms as _arms
from armfold.core.check import check_key, check_number, check_shape, check_size
from armfold.core.types import Bandit, Scalar, per_lane

_NEWTON_STEPS = 6


class State(NamedTuple):
    """Estimated losses."""

    loss_sum: Tensor  # [*B, K] float, estimated losses so far, from the least at the last update on
    time: Tensor  # [*B] int64, updates


def init(rng: Tensor, *, arms: int, dtype: torch.dtype = torch.float32) -> State:
    """No losses yet, for each key in rng [*B, 2]."""
    check_key(rng)
    batch = rng.shape[:-1]
    return State(
        torch.zeros((*batch, arms), dtype=dtype, device=rng.device),
        torch.zeros(batch, dtype=torch.int64, device=rng.device),
    )


def law(state: State, *, eta: Scalar = 2.0, available: Tensor | None = None) -> Tensor:
    """Probabilities [*B, K] over the available arms: 4 / (rate (loss - x))^2 with rate = eta / sqrt(t), where x makes
    their sum 1; 0 where no arm is available."""
    losses = state.loss_sum if available is None else torch.where(available, state.loss_sum, torch.inf)
    least = losses.amin(-1, keepdim=True)
    time = (state.time + 1).to(losses.dtype).unsqueeze(-1)
    # In units of 2 / rate: find y >= 1 with sum (gap + y)^-2 = 1. That sum to the power -1/2 is concave in y and
    # nearly linear: Newton climbs to the root from y = 1 without passing it.
    gap = torch.where(
        losses < torch.inf, (losses - least) * (0.5 * per_lane(eta, losses.dtype) / torch.sqrt(time)), torch.inf
    )
    y = torch.ones_like(least)
    for _ in range(_NEWTON_STEPS):
        inverse = 1 / (gap + y)
        square = inverse * inverse
        total = square.sum(-1, keepdim=True)
        y = y + total * (torch.sqrt(total) - 1) / (square * inverse).sum(-1, keepdim=True)
    weights = 1 / ((gap + y) * (gap + y))
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total, 0)


def select(
    state: State, rng: Tensor, obs: Tensor | None = None, *, eta: Scalar = 2.0, available: Tensor | None = None
) -> Tensor:
    """An arm from `law`: int64 [*B]."""
    _arms.check_select(state.loss_sum, rng, obs, available)
    return masked.draw(rng, law(state, eta=eta, available=available))


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    eta: Scalar = 2.0,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]. `samples` is not used."""
    _arms.check_select(state.loss_sum, rng, obs, available)
    return law(state, eta=eta, available=available)


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    eta: Scalar = 2.0,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """The played arm's estimated loss, (1 - reward) / probability, added; nothing learned where that is not above 0."""
    _arms.check_select(state.loss_sum, rng, obs, available)
    played = _arms.chosen(state.loss_sum, action, reward)
    if propensity is None:
        chance = torch.where(played, law(state, eta=eta, available=available), 0).sum(-1)
    else:
        check_shape("propensity", propensity, action.shape)
        chance = propensity.to(state.loss_sum.dtype)
    loss = ((1 - reward.to(chance.dtype)) / chance).unsqueeze(-1)
    centred = state.loss_sum - state.loss_sum.amin(-1, keepdim=True)
    counted = played.any(-1) & (chance > 0)
    return State(
        torch.where(counted.unsqueeze(-1), torch.where(played, centred + loss, centred), state.loss_sum),
        state.time + counted,
    )


def tsallis_inf(*, arms: int, eta: Scalar = 2.0, dtype: torch.dtype = torch.float32) -> Bandit:
    """Tsallis-INF: follow the leader, regularised by Tsallis entropy of power 1/2, at rate eta / sqrt(t).

    arms: K >= 2. eta > 0, 2 in the proof for importance-weighted losses: a number or a tensor [*B]. Rewards in [0, 1].
    Raises ValueError for values outside. Source: Zimmert and Seldin 2021, algorithm 1.
    """
    check_size("arms", arms, low=2)
    check_number("eta", eta, low=0.0, open_low=True)
    return Bandit(
        partial(init, arms=arms, dtype=dtype),
        partial(select, eta=eta),
        partial(update, eta=eta),
        partial(policy, eta=eta),
    )
