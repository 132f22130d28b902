"""Pixel environments on the torch-native vector face: what a screen shows, and what is paid for it."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.pixels.frames import check_frame
from armfold.core.types import Scalar
from armfold.shell.backends import open_backend
from armfold.shell.backends.gameboy import GameBoy
from armfold.shell.backends.gameboy.rom import Rom as Cartridge
from armfold.shell.backends.gameboy.rom import find_rom
from armfold.shell.backends.pyboy import PyBoyBackend
from armfold.shell.choose import suggest
from armfold.shell.envs.backend import Backend
from armfold.shell.envs.pixel_env import Knobs, TaskEnv
from armfold.shell.envs.pixel_steps import FRAME, Info, Outputs, Snapshot
from armfold.shell.envs.pixel_tasks import MemoryReward, Task, goal_task, memory_task
from armfold.shell.envs.reset_cache import load_starts
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
        """goal: uint8 [72, 80], shades 0 to 3, which is copied. A frame is near it below the distance tau in (0, 1].
        max_steps: of an episode, which is then cut off; None: only a goal ends it. Raises as `goal_task` does."""
        check_frame("goal", goal, FRAME)
        tunables = {"tau": tau, "alpha": alpha, "step_penalty": step_penalty, "goal_reward": goal_reward}
        super().__init__(backend, goal_task(goal, k=k, max_steps=max_steps, **tunables), **knobs)


def make_pixels(rom: Rom = "lantern", num_envs: int = 1, *, goal: Any = None, **options: Any) -> TaskEnv:
    """A `GoalEnv` of `num_envs` machines that play `rom`, or without a goal a `PixelsEnv`; what every face is made of.

    rom: a file, its bytes, or the name of a shipped game. goal: uint8 [72, 80], a tensor or an array, or the path of a
    goal that `save_goal` wrote, as `armfold pixels goal` does: then tau, k and starts are its own where none are given.
    The options are those of `open_backend` and of the environment, where starts may also be files of `save_state`.

    Raises ValueError, also for a goal or a state of another ROM; BuildError where nothing here can play; TypeError for
    an option that is not there, or goes with a goal only, or without one.
    """
    settings = {"backend"}.union(*(inspect.signature(kind).parameters for kind in (GameBoy, PyBoyBackend)))
    settings -= {"rom", "num_envs"}
    kind: type[TaskEnv] = PixelsEnv if goal is None else GoalEnv
    _check_options(options, settings, kind)
    cartridge = find_rom(rom)
    knobs = {name: value for name, value in options.items() if name not in settings}
    if goal is not None:
        knobs = _find_goal(goal, cartridge) | knobs
    backend = open_backend(cartridge, num_envs, **{name: options[name] for name in options.keys() & settings})
    try:
        return kind(backend, **knobs | {"starts": _load(backend, knobs.get("starts"))})
    except Exception:
        backend.close()
        raise


def _check_options(options: dict[str, Any], settings: set[str], kind: type[TaskEnv]) -> None:
    """Raise TypeError for the name of an option that neither a backend nor an environment of this kind has."""
    own, other = (
        settings.union(Knobs.__annotations__, inspect.signature(each).parameters) - {"knobs"}
        for each in (kind, PixelsEnv if kind is GoalEnv else GoalEnv)
    )
    for name in options:
        if name not in own | other:
            raise TypeError(str(suggest("option", name, own | other)))
        if name not in own:
            raise TypeError(f"option {name!r} {'needs a goal' if kind is PixelsEnv else 'goes without a goal'}")


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


def _load(backend: Backend, starts: Any) -> Any:
    """What `starts` names: files, or a State, which says itself what it must be."""
    paths = [starts] if isinstance(starts, str | Path) else starts
    if isinstance(paths, Sequence) and paths and all(isinstance(path, str | Path) for path in paths):
        return load_starts(backend, paths)
    return starts
