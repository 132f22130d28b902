"""Where the time of a step goes."""

import logging
import math
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from armfold.core import random, simulate
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.compiled import Tally, bind
from armfold.shell.device import synchronize

log = logging.getLogger("armfold")

_REPEATS = 20


def _milliseconds(work: Callable[[], Any], device: torch.device) -> float:
    work()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(_REPEATS):
        work()
    synchronize(device)
    return 1e3 * (time.perf_counter() - began) / _REPEATS


class Stopwatch:
    """Adds up the time of the phases of a step, after some steps that warm up."""

    _WARM_UP = 3  # laps of each phase that do not count

    def __init__(self, device: torch.device, *, exact: bool, phases: Sequence[str] = ()) -> None:
        """exact: wait for the device before every look at the clock. phases: the order in which they are told."""
        self.device, self.exact = device, exact
        self.seconds: dict[str, float] = dict.fromkeys(phases, 0.0)
        self.laps: dict[str, int] = {}

    def milliseconds(self, steps: int) -> dict[str, float]:
        """What each phase took in one of `steps` steps, by those laps that counted."""
        counted = {name: self.laps.get(name, 0) - self._WARM_UP for name in self.seconds}
        return {
            name: 1e3 * seconds / counted[name] * self.laps[name] / steps if counted[name] > 0 else math.nan
            for name, seconds in self.seconds.items()
        }

    def start(self) -> None:
        """Begin a lap."""
        self.began = time.perf_counter()

    def lap(self, phase: str) -> None:
        """End the lap that has begun, which was of `phase`, and begin the next."""
        if self.exact:
            synchronize(self.device)
        now = time.perf_counter()
        laps = self.laps[phase] = self.laps.get(phase, 0) + 1
        if laps > self._WARM_UP:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.began
        self.began = now


def log_phases(label: str, stopwatch: Stopwatch, steps: int, device: torch.device) -> None:
    """Log ms per step of each phase of a run of `steps` steps, and peak memory."""
    parts = stopwatch.milliseconds(steps)
    timed = ", ".join(f"{name} {ms:.3f}" for name, ms in parts.items())
    log.info("%s: ms a step: %s; together %.3f; peak memory %s", label, timed, sum(parts.values()), memory(device))


def memory(device: torch.device) -> str:
    """Peak memory so far, of the device or of this process."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB on the device"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB resident"


def log_profile(
    label: str,
    bandit: Bandit,
    env: BanditEnv,
    carry: simulate.Carry,
    tally: Tally,
    advance: Callable[..., None],
) -> None:
    """Log ms per step of a whole step as it ran, of its parts run eagerly, and peak memory."""
    device = carry.time.device
    carry, tally = pytree.tree_map(torch.clone, (carry, tally))
    whole = _milliseconds(bind(advance, bandit, env, carry, tally), device)
    rng = random.fold_in(carry.bandit_rng, 0)
    obs = env.observe(carry.env)
    action = bandit.select(carry.bandit, rng, obs)
    _, reward = env.pull(carry.env, rng, action)
    parts = {
        "observe": lambda: env.observe(carry.env),
        "select": lambda: bandit.select(carry.bandit, rng, obs),
        "env_step": lambda: env.pull(carry.env, rng, action),
        "update": lambda: bandit.update(carry.bandit, rng, obs, action, reward),
    }
    timed = ", ".join(f"{name} {_milliseconds(work, device):.3f}" for name, work in parts.items())
    lanes = carry.time.numel()
    log.info("%s: %.3f ms a step of %d lanes (%.3g run-steps/s)", label, whole, lanes, 1e3 * lanes / whole)
    log.info("%s: parts run eagerly, ms: %s; peak memory %s", label, timed, memory(device))
