"""`armfold pixels bench`: its record, what makes it fail, what it refuses; and that it does to lanes what it says."""

import argparse
import contextlib
import functools
import json
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from armfold.core import random
from armfold.shell import cli_pixels_bench
from armfold.shell.backends.gameboy import GameBoy
from armfold.shell.backends.gameboy.rom import SHIPPED
from armfold.shell.cli_pixels_bench import bench
from armfold.shell.envs.pixel_tasks import memory_task
from armfold.shell.run import pixels_bench
from armfold.shell.run.pixels_bench import about, bytes_held, cpu_allocations, divergence, measure
from armfold.shell.run.pixels_player import Player, Settings, cut_off
from bench import pixels as suite
from bench import pixels_processes
from bench import record as benchmark
from bench.pixels_parts import time_parts
from bench.pixels_peers import PlainPyBoy, same_play
from tests.shell.commands import strict_json

SMALL = {"num_envs": 2, "frames_per_step": 2, "release_after_frames": 1, "lead_frames": 10, "warmup": 1, "steps": 3}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
ROOT = Path(__file__).parents[2]


def small(**others: Any) -> Settings:
    return Settings(**{"compile": "off", "threads": 1, **SMALL, **others})


def illegal_rom(folder: Path) -> Path:
    """A game whose first instruction there is not."""
    data = bytearray((SHIPPED / "lantern.gb").read_bytes())
    data[0x100] = 0xD3
    (folder / "illegal.gb").write_bytes(data)
    return folder / "illegal.gb"


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """The record of a small run."""
    return measure(small(resets="forced"))


@pytest.fixture
def words(measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A command line, whose run is that record."""
    monkeypatch.setattr(cli_pixels_bench, "measure", lambda settings: dict(measured))
    monkeypatch.chdir(tmp_path)
    return [*WORDS, "--compile=off", "--threads=1", "--resets=forced"]


# The record


def test_a_record_says_everything(measured: dict[str, Any]) -> None:
    asked = {"env_steps_per_sec", "ms_per_step", "num_envs", "stack_k", "frames_per_step", "release_after_frames"}
    assert asked | {"bytes_allocated", "allocations_per_step", "mem_delta", "resets_per_step"} <= measured.keys()
    assert [measured[name] for name in ("num_envs", "stack_k", "steps", "warmup")] == [2, 4, 3, 1]
    assert measured["resets_per_step"] == 2
    assert measured["env_steps_per_sec"] == pytest.approx(2e3 / measured["ms_per_step"])
    assert measured["frames_per_sec"] == pytest.approx(2 * measured["env_steps_per_sec"])
    assert measured["config"].keys() == vars(Settings()).keys()
    assert measured["config"]["layout"] == "contiguous"
    assert measured["bytes_allocated"] > 0, "it is eager"
    assert strict_json(json.dumps(measured)) == measured


def test_what_is_printed_is_one_record_and_what_is_kept_another_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert bench([*words, "--jsonl", "kept.jsonl"]) == 0
    out, err = capsys.readouterr()
    first, second = map(strict_json, out.splitlines())
    assert list(map(strict_json, Path("kept.jsonl").read_text().splitlines())) == [first, second]
    assert (first["pass"], first["faults"], first["argv"]) == (True, [], [*words, "--jsonl", "kept.jsonl"])
    assert "env-steps a second" in err


def test_the_processor_is_the_one_of_the_benchmarks() -> None:
    assert about(torch.device("cpu"))["processor"] == benchmark.machine("cpu")["cpu"] != ""


def test_time_ends_a_run_early() -> None:
    record = measure(small(env="machine", draw="none", agent="noop", steps=100_000, warmup=100_000, max_seconds=0.01))
    assert 2 <= record["steps"] < 100_000
    assert 2 <= record["warmup"] < 100_000
    assert (record["stack_k"], record["config"]["steps"]) == (None, 100_000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_timed_by_its_events() -> None:
    record = measure(small(device="cuda", env="goal", compile="on", warmup=4, resets="random", reset_probability=0.5))
    assert (record["steps"], record["allocations_per_step"], record["bytes_allocated"]) == (3, 0, 0)
    assert record["ms_per_step"] > 0


def test_the_clock_is_of_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever one torch takes where it is told of none."""
    streams: list[object] = []
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: SimpleNamespace(record=lambda *on: streams.append(on)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    pixels_bench.Clock(torch.device("cuda:1"), 3).mark()
    assert streams == [("stream of cuda:1",)]


# What makes it fail


def baseline(measured: dict[str, Any], factor: float, **others: Any) -> None:
    """A file with a record of that speed, after one that is far too fast."""
    config = {**measured["config"], "rom": "as/it/was/typed", "backend": "gameboy", **others, "steps": 7}
    rate = measured["env_steps_per_sec"]
    lines = [{**measured, "config": config, "env_steps_per_sec": x * rate} for x in (1000, factor)]
    Path("old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(("factor", "code"), [(0.5, 0), (1.05, 0), (1.06, 1), (10, 1)])
def test_slower_than_the_baseline_fails(
    words: list[str], measured: dict[str, Any], capsys: pytest.CaptureFixture[str], factor: float, code: int
) -> None:
    baseline(measured, factor)
    assert bench([*words, "--baseline", "old.jsonl"]) == code
    out, err = capsys.readouterr()
    record = strict_json(out)
    assert record["pass"] == (code == 0)
    assert record["baseline_env_steps_per_sec"] == pytest.approx(factor * measured["env_steps_per_sec"])
    assert ("below 0.95x; again: armfold pixels bench --num-envs=2" in err) == (code == 1)


def test_a_line_that_was_torn_is_left_out_and_glues_to_nothing(
    words: list[str], measured: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.dumps({**measured, "env_steps_per_sec": measured["env_steps_per_sec"] / 2})
    Path("old.jsonl").write_text(whole + "\n" + whole[:40])
    assert bench([*words, "--baseline", "old.jsonl", "--jsonl", "old.jsonl"]) == 0
    assert "old.jsonl, line 2, is no JSON: left out" in " ".join(capsys.readouterr().err.split())
    first, torn, last = Path("old.jsonl").read_text().splitlines()
    assert (first, torn) == (whole, whole[:40])
    assert strict_json(last)["pass"]


@pytest.mark.parametrize(("most", "code"), [(10**9, 0), (1, 1)])
def test_more_memory_than_allowed_fails(
    words: list[str], capsys: pytest.CaptureFixture[str], most: int, code: int
) -> None:
    assert bench([*words, "--max-mem-delta", str(most)]) == code
    out, err = capsys.readouterr()
    assert ("bytes_allocated is" in err) == (code == 1)
    assert any("above max_mem_delta=1" in fault for fault in strict_json(out)["faults"]) == (code == 1)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("config", "num_envs"), "num_envs"),
        (("rom", "sha256"), "sha256 of the rom"),
        (("machine", "processor"), "processor"),
        (("machine", "device"), "device's name"),
        (("emulator",), "emulator"),
        (("compiled",), "compiled"),
    ],
)
def test_a_baseline_of_something_else_fails_and_the_record_is_kept(
    words: list[str], measured: dict[str, Any], capsys: pytest.CaptureFixture[str], path: tuple[str, ...], named: str
) -> None:
    old = json.loads(json.dumps(measured))
    functools.reduce(dict.__getitem__, path[:-1], old)[path[-1]] = "another"
    Path("old.jsonl").write_text(json.dumps(old))
    assert bench([*words, "--baseline", "old.jsonl", "--jsonl", "kept.jsonl"]) == 1
    out, err = capsys.readouterr()
    assert f"baseline old.jsonl has no record of this configuration: the last one differs in {named}; again:" in err
    record = strict_json(out)
    assert (record["pass"], record["baseline_env_steps_per_sec"]) == (False, None)
    assert Path("kept.jsonl").read_text() == out


# What it refuses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"baseline old\.jsonl is not a file"),
        ("", r"baseline old\.jsonl has no records"),
        *((text, r"baseline old\.jsonl cannot be read") for text in ("{}", "[1]", '{"config": {}}')),
        ("not json", r"baseline old\.jsonl has no records"),
        ("\udc89PNG", r"baseline old\.jsonl is no text: give a file"),
        ('{"config": [], "env_steps_per_sec": 1}', r"baseline old\.jsonl cannot be read"),
        ("no speed", r"baseline old\.jsonl has a record of nan env-steps a second"),
    ],
)
def test_a_baseline_that_cannot_be_is_refused_before_anything_is_measured(
    words: list[str], measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch, text: str | None, message: str
) -> None:
    if text is not None:
        text = json.dumps({**measured, "env_steps_per_sec": float("nan")}) if text == "no speed" else text
        Path("old.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    monkeypatch.delattr(cli_pixels_bench, "measure")
    with pytest.raises(ValueError, match=message):
        bench([*words, "--baseline", "old.jsonl"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--nonsense", "1"], "nonsense"),
        (["--num-envs", "many"], "num-envs"),
        (["--max-mem-delta", "-1"], "max_mem_delta must be"),
        (["--jsonl", "."], "jsonl .* is not a file"),
        (["--device", "abacus"], "abacus"),
        (["--env", "machine", "--stack-k", "2"], "--stack-k would change nothing"),
        (["--reset-probability", "0.5"], "--reset-probability would change nothing: resets are none"),
        (["--lanes-per-warp", "8"], "--lanes-per-warp would change nothing"),
        (["--backend", "pyboy", "--layout", "interleaved"], "--layout would change nothing"),
        (["--state", "x", "--lead-frames", "3"], "--lead-frames would change nothing"),
        (["--agent", "noop", "--lead-frames", "0", "--actions", "a"], "--actions would change nothing"),
        (["--env", "machine", "--no-final-obs"], "--no-final-obs would change nothing"),
        (["--agent", "solution"], "solution.*--agent"),
    ],
)
def test_flags_that_cannot_be_are_refused(
    flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(cli_pixels_bench, "measure")
    with pytest.raises(ValueError, match=message):
        bench(flags)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"steps": 0}, "steps"),
        ({"warmup": -1}, "warmup"),
        ({"threads": 0}, "threads"),
        ({"threads": 0, "backend": "pyboy"}, "threads"),
        ({"actions": "a,rihgt", "lead_frames": 0}, "right"),
        ({"env": "machine", "state": (Path("a"), Path("b"), Path("c"))}, r"state names 3 files.* 2 \(num_envs\)"),
        ({"max_seconds": 0.0}, "max_seconds"),
        ({"reset_probability": 1.5}, "reset_probability"),
        ({"env": "machine", "resets": "forced"}, "resets"),
        ({"env": "pixels", "draw": "none", "lead_frames": 0}, "draw"),
        ({"rom": "lanten"}, "lantern"),
        ({"state": (Path("nowhere"),)}, "nowhere"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Player(small(**setting))


# What it does to lanes


@pytest.mark.parametrize(("resets", "expected"), [("none", 0), ("forced", 8)])
@pytest.mark.parametrize("env", ["pixels", "goal"])
def test_lanes_start_again_as_often_as_was_asked(resets: Any, expected: int, env: Any) -> None:
    with Player(small(env=env, resets=resets)) as player:
        player.play(4)
        assert player.resets == expected


def test_lanes_are_cut_off_at_random() -> None:
    """With the probability that was asked for, each lane for itself: five sigma, wrong once in a million."""
    lanes, steps, probability = 64, 50, 0.25
    task = cut_off(memory_task(max_steps=None), "random", probability=probability, seed=3)
    frame, cut = torch.zeros(lanes, 1, 8, dtype=torch.uint8), torch.zeros(lanes, steps)
    memory = torch.zeros(lanes, 0, dtype=torch.uint8)
    state = task.init(frame, memory)
    for t in range(steps):
        state, outcome = task.step(state, frame, memory)
        cut[:, t] = outcome.truncated
        state = task.restart(state, frame, memory, outcome.truncated)
    assert torch.equal(state.resets, cut.sum(1).to(torch.int64))
    sigma = (probability * (1 - probability) / cut.numel()) ** 0.5
    assert abs(float(cut.mean()) - probability) < 5 * sigma
    assert len(torch.unique(cut, dim=0)) == lanes


def test_lanes_that_press_nothing_stay_together() -> None:
    parted = []
    for agent in ("noop", "random"):
        with Player(small(num_envs=8, agent=agent, env="machine", frames_per_step=24, lead_frames=0)) as player:
            player.play(12)
            parted.append(divergence(player)["distinct_states"])
    assert parted[0] == 1 < parted[1]


def test_a_state_of_ones_own_is_where_lanes_start(tmp_path: Path) -> None:
    with Player(small(env="machine")) as player:
        player.play(3)
        for lane in range(2):
            player.backend.save_state(tmp_path / f"{lane}", lane)
        wram = player.backend.state.wram
        with Player(small(state=(tmp_path / "1",))) as again:
            assert torch.equal(again.backend.state.wram, wram[[1, 1]])
        with Player(small(state=(tmp_path / "1", tmp_path / "0"), env="machine")) as again:
            assert torch.equal(again.backend.state.wram, wram[[1, 0]])


def test_only_the_actions_that_are_named_are_drawn() -> None:
    with Player(small(num_envs=32, env="machine", actions="start,a+right,noop", warmup=8)) as player:
        assert player.backend.actions == ("start", "a+right", "noop")
        assert {*player.actions.flatten().tolist()} == {0, 1, 2}


@pytest.mark.parametrize("env", ["pixels", "machine"])
@pytest.mark.parametrize("lead_frames", [0, 10])
def test_lanes_that_stand_still_fail_it(env: Any, lead_frames: int, tmp_path: Path) -> None:
    """In an environment they start again at once, and stop again."""
    rom = str(illegal_rom(tmp_path))
    record = measure(small(rom=rom, env=env, lead_frames=lead_frames))
    (fault,) = cli_pixels_bench.find_faults(record, baseline=None, max_mem_delta=None)
    assert fault == "2 of 2 lanes met an illegal opcode and stood still"
    assert measure(small(env=env))["stopped_lanes"] == 0


# How it counts


def test_allocations_are_seen_and_tensors_weighed() -> None:
    work: Callable[[], Tensor] = lambda: torch.ones(1000)  # noqa: E731
    assert cpu_allocations(work) == [4000]
    holder = type("Holder", (), {})()
    x = random.key(0).repeat(100)
    vars(holder).update(x=x, same=(x[:10], [x]), other=torch.zeros(3, dtype=torch.uint8), text="x")
    assert bytes_held(holder) == 8 * len(x) + 3


@pytest.mark.parametrize("break_at", ["start", "step"])
def test_a_player_closes_its_machines_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, break_at: str
) -> None:
    opened, closed, make, close = [], [], GameBoy.__init__, GameBoy.close
    monkeypatch.setattr(GameBoy, "__init__", lambda self, *a, **k: (opened.append(self), make(self, *a, **k))[1])
    monkeypatch.setattr(GameBoy, "close", lambda self: (closed.append(self), close(self))[1])
    bad = {"state": (tmp_path / "none",)} if break_at == "start" else {}
    with pytest.raises((ValueError, ZeroDivisionError)), Player(small(**bad)):
        raise ZeroDivisionError
    assert {*map(id, opened)} == {*map(id, closed)}
    assert len(opened) == (1 if bad else 2), "the one of the lead as well"


def test_torch_has_the_players_threads_and_then_its_own_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_num_threads()
    for name in ("_begin", "step"):
        work = getattr(Player, name)
        look = lambda self, *given, work=work: (seen.append(torch.get_num_threads()), work(self, *given))  # noqa: E731
        monkeypatch.setattr(Player, name, look)
    with Player(small(threads=before + 1)) as player:
        player.play(2)
    assert (seen, torch.get_num_threads()) == ([before + 1] * 3, before)


# The suite


def options(**others: Any) -> argparse.Namespace:
    """Those of a small run without --quick."""
    return argparse.Namespace(**{**vars(suite.parse([])), **suite.QUICK, "num_envs": 3, "lanes": [1], **others})


@pytest.mark.parametrize(("env", "words"), [({}, ["--rom", "nope"]), ({"CC": "nope"}, []), ({}, ["--budget", "0"])])
def test_where_the_game_cannot_be_played_the_suite_says_so(
    env: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not as a bar that was missed; and PyBoy does not play in our place."""
    monkeypatch.setattr(benchmark, "prepare", lambda device: None)
    monkeypatch.setitem(suite.SECTIONS, "scale", lambda options: iter(()))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert suite.main(["--only", "scale", *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    said = [line for line in err.splitlines() if line.startswith("bench.pixels: ")]
    assert len(said) == 1
    assert "nope" in said[0] or "max_seconds" in said[0]


def test_a_game_that_stands_still_is_no_benchmark(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """PyBoy would never come back from it."""
    with pytest.raises(benchmark.CannotRunError, match=r"illegal\.gb': 1 of 1 lane met an illegal opcode"):
        suite.require_game(options(rom=str(illegal_rom(tmp_path))))


@pytest.mark.parametrize("quick", [False, True])
def test_allocations_are_barred_but_in_a_smoke_run(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    found = {"allocations_per_step": 1}
    monkeypatch.setattr(suite, "measure_one", lambda settings: (asked.append(settings), found)[1])
    rows = list(suite.check_allocations(options(quick=quick)))
    assert {row.passed for row in rows} == {quick}
    cases = {(one.stack_k, one.skip_reset_if_empty, one.resets) for one in asked}
    assert cases == {(k, *case) for k in (1, 4) for case in ((False, "random"), (True, "random"), (True, "none"))}


def test_what_resets_cost_is_of_the_forced_ones() -> None:
    parts = {"none": dict.fromkeys((*suite.PARTS, "step"), 1.0)}
    parts["forced"] = {**parts["none"], "reset": 2.0, "step": 10.0}
    for order in (parts, dict(reversed(parts.items()))):
        assert list(suite._parts(options(), order))[-1].ratio == pytest.approx(0.8)


def test_parts_leave_an_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with Player(small(env="goal")) as player:
        env: Any = player.env
        before = env.backend.step, env._advances, env.cache.restore, env._begin_again
        monkeypatch.setattr(player, "play", lambda steps: steps / 0)
        with pytest.raises(ZeroDivisionError):
            time_parts(player, 1)
        assert (env.backend.step, env._advances, env.cache.restore, env._begin_again) == before


def test_two_threads_are_raced_alone_and_in_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of two lanes each are no three lanes."""
    timing = benchmark.Timing(1, [1.0], [1.0])
    monkeypatch.setattr(suite, "ALL_CORES", frozenset({0, 1}))
    monkeypatch.setattr(suite, "on_cores", lambda cores: contextlib.nullcontext())
    monkeypatch.setattr(suite, "processes", lambda settings, cores: contextlib.nullcontext(lambda steps: None))
    monkeypatch.setattr(suite, "Player", lambda settings: contextlib.nullcontext(argparse.Namespace(play=settings)))
    raced: list[dict[str, Any]] = []
    monkeypatch.setattr(suite, "race", lambda options, sides: (raced.append(sides), dict.fromkeys(sides, timing))[1])
    alone, env = suite.compare_threads(options(quick=False))
    assert alone.detail["env_steps_per_sec"] == {"one thread": 3, "two threads": 3, "two processes": 4}
    assert (alone.name, alone.ours, alone.theirs) == ("two threads, machine alone", 3, 2)
    assert (env.name, env.peer, env.ours, env.theirs, env.bar) == ("env-steps, two threads", "one thread", 3, 3, None)
    players = [side for sides in raced for side in sides.values() if isinstance(side, Settings)]
    assert [(one.env, one.threads) for one in players] == [("machine", 1), ("machine", 2), ("pixels", 1), ("pixels", 2)]


@pytest.mark.parametrize("peak", [{"peak": 5.0}, {}])
def test_memory_is_a_row_where_its_peak_is_known(peak: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "memory_of", lambda settings: {"grown": 4.0, "machine": 3.0, "env": 1.0, **peak})
    rows = list(suite.check_memory(options(quick=False)))
    assert [1 / row.ours for row in rows] == [*peak.values()]


def test_a_process_that_dies_ends_the_suite_with_a_line() -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with ours, pytest.raises(benchmark.CannotRunError, match="has died"):
        pixels_processes.answer(ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "same"),
    [({}, True), ({"seed": 1}, False), ({"lead_frames": 12}, False), ({"agent": "noop"}, False)],
)
def test_the_peer_that_is_timed_is_the_one_that_is_checked(theirs: dict[str, Any], same: bool) -> None:
    settings = small(num_envs=3, frames_per_step=4, lead_frames=600, env="machine", steps=50)
    with PlainPyBoy(replace(settings, **theirs)) as boy, Player(settings) as player:
        assert same_play(boy, [player]) == same


@pytest.mark.slow
def test_the_suite_runs(tmp_path: Path) -> None:
    """Small, and no bar of speed counts."""
    out = tmp_path / "record.json"
    words = [sys.executable, "-m", "bench.pixels", "--quick", "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = strict_json(done.stdout)
    assert record == strict_json(out.read_text())
    assert record["pass"]
    names = {row["name"].split(",")[0] for row in record["rows"]}
    assert {"frames", "env-steps", "two threads", "any(mask)", "allocations", "memory", "N=16"} <= names
    assert re.search(r"N=16, 24 frames, random, resets none: \d+ a second, \d+ steps timed", done.stderr)
