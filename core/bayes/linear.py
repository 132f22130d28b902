"""Bayesian linear regression with known noise (Bishop 2006, section 3.3), for lanes of posteriors.

With prior precision `ridge` and unit noise, A = ridge I + sum w x x': the mean is A^-1 (sum w y x), and a score x'b has
variance x' A^-1 x. What is kept is a square root S of the covariance, A^-1 = S S', updated by Potter's formula (Bierman
1977, section 5.2): it costs what Sherman and Morrison's does and cannot lose definiteness, whatever is rounded.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.types import Scalar


class State(NamedTuple):
    """Posteriors of weight vectors in d dimensions."""

    root: Tensor  # [*B, d, d] float, S: the covariance is S S', of unit noise
    mean: Tensor  # [*B, d] float


def init(batch: tuple[int, ...], *, features: int, ridge: Scalar, dtype: torch.dtype, device: torch.device) -> State:
    """The prior, for each lane of `batch`; ridge > 0 is a number or a tensor that broadcasts against `batch`."""
    eye = torch.eye(features, dtype=dtype, device=device)
    scale = torch.as_tensor(1 / ridge, dtype=dtype, device=device).sqrt()
    return State(
        (eye * scale[..., None, None]).expand(*batch, features, features).clone(),
        torch.zeros((*batch, features), dtype=dtype, device=device),
    )


def fit(x: Tensor, y: Tensor, *, ridge: Scalar, dtype: torch.dtype = torch.float32) -> State:
    """The posterior after n observations at once, x [*B, n, d] and y [*B, n]: sums and a factorisation in float64.

    Also what a posterior of many float32 updates may be refreshed with, by one who has kept the data or its sums.
    """
    x, y = x.to(torch.float64), y.to(torch.float64)
    eye = torch.eye(x.shape[-1], dtype=torch.float64, device=x.device)
    return factor(x.mT @ x + torch.as_tensor(ridge)[..., None, None] * eye, (x.mT @ y.unsqueeze(-1)).squeeze(-1), dtype)


def factor(precision: Tensor, moment: Tensor, dtype: torch.dtype = torch.float32) -> State:
    """The posterior of precision A [*B, d, d], positive definite, and moment sum w y x [*B, d]."""
    lower = torch.linalg.cholesky(precision.to(torch.float64))
    eye = torch.eye(lower.shape[-1], dtype=torch.float64, device=lower.device).expand_as(lower)
    root = torch.linalg.solve_triangular(lower, eye, upper=False).mT
    mean = torch.cholesky_solve(moment.to(torch.float64).unsqueeze(-1), lower).squeeze(-1)
    return State(root.to(dtype).contiguous(), mean.to(dtype))


def project(root: Tensor, x: Tensor) -> Tensor:
    """S'x, [*B, d]: its square is the variance of the score x'b."""
    # A sum of products, not a batched matrix product, whose rounding may depend on the number of lanes.
    return (root * x.unsqueeze(-1)).sum(-2)


def score(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance (of unit noise) of x'b for features x [*B, d]: [*B] each."""
    projected = project(state.root, x)
    return (state.mean * x).sum(-1), (projected * projected).sum(-1)


def absorb(root: Tensor, x: Tensor, weight: Scalar = 1.0) -> tuple[Tensor, Tensor]:
    """The root after an observation of x [*B, d], and the gain [*B, d] by which its error moves the mean.

    weight [*B] >= 0 is the observation's precision, 1 / noise variance.
    """
    projected = project(root, x)
    stretch = 1 + weight * (projected * projected).sum(-1)
    by = torch.sqrt(stretch)
    direction = (root * projected.unsqueeze(-2)).sum(-1)
    shrink = (weight / (stretch + by)).unsqueeze(-1) * direction
    return root - shrink.unsqueeze(-1) * projected.unsqueeze(-2), (weight / stretch).unsqueeze(-1) * direction


def update(state: State, x: Tensor, y: Tensor, weight: Scalar = 1.0) -> State:
    """The posterior after one observation y [*B] of features x [*B, d], of precision weight [*B] >= 0."""
    root, gain = absorb(state.root, x, weight)
    error = y - (state.mean * x).sum(-1)
    return State(root, state.mean + error.unsqueeze(-1) * gain)
