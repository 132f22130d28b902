"""`armfold pixels bench`: its record, what makes it fail, what it refuses; and that it does to lanes what it says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from armfold.core import random
from armfold.shell import cli_pixels_bench
from armfold.shell.cli_pixels_bench import bench
from armfold.shell.envs.pixel_tasks import memory_task
from armfold.shell.run.pixels_bench import bytes_held, cpu_allocations, divergence, measure
from armfold.shell.run.pixels_player import Player, Settings, cut_off
from tests.shell.commands import strict_json

SMALL = {"num_envs": 2, "frames_per_step": 2, "release_after_frames": 1, "lead_frames": 10, "warmup": 1, "steps": 3}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
ROOT = Path(__file__).parents[2]


def small(**others: Any) -> Settings:
    return Settings(**{"compile": "off", "threads": 1, **SMALL, **others})


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


def test_time_ends_a_run_early() -> None:
    record = measure(small(env="machine", draw="none", actions="noop", steps=100_000, warmup=100_000, max_seconds=0.01))
    assert 2 <= record["steps"] < 100_000
    assert 2 <= record["warmup"] < 100_000
    assert (record["stack_k"], record["config"]["steps"]) == (None, 100_000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_timed_by_its_events() -> None:
    record = measure(small(device="cuda", env="goal", compile="on", warmup=4, resets="random", reset_probability=0.5))
    assert (record["steps"], record["allocations_per_step"], record["bytes_allocated"]) == (3, 0, 0)
    assert record["ms_per_step"] > 0


# What makes it fail


def baseline(measured: dict[str, Any], factor: float, **others: Any) -> None:
    """A file with a record of that speed, after one that is far too fast."""
    config = {**measured["config"], **others, "steps": 7}
    rate = measured["env_steps_per_sec"]
    lines = [{"config": config, "env_steps_per_sec": x * rate} for x in (1000, factor)]
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


@pytest.mark.parametrize(("most", "code"), [(10**9, 0), (1, 1)])
def test_more_memory_than_allowed_fails(
    words: list[str], capsys: pytest.CaptureFixture[str], most: int, code: int
) -> None:
    assert bench([*words, "--max-mem-delta", str(most)]) == code
    out, err = capsys.readouterr()
    assert ("bytes_allocated is" in err) == (code == 1)
    assert any("above max_mem_delta=1" in fault for fault in strict_json(out)["faults"]) == (code == 1)


# What it refuses


def test_a_baseline_of_something_else_is_refused(words: list[str], measured: dict[str, Any]) -> None:
    baseline(measured, 1, num_envs=3, stack_k=1)
    with pytest.raises(ValueError, match=r"old.jsonl has no record of this configuration.*num_envs, stack_k"):
        bench([*words, "--baseline", "old.jsonl"])
    for text in ("{}", "not json", "[1]", '{"config": {}, "env_steps_per_sec": 1}'):
        Path("old.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"baseline old.jsonl cannot be read"):
            bench([*words, "--baseline", "old.jsonl"])
    Path("old.jsonl").write_text("")
    with pytest.raises(ValueError, match="it has no records"):
        bench([*words, "--baseline", "old.jsonl"])
    with pytest.raises(ValueError, match=r"baseline none.jsonl is not a file"):
        bench([*words, "--baseline", "none.jsonl"])


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
        (["--backend", "pyboy", "--threads", "2"], "--threads would change nothing"),
        (["--state", "x", "--lead-frames", "3"], "--lead-frames would change nothing"),
    ],
)
def test_flags_that_cannot_be_are_refused(
    flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        bench(flags)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"steps": 0}, "steps"),
        ({"warmup": -1}, "warmup"),
        ({"threads": 0}, "threads"),
        ({"max_seconds": 0.0}, "max_seconds"),
        ({"reset_probability": 1.5}, "reset_probability"),
        ({"env": "machine", "resets": "forced"}, "resets"),
        ({"env": "pixels", "draw": "none", "lead_frames": 0}, "draw"),
        ({"rom": "lanten"}, "lantern"),
        ({"state": Path("nowhere")}, "nowhere"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Player(small(**setting))


# What it does to lanes


@pytest.mark.parametrize(("resets", "expected"), [("none", 0), ("forced", 8)])
@pytest.mark.parametrize("env", ["pixels", "goal"])
def test_lanes_start_again_as_often_as_was_asked(resets: Any, expected: int, env: Any) -> None:
    player = Player(small(env=env, resets=resets))
    player.play(4)
    assert player.resets == expected
    player.close()


def test_lanes_are_cut_off_at_random() -> None:
    """With the probability that was asked for, each lane for itself: five sigma, wrong once in a million."""
    lanes, steps, probability = 64, 50, 0.25
    task = cut_off(memory_task(max_steps=None), "random", probability=probability, seed=3)
    frame, cut = torch.zeros(lanes, 1, 8, dtype=torch.uint8), torch.zeros(lanes, steps)
    state = task.init(frame, None)
    for t in range(steps):
        state, outcome = task.step(state, frame, None)
        cut[:, t] = outcome.truncated
        state = task.restart(state, frame, None, outcome.truncated)
    assert torch.equal(state.resets, cut.sum(1).to(torch.int64))
    sigma = (probability * (1 - probability) / cut.numel()) ** 0.5
    assert abs(float(cut.mean()) - probability) < 5 * sigma
    assert len(torch.unique(cut, dim=0)) == lanes


def test_lanes_that_press_nothing_stay_together() -> None:
    parted = []
    for actions in ("noop", "random"):
        player = Player(small(num_envs=8, actions=actions, env="machine", frames_per_step=24, lead_frames=0))
        player.play(12)
        parted.append(divergence(player)["distinct_states"])
        player.close()
    assert parted[0] == 1 < parted[1]


def test_a_state_of_ones_own_is_where_lanes_start(tmp_path: Path) -> None:
    player = Player(small(env="machine"))
    player.play(3)
    player.backend.save_state(tmp_path / "kept")
    again = Player(small(state=tmp_path / "kept"))
    assert torch.equal(again.backend.state.wram, player.backend.state.wram[:1].expand(2, -1))


# How it counts


def test_allocations_are_seen_and_tensors_weighed() -> None:
    work: Callable[[], Tensor] = lambda: torch.ones(1000)  # noqa: E731
    assert cpu_allocations(work) == [4000]
    holder = type("Holder", (), {})()
    x = random.key(0).repeat(100)
    vars(holder).update(x=x, same=(x[:10], [x]), other=torch.zeros(3, dtype=torch.uint8), text="x")
    assert bytes_held(holder) == 8 * len(x) + 3


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
    assert {"frames", "env-steps", "any(mask)", "allocations", "memory", "N=16"} <= names
