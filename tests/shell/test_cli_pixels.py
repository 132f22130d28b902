"""`armfold pixels`: what it records, captures and shows, in a terminal too, and that bad input costs one line."""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from armfold.core import random
from armfold.shell import backends, cli_pixels, cli_pixels_bench, cli_pixels_play, cli_pixels_record, cli_pixels_smoke
from armfold.shell.backends.gameboy import BuildError, GameBoy
from armfold.shell.backends.gameboy.rom import SHIPPED
from armfold.shell.envs.pixels import GoalEnv, TaskEnv
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.run import pixels
from armfold.shell.run.pixels import MachineSettings, Play, Timing, make_agent, open_machines
from armfold.shell.store.goals import load_goal
from armfold.shell.view.pixels import tile
from tests.shell.commands import SCRIPT, armfold_command, check_refused, check_refused_untouched
from tests.shell.helpers import files, heed_signals
from tests.shell.test_pixels_bench import illegal_rom
from tests.shell.test_pixels_view import shades

pytestmark = pytest.mark.usefixtures("place")
FACTS = json.loads((SHIPPED / "lantern.json").read_text())
SOLUTION = FACTS["solution"]
ONE = ("--threads", 1, "--quiet")


def played(steps: int, lanes: int = 1, **settings: Any) -> Iterator[GameBoy]:
    """The machine after each step of the solution, played in whole steps by action numbers."""
    machine = GameBoy("lantern", lanes, threads=1, **settings)
    for name in SOLUTION[:steps]:
        machine.step(torch.full((lanes,), machine.actions.index(name)))
        yield machine


def screens_of(path: Path, scale: int) -> list[tuple[Tensor, int]]:
    """The pictures of a GIF as shades, and how long each is shown, ms."""
    with Image.open(path) as image:
        return [(shades(frame)[::scale, ::scale], frame.info["duration"]) for frame in ImageSequence.Iterator(image)]


# Playing in parts of a step


@pytest.mark.parametrize(("every", "chunk"), [(None, 8), (2, 2), (3, 1), (48, 8)])
def test_play_in_parts_is_play_in_steps(every: int | None, chunk: int) -> None:
    """And whoever looks sees the same screens, at the ends of steps."""
    timing = Timing(24, 8, every)
    assert timing.chunk == chunk
    machine = GameBoy("lantern", 1, threads=1, frames_per_step=chunk, release_after_frames=chunk)
    play, looks = Play(machine, timing), 0
    whole = played(6)
    for _ in play.watch(make_agent("solution", machine.rom, num_envs=1, actions=machine.actions), 6):
        looks += 1
        if play.over and every != 48:
            assert all(map(torch.equal, machine.state, next(whole).state))
    assert looks == 6 * 24 // (every or 24)
    assert play.played == 6 * 24


@pytest.mark.parametrize(("frames", "held", "chunk"), [(24, 24, 24), (24, 30, 24), (7, 3, 1), (1, 1, 1), (12, 4, 4)])
def test_parts_of_other_steps(frames: int, held: int, chunk: int) -> None:
    timing = Timing(frames, held)
    assert timing.chunk == chunk
    whole = GameBoy("lantern", 2, threads=1, frames_per_step=frames, release_after_frames=held)
    parts = GameBoy("lantern", 2, threads=1, frames_per_step=chunk, release_after_frames=chunk)
    agent = make_agent("random", whole.rom, num_envs=2, actions=("start", "a+right", "noop"), seed=4)
    for _ in Play(parts, timing).watch(agent, 5):
        pass
    for step in range(5):
        whole.step_buttons(agent.buttons(step))
    assert all(map(torch.equal, parts.state, whole.state))


def test_a_random_agent_has_a_key_a_lane() -> None:
    rom = GameBoy("lantern", 1, threads=1).rom
    few, many = (make_agent("random", rom, num_envs=n, actions=("noop", "a", "b"), seed=7) for n in (3, 5))
    drawn = torch.stack([many.buttons(t) for t in range(40)])
    assert torch.equal(torch.stack([few.buttons(t) for t in range(40)]), drawn[:, :3])
    assert {*drawn.flatten().tolist()} == {0, 1, 2}
    assert (drawn[:, 0] != drawn[:, 1]).any()


@pytest.mark.parametrize("text", ["start\n\n right \na+up\n", '["start", "right", "a+up"]'])
def test_an_agent_from_a_file(text: str, place: Path) -> None:
    (place / "actions.txt").write_text(text)
    rom = GameBoy("lantern", 1, threads=1).rom
    agent = make_agent("actions.txt", rom, num_envs=2, actions=("noop",))
    assert agent.steps == 3
    assert [agent.buttons(t).tolist() for t in range(5)] == [[8, 8], [16, 16], [65, 65], [0, 0], [0, 0]]


def test_the_solution_of_a_game_whose_name_is_a_file_here(place: Path) -> None:
    rom = GameBoy("lantern", 1, threads=1).rom
    (place / "lantern").write_text("mine")
    assert make_agent("solution", rom, num_envs=1, actions=("noop",)).steps == len(SOLUTION)


# Recording


def test_a_gif_of_the_solution(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--agent", "solution", "--scale", 2, "--threads", 1, "--out", "sub/win.gif")
    assert armfold_command("pixels", "record", *words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("LANTERN: 1 lane, 42 steps of agent solution\npicture: sub/win.gif (")
    assert err == ""
    shown = screens_of(place / "sub" / "win.gif", 2)
    assert out.endswith(f" KiB, {len(shown)} pictures)\n")
    wanted = [machine.screen[0].clone() for machine in played(42)]
    assert all(torch.equal(got, frame) for (got, _), frame in zip(shown, wanted, strict=True))
    assert sum(milliseconds for _, milliseconds in shown) == pytest.approx(42 * 24 / 59.7275 * 1000 + 1000, abs=6)
    assert [*files(place)] == ["sub/win.gif"]


def test_a_gif_of_some_lanes_in_smooth_motion(place: Path) -> None:
    words = ("--num-envs", 5, "--lanes", "4,1", "--columns", 1, "--steps", 3, "--every", 2, "--scale", 1, "--seed", 3)
    actions = ("--actions", "start,noop")
    assert armfold_command("pixels", "record", *words, *actions, *ONE, "--out", "some.gif") == 0
    machine = GameBoy("lantern", 5, threads=1, frames_per_step=2, release_after_frames=2)
    agent = make_agent("random", machine.rom, num_envs=5, actions=("start", "noop"), seed=3)
    wanted = [tile(screen[[4, 1]], columns=1) for screen in Play(machine, Timing(24, 8, 2)).watch(agent, 3)]
    with Image.open(place / "some.gif") as image:
        shown = [shades(frame) for frame in ImageSequence.Iterator(image)]
    assert shown[0].shape == (2 * 72 + 4, 80)
    assert torch.equal(shown[-1], wanted[-1])
    changes = sum(not torch.equal(before, after) for before, after in itertools.pairwise(wanted))
    assert len(shown) == changes + 1  # equal ones are one that stays


def test_a_picture_and_a_sheet(place: Path) -> None:
    words = ("--num-envs", 6, "--lanes", "5", "--steps", 2, "--scale", 1, "--draw", "full", "--palette", "green")
    assert armfold_command("pixels", "record", *words, *ONE, "--out", "last.PNG", "--sheet", "all.png") == 0
    machine = GameBoy("lantern", 6, threads=1, draw="full")
    agent = make_agent("random", machine.rom, num_envs=6, actions=machine.actions)
    for step in range(2):
        machine.step_buttons(agent.buttons(step))
    with Image.open(place / "last.PNG") as last, Image.open(place / "all.png") as sheet:
        assert torch.equal(shades(last, "green"), machine.screen[5])
        assert torch.equal(shades(sheet, "green"), tile(machine.screen, columns=3))


def test_lanes_start_from_states(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps, machine in enumerate(played(4)):
        machine.save_state(place / f"{steps}.safetensors")
    words = ("--num-envs", 3, "--agent", "noop", "--steps", 1, "--scale", 1, "--columns", 3, *ONE)
    states = ("--state", "2.safetensors", "--state", "3.safetensors")
    assert armfold_command("pixels", "record", *words, *states, "--out", "all.png") == 0
    machine = GameBoy("lantern", 3, threads=1)
    for lane, name in enumerate(("2", "3", "2")):
        machine.load_state(place / f"{name}.safetensors", [lane])
    machine.step(torch.zeros(3, dtype=torch.int64))
    with Image.open(place / "all.png") as image:
        assert torch.equal(shades(image), tile(machine.screen, columns=3))
    refused = armfold_command("pixels", "record", *words[2:], *states, "--out", "other.png")
    check_refused(capsys, refused, r"state names 2 files, and there is room for 1 \(num_envs\)")


@pytest.mark.slow
def test_pyboy_records_the_same(place: Path) -> None:
    """Looked at often: after frames that it does not draw, PyBoy 2.8 shows old tiles where they have just changed."""
    for backend in ("gameboy", "pyboy"):
        words = ("--agent", "solution", "--steps", 8, "--every", 2, "--backend", backend, "--quiet")
        assert armfold_command("pixels", "record", *words, "--out", f"{backend}.gif") == 0
    assert (place / "gameboy.gif").read_bytes() == (place / "pyboy.gif").read_bytes()


def test_a_recording_that_is_ended_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a signal, which ends the process by itself again afterwards."""

    def watch(play: Play, *_: object) -> Iterator[Tensor]:
        yield play.machines.screen
        assert len(list(place.iterdir())) == 1
        os.kill(os.getpid(), signal.SIGTERM)
        yield play.machines.screen

    monkeypatch.setattr(Play, "watch", watch)
    assert armfold_command("pixels", "record", "--out", "a.gif", *ONE) == 143
    assert [*place.iterdir()] == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(cli_pixels, "smoke", lambda argv: seen.append(signal.getsignal(signal.SIGHUP)))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert armfold_command("pixels", "smoke") == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIG_IGN]


# Goals


def test_a_goal_is_captured_and_reached(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--agent", "solution", "--out", "goals/win", "--start-at", 30, "--tau", 0.04, "--k", 3)
    assert armfold_command("pixels", "goal", *words) == 0
    out = capsys.readouterr().out
    assert re.search(r"distance: 0\.\d+ at the start, after 30 steps; tau 0\.04\n", out)
    assert out.endswith("goal: goals/win\n")
    machine = GameBoy("lantern", 2, threads=1)
    goal, starts = load_goal("goals/win", rom=machine.rom.sha256), load_starts(machine, ["goals/win/start.safetensors"])
    frames = [machine.snapshot() for machine in played(42)]
    assert torch.equal(goal.frame, frames[-1].screen[0])
    assert all(map(torch.equal, starts, frames[29]))
    with Image.open(place / "goals" / "win" / "goal.png") as image:
        assert torch.equal(shades(image)[::3, ::3], goal.frame)
    env = GoalEnv(machine, goal.frame, tau=goal.tau, k=goal.k, starts=starts, stack_k=1, compile="off")
    env.reset(random.split(random.key(0), 2))
    done = []
    for name in [*SOLUTION[30:], "noop", "noop"]:
        _, reward, terminated, _, _ = env.step(torch.tensor([machine.actions.index(name), 0]))
        done.append(terminated.tolist())
    assert done == [[False, False]] * 13 + [[True, False]]
    assert reward[0] > 9


def test_a_goal_at_a_step_of_random_play(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--agent", "random", "--seed", 5, "--at", 0, "--out", "here")
    assert armfold_command("pixels", "goal", *words) == 0
    out, err = capsys.readouterr()
    assert "near it: 1 of the 1 screens" in out
    assert "start is within tau 0.05 of the goal already" in " ".join(err.split())
    assert load_goal("here").frame.sum() == 0  # nothing has been drawn yet


# Both environments


def smoke(*words: object) -> int:
    return armfold_command("pixels", "smoke", "--num-envs", 2, "--steps", 6, "--max-steps", 4, "--threads", 1, *words)


def test_smoke_runs_both_environments(capsys: pytest.CaptureFixture[str]) -> None:
    assert smoke("--stack-k", 1, "--stack-k", 3, "--compile", "off") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"{name} stack_k={k}" for k in (1, 3) for name in ("PixelsEnv", "GoalEnv")
    ]
    assert all(": ok (6 steps of 2 lanes, 2 episodes ended, " in line for line in lines)


def test_smoke_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A screen that is another one, and a reward that is no number."""
    with monkeypatch.context() as patch:
        patch.setattr(TaskEnv, "pixels", property(lambda env: env._machine.frame ^ 1))
        assert smoke("--stack-k", 1, "--compile", "off", "--quiet") == 1
    assert "PixelsEnv stack_k=1: obs[:, 0] is not env.pixels" in capsys.readouterr().out
    step = TaskEnv.step
    monkeypatch.setattr(TaskEnv, "step", lambda env, action: [*(x := step(env, action))[:1], x[1] / 0, *x[2:]])
    assert smoke("--stack-k", 2, "--compile", "off", "--quiet") == 1
    assert "GoalEnv stack_k=2: step 0: rewards are [" in capsys.readouterr().out


def test_smoke_tells_of_the_steps_that_it_took(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = TaskEnv.step
    monkeypatch.setattr(TaskEnv, "step", lambda env, action: [*(x := step(env, action))[:1], x[1] / 0, *x[2:]])
    assert smoke("--stack-k", 1, "--compile", "off", "--quiet") == 1
    assert capsys.readouterr().out.count("(1 steps of 2 lanes, 0 episodes ended)\n") == 2, "no time to speak of"


def test_smoke_tells_the_speed_of_a_step_that_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = itertools.accumulate(itertools.cycle((0, 9, 0, 9, 0, 9, 0, 1, 0, 500, 0, 1)))
    monkeypatch.setattr(cli_pixels_smoke, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert smoke("--stack-k", 1, "--compile", "off") == 0
    assert capsys.readouterr().out.count(", 2 env-steps/s, ") == 2


@pytest.mark.parametrize(("count", "fault"), [(0, "ok"), (8, "8 allocations in 4 steps")])
def test_smoke_says_that_nothing_is_allocated_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], count: int, fault: str
) -> None:
    bind = TaskEnv._bind
    monkeypatch.setattr(TaskEnv, "_bind", lambda env, *x: (bind(env, *x), setattr(env, "compiled", True))[0])
    monkeypatch.setattr(cli_pixels_smoke, "_allocations", lambda env, work: count)
    assert smoke("--stack-k", 1, "--compile", "off") == (count > 0)
    lines = capsys.readouterr().out.splitlines()
    assert all(f"stack_k=1: {fault} (6 steps of 2 lanes, " in line for line in lines)
    assert [line.endswith(", allocates nothing)") for line in lines] == [not count] * 2


@pytest.mark.slow
def test_smoke_counts_allocations(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    assert armfold_command("pixels", "goal", "--out", "win", "--start-at", 30, "--quiet") == 0
    assert smoke("--goal", "win") == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("allocates nothing)") for line in lines)
    step = TaskEnv.step
    monkeypatch.setattr(TaskEnv, "step", lambda env, action: (action + 1, step(env, action))[1])
    assert smoke("--stack-k", 1) == 1
    assert "allocations in 4 steps" in capfd.readouterr().out


def test_smoke_hands_on_every_knob(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And statistics allocate: there is nothing to count."""
    given: dict[str, Any] = {}
    make, bind = GoalEnv.__init__, TaskEnv._bind
    monkeypatch.setattr(GoalEnv, "__init__", lambda env, *a, **k: (given.update(k), make(env, *a, **k))[1])
    monkeypatch.setattr(TaskEnv, "_bind", lambda env, *x: (bind(env, *x), setattr(env, "compiled", True))[0])
    words = ("--info-mode", "stats", "--skip-reset-if-empty", "--no-final-obs", "--tau", 0.2, "--k", 2)
    paid = ("--alpha", 3, "--step-penalty", -1, "--goal-reward", 5)
    assert smoke("--stack-k", 1, "--compile", "off", *words, *paid) == 0
    assert "statistics allocate" in capsys.readouterr().out
    assert given.pop("starts") is None
    wanted = {"info_mode": "stats", "skip_reset_if_empty": True, "final_obs": False, "compile": "off", "stack_k": 1}
    rewards = {"alpha": 3, "step_penalty": -1, "goal_reward": 5}
    assert given == {**wanted, **rewards, "tau": 0.2, "k": 2, "max_steps": 4}


# What stands still


def test_a_game_that_stands_still_is_told_of(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rom, told = ("--rom", illegal_rom(place), "--quiet"), "of 2 lanes met an illegal opcode and stood still"
    assert smoke("--stack-k", 1, "--compile", "off", *rom) == 1
    assert capsys.readouterr().out.count(f": 2 {told} (6 steps of 2 lanes, ") == 2
    words = ("--agent", "noop", "--steps", 2, "--threads", 1)
    assert armfold_command("pixels", "record", *words, "--num-envs", 2, "--out", "a.png", *rom) == 0
    assert f"2 {told}" in " ".join(capsys.readouterr().err.split())
    assert armfold_command("pixels", "play", *words, "--frames", *rom) == 0
    assert "1 of 1 lane met an illegal opcode" in " ".join(capsys.readouterr().err.split())
    refused = armfold_command("pixels", "goal", "--agent", "noop", "--at", 2, "--out", "new", *rom)
    check_refused(capsys, refused, r"at 2 is no screen to reach: 1 of 1 lane met an illegal opcode")
    assert not (place / "new").exists()


def test_that_pyboy_plays_is_told_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many machines are made, without a place in the code, and with --quiet as well."""

    def fail(*_: Any, **__: Any) -> None:
        raise BuildError("no compiler of ours")

    monkeypatch.setattr(backends, "PyBoyBackend", GameBoy)
    monkeypatch.setattr(backends, "GameBoy", fail)
    monkeypatch.setattr(backends, "find_pyboy", lambda: None)
    warnings.simplefilter("always", RuntimeWarning)  # as PyBoy leaves it
    assert smoke("--stack-k", 1, "--compile", "off", "--quiet") == 0
    err = " ".join(capsys.readouterr().err.split())
    assert err == "WARNING no compiler of ours; PyBoy plays instead, many times slower"


@pytest.mark.parametrize(
    ("backend", "threads", "given"),
    [
        ("gameboy", None, {"threads": None}),
        ("auto", 2, {"threads": 2}),
        ("pyboy", None, {}),
        ("pyboy", 1, {}),
        ("pyboy", 3, {"workers": 3}),
    ],
)
def test_threads_mean_the_same_everywhere(
    monkeypatch: pytest.MonkeyPatch, backend: Any, threads: int | None, given: dict[str, int | None]
) -> None:
    monkeypatch.setattr(pixels, "open_backend", lambda *a, **knobs: knobs)
    knobs: Any = open_machines(MachineSettings(backend=backend, threads=threads), 1)
    assert {name: knobs[name] for name in ("threads", "workers") if name in knobs} == given


def test_threads_are_not_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "find_device", torch.device)
    with pytest.raises(ValueError, match=r"--threads would change nothing: the device is cuda:1, a GPU"):
        open_machines(MachineSettings(device="cuda:1", threads=2), 1)


# Closing


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("record", "--out", "a.png", "--steps", 1, *ONE)),
        (2, ("record", "--out", "a.png", "--agent", "nobody", *ONE)),
        (0, ("goal", "--out", "a", "--at", 1, *ONE)),
        (2, ("goal", "--out", "a", "--at", 99, *ONE)),
        (0, ("play", "--agent", "noop", "--frames", "--steps", 1, *ONE)),
        (2, ("play", "--agent", "noop", "--state", "none", *ONE)),
        (0, ("smoke", "--compile", "off", "--steps", 1, "--num-envs", 1, *ONE)),
        (2, ("smoke", "--goal", "none", *ONE)),
    ],
)
def test_all_machines_are_closed(code: int, words: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    opened, closed, make, close = [], [], GameBoy.__init__, GameBoy.close
    monkeypatch.setattr(GameBoy, "__init__", lambda self, *a, **k: (make(self, *a, **k), opened.append(self))[0])
    monkeypatch.setattr(GameBoy, "close", lambda self: (closed.append(self), close(self))[1])
    assert armfold_command("pixels", *words) == code
    assert {*map(id, opened)} == {*map(id, closed)}
    assert opened


# In the terminal


def test_frames_are_printed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("pixels", "play", "--agent", "solution", "--frames", "--steps", 3, "--threads", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 37
    assert [line for line in lines if line.startswith("step")] == ["step 1", "step 2", "step 3"]
    assert all(len(line) == 80 for line in lines if not line.startswith("step"))
    assert {*"".join(lines[37:73])} > {" ", "@"}


_TAIL = 200  # characters, more than any that is waited for


class AtTerminal:
    """`armfold pixels play` in a terminal of its own, 80 x 24."""

    def __init__(self, *words: object) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before, self.text = termios.tcgetattr(self.theirs), ""
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        argv = [str(word) for word in (SCRIPT, "pixels", "play", *words)]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs)
        environ["PYTHONIOENCODING"] = "utf-8"
        self.process = subprocess.Popen(argv, **streams, env=environ, preexec_fn=heed_signals)

    def wait_for(self, pattern: str) -> None:
        """Until it has said that, since the last time."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, self.text[-500:]
            self.text = self.text[-_TAIL:]
            self.read()
            assert self.process.poll() is None, self.text[-500:]
        self.text = self.text[found.end() :]

    def wait(self, seconds: float) -> None:
        """Reading on, for else it would wait as well."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()

    def read(self) -> None:
        if select.select([self.ours], [], [], 0.05)[0]:
            self.text += os.read(self.ours, 65536).decode("utf-8", "ignore")

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        """The exit status. The terminal is what it was."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        status = self.process.wait(1)
        for _ in range(3):
            self.read()
        assert termios.tcgetattr(self.theirs) == self.before
        assert "\x1b[?25h\x1b[?1049l" in self.text
        return status


@contextlib.contextmanager
def at_terminal(*words: object) -> Iterator[AtTerminal]:
    game = AtTerminal(*words, "--threads", 1)
    try:
        game.wait_for(r"\x1b\[\?1049h")
        yield game
    finally:
        game.process.kill()
        game.process.wait()
        os.close(game.ours)
        os.close(game.theirs)


@pytest.mark.slow
def test_a_person_plays(place: Path) -> None:
    with at_terminal("--save", "here.safetensors", "--goal", "goals/a", "--speed", 4, "--tau", 0.1) as game:
        game.wait_for("▀")
        game.wait_for(r"\x1b\[24;1HLANTERN  step 1  q quit")
        game.press("\r")
        game.wait(1)
        for _ in range(3):
            game.press("\x1b[C")
            game.wait(0.5)
        game.press("v")
        game.wait_for("saved here.safetensors")
        game.press("g")
        game.wait_for("goal a")
        game.press("g")  # replaces the first
        game.press("q")
        assert game.end() == 0
        assert "\x1b[25;1H" not in game.text
        assert game.text.endswith(f"\x1b[?1049lstate: {place / 'here.safetensors'}\r\ngoal: goals/a\r\n")
    machine = GameBoy("lantern", 1, threads=1)
    machine.load_state("here.safetensors")
    read = {name: machine.read_memory(*FACTS["memory"][name])[0].tolist() for name in ("mode", "steps")}
    assert read == {"mode": [1], "steps": [3, 0]}
    assert load_goal("goals/a", rom=machine.rom.sha256).tau == 0.1
    assert load_starts(machine, ["goals/a/start.safetensors"]).wram.any() == 0  # power-on


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (None, 0)])
def test_the_terminal_is_left_as_it_was(number: int | None, status: int) -> None:
    """Ended by a signal; and by itself, where an agent has no more to do."""
    words = () if number else ("--agent", "solution", "--speed", 100)
    with at_terminal(*words) as game:
        if number:
            game.wait_for("▀")
            game.process.send_signal(number)
        assert game.end() == status
        if not number:
            assert re.search(r"\x1b\[\?1049l.*▀.*LANTERN  step 42", game.text, re.DOTALL)  # its last picture stays


# Bad input

RECORD = ("record", "--out", "new/a.gif")
GOAL = ("goal", "--out", "new/goal")
BAD: dict[str, tuple[tuple[object, ...], str]] = {
    "action": (("recrod",), r"unknown action of pixels 'recrod': did you mean 'record'"),
    "flag": ((*RECORD, "--agnet", "noop"), r"--agnet\b.*--agent"),
    "rom": ((*RECORD, "--rom", "lantren"), r"unknown rom 'lantren': did you mean 'lantern'"),
    "rom that is no file": ((*RECORD, "--rom", "none.gb"), r"rom 'none\.gb' is not a file"),
    "rom that is none": ((*RECORD, "--rom", "full/notes.txt"), r"rom 'full/notes\.txt' is not a Game Boy ROM"),
    "agent": ((*RECORD, "--agent", "soluton"), r"unknown agent 'soluton': did you mean 'solution'"),
    "agent's file": ((*RECORD, "--agent", "a.txt"), r"agent 'a\.txt' is not a file"),
    "agent's actions": ((*RECORD, "--agent", "full/notes.txt"), r"agent 'full/notes\.txt': action 1: unknown .*'mine'"),
    "idle seed": ((*RECORD, "--agent", "noop", "--seed", 1), r"--seed would change nothing: only agent random draws"),
    "idle actions": ((*GOAL, "--actions", "a"), r"--actions would change nothing: only agent random draws"),
    "other steps": (
        (*RECORD, "--agent", "solution", "--frames-per-step", 12, "--release-after-frames", 4),
        r"'solution' would not win with --frames-per-step, --release-after-frames: it needs 24 .* 8 .* power-on",
    ),
    "other frames": (
        ("play", "--frames", "--agent", "solution", "--release-after-frames", 9),
        r"'solution' would not win with --release-after-frames",
    ),
    "actions": ((*RECORD, "--actions", "a,rihgt"), r"unknown action 'rihgt': did you mean 'right'"),
    "no actions": ((*RECORD, "--actions", ","), r"actions must name at least one, got ','"),
    "state": ((*RECORD, "--state", "none"), r"state 'none' is not a file"),
    "state that is none": ((*RECORD, "--state", "full/notes.txt"), r"state 'full/notes\.txt' cannot be read"),
    "backend": ((*RECORD, "--backend", "gamboy"), r"'gamboy' .*--backend\b.*gameboy"),
    "device": ((*RECORD, "--device", "nonsense"), r"device 'nonsense'"),
    "frames": ((*RECORD, "--frames-per-step", 0), r"frames_per_step .*0"),
    "held frames": ((*RECORD, "--release-after-frames", 0), r"release_after_frames .*0"),
    "threads": ((*RECORD, "--threads", 0), r"threads .*0"),
    "lanes": ((*RECORD, "--num-envs", 4, "--lanes", "0,4"), r"lanes must lie in \[0, 4\), got '4'"),
    "negative lanes": ((*RECORD, "--lanes", "x"), r"lanes must lie in \[0, 1\), got 'x'"),
    "no lanes": ((*RECORD, "--lanes", ","), r"lanes must name at least one lane, got ','"),
    "idle lanes": (("record", "--sheet", "a.png", "--lanes", "0"), r"--lanes would change nothing: sheet shows every"),
    "num_envs": ((*RECORD, "--num-envs", 0), r"num_envs .*0"),
    "steps": ((*RECORD, "--steps", 0), r"steps .*0"),
    "nothing to write": (("record",), r"out or sheet must name a file"),
    "suffix": (("record", "--out", "new/a.mp4"), r"out must end in \.gif or \.png, got 'new/a\.mp4'"),
    "suffix of a sheet": (("record", "--sheet", "new/a.gif"), r"sheet must end in \.png, got 'new/a\.gif'"),
    "the same file": (
        ("record", "--out", "full/a.png", "--sheet", "full/a.png"),
        r"sheet full/a\.png is the file of out",
    ),
    "a file in a file": (("record", "--out", "full/notes.txt/a.png"), r"out .*notes\.txt/a\.png cannot be written"),
    "too fast": ((*RECORD, "--every", 1), r"every 1 frames at speed 1 is a picture each 16\.7 ms.*20 ms"),
    "too seldom": ((*RECORD, "--every", 100, "--steps", 4), r"every 100 frames there is no picture in 4 steps of 24"),
    "idle speed": (("record", "--out", "a.png", "--speed", 2), r"--speed would change nothing: there is no GIF"),
    "speed": ((*RECORD, "--speed", 0), r"speed .*0"),
    "palette": ((*RECORD, "--palette", "gray"), r"'gray' .*--palette\b.*grey"),
    "goal's folder": (("goal", "--out", "full"), r"out full is not an empty folder"),
    "goal in a file": (("goal", "--out", "full/notes.txt/goal"), r"out full/notes\.txt/goal cannot be written"),
    "beyond the play": ((*GOAL, "--at", 43), r"at must lie in \[0, 42\], the steps of agent 'solution', got 43"),
    "at": ((*GOAL, "--at", -1), r"\bat .*-1"),
    "endless": ((*GOAL, "--agent", "random"), r"at must be given for agent 'random'"),
    "start": ((*GOAL, "--start-at", 43), r"start_at must lie in \[0, 42\].* got 43"),
    "tau": ((*GOAL, "--tau", 0), r"tau .*0"),
    "k": ((*GOAL, "--k", 0), r"\bk .*0"),
    "stack_k": (("smoke", "--stack-k", 0), r"stack_k .*0"),
    "smoke's alpha": (("smoke", "--alpha", "nan"), r"alpha .*nan"),
    "smoke's tau": (("smoke", "--tau", 2), r"tau .*2"),
    "goal that is not there": (("smoke", "--goal", "none"), r"goal 'none' is not there"),
    "goal that is none": (("smoke", "--goal", "full/notes.txt"), r"goal 'full/notes\.txt' cannot be read"),
    "no terminal": (("play",), r"play needs a terminal.*--frames"),
    "frames of nobody": (("play", "--frames"), r"frames are of an agent that plays: give --agent"),
    "endless frames": (("play", "--frames", "--agent", "random"), r"steps must be given with --frames"),
    "keys of frames": (("play", "--frames", "--agent", "noop", "--save", "a"), r"--save would change nothing"),
    "tau without a goal": (("play", "--tau", 0.1), r"--tau would change nothing: there is no --goal"),
    "a goal in use": (("play", "--goal", "full"), r"goal full is not an empty folder"),
    "a state in a folder": (("play", "--save", "full"), r"save .*full is not a file"),
}


@pytest.mark.parametrize(("words", "pattern"), BAD.values(), ids=BAD)
def test_bad_input_costs_one_line(
    words: tuple[object, ...], pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused_untouched(place, capsys, ["pixels", *words], pattern)


def test_the_solution_starts_at_power_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GameBoy("lantern", 1, threads=1).save_state(place / "a.safetensors")
    refused = armfold_command("pixels", *GOAL, "--state", "a.safetensors")
    check_refused(capsys, refused, r"'solution' would not win with --state: it needs")


def test_files_of_another_game(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same game in another cartridge."""
    data = bytearray((SHIPPED / "lantern.gb").read_bytes())
    data[0x7FFF] ^= 1
    (place / "other.gb").write_bytes(data)
    assert armfold_command("pixels", "goal", "--out", "win", "--quiet") == 0
    for words, pattern in (
        (("record", "--out", "a.gif", "--state", "win/start.safetensors"), r"state .*is of another ROM"),
        (("smoke", "--goal", "win"), r"goal 'win' is of another ROM"),
        (("record", "--out", "a.gif", "--agent", "solution"), r"agent 'solution' is for the games lantern, not"),
    ):
        check_refused(capsys, armfold_command("pixels", *words, "--rom", "other.gb"), pattern)


# Help

OPTIONS = {
    "play": cli_pixels_play._PlayOptions,
    "record": cli_pixels_record._RecordOptions,
    "goal": cli_pixels_record._GoalOptions,
    "smoke": cli_pixels_smoke._SmokeOptions,
    "bench": cli_pixels_bench._BenchOptions,
}


@pytest.mark.parametrize("action", OPTIONS)
def test_help_names_every_option(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("pixels", action, "--help") == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(OPTIONS[action]):
        assert re.search(rf"--{field.name.replace('_', '-')}\b", text), field.name


def test_usage_names_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("pixels", "--help") == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {action} +[A-Z]", out, re.MULTILINE) for action in OPTIONS)
    assert armfold_command("pixels") == 2
    assert capsys.readouterr().out == out
