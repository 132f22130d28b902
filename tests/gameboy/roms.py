"""All micro-ROMs by name; each function says what its program exercises."""

from tests.gameboy import roms_cpu, roms_hardware, roms_interrupts, roms_memory, roms_ppu
from tests.gameboy.micro import ALONE, ENDLESS, MICRO, PICTURED, MicroRom

__all__ = [
    "ALONE",
    "ENDLESS",
    "MICRO",
    "PICTURED",
    "MicroRom",
    "roms_cpu",
    "roms_hardware",
    "roms_interrupts",
    "roms_memory",
    "roms_ppu",
]
