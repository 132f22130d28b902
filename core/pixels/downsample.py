"""Smaller frames: every second pixel, and four shades to a byte."""

import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.pixels.frames import check_frame

_PER_BYTE = 4  # shades, of 2 bits each


def downsample(frame: Tensor) -> Tensor:
    """The top left pixel of every 2 x 2: uint8 [*B, H / 2, W / 2] of frame uint8 [*B, H, W], so 72 x 80 of a Game Boy's
    144 x 160. Raises ShapeError for an odd H or W."""
    check_frame("frame", frame)
    height, width = frame.shape[-2:]
    if height % 2 or width % 2:
        raise ShapeError(f"frame must have an even height and width, got {tuple(frame.shape)}")
    return frame[..., ::2, ::2].clone(memory_format=torch.contiguous_format)


def pack(shades: Tensor) -> Tensor:
    """Four shades a byte: uint8 [*B, H, W / 4] of shades uint8 [*B, H, W], in [0, 3]; of others the low two bits.

    The leftmost of four pixels is in the lowest two bits. Raises ShapeError for a W that four does not divide.
    """
    check_frame("shades", shades)
    if shades.shape[-1] % _PER_BYTE:
        raise ShapeError(f"shades must have a width that {_PER_BYTE} divides, got {tuple(shades.shape)}")
    a, b, c, d = ((shades[..., i::_PER_BYTE] & 3) << 2 * i for i in range(_PER_BYTE))
    return a | b | c | d


def unpack(packed: Tensor) -> Tensor:
    """The inverse of `pack`: shades uint8 [*B, H, 4 W] of packed uint8 [*B, H, W]. Raises ShapeError."""
    check_frame("packed", packed)
    return torch.stack([packed >> 2 * i & 3 for i in range(_PER_BYTE)], -1).flatten(-2)
