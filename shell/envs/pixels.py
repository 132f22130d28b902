"""Pixel environments on the torch-native vector face: what a screen shows, and what is paid for it."""

import inspect
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.pixels.frames import check_frame
from armfold.core.types import Scalar
from armfold.shell.backends import SETTINGS, open_backend
from armfold.shell.backends.gameboy.rom import Rom as Cartridge
from armfold.shell.backends.gameboy.rom import find_rom
from armfold.shell.choose import suggest
from armfold.shell.envs.backend import Backend
from armfold.shell.envs.pixel_env import Knobs, TaskEnv
from armfold.shell.envs.pixel_steps import FRAME, Info, Outputs, Snapshot
from armfold.shell.envs.pixel_tasks import MemoryReward, Task, goal_task, memory_task
from armfold.shell.store.goals import find_start, load_goal

__all__ = [
    "FRAME",
    "GoalEnv",
    "Info",
    "Knobs",
    "MemoryReward",
    "Outputs",
    "PixelsEnv",
    "Rom",
    "Snapshot",
    "Task",
    "TaskEnv",
    "make_pixels",
]

Rom = str | Path | bytes | Cartridge
_OF_MACHINES = {"backend"}.union(*SETTINGS.values())  # options that make_pixels hands to open_backend


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
        """max_steps: of an episode, which is then cut off; None: it has no end. Raises ValueError and TypeError."""
        _check_options(knobs, PixelsEnv)
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
        """goal: uint8 [72, 80], shades 0 to 3, which is copied; of a whole screen, what `core.pixels.downsample` makes.
        A frame is near it below the distance tau in (0, 1]. max_steps: of an episode, which is then cut off; None: only
        a goal ends it. Raises as `goal_task` does."""
        _check_options(knobs, GoalEnv)
        if not isinstance(goal, Tensor):
            raise TypeError(
                f"goal must be a tensor, got {type(goal).__name__}: load_goal reads paths, make_pixels takes those, too"
            )
        check_frame("goal", goal, FRAME)
        tunables = {"tau": tau, "alpha": alpha, "step_penalty": step_penalty, "goal_reward": goal_reward}
        super().__init__(backend, goal_task(goal, k=k, max_steps=max_steps, **tunables), **knobs)


def make_pixels(rom: Rom = "lantern", num_envs: int = 1, *, goal: Any = None, **options: Any) -> TaskEnv:
    """A `GoalEnv` of `num_envs` machines that play `rom`, or without a goal a `PixelsEnv`; what every face is made of.

    rom: a file, its bytes, or the name of a shipped game. goal: uint8 [72, 80], a tensor or an array, or the path of a
    goal that `save_goal` wrote, as `armfold pixels goal` does: then tau, k and starts are its own where none are given.
    The options are those of `open_backend` and of the environment.

    Raises ValueError, also for a goal or a state of another ROM; BuildError where nothing here can play; TypeError for
    an option that is not there, or goes with a goal only, or without one.
    """
    kind: type[TaskEnv] = PixelsEnv if goal is None else GoalEnv
    _check_options(options, kind, _OF_MACHINES)
    cartridge = find_rom(rom)
    knobs = {name: value for name, value in options.items() if name not in _OF_MACHINES}
    if goal is not None:
        knobs = _find_goal(goal, cartridge) | knobs
    backend = open_backend(cartridge, num_envs, **{name: options[name] for name in options.keys() & _OF_MACHINES})
    try:
        return kind(backend, **knobs)
    except Exception:
        backend.close()
        raise


def _check_options(options: Iterable[str], kind: type[TaskEnv], settings: Collection[str] = ()) -> None:
    """Raise TypeError for the name of an option that an environment of this kind has not, nor is one of `settings`."""
    apart: type[TaskEnv] = PixelsEnv if kind is GoalEnv else GoalEnv
    own, other = (
        {*settings, *Knobs.__annotations__, *inspect.signature(each).parameters} - {"knobs"} for each in (kind, apart)
    )
    for name in options:
        if name in own:
            continue
        if name in other:
            why = "needs a goal" if kind is PixelsEnv else "goes without a goal"
            raise TypeError(f"option {name!r} {why}: {apart.__name__} has it")
        if name in _OF_MACHINES:
            raise TypeError(f"option {name!r} is one of machines: give it to open_backend or to make_pixels")
        raise TypeError(str(suggest("option", name, own | other)))


def _find_goal(goal: Any, cartridge: Cartridge) -> dict[str, Any]:
    """A goal as what a `GoalEnv` takes: of a path, with its tau, its k, and the file to start from."""
    if isinstance(goal, str | Path):
        kept = load_goal(goal, rom=cartridge.sha256)
        return {"goal": kept.frame, "tau": kept.tau, "k": kept.k, "starts": find_start(goal)}
    if isinstance(goal, np.ndarray):
        if goal.dtype != np.uint8:
            raise ShapeError(f"goal must be uint8 of shape {FRAME}, got {goal.dtype} {goal.shape}")
        goal = torch.from_numpy(goal.copy())  # torch takes no array that is read-only or runs backwards
    if not isinstance(goal, Tensor):
        raise TypeError(f"goal must be a tensor, an array or the path of a goal, got {type(goal).__name__}")
    return {"goal": goal}
