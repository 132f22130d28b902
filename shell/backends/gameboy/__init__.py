"""N Game Boys stepped in one call, by compiled C: threads over lanes on a CPU, a thread a lane on a CUDA GPU.

Source: Pan Docs (the DMG); docs/pixels.md says where the machine is simpler than that.
"""

from armfold.shell.backends.gameboy.boot import boot_stub
from armfold.shell.backends.gameboy.build import BuildError, NoCompilerError
from armfold.shell.backends.gameboy.lanes import GameBoy
from armfold.shell.backends.gameboy.machine import ACTIONS, BUTTONS, Machine, Settings, action_buttons, step
from armfold.shell.backends.gameboy.rom import Rom, find_rom, shipped_roms
from armfold.shell.backends.gameboy.state import REGISTERS, State

__all__ = [
    "ACTIONS",
    "BUTTONS",
    "REGISTERS",
    "BuildError",
    "GameBoy",
    "Machine",
    "NoCompilerError",
    "Rom",
    "Settings",
    "State",
    "action_buttons",
    "boot_stub",
    "find_rom",
    "shipped_roms",
    "step",
]
