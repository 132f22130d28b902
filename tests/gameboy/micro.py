"""What the micro-ROMs share: their type, the registry, the names of the ports, and how a program says it is done."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tests.gameboy.assembler import rom

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
FINISHED = 0x5A  # what a program that ends leaves at DONE_AT
DONE_AT = 0xDFFF
LOG = 0xC000  # where results begin

PORTS = "\n".join(
    f"{name} = 0x{0xFF00 + offset:x}"
    for name, offset in {
        "P1": 0x00, "SB": 0x01, "SC": 0x02, "DIV": 0x04, "TIMA": 0x05, "TMA": 0x06, "TAC": 0x07, "IF": 0x0F,
        "LCDC": 0x40, "STAT": 0x41, "SCY": 0x42, "SCX": 0x43, "LY": 0x44, "LYC": 0x45, "DMA": 0x46, "BGP": 0x47,
        "OBP0": 0x48, "OBP1": 0x49, "WY": 0x4A, "WX": 0x4B, "IE": 0xFF,
    }.items()
)  # fmt: skip

DONE = f"""
done:
    di
    ld a, {FINISHED}
    ld ({DONE_AT}), a
    jr here
"""

LCD_OFF = """
    ld a, 0
    ldh (IE), a
    ldh (IF), a
wait_vblank:
    ldh a, (LY)
    cp 144
    jr nz, wait_vblank
    ld a, 0
    ldh (LCDC), a
    ldh (IF), a
"""


class MicroRom(NamedTuple):
    """A program that exercises one thing."""

    image: bytes
    frames: int  # after which it has finished; to run, where it never does
    expect: Mapping[int, bytes] = {}
    picture: Callable[[], Bytes] | None = None  # what its last frames show, by tests.gameboy.picture


MICRO: dict[str, Callable[[], MicroRom]] = {}
ENDLESS: set[str] = set()  # those that never finish
PICTURED: set[str] = set()  # those whose picture is known; they are endless as well
ALONE: set[str] = set()  # those that show one of lockstep.EXCEPTIONS


def micro(build: Callable[[], MicroRom]) -> Callable[[], MicroRom]:
    """Put the program in the registry under the name of its function; it is built once."""
    MICRO[build.__name__] = functools.cache(build)
    return MICRO[build.__name__]


def endless(build: Callable[[], MicroRom]) -> Callable[[], MicroRom]:
    """The program never finishes."""
    ENDLESS.add(build.__name__)
    return build


def pictured(build: Callable[[], MicroRom]) -> Callable[[], MicroRom]:
    """The program shows a picture for ever."""
    PICTURED.add(build.__name__)
    return endless(build)


def alone(build: Callable[[], MicroRom]) -> Callable[[], MicroRom]:
    """PyBoy does not do the same."""
    ALONE.add(build.__name__)
    return build


def program(
    source: str,
    *,
    mapper: int = 0,
    clock: bool = False,
    rom_banks: int = 2,
    ram: int = 0,
    data: Mapping[int, bytes] | None = None,
) -> bytes:
    """The image of `source` with the names of the ports before it and `done` behind it; the stack is below 0xDFF0."""
    text = f"{PORTS}\n ld sp, 0xdff0\n di\n{source}\n{DONE}"
    return rom(text, mapper=mapper, clock=clock, rom_banks=rom_banks, ram=ram, data=data)
