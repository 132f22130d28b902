"""Bayesian linear regression with known noise, in covariance form (Bishop 2006, section 3.3), for lanes of posteriors.

With prior precision `ridge` and unit noise, A = ridge I + sum x x', b = sum y x: the mean is A^-1 b, and a score x'w
has variance x' A^-1 x. The inverse is kept up to date by Sherman and Morrison 1950.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.types import Scalar


class State(NamedTuple):
    """Posteriors of weight vectors in d dimensions."""

    covariance: Tensor  # [*B, d, d] float, A^-1, symmetric positive definite
    moment: Tensor  # [*B, d] float, b


class Score(NamedTuple):
    """The posterior of x'w for one feature vector x."""

    mean: Tensor  # [*B] float, reward unit
    variance: Tensor  # [*B] float, >= 0, of unit noise
    direction: Tensor  # [*B, d] float, A^-1 x


def init(batch: tuple[int, ...], *, features: int, ridge: Scalar, dtype: torch.dtype, device: torch.device) -> State:
    """The prior, for each lane of `batch`; ridge > 0 is a number or a tensor that broadcasts against `batch`."""
    eye = torch.eye(features, dtype=dtype, device=device)
    scale = torch.as_tensor(1 / ridge, dtype=dtype, device=device)
    return State(
        (eye * scale[..., None, None]).expand(*batch, features, features).clone(),
        torch.zeros((*batch, features), dtype=dtype, device=device),
    )


def score(state: State, x: Tensor) -> Score:
    """Mean and variance of x'w for x [*B, d]: one pass over the covariance."""
    # A product and a sum, not a batched matrix product: that one's rounding may depend on the number of lanes.
    direction = (state.covariance * x.unsqueeze(-2)).sum(-1)
    return Score((direction * state.moment).sum(-1), (direction * x).sum(-1).clamp(min=0), direction)


def update(state: State, x: Tensor, y: Tensor, weight: Tensor) -> State:
    """One observation y [*B] of x [*B, d], counted where weight [*B] is 1; where it is 0 nothing changes."""
    seen = score(state, x)
    gain = weight / (1 + seen.variance)
    outer = seen.direction.unsqueeze(-1) * seen.direction.unsqueeze(-2)
    return State(
        state.covariance - gain[..., None, None] * outer,
        state.moment + (weight * y).unsqueeze(-1) * x,
    )
