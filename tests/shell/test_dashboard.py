"""The dashboard: nothing wraps at any size, the figures are those of the run, the run does not notice, and a terminal
is left as it was found."""

import csv
import fcntl
import io
import itertools
import logging
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.logging import RichHandler

from armfold.shell import Result
from armfold.shell.run import bandit as runner
from armfold.shell.view import dashboard, progress
from armfold.shell.view.dashboard import Dashboard
from armfold.shell.view.progress import Glimpse
from tests.shell.helpers import heed_signals, interrupt_run, learner, run, same_result

SCRIPT = Path(sys.executable).parent / "armfold"
NAMES = ["kl_ucb", "linear_epsilon_greedy", "some.package.learners:optimist", "ucb1", "moss"]
STEPS = 1000
COLUMNS = ("learner", "state", "progress", "step", "regret", "over time", "optimal", "run-steps")


class Terminal(io.StringIO):
    """Text that passes for a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the dashboard and the watcher take for the time."""
    clock = Clock()
    for module in (dashboard, progress):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture(scope="module")
def result() -> Result:
    """A small run."""
    return run(steps=40)


def screen_of(width: int = 80, height: int = 25, file: IO[str] | None = None, term: str = "xterm") -> Console:
    """A console of that size; a terminal where nothing else is given."""
    environ = {"TERM": term, "COLUMNS": str(width), "LINES": str(height)}
    return Console(file=file or Terminal(), force_terminal=True, width=width, height=height, _environ=environ)


def under_way(result: Result, *, file: IO[str] | None = None) -> Dashboard:
    """The first learner is done, the second half-way."""
    board = Dashboard(NAMES, steps=STEPS, title="bernoulli, 1000 steps", console=screen_of(file=file or io.StringIO()))
    board.finish(NAMES[0], result)
    watch = board.watcher(NAMES[1])
    for step in range(0, STEPS // 2 + 1, 50):
        watch(Glimpse(step * 64, STEPS * 64, max(step, 1), 12345.678 * step / STEPS, step / STEPS))
    return board


def lines_of(board: Dashboard, width: int, height: int = 25, encoding: str = "utf-8") -> list[str]:
    """What is drawn in a terminal of that size, line by line."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height, _environ={})
    console.print(board)
    file.seek(0)
    return file.read().splitlines()


# What is drawn


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_nothing_wraps_at_any_width(width: int, result: Result) -> None:
    lines = lines_of(under_way(result), width)
    assert len(lines) == 1 + len(NAMES) + 1
    assert all(cell_len(line) <= width for line in lines)
    head, first, second, third, *_ = lines
    assert head.split()[0] == "learner"
    assert "regret" in head
    assert first.startswith("kl_ucb ")
    assert f" {result.regret.mean():.3f}" in first
    assert second.startswith("linear_e")
    assert " 6172.839" in second
    assert third.split()[0].endswith("optimist" if width >= 40 else "timist")


def test_columns_go_in_order_of_use(result: Result) -> None:
    board = under_way(result)
    shown = [{name for name in COLUMNS if name in lines_of(board, width)[0]} for width in range(30, 110)]
    assert shown[0] == {"learner", "progress", "regret"}
    assert shown[-1] == set(COLUMNS)
    assert all("progress" in some for some in shown)
    for last, first in itertools.pairwise(("over time", "run-steps", "state", "step", "optimal")):
        widths = [min(width for width, some in enumerate(shown) if name in some) for name in (last, first)]
        assert widths[0] > widths[1], f"{last} goes before {first}"


@pytest.mark.parametrize("width", [1, 2, 7, 12, 20])
def test_hardly_any_width_is_no_error(width: int, result: Result) -> None:
    assert all(cell_len(line) <= width for line in lines_of(under_way(result), width))


def test_long_names_are_shortened(result: Result) -> None:
    lines = lines_of(under_way(result), 40)
    assert [line.split()[0] for line in lines[1:6]] == ["kl_ucb", "linear_eps…", "…s:optimist", "ucb1", "moss"]
    assert lines_of(under_way(result), 200)[3].startswith("some.package.learners:optimist ")


def test_wide_characters_are_counted_as_wide() -> None:
    names = ["学習" * 10, "パ.モ:" + "関数" * 10]
    for width in (20, 30, 31, 32, 33, 60):
        lines = lines_of(Dashboard(names, steps=10, title="環境" * 40), width)
        assert len({cell_len(line) for line in lines[:3]}) == 1
        assert all(cell_len(line) <= width for line in lines)


def test_a_terminal_without_unicode_gets_ascii(result: Result) -> None:
    plain = lines_of(under_way(result), 100, encoding="ascii")
    assert all(line.isascii() and len(line) <= 100 for line in plain)
    assert "=---" in plain[2]
    assert "\\u" not in "".join(plain)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6])
def test_few_lines_show_the_one_that_runs(height: int, result: Result) -> None:
    lines = lines_of(under_way(result), 80, height)
    assert len(lines) == height
    assert sum("running" in line for line in lines) == 1
    if height > 1:
        assert lines[-1].startswith(f"{len(NAMES) - max(1, height - 2)} more")


def test_rows_say_how_a_learner_is_doing(result: Result) -> None:
    done, running, waiting = (line.split() for line in lines_of(under_way(result), 100)[1:4])
    assert done[1] == "done"
    assert {f"{result.regret.mean():.3f}", f"{100 * result.optimal_rate:.1f}%"} <= {*done}
    assert running[1] == "running"
    assert {"500/1000", "6172.839", "50.0%"} <= {*running}
    assert running[2].count("━") == running[2].count("─") > 0
    assert waiting[1:2] == ["waiting"]
    assert len(waiting) == 3  # and an empty bar: nothing is known


def test_the_curve_of_a_learner_that_is_done_is_that_of_the_result() -> None:
    """Twelve equal parts of the steps, in eighths of the highest."""
    result = run(learner("ucb1"), steps=24, points=24)
    board = Dashboard(["ucb1"], steps=24, title="", console=screen_of(file=io.StringIO()))
    board.finish("ucb1", result)
    (drawn,) = re.findall("[▁▂▃▄▅▆▇█]{12}", lines_of(board, 120)[1])
    at = result.curve_mean[1::2]
    assert ["▁▂▃▄▅▆▇█".index(mark) for mark in drawn] == (8 * at / at[-1]).int().clamp(max=7).tolist()


def test_the_rate_is_of_the_last_seconds(clock: Clock) -> None:
    board = Dashboard(["ucb1"], steps=STEPS, title="", console=screen_of(file=Terminal()))
    watch = board.watcher("ucb1")

    def rate() -> str:
        return lines_of(board, 200)[1].split()[-1]

    clock.now += 60  # compiling
    watch(Glimpse(1, 10**7, 1, 0.0, 0.0))
    assert not rate().endswith("/s")
    for i in range(1, 21):
        clock.now += 0.5
        watch(Glimpse(1 + 1000 * i, 10**7, i, 0.0, 0.0))
    assert rate() == "2k/s"
    for i in range(1, 21):
        clock.now += 0.5
        watch(Glimpse(20_001 + 500_000 * i, 10**8, 20 + i, 0.0, 0.0))
    assert rate() == "1M/s"


def test_a_dashboard_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="names"):
        Dashboard([], steps=3, title="")


# Runs that are watched


def test_watching_changes_nothing(tmp_path: Path) -> None:
    board = Dashboard(["ucb1"], steps=40, title="", console=screen_of())
    with board:
        watched = run(runs=130, max_memory=1, watch=board.watcher("ucb1"))
    assert same_result(watched, run(runs=130, max_memory=1))


def test_a_watcher_sees_the_run(clock: Clock) -> None:
    """The time stands still: there is a look at the beginning and one at the end."""
    seen: list[Glimpse] = []
    result = run(runs=64, watch=seen.append)
    assert [(glimpse.step, glimpse.done, glimpse.total) for glimpse in seen] == [(1, 64, 2560), (40, 2560, 2560)]
    assert seen[-1].regret == result.regret.mean().item()
    assert seen[-1].optimal == pytest.approx(result.optimal_rate, rel=1e-12)


def test_a_watcher_is_called_ten_times_a_second(clock: Clock) -> None:
    looks: list[float] = []
    glimpse = Glimpse(1, 2000, 1, 0.0, 0.0)
    moved = progress.seldom(lambda glimpse: looks.append(clock.now), 2000, lambda: glimpse)
    for done in range(1, 2001):
        clock.now += 1e-3
        moved(done)
    assert 19 <= len(looks) <= 21
    assert min(after - before for before, after in itertools.pairwise(looks[:-1])) >= 0.1 - 1e-9
    progress.seldom(None, 1, lambda: pytest.fail("nobody looks"))(1)


def test_slow_steps_are_seen_one_by_one(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen = run(points=2), []
    monkeypatch.setattr(runner, "_PATIENCE", 0.0)

    def watch(glimpse: Glimpse) -> None:
        clock.now += 1
        seen.append(glimpse.step)

    assert same_result(run(points=2, watch=lambda glimpse: seen.append(glimpse.step)), whole)
    assert seen == [1, 40]
    seen.clear()
    monkeypatch.setattr(progress, "_BETWEEN", -1.0)
    assert same_result(run(points=2, watch=watch), whole)
    assert seen == [*range(1, 41)]
    interrupt_run(monkeypatch, tmp_path, 7, points=2)
    assert same_result(run(points=2, checkpoint=tmp_path, resume=True), whole)


# Where there is no terminal


@pytest.mark.parametrize(
    "console",
    [
        lambda: Console(file=io.StringIO(), width=40),
        lambda: screen_of(40, file=io.StringIO()),  # FORCE_COLOR and the like: still no terminal
        lambda: screen_of(40, term="dumb"),
    ],
    ids=["a pipe", "a pipe that wants colours", "a dumb terminal"],
)
def test_without_a_terminal_there_is_a_line_at_times(console: object, clock: Clock, result: Result) -> None:
    threads = threading.active_count()
    assert callable(console)
    with Dashboard(NAMES, steps=STEPS, title="", console=console()) as board:
        watch = board.watcher(NAMES[1])
        for step in range(1, 121):
            clock.now += 0.1
            watch(Glimpse(step * 64, STEPS * 64, step, step / 4, 0.5))
        assert threading.active_count() == threads
        board.finish(NAMES[1], result)
    assert isinstance(board.console.file, io.StringIO)
    text = board.console.file.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[0] == "linear_epsilon_greedy: step 50 of 1000, regret 12.500, optimal 50.0%, 640 run-steps/s"
    assert lines[1].startswith("linear_epsilon_greedy: step 100 of 1000, regret 25.000")
    assert lines[2].startswith(f"linear_epsilon_greedy: done, regret {result.regret.mean():.3f}, optimal ")


# Terminals


def seen_on(text: str, width: int) -> list[str]:
    """The lines of a terminal that was sent `text`, by what Rich sends: colours, up, and erase a line."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[^\x1b]", text):
        if token in "\r\n":  # a terminal goes back to the first column in both cases
            column, row = 0, row + (token == "\n")
            lines += [""] * (row + 1 - len(lines))
        elif token.endswith("A") and token[0] == "\x1b":
            row -= int(token[2:-1] or 1)
            assert row >= 0
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token[0] != "\x1b":
            assert column < width, f"{lines[row]!r} is too long"
            lines[row] = lines[row].ljust(column)[:column] + token + lines[row][column + 1 :]
            column += 1
        else:
            assert re.fullmatch(r"\x1b\[([\d;]*m|\?25[lh])", token), token
    return [line.rstrip() for line in lines]


def check_cursor(text: str) -> None:
    """That it is shown in the end."""
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.dashboard")
    logger.propagate = False
    yield logger
    logger.handlers.clear()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError], ids=str)
def test_a_terminal_is_left_as_it_was(
    error: type[BaseException] | None, result: Result, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the run; and what is logged or printed meanwhile stays readable above the rows."""
    screen, out = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", out)
    console = Console(stderr=True, force_terminal=True, width=80, height=25, _environ={"TERM": "xterm"})
    logger.addHandler(RichHandler(console=console, show_path=False, show_time=False))
    raised: BaseException | None = None
    try:
        with Dashboard(NAMES, steps=STEPS, title="a title", console=console) as board:
            board.finish(NAMES[0], result)
            watch = board.watcher(NAMES[1])
            watch(Glimpse(64, 64 * STEPS, 1, 0.25, 0.5))
            logger.warning("something odd")
            print("an aside", file=sys.stderr)
            print("for the pipe")
            if error is not None:
                raise error("why")
            board.finish(NAMES[1], result)
    except (KeyboardInterrupt, ValueError) as caught:
        raised = caught
    assert (type(raised) if raised else None) is error
    assert (sys.stderr, sys.stdout) == (screen, out)
    assert out.getvalue() == "for the pipe\n"
    check_cursor(screen.getvalue())
    lines = seen_on(screen.getvalue(), 80)
    assert lines[0].split() == ["WARNING", "something", "odd"]
    assert lines[1] == "an aside"
    assert lines[2].startswith("learner")
    assert [line.split()[0] for line in lines[3:5]] == ["kl_ucb", "linear_epsilon_greedy"]
    assert ("stopped" in lines[4], "0.250" in lines[4]) == ((False, False) if error is None else (True, True))
    assert lines[8].startswith("0:00")
    assert lines[9:] == [""]


def test_colours_are_left_out_where_they_are_not_wanted(result: Result) -> None:
    environ = {"TERM": "xterm", "NO_COLOR": "1"}
    console = Console(file=Terminal(), force_terminal=True, width=80, height=25, _environ=environ)
    with Dashboard(NAMES, steps=STEPS, title="", console=console) as board:
        board.finish(NAMES[0], result)
    assert isinstance(console.file, Terminal)
    colours = re.findall(r"\x1b\[([\d;]*)m", console.file.getvalue())
    assert not [code for code in colours if {*code.split(";")} & {str(number) for number in range(30, 50)}]


class Ended(SimpleNamespace):
    """A command that ran in a terminal: status, what it sent there, what it wrote to a pipe."""

    status: int
    screen: str
    out: str


def in_terminal(*argv: object, width: int, height: int, interrupt: bytes | None = None) -> Ended:
    """Run a command with its standard error on a terminal; with Ctrl-C once it has sent `interrupt`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    before = termios.tcgetattr(slave)
    hidden = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"TERM": "xterm", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    words = [str(word) for word in argv]
    with subprocess.Popen(
        words, stdin=slave, stdout=subprocess.PIPE, stderr=slave, env=environ, preexec_fn=heed_signals
    ) as process:
        sent = b""
        reading = True

        def read() -> None:
            nonlocal sent, interrupt
            while reading or sent[-1:] != b"\n":
                sent += os.read(master, 65536)
                if interrupt is not None and interrupt in sent:
                    process.send_signal(signal.SIGINT)
                    interrupt = None

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        out, _ = process.communicate(timeout=300)
    assert termios.tcgetattr(slave) == before
    reading = False
    os.write(slave, b"end\n")  # what the reader waits for
    reader.join(timeout=60)
    assert not reader.is_alive()
    os.close(slave)
    os.close(master)
    return Ended(status=process.returncode, screen=sent.decode().removesuffix("end\r\n"), out=out.decode())


WORDS = ("bandit", "--algos", "kl_ucb,exp3,ucb1", "--runs", 70, "--compile", "off", "--tui")


@pytest.mark.slow
def test_the_command_in_a_real_terminal(tmp_path: Path) -> None:
    """The table goes to the pipe; the rows, which stay on the screen, agree with summary.csv."""
    words = (SCRIPT, *WORDS, "--steps", 60, "--out", tmp_path / "run")
    ended = in_terminal(*words, width=80, height=8)
    assert ended.status == 0
    assert "\x1b" not in ended.out
    assert str(tmp_path / "run" / "summary.csv") in ended.out.replace("\n", "")
    check_cursor(ended.screen)
    lines = seen_on(ended.screen, 80)
    assert lines[0].startswith("learner")
    assert lines[-1] == ""
    with (tmp_path / "run" / "summary.csv").open(newline="") as file:
        rows = {row["algorithm"]: row for row in csv.DictReader(file)}
    for name, line in zip(("kl_ucb", "exp3", "ucb1"), lines[1:4], strict=True):
        words_shown = line.split()
        assert words_shown[:2] == [name, "done"]
        assert f"{float(rows[name]['regret_mean']):.3f}" in words_shown
        assert f"{100 * float(rows[name]['optimal_rate']):.1f}%" in words_shown


@pytest.mark.slow
def test_an_interrupted_command_gives_the_terminal_back(tmp_path: Path) -> None:
    words = (SCRIPT, *WORDS, "--steps", 10**6, "--out", tmp_path / "run")
    ended = in_terminal(*words, width=80, height=25, interrupt=b"running")
    assert ended.status == 130
    check_cursor(ended.screen)
    lines = seen_on(ended.screen, 80)
    assert "stopped" in lines[1]
    assert lines[-2] == "armfold: error: interrupted; --resume goes on from what is kept"
    assert ended.out == ""
