"""Checks of shapes, dtypes and Python tunables. Plain `raise`, so they hold under `python -O` and trace away."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class ShapeError(ValueError, AssertionError):
    """A tensor has the wrong shape or dtype. The message names the argument, what was wanted and what came."""


def check_shape(name: str, value: Tensor, expected: Sequence[int]) -> None:
    """Raise ShapeError unless `value` has exactly the shape `expected`."""
    if tuple(value.shape) != tuple(expected):
        raise ShapeError(f"{name} must have shape {tuple(expected)}, got {tuple(value.shape)}")


def check_key(rng: Tensor, batch: Sequence[int] | None = None) -> None:
    """Raise ShapeError unless `rng` is an int64 tensor [*B, 2], with B equal to `batch` where that is given."""
    if not isinstance(rng, Tensor):
        raise ShapeError(f"rng must be an int64 key of shape (*B, 2), such as random.key(0), got {rng!r:.80}")
    if rng.dtype != torch.int64 or rng.ndim == 0 or rng.shape[-1] != 2:
        raise ShapeError(f"rng must be an int64 key of shape (*B, 2), got {rng.dtype} {tuple(rng.shape)}")
    if batch is not None:
        check_shape("rng", rng, (*batch, 2))


def check_action(action: Tensor, batch: Sequence[int]) -> None:
    """Raise ShapeError unless `action` is an int64 tensor of shape `batch`."""
    if action.dtype != torch.int64:
        raise ShapeError(f"action must have dtype torch.int64, got {action.dtype}")
    check_shape("action", action, batch)


def check_reward(reward: Tensor, batch: Sequence[int]) -> None:
    """Raise ShapeError unless `reward` is a floating tensor of shape `batch`."""
    if not reward.is_floating_point():
        raise ShapeError(f"reward must be floating, got {reward.dtype}")
    check_shape("reward", reward, batch)


def check_obs(obs: Tensor | None, batch: Sequence[int], arms: int) -> None:
    """Raise ShapeError unless `obs` is None or [*batch, arms, d]: for learners that look at no context."""
    if obs is not None and (obs.ndim != len(batch) + 2 or tuple(obs.shape[:-1]) != (*batch, arms)):
        raise ShapeError(f"obs must be None or have shape {(*batch, arms, 'd')}, got {tuple(obs.shape)}")


def check_available(available: Tensor | None, batch: Sequence[int], arms: int) -> None:
    """Raise ShapeError unless `available` is None or a bool tensor [*batch, arms]."""
    if available is not None:
        if available.dtype != torch.bool:
            raise ShapeError(f"available must have dtype torch.bool, got {available.dtype}")
        check_shape("available", available, (*batch, arms))


def require_obs(obs: Tensor | None, batch: Sequence[int], arms: int, features: int) -> Tensor:
    """`obs`, or ShapeError unless it is [*batch, arms, features]."""
    if obs is None or tuple(obs.shape) != (*batch, arms, features):
        raise ShapeError(
            f"obs must have shape {(*batch, arms, features)}, got {None if obs is None else tuple(obs.shape)}"
        )
    return obs


def check_size(name: str, value: int, *, low: int = 1) -> None:
    """Raise ValueError unless `value` is an int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")


def check_seed(name: str, value: int) -> None:
    """Raise ValueError unless `value` is an int that fits 64 bits, signed or not."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} must be an integer in [-2**63, 2**64), got {value!r}")


def check_number(
    name: str, value: float | Tensor, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> None:
    """Raise ValueError unless a Python number lies in [low, high] ((low, high] with `open_low`). Tensors pass:
    their values are checked where the shell takes them in."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise ShapeError(f"{name} must be a floating tensor, got {value.dtype}")
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number or a tensor, got {value!r}")
    if not math.isfinite(value) or not (low < value if open_low else low <= value) or value > high:
        interval = f"{'(' if open_low or low == -math.inf else '['}{low}, {high}{')' if high == math.inf else ']'}"
        raise ValueError(f"{name} must be finite and in {interval}, got {value}")


def check_values(name: str, value: Tensor, *, low: float, high: float) -> None:
    """Raise ValueError unless all of `value` lies in [low, high]. For constructors only: it reads the tensor."""
    wrong = ~((value >= low) & (value <= high))
    if bool(wrong.any()):
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value[wrong][0].tolist()}")
