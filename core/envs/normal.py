"""Gaussian arms of known spread. Rewards are unbounded."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key, check_number, check_size
from armfold.core.envs.arms import fixed, pick
from armfold.core.types import BanditEnv, Scalar, per_lane


class State(NamedTuple):
    """The arms of each lane."""

    mean: Tensor  # [*B, K] float32, reward unit


def init_fixed(rng: Tensor, *, mean: Tensor) -> State:
    """The means [K], or [*B, K], in every lane of rng [*B, 2]."""
    return State(fixed("mean", mean, rng))


def init_normal(rng: Tensor, *, arms: int) -> State:
    """Means from N(0, 1), drawn for each lane of rng [*B, 2]."""
    return State(random.normal(rng, (arms,)))


def observe(state: State) -> None:
    """No context."""
    return None


def means(state: State) -> Tensor:
    """Expected rewards, [*B, K]."""
    return state.mean.clone()


def pull(state: State, rng: Tensor, action: Tensor, *, std: Scalar = 1.0) -> tuple[State, Tensor]:
    """The pulled arm's mean plus N(0, std^2); the noise depends on the key and the arm alone."""
    check_key(rng, state.mean.shape[:-1])
    return state, pick(state.mean, action) + per_lane(std, torch.float32, 0) * random.normal(random.skip(rng, action))


def gaussian(*, mean: Sequence[float] | Tensor | None = None, arms: int | None = None, std: Scalar = 1.0) -> BanditEnv:
    """Gaussian arms that stay: means as given, or from N(0, 1) for each lane.

    mean: K >= 2 numbers in the reward's unit, or a tensor [K] or [*B, K]; or arms: K. std >= 0, in the reward's
    unit: a number or a tensor [*B]. Raises ValueError for values that are not finite.
    Source: Sutton and Barto 2018, section 2.3.
    """
    check_number("std", std, low=0.0)
    step = partial(pull, std=std)
    if mean is None and arms is not None:
        check_size("arms", arms, low=2)
        return BanditEnv(partial(init_normal, arms=arms), observe, means, step)
    if mean is None or arms is not None:
        raise ValueError(f"give either mean or arms, got mean={mean!r}, arms={arms!r}")
    if not isinstance(mean, Tensor):
        for i, value in enumerate(mean):
            check_number(f"mean[{i}]", value)
        mean = torch.tensor(tuple(mean), dtype=torch.float32)
    if mean.ndim == 0 or mean.shape[-1] < 2 or not mean.is_floating_point():
        raise ShapeError(f"mean must be floating [K] or [*B, K] with K >= 2, got {mean.dtype} {tuple(mean.shape)}")
    return BanditEnv(partial(init_fixed, mean=mean), observe, means, step)
