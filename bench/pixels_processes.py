"""What the benchmark does in processes of its own: a side that runs beside another one, and memory counted afresh."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from armfold.shell.run.pixels_bench import bytes_held
from armfold.shell.run.pixels_player import Player, Settings

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


class Processes:
    """Players in independent processes of one thread each, on a core of its own each, that play side by side."""

    def __init__(self, settings: Settings, cores: list[int]) -> None:
        self._pipes: list[Connection] = []
        self._processes = []
        for core in cores:
            ours, theirs = _CONTEXT.Pipe()
            process = _CONTEXT.Process(target=_serve, args=(theirs, settings, core), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._wait()

    def _wait(self) -> None:
        for pipe in self._pipes:
            pipe.recv()

    def play(self, steps: int) -> None:
        """So many steps in each of them; over when the last one has finished."""
        for pipe in self._pipes:
            pipe.send(steps)
        self._wait()

    def close(self) -> None:
        """End them."""
        for pipe, process in zip(self._pipes, self._processes):
            pipe.send(0)
            process.join()


def _serve(pipe: Connection, settings: Settings, core: int) -> None:
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    player = Player(settings)
    pipe.send(None)
    while steps := pipe.recv():
        player.play(steps)
        pipe.send(None)


def memory_of(settings: Settings) -> dict[str, float]:
    """Bytes by which a fresh process grows when it makes a player and plays two steps, at the end and at the most, and
    bytes of the tensors that it then holds."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_weigh, args=(theirs, settings), daemon=True)
    process.start()
    theirs.close()
    found: dict[str, float] = ours.recv()
    process.join()
    return found


def _weigh(pipe: Connection, settings: Settings) -> None:
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins here
    before = psutil.Process().memory_info().rss
    player = Player(settings)
    player.play(2)
    after, held = psutil.Process().memory_info().rss, bytes_held(player.backend)
    env = bytes_held(player.backend, player.env) - held
    found: dict[str, Any] = {"grown": after - before, "peak": max(_peak(), after) - before, "machine": held, "env": env}
    pipe.send(found)


def _peak() -> int:
    """The most that was resident, in bytes; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
