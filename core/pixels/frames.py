"""What a frame is, and the checks of frames, stacks, masks and places; choosing between frames."""

from collections.abc import Sequence

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_shape


def check_frame(name: str, value: Tensor, shape: Sequence[int] | None = None) -> None:
    """Raise ShapeError unless `value` is a uint8 tensor [*B, H, W], or of `shape` where that is given; TypeError for
    what is no tensor.

    A frame holds shades, 0 (white) to 3 (black). No function of this package looks at the values; those that need
    them to be below 4 say so.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dtype != torch.uint8 or value.ndim < 2:
        raise ShapeError(f"{name} must be uint8 of shape (*B, H, W), got {value.dtype} {tuple(value.shape)}")
    if shape is not None:
        check_shape(name, value, shape)


def check_stack(name: str, value: Tensor) -> None:
    """Raise ShapeError unless `value` is a uint8 tensor [*B, K, H, W] with K >= 1."""
    if value.dtype != torch.uint8 or value.ndim < 3 or value.shape[-3] < 1:
        raise ShapeError(
            f"{name} must be uint8 of shape (*B, K, H, W) with K >= 1, got {value.dtype} {tuple(value.shape)}"
        )


def check_mask(name: str, value: Tensor, batch: Sequence[int]) -> None:
    """Raise ShapeError unless `value` is a bool tensor of shape `batch`."""
    if value.dtype != torch.bool:
        raise ShapeError(f"{name} must have dtype torch.bool, got {value.dtype}")
    check_shape(name, value, batch)


def check_places(name: str, value: Tensor, batch: Sequence[int]) -> None:
    """Raise ShapeError unless `value` is an int64 tensor of shape `batch`."""
    if value.dtype != torch.int64:
        raise ShapeError(f"{name} must have dtype torch.int64, got {value.dtype}")
    check_shape(name, value, batch)


def over(x: Tensor, dims: int) -> Tensor:
    """`x` [*B] ready to meet values [*B, ...] with `dims` dimensions more."""
    return x.reshape((*x.shape, *(1,) * dims))


def choose(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where mask, `old` elsewhere, of one dtype; all three broadcast. What `torch.where` gives."""
    if old.dtype != torch.uint8:
        return torch.where(mask, new, old)
    # By bits: Inductor has no vector code for `where` of bytes on CPUs, and is 60 times slower at it.
    bits = mask.to(torch.uint8) * 255
    return old ^ ((old ^ new) & bits)
