"""The last K frames of each lane, oldest first: what a policy sees of motion.

Two forms with one meaning. A stack lies in the order in which it is seen, so a step moves every frame by one place: it
reads K - 1 frames and writes K. A ring leaves frames where they are, so a step writes one, and its order is made by
`ring_stack` when somebody looks.

Which of them, where memory is reused and what a step returned must last until the second step after it: two buffers
that take turns, each step writing

    other = stack_reset(stack_update(this, pix), start, ended)

which compiles to one pass without a temporary, leaves both tensors contiguous, and at K = 1 copies one frame. Where
`start` is known only after `ended`, because machines are reset in between, it is two such passes, and the second,
`stack_reset`, may write into what it reads. A ring that is looked at after every step moves more (one frame into it,
then K out of it), so it pays where several steps go by between looks, or where one copy of the frames is all there is
room for. A view that slides over a longer buffer would write one frame only, but not with lanes that begin again: all K
places of such a lane are replaced, and K - 1 of them are still in the view that the step before has returned.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from armfold.core import masked
from armfold.core.check import check_size
from armfold.core.pixels.frames import check_frame, check_mask, check_places, check_stack, choose, over


def stack_init(pix: Tensor, *, stack_k: int = 4) -> Tensor:
    """The stack uint8 [*B, K, H, W] of an episode's first frame pix uint8 [*B, H, W]: K = stack_k >= 1 copies of it."""
    check_size("stack_k", stack_k)
    check_frame("pix", pix)
    return pix.unsqueeze(-3).repeat_interleave(stack_k, -3)


def stack_update(prev: Tensor, pix: Tensor) -> Tensor:
    """The stack after one frame more: prev uint8 [*B, K, H, W] without its oldest (place 0), pix uint8 [*B, H, W] as
    the newest (place K - 1). With K = 1 it is the frame alone. Raises ShapeError."""
    check_stack("prev", prev)
    check_frame("pix", pix, _frame_shape(prev))
    newest = pix.unsqueeze(-3)
    stack_k = prev.shape[-3]
    if stack_k == 1:
        return newest.clone(memory_format=torch.contiguous_format)
    # Two paddings where `cat` would do, because Inductor compiles them to one pass without a temporary on CPUs too.
    return pad(prev[..., 1:, :, :], (0, 0, 0, 0, 0, 1)) | pad(newest, (0, 0, 0, 0, stack_k - 1, 0))


def stack_reset(stack: Tensor, pix: Tensor, mask: Tensor) -> Tensor:
    """`stack` uint8 [*B, K, H, W] with all K frames of the lanes of mask, bool [*B], replaced by pix uint8 [*B, H, W],
    the first frame of their new episode. Raises ShapeError."""
    check_stack("stack", stack)
    check_frame("pix", pix, _frame_shape(stack))
    check_mask("mask", mask, stack.shape[:-3])
    return choose(over(mask, 3), pix.unsqueeze(-3), stack)


class Ring(NamedTuple):
    """The last K frames, each where it was written first."""

    frames: Tensor  # [*B, K, H, W] uint8, shades
    newest: Tensor  # [*B] int64, in [0, K): the place of the newest frame; the oldest is in the next, going around


def ring_init(pix: Tensor, *, stack_k: int = 4) -> Ring:
    """`stack_init` as a ring."""
    frames = stack_init(pix, stack_k=stack_k)
    return Ring(frames, torch.full(pix.shape[:-2], stack_k - 1, dtype=torch.int64, device=pix.device))


def ring_update(ring: Ring, pix: Tensor) -> Ring:
    """`stack_update` as a ring: one frame is written, over the oldest. Raises ShapeError."""
    _check_ring(ring)
    check_frame("pix", pix, _frame_shape(ring.frames))
    place = torch.remainder(ring.newest + 1, ring.frames.shape[-3])
    return Ring(masked.put(ring.frames, place, pix), place)


def ring_reset(ring: Ring, pix: Tensor, mask: Tensor) -> Ring:
    """`stack_reset` as a ring. Raises ShapeError."""
    _check_ring(ring)
    return ring._replace(frames=stack_reset(ring.frames, pix, mask))


def ring_stack(ring: Ring) -> Tensor:
    """The stack uint8 [*B, K, H, W] that a ring stands for, oldest first. Raises ShapeError."""
    _check_ring(ring)
    stack_k = ring.frames.shape[-3]
    age = torch.arange(1, stack_k + 1, device=ring.newest.device)
    place = torch.remainder(ring.newest.unsqueeze(-1) + age, stack_k)
    first = torch.arange(ring.newest.numel(), device=place.device).reshape(ring.newest.shape) * stack_k
    row = (first.unsqueeze(-1) + place).flatten()
    return ring.frames.flatten(0, -3).index_select(0, row).reshape(ring.frames.shape)


def _frame_shape(stack: Tensor) -> torch.Size:
    return stack.shape[:-3] + stack.shape[-2:]


def _check_ring(ring: Ring) -> None:
    check_stack("ring.frames", ring.frames)
    check_places("ring.newest", ring.newest, ring.frames.shape[:-3])
