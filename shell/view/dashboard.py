"""A dashboard of learners as they run: a row for each, drawn again and again; without a terminal a line at times."""

import sys
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import torch
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

from armfold.shell.run.profile import memory
from armfold.shell.run.result import Result
from armfold.shell.view.progress import Glimpse, Watcher

_DRAWS = 4  # a second; one costs about a millisecond
_PAUSE = 5.0  # seconds between two lines about a learner, where there is no terminal
_WINDOW = 3.0  # seconds over which the rate is taken
_POINTS = 12  # of a curve
_GAP = 2  # between columns
_NAME, _BAR, _LONG_BAR = 8, 8, 30  # least and largest widths
_STYLES = {"waiting": "dim", "starting": "yellow", "running": "cyan", "done": "green", "stopped": "red"}
_NAMES = {"waiting": "dim", "starting": "bold", "running": "bold"}

Part = tuple[str, str]  # text and its style


class _Marks(NamedTuple):
    """What is drawn with."""

    done: str
    left: str
    cut: str  # where a name is shortened
    dot: str  # between the parts of the footer
    levels: str  # of a curve


_UNICODE = _Marks("━", "─", "…", " · ", "▁▂▃▄▅▆▇█")
_ASCII = _Marks("=", "-", "~", ", ", "_.-:+=*#")


class _Row:
    """What is known of a learner."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps
        self.state = "waiting"
        self.glimpse: Glimpse | None = None
        self.curve: list[float | None] = [None] * _POINTS  # regret at equal parts of the steps
        self.looks: deque[tuple[float, int]] = deque()  # seconds, run-steps taken by then

    def see(self, glimpse: Glimpse, now: float) -> None:
        self.state, self.glimpse = "running", glimpse
        self.curve[-(-glimpse.step * _POINTS // self.steps) - 1] = glimpse.regret
        self.looks.append((now, glimpse.done))
        while len(self.looks) > 2 and now - self.looks[0][0] > _WINDOW:
            self.looks.popleft()

    def finish(self, result: Result) -> None:
        total, regret = result.regret.numel() * result.steps, result.regret.mean().item()
        t, mean = result.curve_t.tolist(), result.curve_mean.tolist()
        self.curve = [mean[bisect_left(t, result.steps * (i + 1) / _POINTS)] for i in range(_POINTS)]
        self.glimpse = Glimpse(total, total, result.steps, regret, result.optimal_rate)
        self.state = "done"

    @property
    def regret(self) -> str:
        return "" if self.glimpse is None else f"{self.glimpse.regret:.3f}"

    @property
    def optimal(self) -> str:
        return "" if self.glimpse is None else f"{100 * self.glimpse.optimal:.1f}%"

    @property
    def rate(self) -> str:
        """Run-steps a second of late. The first look comes after compiling, which is not counted so."""
        if len(self.looks) < 2 or self.looks[-1][0] <= self.looks[0][0]:
            return ""
        (began, before), (now, done) = self.looks[0], self.looks[-1]
        return f"{_short((done - before) / (now - began))}/s"

    def sentence(self) -> str:
        """All of it in a line."""
        step = "done" if self.state == "done" or self.glimpse is None else f"step {self.glimpse.step} of {self.steps}"
        rate = f", {self.rate.removesuffix('/s')} run-steps/s" if self.rate else ""
        return f"{self.name}: {step}, regret {self.regret}, optimal {self.optimal}{rate}"

    def cell(self, column: str, width: int, marks: _Marks, highest: float) -> list[Part]:
        """What stands in a column, as wide as that is. `highest` is the top of all curves."""
        shown = self.glimpse
        match column:
            case "learner":
                return [(_fit(self.name, width, marks.cut), _NAMES.get(self.state, ""))]
            case "state":
                return [(self.state.ljust(width), _STYLES[self.state])]
            case "progress":
                filled = 0 if shown is None else width * shown.done // shown.total
                return [(marks.done * filled, _STYLES[self.state]), (marks.left * (width - filled), "dim")]
            case "step":
                return [(("" if shown is None else f"{shown.step}/{self.steps}").rjust(width), "")]
            case "over time":
                return [("".join(_level(value, highest, marks.levels) for value in self.curve), _STYLES[self.state])]
            case "run-steps":
                return [(self.rate.rjust(width), "")]
            case "optimal":
                return [(self.optimal.rjust(width), "")]
            case _:
                return [(self.regret.rjust(width), "")]


def _short(number: float) -> str:
    """Three digits of it."""
    for unit in ("", "k", "M"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}G"


def _fit(name: str, width: int, cut: str) -> str:
    """A name in just that many cells. Of package.module:function the end is kept, of others the beginning."""
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    if ":" not in name:
        return set_cell_size(name, width - 1) + cut
    while cell_len(name) > width - 1:
        name = name[1:]
    return set_cell_size(cut + name, width)


def _level(value: float | None, highest: float, levels: str) -> str:
    if value is None:
        return " "
    return levels[max(0, min(int(len(levels) * value / highest), len(levels) - 1))] if highest > 0 else levels[0]


def _choose_widths(rows: Sequence[_Row], width: int) -> dict[str, int]:
    """The columns that fit, in the order of drawing, and their widths. Learner and regret always stay."""
    longest = max(len("learner"), *(cell_len(row.name) for row in rows))
    regret = max(8, *(len(row.regret) for row in rows))
    name = max(1, min(longest, max(_NAME, width // 4), width - _GAP - regret))
    least = {"learner": name, "regret": regret, "progress": _BAR, "optimal": 7}  # most wanted first
    least |= {"step": 2 * len(str(rows[0].steps)) + 1, "state": 8, "run-steps": 9, "over time": _POINTS}
    kept, spare = {}, width + _GAP
    for column, need in least.items():
        if need + _GAP > spare and column not in ("learner", "regret"):
            break
        kept[column] = need
        spare -= need + _GAP
    for column, most in (("learner", longest), ("progress", _LONG_BAR)):
        if column in kept:
            more = max(0, min(most - kept[column], spare))
            kept[column] += more
            spare -= more
    order = ("learner", "state", "progress", "step", "regret", "over time", "optimal", "run-steps")
    return {column: kept[column] for column in order if column in kept}


class Dashboard:
    """Shows how learners are doing while they run, one after another, on standard error.

    `watcher(name)` is what `simulate` wants as `watch`, `finish(name, result)` puts the final figures in the row. On a
    terminal the rows are drawn four times a second by a thread of their own; print and log through `console` meanwhile.
    Elsewhere, and on a dumb terminal, a line about a learner is printed every five seconds and when it is done.
    The regret of a row is the mean of the block of lanes at hand, in the end that of all. Curves share one scale.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        steps: int,
        title: str,
        device: str | torch.device = "cpu",
        console: Console | None = None,
    ) -> None:
        if not names:
            raise ValueError("names must hold at least one learner")
        self.console = console or Console(stderr=True)
        self._rows = {name: _Row(name, steps) for name in names}
        self._title, self._device = title, torch.device(device)
        self._began = time.monotonic()
        self._seconds: float | None = None  # that it took, once it has ended
        screen = self.console.is_terminal and not self.console.is_dumb_terminal and self.console.file.isatty()
        # Standard output goes its own way where it is not on the same screen.
        self._live = Live(
            self,
            console=self.console,
            refresh_per_second=_DRAWS,
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="crop",
        ) if screen else None  # fmt: skip

    def __enter__(self) -> Self:
        """Start to draw."""
        self._began = time.monotonic()
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw for the last time, and give the terminal back."""
        self._seconds = time.monotonic() - self._began
        for row in self._rows.values():
            if row.state in ("starting", "running"):
                row.state = "stopped"
        if self._live is not None:
            self._live.stop()

    def watcher(self, name: str) -> Watcher:
        """What tells the row of that learner how its run is doing."""
        row, due = self._rows[name], time.monotonic() + _PAUSE
        row.state = "starting"

        def watch(glimpse: Glimpse) -> None:
            nonlocal due
            now = time.monotonic()
            row.see(glimpse, now)
            if self._live is None and now >= due:
                due = now + _PAUSE
                self._say(row)

        return watch

    def finish(self, name: str, result: Result) -> None:
        """Put the final figures in the row of that learner."""
        self._rows[name].finish(result)
        if self._live is None:
            self._say(self._rows[name])

    def _say(self, row: _Row) -> None:
        self.console.print(Text(row.sentence()), soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """As many lines as there is room for, all of them once it has ended."""
        marks = _ASCII if options.ascii_only else _UNICODE
        rows, width, height = list(self._rows.values()), options.max_width, options.size.height
        shown = rows if self._seconds is not None else _around(rows, max(1, height - 2))
        widths = _choose_widths(rows, width)
        highest = max((value for row in rows for value in row.curve if value is not None), default=0.0)
        left = ("learner", "state", "progress", "over time")
        head = [(name.ljust(cells) if name in left else name.rjust(cells), "bold") for name, cells in widths.items()]
        lines = [[[part] for part in head]]
        lines += [[row.cell(name, cells, marks, highest) for name, cells in widths.items()] for row in shown]
        lines += [[[(self._footer(width, marks, len(rows) - len(shown)), "dim")]]]
        for line in lines if len(lines) <= height or self._seconds is not None else lines[1 : height + 1]:
            yield _text(line, width)

    def _footer(self, width: int, marks: _Marks, hidden: int) -> str:
        """As much as fits of: learners not shown, time taken, memory, environment and runs."""
        seconds = int(time.monotonic() - self._began if self._seconds is None else self._seconds)
        resident = f"peak {memory(torch.device('cpu'))}"
        used = resident if self._device.type == "cpu" else f"{resident}, {memory(self._device)}"
        footer = ""
        for part in (f"{hidden} more" if hidden else "", f"{seconds // 60}:{seconds % 60:02}", used, self._title):
            longer = marks.dot.join(filter(None, (footer, part)))
            footer = longer if cell_len(longer) <= width else footer
        return footer


def _around(rows: list[_Row], count: int) -> list[_Row]:
    """As many rows, the running one among them."""
    at = max((i for i, row in enumerate(rows) if row.state != "waiting"), default=0)
    first = max(0, min(at - count + 2, len(rows) - count))  # the next one is seen too
    return rows[min(first, at) :][:count]


def _text(cells: list[list[Part]], width: int) -> Text:
    """A line of cells, never longer than `width`."""
    line = Text(" " * _GAP).join(Text.assemble(*cell) for cell in cells)
    line.no_wrap = True
    line.truncate(width)
    return line
