"""One lane as a file: safetensors, with what it is a state of. Loading never unpickles."""

import json
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from armfold.shell.backends.gameboy.rom import Rom
from armfold.shell.backends.gameboy.state import REGISTERS, SHAPES, State, check_registers, check_state
from armfold.shell.store.files import write_whole

_FORMAT, _VERSION = "armfold Game Boy state", "1"


def write_state(path: Path, state: State, rom: Rom) -> None:
    """Write a State of one lane of `rom`."""
    tensors = {name: value.cpu().contiguous() for name, value in state._asdict().items()}
    facts = {"format": _FORMAT, "version": _VERSION, "rom": rom.sha256, "title": rom.title}
    facts |= {"registers": json.dumps(REGISTERS)}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=facts))


def read_state(path: Path, like: State, rom: Rom) -> State:
    """The State of one lane that `write_state` wrote, on the device of `like` and with screens of its size.

    Raises ValueError for a file of another cartridge or version, or whose picture is smaller than wanted.
    """
    name = f"state {str(path)!r}"
    if not path.is_file():
        raise ValueError(f"{name} is not a file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{name} cannot be read ({error})") from error
    _check_facts(name, facts, rom)
    if tensors.keys() != set(State._fields):
        raise ValueError(f"{name} must hold {', '.join(State._fields)}, and holds {', '.join(sorted(tensors))}")
    tensors["screen"] = _fit(name, tensors["screen"], tuple(like.screen.shape[1:]))
    state = State(**{field: value.to(like.registers.device) for field, value in tensors.items()})
    check_state(name, state, like, 1)
    check_registers(name, state.registers, rom.banks)
    return state


def _check_facts(name: str, facts: dict[str, str], rom: Rom) -> None:
    if facts.get("format") != _FORMAT:
        raise ValueError(f"{name} is not a state of a Game Boy")
    if facts.get("version") != _VERSION or facts.get("registers") != json.dumps(REGISTERS):
        raise ValueError(f"{name} is of another version of armfold (format {facts.get('version')}, here {_VERSION})")
    if facts.get("rom") != rom.sha256:
        theirs = f"{facts.get('title')!r}, sha256 {facts.get('rom')}"
        raise ValueError(f"{name} is of another ROM ({theirs}) than {rom.title!r} (sha256 {rom.sha256})")


def _fit(name: str, screen: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A saved picture [1, H, W] in another size: a whole one can be halved, and any can be left out."""
    if screen.shape[1:] == shape:
        return screen
    if shape == SHAPES["none"]:
        return screen.new_zeros(1, *shape)
    if screen.shape[1:] == SHAPES["full"] and shape == SHAPES["half"]:
        return screen[:, ::2, ::2].contiguous()
    raise ValueError(f"{name} has a picture of {tuple(screen.shape[1:])}, and {shape} is wanted")
