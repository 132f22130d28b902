"""Episodes without a goal, paid for what happens in a few bytes of memory."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_shape, check_size
from armfold.core.pixels.frames import check_mask, choose, over
from armfold.core.pixels.goal import Outcome, tunable
from armfold.core.types import Scalar

NUMBER_BYTES = 7  # at most, so that int64 holds the difference of any two numbers


class MemoryState(NamedTuple):
    """What an episode carries from one step to the next."""

    memory: Tensor  # [*B, L] uint8, as it was after the last step; L = 0 where nothing is watched
    steps: Tensor  # [*B] int64, steps taken in this episode


def number_change(before: Tensor, after: Tensor) -> Tensor:
    """By how much a number of L <= 7 bytes, the lowest first, has grown: float32 [*B] of uint8 [*B, L]; 0 for none.

    The float32 nearest to the exact difference. Raises ShapeError.
    """
    _check_memory("before", before)
    _check_memory("after", after, before)
    if before.shape[-1] > NUMBER_BYTES:
        raise ShapeError(f"before must have at most {NUMBER_BYTES} bytes for a number, got {before.shape[-1]}")
    change = after.to(torch.int64) - before.to(torch.int64)
    total = change.new_zeros(change.shape[:-1])
    for i, byte in enumerate(change.unbind(-1)):
        total = total + (byte << 8 * i)
    return total.to(torch.float32)


def memory_init(memory: Tensor) -> MemoryState:
    """The state of episodes that begin with this memory, uint8 [*B, L]. Raises ShapeError."""
    _check_memory("memory", memory)
    return MemoryState(memory, torch.zeros(memory.shape[:-1], dtype=torch.int64, device=memory.device))


def memory_step(
    state: MemoryState,
    memory: Tensor,
    *,
    function: Callable[[Tensor, Tensor], Tensor] = number_change,
    weight: Scalar = 1.0,
    max_steps: int | None = 512,
) -> tuple[MemoryState, Outcome]:
    """One step that ended with this memory, uint8 [*B, L]: the state after it, and what it gave.

        reward = weight * function(state.memory, memory)
        truncated = steps >= max_steps

    function: pure, to a tensor [*B]. weight: reward unit, a number or a tensor [*B]. max_steps >= 1 counts steps, and
    None never cuts off. Nothing is terminated, and there is no dist. Raises ShapeError and ValueError.
    """
    if max_steps is not None:
        check_size("max_steps", max_steps)
    _check_memory("memory", memory, state.memory)
    given = function(state.memory, memory)
    check_shape("what function gives", given, state.steps.shape)
    reward = (tunable("weight", weight, torch.float32, state.steps.shape) * given).to(torch.float32)
    steps = state.steps + 1
    no = torch.zeros_like(steps, dtype=torch.bool)
    truncated = no.clone() if max_steps is None else steps >= max_steps
    return MemoryState(memory, steps), Outcome(None, reward, no, truncated)


def memory_restart(state: MemoryState, memory: Tensor, mask: Tensor) -> MemoryState:
    """New episodes for the lanes of mask, bool [*B]; the others as they are. memory, uint8 [*B, L]: what they begin
    with, used where the mask is true. Raises ShapeError."""
    _check_memory("memory", memory, state.memory)
    check_mask("mask", mask, state.steps.shape)
    return MemoryState(choose(over(mask, 1), memory, state.memory), torch.where(mask, 0, state.steps))


def _check_memory(name: str, value: Tensor, like: Tensor | None = None) -> None:
    if value.dtype != torch.uint8 or value.ndim == 0:
        raise ShapeError(f"{name} must be uint8 of shape (*B, L), got {value.dtype} {tuple(value.shape)}")
    if like is not None:
        check_shape(name, value, like.shape)
