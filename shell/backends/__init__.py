"""Machines that pixel environments run on, and which of them a user gets."""

import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from armfold.shell.backends.gameboy import GameBoy, NoCompilerError, Rom
from armfold.shell.backends.pyboy import PyBoyBackend
from armfold.shell.backends.pyboy_lanes import find_pyboy
from armfold.shell.choose import suggest

Kind = Literal["auto", "gameboy", "pyboy"]


def open_backend(
    rom: str | Path | bytes | Rom,
    num_envs: int,
    device: str | torch.device = "cpu",
    *,
    backend: Kind = "auto",
    **settings: Any,
) -> GameBoy | PyBoyBackend:
    """`num_envs` machines that play `rom`, with the settings of `GameBoy`, or of `PyBoyBackend`.

    backend: "gameboy", "pyboy", or "auto": `GameBoy`, and on the CPU PyBoy, with a warning, where nothing can compile
    it. Raises ValueError, NoCompilerError where there is neither a compiler nor PyBoy, and TypeError for a setting that
    the backend has not.
    """
    if backend not in get_args(Kind):
        raise suggest("backend", backend, get_args(Kind))
    if backend == "pyboy":
        return PyBoyBackend(rom, num_envs, device, **settings)
    try:
        return GameBoy(rom, num_envs, device, **settings)
    except NoCompilerError as error:
        if backend == "gameboy" or torch.device(device).type != "cpu":
            raise
        try:
            find_pyboy()
        except ValueError:
            raise error from None
        warnings.warn(f"{error}; PyBoy plays instead, many times slower", RuntimeWarning, stacklevel=2)
        return PyBoyBackend(rom, num_envs, device, **_shared(settings))


def _shared(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that mean something to PyBoy as well; the others are about speed."""
    return {name: value for name, value in settings.items() if name not in ("threads", "layout", "lanes_per_warp")}
