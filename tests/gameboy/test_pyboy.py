"""PyBoy with GameBoy's face, against GameBoy, and its own promises: resets, states, faults, workers."""

import gc
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from armfold.core.check import ShapeError
from armfold.shell import backends
from armfold.shell.backends import pyboy, pyboy_lanes
from armfold.shell.backends.gameboy import ACTIONS, BuildError, GameBoy
from armfold.shell.backends.pyboy import PyBoyBackend
from tests.gameboy.micro import program
from tests.gameboy.roms import MICRO

Make = Callable[..., PyBoyBackend]


@pytest.fixture
def make() -> Iterator[Make]:
    """Backends that are closed in the end."""
    made: list[PyBoyBackend] = []

    def build(rom: Any = None, num_envs: int = 1, **knobs: Any) -> PyBoyBackend:
        made.append(PyBoyBackend(MICRO["joypad"]().image if rom is None else rom, num_envs, **knobs))
        return made[-1]

    yield build
    for backend in made:
        backend.close()


def _actions(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize("draw", ["half", "full", "none"])
def test_agrees_with_gameboy(make: Make, draw: Any) -> None:
    knobs: dict[str, Any] = {"frames_per_step": 5, "release_after_frames": 2, "draw": draw}
    image = MICRO["joypad"]().image
    ours, theirs = GameBoy(image, 2, threads=1, **knobs), make(image, 2, **knobs)
    assert (ours.actions, ours.draw, ours.num_envs, ours.rom) == (
        theirs.actions,
        theirs.draw,
        theirs.num_envs,
        theirs.rom,
    )
    for step in range(6):
        actions = _actions(step % len(ACTIONS), (3 * step + 1) % len(ACTIONS))
        ours.step(actions.to(torch.int32))
        theirs.step(actions.to(torch.int32))
        assert torch.equal(ours.screen, theirs.screen)
        assert torch.equal(ours.read_memory(0xC000, 0x200), theirs.read_memory(0xC000, 0x200))
        assert torch.equal(ours.register("pc"), theirs.register("pc"))
    assert not torch.equal(*theirs.read_memory(0xC100, 16))


@pytest.mark.parametrize("release", [3, 4])
def test_held_buttons(make: Make, release: int) -> None:
    """With release_after_frames = frames_per_step a button stays down until the next step, else it is let go."""
    image = MICRO["joypad"]().image
    ours = GameBoy(image, 1, frames_per_step=4, release_after_frames=release, threads=1)
    theirs = make(image, frames_per_step=4, release_after_frames=release)
    for bits in (0x11, 0x11, 0x20, 0, 0xFF):
        ours.step_buttons(torch.tensor([bits], dtype=torch.uint8))
        theirs.step_buttons(torch.tensor([bits], dtype=torch.uint8))
        assert torch.equal(ours.read_memory(0xC000, 0x200), theirs.read_memory(0xC000, 0x200))


def test_shades_of_a_picture(make: Make) -> None:
    rom = MICRO["background"]()
    full, half = make(rom.image, draw="full", frames_per_step=15), make(rom.image, frames_per_step=15)
    for backend in (full, half):
        backend.step(_actions(0))
    assert rom.picture is not None
    want = torch.from_numpy(rom.picture())
    assert torch.equal(full.render()[0], want)
    assert torch.equal(half.render()[0], want[::2, ::2])


def test_reset_snapshot_restore(make: Make) -> None:
    backend = make(num_envs=3, frames_per_step=2, release_after_frames=1)
    start = backend.snapshot([0])
    backend.step(_actions(1, 2, 3))
    after = backend.snapshot()
    assert after.data.shape == (3, start.data.shape[1])
    backend.step(_actions(4, 5, 6))
    memory = backend.read_memory(0xC000, 0x200)
    backend.restore(after)
    backend.step(_actions(4, 5, 6))
    assert torch.equal(backend.read_memory(0xC000, 0x200), memory)
    backend.reset(torch.tensor([True, False, True]))
    assert backend.register("pc").tolist()[0::2] == [0, 0]
    assert backend.register("pc")[1] != 0
    both = type(after)(*(torch.cat(pair) for pair in zip(start, backend.snapshot([1]))))
    backend.reset(None, both, torch.tensor([1, 0, 1]))
    assert backend.register("pc").tolist()[1] == 0
    assert torch.equal(*backend.read_memory(0xC000, 0x200)[::2])


def test_state_files(make: Make, tmp_path: Path) -> None:
    backend = make(num_envs=2, frames_per_step=3, release_after_frames=1)
    backend.step(_actions(1, 2))
    backend.save_state(tmp_path / "lane.state", 1)
    memory = backend.read_memory(0xC000, 0x200)[1]
    backend.reset()
    backend.load_state(tmp_path / "lane.state", [0])
    assert torch.equal(backend.read_memory(0xC000, 0x200)[0], memory)
    assert int(backend.register("pc")[1]) == 0
    assert torch.equal(backend.read_state(tmp_path / "lane.state").data, backend.snapshot([0]).data)
    assert make(draw="full").read_state(tmp_path / "lane.state").screen.shape == (1, 144, 160)
    with pytest.raises(ValueError, match=r"is of another ROM \('MICRO', sha256"):
        make(MICRO["serial"]().image).load_state(tmp_path / "lane.state")
    with pytest.raises(ValueError, match="is not a file"):
        backend.load_state(tmp_path / "none.state")
    (tmp_path / "text.state").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read"):
        backend.load_state(tmp_path / "text.state")
    GameBoy(MICRO["joypad"]().image, 1).save_state(tmp_path / "text.state")
    with pytest.raises(ValueError, match="but 'armfold Game Boy state'; saved by backend 'gameboy', which plays it"):
        backend.load_state(tmp_path / "text.state")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lane.state", "text.state"]  # nothing beside them


@pytest.mark.parametrize("opcode", [0xDB, 0xD3])  # PyBoy's own breakpoint, and one of the others
def test_an_illegal_opcode_stops_a_lane_only(make: Make, opcode: int) -> None:
    """The lane that holds A down meets it; the other goes on, and a reset mends it."""
    rom = program(f"""
    ld a, 0xff
    ldh (BGP), a
    ld a, 0x10
loop:
    ldh (P1), a
    ldh a, (P1)
    bit 0, a
    ld a, 0x10
    jr nz, loop
    ld sp, 0xdfee
    db {opcode}
""")
    backend = make(rom, 2, frames_per_step=4, release_after_frames=2)
    parking = backend.read_memory(0xFF80, 2)
    backend.step(_actions(ACTIONS.index("a"), 0))
    assert backend.faults.tolist() == [True, False]
    assert [int(screen.max()) for screen in backend.screen] == [0, 3]
    at = int(backend.register("pc")[0])
    assert backend.read_memory(at)[0] == opcode
    assert int(backend.register("sp")[0]) == 0xDFEE
    assert torch.equal(backend.read_memory(0xFF80, 2)[0], parking[0])
    backend.step(_actions(0, 0))
    assert int(backend.register("pc")[0]) == at
    backend.reset(backend.faults.clone())
    assert not backend.faults.any()
    backend.step(_actions(0, 0))
    assert not backend.faults.any()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"num_envs": 0}, "num_envs must be an integer >= 1, got 0"),
        ({"frames_per_step": 0}, "frames_per_step must be an integer >= 1"),
        ({"release_after_frames": 0}, "release_after_frames must be an integer >= 1"),
        ({"workers": 0}, "workers must be an integer >= 1"),
        ({"device": "cuda"}, "device must be 'cpu' for PyBoy, got 'cuda'"),
        ({"draw": "quarter"}, "quarter"),
        ({"actions": ("jump",)}, "jump"),
        ({"actions": ()}, "actions must name at least one action"),
        ({"actions": "start"}, "actions must be a sequence of names, got the string 'start'"),
        ({"frames_per_step": 2**31}, "frames_per_step must be at most 2147483647"),
        ({"rom": b"no"}, "is not a Game Boy ROM"),
    ],
)
def test_bad_arguments(knobs: dict[str, Any], said: str) -> None:
    arguments = {"rom": MICRO["serial"]().image, "num_envs": 1} | knobs
    with pytest.raises(ValueError, match=re.escape(said)):
        PyBoyBackend(**arguments)


def test_bad_calls(make: Make) -> None:
    backend = make(num_envs=2, draw="none")
    with pytest.raises(ShapeError, match="actions"):
        backend.step(_actions(0))
    for dtype in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(ShapeError, match="actions must be integers"):
            backend.step(torch.zeros(2, dtype=dtype))
    backend.step([0, 1])
    with pytest.raises(ValueError, match=r"actions must lie in \[0, 8\), got 8"):
        backend.step(_actions(0, 8))
    with pytest.raises(ShapeError, match="buttons"):
        backend.step_buttons(_actions(0, 0))
    with pytest.raises(ValueError, match="draw='none'"):
        backend.render()
    with pytest.raises(ShapeError, match="mask"):
        backend.reset(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"choice must lie in \[0, 1\)"):
        backend.reset(choice=_actions(0, 1))
    with pytest.raises(ShapeError, match="state"):
        backend.restore(backend.snapshot([0]))
    with pytest.raises(ValueError, match="lanes"):
        backend.snapshot([2])
    with pytest.raises(ShapeError, match="lanes must be integers"):
        backend.snapshot(torch.tensor([True, False]))
    with pytest.raises(ShapeError, match=r"start must be .*pyboy.State, got .*gameboy.state.State"):
        backend.reset(start=GameBoy(backend.rom, 1).snapshot())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rom must be a file"):
        PyBoyBackend(None, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="address"):
        backend.read_memory(0xFFFF, 2)
    with pytest.raises(ShapeError, match="out"):
        backend.read_memory(0xC000, 2, out=torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="ime2"):
        backend.register("ime2")


@pytest.mark.slow
def test_workers_do_the_same(make: Make) -> None:
    alone, shared = make(num_envs=3, frames_per_step=3), make(num_envs=3, frames_per_step=3, workers=2)
    for step in range(4):
        for backend in (alone, shared):
            backend.step(_actions(step, step + 1, step + 2))
        assert torch.equal(alone.read_memory(0xC000, 0x200), shared.read_memory(0xC000, 0x200))
        assert torch.equal(alone.screen, shared.screen)
    for backend in (alone, shared):
        backend.reset(torch.tensor([False, True, True]), backend.snapshot([0, 2]), torch.tensor([0, 0, 1]))
    assert torch.equal(alone.read_memory(0xC000, 0x200), shared.read_memory(0xC000, 0x200))
    assert torch.equal(alone.register("pc"), shared.register("pc"))


@pytest.mark.slow
def test_a_worker_that_dies_is_told_of(make: Make) -> None:
    backend = make(num_envs=2, workers=2)
    backend._boys._workers[1].process.kill()  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="worker 1 of the PyBoys has died"):
        backend.step(_actions(0, 0))


def test_a_closed_one_says_so(make: Make) -> None:
    with make() as backend:
        backend.render()
    backend.close()
    for ask in (lambda: backend.step(_actions(0)), backend.render, backend.reset, lambda: backend.read_memory(0)):
        with pytest.raises(ValueError, match="this PyBoyBackend is closed"):
            ask()


@pytest.mark.slow
def test_a_ctrl_c_in_a_step_ends_the_workers(make: Make) -> None:
    """Their answers to it would else be taken for those of later calls."""
    backend = make(num_envs=2, workers=2, frames_per_step=100_000)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            backend.step(_actions(0, 0))
    finally:
        signal.signal(signal.SIGALRM, before)
    for ask in (lambda: backend.step(_actions(0, 0)), lambda: backend.read_memory(0)):
        with pytest.raises(RuntimeError, match=r"these PyBoys have ended \(KeyboardInterrupt .*: make others"):
            ask()


@pytest.mark.slow
def test_workers_do_not_meet_a_ctrl_c_even_while_they_begin() -> None:
    context = torch.multiprocessing.get_context("spawn")
    with pyboy._later_interrupts():
        process = context.Process(target=time.sleep, args=(0.1,), daemon=True)
        process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 0


def test_a_worker_without_an_owner_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    settings = pyboy_lanes.Settings(MICRO["serial"]().image, 1, 1, "none")
    buffers = (torch.zeros(1, 0, 0, dtype=torch.uint8), torch.zeros(1, dtype=torch.bool), torch.zeros(1))
    pyboy_lanes.serve(theirs, settings, *buffers, slice(0, 1))


@pytest.fixture
def no_gameboy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GameBoy that cannot be compiled."""

    def fail(*_: Any, **__: Any) -> None:
        raise BuildError("compiling failed: no header")

    monkeypatch.setattr(backends, "GameBoy", fail)


@pytest.mark.usefixtures("no_gameboy")
def test_pyboy_plays_where_gameboy_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, and threads become workers."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(backends, "PyBoyBackend", lambda *_, **settings: made.append(settings))
    speed: list[dict[str, Any]] = [{"threads": 3, "layout": "contiguous"}, {"threads": 1}, {"threads": None}, {}]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for settings in speed:
            backends.open_backend("lantern", 4, draw="full", **settings)
        library = {"__name__": "armfold.shell.mine", "open_backend": backends.open_backend}
        exec("def make(): open_backend('lantern', 1)", library)
        cast(Any, library["make"])()
    assert made == [{"draw": "full", "workers": 3}, *[{"draw": "full"}] * 3, {}]
    assert {str(warning.message) for warning in told} == {
        "compiling failed: no header; PyBoy plays instead, many times slower"
    }
    assert [warning.filename for warning in told] == [__file__] * 2  # a line of the caller's each
    with pytest.raises(BuildError, match=r"compiling failed: no header$"):
        backends.open_backend("lantern", 4, backend="gameboy")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"drw": "full"}, "unknown setting 'drw': did you mean 'draw'"),
        ({"drw": "full", "backend": "pyboy"}, "unknown setting 'drw': did you mean 'draw'"),
        ({"workers": 2}, "backend 'gameboy' has no setting 'workers', which 'pyboy' has"),
        ({"threads": 2, "backend": "pyboy"}, "backend 'pyboy' has no setting 'threads', which 'gameboy' has"),
    ],
)
def test_settings_that_are_not_there_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        backends.open_backend("lantern", 2, **settings)


def test_one_that_is_forgotten_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    backend = PyBoyBackend(MICRO["serial"]().image, 1)
    (thread,) = set(threading.enumerate()) - before
    del backend
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.usefixtures("no_gameboy")
def test_without_either_both_ways_out_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyboy", None)
    with pytest.raises(BuildError, match=r"no header; or `pip install 'armfold\[pyboy\]'`: PyBoy needs no compiler"):
        backends.open_backend("lantern", 1)
