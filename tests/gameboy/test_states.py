"""What a state from outside may be: impossible ones are refused, and no other makes a machine leave its memory."""

import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from armfold.shell.backends.gameboy import REGISTERS, GameBoy, build
from armfold.shell.backends.gameboy.machine import Machine
from armfold.shell.backends.gameboy.rom import BANK
from armfold.shell.backends.gameboy.state import _LIMITS, FOLDER, State, check_registers
from tests.gameboy.micro import program
from tests.gameboy.roms import MICRO

NOTHING = torch.zeros(3, dtype=torch.int64)
RUNS = {"lcdc": 0x91, "lcd_restart": 0, "window_line": 0}
IMPOSSIBLE: list[dict[str, int]] = [  # each breaks one rule
    {"ly": 143, "next_mode": 2, "lcd_phase": 1},  # line 144 would be drawn, which no screen has
    {"ly": 151, "next_mode": 1, "lcd_phase": 1},
    {"ly": 152, "next_mode": 1, "lcd_phase": 2},
    {"ly": 20, "next_mode": 2, "lcd_phase": 0},
    {"ly": 20, "next_mode": 3, "lcd_phase": 1},
    {"ly": 150, "next_mode": 0, "lcd_phase": 0},
    {"ly": 20, "next_mode": 1, "lcd_phase": 0},
    {"ly": 0, "next_mode": 2, "lcd_phase": 2},
    {"ly": 20, "next_mode": 3, "lcd_phase": 0, "lcd_target": 456 * 19},
    {"ly": 20, "next_mode": 3, "lcd_phase": 0, "lcd_target": 456 * 22},
    {"ly": 20, "next_mode": 3, "lcd_phase": 0, "lcd_target": 456 * 20, "window_line": 22},
    {"lcdc": 0, "ly": 20},
    {"reload": 1, "reload_left": 0},
    {"reload": 0, "reload_left": 3},
]


def _three(image: bytes | str = "lantern") -> GameBoy:
    """Three lanes, of which the first and the last stand still: nothing may touch them."""
    boy = GameBoy(image, 3, threads=1, frames_per_step=1, draw="full")
    for _ in range(60):
        boy.step(NOTHING)
    boy.register("fault")[::2] = 1
    boy.step(NOTHING)
    return boy


def _set(boy: GameBoy, numbers: Mapping[str, int]) -> None:
    for name, value in numbers.items():
        boy.register(name)[1] = value


def _is_possible(boy: GameBoy) -> bool:
    try:
        check_registers("it", boy.state.registers[1:2], boy.rom.banks)
    except ValueError:
        return False
    return True


def _lcd(rng: random.Random) -> dict[str, int]:
    """Somewhere in a frame."""
    line = rng.randrange(154)
    mode = 1 if line > 143 else rng.choice((0, 2, 3))
    target = rng.randint(max(0, 456 * line - 4), 456 * (line + 1))
    window = rng.randint(0, min(line + 1, 144))
    phase = rng.choice((1, 2)) if mode == 2 else 0
    return {**RUNS, "ly": line, "next_mode": mode, "lcd_phase": phase, "lcd_target": target, "window_line": window}


def _step_alone(boy: GameBoy, start: State) -> None:
    """A few frames. The lanes on either side must be as they are in `start`."""
    for _ in range(3):
        boy.step(NOTHING)
    for field, now, then in zip(State._fields, boy.state, start):
        assert torch.equal(now[::2], then[::2]), f"{field} of another lane has changed"


def fuzz(image: bytes | str, cases: int, seed: int, *, single: bool = False) -> tuple[int, int]:
    """Step a machine from random registers, each within its limits: how many were refused, how many ran.

    Raises AssertionError where a lane beside it changes. single: no lane is, so that a sanitizer sees where it reads.
    """
    rng, boy = random.Random(seed), _three(image)
    start, ran = boy.snapshot(), 0
    alone = GameBoy(image, 1, threads=1, frames_per_step=1, draw="full")
    for _ in range(cases):
        boy.restore(start)
        for words in (boy.state.wram, boy.state.oam, boy.state.vram):
            if rng.random() < 0.3:
                words[1].random_(-(2**31), 2**31 - 1, generator=torch.Generator().manual_seed(rng.randrange(2**31)))
        kept = rng.random()  # of the registers
        for name in set(REGISTERS) - {"fault"}:
            low, high = _LIMITS.get(name, (0, boy.rom.banks - 1 if name in ("rom_low", "rom_high") else 0xFF))
            if rng.random() > kept:
                _set(boy, {name: rng.choice((low, high, rng.randint(low, high)))})
        if rng.random() < 0.5:
            _set(boy, _lcd(rng) | {"reload": 0, "reload_left": 0, "lcdc": rng.randrange(0x80, 0x100)})
        if not _is_possible(boy):
            continue
        ran += 1
        if single:
            alone.restore(boy.snapshot([1]))
            alone.step(NOTHING[:1])
        else:
            _step_alone(boy, start)
        assert 0 <= int(boy.register("ly")[1]) <= 153
    return cases - ran, ran


@pytest.mark.parametrize("numbers", IMPOSSIBLE, ids=str)
def test_impossible_together(numbers: dict[str, int], tmp_path: Path) -> None:
    boy = _three()
    _set(boy, RUNS | {"lcd_target": 456 * numbers.get("ly", 0) + 80} | numbers)
    boy.save_state(tmp_path / "bad", 1)
    before = boy.snapshot()
    with pytest.raises(ValueError, match=r"has \w+ = \d+, \w+ = \d+, which no machine has together"):
        boy.load_state(tmp_path / "bad", [0])
    assert all(torch.equal(x, y) for x, y in zip(before, boy.state))


def test_impossible_states_that_no_file_brought_stay_in_their_lane() -> None:
    """What `restore` is given is not looked at."""
    boy = _three()
    start = boy.snapshot()
    for numbers in IMPOSSIBLE:
        boy.restore(start)
        _set(boy, {**RUNS, **numbers})
        _step_alone(boy, start)


@pytest.mark.parametrize("window", ["rom_low", "rom_high"])
def test_the_state_of_a_larger_cartridge_sees_no_more_than_there_is(window: str) -> None:
    """Its banks are taken anew, modulo those here."""
    data = {at: bytes([1 + at // BANK]) * BANK for at in (0x4000, 0x8000, 0xC000)}
    large = GameBoy(program("jr here", mapper=5, rom_banks=4, data=data), 1, threads=1)
    small = GameBoy(program("jr here", data={0x4000: data[0x4000]}), 1, threads=1, frames_per_step=1)
    large.register(window).fill_(3)
    at = BANK * (window == "rom_high")
    assert large.read_memory(at, 2).tolist() == [[4, 4]]
    small.restore(large.snapshot())
    assert bytes(small.read_memory(at, BANK)[0].tolist()) == data[0x4000]
    small.step([0])
    assert int(small.register(window)) == 1


def test_random_registers() -> None:
    refused, ran = fuzz("lantern", 60, 0)
    assert refused > 5
    assert ran > 5


ASAN = """
import torch
torch.set_num_threads(1)
from armfold.shell.backends.gameboy import build
build.FLAGS += ("-fsanitize=address", "-g")
from tests.gameboy.roms import MICRO
from tests.gameboy.test_states import fuzz
fuzz(MICRO["mbc3_clock_odd"]().image, 500, 1, single=True)
print(*fuzz("lantern", 1000, 2, single=True))
"""


def _library(name: str) -> Path:
    """Where the compiler has this library."""
    words = [*build.find_compiler(), f"-print-file-name={name}"]
    return Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.slow
def test_random_registers_under_a_sanitizer(tmp_path: Path) -> None:
    """Reads beyond a buffer, too."""
    libraries = [_library("libasan.so"), _library("libstdc++.so.6")]
    if not all(library.is_file() for library in libraries):
        pytest.skip("the compiler has no address sanitizer")
    preload = {"LD_PRELOAD": " ".join(map(str, libraries)), "ASAN_OPTIONS": "detect_leaks=0"}
    env = {**os.environ, **preload, "ARMFOLD_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASAN], env=env, capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    refused, ran = map(int, done.stdout.splitlines()[-1].split())
    assert refused > 100
    assert ran > 100


def test_every_state_on_the_way_is_possible() -> None:
    """With the LCD switched, raster interrupts, STOP and an illegal opcode."""
    names = ("lcd_switching", "raster_lyc", "lcd_on_lyc", "window_edges", "serial_length", "timer_interrupts")
    wait = "ld bc, 9000\nx: dec bc\n ld a, b\n or c\n jr nz, x\n"
    ends = [program(f"{wait} {end}") for end in ("stop", "db 0xd3")]  # within a frame
    for image in [*(MICRO[name]().image for name in names), *ends]:
        boy = GameBoy(image, 1, threads=1, frames_per_step=1, draw="full")
        for _ in range(40):
            boy.step(NOTHING[:1])
            check_registers("it", boy.state.registers, boy.rom.banks)


def assert_missing_lanes_stay(machine: Machine) -> None:
    """Lanes become others of another job; where there is no such, they stay."""
    state, source = machine.init(4), machine.init(2)
    for x in state[1:]:
        x.fill_(1)
    source.wram.fill_(7)
    mask = torch.ones(4, dtype=torch.bool)
    choice = torch.tensor([-1, 1, 2, 2**62])
    machine.copy(machine.job(state), machine.job(source), mask, choice)
    assert state.wram[:, 0].tolist() == [1, 7, 1, 1]


def test_copies_of_lanes_that_there_are_not() -> None:
    assert_missing_lanes_stay(_three().machine)


WITHOUT_MEMORY = f"""
#include <stdlib.h>
static void *none(size_t bytes) {{ (void)bytes; return NULL; }}
#define malloc none
#include "{FOLDER / "cpu.c"}"
"""


@pytest.mark.slow
def test_without_memory_for_threads_one_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.c").write_text(WITHOUT_MEMORY)
    want = GameBoy("lantern", 9, threads=3)
    want.step(torch.arange(9) % 8)
    compiled = build.compile_library
    monkeypatch.setattr(build, "compile_library", lambda name, _, **more: compiled(name, [tmp_path / "cpu.c"], **more))
    got = GameBoy("lantern", 9, threads=3)
    got.step(torch.arange(9) % 8)
    assert all(torch.equal(x, y) for x, y in zip(got.state, want.state))
