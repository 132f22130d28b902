"""`armfold solve`: what it writes and says, resumed, killed, and that bad input costs one line and nothing else."""

import dataclasses
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from armfold.core import games
from armfold.shell import Solution, cli_solve, read_policy, solve
from armfold.shell.run.solution import Row
from armfold.shell.run.solvers import SOLVERS
from armfold.shell.store import checkpoint
from tests.purity import same_bits
from tests.shell.commands import (
    SCRIPT,
    Done,
    armfold_command,
    check_refused,
    check_refused_untouched,
    check_shown_again,
    interrupt_command,
    kill_when,
    read_csv,
    run_to_end,
    strict_json,
    table,
)
from tests.shell.helpers import files

pytestmark = pytest.mark.usefixtures("place")
ALGOS = ["cfr", "dcfr", "cfr_plus"]
SMALL = ("--iterations", "20", "--points", "4", "--compile", "off")
KUHN = games.compile_game(games.kuhn())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small run of three algorithms."""
    words = ("--algo", ",".join(ALGOS), "--export", "policy,last")
    return run_to_end(tmp_path_factory, "solve", "--game", "kuhn", *SMALL, *words)


# What a run writes


def test_a_run_writes_its_files(done: Done) -> None:
    tables = {f"{word}-{name}.csv" for word in ("policy", "last") for name in ALGOS}
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"config.json", "records.jsonl", "summary.csv", "exploitability.png", "checkpoint", *tables}
    assert not [path for path in done.folder.rglob("*") if "partial" in path.name]


def test_what_it_writes_is_what_solve_gives(done: Done) -> None:
    rows = {row["algorithm"]: row for row in read_csv(done.folder / "summary.csv")}
    assert list(rows["cfr"]) == list(Row._fields)
    for name in ALGOS:
        found = solve("kuhn", algo=name, iterations=20, points=4, compile="off", progress=False)
        assert same_bits(read_policy(done.folder / f"policy-{name}.csv", KUHN), found.policy)
        assert same_bits(read_policy(done.folder / f"last-{name}.csv", KUHN), found.last)
        kept = Solution.load(done.folder / "checkpoint" / name, KUHN)
        assert same_bits(kept.curve, found.curve)
        row = rows[name]
        assert (row["iterations"], row["converged"]) == ("20", "False")
        assert float(row["exploitability"]) == found.exploitability.item()
        assert float(row["exploitability_last"]) == found.curve_last[-1].item()
        assert float(row["value"]) == found.value.item()
    order = [float(row["exploitability"]) for row in rows.values()]
    assert order == sorted(order)
    assert next(iter(rows)) != ALGOS[0]


def test_records_and_table_agree(done: Done) -> None:
    first, *metrics, summary = map(strict_json, (done.folder / "records.jsonl").read_text().splitlines())
    assert (first["kind"], first["game"], first["iterations"], first["algos"]) == ("run", "kuhn", 20, ALGOS)
    assert {"armfold", "torch", "numpy", "python"} <= first.keys()
    assert [record["kind"] for record in (*metrics, summary)] == [*["metrics"] * len(metrics), "summary"]
    for row in read_csv(done.folder / "summary.csv"):
        curve = [record for record in metrics if record["algorithm"] == row["algorithm"]]
        assert [record["iteration"] for record in curve] == [1, 2, 3, 6, 10, 18, 20]
        assert curve[-1]["exploitability"] == float(row["exploitability"])
        assert curve[-1]["exploitability_last"] == float(row["exploitability_last"])
        assert summary[f"{row['algorithm']}.exploitability"] == float(row["exploitability"])
        assert summary[f"{row['algorithm']}.seconds"] > 0
    nested = [value for record in (first, *metrics, summary) for value in record.values() if isinstance(value, dict)]
    assert not nested


def test_the_table_is_printed(done: Done) -> None:
    lines = table(done.stdout)
    rows = read_csv(done.folder / "summary.csv")
    for line, row in zip(lines, rows, strict=True):
        average, last = (f"{float(row[key]):.3g}" for key in ("exploitability", "exploitability_last"))
        assert line.split()[:5] == [row["algorithm"], "20", average, last, f"{float(row['value']):+.6f}"]
    assert "kuhn: 12 infosets, 58 histories" in done.stdout
    for name in ("summary.csv", "records.jsonl", "exploitability.png", "policy-dcfr.csv", "last-dcfr.csv"):
        assert str(done.folder / name) in done.stdout
    assert done.stderr == ""


def test_show_shows_a_run_again_and_draws_its_curves(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    (axes,) = check_shown_again(done, done.stdout, capsys).axes
    assert (done.folder / "exploitability.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert {*ALGOS} <= lines.keys()
    assert {*ALGOS} == {text.get_text() for text in axes.texts}
    drawn = [list(line.get_ydata()) for line in axes.get_lines()]
    for name in ALGOS:
        found = Solution.load(done.folder / "checkpoint" / name, KUHN)
        assert list(lines[name].get_xdata()) == found.curve_t.tolist()
        assert list(lines[name].get_ydata()) == found.curve.tolist()
        assert found.curve_last.tolist() in drawn


def test_an_equilibrium_can_be_drawn(place: Path) -> None:
    """Rounding leaves exploitabilities of 0, and less: logarithms know neither."""
    words = ("--algo", "pcfr_plus", "--iterations", "150", "--points", "1", "--compile", "off", "--quiet")
    assert armfold_command("solve", *words, "--out", "run") == 0
    found = Solution.load(place / "run" / "checkpoint" / "pcfr_plus", KUHN)
    assert found.curve_last.min() < 1e-15
    assert (place / "run" / "exploitability.png").stat().st_size > 10_000


def test_it_stops_at_the_tolerance_and_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--algo", "cfr,pcfr_plus", "--iterations", "60", "--tolerance", "0.01", "--export", "")
    assert armfold_command("solve", *words, "--out", "run", "--csv", "table.csv", "--quiet") == 0
    out, err = capsys.readouterr()
    rows = {row["algorithm"]: row for row in read_csv(place / "run" / "summary.csv")}
    assert (rows["cfr"]["converged"], rows["cfr"]["iterations"]) == ("False", "60")
    assert rows["pcfr_plus"]["converged"] == "True"
    assert int(rows["pcfr_plus"]["iterations"]) < 60
    assert float(rows["pcfr_plus"]["exploitability"]) <= 0.01
    assert "within the tolerance: pcfr_plus\n" in re.sub(r" +\n", "\n", out)
    assert "summary.csv" not in out
    assert err == ""
    assert (place / "table.csv").read_bytes() == (place / "run" / "summary.csv").read_bytes()
    assert not list((place / "run").glob("policy-*"))


def test_draws_have_a_seed(place: Path) -> None:
    words = ("--algo", "mccfr", "--seed", "3", "--traversals", "4", "--quiet", "--out", "run")
    assert armfold_command("solve", *SMALL, *words) == 0
    (row,) = read_csv(place / "run" / "summary.csv")
    told: dict[str, Any] = {"iterations": 20, "compile": "off", "progress": False}
    found = solve("kuhn", algo="mccfr", seed=3, traversals=4, **told)
    assert float(row["exploitability"]) == found.exploitability.item()
    config = strict_json((place / "run" / "config.json").read_text())
    assert (config["seed"], config["traversals"]) == (3, 4)


def test_a_run_without_a_folder_makes_one_under_runs(place: Path) -> None:
    assert armfold_command("solve", *SMALL, "--game", "liars_dice(2, 1)", "--quiet") == 0
    (folder,) = (place / "runs").iterdir()
    assert re.fullmatch(r"liars-dice-2-1-\d{8}-\d{6}", folder.name)


MINE = """
    from armfold.core import games


    def pennies(stake=1):
        return games.Rules(
            name=f"pennies({stake})",
            actions=("heads", "tails"),
            start=(),
            turn=lambda state: games.END if len(state) == 2 else len(state),
            legal=lambda state: (0, 1),
            chance=lambda state: (),
            follow=lambda state, action: (*state, action),
            payoffs=lambda state: (stake, -stake) if state[0] == state[1] else (-stake, stake),
            infoset=lambda state: f"player {len(state)}",
        )


    def unfair():
        return pennies()._replace(payoffs=lambda state: (1, 1))


    def endless():
        return pennies()._replace(turn=lambda state: len(state) % 2, infoset=str)
"""


def test_a_game_of_ones_own(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "own_games.py").write_text(textwrap.dedent(MINE))
    monkeypatch.setattr(sys, "path", sys.path[:])  # to which the folder is added
    assert armfold_command("solve", *SMALL, "--game", "own_games:pennies(3)", "--out", "run") == 0
    assert read_csv(place / "run" / "policy-cfr_plus.csv") == [
        {"infoset": f"player {i}", "player": str(i), "heads": "0.5", "tails": "0.5"} for i in range(2)
    ]
    capsys.readouterr()
    assert armfold_command("show", "own_games:pennies") == 0
    assert "heads, tails" in capsys.readouterr().out
    (place / "own_games.py").write_text(
        textwrap.dedent(MINE).replace("(stake, -stake) if", "(2 * stake, -2 * stake) if")
    )
    sys.modules.pop("own_games")
    check_refused(capsys, armfold_command("show", "run"), r"pennies\(3\) is not the one that was played")
    resumed = armfold_command("solve", *SMALL, "--game", "own_games:pennies(3)", "--out", "run", "--resume")
    check_refused(capsys, resumed, r"\bout run holds another run: rules differ")
    for name, pattern in {
        "unfair": r"sum to zero, got \(1, 1\) after \[0, 0\]",
        "endless": "max_histories 1000 is",
    }.items():
        words = ("--game", f"own_games:{name}", "--max-histories", "1000", "--out", "other")
        check_refused(capsys, armfold_command("solve", *SMALL, *words), pattern)
    assert not (place / "other").exists()


def test_a_game_of_openspiel(place: Path) -> None:
    assert armfold_command("solve", *SMALL, "--game", "openspiel:kuhn_poker", "--out", "run", "--quiet") == 0
    (row,) = read_csv(place / "run" / "summary.csv")
    ours = solve("kuhn", iterations=20, compile="off", progress=False).exploitability.item()
    assert float(row["exploitability"]) == pytest.approx(ours, abs=1e-12)


# Resuming

RUN = ("solve", *SMALL, "--algo", "cfr,dcfr", "--quiet", "--checkpoint-every", 1e-9)


def test_a_run_that_was_interrupted_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert armfold_command(*RUN, "--out", "whole") == 0
    capsys.readouterr()
    assert interrupt_command(monkeypatch, 10, KeyboardInterrupt(), *RUN, "--out", "run") == 130  # in the second of two
    assert "--resume" in capsys.readouterr().err
    assert not (place / "run" / "summary.csv").exists()
    check_refused(
        capsys, armfold_command("show", "run"), r"has not ended \(dcfr missing\)|holds a run that has not ended"
    )
    check_refused(capsys, armfold_command(*RUN, "--out", "run"), r"\bout run is not empty.*resume")
    other = armfold_command(*RUN, "--out", "run", "--resume", "--iterations", 30)
    check_refused(capsys, other, r"\bout run holds another run: iterations differ")
    assert armfold_command(*RUN, "--out", "run", "--resume") == 0
    names = {"summary.csv", "config.json", "policy-cfr.csv", "policy-dcfr.csv"}
    whole, run = (files(place / name) for name in ("whole", "run"))
    assert all(run[name] == whole[name] for name in names)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(place: Path) -> None:
    """kill -9 in the middle, then to the end."""
    words = [SCRIPT, "solve", "--game", "leduc", "--algo", "dcfr", "--iterations", "300", "--compile", "off", "--quiet"]
    manifest = place / "run" / "checkpoint" / "dcfr" / "manifest.json"
    started = [*words, "--out", "run", "--checkpoint-every", "0.05"]
    kill_when(started, manifest.is_file)
    assert "result" not in json.loads(manifest.read_text())
    for last in (["--out", "run", "--resume"], ["--out", "whole"]):
        subprocess.run([*words, *last], stdout=subprocess.DEVNULL, timeout=600, check=True)
    for name in ("summary.csv", "policy-dcfr.csv"):
        assert (place / "run" / name).read_bytes() == (place / "whole" / name).read_bytes()
    assert checkpoint.load(manifest.parent)[1]["result"]["iterations"] == 300


# Bad input

BAD: dict[str, tuple[list[str], str]] = {
    "unknown game": (["--game", "ledc"], r"unknown game 'ledc': did you mean 'leduc'"),
    "options of a game": (["--game", "goofspiel(1)"], r"game goofspiel\(1\): cards must be an integer >= 2, got 1"),
    "options that are none": (["--game", "goofspiel(4"], r"options of a game must be .*'\(4'"),
    "module missing": (["--game", "nobody:game"], r"nobody:game"),
    "no module": (["--game", ":"], r"game must be package\.module:function, got ':'"),
    "no rules": (["--game", "math:sqrt(4)"], r"math:sqrt.* must return Rules"),
    "too large": (["--game", "leduc", "--max-histories", "100"], r"max_histories 100 is too few for leduc"),
    "unknown algorithm": (["--algo", "cfr,cfrplus"], r"unknown algorithm 'cfrplus': did you mean 'cfr_plus'"),
    "no algorithm": (["--algo", " , "], r"\balgo must name at least one"),
    "no iterations": (["--iterations", "0"], r"iterations must be an integer >= 1, got 0"),
    "tolerance": (["--tolerance", "-0.1"], r"tolerance .*-0\.1"),
    "tolerance that is none": (["--tolerance", "nan"], r"tolerance .*nan"),
    "a seed for what draws nothing": (["--seed", "3"], r"--seed would change nothing: mccfr is not among the algo"),
    "traversals": (["--algo", "mccfr", "--traversals", "0"], r"traversals .*0"),
    "points": (["--points", "0"], r"points .*0"),
    "threads": (["--threads", "0"], r"threads .*0"),
    "checkpoints": (["--checkpoint-every", "nan"], r"checkpoint_every .*nan"),
    "export": (["--export", "polic"], r"unknown export 'polic': did you mean 'policy'"),
    "device": (["--device", "nonsense"], r"device 'nonsense'"),
    "a word for a number": (["--iterations", "many"], r"--iterations\b.*'many'"),
    "a misspelt flag": (["--iteration=3"], r"--iteration\b.*--iterations"),
    "a folder in use": (["--out", "full"], r"\bout full is not empty"),
    "a table in a folder": (["--csv", "full"], r"\bcsv .*full is not a file"),
    "resume": (["--resume"], r"resume needs --out"),
}


@pytest.mark.parametrize(("words", "pattern"), BAD.values(), ids=BAD)
def test_bad_input_costs_one_line(
    words: list[str], pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused_untouched(place, capsys, ["solve", *SMALL, *words], pattern)


# Options, list and show


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("solve", "--help") == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(cli_solve._Options):
        assert re.search(rf"--{field.name.replace('_', '-')}\b", text), field.name


def test_list_names_games_and_solvers(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("list") == 0
    out = capsys.readouterr().out
    for name in (*games.GAMES, *SOLVERS):
        assert re.search(rf"^\W*{name}\W", out, re.MULTILINE), name


def test_every_solver_and_game_has_a_row_in_the_documentation() -> None:
    assert games.solve.VARIANTS.keys() <= SOLVERS.keys()
    page = (Path(__file__).parents[2] / "docs" / "games.md").read_text()
    for name, entry in SOLVERS.items():
        assert f"| `{name}` | {entry.summary} | {entry.source} |" in page
    for name, make in games.GAMES.items():
        (row,) = re.findall(rf"^\| `{name}\b.*$", page, re.MULTILINE)
        if name != "liars_dice":  # which is large
            tree = games.compile_game(make())
            gap = games.exploitability(tree, games.uniform(tree))
            assert f"| {len(tree.names)} | {len(tree.histories.player)} | {gap:.6f} |" in row


def test_show_says_what_a_game_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("show", "kuhn") == 0
    out = capsys.readouterr().out
    assert re.search(r"infosets +12: 6 of the first player, 6 of the second", out)
    assert re.search(r"histories +58, 30 of them ends, the longest of 5 moves and deals", out)
    assert re.search(r"actions +2: pass, bet", out)
    assert re.search(r"uniform play +exploitability 0\.458333, value \+0\.125000", out)  # 11/24 and 1/8
    assert re.search(r"in OpenSpiel +kuhn_poker", out)
    check_refused(capsys, armfold_command("show", "goofspiel(1)"), "cards must be an integer >= 2, got 1")
    check_refused(capsys, armfold_command("show", "kuhnn"), "no folder kuhnn: did you mean the game 'kuhn'")
    check_refused(capsys, armfold_command("show", "runs"), "there is no folder runs$")
    check_refused(
        capsys, armfold_command("show", "leduc", "--max-histories", 100), "max_histories 100 is too few for leduc"
    )


def test_a_folder_comes_before_a_game_of_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "kuhn").mkdir()
    words = ("show", "kuhn", "--max-histories", 100)
    check_refused(capsys, armfold_command(*words), "--max-histories would change nothing: kuhn is a folder")
    check_refused(capsys, armfold_command("show", "kuhn"), "kuhn is not a run folder")
