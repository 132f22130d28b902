"""Goals of pixel environments as files: what the screen shall look like, and the state to start from."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
from torch import Tensor

from armfold.core.check import check_number, check_size
from armfold.core.pixels import check_goal_frame
from armfold.shell.envs.pixel_steps import FRAME
from armfold.shell.store.files import partial_name, read_tensors, write_whole

GOAL, START, PICTURE = "goal.safetensors", "start.safetensors", "goal.png"  # the files of a goal's folder
_FORMAT, _VERSION = "armfold goal", "1"


class Goal(NamedTuple):
    """A goal: `GoalEnv(backend, goal.frame, tau=goal.tau, k=goal.k)`."""

    frame: Tensor  # [72, 80] uint8, shades 0 to 3
    tau: float  # a frame is near the goal below this distance
    k: int  # steps in a row that it must be near
    rom: str  # sha256 of the cartridge, hexadecimal


def check_goal(goal: Goal) -> None:
    """Raise ShapeError for a frame of another shape or dtype, TypeError for what is of another type than `Goal` says,
    ValueError for shades, tau or k that cannot be."""
    check_goal_frame("frame", goal.frame, FRAME)
    for name, value, kind in (("tau", goal.tau, int | float), ("rom", goal.rom, str)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {'number' if name == 'tau' else 'text'}, got {value!r}")
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

    replace: what is there, which is deleted when the new one is in its place. Raises as `check_goal` does.
    """
    check_goal(goal)
    facts = {"format": _FORMAT, "version": _VERSION, "rom": goal.rom, "tau": repr(float(goal.tau)), "k": str(goal.k)}
    data = safetensors.torch.save({"frame": goal.frame.cpu().contiguous()}, metadata=facts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(folder)
    try:
        partial.mkdir()
        write_whole(partial / GOAL, lambda temporary: temporary.write_bytes(data))
        start(partial / START)
        draw(partial / PICTURE)
        _move(partial, folder, replace=replace)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(partial: Path, folder: Path, *, replace: bool) -> None:
    """Put a whole folder in its place. What is there steps aside first, so that a kill at any time loses neither."""
    aside = folder.with_name(f".{folder.name}.old")
    if replace and folder.exists():
        shutil.rmtree(aside, ignore_errors=True)  # of somebody who was killed after the new one was in
        folder.replace(aside)
    try:
        partial.replace(folder)
    except BaseException:
        if replace and aside.exists():
            aside.replace(folder)
        raise
    if replace:
        shutil.rmtree(aside, ignore_errors=True)


def load_goal(path: str | Path, *, rom: str | None = None) -> Goal:
    """The goal in a folder that `save_goal` wrote, or in its goal.safetensors.

    rom: sha256 of the cartridge that it must be of. Raises ValueError for a file that is not there, is no goal, is of
    another version or ROM, or holds what cannot be.
    """
    file = Path(path) / GOAL if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(f"goal {str(path)!r} is not there: there is no file {file}")
    tensors, facts = read_tensors(f"goal {str(path)!r}", file, kind=_FORMAT, version=_VERSION, rom=rom)
    try:
        goal = Goal(tensors["frame"], float(facts["tau"]), int(facts["k"]), facts["rom"])
        check_goal(goal)
    except KeyError as error:
        raise ValueError(f"goal {str(path)!r} lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"goal {str(path)!r}: {error}") from error
    return goal


def find_start(path: str | Path) -> Path | None:
    """The state to start from beside a goal, whose path is as of `load_goal`, for `load_starts`; None where none is."""
    start = (Path(path) if Path(path).is_dir() else Path(path).parent) / START
    return start if start.is_file() else None
