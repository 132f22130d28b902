"""Cartridges: the image, what its header says, and whether the machine can run it.

Source: Pan Docs, "The Cartridge Header".
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.shell.choose import suggest

SHIPPED = Path(__file__).parents[2] / "roms"
BANK = 0x4000
_MAPPERS = {
    "none": (0x00, 0x08, 0x09),
    "MBC1": (1, 2, 3),
    "MBC2": (5, 6),
    "MBC3": range(0x0F, 0x14),
    "MBC5": range(0x19, 0x1F),
}
_OTHERS = {0x0B: "MMM01", 0x20: "MBC6", 0x22: "MBC7", 0xFC: "Pocket Camera", 0xFD: "TAMA5", 0xFE: "HuC3", 0xFF: "HuC1"}
_WITH_RAM = {0x02, 0x03, 0x08, 0x09, 0x10, 0x12, 0x13, 0x1A, 0x1B, 0x1D, 0x1E}
_WITH_CLOCK = {0x0F, 0x10}
_RAM_BYTES = {0: 0, 1: 0x800, 2: 0x2000, 3: 0x8000, 4: 0x20000, 5: 0x10000}
_MBC2_RAM_BYTES = 512
_LOGO = slice(0x104, 0x134)


class Rom(NamedTuple):
    """A cartridge."""

    data: bytes  # banks of 16 KiB
    title: str
    mapper: str  # "none", "MBC1", "MBC1 multicart", "MBC2", "MBC3" or "MBC5"
    ram_bytes: int
    has_clock: bool
    sha256: str  # of the data, hexadecimal

    @property
    def banks(self) -> int:
        """Banks of 16 KiB."""
        return len(self.data) // BANK

    def tensor(self, device: torch.device) -> Tensor:
        """The data, uint8 [banks * 16 KiB]."""
        return torch.frombuffer(bytearray(self.data), dtype=torch.uint8).to(device)


def shipped_roms() -> list[str]:
    """Names of the games that come with the library."""
    return sorted(path.stem for path in SHIPPED.glob("*.gb"))


def find_rom(rom: str | Path | bytes | bytearray | Rom) -> Rom:
    """The cartridge of an image, of a file, or of the name of a shipped game; a Rom is itself.

    Raises ValueError for what is none, and TypeError for what cannot be one.
    """
    if isinstance(rom, Rom):
        return rom
    if isinstance(rom, bytes | bytearray | memoryview):
        return read_header(bytes(rom), "rom")
    if not isinstance(rom, str | os.PathLike):
        raise TypeError(f"rom must be a file, its bytes, the name of a shipped game or a Rom, got {rom!r}")
    path = Path(rom)
    if isinstance(rom, str) and rom in shipped_roms() and not path.is_file():
        path = SHIPPED / f"{rom}.gb"
    if not path.is_file():
        if path.suffix or path.parent != Path():
            raise ValueError(f"rom {str(rom)!r} is not a file")
        raise suggest("rom", str(rom), shipped_roms())
    return read_header(path.read_bytes(), f"rom {str(rom)!r}")


def read_header(data: bytes, name: str) -> Rom:
    """The cartridge whose image is `data`; `name` begins the message of a ValueError."""
    if len(data) < 2 * BANK:
        raise ValueError(f"{name} is not a Game Boy ROM: it has {len(data)} bytes, and the smallest has {2 * BANK}")
    checksum = -sum(data[0x134:0x14D]) - 25 & 0xFF
    if checksum != data[0x14D]:
        raise ValueError(
            f"{name} is not a Game Boy ROM: the checksum of its header is {data[0x14D]:#04x}, not {checksum:#04x}"
        )
    _check_length(data, name)
    if data[0x143] == 0xC0:
        raise ValueError(f"{name} is for the Game Boy Color alone; this machine is the monochrome one")
    kind = data[0x147]
    mapper = _find_mapper(data, name)
    if mapper == "MBC2":
        ram = _MBC2_RAM_BYTES
    elif data[0x149] not in _RAM_BYTES:
        raise ValueError(f"{name} has an unknown size of RAM in its header: {data[0x149]:#04x}")
    else:
        ram = _RAM_BYTES[data[0x149]] if kind in _WITH_RAM else 0
    title = data[0x134:0x144].split(b"\0")[0].decode("ascii", "replace").strip()
    return Rom(data, title, mapper, ram, kind in _WITH_CLOCK, hashlib.sha256(data).hexdigest())


def _check_length(data: bytes, name: str) -> None:
    if data[0x148] > 8:
        raise ValueError(f"{name} has an unknown size in its header: {data[0x148]:#04x}")
    wanted = 2 * BANK << data[0x148]
    if len(data) != wanted:
        fault = "truncated" if len(data) < wanted else "oversized"
        raise ValueError(f"{name} is {fault}: its header says {wanted} bytes, and it has {len(data)}")


def _find_mapper(data: bytes, name: str) -> str:
    kind = data[0x147]
    for mapper, kinds in _MAPPERS.items():
        if kind in kinds:
            return "MBC1 multicart" if mapper == "MBC1" and _is_multicart(data) else mapper
    known = ", ".join(_MAPPERS)
    raise ValueError(
        f"{name} has an unsupported mapper, {_OTHERS.get(kind, 'unknown')} (type {kind:#04x}); supported are {known}"
    )


def _is_multicart(data: bytes) -> bool:
    """Games side by side in 1 MiB: each of the four begins with the logo."""
    starts = [data[game * 16 * BANK :][_LOGO] for game in range(len(data) // (16 * BANK))]
    return len(data) == 64 * BANK and any(starts[0]) and all(start == starts[0] for start in starts)
