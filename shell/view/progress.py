"""How a run is doing: what it tells those who watch, and a progress bar on standard error, where that is a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Glimpse(NamedTuple):
    """How a run is doing."""

    done: int  # run-steps taken
    total: int  # run-steps to take
    step: int  # steps that the lanes at hand have taken
    regret: float  # reward unit, their mean cumulative pseudo-regret
    optimal: float  # share of their steps on which a best arm was played


Watcher = Callable[[Glimpse], None]

_BETWEEN = 0.1  # seconds


def seldom(watch: Watcher | None, total: int, glimpse: Callable[[], Glimpse]) -> Callable[[int], None]:
    """A function that is told how much of `total` is done: it shows `watch` a glimpse ten times a second at most, and
    at the end. In between it costs a look at the clock."""
    due = 0.0

    def moved(done: int) -> None:
        nonlocal due
        if watch is not None and (time.monotonic() >= due or done == total):
            watch(glimpse())
            due = time.monotonic() + _BETWEEN

    return moved


@contextmanager
def track(label: str, total: int, *, enabled: bool) -> Iterator[Callable[..., None]]:
    """Yields a function that is told how much of `total` is done, and may be told a note to show beside it."""
    if not enabled or not sys.stderr.isatty():
        yield lambda done, note="": None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, note="": bar.update(task, completed=done, description=f"{label} {note}".rstrip())
