"""The `armfold` command: what it writes and says, and that bad input costs one line and nothing else."""

import dataclasses
import functools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.image
import pytest

import armfold
from armfold import __main__ as beginning
from armfold.core.bandits import ALGORITHMS
from armfold.core.envs import ENVIRONMENTS
from armfold.shell import cli, config
from armfold.shell.run.result import Row
from armfold.shell.words import read_words
from tests.shell.commands import (
    SCRIPT,
    Done,
    armfold_command,
    check_refused,
    interrupt_command,
    kill_when,
    read_csv,
    run_to_end,
    strict_json,
    table,
)
from tests.shell.helpers import Interruption, files

pytestmark = pytest.mark.usefixtures("place")
ALGOS = ["ucb1", "beta_ts", "kl_ucb"]
SMALL = ("--steps", "12", "--runs", "70", "--points", "4", "--compile", "off")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small run of three algorithms."""
    words = ("--preset", "smoke", "--algos", ",".join(ALGOS), "--steps", 60, "--runs", 100)
    return run_to_end(tmp_path_factory, "bandit", *words)


# What a run writes


def test_a_run_writes_its_files(done: Done) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"config.json", "records.jsonl", "summary.csv", "regret.png", "checkpoint"}
    assert not [path for path in done.folder.rglob("*") if "partial" in path.name]


def test_the_table_is_sorted_by_regret(done: Done) -> None:
    rows = read_csv(done.folder / "summary.csv")
    assert list(rows[0]) == list(Row._fields)
    assert {row["algorithm"] for row in rows} == {*ALGOS}
    regrets = [float(row["regret_mean"]) for row in rows]
    assert regrets == sorted(regrets)
    assert rows[0]["algorithm"] != "ucb1"  # though it was asked for first
    for row in rows:
        assert (row["runs"], row["steps"]) == ("100", "60")
        reference = row["algorithm"] == "ucb1"
        assert (float(row["difference"]) == 0) is reference
        assert (float(row["difference_ci95"]) == 0) is reference
        assert 0 < float(row["regret_ci95"]) < float(row["regret_mean"])
        assert 0 < float(row["optimal_rate"]) < 1


def test_records_are_flat_json_lines(done: Done) -> None:
    lines = (done.folder / "records.jsonl").read_text().splitlines()
    records = [strict_json(line) for line in lines]
    assert [record["kind"] for record in records] == ["run", *["metrics"] * 60, "summary"]
    assert all(len(line) < 2048 for line in lines[1:-1])
    nested = {key for record in records for key, value in record.items() if isinstance(value, dict)}
    assert not nested, "keys must be flat"


def test_records_say_what_ran(done: Done) -> None:
    first = strict_json((done.folder / "records.jsonl").read_text().splitlines()[0])
    assert (first["env"], first["steps"], first["runs"], first["seed"]) == ("bernoulli", 60, 100, 0)
    assert first["armfold"] == armfold.__version__
    assert first["python"] == sys.version.split()[0]
    assert first["algos"] == ALGOS
    assert first["tunables.kl_ucb.c"] == 3


def test_records_and_table_agree(done: Done) -> None:
    _, *metrics, summary = map(strict_json, (done.folder / "records.jsonl").read_text().splitlines())
    for row in read_csv(done.folder / "summary.csv"):
        name = row["algorithm"]
        curve = [record for record in metrics if record["algorithm"] == name]
        assert [record["step"] for record in curve] == list(range(3, 61, 3))
        assert curve[-1]["regret_mean"] == pytest.approx(float(row["regret_mean"]))
        assert curve[-1]["regret_ci95"] == pytest.approx(float(row["regret_ci95"]))
        assert summary[f"{name}.regret_mean"] == float(row["regret_mean"])
        assert summary[f"{name}.seconds"] > 0


def test_records_of_a_single_run_are_json_too(place: Path) -> None:
    assert armfold_command("bandit", *SMALL, "--runs", 1, "--algos", "ucb1", "--out", "one") == 0
    for line in (place / "one" / "records.jsonl").read_text().splitlines():
        strict_json(line)


def test_the_picture_is_a_picture(done: Done) -> None:
    data = (done.folder / "regret.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 600 <= width <= 4000
    assert 400 <= height <= 3000
    assert 10_000 < len(data) < 1_000_000
    pixels = matplotlib.image.imread(done.folder / "regret.png")[..., :3]
    assert 0.001 < (pixels.min(-1) < 0.9).mean() < 0.5  # drawn on, and mostly white


def test_the_picture_draws_the_curves(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, save = [], matplotlib.figure.Figure.savefig

    def keep(figure: Any, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    assert armfold_command("show", done.folder) == 0
    lines = {line.get_label(): line for line in figures[0].axes[0].get_lines()}
    assert lines.keys() == {*ALGOS}
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines.values()}) == 3
    left, right = figures[0].axes[0].get_xlim()
    assert left == 0
    assert 60 <= right < 70
    _, *metrics, _ = map(strict_json, (done.folder / "records.jsonl").read_text().splitlines())
    for name, line in lines.items():
        curve = [(record["step"], record["regret_mean"]) for record in metrics if record["algorithm"] == name]
        assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == curve


def test_the_configuration_is_kept(done: Done) -> None:
    kept = strict_json((done.folder / "config.json").read_text())
    assert (kept["steps"], kept["runs"], kept["algos"]) == (60, 100, ALGOS)
    assert kept["tunables"] == {name: ALGORITHMS[name].tunables for name in kept["algos"]}


def test_a_host_changes_nothing(place: Path) -> None:
    words = (*SMALL, "--env", "contextual", "--algos", "lin_ucb,beta_ts", "--agent-seed", 5)
    hosts = {"core": (), "gym": ("--host", "gymnasium"), "puffer": ("--host", "pufferlib", "--num-workers", 2)}
    for name, host in hosts.items():
        assert armfold_command("bandit", *words, *host, "--out", name) == 0
    tables = {(place / name / "summary.csv").read_bytes() for name in hosts}
    assert len(tables) == 1


def test_the_table_is_printed(done: Done) -> None:
    rows = read_csv(done.folder / "summary.csv")
    order = [done.stdout.index(f" {row['algorithm']} ") for row in rows]
    assert order == sorted(order)
    for row in rows:
        (line,) = (line for line in done.stdout.splitlines() if f" {row['algorithm']} " in line)
        assert f" {float(row['regret_mean']):.3f} " in line
        assert f" {100 * float(row['optimal_rate']):.1f}% " in line
    for name in ("summary.csv", "records.jsonl", "regret.png"):
        assert str(done.folder / name) in done.stdout
    assert done.stderr == ""


def test_quiet_prints_the_table_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("bandit", *SMALL, "--algos", "ucb1", "--out", "run", "--quiet") == 0
    out, err = capsys.readouterr()
    assert " ucb1 " in out
    assert "summary.csv" not in out
    assert err == ""


def test_a_run_without_a_folder_makes_one_under_runs(place: Path) -> None:
    assert armfold_command("bandit", *SMALL, "--algos", "ucb1") == 0
    (folder,) = (place / "runs").iterdir()
    assert re.fullmatch(r"bernoulli-\d{8}-\d{6}", folder.name)
    assert (folder / "summary.csv").is_file()


def test_profile_says_milliseconds_a_step(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("bandit", *SMALL, "--algos", "ucb1", "--out", "run", "--profile") == 0
    err = capsys.readouterr().err
    assert re.search(r"ucb1: \d+\.\d+ ms a step of 128 lanes", err)
    for part in ("observe", "select", "env_step", "update"):
        assert re.search(rf"\b{part} \d+\.\d+", err)
    assert re.search(r"\d+ MiB", err)


def test_seeds_and_order_of_algorithms(place: Path) -> None:
    """The same seed gives the same table; the first algorithm is the one that others are compared with."""
    for name, words in {
        "a": ["--algos", "ucb1,beta_ts"],
        "b": ["--algos", "beta_ts, ucb1,beta_ts", "--agent-seed", 0],
        "c": ["--algos", "ucb1,beta_ts", "--seed", 1],
    }.items():
        assert armfold_command("bandit", *SMALL, "--quiet", "--out", name, *words) == 0
    a, b, c = ({row["algorithm"]: row for row in read_csv(place / name / "summary.csv")} for name in "abc")
    for name in ("ucb1", "beta_ts"):
        assert a[name]["regret_mean"] == b[name]["regret_mean"] != c[name]["regret_mean"]
    assert float(a["beta_ts"]["difference"]) == pytest.approx(-float(b["ucb1"]["difference"]))
    assert float(a["ucb1"]["difference"]) == 0


def test_gaussian_arms_with_a_range_and_with_learners_of_any_reward(place: Path) -> None:
    words = ("--env", "gaussian", "--mean", 0, 1, 2, "--reward-range", -9, 9, "--algos", "gaussian_ts,ucb1")
    assert armfold_command("bandit", *SMALL, "--quiet", "--out", "run", *words) == 0
    assert all(float(row["reward_mean"]) > 0.5 for row in read_csv(place / "run" / "summary.csv"))


def test_contextual_learners_on_a_file(place: Path) -> None:
    (place / "flowers.csv").write_text("a,b,kind\n0,1,x\n1,0,z\n0,2,x\n2,0,z\n")
    words = ("--env", "flowers.csv", "--context", "blocks", "--label", "kind", "--algos", "lin_ucb,lin_ts")
    assert armfold_command("bandit", *SMALL, "--quiet", "--out", "run", *words) == 0
    assert all(float(row["optimal_rate"]) > 0.5 for row in read_csv(place / "run" / "summary.csv"))


@pytest.mark.parametrize(
    "words",
    [
        ["abrupt", "--period", 3],
        ["abrupt", "--hazard", 0.2, "--arms", 2, "--p", 0.1, 0.9, 0.8, 0.2],
        ["adversarial", "--gap", 0.25, "--growth", 1.3],
        ["drifting", "--boundary", "reflect"],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_environments_that_change(words: list[object], place: Path) -> None:
    assert armfold_command("bandit", *SMALL, "--quiet", "--algos", "ucb1", "--out", "run", "--env", *words) == 0
    (row,) = read_csv(place / "run" / "summary.csv")
    assert 0 < float(row["regret_mean"]) < 12


def test_late_rewards_cost_what_is_played_before_they_come(place: Path) -> None:
    for delay in (0, 1, 11):
        words = ("--env", "delayed", "--delay", delay, "--p", 0, 1, "--algos", "ucb1", "--out", str(delay))
        assert armfold_command("bandit", *SMALL, "--quiet", *words) == 0
    plain, late, last = (float(read_csv(place / d / "summary.csv")[0]["regret_mean"]) for d in ("0", "1", "11"))
    assert plain < late < last
    assert 5 < last < 7  # of 12 steps, 11 and a blind one at random


def test_rewards_of_every_arm_from_a_file(place: Path) -> None:
    (place / "prices.csv").write_text("a,b,p0,p1\n0,1,1,0\n1,0,0,1\n0,2,1,0\n2,0,0,1\n")
    words = ("--env", "prices.csv", "--context", "blocks", "--algos", "lin_ucb,lin_ts")
    assert armfold_command("bandit", *SMALL, "--quiet", "--out", "run", *words) == 0
    assert all(float(row["optimal_rate"]) > 0.5 for row in read_csv(place / "run" / "summary.csv"))


MINE = """
    from functools import partial

    import torch
    from armfold.core import envs
    from armfold.core.bandits import arms as plain
    from armfold.core.types import per_lane


    def index(state, *, width):
        return plain.unplayed_first(state, plain.mean(state, torch.float32) + per_lane(width, torch.float32))


    def follow(*, arms, width=0.5):
        return plain.index_bandit(partial(index, width=width), arms=arms)


    def coins(*, arms):
        return envs.bernoulli(p=[0.25] * (arms - 1) + [0.75])


    def broken(*, arms):
        raise ValueError("width must be\\nwider")
"""


def test_a_users_own_algorithm_and_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "armfold_mine.py").write_text(textwrap.dedent(MINE))
    monkeypatch.syspath_prepend(str(place))
    words = ("--algos", "armfold_mine:follow,ucb1", "--env", "armfold_mine:coins", "--arms", 3)
    assert armfold_command("bandit", *SMALL, "--quiet", "--out", "run", *words) == 0
    rows = {row["algorithm"]: row for row in read_csv(place / "run" / "summary.csv")}
    assert rows.keys() == {"armfold_mine:follow", "ucb1"}
    assert all(float(row["regret_mean"]) <= 0.5 * 12 for row in rows.values())
    assert armfold_command("show", "run") == 0
    capsys.readouterr()
    for words in (["--algos", "armfold_mine:broken"], ["--env", "armfold_mine:broken"]):
        check_refused(capsys, armfold_command("bandit", *SMALL, "--out", "other", *words), "width must be wider")
    assert not (place / "other").exists()


# Resuming

RUN = ("bandit", *SMALL, "--algos", "ucb1,beta_ts", "--quiet", "--checkpoint-every", 1e-9)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert armfold_command(*RUN, "--out", folder, "--resume") == 0  # where nothing is yet, this starts a run
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped in its first algorithm."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert interrupt_command(patch, 2, KeyboardInterrupt(), *RUN, "--out", folder) == 130
    return folder


@pytest.mark.parametrize("after", [2, 7])
def test_a_run_that_was_interrupted_goes_on(
    after: int, whole: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert interrupt_command(monkeypatch, after, KeyboardInterrupt(), *RUN, "--out", "run") == 130
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--resume" in err
    assert not (place / "run" / "summary.csv").exists()
    assert armfold_command("show", "run") == 2
    assert "beta_ts" in capsys.readouterr().err
    assert armfold_command(*RUN, "--out", "run", "--resume") == 0
    for name in ("summary.csv", "config.json"):
        assert (place / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_resuming_a_run_that_has_ended_shows_it_again(whole: Path, place: Path) -> None:
    shutil.copytree(whole, place / "run")
    before = files(place)
    assert armfold_command(*RUN, "--out", "run", "--resume") == 0
    after = files(place)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"run/regret.png"}


# Bad input

BAD: dict[str, tuple[list[object], list[str]]] = {
    "unknown algorithm": (["--algos", "ucb1,ucb2"], [r"algorithm 'ucb2'", "'ucb1'"]),
    "unknown environment": (["--env", "bernouli"], [r"environment 'bernouli'", "'bernoulli'"]),
    "unknown preset": (["--preset", "smok"], [r"preset 'smok'", "'smoke'"]),
    "unknown preset after an equals sign": (["--preset=experimant"], [r"preset 'experimant'", "'experiment'"]),
    "negative tunable": (["--algos", "kl_ucb", "--kl-ucb.c", -1], [r"kl_ucb\b.*\bc\b.*-1"]),
    "tunable not a number": (["--algos", "kl_ucb", "--kl-ucb.c", "nan"], [r"kl_ucb\b.*\bc\b.*nan"]),
    "tunable out of range": (["--algos", "epsilon_greedy", "--epsilon-greedy.epsilon", 1.5], [r"\bepsilon\b.*1.5"]),
    "p above 1": (["--p", 0.5, 1.5], [r"\bp\[1\].*1.5"]),
    "p not a number": (["--p", "nan", 0.5], [r"\bp\[0\].*nan"]),
    "p of one arm": (["--p", 0.5], [r"\bp\b"]),
    "no algorithms": (["--algos", ""], [r"\balgos\b"]),
    "only commas": (["--algos", " , "], [r"\balgos\b"]),
    "absent device": (["--device", "cuda:99"], [r"device 'cuda:99'"]),
    "unknown device": (["--device", "nonsense"], [r"device 'nonsense'"]),
    "memory without a size": (["--max-memory", "lots"], [r"max_memory.*'lots'"]),
    "no memory": (["--max-memory", "0"], [r"max_memory.*0"]),
    "memory in unknown units": (["--max-memory", "3parsecs"], [r"max_memory.*'3parsecs'"]),
    "gaussian rewards for ucb1": (["--env", "gaussian"], ["reward_range", r"from -?\d", r"to -?\d"]),
    "range upside down": (["--reward-range", 1, 0], [r"reward_range"]),
    "endless range": (["--reward-range", "-inf", "inf"], [r"reward_range"]),
    "no steps": (["--steps", 0], [r"\bsteps\b.*\b0\b"]),
    "negative runs": (["--runs", -1], [r"\bruns\b.*-1"]),
    "no threads": (["--threads", 0], [r"\bthreads\b"]),
    "no points": (["--points", 0], [r"\bpoints\b"]),
    "one arm": (["--arms", 1], [r"\barms\b"]),
    "seed too large": (["--seed", 2**70], [r"\bseed\b"]),
    "agent seed too large": (["--agent-seed", 2**70], [r"\bagent_seed\b"]),
    "workers that do not divide": (["--host", "pufferlib", "--num-workers", 3], [r"\b3\b.*\b70\b.*\b69 or 72\b"]),
    "more workers than cores": (
        ["--host", "pufferlib", "--vector", "mp", "--num-workers", 7000, "--runs", 7000],
        [r"num_workers is 7000.*cores"],
    ),
    "workers of the core": (["--num-workers", 2], [r"num_workers is for host 'pufferlib', got 2"]),
    "memory of a host": (
        ["--host", "gymnasium", "--max-memory", "1MiB"],
        [r"max_memory is for host 'core', got '1MiB'"],
    ),
    "vector of the core": (["--vector", "serial"], [r"vector is for host 'pufferlib', got 'serial'"]),
    "unknown host": (["--host", "gym"], ["host", "gymnasium"]),
    "option of another environment": (["--sigma", 0.3], [r"--sigma would change nothing.*bernoulli.*arms"]),
    "option of no data set": (["--env", "digits", "--arms", 5], [r"--arms would change nothing.*context"]),
    "tunable of nobody who runs": (["--algos", "ucb1", "--kl-ucb.c=1"], [r"--kl-ucb\.c would change nothing"]),
    "runs of no log": (["--log-runs", 5], [r"--log-runs would change nothing: .*--log-decisions and --log-replay"]),
    "checkpoints never": (["--checkpoint-every", "nan"], [r"checkpoint_every"]),
    "negative spread": (["--env", "gaussian", "--std", -1], [r"\bstd\b.*-1"]),
    "no period": (["--env", "abrupt", "--period", 0], [r"\bperiod\b.*\b0\b"]),
    "hazard above 1": (["--env", "abrupt", "--hazard", 1.5], [r"\bhazard\b.*1\.5"]),
    "half a phase": (["--env", "abrupt", "--arms", 2, "--p", 0.1, 0.2, 0.3], [r"\bp\b.*\b2\b.*\b3\b"]),
    "phases that do not grow": (["--env", "adversarial", "--growth", 1], [r"\bgrowth\b.*\b1\.0"]),
    "no gap": (["--env", "adversarial", "--gap", 0], [r"\bgap\b.*\b0\.0"]),
    "gap above 1": (["--env", "adversarial", "--gap", 1.5], [r"\bgap\b.*1\.5"]),
    "negative delay": (["--env", "delayed", "--delay", -1], [r"\bdelay\b.*-1"]),
    "contexts needed": (["--algos", "lin_ucb"], [r"lin_ucb.*context"]),
    "no such file": (["--env", "none.csv"], [r"env 'none.csv'"]),
    "bad CSV": (["--env", "bad.csv"], [r"bad.csv.*row 3.*'b'.*'oops'"]),
    "unknown label": (["--env", "bad.csv", "--label", "kind"], [r"label.*'a', 'b', 'y'"]),
    "bad NPZ": (["--env", "bad.npz"], [r"bad.npz"]),
    "module missing": (["--algos", "armfold_none:make"], [r"armfold_none"]),
    "function missing": (["--env", "armfold.core.envs:none"], [r"armfold.core.envs:none"]),
    "no function": (["--algos", "math:pi"], [r"math:pi"]),
    "a function that makes no environment": (["--env", "math:sqrt"], [r"math:sqrt"]),
    "a function that makes no algorithm": (["--algos", "math:sqrt"], [r"math:sqrt"]),
    "no file of options": (["--config", "none.toml"], [r"config none.toml"]),
    "a folder of options": (["--config", "."], [r"config \."]),
    "out below a file": (["--out", "bad.csv/run"], [r"\bout\b.*bad.csv"]),
    "out a file": (["--out", "bad.csv"], [r"\bout bad.csv"]),
    "out not empty": (["--out", "full"], [r"\bout full"]),
    "out not empty and no run": (["--out", "full", "--resume"], [r"\bout full"]),
    "resume without out": (["--resume"], [r"resume needs --out"]),
}


@pytest.fixture
def littered(place: Path) -> dict[str, bytes]:
    """A folder with things in it that are no good."""
    (place / "bad.csv").write_text("a,b,y\n1,2,x\n3,oops,z\n")
    (place / "bad.npz").write_text("hello")
    (place / "full").mkdir()
    (place / "full" / "precious.txt").write_text("do not touch")
    return files(place)


@pytest.mark.parametrize(("words", "patterns"), BAD.values(), ids=BAD)
def test_bad_input_costs_one_line(
    words: list[object],
    patterns: list[str],
    littered: dict[str, bytes],
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = ["bandit", *SMALL, *([] if "--algos" in words else ["--algos", "ucb1"])]
    check_refused(capsys, armfold_command(*base, *words), *patterns)
    assert files(place) == littered
    assert sorted(path.name for path in place.iterdir()) == ["bad.csv", "bad.npz", "full"]


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--steps", "many"], r"--steps\b"),
        (["--steps"], r"--steps\b"),
        (["--stepz", 3], r"--steps\b"),
        (["--context", "odd"], r"--context\b"),
        (["--p", "half", 1], r"--p\b"),
        (["--ucb1.width", 1], r"--ucb1\.width\b"),
    ],
    ids=str,
)
def test_words_that_cannot_be_read_are_named(
    words: list[object], pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert armfold_command("bandit", *words) == 2
    err = capsys.readouterr().err
    assert re.search(pattern, err)
    assert "Traceback" not in err
    assert files(place) == {}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("stepz = 3", r"'stepz'.*'steps'"),
        ('config = "other.toml"', r"config options\.toml: config is for the command line"),
        ("[ucb2]\nc = 3", r"'ucb2'.*'ucb1'"),
        ("[moss]\nhorizons = 3", r"moss.*'horizons'.*'horizon'"),
        ("ucb1 = 3", r"\bucb1\b"),
        ('ucb1.c = "wide"', r"\bucb1\.c\b"),
        ("ucb1.c = true", r"\bucb1\.c\b"),
        ('steps = "many"', r"\bsteps\b"),
        ("steps = 1.5", r"\bsteps\b"),
        ("steps = true", r"\bsteps\b"),
        ("quiet = 1", r"\bquiet\b"),
        ("std = [1]", r"\bstd\b"),
        ("p = 3", r"\bp\b"),
        ('p = "abc"', r"\bp\b"),
        ('p = ["a", "b"]', r"\bp\b"),
        ("reward_range = [1]", r"\breward_range\b"),
        ('reward_range = "wide"', r"\breward_range\b"),
        ("agent_seed = 1.5", r"\bagent_seed\b"),
        ("label = 3", r"\blabel\b"),
        ("max_memory = 3", r"\bmax_memory\b"),
        ("out = 3", r"\bout\b"),
        ('dtype = "int32"', r"\bdtype\b"),
        ('compile = "maybe"', r"\bcompile\b"),
        ('context = "odd"', r"\bcontext\b"),
        ("steps = 1\nsteps = 2", r"options\.toml"),
        ("steps 3", r"options\.toml"),
        (b"label = '\xff'", r"options\.toml"),
    ],
    ids=str,
)
def test_bad_files_of_options_cost_one_line(
    text: str | bytes, pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "options.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    code = armfold_command("bandit", *SMALL, "--algos", "ucb1", "--config", "options.toml")
    check_refused(capsys, code, pattern)
    assert [path.name for path in place.iterdir()] == ["options.toml"]


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--seed", 1], r"\bseed\b"),
        (["--steps", 13], r"\bsteps\b"),
        (["--algos", "ucb1"], r"\balgos\b"),
        (["--ucb1.c", 1], r"\btunables\b"),
        (["--dtype", "float64"], r"\bdtype\b"),
    ],
    ids=str,
)
def test_another_run_is_not_resumed(
    words: list[object],
    pattern: str,
    stopped: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(stopped, place / "run")
    before, _ = files(place), capsys.readouterr()
    check_refused(capsys, armfold_command(*RUN, "--out", "run", "--resume", *words), r"\bout run\b", pattern)
    check_refused(capsys, armfold_command(*RUN, "--out", "run"), r"\bout run\b", "resume")
    assert files(place) == before


@pytest.mark.parametrize("suffix", [".safetensors", "manifest.json", "config.json"])
def test_a_damaged_run_is_not_resumed(
    suffix: str, stopped: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stopped, place / "run")
    (path,) = (path for path in (place / "run").rglob("*") if path.name.endswith(suffix))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before, _ = files(place), capsys.readouterr()
    check_refused(capsys, armfold_command(*RUN, "--out", "run", "--resume"), r"\brun/(checkpoint/ucb1|config.json)")
    assert files(place) == before


def test_verbose_shows_where_an_error_came_from() -> None:
    with pytest.raises(ValueError, match="algos"):
        cli.main(["bandit", "--algos", ",", "--verbose"])


def test_errors_that_nobody_expected_are_not_hidden(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interruption):
        interrupt_command(monkeypatch, 1, Interruption(), *RUN, "--out", "run")


# Options


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_help_mentions_every_option_and_tunable(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("bandit", "--help") == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(config.Config):
        if field.name in ALGORITHMS:
            for tunable in ALGORITHMS[field.name].tunables:
                assert re.search(rf"{re.escape(f'{option(field.name)}.{tunable}'.replace('_', '-'))}\s", text)
        else:
            assert re.search(rf"{option(field.name)}\b", text), field.name
    for algorithm in ALGORITHMS.values():
        assert not algorithm.tunables or hasattr(config.Config(), algorithm.name)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["list", "--help"], ["show", "--help"]], ids=str)
def test_help_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command(*words) == 0
    out, err = capsys.readouterr()
    assert "usage: armfold" in out
    assert err == ""


def test_the_command_alone_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command() == 2
    said = "".join(capsys.readouterr())
    assert all(name in said for name in ("bandit", "list", "show"))
    assert armfold_command("bandti") == 2
    assert "'bandit'" in capsys.readouterr().err
    assert armfold_command("--version") == 0
    assert capsys.readouterr().out == f"armfold {armfold.__version__}\n"


SETTINGS: dict[str, list[object]] = {
    "defaults": [],
    "preset": ["--preset", "benchmark"],
    "numbers": ["--steps", 7, "--std", 1e-05, "--sigma", 1e16, "--agent-seed", 2**63, "--checkpoint-every", 0.1],
    "lists": ["--p", 0.1, 1e-9, "--mean", -1, 2.5, "--reward-range", -3, 4.5],
    "words": ["--label", 'a "quoted" \\ ü', "--env", "some/file.csv", "--out", "a b", "--csv", "c d.csv"],
    "sizes": ["--max-memory", "2GiB"],
    "control characters": ["--label", "a\tb\nc\x7f"],
    "changes": ["--period", 7, "--hazard", 1e-3, "--gap", 0.5, "--growth", 2, "--delay", 0, "--boundary", "reflect"],
    "switches": ["--quiet", "--tui", "--profile", "--verbose", "--resume", "--dtype", "float64", "--compile", "off"],
    "tunables": ["--kl-ucb.c", 0, "--moss.horizon", 1000, "--lin-ts.scale", 1e-300],
}


@pytest.mark.parametrize("words", SETTINGS.values(), ids=SETTINGS)
def test_a_printed_configuration_can_be_read_again(
    words: list[object], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert armfold_command("bandit", *words, "--print-config") == 0
    printed = capsys.readouterr().out
    (place / "options.toml").write_text(printed)
    said = config.parse([str(word) for word in words])
    read = config.parse(["--config", "options.toml"])
    blank = {"preset": None, "config": None}
    assert dataclasses.replace(read, **blank) == dataclasses.replace(said, **blank)
    assert armfold_command("bandit", "--config", "options.toml", "--print-config") == 0
    assert capsys.readouterr().out == printed
    assert [path.name for path in place.iterdir()] == ["options.toml"]


def test_presets_then_the_file_then_flags(place: Path) -> None:
    (place / "options.toml").write_text("runs = 300\npoints = 30\nstd = 2\n[kl_ucb]\nc = 1\n[bayes_ucb]\nprior_a = 2\n")
    read = config.parse(["--points", "40", "--preset", "smoke", "--kl-ucb.c", "0.5", "--config", "options.toml"])
    assert (read.steps, read.runs, read.points) == (200, 300, 40)
    assert (read.std, read.kl_ucb.c, read.bayes_ucb.prior_a, read.bayes_ucb.prior_b) == (2.0, 0.5, 2.0, 1.0)
    assert isinstance(read.std, float)
    assert config.parse(["--config=options.toml", "--preset=smoke"]).runs == 300


@pytest.mark.parametrize("name", config.PRESETS)
def test_a_preset_sets_what_it_says(name: str) -> None:
    plain, preset = config.parse([]), config.parse(["--preset", name])
    changed = {
        field.name
        for field in dataclasses.fields(config.Config)
        if getattr(plain, field.name) != getattr(preset, field.name)
    }
    assert all(getattr(preset, key) == value for key, value in config.PRESETS[name].items())
    assert changed <= {*config.PRESETS[name], "preset"}


def test_a_preset_named_in_a_file_is_not_passed_over(place: Path) -> None:
    (place / "options.toml").write_text('preset = "smoke"\n')
    assert config.parse(["--config", "options.toml"]).steps == config.PRESETS["smoke"]["steps"]


# list and show


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("list") == 0
    out = capsys.readouterr().out
    for entry in (*ALGORITHMS.values(), *ENVIRONMENTS.values()):
        assert re.search(rf"^\W*{entry.name}\W", out, re.MULTILINE), entry.name
        assert entry.source.split()[0] in out


def test_show_shows_a_run_again(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(done.folder)
    for name in ("regret.png", "summary.csv", "records.jsonl"):
        (done.folder / name).unlink()
    assert armfold_command("show", done.folder) == 0
    assert capsys.readouterr().out == done.stdout
    assert len(table(done.stdout)) == 3
    after = files(done.folder)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"regret.png"}
    test_the_picture_is_a_picture(done)


def test_show_refuses_what_is_no_finished_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(capsys, armfold_command("show", "nowhere"), "nowhere")
    check_refused(capsys, armfold_command("show", "."), "run folder")
    (place / "config.json").write_text("{")
    check_refused(capsys, armfold_command("show", "."), r"config\.json")
    (place / "config.json").write_text('{"algos": ["ucb1"]}')
    check_refused(capsys, armfold_command("show", "."), "ucb1")
    assert [path.name for path in place.iterdir()] == ["config.json"]


# The command itself


def test_the_installed_command(place: Path) -> None:
    words = [SCRIPT, "bandit", "--algos", "kl_ubc"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "armfold: error: unknown algorithm 'kl_ubc': did you mean 'kl_ucb'?\n"
    assert files(place) == {}


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(place: Path) -> None:
    """kill -9 in the middle of the first algorithm, again in the middle of the second, then to the end."""
    words = [SCRIPT, "bandit", "--algos", "kl_ucb,beta_ts", "--steps", "400", "--runs", "130", "--max-memory", "64KiB"]
    words += ["--compile", "off", "--quiet"]

    def under_way(name: str) -> bool:
        manifest = place / "run" / "checkpoint" / name / "manifest.json"
        return manifest.is_file() and "result" not in json.loads(manifest.read_text())

    for name in ("kl_ucb", "beta_ts"):
        started = [*words, "--out", "run", "--resume", "--checkpoint-every", "0.1"]
        kill_when(started, functools.partial(under_way, name), OMP_NUM_THREADS="1")
        assert under_way(name)
        assert not (place / "run" / "summary.csv").exists()
    for last in (["--out", "run", "--resume"], ["--out", "whole"]):
        subprocess.run([*words, *last], stdout=subprocess.DEVNULL, timeout=600, check=True)
    assert (place / "run" / "summary.csv").read_bytes() == (place / "whole" / "summary.csv").read_bytes()
    assert not [path for path in (place / "run").rglob("*") if "partial" in path.name]


# The dashboard, and the table in a file of one's own (tests/shell/test_dashboard.py has terminals)


TUI = ("bandit", *SMALL, "--algos", "ucb1,beta_ts", "--tui", "--out", "run")


def test_a_dashboard_without_a_terminal_is_a_line_for_each(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command(*TUI) == 0
    out, err = capsys.readouterr()
    rows = {row["algorithm"]: row for row in read_csv(place / "run" / "summary.csv")}
    lines = err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ucb1", "beta_ts"]
    for line in lines:
        row = rows[line.split(":")[0]]
        shown = f"done, regret {float(row['regret_mean']):.3f}, optimal {100 * float(row['optimal_rate']):.1f}%"
        assert shown in line
    assert "\x1b" not in out + err
    assert len(table(out)) == 2


def test_a_dashboard_changes_nothing(place: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command(*TUI) == 0
    for name in ("summary.csv", "config.json"):
        assert (place / "run" / name).read_bytes() == (whole / name).read_bytes()
    assert armfold_command(*TUI, "--resume") == 0  # a run that has ended is shown too
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_a_quiet_dashboard_says_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command(*TUI, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_the_table_in_a_file_of_ones_own(place: Path) -> None:
    (place / "old.csv").write_text("another")
    (place / "link.csv").symlink_to("old.csv")
    for name in ("new/folder/table.csv", "link.csv"):
        assert armfold_command(*RUN, "--out", place / "runs" / name, "--csv", name) == 0
        assert (place / name).read_bytes() == (place / "runs" / name / "summary.csv").read_bytes()
    assert (place / "link.csv").is_symlink()
    assert (place / "old.csv").read_bytes() == (place / "link.csv").read_bytes()
    assert {path.name for path in place.iterdir()} == {"new", "runs", "old.csv", "link.csv"}


@pytest.mark.parametrize(
    ("csv", "pattern"),
    [
        (".", "csv .* is not a file"),
        ("folder", "csv .*folder is not a file"),
        ("", "csv .* is not a file"),
        ("/dev/null", "csv /dev/null is not a file"),
        ("file/table.csv", "csv .* cannot be written"),
        ("x" * 250 + ".csv", "csv .* cannot be written"),
    ],
)
def test_a_table_that_cannot_be_written_is_refused_before_the_run(
    csv: str, pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "folder").mkdir()
    (place / "file").write_text("kept")
    check_refused(capsys, armfold_command("bandit", *SMALL, "--algos", "ucb1", "--out", "run", "--csv", csv), pattern)
    assert files(place) == {"file": b"kept"}
    assert not (place / "run").exists()


@pytest.mark.parametrize("words", [["--help"], ["bandit", "--help"]])
@pytest.mark.parametrize("buffering", [-1, 1])
def test_a_reader_that_has_gone_is_no_error(
    words: list[str], buffering: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of `armfold list | head -1`."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w", buffering) as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert cli.main(words) == 1
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


# Before and around it


@dataclasses.dataclass(frozen=True)
class _Ragged:
    """Options."""

    one: int = 1
    """What is on one
    line, in the end."""


def test_help_breaks_lines_where_they_are_full(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_words(_Ragged, args=["--help"])
    assert " What is on one line, in the end. (default: 1)" in capsys.readouterr().out
    assert read_words(_Ragged, args=["--one", "2"]) == _Ragged(2)


def test_an_interrupt_during_imports_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow:
        def main(self) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr("armfold.shell.cli", Slow())
    assert beginning.main() == 130
    assert capsys.readouterr() == ("", "armfold: error: interrupted\n")
