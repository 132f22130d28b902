"""One lane as a file: safetensors, with what it is a state of. Loading never unpickles."""

import json
from pathlib import Path

from torch import Tensor

from armfold.shell.backends.gameboy.rom import Rom
from armfold.shell.backends.gameboy.state import REGISTERS, SHAPES, State, check_registers
from armfold.shell.check import check_state
from armfold.shell.store.files import read_tensors, write_tensors

_KIND, _VERSION = "armfold Game Boy state", "1"
SAVED_BY = {  # what is said where a file of the other machine is met
    kind: f"; saved by backend {name!r}, which plays it"
    for kind, name in ((_KIND, "gameboy"), ("armfold PyBoy state", "pyboy"))
}


def write_state(path: Path, state: State, rom: Rom) -> None:
    """Write a State of one lane of `rom`. Raises ValueError where no file can be written."""
    facts = {"format": _KIND, "version": _VERSION, "rom": rom.sha256, "title": rom.title}
    write_tensors("state", path, state._asdict(), facts | {"registers": json.dumps(REGISTERS)})


def read_state(path: Path, like: State, rom: Rom) -> State:
    """The State of one lane that `write_state` wrote, on the device of `like` and with screens of its size.

    Raises ValueError for a file of another cartridge or version, and for one without a picture where one is wanted.
    """
    name = f"state {str(path)!r}"
    wanted = {"kind": _KIND, "version": _VERSION, "rom": rom.sha256}
    tensors, facts = read_tensors(name, path, **wanted, fields=State._fields, hints=SAVED_BY)
    if facts.get("registers") != json.dumps(REGISTERS):
        raise ValueError(f"{name} is of another version of armfold: its registers are not those here")
    tensors["screen"] = fit_screen(name, tensors["screen"], tuple(like.screen.shape[1:]))
    state = State(**{field: value.to(like.registers.device) for field, value in tensors.items()})
    check_state(name, state, like, 1)
    check_registers(name, state.registers, rom.banks)
    return state


def fit_screen(name: str, screen: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A saved picture [1, H, W] in another size; a halved one has its pixels doubled until the next step draws it.

    Raises ValueError where there is none and one is wanted.
    """
    if screen.shape[1:] == shape:
        return screen
    if shape == SHAPES["none"]:
        return screen.new_zeros(1, *shape)
    if screen.shape[1:] == SHAPES["full"] and shape == SHAPES["half"]:
        return screen[:, ::2, ::2].contiguous()
    if screen.shape[1:] == SHAPES["half"] and shape == SHAPES["full"]:
        return screen.repeat_interleave(2, 1).repeat_interleave(2, 2)
    raise ValueError(f"{name} has a picture of {tuple(screen.shape[1:])}, and one of {shape} is wanted")
