"""Inverse gap weighting over a linear model of the reward: the further an arm seems behind, the rarer it is played."""

from functools import partial

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits.linear import scores, update
from armfold.core.bandits.linear_models import Kind, Model, State, linear_model
from armfold.core.check import check_number
from armfold.core.types import Bandit, Scalar, per_lane


def gap_weights(mean: Tensor, rate: Tensor, available: Tensor | None) -> Tensor:
    """Probabilities [*B, K]: 1 / (K + rate gap) for an arm whose mean [*B, K] is a gap behind the best, and the rest to
    the best (shared where tied), over the K usable arms; rate [*B] >= 0."""
    best = masked.argmax_probs(mean, available)
    usable = mean == mean if available is None else available & (mean == mean)
    top = torch.where(usable, mean, -torch.inf).amax(-1, keepdim=True)
    arms = usable.to(mean.dtype).sum(-1, keepdim=True)
    weights = torch.where(usable, 1 / (arms + rate.unsqueeze(-1) * (top - mean)), 0)
    return weights + (1 - weights.sum(-1, keepdim=True)).clamp(min=0) * best


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    gamma: Scalar = 10.0,
    exponent: Scalar = 0.5,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K], at rate gamma t^exponent. `samples` is not used."""
    mean, _ = scores(state, rng, obs, model, available)
    time = 1 + state.pulls.to(mean.dtype).sum(-1)
    rate = per_lane(gamma, mean.dtype, 0) * torch.exp(per_lane(exponent, mean.dtype, 0) * torch.log(time))
    return gap_weights(mean, rate, available)


def select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    gamma: Scalar = 10.0,
    exponent: Scalar = 0.5,
    available: Tensor | None = None,
) -> Tensor:
    """An arm from the law of `policy`: int64 [*B]."""
    return masked.draw(rng, policy(state, rng, obs, model=model, gamma=gamma, exponent=exponent, available=available))


def square_cb(
    *,
    arms: int,
    features: int,
    gamma: Scalar = 10.0,
    exponent: Scalar = 0.5,
    ridge: Scalar = 1.0,
    model: Kind = "disjoint",
    shared_features: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """SquareCB: inverse gap weighting, at rate gamma t^exponent, over ridge regression.

    arms: K >= 2; features: d >= 1. gamma > 0 in 1/reward unit, exponent >= 0 (1/2 for a finite class), ridge > 0;
    each a number or a tensor [*B]. model, shared_features: see `linear_models.linear_model`. Raises ValueError for
    values outside, ShapeError for contexts that are not [*B, K, d].
    Source: Foster and Rakhlin 2020, algorithm 1; Abe and Long 1999.
    """
    check_number("gamma", gamma, low=0.0, open_low=True)
    check_number("exponent", exponent, low=0.0)
    made = linear_model(model, arms=arms, features=features, ridge=ridge, shared_features=shared_features, dtype=dtype)
    return Bandit(
        made.init,
        partial(select, model=made, gamma=gamma, exponent=exponent),
        partial(update, model=made),
        partial(policy, model=made, gamma=gamma, exponent=exponent),
    )
