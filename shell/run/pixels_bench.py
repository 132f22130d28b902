"""Timing a configuration of pixel environments: one record of its speed, its memory, and how far its lanes diverge."""

import dataclasses
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.autograd.profiler import profile
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.shell.device import cpu_model, cpu_threads
from armfold.shell.run.pixels_player import Player, Settings

_CHECKED = 8  # steps, at most, whose allocations are looked at on a CPU
_WARM_SHARE = 0.1  # of `max_seconds`, for steps before the clock runs
_FIRST = 2  # steps in which all is compiled, and which are taken however little time there is
_WARP, _LOOKED_AT, _BLOCK = 32, 2048, 1024  # lanes


class Clock:
    """The times of steps, without making the host wait: events on CUDA."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._events = [_event() for _ in range(steps + 1)] if self._cuda else []
        self._times = np.zeros(steps + 1)
        self._marks = 0

    def mark(self) -> None:
        """Now."""
        if self._cuda:
            self._events[self._marks].record(torch.cuda.current_stream(self._device))  # else of another GPU
        self._times[self._marks] = time.perf_counter()
        self._marks += 1

    def milliseconds(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Between one mark and the next; waits for the device."""
        if not self._cuda:
            return 1e3 * np.diff(self._times[: self._marks])
        self._events[self._marks - 1].synchronize()
        events = self._events[: self._marks]
        return np.array([before.elapsed_time(after) for before, after in itertools.pairwise(events)])


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


class Memory(NamedTuple):
    """What a process holds, in bytes."""

    resident: int  # of the process, on the host
    device: int  # used on the GPU, by whomever; 0 on the CPU
    allocated: int  # all that torch has ever allocated on the GPU
    allocations: int  # how often


def look_at_memory(device: torch.device) -> Memory:
    """What is held now."""
    resident = psutil.Process().memory_info().rss
    if device.type != "cuda":
        return Memory(resident, 0, 0, 0)
    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    stats = torch.cuda.memory_stats(device)
    return Memory(resident, total - free, stats["allocated_bytes.all.allocated"], stats["allocation.all.allocated"])


def cpu_allocations(work: Callable[[], object]) -> list[int]:
    """Bytes of every allocation that torch makes on the CPU while `work` runs, those soon freed included."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it says on stderr that it starts, and that it stops
    with profile(profile_memory=True) as record:  # torch.profiler would import all of torch's compilers
        work()
    with tempfile.TemporaryDirectory() as folder:
        record.export_chrome_trace(str(Path(folder, "trace.json")))
        events = json.loads(Path(folder, "trace.json").read_text("utf-8"))["traceEvents"]
    return [event["args"]["Bytes"] for event in events if event["name"] == "[memory]" and event["args"]["Bytes"] > 0]


def bytes_held(*owners: Any) -> int:
    """Bytes of the tensors that these objects hold, each storage once."""
    leaves = pytree.tree_leaves([list(vars(owner).values()) for owner in owners])
    storages = [leaf.untyped_storage() for leaf in leaves if isinstance(leaf, Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def divergence(player: Player) -> dict[str, float]:
    """How far lanes have parted: different states and screens, and different addresses of the next instruction, in all
    and in 32 neighbours (a warp of a GPU takes the ways of its lanes one after the other; the mean over the first 2048
    lanes)."""
    backend = player.backend
    pc = backend.register("pc").to(torch.int64)
    warps = [len(torch.unique(pc[i : i + _WARP])) for i in range(0, min(len(pc), _LOOKED_AT), _WARP)]
    return {
        "distinct_states": _distinct(backend.state),
        "distinct_screens": _distinct([backend.screen]),
        "distinct_pc": len(torch.unique(pc)),
        "distinct_pc_in_32_lanes": sum(warps) / len(warps),
    }


def _distinct(tensors: Iterable[Tensor]) -> int:
    """How many different rows tensors [N, ...] of integers have together, by a hash of 64 bits."""
    total = torch.zeros(0)
    for i, tensor in enumerate(tensors):
        rows = tensor.reshape(len(tensor), -1)
        factors = random.bits(random.key(i, device=rows.device), rows.shape[1:]) * 0x2545F4914F6CDD1D | 1
        starts = range(0, len(rows), _BLOCK)
        sums = [(rows[i : i + _BLOCK].to(torch.int64) * factors).sum(1) for i in starts]
        total = torch.cat(sums) + (total if i else 0)
    return len(torch.unique(total))


class Timed(NamedTuple):
    """What a player did between two looks at the clock."""

    milliseconds: np.ndarray[Any, np.dtype[np.float64]]  # of each step
    processor_seconds: float
    resets: int


def _warm(player: Player) -> int:
    """Steps before the clock runs; returns how many."""
    settings, began = player.settings, time.perf_counter()
    for done in range(settings.warmup):
        if done >= _FIRST and _is_over(settings, began, _WARM_SHARE):
            return done
        player.step()
    return settings.warmup


def _time(player: Player) -> Timed:
    settings, clock, resets = player.settings, Clock(player.device, player.settings.steps), player.resets
    began, began_cpu = time.perf_counter(), time.process_time()
    clock.mark()
    for done in range(settings.steps):
        if done >= _FIRST and _is_over(settings, began):
            break
        player.step()
        clock.mark()
    milliseconds = clock.milliseconds()
    return Timed(milliseconds, time.process_time() - began_cpu, player.resets - resets)


def _is_over(settings: Settings, began: float, share: float = 1.0) -> bool:
    return settings.max_seconds is not None and time.perf_counter() - began > share * settings.max_seconds


def measure(settings: Settings) -> dict[str, Any]:
    """Time one configuration: the record, ready for JSON. Raises ValueError for what cannot be.

    env_steps_per_sec counts steps of a lane; ms_per_step is of all lanes. allocations_per_step and bytes_allocated (in
    a step) are torch's, those freed within the step included: over the timed steps on CUDA, over some
    further ones on the CPU. mem_delta: by how many bytes the memory of the process (of the GPU, on CUDA) has grown
    over the timed steps, whoever allocated it.
    """
    with Player(settings) as player, cpu_threads(player.threads, player.device):
        warmed = _warm(player)
        parted, before = divergence(player), look_at_memory(player.device)
        timed = _time(player)
        after = look_at_memory(player.device)
        return {
            "kind": "pixels_bench",
            **_speed(settings, timed),
            **_sizes(player, before, after, len(timed.milliseconds)),
            "warmup": warmed,
            "stopped_lanes": player.stopped,
            "diverged": {"before": parted, "after": divergence(player)},
            "compiled": player.env is not None and player.env.compiled,
            "emulator": type(player.backend).__name__,
            "rom": {name: getattr(player.backend.rom, name) for name in ("title", "mapper", "ram_bytes", "sha256")},
            "config": _config(player),
            "machine": about(player.device),
        }


def _speed(settings: Settings, timed: Timed) -> dict[str, Any]:
    steps, seconds = len(timed.milliseconds), float(timed.milliseconds.sum()) / 1e3
    middle, late = np.quantile(timed.milliseconds, [0.5, 0.99]).tolist()
    rate = settings.num_envs * steps / seconds
    return {
        "env_steps_per_sec": rate,
        "frames_per_sec": rate * settings.frames_per_step,
        "ms_per_step": 1e3 * seconds / steps,
        "ms_per_step_p50": middle,
        "ms_per_step_p99": late,
        "num_envs": settings.num_envs,
        "stack_k": None if settings.env == "machine" else settings.stack_k,
        "frames_per_step": settings.frames_per_step,
        "release_after_frames": settings.release_after_frames,
        "steps": steps,
        "seconds": seconds,
        "processor_seconds": timed.processor_seconds,
        "resets_per_step": timed.resets / steps,
    }


def _sizes(player: Player, before: Memory, after: Memory, steps: int) -> dict[str, Any]:
    lanes, env = player.settings.num_envs, player.env
    sizes: dict[str, Any] = {"mem_delta": after.resident - before.resident}
    if player.device.type == "cuda":
        allocations, allocated = (after.allocations - before.allocations), (after.allocated - before.allocated)
        sizes = {"mem_delta": after.device - before.device, "resident_delta": sizes["mem_delta"]}
        sizes |= {"allocations_per_step": allocations / steps, "bytes_allocated": allocated / steps}
    else:
        checked = min(_CHECKED, steps)
        found = cpu_allocations(lambda: player.play(checked))
        sizes |= {"allocations_per_step": len(found) / checked, "bytes_allocated": sum(found) / checked}
    machine = bytes_held(player.backend)
    held = {"machine": machine, "env": 0 if env is None else bytes_held(player.backend, env) - machine}
    return {**sizes, "bytes_per_lane": {name: size / lanes for name, size in held.items()}}


def _config(player: Player) -> dict[str, Any]:
    """The settings, with what they left open filled in."""
    config = dataclasses.asdict(player.settings)
    machine = getattr(player.backend, "machine", None)
    filled = {"state": [str(path) for path in config["state"]], "device": str(player.device)}
    if machine is not None:
        filled |= {"threads": machine.settings.threads, "layout": machine.settings.layout}
    return {**config, **filled}


def about(device: torch.device) -> dict[str, Any]:
    """What a speed depends on beside its settings."""
    versions = {name: metadata.version(name) for name in ("armfold", "torch", "numpy")}
    return {
        "platform": platform.platform(),
        "processor": cpu_model(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **versions},
    }
