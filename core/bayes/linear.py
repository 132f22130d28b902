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


def init(batch: tuple[int, ...], *, features: int, ridge: Scalar, dtype: torch.dtype, device: torch.device) -> State:
    """The prior, for each lane of `batch`; ridge > 0 is a number or a tensor that broadcasts against `batch`."""
    eye = torch.eye(features, dtype=dtype, device=device)
    scale = torch.as_tensor(1 / ridge, dtype=dtype, device=device)
    return State(
        (eye * scale[..., None, None]).expand(*batch, features, features).clone(),
        torch.zeros((*batch, features), dtype=dtype, device=device),
    )


def score(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance (of unit noise) of x'w for features x [*B, d]: [*B] each."""
    # Sums of products, not batched matrix products, whose rounding may depend on the number of lanes; and both as one
    # sum over d x d, which compiles to one pass over the covariance.
    weighted = state.covariance * x.unsqueeze(-1)
    mean = (weighted * state.moment.unsqueeze(-2)).sum((-2, -1))
    return mean, (weighted * x.unsqueeze(-2)).sum((-2, -1)).clamp(min=0)


def update(state: State, x: Tensor, y: Tensor) -> State:
    """The posterior after one observation y [*B] of features x [*B, d].

    Where rounding has left x'A^-1 x at 0 or below, the covariance stays: shrinking it further would make it indefinite.
    """
    direction = (state.covariance * x.unsqueeze(-1)).sum(-2)
    variance = (direction * x).sum(-1)
    gain = torch.where(variance > 0, 1 / (1 + variance), 0)
    outer = direction.unsqueeze(-1) * direction.unsqueeze(-2)
    return State(state.covariance - gain[..., None, None] * outer, state.moment + y.unsqueeze(-1) * x)
