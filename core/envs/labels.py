"""A labelled data set as a bandit: the arms are the classes, and the right one pays 1."""

from functools import partial

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_action, check_key, check_size, check_values
from armfold.core.envs.rows import Context, State, advance, choose_observe, init, read
from armfold.core.types import BanditEnv


def means(state: State, *, y: Tensor, arms: int) -> Tensor:
    """1 for the arm of the row's class and 0 for the others, [*B, K]."""
    return (torch.arange(arms, device=y.device) == read(state, y).unsqueeze(-1)).to(torch.float32)


def pull(state: State, rng: Tensor, action: Tensor, *, y: Tensor, arms: int) -> tuple[State, Tensor]:
    """1 for the right class, 0 for another, NaN for an action outside [0, K); then the next row, round and round."""
    check_action(action, state.position.shape)
    check_key(rng, state.position.shape)
    reward = (action == read(state, y)).to(torch.float32)
    return advance(state), torch.where((action >= 0) & (action < arms), reward, torch.nan)


def classification(*, x: Tensor, y: Tensor, arms: int, context: Context = "shared") -> BanditEnv:
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
    return BanditEnv(
        partial(init, rows=x.shape[0]),
        choose_observe(x, arms, context),
        partial(means, y=y, arms=arms),
        partial(pull, y=y, arms=arms),
    )
