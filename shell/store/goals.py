"""Goals of pixel environments as files: what the screen shall look like, and the state to start from."""

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_number, check_shape, check_size
from armfold.shell.envs.pixel_steps import FRAME
from armfold.shell.store.files import write_whole

GOAL, START, PICTURE = "goal.safetensors", "start.safetensors", "goal.png"  # the files of a goal's folder
_FORMAT, _VERSION = "armfold goal", "1"


class Goal(NamedTuple):
    """A goal: `GoalEnv(backend, goal.frame, tau=goal.tau, k=goal.k)`."""

    frame: Tensor  # [72, 80] uint8, shades 0 to 3
    tau: float  # a frame is near the goal below this distance
    k: int  # steps in a row that it must be near
    rom: str  # sha256 of the cartridge, hexadecimal


def check_goal(goal: Goal) -> None:
    """Raise ShapeError for a frame of another shape or dtype, ValueError for shades, tau or k that cannot be."""
    check_shape("frame", goal.frame, FRAME)
    if goal.frame.dtype != torch.uint8:
        raise ShapeError(f"frame must have dtype torch.uint8, got {goal.frame.dtype}")
    if int(goal.frame.max()) > 3:
        raise ValueError(f"frame must hold shades from 0 to 3, got {int(goal.frame.max())}")
    check_number("tau", goal.tau, low=0.0, high=1.0, open_low=True)
    check_size("k", goal.k)


def check_folder(name: str, folder: Path) -> None:
    """Raise ValueError unless a goal can be written at `folder`: that must be new or empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{name} {folder} is not an empty folder: give the name of a new one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent):
            pass
    except OSError as error:
        raise ValueError(f"{name} {folder} cannot be written ({error.strerror})") from error


def save_goal(
    folder: Path, goal: Goal, *, start: Callable[[Path], object], draw: Callable[[Path], object], replace: bool = False
) -> None:
    """Write a goal's folder, whole or not at all: start and draw write its state to start from and its picture.

    replace: what is there. Raises as `check_goal` does.
    """
    check_goal(goal)
    facts = {"format": _FORMAT, "version": _VERSION, "rom": goal.rom, "tau": repr(goal.tau), "k": str(goal.k)}
    data = safetensors.torch.save({"frame": goal.frame.cpu().contiguous()}, metadata=facts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)  # of somebody who was killed
    try:
        partial.mkdir()
        write_whole(partial / GOAL, lambda temporary: temporary.write_bytes(data))
        start(partial / START)
        draw(partial / PICTURE)
        if replace and folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def load_goal(path: str | Path, *, rom: str | None = None) -> Goal:
    """The goal in a folder that `save_goal` wrote, or in its goal.safetensors.

    rom: sha256 of the cartridge that it must be of. Raises ValueError for a file that is not there, is no goal, is of
    another version or ROM, or holds what cannot be.
    """
    file = Path(path) / GOAL if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(f"goal {str(path)!r} is not there: there is no file {file}")
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            facts = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"goal {str(path)!r} cannot be read ({error})") from error
    if facts.get("format") != _FORMAT:
        raise ValueError(f"goal {str(path)!r} is not a goal, but {facts.get('format', 'something else')!r}")
    if facts.get("version") != _VERSION:
        raise ValueError(f"goal {str(path)!r} is of version {facts.get('version')}, this one reads {_VERSION}")
    goal = _parse(path, facts, tensors)
    if rom is not None and goal.rom != rom:
        raise ValueError(f"goal {str(path)!r} is of another ROM (sha256 {goal.rom}) than the one here ({rom})")
    return goal


def _parse(path: str | Path, facts: dict[str, str], tensors: dict[str, Tensor]) -> Goal:
    try:
        goal = Goal(tensors["frame"], float(facts["tau"]), int(facts["k"]), facts["rom"])
        if not math.isfinite(goal.tau):
            raise ValueError(f"tau is {goal.tau}")
        check_goal(goal)
    except KeyError as error:
        raise ValueError(f"goal {str(path)!r} lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"goal {str(path)!r}: {error}") from error
    return goal
