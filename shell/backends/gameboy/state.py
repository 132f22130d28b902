"""The state of N Game Boys, as tensors, and the structure by which the C code finds them."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.shell.choose import suggest

FOLDER = Path(__file__).parent
REGISTERS = tuple(re.findall(r"\bR\((\w+)\)", re.sub(r"//.*", "", (FOLDER / "registers.h").read_text("utf-8"))))
SHAPES = {"half": (72, 80), "full": (144, 160), "none": (0, 0)}
_MEMORY_BYTES = (0x2000, 0x2000, 0xA0, 0x100)  # vram, wram, oam, high


_LONG = 2**20  # T-cycles: longer than anything that a frame may leave begun
_FLAGS = (
    *(
        "ime",
        "halted",
        "halt_again",
        "halt_bug",
        "stopped",
        "boot",
        "dma_on",
        "first_frame",
        "lcd_restart",
        "lyc_written",
    ),
    *("mode_hidden", "stat_line", "window_hit", "frame_done", "ram_on", "bank_mode", "latched"),
)
_LIMITS = {  # what each register may be, where that is not a byte
    **dict.fromkeys(_FLAGS, (0, 1)),
    **dict.fromkeys(("pc", "sp", "div"), (0, 0xFFFF)),
    **dict.fromkeys(("timer_at", "dma_start", "lcd_start", "clock_at"), (-_LONG, _LONG)),
    **dict.fromkeys(("ime_delay", "reload", "lcd_phase"), (0, 2)),
    "fault": (0, 0x100),
    "now": (0, _LONG),
    "tac": (0, 7),
    "reload_left": (0, 4),
    "serial_end": (-_LONG, 2**31 - 1),
    "dma_next": (0, 0xA0),
    "ly": (0, 153),
    "next_mode": (0, 3),
    "stretch": (-4, 111),
    "lcd_target": (0, 70224),
    "window_line": (0, 144),
    "clock_part": (0, 2**22),
}


class State(NamedTuple):
    """All that N Game Boys are. Memories are int32 words of 4 bytes, the first byte the lowest."""

    registers: Tensor  # [N, R] int32, named by REGISTERS
    vram: Tensor  # [N, 2048] int32 words, $8000 to $9fff
    wram: Tensor  # [N, 2048] int32 words, $c000 to $dfff
    oam: Tensor  # [N, 40] int32 words, $fe00 to $fe9f
    high: Tensor  # [N, 64] int32 words, $ff00 to $ffff: SB, the sound registers and HRAM; the rest is in `registers`
    cart_ram: Tensor  # [N, bytes / 4] int32 words, every bank
    screen: Tensor  # [N, H, W] uint8, shades 0 (white) to 3 of the last frame that was drawn; H = W = 0: none is


class Job(ctypes.Structure):
    """`Job` of types.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("registers", "vram", "wram", "oam", "high", "cart_ram", "screen")),
        *((name, ctypes.c_void_p) for name in ("rom", "boot", "actions", "choices", "buttons")),
        ("lanes", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("num_choices", "rom_banks", "cart_bytes", "mapper", "has_clock")),
        *((name, ctypes.c_int32) for name in ("frames", "release_after", "draw", "lanes_per_warp", "unused")),
    ]


def empty(num_envs: int, cart_bytes: int, *, draw: str, interleaved: bool, device: torch.device) -> State:
    """Room for `num_envs` lanes, all zero. Interleaved memories have the strides (1, N)."""

    def words(count: int) -> Tensor:
        if interleaved:
            return torch.zeros(count, num_envs, dtype=torch.int32, device=device).T
        return torch.zeros(num_envs, count, dtype=torch.int32, device=device)

    registers = torch.zeros(num_envs, len(REGISTERS), dtype=torch.int32, device=device)
    vram, wram, oam, high = (words(size // 4) for size in _MEMORY_BYTES)
    screen = torch.zeros(num_envs, *SHAPES[draw], dtype=torch.uint8, device=device)
    return State(registers, vram, wram, oam, high, words(cart_bytes // 4), screen)


def check_registers(name: str, registers: Tensor, banks: int) -> None:
    """Raise ValueError for a number that no machine comes to. For what comes from outside: one may be an address."""
    numbers = dict(zip(REGISTERS, registers[0].tolist(), strict=True))
    limits = _LIMITS | dict.fromkeys(("rom_low", "rom_high"), (0, banks - 1))
    for register, value in numbers.items():
        low, high = limits.get(register, (0, 0xFF))
        if not low <= value <= high:
            raise ValueError(f"{name} has {register} = {value}, which must lie in [{low}, {high}]")
    for together, possible in _possible(numbers):
        if not possible:
            values = ", ".join(f"{register} = {numbers[register]}" for register in together)
            raise ValueError(f"{name} has {values}, which no machine has together")


def _possible(numbers: dict[str, int]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Registers that hang together, and whether they do: the timer's reload, and the LCD's place in its frame."""
    get = numbers.__getitem__
    yield ("reload", "reload_left"), (get("reload") > 0) == (get("reload_left") > 0)
    yield ("lcdc", "ly"), get("lcdc") & 0x80 > 0 or get("ly") == 0
    if not get("lcdc") & 0x80 or get("lcd_restart"):
        return
    line, mode, phase = get("ly"), get("next_mode"), get("lcd_phase")
    yield ("next_mode", "lcd_phase"), (mode == 2) == (phase > 0)
    yield ("ly", "next_mode"), mode == 1 if line > 143 else line == 143 or mode != 1
    yield ("ly", "lcd_phase"), (line < 143 or phase != 1) and (line > 0 or phase != 2)
    yield ("ly", "lcd_target"), 456 * line - 4 <= get("lcd_target") <= 456 * (line + 1)  # 4: the first line is shorter
    yield ("ly", "window_line"), get("window_line") <= line + 1


def register_index(name: str) -> int:
    """The column of `State.registers` of that name. Raises ValueError."""
    if name not in REGISTERS:
        raise suggest("register", str(name), REGISTERS)
    return REGISTERS.index(name)
