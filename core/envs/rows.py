"""A data set of contexts with the expected reward of every arm; and the walk over rows that data sets share."""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_values
from armfold.core.envs.arms import coin
from armfold.core.types import BanditEnv

Context = Literal["shared", "blocks"]


class State(NamedTuple):
    """Where each lane is in its own shuffle of the rows."""

    order: Tensor  # [*B, R] int32, rows in the order in which this lane meets them
    position: Tensor  # [*B] int64, in [0, R)


def init(rng: Tensor, *, rows: int) -> State:
    """A permutation of the rows for each lane of rng [*B, 2]."""
    order = random.permutation(rng, rows).to(torch.int32)
    return State(order, torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device))


def advance(state: State) -> State:
    """The next row, round and round."""
    return State(state.order, (state.position + 1) % state.order.shape[-1])


def read(state: State, values: Tensor) -> Tensor:
    """Of values [R, *S], those of the row that each lane is at: [*B, *S]."""
    row = state.order.gather(-1, state.position.unsqueeze(-1)).to(torch.int64)
    return values[row].squeeze(state.position.ndim)  # a dimension more: a 0-dim index would be read on the host


def observe_own(state: State, *, x: Tensor) -> Tensor:
    """The features that each arm has in the row, [*B, K, d]."""
    return read(state, x)


def observe_shared(state: State, *, x: Tensor, arms: int) -> Tensor:
    """The row's features, the same for every arm: [*B, K, d]."""
    features = read(state, x)
    return features.unsqueeze(-2).expand(*features.shape[:-1], arms, features.shape[-1])


def observe_blocks(state: State, *, x: Tensor, arms: int) -> Tensor:
    """The row's features in the arm's own block of a longer vector, zeros elsewhere: [*B, K, K d]."""
    features = read(state, x)
    eye = torch.eye(arms, dtype=x.dtype, device=x.device)
    return (eye.unsqueeze(-1) * features[..., None, None, :]).flatten(-2)


def choose_observe(x: Tensor, arms: int, context: Context) -> partial[Tensor]:
    """The `observe` for features x: [R, d] for all arms, shown as `context` says, or [R, K, d] of their own."""
    if context not in ("shared", "blocks"):
        raise ValueError(f"context must be 'shared' or 'blocks', got {context!r}")
    if x.ndim == 3:
        if context != "shared":
            raise ValueError(f"context must be 'shared' where x has features for each arm, got {context!r}")
        return partial(observe_own, x=x)
    return partial(observe_shared if context == "shared" else observe_blocks, x=x, arms=arms)


def means(state: State, *, p: Tensor) -> Tensor:
    """Expected rewards in this row, [*B, K]."""
    return read(state, p)


def pull(state: State, rng: Tensor, action: Tensor, *, p: Tensor) -> tuple[State, Tensor]:
    """A coin of the pulled arm in this row; then the next row, round and round."""
    return advance(state), coin(rng, read(state, p), action)


def dataset(*, x: Tensor, p: Tensor, context: Context = "shared") -> BanditEnv:
    """Contexts with the chance of a reward for every arm. Each lane walks its own permutation, again and again.

    p: chances of a reward of 1, else 0, in [0, 1], floating [R, K] with K >= 2. x: features, floating [R, d], or
    [R, K, d] with some for each arm. context, for x [R, d]: "shared" shows every arm the same d features, "blocks"
    K d of them, one block for each arm. Raises ShapeError and ValueError.
    Source: Li, Chu, Langford and Schapire 2010, section 5.
    """
    if p.ndim != 2 or not p.is_floating_point() or p.shape[0] == 0 or p.shape[1] < 2:
        raise ShapeError(f"p must be floating [R, K] with R >= 1 and K >= 2, got {p.dtype} {tuple(p.shape)}")
    rows, arms = p.shape
    if not x.is_floating_point() or tuple(x.shape[:-1]) not in ((rows,), (rows, arms)):
        raise ShapeError(f"x must be floating [{rows}, d] or [{rows}, {arms}, d], got {x.dtype} {tuple(x.shape)}")
    check_values("p", p, low=0, high=1)
    p = p.to(torch.float32)
    return BanditEnv(
        partial(init, rows=rows), choose_observe(x, arms, context), partial(means, p=p), partial(pull, p=p)
    )
