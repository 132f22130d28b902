"""Confidence intervals of any `Estimate`. They measure chance, not bias."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_key, check_number, check_size
from armfold.core.ope.estimate import Estimate

_DRAWS = 2**16  # resampled rows held at a time: the words they are drawn from should stay in a core's caches


class Interval(NamedTuple):
    """Two ends."""

    low: Tensor  # [*B] float64, reward unit
    high: Tensor  # [*B] float64, reward unit


def _check_level(level: float) -> None:
    check_number("level", level, low=0.0, high=1.0, open_low=True)
    if level == 1:
        raise ValueError(f"level must be below 1, got {level}")


def _deviations(level: float, like: Tensor) -> Tensor:
    """Half the width of a two-sided normal interval, in standard deviations, [] float64."""
    deviations: Tensor = torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=like.dtype, device=like.device))
    return deviations


def _influence(estimate: Estimate) -> Tensor:
    """How far each row moves the value, times the sum of the weights: [*B, n]."""
    return estimate.term - estimate.value.unsqueeze(-1) * estimate.weight


def normal(estimate: Estimate, level: float = 0.95) -> Interval:
    """value -+ z standard errors, by the delta method where the estimate is a ratio. For many rows. NaN for one row.

    Source: the central limit theorem; ratios: Cochran 1977, chapter 6.
    """
    _check_level(level)
    rows = estimate.term.shape[-1]
    spread = (_influence(estimate) ** 2).sum(-1) * (rows / (rows - 1) if rows > 1 else math.nan)
    width = _deviations(level, spread) * torch.sqrt(spread) / estimate.weight.sum(-1)
    return Interval(estimate.value - width, estimate.value + width)


def bootstrap(estimate: Estimate, rng: Tensor, level: float = 0.95, resamples: int = 1000) -> Interval:
    """Quantiles of the value over `resamples` drawings of n rows with replacement, corrected for bias and skewness
    (BCa), for keys rng [*B, 2]. A drawing without any weight counts as the value itself.

    Source: Efron 1987, JASA.
    """
    _check_level(level)
    check_size("resamples", resamples)
    check_key(rng, estimate.value.shape)
    values = _resample(estimate, random.split(rng, resamples)).sort(-1).values
    centre = estimate.value.unsqueeze(-1)
    below = ((values < centre).to(values.dtype) + 0.5 * (values == centre).to(values.dtype)).mean(-1)
    bias = torch.special.ndtri(below.clamp(0.5 / resamples, 1 - 0.5 / resamples))
    moved = _influence(estimate)
    square = (moved**2).sum(-1)
    skew = torch.where(square > 0, (moved**3).sum(-1) / (6 * square**1.5), 0)
    width = _deviations(level, bias)
    shares = (torch.special.ndtr(bias + x / (1 - skew * x)) for x in (bias - width, bias + width))
    return Interval(*(_quantile(values, share) for share in shares))


def _resample(estimate: Estimate, keys: Tensor) -> Tensor:
    """The value of one drawing of rows for each key of [resamples, *B, 2]: [*B, resamples]."""
    rows = estimate.term.shape[-1]
    drawings = []
    for some in torch.split(keys, max(1, _DRAWS // estimate.term.numel())):
        row = random.randint(some, (rows,), high=rows)
        term, weight = (x.expand(row.shape).gather(-1, row).sum(-1) for x in estimate[1:])
        drawings.append(torch.where(weight > 0, term / weight, estimate.value))
    return torch.cat(drawings).movedim(0, -1)


def _quantile(ordered: Tensor, share: Tensor) -> Tensor:
    """The quantile [*B] of values [*B, R] in order, at a share [*B]; between two values, on a straight line."""
    last = ordered.shape[-1] - 1
    place = (share * last).clamp(0, last).unsqueeze(-1)
    under = torch.where(place == place, place, 0).to(torch.int64)
    low, high = ordered.gather(-1, under), ordered.gather(-1, (under + 1).clamp(max=last))
    return (low + (place - under) * (high - low)).squeeze(-1)


def empirical_bernstein(estimate: Estimate, low: float, high: float, level: float = 0.95) -> Interval:
    """An interval that holds with probability `level` for any number of independent terms in [low, high], which must
    be known beforehand. It is cut to [low, high].

    For plain means, and for means over rows that count or not, as replay's. Raises ValueError for other weights, and
    for a term outside [low, high]: it reads the tensors, so it is not for traced code.

    Source: Maurer and Pontil 2009, theorem 4, for both sides.
    """
    _check_level(level)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low and high must be finite with low < high, got {low}, {high}")
    counted = estimate.weight == 1
    if not bool((counted | (estimate.weight == 0)).all()):
        raise ValueError("estimate must be a mean: a ratio such as snips has no empirical Bernstein interval")
    outside = counted & ~((estimate.term >= low) & (estimate.term <= high))
    if bool(outside.any()):
        raise ValueError(f"terms must lie in [{low:g}, {high:g}], got {estimate.term[outside][0].item():g}")
    rows = estimate.weight.sum(-1)
    spread = (_influence(estimate) ** 2).sum(-1) / (rows - 1)
    log_risk = math.log(4 / (1 - level))
    width = torch.sqrt(2 * spread * log_risk / rows) + 7 * (high - low) * log_risk / (3 * (rows - 1))
    width = torch.where(rows > 1, width, torch.inf)
    value = torch.where(rows > 0, estimate.value, low)
    return Interval((value - width).clamp(min=low), (value + width).clamp(max=high))
