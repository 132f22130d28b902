"""What lanes of a pixel environment play for: a goal on the screen, a number in memory, or nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core.check import check_number, check_shape, check_size, check_values
from armfold.core.pixels import GoalOutcome, GoalState, goal_distance, goal_init, goal_restart, goal_step
from armfold.core.pixels.frames import check_frame
from armfold.core.types import Scalar

_SHADES = 4


class Outcome(NamedTuple):
    """What one step gave."""

    dist: Tensor | None  # [N] float32, in [0, 1]: from the goal; None: there is none
    reward: Tensor  # [N] float32, reward unit
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool: `max_steps` are over


class Task(NamedTuple):
    """Rewards and ends, as pure functions of frames uint8 [N, H, W] and of watched memory uint8 [N, L] or None.

    init(frame, memory) -> state                        of episodes with these first frames
    step(state, frame, memory) -> (state, Outcome)      Outcome, or anything with its fields
    restart(state, frame, memory, mask) -> state        new episodes for the lanes of mask, bool [N]
    watch: address and length of the memory that these are given, or None
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]]
    restart: Callable[..., Any]
    watch: tuple[int, int] | None = None


def goal_task(
    goal: Tensor,
    *,
    tau: Scalar = 0.05,
    k: int = 4,
    alpha: Scalar = 1.0,
    step_penalty: Scalar = -0.01,
    goal_reward: Scalar = 10.0,
    max_steps: int | None = 512,
) -> Task:
    """Make the screen look like `goal`, uint8 [H, W] of shades 0 to 3, for k steps in a row.

    The tunables are those of `core.pixels.goal_step`, with tau in (0, 1]. Raises ShapeError for what is no frame,
    ValueError for values that cannot be.
    """
    check_frame("goal", goal, goal.shape[-2:])
    check_values("goal", goal, low=0, high=_SHADES - 1)
    check_number("tau", tau, low=0.0, high=1.0, open_low=True)
    check_size("k", k)
    for name, value in (("alpha", alpha), ("step_penalty", step_penalty), ("goal_reward", goal_reward)):
        check_number(name, value)
    _check_limit(max_steps)
    tunables: dict[str, Any] = {"tau": tau, "alpha": alpha, "step_penalty": step_penalty, "goal_reward": goal_reward}
    return Task(
        partial(_goal_init, goal=goal),
        partial(_goal_step, goal=goal, k=k, max_steps=max_steps, **tunables),
        partial(_goal_restart, goal=goal),
    )


def _goal_init(frame: Tensor, memory: Tensor | None, *, goal: Tensor) -> GoalState:
    return goal_init(goal_distance(frame, goal))


def _goal_step(
    state: GoalState, frame: Tensor, memory: Tensor | None, *, goal: Tensor, **tunables: Any
) -> tuple[GoalState, GoalOutcome]:
    return goal_step(state, goal_distance(frame, goal), **tunables)


def _goal_restart(state: GoalState, frame: Tensor, memory: Tensor | None, mask: Tensor, *, goal: Tensor) -> GoalState:
    return goal_restart(state, goal_distance(frame, goal), mask)


def number_change(before: Tensor, after: Tensor) -> Tensor:
    """By how much a number of L <= 7 bytes, the lowest first, has grown: float32 [N] of uint8 [N, L]."""
    change = after.to(torch.int64) - before.to(torch.int64)
    total = torch.zeros_like(change[..., 0])
    for i, byte in enumerate(change.unbind(-1)):
        total = total + (byte << 8 * i)
    return total.to(torch.float32)


class MemoryReward(NamedTuple):
    """weight * function(before, after) of the bytes from `address` on, uint8 [N, length], before and after a step."""

    address: int
    length: int = 1
    weight: float = 1.0  # reward unit
    function: Callable[[Tensor, Tensor], Tensor] = number_change  # pure, to float [N]


class MemoryState(NamedTuple):
    """What an episode without a goal carries."""

    memory: Tensor | None  # [N, L] uint8, as it was after the last step
    steps: Tensor  # [N] int64, steps taken in this episode


def memory_task(reward: MemoryReward | None = None, *, max_steps: int | None = 512) -> Task:
    """Be paid for what happens in memory, or nothing; episodes are cut off after max_steps. Raises ValueError."""
    _check_limit(max_steps)
    paid, watch = None, None
    if reward is not None:
        check_size("reward.address", reward.address, low=0)
        check_size("reward.length", reward.length)
        check_number("reward.weight", reward.weight)
        if reward.function is number_change and reward.length > 7:
            raise ValueError(f"reward.length must be at most 7 for a number, got {reward.length}")
        paid = partial(_pay, function=reward.function, weight=float(reward.weight))
        watch = (reward.address, reward.length)
    return Task(_memory_init, partial(_memory_step, paid=paid, max_steps=max_steps), _memory_restart, watch)


def _pay(before: Tensor, after: Tensor, *, function: Callable[[Tensor, Tensor], Tensor], weight: Scalar) -> Tensor:
    paid = (weight * function(before, after)).to(torch.float32)
    check_shape("what reward.function gives", paid, before.shape[:1])
    return paid


def _memory_init(frame: Tensor, memory: Tensor | None) -> MemoryState:
    return MemoryState(memory, torch.zeros(len(frame), dtype=torch.int64, device=frame.device))


def _memory_step(
    state: MemoryState,
    frame: Tensor,
    memory: Tensor | None,
    *,
    paid: Callable[[Tensor, Tensor], Tensor] | None,
    max_steps: int | None,
) -> tuple[MemoryState, Outcome]:
    steps = state.steps + 1
    no = torch.zeros_like(steps, dtype=torch.bool)
    reward = no.to(torch.float32) if paid is None else paid(state.memory, memory)  # type: ignore[arg-type]
    truncated = no.clone() if max_steps is None else steps >= max_steps
    return MemoryState(memory, steps), Outcome(None, reward, no, truncated)


def _memory_restart(state: MemoryState, frame: Tensor, memory: Tensor | None, mask: Tensor) -> MemoryState:
    return MemoryState(memory, torch.where(mask, 0, state.steps))


def _check_limit(max_steps: int | None) -> None:
    if max_steps is not None:
        check_size("max_steps", max_steps)
