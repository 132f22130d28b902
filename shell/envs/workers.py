"""PufferLib's vectors of environments, asked with care: what is wrong is said, and nothing is waited for in vain.

In PufferLib a wrong call ends in an AttributeError (its own errors cannot be raised in 3.0.5), a worker that dies in a
wait without end, and a program that closes nothing hangs at its exit.
"""

import atexit
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from pufferlib import vector

from armfold.core.check import check_seed
from armfold.shell.envs.spaces import check_actions

_PATIENCE = 0.1  # seconds between two looks at whether the workers are alive
_GRACE = 5.0  # seconds that a worker may take to end


class _Checked:
    """Looks at what a vector of PufferLib is asked before the vector does, whose own errors cannot be raised."""

    def async_reset(self, seed: int = 0) -> None:
        check_seed("seed", seed)
        super().async_reset(seed)  # type: ignore[misc]

    def send(self: Any, actions: Any) -> None:
        if self.flag != vector.SEND:
            raise ValueError("send comes after a reset and a recv, once each time")
        checked = check_actions(actions, self.agents_per_batch, int(self.single_action_space.n))
        super().send(checked.numpy())  # type: ignore[misc]

    def recv(self: Any) -> tuple[Any, ...]:
        if self.flag != vector.RECV:
            raise ValueError("recv comes after a reset or a send, once each time")
        return super().recv()  # type: ignore[misc, no-any-return]


class Serial(_Checked, vector.Serial):  # type: ignore[misc]
    """Environments one after the other in this process."""


class Multiprocessing(_Checked, vector.Multiprocessing):  # type: ignore[misc]
    """Environments in processes of their own, which are watched while they are waited for, and ended in the end."""

    def __init__(self, creators: Sequence[Callable[..., Any]], *arguments: Any, **options: Any) -> None:
        super().__init__([partial(_make, create, os.getpid()) for create in creators], *arguments, **options)
        self._end = weakref.finalize(self, _end, self.processes, os.getpid())
        atexit.register(self._end)  # runs before multiprocessing's own, which waits for workers that never end
        self._first: list[int] = []  # the worker that ended before the others
        self._watch = threading.Thread(target=_end_together, args=(self.processes, self._first), daemon=True)
        self._watch.start()

    def async_reset(self, seed: int = 0) -> None:
        """Let every worker start anew, whatever it is at."""
        self._require_workers()
        self._wait(self.waiting_workers)
        super().async_reset(seed)

    def recv(self) -> tuple[Any, ...]:
        """Wait for the workers whose turn it is. Raises RuntimeError where one has died."""
        self._wait(self.waiting_workers[: self.workers_per_batch])
        try:
            received = super().recv()
        except (EOFError, OSError):  # a worker has died while it told its infos
            self._watch.join(_GRACE)
            self._require_workers()
            raise
        # PufferLib leaves the mark of infos that it has read, and a reset would wait for them again.
        self.buf["semaphores"][self.w_slice] = vector.MAIN
        return received

    def _wait(self, workers: list[int]) -> None:
        """Until these workers are done. PufferLib would wait for ever for one that has died."""
        semaphores, look = self.buf["semaphores"], time.monotonic() + _PATIENCE
        while (semaphores[workers] < vector.MAIN).any():
            os.sched_yield()  # there may be fewer cores than processes
            if time.monotonic() > look:
                self._require_workers()
                look = time.monotonic() + _PATIENCE

    def _require_workers(self) -> None:
        if not self._end.alive:
            raise ValueError("the vector is closed: make another one")
        for i in self._first:
            self.close()
            raise RuntimeError(
                f"worker {i} of {self.num_workers} has died (exit status {self.processes[i].exitcode}); what it "
                "printed says why. The others are ended too, and the vector is closed"
            )

    def close(self) -> None:
        """End the workers, and wait until they are gone."""
        self.driver_env.close()
        self._end()
        atexit.unregister(self._end)
        self.flag = vector.CLOSE


def _make(create: Callable[..., Any], owner: int, *arguments: Any, **options: Any) -> Any:
    """An environment; in a worker, one that leaves Ctrl-C to its owner and ends when that has ended."""
    if os.getpid() != owner:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_follow, args=(owner,), daemon=True).start()
    return create(*arguments, **options)


def _follow(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(1.0)
    os._exit(1)


def _end_together(processes: list[Any], first: list[int]) -> None:
    """When one process has ended, note which and end the others: they hold its pipe open, at which PufferLib would wait
    for what it can no longer say."""
    sentinels = [process.sentinel for process in processes]
    first.append(sentinels.index(wait(sentinels)[0]))
    for process in processes:
        process.kill()


def _end(processes: list[Any], owner: int) -> None:
    """End processes and wait until they are gone; in a fork of their owner, leave them alone."""
    if os.getpid() != owner:
        return
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
            process.join()
