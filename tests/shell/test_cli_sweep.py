"""`armfold sweep`: as a user at a terminal meets it, killed, on Ray, and with workers that die."""

import dataclasses
import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from armfold.shell import cli_sweep, sweep
from armfold.shell.store import checkpoint
from tests.shell.commands import SCRIPT, armfold_command, check_refused, check_refused_untouched, kill_when, read_csv
from tests.shell.helpers import files, results

pytestmark = pytest.mark.usefixtures("place")
SMALL = ("--steps", "6", "--runs", "20", "--arms", "3", "--compile", "off")


def test_a_sweep_writes_its_files_and_shows_them_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--env", "drifting", "--algos", "kl_ucb,ucb1", "--grid", "kl_ucb.c=0,1", "--grid", "sigma=lin:0.1:0.3:3")
    assert armfold_command("sweep", *SMALL, *words, "--seeds", "0,1", "--out", "runs/x") == 0
    out, err = capsys.readouterr()
    assert err == ""
    folder = place / "runs" / "x"
    names = {"config.json", "sweep.csv", "sweep-kl_ucb.c.png", "sweep-sigma.png"}
    assert results(folder).keys() == names
    rows = read_csv(folder / "sweep.csv")
    assert len(rows) == (2 * 3 + 3) * 2
    assert all(f"runs/x/{name}" in out for name in names - {"config.json"})
    found = sweep(
        ["kl_ucb", "ucb1"],
        "drifting",
        grid={"kl_ucb.c": [0, 1], "sigma": [0.1, 0.2, 0.3]},
        options={"arms": 3},
        seeds=(0, 1),
        steps=6,
        runs=20,
        compile="off",
        progress=False,
    )
    assert (folder / "sweep.csv").read_text() == found.to_csv()
    before = results(folder)
    assert armfold_command("show", "runs/x") == 0
    assert capsys.readouterr().out == out
    assert results(folder) == before


def test_flags_of_options_fix_them(place: Path) -> None:
    words = ("--env", "drifting", "--algos", "kl_ucb,ucb1", "--sigma", "0.3", "--ucb1.c", "0.5", "--quiet")
    assert armfold_command("sweep", *SMALL, *words, "--grid", "kl_ucb.c=0", "--out", "flags") == 0
    grid = ("--grid", "kl_ucb.c=0", "--grid", "sigma=0.3", "--grid", "ucb1.c=0.5")
    assert armfold_command("sweep", *SMALL, *words[:4], *grid, "--out", "grid", "--quiet") == 0
    flags, swept = (read_csv(place / name / "sweep.csv") for name in ("flags", "grid"))
    means = [[float(row["regret_mean"]) for row in rows] for rows in (flags, swept)]
    assert means[0] == pytest.approx(means[1], rel=1e-3)
    defaults = ("--env", "drifting", "--algos", "kl_ucb,ucb1", "--grid", "kl_ucb.c=0", "--out", "defaults", "--quiet")
    assert armfold_command("sweep", *SMALL, *defaults) == 0
    for row, changed in zip(read_csv(place / "defaults" / "sweep.csv"), means[0], strict=True):
        assert float(row["regret_mean"]) != pytest.approx(changed, rel=1e-3)
    assert not list((place / "flags").glob("*.png"))  # nothing varies


def test_what_is_swept_needs_no_flag_of_its_own(place: Path) -> None:
    words = ("--env", "abrupt", "--grid", "arms=2,3", "--grid", "hazard=0.1", "--steps", "2", "--runs", "2")
    assert armfold_command("sweep", *words, "--compile", "off", "--out", "x", "--quiet") == 0
    assert [row["arms"] for row in read_csv(place / "x" / "sweep.csv")] == ["2", "3"]


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("sweep", "--help") == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(cli_sweep._Config):
        assert re.search(rf"--{field.name.replace('_', '-')}\b", text), field.name


# What else there is in tests/shell/test_sweep.py.
BAD: dict[str, tuple[list[str], str]] = {
    "unknown tunable": (["--grid", "kl_ucb.d=1"], r"tunable 'kl_ucb\.d'.*'kl_ucb\.c'"),
    "empty grid": (["--grid", "c="], r"kl_ucb\.c has no values"),
    "no name": (["--grid", "=1"], r"\bgrid\b.*NAME=VALUES"),
    "twice": (["--grid", "c=1", "--grid", "c=2"], r"\bc is given twice"),
    "a fraction": (["--algos", "sw_ucb", "--grid", "window=1.5"], r"sw_ucb\.window .*got 1\.5"),
    "out of range": (["--grid", "c=1,-1"], r"kl_ucb: c .*got -1"),
    "seeds": (["--seeds", "0,one"], r"\bseeds\b.*'0,one'"),
    "memory": (["--max-memory", "much"], r"\bmax_memory\b"),
    "a folder in use": (["--out", "full"], r"\bfull is not empty"),
    "resume": (["--resume"], r"resume needs --out"),
    "a flag that is swept": (["--kl-ucb.c", "5", "--grid", "c=0,1"], r"kl_ucb\.c is swept"),
    "its default": (["--grid", "c=0,1", "--kl_ucb.c=3"], r"kl_ucb\.c is swept"),
    "an option that is swept": (["--grid", "arms=2,4"], r"\barms is swept"),
    "two that exclude each other": (
        ["--env", "abrupt", "--period", "9", "--hazard", "0.1"],
        r"period and hazard exclude",
    ),
    "draws": (["--draws", "3.5"], r"parsing --draws: no type .{0,60}\['3\.5'\]"),
    "a misspelt flag": (["--seeed=3", "--runz", "2"], r"--runz.{0,60}similar to --runz: --runs"),
}


@pytest.mark.parametrize(("words", "pattern"), BAD.values(), ids=BAD)
def test_bad_input_costs_one_line(
    words: list[str], pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused_untouched(place, capsys, ["sweep", *SMALL, *words], pattern)


def test_a_sweep_that_has_not_ended_is_not_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("sweep", *SMALL, "--grid", "c=0,1,2,3", "--shard", "64", "--out", "x", "--quiet") == 0
    capsys.readouterr()
    (place / "x" / "shards" / "kl_ucb-0-1" / "manifest.json").unlink()
    check_refused(capsys, armfold_command("show", "x"), r"sweep in x has not ended \(1 of 2 shards missing\): resume")


# Killed


@pytest.mark.slow
def test_a_killed_sweep_goes_on(place: Path) -> None:
    words = [SCRIPT, "sweep", *SMALL, "--grid", "c=0,0.5,1,3", "--shard", "64", "--runs", "40", "--steps", "1000"]
    words += ["--checkpoint-every", "0"]
    subprocess.run([*map(str, words), "--out", "whole"], check=True, capture_output=True)
    second = place / "killed" / "shards" / "kl_ucb-0-1"
    # The first shard is finished, the second half-way.
    kill_when([*words, "--out", "killed"], functools.partial(checkpoint.exists, second))
    assert 1 < len(read_csv(place / "whole" / "sweep.csv")) > len(read_csv(place / "killed" / "sweep.csv"))
    assert not (place / "killed" / "sweep-kl_ucb.c.png").exists()
    subprocess.run([*map(str, words), "--out", "killed", "--resume"], check=True, capture_output=True)
    assert results(place / "killed") == results(place / "whole")


# Ray

WORLD = """
import os
import signal
from functools import partial
from pathlib import Path

from armfold.core import envs
from armfold.core.types import Scalar

here = Path(__file__).parent
pulls = 0


def die_once(when):
    # Not in the process that asked: that only tries a few steps.
    if (here / "armed").exists() and int((here / "driver").read_text()) != os.getpid() and when():
        (here / "armed").unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def pull(state, rng, action, *, inner):
    global pulls
    pulls += 1
    die_once(lambda: pulls == 400)
    (here / f"pulls-{os.getpid()}").write_text(str(pulls))
    return inner(state, rng, action)


def drifting(*, arms, sigma: Scalar = 0.1):
    env = envs.drifting(arms=arms, sigma=sigma)
    return env._replace(pull=partial(pull, inner=env.pull))


def born_dying(*, arms, sigma: Scalar = 0.1):
    die_once(lambda: True)
    return envs.drifting(arms=arms, sigma=sigma)
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray, started once."""
    module = pytest.importorskip("ray")
    module.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield module
    module.shutdown()


def twice(**options: Any) -> dict[str, Any]:
    return {"steps": 6, "runs": 40, "compile": "off", "progress": False, "options": {"arms": 3}, "shard": 64, **options}


@pytest.mark.slow
def test_ray_gives_what_a_single_process_gives(ray: Any, place: Path) -> None:
    settings = twice(grid={"c": [0, 1, 3], "sigma": [0.1, 0.2]}, seeds=(0, 1))
    local = sweep("kl_ucb", "drifting", out="local", **settings)
    remote = sweep("kl_ucb", "drifting", out="remote", engine="ray", num_workers=2, **settings)
    assert results(place / "remote") == results(place / "local")
    assert (remote.regret == local.regret).all()


@pytest.fixture
def world(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module of the user's own, whose environments kill the worker that they are in, once."""
    (place / "own_worlds.py").write_text(WORLD)
    (place / "driver").write_text(str(os.getpid()))
    monkeypatch.syspath_prepend(place)
    yield "own_worlds"
    sys.modules.pop("own_worlds", None)


@pytest.mark.slow
def test_a_worker_that_is_killed_half_way_does_not_show(ray: Any, world: str, place: Path) -> None:
    settings = twice(grid={"c": [0, 1, 3]}, steps=600, checkpoint_every=0)
    local = sweep("kl_ucb", f"{world}:drifting", out="local", **settings)
    for path in place.glob("pulls-*"):
        path.unlink()
    (place / "armed").touch()
    remote = sweep("kl_ucb", f"{world}:drifting", out="remote", engine="ray", num_workers=1, **settings)
    assert not (place / "armed").exists(), "no worker was killed"
    assert results(place / "remote") == results(place / "local")
    assert (remote.regret == local.regret).all()
    # 120 lanes, two shards of 600 steps. The second worker has gone on from a checkpoint: of step 256, or of an earlier
    # one where these took longer than the host waits.
    pulls = sorted(int(path.read_text()) for path in place.glob("pulls-*") if path.name != f"pulls-{os.getpid()}")
    assert pulls[0] == 399
    assert 0 < 2 * 600 - pulls[1] <= 399
    assert len(pulls) == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_at_once_does_not_show(ray: Any, world: str, place: Path) -> None:
    settings = twice(grid={"sigma": [0.1, 0.2]})
    local = sweep("kl_ucb", f"{world}:born_dying", **settings)
    (place / "armed").touch()
    remote = sweep("kl_ucb", f"{world}:born_dying", engine="ray", num_workers=2, **settings)
    assert not (place / "armed").exists(), "no worker was killed"
    assert (remote.regret == local.regret).all()


@pytest.mark.slow
def test_a_sweep_changes_engines(ray: Any, place: Path) -> None:
    settings = twice(grid={"c": [0, 1, 3, 4]})
    sweep("kl_ucb", out="whole", **settings)
    sweep("kl_ucb", out="part", engine="ray", **settings)
    for path in (place / "part" / "shards" / "kl_ucb-0-1").iterdir():
        path.unlink()
    (place / "part" / "sweep.csv").unlink()
    sweep("kl_ucb", out="part", resume=True, **settings)
    assert results(place / "part") == results(place / "whole")


@pytest.mark.slow
def test_what_a_worker_refuses_is_said(ray: Any, world: str, place: Path) -> None:
    with (place / "own_worlds.py").open("a") as file:
        file.write("\n\ndef broken(*, arms):\n    if int((here / 'driver').read_text()) != os.getpid():\n")
        file.write("        raise ValueError('too far')\n    return envs.bernoulli(arms=arms)\n")
    with pytest.raises(ValueError, match=r"^too far$"):
        sweep("kl_ucb", f"{world}:broken", engine="ray", num_workers=1, **twice())
    with pytest.raises(ValueError, match="uses another Ray already"):
        sweep("kl_ucb", engine="ray", ray_address="127.0.0.1:1", **twice())
    with pytest.raises(ValueError, match=r"num_workers must be at most 2, .*got 3"):
        sweep("kl_ucb", engine="ray", num_workers=3, **twice())


@pytest.mark.slow
def test_what_runs_beside_a_shard_that_fails_is_ended(ray: Any, world: str, place: Path) -> None:
    with (place / "own_worlds.py").open("a") as file:
        file.write("\n\ndef once(*, arms, bad: float = 0.0):\n")
        file.write("    if bad and int((here / 'driver').read_text()) != os.getpid():\n")
        file.write("        raise ValueError('too far')\n    return envs.bernoulli(arms=arms)\n")
    settings = twice(grid={"bad": [0, 1]}, runs=64, steps=10**7)  # hours
    with pytest.raises(ValueError, match=r"^too far$"):
        sweep("kl_ucb", f"{world}:once", engine="ray", num_workers=2, **settings)
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["auto", None])
def test_a_cluster_that_runs_is_used_and_left_running(ray: Any, address: str | None, place: Path) -> None:
    address = address or ray.get_runtime_context().gcs_address
    words = [SCRIPT, "sweep", *SMALL, "--grid", "c=0,1", "--engine", "ray", "--ray-address", address]
    done = subprocess.run([*map(str, words), "--out", "ray"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert armfold_command("sweep", *SMALL, "--grid", "c=0,1", "--out", "local", "--quiet") == 0
    assert results(place / "ray") == results(place / "local")
    assert ray.cluster_resources()["CPU"] == 2
    more = subprocess.run([*map(str, words), "--num-workers", "3"], capture_output=True, text=True, check=False)
    assert more.returncode == 2
    assert f"num_workers must be at most 2, the cores of Ray at {address}, got 3" in more.stderr


@pytest.mark.slow
def test_the_command_starts_ray_and_says_nothing_of_it(place: Path) -> None:
    words = [SCRIPT, "sweep", *SMALL, "--grid", "c=0,1", "--env", "drifting", "--grid", "sigma=0.1,0.2"]
    for name, extra in {"local": [], "ray": ["--engine", "ray", "--num-workers", "1"]}.items():
        done = subprocess.run([*map(str, words), *extra, "--out", name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert results(place / "ray") == results(place / "local")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--ray-address", "127.0.0.1:1"], r"ray_address '127\.0\.0\.1:1' does not answer"),
        (["--ray-address", "nonsense"], r"ray_address 'nonsense' does not answer"),
        (["--num-workers", "5000"], r"num_workers must be at most \d+, the cores of this machine, got 5000"),
        (["--num-workers", "0"], r"num_workers must be an integer >= 1, got 0"),
    ],
    ids=str,
)
def test_ray_that_is_not_there_costs_one_line(words: list[str], pattern: str, place: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [SCRIPT, "sweep", *SMALL, "--engine", "ray", *words, "--out", "x"], capture_output=True, text=True, check=False
    )
    assert time.monotonic() - began < 60
    assert done.returncode == 2
    assert re.fullmatch(rf"armfold: error: .*{pattern}.*\n", done.stderr), done.stderr
    assert files(place) == {}


def test_without_ray_the_error_says_how_to_get_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # which makes its import fail
    with pytest.raises(ValueError, match=r"pip install 'armfold\[ray\]'"):
        sweep("kl_ucb", engine="ray", out="x", **twice())
    assert files(place) == {}
