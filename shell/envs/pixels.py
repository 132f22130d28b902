"""Pixel environments on the torch-native vector face: what a screen shows, and what is paid for it."""

from typing import Unpack

from torch import Tensor

from armfold.core.check import check_shape
from armfold.core.types import Scalar
from armfold.shell.envs.backend import Backend
from armfold.shell.envs.pixel_env import Knobs, TaskEnv
from armfold.shell.envs.pixel_steps import FRAME, Info, Outputs, Snapshot
from armfold.shell.envs.pixel_tasks import MemoryReward, Task, goal_task, memory_task

__all__ = ["FRAME", "GoalEnv", "Info", "Knobs", "MemoryReward", "Outputs", "PixelsEnv", "Snapshot", "Task", "TaskEnv"]


class PixelsEnv(TaskEnv):
    """A `TaskEnv` without a goal, paid for what happens in memory, or nothing."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_steps: int | None = 512,
        reward: MemoryReward | None = None,
        **knobs: Unpack[Knobs],
    ) -> None:
        """max_steps: of an episode, which is then cut off; None: it has no end. Raises ValueError."""
        super().__init__(backend, memory_task(reward, max_steps=max_steps), **knobs)


class GoalEnv(TaskEnv):
    """A `TaskEnv` that ends when the screen has looked like a goal for k steps in a row.

        dist = mean|frame - goal| / 3
        reward = step_penalty + alpha (prev_dist - dist) + goal_reward terminated

    `core.pixels.goal_step` has the rest. prev_dist is that of the frame before the step, on every path.
    """

    def __init__(
        self,
        backend: Backend,
        goal: Tensor,
        *,
        tau: Scalar = 0.05,
        k: int = 4,
        alpha: Scalar = 1.0,
        step_penalty: Scalar = -0.01,
        goal_reward: Scalar = 10.0,
        max_steps: int | None = 512,
        **knobs: Unpack[Knobs],
    ) -> None:
        """goal: uint8 [72, 80], shades 0 to 3. A frame is near it below the distance tau in (0, 1]. max_steps: of an
        episode, which is then cut off; None: only a goal ends it. Raises ShapeError and ValueError."""
        check_shape("goal", goal, FRAME)
        tunables = {"tau": tau, "alpha": alpha, "step_penalty": step_penalty, "goal_reward": goal_reward}
        super().__init__(backend, goal_task(goal, k=k, max_steps=max_steps, **tunables), **knobs)
