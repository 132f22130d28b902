"""What the tests of commands share: `armfold` run to its end, stopped, killed, and what it wrote, said and refused."""

import contextlib
import csv
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import matplotlib.figure
import pytest

from armfold.shell import cli
from tests.shell.helpers import files, stopped_after

SCRIPT = Path(sys.executable).parent / "armfold"


def armfold_command(*argv: object) -> int:
    """`armfold ARGV`: its exit status. Logging is afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return cli.main([str(word) for word in argv])
    except SystemExit as exit:
        return int(exit.code or 0)
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


# What it wrote and said


def strict_json(text: str) -> Any:
    """`text` as JSON of the standard, which knows no NaN."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(text: str) -> list[str]:
    """The rows of the table in what was printed."""
    return [line for line in text.splitlines() if re.match(r" \S+ +-?\d", line)]


class Done(NamedTuple):
    """A run folder, and what was printed."""

    folder: Path
    stdout: str
    stderr: str


def run_to_end(tmp_path_factory: pytest.TempPathFactory, *argv: object) -> Done:
    """`armfold ARGV` into a folder of its own, at a wide terminal."""
    folder = tmp_path_factory.mktemp("done") / "run"
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("COLUMNS", "200")
        out = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        err = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        code = armfold_command(*argv, "--out", folder)
    assert code == 0, err.getvalue()
    return Done(folder, out.getvalue(), err.getvalue())


# Refused


def check_refused(capsys: pytest.CaptureFixture[str], code: int, *patterns: str) -> None:
    """That the last command said no: status 2, one line, no traceback, nothing else."""
    out, err = capsys.readouterr()
    assert code == 2
    assert err.startswith("armfold: error: ")
    assert err.count("\n") == 1, err
    assert len(err) < 600
    assert out == ""
    for pattern in patterns:
        assert re.search(pattern, err), f"{pattern!r} is not in {err!r}"


def check_refused_untouched(
    place: Path, capsys: pytest.CaptureFixture[str], argv: Iterable[object], *patterns: str
) -> None:
    """That `armfold ARGV` says no and writes nothing at `place`, where a folder `full` is in use."""
    (place / "full").mkdir()
    (place / "full" / "notes.txt").write_text("mine")
    check_refused(capsys, armfold_command(*argv), *patterns)
    assert files(place) == {"full/notes.txt": b"mine"}
    assert [path.name for path in place.iterdir()] == ["full"]


def check_shown_again(done: Done, said: str, capsys: pytest.CaptureFixture[str]) -> matplotlib.figure.Figure:
    """That `armfold show` says what a run said, `said`, and writes what it reports as it was, but for the picture;
    which is what this returns."""
    figures, save, before = [], matplotlib.figure.Figure.savefig, files(done.folder)

    def keep(figure: Any, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    for name in ("exploitability.png", "summary.csv", "records.jsonl"):
        (done.folder / name).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", keep)
        assert armfold_command("show", done.folder) == 0
    assert capsys.readouterr().out == said
    after = files(done.folder)
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} <= {"exploitability.png"}
    (figure,) = figures
    return figure


# Stopped


def interrupt_command(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException, *argv: object) -> int:
    """`armfold ARGV`, stopped by `error` once it has written `after` checkpoints."""
    with stopped_after(monkeypatch, after, error):
        return armfold_command(*argv)


def kill_when(argv: Iterable[object], ready: Callable[[], bool], **environ: str) -> None:
    """ARGV in a process of its own, and kill -9 as soon as it is `ready`, which must be before it ends."""
    words = [str(word) for word in argv]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, **environ}) as process:
        try:
            deadline = time.monotonic() + 300
            while not ready():
                assert process.poll() is None, "the run ended before it was caught"
                assert time.monotonic() < deadline, "the run was never ready to be caught"
                time.sleep(0.01)
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
