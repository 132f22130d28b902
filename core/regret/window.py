"""The last values of a stream, for moving averages."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.check import check_key, check_shape, check_size
from armfold.core.regret.lru import read


class Window(NamedTuple):
    """The last W values of a stream in each lane."""

    recent: Tensor  # [*B, W, *S] float, the newest last; 0 in front while there are fewer
    filled: Tensor  # [*B] int64, in [0, W]: how many there are


def window_init(rng: Tensor, *event: int, window: int, dtype: torch.dtype = torch.float32) -> Window:
    """An empty window of W = window >= 1 values of shape *S = event, for each key in rng [*B, 2]."""
    check_key(rng)
    check_size("window", window)
    lanes = rng.shape[:-1]
    return Window(
        torch.zeros((*lanes, window, *event), dtype=dtype, device=rng.device),
        torch.zeros(lanes, dtype=torch.int64, device=rng.device),
    )


def window_mean(state: Window, *, min_samples: int = 1) -> Tensor:
    """The mean [*B, *S] of what a window holds; 0 where that is fewer than min_samples >= 1 values."""
    check_size("min_samples", min_samples)
    lanes = state.filled.ndim
    filled = _meet(state.filled, state.recent.ndim - lanes - 1)
    return torch.where(filled >= min_samples, state.recent.sum(lanes) / filled.clamp(min=1), 0)


def window_push(state: Window, value: Tensor, valid: Tensor | None = None) -> tuple[Window, Tensor]:
    """The window after n values [*B, n, *S] more, and its mean after each of them, [*B, n, *S].

    Values that are not finite or not valid (bool [*B, n]; None: all) are passed over: the mean stays. Raises
    ShapeError for values of other lanes or shape.
    """
    lanes, window = state.filled.ndim, state.recent.shape[state.filled.ndim]
    n, event = value.shape[lanes] if value.ndim > lanes else 0, state.recent.shape[lanes + 1 :]
    check_shape("value", value, (*state.filled.shape, n, *event))
    usable = torch.isfinite(value).reshape(*state.filled.shape, n, math.prod(event)).all(-1)
    if valid is not None:
        check_shape("valid", valid, usable.shape)
        usable = usable & valid
    passed = usable.cumsum(-1)
    # Old values and new ones in a line; one more place at its end takes those that are passed over.
    into = _meet(torch.where(usable, window + passed - 1, window + n), len(event))
    blank = torch.zeros_like(state.recent.narrow(lanes, 0, 1))
    line = torch.cat((state.recent, torch.zeros_like(value, dtype=blank.dtype), blank), lanes)
    line = torch.scatter(line, lanes, into.expand(value.shape), value.to(line.dtype))
    sums = torch.cat((blank, line), lanes).to(torch.float64).cumsum(lanes)
    held = (state.filled.unsqueeze(-1) + passed).clamp(max=window)
    means = (read(sums, window + passed) - read(sums, passed)) / _meet(held.clamp(min=1), len(event))
    fresh = usable.sum(-1)
    last = fresh.unsqueeze(-1) + torch.arange(window, device=value.device)
    return Window(read(line, last), (state.filled + fresh).clamp(max=window)), means.to(line.dtype)


def _meet(x: Tensor, dims: int) -> Tensor:
    return x.reshape((*x.shape, *(1,) * dims))
