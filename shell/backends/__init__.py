"""Machines that pixel environments run on, and which of them a user gets."""

import inspect
import sys
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from armfold.shell.backends.gameboy import BuildError, GameBoy, Rom
from armfold.shell.backends.gameboy.machine import check_name
from armfold.shell.backends.pyboy import PyBoyBackend
from armfold.shell.backends.pyboy_lanes import find_pyboy
from armfold.shell.choose import suggest

Kind = Literal["auto", "gameboy", "pyboy"]
SETTINGS = {  # names of each machine's arguments
    name: inspect.signature(kind).parameters.keys() - {"rom", "num_envs"}
    for name, kind in (("gameboy", GameBoy), ("pyboy", PyBoyBackend))
}


def open_backend(
    rom: str | Path | bytes | Rom,
    num_envs: int,
    device: str | torch.device = "cpu",
    *,
    backend: Kind = "auto",
    **settings: Any,
) -> GameBoy | PyBoyBackend:
    """`num_envs` machines that play `rom`, with the settings of `GameBoy`, or of `PyBoyBackend`.

    backend: "gameboy", "pyboy", or "auto": `GameBoy`, and on the CPU PyBoy, with a warning that says why, where it
    cannot be compiled; so many `threads` are then workers. Raises ValueError, BuildError where neither can play, and
    TypeError for a setting that the backend has not and for what is no ROM at all.
    """
    check_name("backend", backend, get_args(Kind))
    _check_settings(settings, "pyboy" if backend == "pyboy" else "gameboy")
    if backend == "pyboy":
        return PyBoyBackend(rom, num_envs, device, **settings)
    try:
        return GameBoy(rom, num_envs, device, **settings)
    except BuildError as error:
        if backend == "gameboy" or torch.device(device).type != "cpu":
            raise
        try:
            find_pyboy()
        except ValueError:
            raise type(error)(f"{error}; or `pip install 'armfold[pyboy]'`: PyBoy needs no compiler") from error
        warnings.warn(f"{error}; PyBoy plays instead, many times slower", RuntimeWarning, _callers_level())
        return PyBoyBackend(rom, num_envs, device, **_shared(settings))


def _check_settings(settings: dict[str, Any], backend: str) -> None:
    """Raise TypeError for the name of a setting that this backend has not."""
    for name in settings:
        if name in SETTINGS[backend]:
            continue
        if others := [other for other in SETTINGS if name in SETTINGS[other]]:
            raise TypeError(f"backend {backend!r} has no setting {name!r}, which {others[0]!r} has")
        raise TypeError(str(suggest("setting", name, SETTINGS[backend])))


def _callers_level() -> int:
    """The `stacklevel` with which a function that calls this one warns at the nearest line outside of the library."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("armfold."):
        level, frame = level + 1, frame.f_back
    return level


def _shared(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as PyBoy has them: a thread more than one is a worker, and the others about speed mean nothing."""
    shared = {name: value for name, value in settings.items() if name not in ("threads", "layout", "lanes_per_warp")}
    threads = settings.get("threads")
    return shared if threads in (None, 1) else {**shared, "workers": threads}
