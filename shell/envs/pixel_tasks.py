"""What lanes of a pixel environment play for: a goal on the screen, a number in memory, or nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core.check import check_number, check_size
from armfold.core.pixels import (
    GoalState,
    MemoryState,
    Outcome,
    check_goal_frame,
    goal_distance,
    goal_init,
    goal_restart,
    goal_step,
    memory_init,
    memory_restart,
    memory_step,
    number_change,
)
from armfold.core.pixels.memory import NUMBER_BYTES
from armfold.core.types import Scalar


class Task(NamedTuple):
    """Rewards and ends, as pure functions of frames uint8 [N, H, W] and of watched memory uint8 [N, L].

    init(frame, memory) -> state                        of episodes with these first frames
    step(state, frame, memory) -> (state, Outcome)
    restart(state, frame, memory, mask) -> state        new episodes for the lanes of mask, bool [N]
    state: a NamedTuple of tensors [N, ...], or of such tuples
    watch: address and length of the memory that these are given; None: L is 0
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Outcome]]
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
    """Make the screen look like `goal`, uint8 [H, W] of shades 0 to 3, which is copied, for k steps in a row.

    The tunables are those of `core.pixels.goal_step`, with tau in (0, 1]. Raises ShapeError for what is no frame,
    TypeError for what is no tensor, ValueError for values that cannot be.
    """
    check_goal_frame("goal", goal)
    _check_tunable("tau", tau, low=0.0, high=1.0, open_low=True)
    check_size("k", k)
    for name, value in (("alpha", alpha), ("step_penalty", step_penalty), ("goal_reward", goal_reward)):
        _check_tunable(name, value)
    _check_limit(max_steps)
    tunables: dict[str, Any] = {"tau": tau, "alpha": alpha, "step_penalty": step_penalty, "goal_reward": goal_reward}
    goal = goal.clone()  # it may be a live screen, which would then be the goal forever
    return Task(
        partial(_goal_init, goal=goal),
        partial(_goal_step, goal=goal, k=k, max_steps=max_steps, **tunables),
        partial(_goal_restart, goal=goal),
    )


def _goal_init(frame: Tensor, memory: Tensor, *, goal: Tensor) -> GoalState:
    return goal_init(goal_distance(frame, goal))


def _goal_step(
    state: GoalState, frame: Tensor, memory: Tensor, *, goal: Tensor, **tunables: Any
) -> tuple[GoalState, Outcome]:
    return goal_step(state, goal_distance(frame, goal), **tunables)


def _goal_restart(state: GoalState, frame: Tensor, memory: Tensor, mask: Tensor, *, goal: Tensor) -> GoalState:
    return goal_restart(state, goal_distance(frame, goal), mask)


class MemoryReward(NamedTuple):
    """weight * function(before, after) of the bytes from `address` on, uint8 [N, length], before and after a step."""

    address: int
    length: int = 1
    weight: Scalar = 1.0  # reward unit; a number, or a tensor [N]
    function: Callable[[Tensor, Tensor], Tensor] = number_change  # pure, to float [N]


def memory_task(reward: MemoryReward | None = None, *, max_steps: int | None = 512) -> Task:
    """Be paid for what happens in memory, or nothing; episodes are cut off after max_steps. Raises ValueError, and
    TypeError for a reward that is no MemoryReward."""
    _check_limit(max_steps)
    pay: dict[str, Any] = {}
    watch = None  # nothing is watched: a number of no bytes, which never grows
    if reward is not None:
        if not isinstance(reward, MemoryReward):
            raise TypeError(f"reward must be a MemoryReward or None, got {reward!r}")
        check_size("reward.address", reward.address, low=0)
        check_size("reward.length", reward.length)
        _check_tunable("reward.weight", reward.weight)
        if reward.function is number_change and reward.length > NUMBER_BYTES:
            raise ValueError(f"reward.length must be at most {NUMBER_BYTES} for a number, got {reward.length}")
        weight = reward.weight if isinstance(reward.weight, Tensor) else float(reward.weight)
        watch, pay = (reward.address, reward.length), {"weight": weight, "function": reward.function}
    return Task(_memory_init, partial(_memory_step, max_steps=max_steps, **pay), _memory_restart, watch)


def _memory_init(frame: Tensor, memory: Tensor) -> MemoryState:
    return memory_init(memory)


def _memory_step(state: MemoryState, frame: Tensor, memory: Tensor, **settings: Any) -> tuple[MemoryState, Outcome]:
    return memory_step(state, memory, **settings)


def _memory_restart(state: MemoryState, frame: Tensor, memory: Tensor, mask: Tensor) -> MemoryState:
    return memory_restart(state, memory, mask)


def _check_tunable(name: str, value: Scalar, **limits: Any) -> None:
    """`check_number` of a number, or of every value of a tensor. For constructors only: it reads the tensor."""
    check_number(name, value, **limits)
    if isinstance(value, Tensor):
        for one in value.to(torch.float64).reshape(-1).tolist():
            check_number(name, one, **limits)


def _check_limit(max_steps: int | None) -> None:
    if max_steps is not None:
        check_size("max_steps", max_steps)
