"""The `armfold pixels bench` command."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from armfold.core.check import check_size
from armfold.shell.device import find_device
from armfold.shell.run.pixels_bench import measure
from armfold.shell.run.pixels_player import Settings
from armfold.shell.store.files import find_place
from armfold.shell.words import read_words, refuse_flags

LEAST = 0.95  # of a baseline's speed
_OUTSIDE = ("warmup", "steps", "max_seconds")  # settings that do not change what a step is
_OF_ENVIRONMENTS = ("stack_k", "info_mode", "skip_reset_if_empty", "compile")
_OF_GAMEBOY = ("threads", "layout", "lanes_per_warp")


@dataclasses.dataclass(frozen=True)
class _Options(Settings):
    """Time one configuration of the pixel environments. Prints one JSON record on standard output, and what it says on
    standard error. Exit status 1: slower than the baseline, or more memory than allowed."""

    jsonl: Path | None = None
    """A file to add the record to, as one line."""
    baseline: Path | None = None
    """A file of such lines: fail below 0.95x of the env-steps a second of the last one with this configuration."""
    max_mem_delta: int | None = None
    """Bytes: fail where memory has grown by more over the timed steps, or a step allocates more. On a CPU a process's
    memory moves by some pages of its own accord."""


def bench(argv: list[str]) -> int:
    """Time one configuration of the pixel environments; the record goes to standard output."""
    options = read_words(_Options, args=argv, prog="armfold pixels bench", description=_Options.__doc__)
    device = find_device(options.device).type
    refuse_flags(argv, _find_idle(options, device))
    if options.max_mem_delta is not None:
        check_size("max_mem_delta", options.max_mem_delta, low=0)
    jsonl = find_place("jsonl", options.jsonl)
    if options.baseline is not None and not options.baseline.is_file():
        raise ValueError(f"baseline {options.baseline} is not a file")
    settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}
    record = measure(Settings(**settings))
    old = None if options.baseline is None else find_baseline(options.baseline, record)
    rate = None if old is None else float(old["env_steps_per_sec"])
    faults = find_faults(record, baseline=rate, max_mem_delta=options.max_mem_delta)
    record |= {"baseline_env_steps_per_sec": rate, "max_mem_delta": options.max_mem_delta}
    line = json.dumps({**record, "pass": not faults, "faults": faults, "argv": argv}, allow_nan=False)
    print(line, flush=True)
    if jsonl is not None:
        with jsonl.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    _show(record)
    for fault in faults:
        print(f"armfold: bench failed: {fault}; again: armfold pixels bench {shlex.join(argv)}", file=sys.stderr)
    return 1 if faults else 0


def _find_idle(options: _Options, device: str) -> dict[str, str]:
    """Why some options would change nothing, by option."""
    idle: dict[str, str] = {}
    if options.env == "machine":
        idle |= dict.fromkeys(_OF_ENVIRONMENTS, "the machines alone are stepped")
    if options.resets != "random":
        idle["reset_probability"] = f"resets are {options.resets}"
    if options.state is not None:
        idle["lead_frames"] = "episodes start from the state"
    if device == "cpu":
        idle["lanes_per_warp"] = "the device is a CPU"
    if options.backend == "pyboy":
        idle |= dict.fromkeys(_OF_GAMEBOY, "PyBoy has it not")
    return idle


def find_baseline(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The last record in a file of one a line whose configuration was this one, but for how long it ran. Raises
    ValueError where there is none."""
    try:
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        configs = [{name: x["config"][name] for name in record["config"]} for x in records]
        rates = [float(x["env_steps_per_sec"]) for x in records]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"baseline {path} cannot be read as records of this command ({error!r})") from error
    differing: list[str] = []
    for old, config, rate in reversed(list(zip(records, configs, rates))):
        wanted = record["config"]
        differing = [name for name in wanted if name not in _OUTSIDE and config[name] != wanted[name]]
        if not differing and rate > 0:
            return dict(old)
    reason = f"the last one differs in {', '.join(differing)}" if differing else "it has no records"
    raise ValueError(f"baseline {path} has no record of this configuration: {reason}")


def find_faults(record: Mapping[str, Any], *, baseline: float | None, max_mem_delta: int | None) -> list[str]:
    """What is wrong with a record: too slow beside env-steps a second of a baseline, too much memory in bytes."""
    faults, rate = [], record["env_steps_per_sec"]
    if baseline is not None and rate < LEAST * baseline:
        faults.append(
            f"{rate:.0f} env-steps a second are {rate / baseline:.3f}x of the baseline's {baseline:.0f}, below {LEAST}x"
        )
    for name in ("mem_delta", "bytes_allocated"):
        if max_mem_delta is not None and record[name] > max_mem_delta:
            faults.append(f"{name} is {record[name]:.0f} bytes, above max_mem_delta={max_mem_delta}")
    return faults


def _show(record: dict[str, Any]) -> None:
    """The record in short, for people."""
    table = Table(title=f"{record['rom']['title']}, {record['emulator']} on {record['machine']['device']}", box=None)
    table.add_column("")
    table.add_column("", justify="right")
    parted, lane = record["diverged"]["after"], record["bytes_per_lane"]
    rows = {
        "env-steps a second": f"{record['env_steps_per_sec']:.0f}",
        "frames a second": f"{record['frames_per_sec']:.0f}",
        "ms a step, mean, p50, p99": " ".join(f"{record['ms_per_step' + end]:.3f}" for end in ("", "_p50", "_p99")),
        "steps timed": f"{record['steps']}",
        "resets a step": f"{record['resets_per_step']:.2f} of {record['num_envs']}",
        "lanes apart: states, screens, pc, pc in 32": " ".join(f"{count:g}" for count in parted.values()),
        "bytes a lane: machine, environment": " ".join(f"{size:.0f}" for size in lane.values()),
        "a step's allocations, bytes": f"{record['allocations_per_step']:g} {record['bytes_allocated']:.0f}",
        "memory grown, bytes": f"{record['mem_delta']}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True).print(table)
