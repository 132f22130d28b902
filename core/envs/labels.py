"""A labelled data set as a bandit: the arms are the classes, and the right one pays 1."""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_action, check_key, check_size, check_values
from armfold.core.types import BanditEnv


class State(NamedTuple):
    """Where each lane is in its own shuffle of the rows."""

    order: Tensor  # [*B, R] int32, rows in the order in which this lane meets them
    position: Tensor  # [*B] int64, in [0, R)


def init(rng: Tensor, *, rows: int) -> State:
    """A permutation of the rows for each lane of rng [*B, 2]."""
    order = random.permutation(rng, rows).to(torch.int32)
    return State(order, torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device))


def row(state: State) -> Tensor:
    """The row that each lane is at, int64 [*B]."""
    return state.order.gather(-1, state.position.unsqueeze(-1)).squeeze(-1).to(torch.int64)


def observe_shared(state: State, *, x: Tensor, arms: int) -> Tensor:
    """The row's features, the same for every arm: [*B, K, d]."""
    features = x[row(state)]
    return features.unsqueeze(-2).expand(*features.shape[:-1], arms, features.shape[-1])


def observe_blocks(state: State, *, x: Tensor, arms: int) -> Tensor:
    """The row's features in the arm's own block of a longer vector, zeros elsewhere: [*B, K, K d]."""
    features = x[row(state)]
    eye = torch.eye(arms, dtype=x.dtype, device=x.device)
    return (eye.unsqueeze(-1) * features[..., None, None, :]).flatten(-2)


def means(state: State, *, y: Tensor, arms: int) -> Tensor:
    """1 for the arm of the row's class and 0 for the others, [*B, K]."""
    return (torch.arange(arms, device=y.device) == y[row(state)].unsqueeze(-1)).to(torch.float32)


def pull(state: State, rng: Tensor, action: Tensor, *, y: Tensor, arms: int) -> tuple[State, Tensor]:
    """1 for the right class, 0 for another, NaN for an action outside [0, K); then the next row, round and round."""
    check_action(action, state.position.shape)
    check_key(rng, state.position.shape)
    reward = (action == y[row(state)]).to(torch.float32)
    reward = torch.where((action >= 0) & (action < arms), reward, torch.nan)
    return State(state.order, (state.position + 1) % state.order.shape[-1]), reward


def classification(*, x: Tensor, y: Tensor, arms: int, context: Literal["shared", "blocks"] = "shared") -> BanditEnv:
    """A labelled data set: pull the right class and be paid 1. Each lane walks its own permutation, again and again.

    x: features, floating [R, d]; y: classes in [0, K), int64 [R]; arms: K >= 2. context: "shared" shows every arm
    the same d features, "blocks" K d of them, one block for each arm. Raises ShapeError and ValueError.
    Source: Dudik, Langford and Li 2011, section 4.
    """
    check_size("arms", arms, low=2)
    if x.ndim != 2 or not x.is_floating_point() or x.shape[0] == 0:
        raise ShapeError(f"x must be floating [R, d] with R >= 1, got {x.dtype} {tuple(x.shape)}")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ShapeError(f"y must be int64 of shape {tuple(x.shape[:1])}, got {y.dtype} {tuple(y.shape)}")
    check_values("y", y, low=0, high=arms - 1)
    if context not in ("shared", "blocks"):
        raise ValueError(f"context must be 'shared' or 'blocks', got {context!r}")
    observe = observe_shared if context == "shared" else observe_blocks
    return BanditEnv(
        partial(init, rows=x.shape[0]),
        partial(observe, x=x, arms=arms),
        partial(means, y=y, arms=arms),
        partial(pull, y=y, arms=arms),
    )
