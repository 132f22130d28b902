"""What the benchmark does in processes of its own: a side that runs beside another one, and memory counted afresh."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from armfold.shell.run.pixels_bench import bytes_held
from armfold.shell.run.pixels_player import Player, Settings
from bench.record import CannotRunError, Play

_CONTEXT = multiprocessing.get_context("spawn")
ALL_CORES = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset(())


@contextlib.contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """What runs inside, and what is started there, may use these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _child(work: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """A process of its own that runs `work(pipe, *arguments)`: our end of the pipe. Leaving ends it."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()
        ours.close()


def answer(pipe: Connection) -> Any:
    """What a process says. Raises CannotRunError where it has died."""
    try:
        return pipe.recv()
    except (EOFError, OSError) as error:
        raise CannotRunError("a process of the benchmark has died; what it printed says why") from error


@contextlib.contextmanager
def processes(settings: Settings, cores: list[int]) -> Iterator[Play]:
    """Players in independent processes of one thread each, on a core of its own each: what lets all of them play so
    many steps side by side, to the end of the last one."""
    with contextlib.ExitStack() as children:
        pipes = [children.enter_context(_child(_serve, settings, core)) for core in cores]
        for pipe in pipes:
            answer(pipe)

        def play(steps: int) -> None:
            for pipe in pipes:
                pipe.send(steps)
            for pipe in pipes:
                answer(pipe)

        yield play


def _serve(pipe: Connection, settings: Settings, core: int) -> None:
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    with Player(settings) as player:
        pipe.send(None)
        while True:
            player.play(pipe.recv())
            pipe.send(None)


def memory_of(settings: Settings) -> dict[str, float]:
    """Bytes by which a fresh process grows when it makes a player and plays two steps: at the end ("grown"), and at the
    most ("peak", where the system says it); and bytes of the tensors that it then holds ("machine", "env")."""
    with _child(_weigh, settings) as pipe:
        found: dict[str, float] = answer(pipe)
        return found


def _weigh(pipe: Connection, settings: Settings) -> None:
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins here
    before = psutil.Process().memory_info().rss
    with Player(settings) as player:
        player.play(2)
        after, peak, held = psutil.Process().memory_info().rss, _peak(), bytes_held(player.backend)
        env = bytes_held(player.backend, player.env) - held
    found = {"grown": after - before, "machine": held, "env": env}
    pipe.send(found if peak is None else {**found, "peak": max(peak, after) - before})


def _peak() -> int | None:
    """The most that was resident, in bytes; None where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
