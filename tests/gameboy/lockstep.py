"""GameBoy and PyBoy side by side: the same ROM, boot stub and buttons, compared frame by frame."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from armfold.shell.backends.gameboy import BUTTONS, GameBoy
from armfold.shell.backends.pyboy_lanes import find_pyboy, make_pyboy
from tests.gameboy.opcodes import disassemble

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Exemption(NamedTuple):
    """Where PyBoy 2.8.1 does otherwise than the hardware, which GameBoy follows."""

    pyboy: str
    hardware: str
    reference: str
    tests: tuple[str, ...]  # micro-ROMs of GameBoy alone, or tests of test_lockstep.py


EXCEPTIONS: dict[str, Exemption] = {
    "P1, the joypad's register": Exemption(
        "P1 shows the keys of its last write, 0 in bits 4 and 5 where a half is selected, and no key where both are; "
        "any key asks for the interrupt",
        "P1 shows the keys as they are, the selection, and both halves at once; a selected line that falls asks",
        "Pan Docs, 'Joypad Input' and 'INT $60'",
        ("p1_reads", "test_both_halves_of_the_joypad", "test_joypad_interrupt_needs_a_selected_line"),
    ),
    "a screen that is off, and the first frame after": Exemption(
        "with the LCD off, and in the first frame after it, colour 0 of BGP is shown",
        "white is shown",
        "Pan Docs, 'LCDC.7'",
        ("lcd_off_is_white",),
    ),
    "an object behind the background": Exemption(
        "an object behind the background hides no other object, and is not seen where the background is off",
        "the object in front is chosen first, then hidden by colours 1 to 3 of the background; without that there is 0",
        "Pan Docs, 'OAM', drawing priority",
        ("sprites_behind", "sprites_crowd_behind", "background_off_behind"),
    ),
    "the window without the background": Exemption(
        "the window is drawn with LCDC.0 clear", "it is not", "Pan Docs, 'LCDC.0'", ("raster_lcdc_off",)
    ),
    "the serial port": Exemption(
        "a byte takes 1024 T-cycles; SB always reads FF",
        "4096: 8 bits at 8192 Hz; SB reads back what was written, until a transfer brings another",
        "Pan Docs, 'Serial Data Transfer'",
        ("serial_length", "serial_data"),
    ),
    "HALT and STOP": Exemption(
        "HALT with interrupts off and one pending is as any; STOP is two bytes of nothing",
        "the byte behind that HALT is read twice; STOP waits for a key and clears DIV",
        "Pan Docs, 'halt' and 'STOP'",
        ("halt_bug", "test_stop_waits_for_a_key"),
    ),
    "$FEA0 to $FEFF, and sound registers": Exemption(
        "FEA0 to FEFF are memory; sound registers read 0 where no sound is wanted",
        "FEA0 to FEFF read 0 on a DMG and keep nothing; sound registers read back, with ones where nothing can be read",
        "Pan Docs, 'Memory Map' and 'Audio Registers'",
        ("unusable", "sound_masks", "sound_off"),
    ),
    "`LD (nn),SP` to a port": Exemption(
        "both bytes are written at the beginning",
        "they are written in the fourth and the fifth M-cycle",
        "Game Boy: Complete Technical Reference, 'LD (nn), SP'",
        ("store_sp_moment",),
    ),
    "VRAM in mode 3, OAM in modes 2 and 3": Exemption(
        "locked for LD A,(DE), LD (DE),A and LD A,(HL) alone, and for OAM DMA while those run",
        "locked for all instructions, VRAM in mode 3 and OAM in modes 2 and 3",
        "Pan Docs, 'Accessing VRAM and OAM'",
        ("locks", "oam_dma_odd"),
    ),
    "cartridges": Exemption(
        "without a mapper, writes to ROM switch its upper half; halt and carry of MBC3's clock are read as they are",
        "without a mapper they do nothing; all of the clock is read as it was latched",
        "Pan Docs, 'No MBC' and 'MBC3'",
        ("rom_only", "mbc3_latch"),
    ),
}  # fmt: skip

REGISTERS = ("a", "f", "b", "c", "d", "e", "h", "l", "sp", "pc")
PORTS = (0xFF02, *range(0xFF04, 0xFF08), 0xFF0F, *range(0xFF40, 0xFF4C), 0xFFFF)
MEMORY = {"VRAM": (0x8000, 0x2000), "WRAM": (0xC000, 0x2000), "OAM": (0xFE00, 0xA0), "HRAM": (0xFF80, 0x7F)}


class Difference(NamedTuple):
    """The first difference, in words."""

    frame: int
    what: str
    lane: int
    around: str

    def __str__(self) -> str:
        return f"frame {self.frame}, lane {self.lane}: {self.what}\n{self.around}"


class Lockstep:
    """`lanes` Game Boys with one cartridge, and a PyBoy for lane 0, or for every lane whose buttons differ."""

    def __init__(self, image: bytes, *, lanes: int = 1, screen: bool = True, frames_per_step: int = 1,
                 keeps_p1: bool = False) -> None:  # fmt: skip
        """screen: compare pictures; keeps_p1: the program leaves P1 in memory as it read it (see EXCEPTIONS)."""
        self.ours = GameBoy(image, lanes, draw="full" if screen else "none", frames_per_step=frames_per_step,
                            release_after_frames=frames_per_step, threads=1)  # fmt: skip
        self.theirs = [make_pyboy(image) for _ in range(lanes)]
        self.frame, self._screen, self._keeps_p1 = 0, screen, keeps_p1
        event = find_pyboy().utils.WindowEvent
        names = [
            ("ARROW_" if name in ("up", "down", "left", "right") else "BUTTON_") + name.upper() for name in BUTTONS
        ]
        self._press = [getattr(event, f"PRESS_{name}") for name in names]
        self._release = [getattr(event, f"RELEASE_{name}") for name in names]
        self._banks = self.ours.rom.ram_bytes // 0x2000

    def step(self, buttons: Sequence[int] | None = None) -> None:
        """One step with these buttons, a byte a lane."""
        held = [0] * len(self.theirs) if buttons is None else list(buttons)
        self.ours.step_buttons(torch.tensor(held, dtype=torch.uint8))
        for boy, bits in zip(self.theirs, held):
            if buttons is not None:
                for bit in range(8):
                    boy.send_input((self._press if bits >> bit & 1 else self._release)[bit])
            boy.tick(self.ours.frames_per_step, self._screen, False)
        self.frame += self.ours.frames_per_step

    def compare(self) -> Difference | None:
        """The first difference now, if there is one."""
        for lane, boy in enumerate(self.theirs):
            for found in (
                self._registers(lane, boy),
                self._memory(lane, boy),
                self._io(lane, boy),
                self._picture(lane, boy),
            ):
                if found:
                    return Difference(self.frame, found, lane, self.around(lane))
        return None

    def run(self, steps: int, buttons: Bytes | None = None, every: int = 1) -> Difference | None:
        """Play so many steps, with buttons uint8 [steps, lanes]; compare after each `every`-th and the last."""
        for i in range(steps):
            self.step(None if buttons is None else buttons[i].tolist())
            if (i + 1) % every == 0 or i == steps - 1:
                difference = self.compare()
                if difference:
                    return difference
        return None

    def _registers(self, lane: int, boy: Any) -> str:
        file = boy.register_file
        pair = file.HL
        theirs = [file.A, file.F, file.B, file.C, file.D, file.E, pair >> 8, pair & 0xFF, file.SP, file.PC]
        ours = [int(self.ours.register(name)[lane]) for name in REGISTERS]
        return ", ".join(f"{name} is {a:#x}, PyBoy's {b:#x}" for name, a, b in zip(REGISTERS, ours, theirs) if a != b)

    def _memory(self, lane: int, boy: Any) -> str:
        for name, (start, length) in MEMORY.items():
            if name == "OAM" and int(self.ours.register("dma_on")[lane]):
                continue  # PyBoy then shows what the processor would see
            ours = self.ours.read_memory(start, length)[lane].numpy()
            theirs = np.array(boy.memory[start : start + length], dtype=np.uint8)
            if self._keeps_p1:
                theirs = np.where(_is_p1(ours, theirs), ours, theirs)
            if found := _first(name, start, ours, theirs):
                return found
        for bank in range(self._banks):
            words = self.ours.state.cart_ram[lane, bank * 0x800 : (bank + 1) * 0x800].contiguous()
            theirs = np.array(boy.memory[bank, 0xA000:0xBFFF], dtype=np.uint8)  # PyBoy cannot show the last byte
            if found := _first(f"cartridge RAM bank {bank}", 0xA000, words.view(torch.uint8).numpy()[:-1], theirs):
                return found
        return ""

    def _io(self, lane: int, boy: Any) -> str:
        wrong = []
        hidden = int(self.ours.register("mode_hidden")[lane])
        for port in PORTS:
            if port == 0xFF41 and hidden:  # to look would change PyBoy
                continue
            ours, theirs = int(self.ours.read_memory(port)[lane]), boy.memory[port]
            if port == 0xFF0F:
                ours, theirs = ours & ~0x10, theirs & ~0x10
            if ours != theirs:
                wrong.append(f"{port:04x} is {ours:#04x}, PyBoy's {theirs:#04x}")
        return ", ".join(wrong)

    def _picture(self, lane: int, boy: Any) -> str:
        if not self._screen:
            return ""
        ours, theirs = self.ours.screen[lane].numpy(), boy.screen.ndarray[:, :, 0]
        if np.array_equal(ours, theirs) or (not ours.any() and (theirs == theirs[0, 0]).all()):
            return ""
        where = np.argwhere(ours != theirs)
        y, x = (int(v) for v in where[0])
        lines = sorted({int(v) for v in where[:, 0]})
        return (f"pixel x={x} y={y} is {ours[y, x]}, PyBoy's {theirs[y, x]}; {len(where)} pixels on {len(lines)} lines "
                f"{lines[:6]}")  # fmt: skip

    def around(self, lane: int) -> str:
        """Both machines' registers, and the program at our PC."""
        registers = " ".join(
            f"{name}={int(self.ours.register(name)[lane]):x}" for name in (*REGISTERS, "ime", "halted")
        )
        at = int(self.ours.register("pc")[lane])
        lines = [f"  ours: {registers} now={int(self.ours.register('now')[lane])}"]
        lines.append(f"  PyBoy: pc={self.theirs[lane].register_file.PC:x}")
        for _ in range(4):
            length = min(3, 0x10000 - at)
            text, size = disassemble(bytes(self.ours.read_memory(at, length)[lane].tolist()), at)
            lines.append(f"  {at:04x}  {text}")
            at = min(at + size, 0xFFFF)
        return "\n".join(lines)


def _is_p1(ours: Bytes, theirs: Bytes) -> Any:
    """Where one machine has the selection in bits 4 and 5 and PyBoy zeros."""
    return (theirs & 0xF0 == 0xC0) & ((ours & 0xF0 == 0xD0) | (ours & 0xF0 == 0xE0)) & (ours & 15 == theirs & 15)


def _first(name: str, start: int, ours: Bytes, theirs: Bytes) -> str:
    if np.array_equal(ours, theirs):
        return ""
    where = np.flatnonzero(ours != theirs)
    at = int(where[0])
    return f"{name} {start + at:04x} is {ours[at]:#04x}, PyBoy's {theirs[at]:#04x} ({len(where)} bytes differ)"
