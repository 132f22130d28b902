"""GameBoy against PyBoy on every micro-ROM, against what Pan Docs say, and on the game that comes along."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from armfold.shell.backends.gameboy import GameBoy
from armfold.shell.backends.gameboy.state import register_index
from tests.gameboy.lockstep import EXCEPTIONS, Lockstep
from tests.gameboy.micro import DONE_AT, FINISHED, program
from tests.gameboy.roms import ALONE, ENDLESS, MICRO, PICTURED, MicroRom
from tests.tiers import thinned

CARTRIDGES = {"mbc3_clock", "mbc3_clock_odd", "mbc30", "mbc5_512"}  # too slow for PyBoy, not for GameBoy alone
LONG = {"alu_all"} | CARTRIDGES | {name for name in MICRO if name.startswith("mode_lengths")}
TOGETHER = [name for name in MICRO if name not in ALONE]


def _finished(name: str, ours: GameBoy) -> None:
    """Assert that the program ended and left what it must."""
    if name not in ENDLESS:
        assert int(ours.read_memory(DONE_AT)) == FINISHED
    for address, want in MICRO[name]().expect.items():
        got = bytes(ours.read_memory(address, len(want))[0].tolist())
        wrong = next((i for i, (x, y) in enumerate(zip(got, want, strict=True)) if x != y), None)
        assert wrong is None, f"{address + (wrong or 0):#x}: {got[wrong]:#x}, must be {want[wrong]:#x}"


def _alone(rom: MicroRom, draw: Any = "full") -> GameBoy:
    """GameBoy at the end of the program."""
    ours = GameBoy(rom.image, 1, draw=draw, frames_per_step=rom.frames, release_after_frames=1, threads=1)
    ours.screen.fill_(9)  # no shade
    ours.step(torch.zeros(1, dtype=torch.int64))
    return ours


def _held(frames: int, lanes: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random buttons, each choice held for some frames."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, 256, (frames // 6 + 1, lanes)) & rng.choice(
        [0xFF, 0xF0, 0x0F, 0x91, 0], (frames // 6 + 1, 1)
    )
    return np.repeat(chosen, 6, axis=0)[:frames].astype(np.uint8)


@pytest.mark.parametrize("name", [name for name in TOGETHER if name not in LONG])
def test_micro_rom(name: str) -> None:
    rom = MICRO[name]()
    pair = Lockstep(rom.image)
    difference = pair.run(rom.frames, every=max(1, rom.frames // 3))
    assert difference is None, difference
    _finished(name, pair.ours)


@pytest.mark.parametrize("name", sorted(ALONE))
def test_exceptions(name: str) -> None:
    _finished(name, _alone(MICRO[name]()))


@pytest.mark.parametrize("name", sorted(CARTRIDGES))
def test_cartridges(name: str) -> None:
    _finished(name, _alone(MICRO[name](), "none"))


@pytest.mark.parametrize("name", [*sorted(PICTURED & ALONE), *thinned(sorted(PICTURED - ALONE), keep=4)])
def test_picture(name: str) -> None:
    rom = MICRO[name]()
    assert rom.picture is not None
    want = rom.picture()
    assert len(np.unique(want)) > 1 or name == "lcd_off_is_white"
    wrong = np.argwhere(_alone(rom).screen[0].numpy() != want)
    assert not len(wrong), f"{len(wrong)} pixels, the first (y, x) {wrong[:4].tolist()}"
    assert np.array_equal(_alone(rom, "half").screen[0].numpy(), want[::2, ::2])


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_every_frame(name: str) -> None:
    rom = MICRO[name]()
    pair = Lockstep(rom.image)
    difference = pair.run(rom.frames, every=1 if rom.frames < 300 else 37)
    assert difference is None, difference
    _finished(name, pair.ours)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "screen"), [(3, True), (24, True), (24, False), (5, False)])
def test_frames_in_one_step(frames: int, screen: bool) -> None:
    for name in set(TOGETHER) - LONG:
        rom = MICRO[name]()
        pair = Lockstep(rom.image, frames_per_step=frames, screen=screen)
        steps = -(-rom.frames // frames) + 2  # PyBoy's window is a line off in the first picture that it draws
        difference = pair.run(steps, every=steps)
        assert difference is None, f"{name}: {difference}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ENDLESS - ALONE))
def test_endless_programs_for_2000_frames(name: str) -> None:
    pair = Lockstep(MICRO[name]().image)
    difference = pair.run(2000, every=50)
    assert difference is None, difference


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_random_buttons(seed: int) -> None:
    pair = Lockstep(MICRO["joypad"]().image, lanes=3)
    difference = pair.run(2000, _held(2000, 3, seed), every=7)
    assert difference is None, difference


def test_buttons() -> None:
    pair = Lockstep(MICRO["joypad"]().image, lanes=2)
    difference = pair.run(30, _held(30, 2, 5), every=10)
    assert difference is None, difference
    left, right = pair.ours.read_memory(0xC000, 0x200).tolist()
    assert left != right  # the lanes went apart


@pytest.mark.parametrize("frames", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_directions_end_halt(frames: int) -> None:
    pair = Lockstep(MICRO["joypad_interrupt"]().image)
    difference = pair.run(frames, _held(frames, 1, 3) & 0xF0, every=frames // 4)
    assert difference is None, difference
    assert int(pair.ours.read_memory(0xC200)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_lantern_for_2000_frames_of_random_buttons(seed: int) -> None:
    pair = Lockstep(GameBoy("lantern", 1).rom.data, lanes=2, keeps_p1=True)
    difference = pair.run(2000, _held(2000, 2, seed))
    assert difference is None, difference


def _spoil_register(ours: GameBoy) -> str:
    ours.register("e").add_(1)
    return "e is"


def _spoil_pc(ours: GameBoy) -> str:
    ours.register("pc").add_(1)
    return "pc is"


def _spoil_wram(ours: GameBoy) -> str:
    ours.state.wram[0, 3] ^= 0x10000
    return "WRAM c00e is"


def _spoil_vram(ours: GameBoy) -> str:
    ours.state.vram[0, 0] ^= 1
    return "VRAM 8000 is"


def _spoil_port(ours: GameBoy) -> str:
    ours.register("tma").fill_(7)
    return "ff06 is 0x07, PyBoy's 0x00"


def _spoil_pixel(ours: GameBoy) -> str:
    ours.screen[0, 17, 40] ^= 1
    return "pixel x=40 y=17 is"


@pytest.mark.parametrize("spoil", [_spoil_register, _spoil_pc, _spoil_wram, _spoil_vram, _spoil_port, _spoil_pixel])
def test_a_difference_is_seen(spoil: Any) -> None:
    pair = Lockstep(MICRO["background"]().image)
    assert pair.run(12, every=12) is None
    said = spoil(pair.ours)
    difference = pair.compare()
    assert difference is not None
    assert difference.what.startswith(said), difference
    assert difference.frame == 12


def test_exceptions_are_ten_and_each_is_shown() -> None:
    assert len(EXCEPTIONS) == 10
    for exemption in EXCEPTIONS.values():
        assert exemption.reference.startswith(("Pan Docs, ", "Game Boy: Complete Technical Reference, "))
        assert exemption.tests
        assert all(name in ALONE or name in globals() for name in exemption.tests)
    assert set().union(*(x.tests for x in EXCEPTIONS.values())) >= ALONE


def test_exceptions_are_those_of_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "pixels.md").read_text("utf-8")
    assert f"({len(MICRO)} of them:" in text
    table = text.partition("| | here | PyBoy 2.8.1 | Pan Docs |\n")[2].partition("\n\n")[0]
    assert {line.split("|")[1].strip() for line in table.splitlines()[1:]} == set(EXCEPTIONS)


@pytest.mark.parametrize("opcode", [0xD3, 0xDB, 0xDD, 0xE3, 0xE4, 0xEB, 0xEC, 0xED, 0xF4, 0xFC, 0xFD])
def test_illegal_opcodes_stop_a_lane(opcode: int) -> None:
    rom = program(f"ld a, 1\n ldh (IE), a\n ei\n ldh a, (LY)\n db {opcode}\n ld a, 9\n ld (0xc000), a")
    ours = GameBoy(rom, 2, frames_per_step=3, release_after_frames=1, threads=1)
    assert not ours.faults.any()
    ours.step(torch.zeros(2, dtype=torch.int64))
    assert ours.faults.all()
    pc = ours.register("pc").clone()
    ours.step(torch.zeros(2, dtype=torch.int64))
    assert torch.equal(ours.register("pc"), pc)
    assert not ours.read_memory(0xC000).any()


def test_joypad_interrupt_needs_a_selected_line() -> None:
    """Pan Docs, "INT $60": a key asks for it where its half is selected and the line falls, not while it is held."""
    ours = GameBoy(
        program("ld a, 0x20\n ldh (P1), a\n jr here"), 1, frames_per_step=2, release_after_frames=2, threads=1
    )
    ours.step_buttons(torch.zeros(1, dtype=torch.uint8))
    clear = register_index("irq")
    seen = []
    for held in (0x01, 0x10, 0x10, 0x30, 0x00, 0x11):  # a, right, still right, left as well, none, both
        ours.state.registers[:, clear] = 0
        ours.step_buttons(torch.tensor([held], dtype=torch.uint8))
        seen.append(bool(int(ours.register("irq")) & 0x10))
    assert seen == [False, True, False, True, False, True]


def test_both_halves_of_the_joypad() -> None:
    """Pan Docs, "Joypad Input": with both halves selected, a line falls for a key of either."""
    ours = GameBoy(program("ld a, 0\n ldh (P1), a\n jr here"), 1, frames_per_step=1, threads=1)
    for held, want in ((0x21, 0xCC), (0x20, 0xCD), (0x01, 0xCE), (0x00, 0xCF)):  # a and left, left, a, none
        ours.step_buttons(torch.tensor([held], dtype=torch.uint8))
        assert int(ours.read_memory(0xFF00)) == want


STOPS = "ld a, 0x10\n ldh (P1), a\n ld bc, 0\n ld de, 0\n stop\n inc e\nx: inc bc\n jr x"  # INC E: STOP's second byte


def test_stop_with_a_key_held() -> None:
    """Pan Docs, "STOP": with a key held of a selected half it does not wait."""
    ours = GameBoy(program(STOPS), 1, frames_per_step=2, release_after_frames=2, threads=1)
    ours.step_buttons(torch.tensor([1], dtype=torch.uint8))
    assert int(ours.register("b")) > 0


def test_stop_waits_for_a_key() -> None:
    """Pan Docs, "STOP": the machine stands until a selected line falls, and DIV is 0."""
    ours = GameBoy(program(STOPS), 1, frames_per_step=2, release_after_frames=2, threads=1)
    for _ in range(3):
        ours.step_buttons(torch.zeros(1, dtype=torch.uint8))
        assert int(ours.register("c")) == 0
        assert int(ours.read_memory(0xFF04)) == 0
    ours.step_buttons(torch.tensor([1], dtype=torch.uint8))
    assert int(ours.register("b")) > 0
    assert int(ours.register("e")) == 0
