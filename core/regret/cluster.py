"""k-means in mini-batches, for embeddings that come as they are learned (Sculley 2010, algorithm 1)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import ShapeError, check_key, check_number, check_size
from armfold.core.regret.lru import read
from armfold.core.types import Scalar, per_lane

_LEAST = 0.5  # rows: a cluster that counts for fewer is empty


class KMeans(NamedTuple):
    """M clusters of points in d dimensions."""

    centre: Tensor  # [*B, M, d] float, the mean of the rows of each cluster; 0 where it never had any
    weight: Tensor  # [*B, M] float64, rows that the mean counts for; a cluster of less than 1/2 is empty


def kmeans_init(rng: Tensor, x: Tensor, *, clusters: int = 100) -> KMeans:
    """M = clusters >= 1 rows of x [*B, n, d] float as centres, drawn by the keys rng [*B, 2], far from one another.

    The first is any row. Then, of a few rows drawn with probability proportional to their squared distance from the
    centres so far, the one that leaves the least of it is the next. Where there are fewer distinct rows than clusters,
    or none, the rest is empty until `kmeans_step` meets more; rows that are not finite are ignored.
    Source: Arthur and Vassilvitskii 2007 (k-means++, greedy as in their section 7).
    """
    check_size("clusters", clusters)
    if not x.is_floating_point() or x.ndim < 2:
        raise ShapeError(f"x must be floating of shape (*B, n, d), got {x.dtype} {tuple(x.shape)}")
    check_key(rng, x.shape[:-2])
    *lanes, n, features = x.shape
    if n == 0:
        weight = torch.zeros((*lanes, clusters), dtype=torch.float64, device=x.device)
        return KMeans(torch.zeros((*lanes, clusters, features), dtype=x.dtype, device=x.device), weight)
    x, usable = _usable(x)
    gap, tries = usable.to(x.dtype), 2 + int(math.log(clusters))
    centres, weights = [], []
    for i, key in enumerate(random.split(rng, clusters)):
        row = masked.draw(random.split(key, tries).movedim(0, -2), gap.unsqueeze(-2).expand(*lanes, tries, n))
        centre = read(x, row.clamp(min=0))
        distance = torch.where(usable.unsqueeze(-2), _square(x.unsqueeze(-3) - centre.unsqueeze(-2)), 0)
        gaps = torch.minimum(gap.unsqueeze(-2), distance) if i else distance
        best = gaps.sum(-1).argmin(-1) if i else torch.zeros_like(row[..., 0])  # the first is any row
        gap = masked.take(gaps, best)
        drawn = masked.take(row, best) >= 0
        centres.append(torch.where(drawn.unsqueeze(-1), masked.take(centre, best), 0))
        weights.append(drawn.to(torch.float64))
    return KMeans(torch.stack(centres, -2), torch.stack(weights, -1))


def kmeans_step(state: KMeans, rng: Tensor, x: Tensor, *, decay: Scalar = 1.0) -> KMeans:
    """The clusters after n more rows x [*B, n, d]: each centre moves to the mean of all rows that it has won.

    decay in [0, 1], a number or a tensor [*B]: all weights are multiplied by it first, so that below 1 old rows fade.
    A cluster that is empty then and nearest to no row takes one that is no centre, drawn as in `kmeans_init` by the
    keys rng [*B, 2], but all of them at once; then each row is won by the nearest centre. Rows that are not finite are
    ignored.
    """
    check_number("decay", decay, low=0.0, high=1.0)
    check_key(rng, state.weight.shape[:-1])
    _check_rows(state, x)
    if x.shape[-2] == 0:
        return state
    clusters, faded = state.weight.shape[-1], state.weight * per_lane(decay, torch.float64)
    nearest = _nearest(state.centre, state.weight >= _LEAST, x)
    empty = (faded < _LEAST) & ~masked.one_hot(nearest, clusters).any(-2)
    centre, seeded = _seed(state.centre, empty, nearest, rng, x)
    nearest = _nearest(centre, ~empty | seeded, x)
    won = masked.one_hot(nearest, clusters).to(x.dtype)
    weight = torch.where(seeded, 0, faded) + won.sum(-2)
    # From the centre that each row joins: sums of rows would lose digits where the points lie far from 0.
    moved = won.mT @ _offset(centre, x, nearest)
    return KMeans(centre + moved / torch.where(weight > 0, weight, 1).to(x.dtype).unsqueeze(-1), weight)


def kmeans_assign(state: KMeans, x: Tensor) -> Tensor:
    """The nearest cluster of rows x [*B, d] or [*B, n, d]: int64 [*B] or [*B, n], in [0, M); -1 for a row that is not
    finite, and where all clusters are empty."""
    rows = x if x.ndim > state.weight.ndim else x.unsqueeze(-2)
    _check_rows(state, rows)
    nearest = _nearest(state.centre, state.weight >= _LEAST, rows)
    return nearest if rows is x else nearest.squeeze(-1)


def kmeans_inertia(state: KMeans, x: Tensor) -> Tensor:
    """Mean squared distance [*B] of rows x [*B, n, d] from their nearest centres; 0 without rows that have one."""
    _check_rows(state, x)
    nearest = _nearest(state.centre, state.weight >= _LEAST, x)
    return _square(_offset(state.centre, x, nearest)).sum(-1) / (nearest >= 0).sum(-1).clamp(min=1)


def _check_rows(state: KMeans, x: Tensor) -> None:
    *lanes, _, features = state.centre.shape
    if x.dtype != state.centre.dtype or x.ndim != len(lanes) + 2 or (*x.shape[:-2], x.shape[-1]) != (*lanes, features):
        raise ShapeError(
            f"x must be {state.centre.dtype} of shape {(*lanes, 'n', features)}, got {x.dtype} {tuple(x.shape)}"
        )


def _usable(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [*B, n, d] with rows that are not finite at 0, and which ones are finite, bool [*B, n]."""
    usable = torch.isfinite(x).all(-1)
    return torch.where(usable.unsqueeze(-1), x, 0), usable


def _square(x: Tensor) -> Tensor:
    return (x * x).sum(-1)


def _nearest(centre: Tensor, held: Tensor, x: Tensor) -> Tensor:
    """The nearest of the centres [*B, M, d] that are `held` [*B, M], int64 [*B, n]; -1 for rows x [*B, n, d] that are
    not finite, or where none is held."""
    x, usable = _usable(x)
    # Distances from a point amid the centres: products of coordinates would lose digits far from 0.
    parts = torch.where(held.unsqueeze(-1), centre, 0)
    middle = parts.sum(-2, keepdim=True) / held.sum(-1).clamp(min=1)[..., None, None]
    parts = parts - middle
    length = torch.where(held, _square(parts), torch.inf)
    nearest = (length.unsqueeze(-2) - 2 * ((x - middle) @ parts.mT)).argmin(-1)
    return torch.where(usable & held.any(-1, keepdim=True), nearest, -1)


def _offset(centre: Tensor, x: Tensor, nearest: Tensor) -> Tensor:
    """x less the centre of its cluster, [*B, n, d]; 0 for rows of none."""
    offset = x - read(centre, nearest.clamp(min=0))
    return torch.where((nearest >= 0).unsqueeze(-1), offset, 0)


def _seed(centre: Tensor, empty: Tensor, nearest: Tensor, rng: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The centres [*B, M, d] with `empty` ones [*B, M] put on rows of x [*B, n, d], whose `nearest` is [*B, n], and
    which ones found a row, bool [*B, M]."""
    most = min(x.shape[-2], empty.shape[-1])
    x, usable = _usable(x)
    # Rows sorted by log weight and Gumbel noise come in the order of draws without replacement (Efraimidis 2006).
    gap = torch.where(nearest >= 0, _square(_offset(centre, x, nearest)), usable.to(x.dtype))
    drawn = torch.topk(torch.log(gap) + random.gumbel(rng, gap.shape[-1:], dtype=x.dtype), most, dim=-1)
    turn = empty.cumsum(-1) - 1
    seeded = empty & (turn < most) & (read(drawn.values, turn.clamp(min=0)) > -torch.inf)
    row = read(drawn.indices, turn.clamp(min=0))
    return torch.where(seeded.unsqueeze(-1), read(x, row), centre), seeded
