"""What every benchmark shares: its command line, one thread, fair timing, bars, and the one record on stdout."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from armfold.shell.device import cpu_model

PACKAGES = ("armfold", "torch", "jax", "jaxlib", "numpy", "open_spiel", "LiteEFG", "dm-tree", "pyboy")
console = Console(stderr=True)
_MOST_LOST = 0.05  # share of a side's wall time

Play = Callable[[int], object]  # steps -> anything, once the work is done


class CannotRunError(RuntimeError):
    """The benchmark cannot run here: a message of one line, and exit code 2."""


class Timing(NamedTuple):
    """What `race` measured of one side."""

    steps: int
    seconds: list[float]  # wall time of each repeat
    cpu_seconds: list[float]  # processor time of each; less than `seconds` where others had the core

    @property
    def rate(self) -> float:
        """Steps per second, by the median repeat."""
        return self.steps / statistics.median(self.seconds)

    @property
    def lost(self) -> float:
        """Share of the wall time in which this process did not compute."""
        return max(0.0, 1 - sum(self.cpu_seconds) / sum(self.seconds))


class Row(NamedTuple):
    """Our throughput against one peer's, both in the record's unit."""

    name: str
    peer: str
    ours: float
    theirs: float
    bar: float | None  # least ratio, or None where it is only reported
    detail: dict[str, Any]
    sound: bool = True  # both sides did the same work

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs

    @property
    def passed(self) -> bool:
        """Whether the bar, if there is one, is reached by a sound comparison."""
        return self.sound and (self.bar is None or self.ratio >= self.bar)

    def as_dict(self) -> dict[str, Any]:
        """The row as the record has it."""
        return {**self._asdict(), "ratio": self.ratio, "pass": self.passed}


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks have."""
    options = argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Prints one JSON record on stdout, all else on stderr. Exit code: 0; 1, a bar missed; 2, cannot run.",
    )
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where every side computes")
    options.add_argument("--repeats", type=positive, default=5, help="timed repeats of each side, interleaved")
    options.add_argument("--out", type=Path, help="also write the record to this file")
    return options


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def prepare(device: str) -> None:
    """Ready the process for `device`, before JAX is imported. On the CPU: one core and one thread for every side."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise CannotRunError("torch sees no CUDA device; run with --device cpu")
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        return
    single = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {single}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def version(package: str) -> str | None:
    """The installed version of `package`, None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on: versions, processor, device, threads, and how busy the machine was."""
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def timed(play: Play, steps: int) -> tuple[float, float]:
    """Seconds of wall and of processor time that `play(steps)` takes."""
    start, start_cpu = time.perf_counter(), time.process_time()
    play(steps)
    return time.perf_counter() - start, time.process_time() - start_cpu


def warm(play: Play, *, seconds: float, first: int) -> int:
    """The number of steps, at least `first`, that takes about `seconds`; all that it runs is compiled afterwards."""
    play(first)
    steps = max(first, round(first * seconds / timed(play, first)[0]))
    play(steps)
    return steps


def race(sides: Mapping[str, Play], *, repeats: int, seconds: float, first: int) -> dict[str, Timing]:
    """Time every side, warmed, in turn: A B C A B C, so that a slow spell of the machine meets them all."""
    timings = {name: Timing(warm(play, seconds=seconds, first=first), [], []) for name, play in sides.items()}
    for _ in range(repeats):
        for name, play in sides.items():
            wall, cpu = timed(play, timings[name].steps)
            timings[name].seconds.append(wall)
            timings[name].cpu_seconds.append(cpu)
    return timings


def warn_if_shared(timings: Mapping[str, Timing]) -> None:
    """Say on stderr which sides, computing on the CPU, had to share their core: their ratios mean little."""
    for name, timing in timings.items():
        if timing.lost > _MOST_LOST:
            console.print(f"[yellow]{name} lost {timing.lost:.0%} of its time to other work on this machine")


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send stdout to stderr meanwhile, also what compilers and other children print."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def show(title: str, rows: Sequence[Row]) -> None:
    """A table of the rows for people, on stderr."""
    table = Table("", "peer", title=title)
    for heading in ("ours", "peer's", "ratio", "bar"):
        table.add_column(heading, justify="right")
    table.add_column("pass")
    for row in rows:
        verdict = ("[green]yes" if row.bar else "-") if row.passed else "[red]no"
        numbers = (f"{row.ours:.3g}", f"{row.theirs:.3g}", f"{row.ratio:.2f}", f"{row.bar:g}" if row.bar else "-")
        table.add_row(row.name, row.peer, *numbers, verdict)
    console.print(table)


def run(name: str, options: argparse.Namespace, unit: str, measure: Callable[[], list[Row]]) -> int:
    """Run a benchmark: `measure` its rows, print the table and the record, and return the exit code."""
    try:
        with quiet_stdout():
            prepare(options.device)
            about = machine(options.device)
            rows = measure()
            show(f"{name}, {unit}", rows)
    except CannotRunError as error:
        print(f"bench.{name}: {error}", file=sys.stderr)
        return 2
    knobs = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    passed = all(row.passed for row in rows)
    body = {"benchmark": name, "unit": unit, "pass": passed, "rows": [row.as_dict() for row in rows]}
    text = json.dumps({**body, "options": knobs, "machine": about})
    print(text, flush=True)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0 if passed else 1
