"""Episodes that end when the screen looks like a goal: distance, streak, shaped reward.

The reward is the change in distance (the shaping of Ng, Harada and Russell 1999, with the potential -alpha * distance
and no discount), a penalty for every step and a prize at the end. Rewards are in the caller's unit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_number, check_shape, check_size, check_values
from armfold.core.pixels.frames import check_frame, check_mask
from armfold.core.types import Scalar, per_lane

_DARKEST = 3  # the shade furthest from 0


class GoalState(NamedTuple):
    """What an episode carries from one step to the next."""

    prev_dist: Tensor  # [*B] float, in [0, 1]: the distance of the frame before the next step
    streak: Tensor  # [*B] int64, steps in a row that ended near the goal
    steps: Tensor  # [*B] int64, steps taken in this episode


class Outcome(NamedTuple):
    """What one step gave."""

    dist: Tensor | None  # [*B] float, in [0, 1]: of the frame that the step ended with; None: there is no goal
    reward: Tensor  # [*B] float, reward unit
    terminated: Tensor  # [*B] bool: the goal is reached
    truncated: Tensor  # [*B] bool: the episode was cut off, without the goal


def check_goal_frame(name: str, frame: Tensor, shape: Sequence[int] | None = None) -> None:
    """Raise ShapeError unless `frame` is uint8 [H, W], or of `shape`, ValueError for shades that there are not. For
    constructors only: it reads the tensor."""
    check_frame(name, frame, shape)
    if shape is None:
        check_shape(name, frame, frame.shape[-2:])
    check_values(name, frame, low=0, high=_DARKEST)


def goal_distance(frame: Tensor, goal: Tensor) -> Tensor:
    """Mean absolute difference of shades, over 3: float32 [*B], 0 where equal, 1 where one is white and one black.

    frame uint8 [*B, H, W]; goal uint8 [H, W], or [*B, H, W] for one a lane. It is the float32 nearest to the exact
    ratio, and so the same on every device, in every layout, eager or compiled. Raises ShapeError,
    also for H or W of 0.
    """
    check_frame("frame", frame)
    check_frame("goal", goal, frame.shape if goal.ndim > 2 else frame.shape[-2:])
    if not frame.shape[-2] * frame.shape[-1]:
        raise ShapeError(f"frame must have H and W >= 1, got {tuple(frame.shape)}")
    apart = torch.maximum(frame, goal) - torch.minimum(frame, goal)  # uint8 would wrap below 0
    total = apart.sum((-2, -1), dtype=torch.int32)
    # In float64: a quotient by reciprocal, as some devices take it, is off by less than what float32 rounds away.
    most = _DARKEST * frame.shape[-2] * frame.shape[-1]
    return (total.to(torch.float64) / most).to(torch.float32)


def goal_init(dist: Tensor) -> GoalState:
    """The state of episodes whose first frames are at the distances dist, float [*B]. Raises ShapeError."""
    _check_dist("dist", dist, dist)
    nothing = torch.zeros_like(dist, dtype=torch.int64)
    return GoalState(dist, nothing, nothing.clone())


def goal_step(
    state: GoalState,
    dist: Tensor,
    *,
    tau: Scalar = 0.05,
    k: int = 4,
    alpha: Scalar = 1.0,
    step_penalty: Scalar = -0.01,
    goal_reward: Scalar = 10.0,
    max_steps: int | None = 512,
) -> tuple[GoalState, Outcome]:
    """One step that ended with a frame at the distance dist, float [*B]: the state after it, and what it gave.

        streak = streak + 1 if dist < tau else 0
        terminated = streak >= k
        truncated = steps >= max_steps and not terminated
        reward = step_penalty + alpha * (prev_dist - dist) + goal_reward * terminated

    prev_dist becomes dist, whether or not the episode ends; it stays where dist is NaN, which is not near and is paid
    NaN. Nothing remembers that an episode has ended: its caller calls `goal_restart`, or looks at no later step, which
    would go on with the old streak and steps. tau, alpha, step_penalty and goal_reward are numbers or tensors [*B];
    k >= 1 and max_steps >= 1 count steps, and max_steps None never cuts off. Raises ShapeError and ValueError.
    """
    check_size("k", k)
    if max_steps is not None:
        check_size("max_steps", max_steps)
    _check_dist("dist", dist, state.prev_dist)
    given = {"tau": tau, "alpha": alpha, "step_penalty": step_penalty, "goal_reward": goal_reward}
    near, slope, penalty, prize = (tunable(name, x, dist.dtype, dist.shape) for name, x in given.items())
    steps = state.steps + 1
    streak = torch.where(dist < near, state.streak + 1, 0)
    terminated = streak >= k
    over = torch.zeros_like(terminated) if max_steps is None else steps >= max_steps
    reward = penalty + slope * (state.prev_dist - dist) + prize * terminated.to(dist.dtype)
    known = torch.where(dist == dist, dist, state.prev_dist)
    return GoalState(known, streak, steps), Outcome(dist, reward, terminated, over & ~terminated)


def goal_restart(state: GoalState, start_dist: Tensor, mask: Tensor) -> GoalState:
    """New episodes for the lanes of mask, bool [*B]; the others as they are. start_dist, float [*B]: the distances of
    first frames, used where the mask is true. Raises ShapeError."""
    _check_dist("start_dist", start_dist, state.prev_dist)
    check_mask("mask", mask, state.prev_dist.shape)
    fresh = goal_init(start_dist)
    return GoalState(*(torch.where(mask, new, old) for new, old in zip(fresh, state, strict=True)))


def _check_dist(name: str, value: Tensor, like: Tensor) -> None:
    if not value.is_floating_point() or value.dtype != like.dtype:
        wanted = like.dtype if like.is_floating_point() else "floating"
        raise ShapeError(f"{name} must be {wanted}, got {value.dtype}")
    check_shape(name, value, like.shape)


def tunable(name: str, value: Scalar, dtype: torch.dtype, batch: Sequence[int]) -> Scalar:
    """A tunable ready to meet values [*B] of `dtype`. Raises ShapeError unless it is a number or a tensor of shape
    `batch`, ValueError for a number that is not finite."""
    check_number(name, value)
    if isinstance(value, Tensor) and value.ndim:
        check_shape(name, value, batch)
    return per_lane(value, dtype, 0)
