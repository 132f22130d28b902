"""Checks of what a user hands to machines and environments: integers, lanes, addresses, states, closed ones.

Those of tensors do not wait for a device, but where they say so.
"""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from armfold.core.check import ShapeError

Integers = Tensor | np.ndarray[Any, Any] | Sequence[int]
_INTEGERS = frozenset(
    (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
)


def lane_integers(name: str, value: Integers | int, lanes: int | None) -> Tensor:
    """`value` as a tensor [lanes], or of any shape: a tensor as it is, an array or a sequence as one on the CPU.

    Raises ShapeError for another shape, and for what are no integers: floats, and bools, which are a mask.
    """
    tensor = value if isinstance(value, Tensor) else _as_tensor(value)
    if tensor is None or tensor.dtype not in _INTEGERS or lanes not in (None, *tensor.shape) or tensor.ndim > 1:
        wanted = "integers" if lanes is None else f"integers of shape ({lanes},)"
        got = f"{value!r:.80}" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise ShapeError(f"{name} must be {wanted}, got {got}")
    return tensor


def lane_buttons(buttons: Tensor, lanes: int) -> Tensor:
    """`buttons` as a tensor. Raises ShapeError unless they are uint8 [lanes]."""
    pressed = lane_integers("buttons", buttons, lanes)
    if pressed.dtype != torch.uint8:
        raise ShapeError(f"buttons must have dtype torch.uint8, got {pressed.dtype}")
    return pressed


def _as_tensor(value: object) -> Tensor | None:
    try:
        array = np.array(value)
        return torch.from_numpy(array if array.size else array.astype(np.int64))
    except (TypeError, ValueError):
        return None


def check_range(name: str, value: Tensor, count: int) -> None:
    """Raise ValueError unless all of `value`, int64 on the CPU, lie in [0, count)."""
    numbers: np.ndarray[Any, Any] = value.numpy()  # quicker than torch for a few
    if numbers.view(np.uint64).max() >= count:  # in one look: as unsigned, negative ones are the largest
        low, high = numbers.min(), numbers.max()
        raise ValueError(f"{name} must lie in [0, {count}), got {low if low < 0 else high}")


def lane_indices(lanes: Integers | int, num_envs: int) -> Tensor:
    """Indices of some lanes, int64 [n] on the CPU; waits for those on a device.

    Raises ShapeError for what are no integers, a mask among it, and ValueError for none and for lanes that there are
    not.
    """
    chosen = lane_integers("lanes", lanes, None).reshape(-1).to("cpu", torch.int64)
    if not len(chosen) or bool(((chosen < 0) | (chosen >= num_envs)).any()):
        raise ValueError(f"lanes must be some of [0, {num_envs}), got {chosen.tolist()}")
    return chosen


def check_restart(mask: Tensor, choice: Tensor, num_envs: int, device: torch.device) -> None:
    """Raise ShapeError unless mask is bool [N] and choice int64 [N], both on the device."""
    for name, value, dtype in (("mask", mask, torch.bool), ("choice", choice, torch.int64)):
        if not isinstance(value, Tensor):
            raise ShapeError(f"{name} must be a tensor, got {type(value).__name__}")
        if value.shape != (num_envs,) or value.dtype != dtype or value.device != device:
            raise ShapeError(
                f"{name} must be {dtype} of shape ({num_envs},) on {device}, got {value.dtype} "
                f"{tuple(value.shape)} on {value.device}"
            )


def check_state(name: str, state: Any, like: NamedTuple, lanes: int | None = None) -> None:
    """Raise ShapeError unless `state` is of the type of `like`, a tuple of tensors [N, ...] or of such tuples, with
    tensors that are alike but for their lanes: so many, or any number but none."""
    kind = type(like)
    if not isinstance(state, kind):
        got = type(state)
        raise ShapeError(f"{name} must be {kind.__module__}.{kind.__name__}, got {got.__module__}.{got.__name__}")
    for field, value, buffer in zip(kind._fields, state, like):
        if not isinstance(buffer, Tensor):
            check_state(f"{name}.{field}", value, buffer, lanes)
            continue
        if not isinstance(value, Tensor):
            raise ShapeError(f"{name}.{field} must be a tensor, got {type(value).__name__}")
        if lanes is None:
            lanes = len(value) if value.ndim else 0
        if not lanes:
            raise ShapeError(f"{name} must have at least one lane, got none")
        wanted = (lanes, *buffer.shape[1:])
        if value.shape != wanted or value.dtype != buffer.dtype or value.device != buffer.device:
            raise ShapeError(
                f"{name}.{field} must be {buffer.dtype} {wanted} on {buffer.device}, got {value.dtype} "
                f"{tuple(value.shape)} on {value.device}"
            )


def check_address(address: SupportsIndex, length: SupportsIndex) -> tuple[int, int]:
    """Both as int. Raises ValueError unless `length` bytes from `address` on lie in the 64 KiB that there are."""
    first, count = _index("address", address), _index("length", length)
    if not 1 <= count <= 0x10000:
        raise ValueError(f"length must be an integer >= 1 and <= {0x10000}, got {count}")
    if not 0 <= first <= 0x10000 - count:
        raise ValueError(f"address must be in [0, {0x10000 - count:#x}] for {count} bytes, got {first}")
    return first, count


def _index(name: str, value: SupportsIndex) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} must be an integer, got {value!r}")


class Closed:
    """In place of what a closed machine had: whatever is asked of it raises ValueError, but to close it again."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError(f"this {self._name} is closed: make another one")

    def close(self) -> None:
        """Nothing is left to do."""
