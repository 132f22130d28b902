"""What a step tells of its lanes: everything, a summary, or nothing. No mode waits for the device."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.pixels.frames import check_mask

InfoMode = Literal["full", "stats", "none"]


class FullInfo(NamedTuple):
    """Every lane."""

    dist: Tensor | None  # [*B, N] float, in [0, 1]: distances from the goal; None: there is no goal
    reset_mask: Tensor  # [*B, N] bool: lanes that begin again


class StatsInfo(NamedTuple):
    """A summary of N lanes, of the same size for any N. Quantiles lie on straight lines between lanes.

    They sort the N distances, and a sort allocates at every step, compiled or not.
    """

    dist_mean: Tensor | None  # [*B] float; None, as the other three: there is no goal
    dist_p10: Tensor | None  # [*B] float, a tenth of the lanes is nearer to the goal
    dist_p50: Tensor | None  # [*B] float
    dist_p90: Tensor | None  # [*B] float
    done_rate: Tensor  # [*B] float32, share of lanes that reached the goal
    trunc_rate: Tensor  # [*B] float32, share of lanes cut off
    reset_rate: Tensor  # [*B] float32, share of lanes that begin again


class NoInfo(NamedTuple):
    """Nothing."""


def check_info_mode(info_mode: str) -> None:
    """Raise ValueError unless `info_mode` is "full", "stats" or "none"."""
    if info_mode not in get_args(InfoMode):
        raise ValueError(f"info_mode must be one of {', '.join(get_args(InfoMode))}, got {info_mode!r}")


def step_info(
    info_mode: InfoMode, dist: Tensor | None, terminated: Tensor, truncated: Tensor, *, reset_mask: Tensor | None = None
) -> FullInfo | StatsInfo | NoInfo:
    """What a step tells of N >= 1 lanes, in the mode "full", "stats" or "none".

    dist float [*B, N], or None: there is no goal; the others bool [*B, N]. reset_mask None: lanes that ended begin
    again, and no others. `_asdict()` of the result has the keys that a log wants.

    Statistics are over the last dimension. Their quantiles interpolate linearly, as NumPy's do by default; where a
    distance is NaN, all four of dist are. Raises ShapeError, and ValueError for another mode.
    """
    check_info_mode(info_mode)
    shape = terminated.shape
    if terminated.ndim == 0 or shape[-1] == 0:
        raise ShapeError(f"terminated must have shape (*B, N) with N >= 1, got {tuple(shape)}")
    if dist is not None and (not dist.is_floating_point() or dist.shape != shape):
        raise ShapeError(f"dist must be floating of shape {tuple(shape)}, got {dist.dtype} {tuple(dist.shape)}")
    check_mask("terminated", terminated, shape)
    check_mask("truncated", truncated, shape)
    reset_mask = terminated | truncated if reset_mask is None else reset_mask
    check_mask("reset_mask", reset_mask, shape)
    if info_mode == "none":
        return NoInfo()
    if info_mode == "full":
        return FullInfo(dist, reset_mask)
    rates = (_mean(x) for x in (terminated, truncated, reset_mask))
    return StatsInfo(*(_distances(dist) if dist is not None else (None,) * 4), *rates)


def _mean(x: Tensor) -> Tensor:
    """The mean over the last dimension, summed in float64 so that devices hardly differ; float32 of bools."""
    return x.mean(-1, dtype=torch.float64).to(x.dtype if x.is_floating_point() else torch.float32)


def _distances(dist: Tensor) -> tuple[Tensor, ...]:
    # A sort, though it allocates: counting lanes below a bound, 30 times, gives the same without, but takes twice as
    # long for 256 lanes (27 against 15 microseconds, compiled), fifteen times eagerly, and seconds more to compile.
    ordered = dist.sort(-1).values
    last = ordered[..., -1]  # a NaN, where there is one
    return _mean(dist), *(torch.where(last == last, _quantile(ordered, tenths), last) for tenths in (1, 5, 9))


def _quantile(ordered: Tensor, tenths: int) -> Tensor:
    """The quantile [*B] at tenths / 10 of values [*B, N] in order; between two values, on a straight line."""
    last = ordered.shape[-1] - 1
    under, rest = tenths * last // 10, tenths * last % 10
    low, high = ordered[..., under], ordered[..., min(under + 1, last)]
    return low + (high - low) * (rest / 10)
