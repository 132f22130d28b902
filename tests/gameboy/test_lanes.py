"""GameBoy: what a step, a reset, a snapshot and a file promise, and what is refused. Lantern is played."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.shell.backends.gameboy import GameBoy, State, build, find_rom, machine, shipped_roms, step
from tests.gameboy.assembler import rom
from tests.gameboy.micro import program

LANTERN = find_rom("lantern").data
FAST: dict[str, Any] = {"threads": 1, "frames_per_step": 2}


NO_INTEGERS = (torch.float32, torch.bool, torch.complex64)
NO_LISTS = ([True, False], [0.5, 1.0], [0, 2**70], [[0, 1]], "ab", None, 1)


def play(boy: GameBoy, steps: int, seed: int = 0) -> None:
    """Random actions, other ones in each lane."""
    for t in range(steps):
        lane = torch.arange(boy.num_envs)
        boy.step((lane * 7 + t * 3 + seed + lane * t) % len(boy.actions))


def assert_same(got: State, want: State) -> None:
    for name, x, y in zip(State._fields, got, want, strict=True):
        assert torch.equal(x, y), name


def changed(at: int, value: int, data: bytes = LANTERN) -> bytes:
    """The ROM with another byte in its header, and the checksum that fits."""
    image = bytearray(data)
    image[at] = value
    image[0x14D] = -sum(image[0x134:0x14D]) - 25 & 0xFF
    return bytes(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(b"", "rom is not a Game Boy ROM: it has 0 bytes", id="empty"),
        pytest.param(LANTERN[:0x7000], "it has 28672 bytes, and the smallest has 32768", id="short"),
        pytest.param(b"\x7fELF" * 0x4000, "the checksum of its header is", id="something else"),
        pytest.param(changed(0x148, 1), "truncated: its header says 65536 bytes, and it has 32768", id="truncated"),
        pytest.param(LANTERN * 2, "oversized: its header says 32768 bytes, and it has 65536", id="oversized"),
        pytest.param(changed(0x148, 9), "unknown size in its header: 0x09", id="size"),
        pytest.param(
            changed(0x147, 0xFF), r"unsupported mapper, HuC1 \(type 0xff\); supported are none, MBC1", id="mapper"
        ),
        pytest.param(changed(0x147, 0x77), "unsupported mapper, unknown", id="unknown mapper"),
        pytest.param(changed(0x149, 9), "unknown size of RAM", id="ram"),
        pytest.param(changed(0x143, 0xC0), "for the Game Boy Color alone", id="colour"),
    ],
)
def test_roms_refused(image: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GameBoy(image, 1)


def test_names_of_roms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for no_rom in (None, 3):
        with pytest.raises(TypeError, match=f"rom must be a file, its bytes, .* got {no_rom}"):
            GameBoy(no_rom, 1)  # type: ignore[arg-type]
    assert find_rom(bytearray(LANTERN)) == find_rom(find_rom("lantern"))
    assert shipped_roms() == ["lantern"]
    with pytest.raises(ValueError, match="lantern"):
        find_rom("lantren")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "no.gb"))):
        find_rom(tmp_path / "no.gb")
    (tmp_path / "a.gb").write_bytes(LANTERN)
    assert find_rom(tmp_path / "a.gb") == find_rom("lantern")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lantern").mkdir()
    assert find_rom("lantern") == find_rom("a.gb")
    (tmp_path / "lantern").rmdir()
    (tmp_path / "lantern").write_bytes(changed(0x14C, 7))
    assert find_rom("lantern").data[0x14C] == 7


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_envs": 0}, "num_envs must be an integer >= 1, got 0"),
        ({"frames_per_step": 0}, "frames_per_step must be an integer >= 1, got 0"),
        ({"release_after_frames": 0}, "release_after_frames must be an integer >= 1, got 0"),
        ({"actions": ("a", "jump")}, "jump"),
        ({"actions": ()}, "actions must name at least one action"),
        ({"actions": "start"}, "actions must be a sequence of names, got the string 'start'"),
        ({"actions": None}, "actions must be a sequence of names, got None"),
        ({"actions": (1,)}, "actions must be names, got 1"),
        ({"actions": ("noop+a",)}, r"unknown button in action 'noop\+a', 'noop': known are a, b, down, left, right"),
        ({"draw": None}, "unknown draw 'None'"),
        ({"layout": ""}, "unknown layout ''"),
        ({"frames_per_step": 2**31}, "frames_per_step must be at most 2147483647"),
        ({"draw": "hlaf"}, "half"),
        ({"layout": "rows"}, "layout"),
        ({"threads": 0}, "threads must be an integer >= 1, got 0"),
        ({"lanes_per_warp": 5}, "lanes_per_warp must be 1, 2, 4, 8, 16 or 32, got 5"),
        ({"device": "tpu"}, "device 'tpu' cannot be used here"),
    ],
)
def test_settings_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GameBoy(LANTERN, **{"num_envs": 1, **knobs})


def test_a_device_with_its_number() -> None:
    boy = GameBoy(LANTERN, 1, "cpu:0", **FAST)
    boy.reset()
    boy.step(torch.zeros(1, dtype=torch.int64))
    assert boy.state.registers.device == boy.device


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_cuda_is_absent() -> None:
    with pytest.raises(ValueError, match="device 'cuda' cannot be used here"):
        GameBoy(LANTERN, 1, "cuda")


def test_actions_refused() -> None:
    boy = GameBoy(LANTERN, 2, **FAST)
    wrong: Any
    for wrong in (
        *(torch.zeros(2, dtype=dtype) for dtype in NO_INTEGERS),
        torch.zeros(3, dtype=torch.int64),
        *NO_LISTS,
    ):
        with pytest.raises(ShapeError, match=r"actions must be integers of shape \(2,\), got"):
            boy.step(wrong)
        with pytest.raises(ShapeError, match=r"actions must be integers of shape \(2,\), got"):
            step(boy.machine, boy.state, wrong)
    for value in (-1, 8):
        with pytest.raises(ValueError, match=rf"actions must lie in \[0, 8\), got {value}"):
            boy.step(torch.tensor([0, value]))
        with pytest.raises(ValueError, match=rf"actions must lie in \[0, 8\), got {value}"):
            step(boy.machine, boy.state, torch.tensor([0, value]))
    with pytest.raises(ShapeError, match=r"buttons must have dtype torch.uint8"):
        boy.step_buttons(torch.zeros(2, dtype=torch.int64))
    assert int(boy.register("pc")[0]) == 0  # nothing has run


@pytest.mark.parametrize(
    "actions",
    [
        *(torch.tensor([3, 1], dtype=dtype) for dtype in (torch.uint8, torch.int32, torch.int64, torch.uint64)),
        *([3, 1], (3, 1), np.array([3, 1], np.uint16), np.array([1, 3])[::-1]),
    ],
)
def test_any_integers(actions: Any) -> None:
    boys = [GameBoy(LANTERN, 2, **FAST) for _ in range(3)]
    boys[0].step(actions)
    boys[1].step_buttons(torch.tensor([8, 1], dtype=torch.uint8))  # start; a
    assert_same(boys[0].state, boys[1].state)
    assert_same(step(boys[2].machine, boys[2].state, actions), boys[0].state)


def test_pure_step_is_the_step() -> None:
    boy = GameBoy(LANTERN, 3, **FAST)
    play(boy, 4)
    before, actions = boy.snapshot(), torch.tensor([0, 3, 5])
    kept = boy.snapshot()
    after = step(boy.machine, before, actions)
    boy.step(actions)
    assert_same(after, boy.state)
    assert_same(before, kept)
    assert not {x.data_ptr() for x in after} & {x.data_ptr() for x in before if x.numel()}
    assert_same(step(boy.machine, before, torch.tensor([0, 9, 3, 9, 5, 9])[::2]), after)
    with pytest.raises(TypeError, match=r"machine must be a Machine, such as game.machine of a GameBoy, got GameBoy"):
        step(boy, before, actions)  # type: ignore[arg-type]
    boy.close()
    with pytest.raises(ValueError, match="this GameBoy is closed"):
        step(boy.machine, before, actions)


@pytest.mark.parametrize("end", ["ld a, 0\n ldh (LCDC), a", "db 0xfc", "stop"])
def test_play_in_parts_is_play_in_whole_steps(end: str) -> None:
    """Though only the last frame of a step is drawn: the screen goes off, or the lane stops, below a window."""
    ports = {"LCDC": 0xB1, "WX": 7, "WY": 0, "BGP": 0xFF}
    lines = {"top": 1, "middle": 40}
    image = program(
        "".join(f"ld a, {value}\n ldh ({port}), a\n" for port, value in ports.items())
        + "ld d, 9\n frame:\n"
        + "".join(f"{name}: ldh a, (LY)\n cp {line}\n jr nz, {name}\n" for name, line in lines.items())
        + f"dec d\n jr nz, frame\n {end}\n jr here"
    )
    boys = [GameBoy(image, 1, frames_per_step=frames, threads=1) for frames in (12, 1)]
    for _ in range(2):
        boys[0].step([0])
        for _ in range(12):
            boys[1].step([0])
        assert_same(boys[0].state, boys[1].state)


def test_lanes_are_alone() -> None:
    together = GameBoy(LANTERN, 5, **FAST)
    play(together, 40)
    for lane in (0, 3):
        alone = GameBoy(LANTERN, 1, **FAST)
        for t in range(40):
            alone.step(torch.tensor([(lane * 7 + t * 3 + lane * t) % 8]))
        assert_same(alone.state, together.snapshot([lane]))


@pytest.mark.parametrize(
    "knobs",
    [
        pytest.param({"threads": 3}, id="threads"),
        pytest.param({"layout": "interleaved"}, id="layout", marks=pytest.mark.slow),  # compiled anew
    ],
)
def test_knobs_of_speed_change_nothing(knobs: dict[str, Any]) -> None:
    boys = [GameBoy(LANTERN, 9, **{**FAST, **extra}) for extra in ({}, knobs)]
    for boy in boys:
        play(boy, 30)
        boy.reset(torch.arange(9) % 3 == 0)
        play(boy, 3, seed=1)
    assert_same(*(boy.state for boy in boys))


@pytest.mark.slow
def test_uniform_decoding_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does with an opcode, on the CPU."""
    boys = [GameBoy(LANTERN, 5, frames_per_step=24)]
    monkeypatch.setattr(machine, "_defines", lambda settings: {"GB_UNIFORM": 1})
    boys.append(GameBoy(LANTERN, 5, frames_per_step=24))
    for boy in boys:
        play(boy, 50)
    assert_same(*(boy.state for boy in boys))


def test_drawing_changes_nothing() -> None:
    """Frames that are drawn are run change by change, others as few as can be."""
    boys = [GameBoy(LANTERN, 3, **FAST, draw=draw) for draw in ("none", "half", "full")]
    for boy in boys:
        play(boy, 60)
    nothing, half, full = (boy.state for boy in boys)
    assert_same(nothing._replace(screen=full.screen), full._replace(registers=_without_window(full, nothing)))
    assert_same(half._replace(screen=full.screen), full)
    assert torch.equal(half.screen, full.screen[:, ::2, ::2])
    assert len(full.screen.unique()) == 4


def _without_window(full: State, nothing: State) -> Tensor:
    """The registers, but for the count of window lines drawn."""
    column = machine.register_index("window_line")
    registers = full.registers.clone()
    registers[:, column] = nothing.registers[:, column]
    return registers


def test_resets() -> None:
    boy = GameBoy(LANTERN, 4, **FAST)
    fresh = boy.snapshot([0])
    play(boy, 30)
    starts = boy.snapshot([1, 3])
    play(boy, 30)
    before = boy.snapshot()
    boy.reset(torch.zeros(4, dtype=torch.bool), starts)
    assert_same(boy.state, before)
    mask, choice = torch.tensor([True, False, True, True]), torch.tensor([1, 0, 0, 1])
    boy.reset(mask, starts, choice)
    for lane in range(4):
        want = (
            State(*(x[choice[lane], None] for x in starts)) if mask[lane] else State(*(x[lane, None] for x in before))
        )
        assert_same(boy.snapshot([lane]), want)
    boy.reset()
    assert_same(boy.snapshot([2]), fresh)
    boy.restore(before)
    assert_same(boy.state, before)


def test_resets_refused() -> None:
    boy, other = GameBoy(LANTERN, 2, **FAST), GameBoy(rom("nop", mapper=3, ram=0x2000), 2, **FAST)
    with pytest.raises(ShapeError, match=r"mask must be torch.bool of shape \(2,\)"):
        boy.reset(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"choice must be torch.int64 of shape \(2,\)"):
        boy.reset(choice=torch.zeros(3, dtype=torch.int64))
    for choice in (torch.tensor([0, 1]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match=r"choice must lie in \[0, 1\), got"):
            boy.reset(choice=choice)
    with pytest.raises(ShapeError, match="start must have at least one lane"):
        boy.reset(start=State(*(x[:0] for x in boy.state)))
    for live in (boy.state, State(*(x[1:] for x in boy.state))):
        with pytest.raises(ValueError, match=r"start must not be the live state, .* take a snapshot"):
            boy.reset(start=live)
    with pytest.raises(ShapeError, match=r"start must be .*gameboy.state.State, got builtins.tuple"):
        boy.reset(start=tuple(boy.snapshot()))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="mask must be a tensor, got list"):
        boy.reset([True, False])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"start.cart_ram must be torch.int32 \(2, 0\)"):
        boy.reset(start=other.snapshot())
    with pytest.raises(ShapeError, match=r"state.registers must be"):
        boy.restore(boy.snapshot([0]))
    for lanes in ([2], [-1], []):
        with pytest.raises(ValueError, match=re.escape(f"lanes must be some of [0, 2), got {lanes}")):
            boy.snapshot(lanes)
    for mask in (torch.tensor([False, True]), torch.tensor([0.0, 1.0]), [False, True]):
        with pytest.raises(ShapeError, match="lanes must be integers, got"):
            boy.snapshot(mask)


def test_files(tmp_path: Path) -> None:
    boy = GameBoy(LANTERN, 3, **FAST, draw="full")
    play(boy, 50)
    path = tmp_path / "deep" / "lane.safetensors"
    boy.save_state(path, lane=2)
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert_same(boy.read_state(path), boy.snapshot([2]))
    again = GameBoy(LANTERN, 2, **FAST, draw="full")
    again.load_state(path, lanes=[1])
    assert_same(again.snapshot([1]), boy.snapshot([2]))
    assert int(again.register("pc")[0]) == 0
    half = GameBoy(LANTERN, 1, **FAST)
    half.load_state(path)
    assert torch.equal(half.screen[0], boy.screen[2, ::2, ::2])
    half.save_state(path)
    again.load_state(path)  # doubled, until the next step draws it
    assert torch.equal(again.screen[:, 1::2, 1::2], again.screen[:, ::2, ::2])
    assert torch.equal(again.screen[0, ::2, ::2], half.screen[0])
    for machines in (boy, again):
        play(machines, 1)
    assert torch.equal(again.screen[0], boy.screen[2])


def test_files_refused(tmp_path: Path) -> None:
    boy, path = GameBoy(LANTERN, 1, **FAST), tmp_path / "a"
    boy.save_state(path)
    before = boy.snapshot()
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata()

    def refuse(message: str, machine: GameBoy = boy) -> None:
        with pytest.raises(ValueError, match=message):
            machine.load_state(path)
        assert_same(boy.state, before)

    with pytest.raises(ShapeError, match="lanes must be integers"):
        boy.load_state(path, torch.tensor([True]))
    with pytest.raises(ValueError, match=f"state {tmp_path} is not a file"):
        boy.save_state(tmp_path)
    refuse("is of another ROM .'LANTERN'", GameBoy(rom("nop"), 1, **FAST))
    undrawn = GameBoy(LANTERN, 1, **FAST, draw="none")
    undrawn.save_state(tmp_path / "undrawn")
    with pytest.raises(ValueError, match=r"has a picture of \(0, 0\), and one of \(72, 80\) is wanted"):
        boy.load_state(tmp_path / "undrawn")
    safetensors.torch.save_file(tensors, path, {**facts, "version": "0"})
    refuse("of another version of armfold")
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, facts)
    refuse("must hold registers, ")
    safetensors.torch.save_file(tensors | {"vram": torch.zeros(1)}, path, facts)
    refuse("vram must be torch.int32")
    safetensors.torch.save_file(tensors, path)
    refuse("is not an armfold Game Boy state, but 'something else'")
    safetensors.torch.save_file(tensors, path, facts | {"format": "armfold PyBoy state"})
    refuse("is not an armfold Game Boy state, but 'armfold PyBoy state'; saved by backend 'pyboy', which plays it")
    path.write_bytes(b"nonsense")
    refuse("cannot be read")
    path.unlink()
    refuse("is not a file")


@pytest.mark.parametrize(
    ("register", "value"),
    [("rom_high", 2), ("rom_low", -1), ("ly", 154), ("dma_next", -1), ("window_line", 400), ("lcd_target", 2**31 - 1)],
)
def test_files_with_impossible_numbers_are_refused(tmp_path: Path, register: str, value: int) -> None:
    boy = GameBoy(LANTERN, 1, **FAST)
    play(boy, 5)
    boy.save_state(tmp_path / "good")
    boy.register(register).fill_(value)
    boy.save_state(tmp_path / "bad")
    boy.load_state(tmp_path / "good")
    with pytest.raises(ValueError, match=f"has {register} = {value}, which must lie in"):
        boy.load_state(tmp_path / "bad")


def test_every_state_that_is_reached_can_be_loaded(tmp_path: Path) -> None:
    boy = GameBoy(LANTERN, 4, **FAST)
    for t in range(30):
        play(boy, 1 + t % 3, seed=t)
        boy.save_state(tmp_path / "a", lane=t % 4)
        boy.load_state(tmp_path / "a", lanes=[t % 4])


SAMPLE = """
    loop: ld a, ({address})
    ld (de), a
    inc e
    ld b, 24
    wait: dec b
    jr nz, wait
    nop
    jr loop
"""


@pytest.mark.parametrize("address", [0xFF41, 0xFF44, 0xFE00, 0x8000])
def test_what_is_read_does_not_depend_on_drawing(address: int) -> None:
    """The loop lasts a machine cycle less than a line, so it reads at every place in one."""
    image = rom("ld de, 0xc000\n ld a, 0x55\n ld (0xc200), a\n" + SAMPLE.format(address=address))
    boys = [GameBoy(image, 1, draw=draw, frames_per_step=9) for draw in ("none", "full")]
    seen = []
    for boy in boys:
        boy.step(torch.zeros(1, dtype=torch.int64))
        boy.reset()
        for _ in range(9):
            boy.step(torch.zeros(1, dtype=torch.int64))
        seen.append(boy.read_memory(0xC000, 0x100))
    assert torch.equal(*seen)
    assert len(seen[0].unique()) > 1


def test_a_frame_that_ends_as_the_screen_is_switched_on_is_white() -> None:
    flicker = "ld a, 0x11\n ldh (0xff40), a\n nop\n ld a, 0x91\n ldh (0xff40), a\n"
    image = rom("ld a, 0xff\n ldh (0xff47), a\n ld bc, 0x4000\n wait: dec bc\n ld a, b\n or c\n jr nz, wait\n"
                f"again: {flicker} jr again")  # fmt: skip
    boy = GameBoy(image, 1, frames_per_step=1)
    seen = set()
    for _ in range(60):
        boy.step(torch.zeros(1, dtype=torch.int64))
        seen.add(int(boy.screen.max()))
    assert seen == {0, 3}  # black while it is on
    assert int(boy.screen.max()) == 0


def test_a_closed_one_says_so() -> None:
    with GameBoy(LANTERN, 1, **FAST) as boy:
        boy.render()
    boy.close()
    for ask in (lambda: boy.step(torch.zeros(1, dtype=torch.int64)), boy.render, boy.reset, lambda: boy.read_memory(0)):
        with pytest.raises(ValueError, match="this GameBoy is closed"):
            ask()


def test_illegal_opcodes_stop_a_lane() -> None:
    """One lane presses A, and the program then runs into an opcode that there is not; the other goes on."""
    image = rom("""
        loop: ld a, 0x10
        ldh (0xff00), a
        ldh a, (0xff00)
        and 1
        jr nz, go
        db 0xfc
        go: ld hl, 0xc000
        inc (hl)
        jr loop
    """)
    boy = GameBoy(image, 2, **FAST)
    boy.step(torch.tensor([0, 0]))
    assert not boy.faults.any()
    boy.step(torch.tensor([0, 1]))
    before = boy.snapshot()
    assert boy.faults.tolist() == [False, True]
    assert not boy.screen[1].any()
    assert int(boy.register("fault")[1]) == 1 + 0xFC
    boy.step(torch.tensor([0, 0]))
    assert_same(boy.snapshot([1])._replace(registers=before.registers[1:]), State(*(x[1:] for x in before)))
    assert not torch.equal(boy.read_memory(0xC000)[0], before.wram.view(torch.uint8)[0, :1])
    boy.reset(boy.faults.clone())
    boy.step(torch.tensor([0, 0]))
    assert not boy.faults.any()


def test_reading_memory() -> None:
    boy = GameBoy(LANTERN, 2, **FAST)
    play(boy, 20)
    before = boy.snapshot()
    whole = boy.read_memory(0, 0x10000)
    assert_same(boy.state, before)
    assert bytes(whole[0, :0x8000].tolist()) == LANTERN
    assert torch.equal(whole[:, 0xC000:0xE000], before.wram.view(torch.uint8))
    assert torch.equal(whole[:, 0x8000:0xA000], before.vram.view(torch.uint8))
    out = torch.zeros(2, 3, dtype=torch.uint8)
    assert boy.read_memory(0xC0A0, 3, out=out) is out
    assert torch.equal(out, whole[:, 0xC0A0:0xC0A3])
    assert torch.equal(boy.read_memory(np.uint16(0xC0A0), np.int64(3)), out)
    for asked, message in (
        ((0x10000,), r"address must be in \[0, 0xffff\] for 1 bytes, got 65536"),
        ((0xFFFF, 2), r"address must be in \[0, 0xfffe\] for 2 bytes, got 65535"),
        ((0, 0x10001), "length must be an integer >= 1 and <= 65536, got 65537"),
        (("pc",), "address must be an integer, got 'pc'"),
        ((True,), "address must be an integer, got True"),
        ((0, 1.5), "length must be an integer, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            boy.read_memory(*asked)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="out must be uint8, contiguous"):
        boy.read_memory(0, 2, out=out)
    for name in ("program_counter", None, 3):
        with pytest.raises(ValueError, match=f"unknown register '{name}'"):
            boy.register(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [0xFE00, 0xFEA0, 0xFF44])
def test_reading_memory_does_not_go_on_with_dma(address: int) -> None:
    """Nor does it meet the lock of modes 2 and 3."""
    boy = GameBoy(rom("jr here"), 1, **FAST)
    boy.step([0])
    boy.state.wram.fill_(0x55555555)
    for name, value in {"dma_on": 1, "dma_next": 0, "dma": 0xC0, "dma_start": -400, "lcdc": 0x91, "stat": 2}.items():
        boy.register(name).fill_(value)
    before = boy.snapshot()
    assert address >= 0xFF00 or boy.read_memory(address).tolist() == [[0]]
    boy.read_memory(address, 0x20)
    assert_same(boy.state, before)


def test_no_picture_no_render() -> None:
    with pytest.raises(ValueError, match="draw='none'"):
        GameBoy(LANTERN, 1, **FAST, draw="none").render()


def test_sixteen_thousand_lanes_fit() -> None:
    state = GameBoy(rom("nop", mapper=3, ram=0x8000), 1, **FAST).state
    lane = sum(x.numel() * x.element_size() for x in state)
    assert 16384 * lane < 2**30


def test_a_job_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        gb_job_bytes = staticmethod(lambda: 8)

    monkeypatch.setattr(build, "compile_library", lambda *_, **__: Other)
    with pytest.raises(RuntimeError, match="takes jobs of 8 bytes"):
        GameBoy(LANTERN, 1)
