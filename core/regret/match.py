"""Regret matching: play in proportion to what was missed."""

from typing import Any

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_shape


def kind(x: Any) -> str:
    """What came in place of a tensor that was wanted: its dtype and shape, or the value itself."""
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)


def check_rows(name: str, x: Tensor, legal: Tensor | None) -> None:
    """Raise ShapeError unless `x` is floating [*B, A] with A >= 1, and `legal` None or a bool tensor of its shape."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"{name} must be floating of shape (*B, A), got {kind(x)}")
    if legal is not None:
        if legal.dtype != torch.bool:
            raise ShapeError(f"legal must have dtype torch.bool, got {legal.dtype}")
        check_shape("legal", legal, x.shape)


def regret_match(r: Tensor, legal: Tensor | None = None) -> Tensor:
    """Probabilities [*B, A] proportional to the positive part of `r`, uniform over what is legal where none is.

    r [*B, A] float, in any unit; legal bool [*B, A], or None: all. Illegal entries are 0, and NaN counts as illegal;
    where nothing is legal the row is all 0. Entries above 1 / A of the dtype's largest number, infinite ones too, count
    as that, so that they have a sum.
    Source: Hart and Mas-Colell 2000, Econometrica; at information sets: Zinkevich et al. 2007, equation 8.
    """
    check_rows("r", r, legal)
    usable = r == r  # not NaN; torch.isnan has no vector code on CPUs
    if legal is not None:
        usable = usable & legal
    # The bound keeps the sum finite, whatever r holds.
    positive = torch.where(usable, r, 0).clamp(0, torch.finfo(r.dtype).max / r.shape[-1])
    total = positive.sum(-1, keepdim=True)
    even = usable.to(r.dtype)
    # Divisors that are never 0: the branch that is not taken must have a gradient too.
    return torch.where(
        total > 0,
        positive / torch.where(total > 0, total, 1),
        even / even.sum(-1, keepdim=True).clamp(min=1),
    )
