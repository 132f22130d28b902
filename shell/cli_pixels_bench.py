"""The `armfold pixels bench` command."""

import dataclasses
import json
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from armfold.core.check import check_size
from armfold.shell.cli_pixels_machines import MachineOptions, log, read_options
from armfold.shell.device import find_device
from armfold.shell.run.pixels import env_settings, tell_stopped
from armfold.shell.run.pixels_bench import measure
from armfold.shell.run.pixels_player import Settings
from armfold.shell.store.files import find_place
from armfold.shell.words import refuse_flags

LEAST = 0.95  # of a baseline's speed
_OUTSIDE = ("warmup", "steps", "max_seconds")  # settings that do not change what a step is
_ANSWERED = ("rom", "backend", "compile")  # settings of which it counts what came of them
_OF_ENVIRONMENTS = (*env_settings(), "stack_k")
_OF_GAMEBOY = ("layout", "lanes_per_warp")


@dataclasses.dataclass(frozen=True)
class _BenchOptions(MachineOptions, Settings):
    """Time one configuration of the pixel environments. Prints one JSON record on standard output, and what it says on
    standard error. Exit status 1: slower than the baseline, more memory than allowed, or lanes that met an illegal
    opcode."""

    jsonl: Path | None = None
    """A file to add the record to, as one line."""
    baseline: Path | None = None
    """A file of such lines: fail below 0.95x of the env-steps a second of the last one with this configuration, game
    and machine, or where there is none."""
    max_mem_delta: int | None = None
    """Bytes: fail where memory has grown by more over the timed steps, or a step allocates more. On a CPU a process's
    memory moves by some pages of its own accord."""


def bench(argv: list[str]) -> int:
    """Time one configuration of the pixel environments; the record goes to standard output."""
    options: _BenchOptions = read_options(_BenchOptions, "bench", argv)
    device = find_device(options.device).type
    refuse_flags(argv, _find_idle(options, device))
    if options.max_mem_delta is not None:
        check_size("max_mem_delta", options.max_mem_delta, low=0)
    jsonl = find_place("jsonl", options.jsonl)
    old = None if options.baseline is None else read_baseline(options.baseline)
    settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}
    record = measure(Settings(**settings))
    rate, differing = (None, []) if old is None else find_baseline(old, record)
    faults = find_faults(record, baseline=rate, max_mem_delta=options.max_mem_delta)
    if differing:
        reason = f"the last one differs in {', '.join(differing)}"
        faults.append(f"baseline {options.baseline} has no record of this configuration: {reason}")
    record |= {"baseline_env_steps_per_sec": rate, "max_mem_delta": options.max_mem_delta}
    line = json.dumps({**record, "pass": not faults, "faults": faults, "argv": argv}, allow_nan=False)
    print(line, flush=True)
    if jsonl is not None:
        append_line(jsonl, line)
    if not options.quiet:
        _show(record)
    for fault in faults:
        print(f"armfold: bench failed: {fault}; again: armfold pixels bench {shlex.join(argv)}", file=sys.stderr)
    return 1 if faults else 0


def _find_idle(options: _BenchOptions, device: str) -> dict[str, str]:
    """Why some options would change nothing, by option."""
    idle: dict[str, str] = {}
    if options.env == "machine":
        idle |= dict.fromkeys(_OF_ENVIRONMENTS, "the machines alone are stepped")
    if options.resets != "random":
        idle["reset_probability"] = f"resets are {options.resets}"
    if options.state:
        idle["lead_frames"] = "episodes start from the state"
    if options.agent == "noop" and (options.state or not options.lead_frames):
        idle["actions"] = "only agent random draws, not noop"
    if device == "cpu":
        idle["lanes_per_warp"] = "the device is a CPU"
    if options.backend == "pyboy":
        idle |= dict.fromkeys(_OF_GAMEBOY, "PyBoy has it not")
    return idle


class Baseline(NamedTuple):
    """A record, as far as another one is held against it."""

    configuration: dict[str, Any]  # what must be the same
    rate: float  # env-steps a second


def read_baseline(path: Path) -> list[Baseline]:
    """The records in a file of one a line; a line that is torn is told of, and left out. Raises ValueError where there
    are none."""
    if not path.is_file():
        raise ValueError(f"baseline {path} is not a file")
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"baseline {path} is no text: give a file that --jsonl has written") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError:  # of a run that was killed as it wrote
            log.warning("%s, line %d, is no JSON: left out", path, number)
    try:
        found = [Baseline(_configuration(record), float(record["env_steps_per_sec"])) for record in records]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"baseline {path} cannot be read as records of this command ({error!r})") from error
    for one in found:
        if not 0 < one.rate < math.inf:
            raise ValueError(f"baseline {path} has a record of {one.rate} env-steps a second")
    if not found:
        raise ValueError(f"baseline {path} has no records")
    return found


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, after the end of one that somebody who was killed has left unfinished."""
    with path.open("a+b") as file:
        torn = file.tell() > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        file.write(("\n" * torn + line + "\n").encode())


def _configuration(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a speed depends on but the code and how long it was measured, by name."""
    config = {name: value for name, value in record["config"].items() if name not in _OUTSIDE + _ANSWERED}
    answers = {name: record[name] for name in ("emulator", "compiled")}
    machine = {"processor": record["machine"]["processor"], "device's name": record["machine"]["device"]}
    return {**config, **answers, **machine, "sha256 of the rom": record["rom"]["sha256"]}


def find_baseline(records: Sequence[Baseline], record: Mapping[str, Any]) -> tuple[float | None, list[str]]:
    """Env-steps a second of the last one whose configuration is that of `record`; where there is none, None and in what
    the last one of them differs."""
    wanted = _configuration(record)
    for one in reversed(records):
        if one.configuration == wanted:
            return one.rate, []
    last = records[-1].configuration
    return None, [name for name in {**wanted, **last} if last.get(name) != wanted.get(name)]


def find_faults(record: Mapping[str, Any], *, baseline: float | None, max_mem_delta: int | None) -> list[str]:
    """What is wrong with a record: lanes that stood still, too slow beside env-steps a second of a baseline, too much
    memory in bytes."""
    faults, rate, stopped = [], record["env_steps_per_sec"], record["stopped_lanes"]
    if stopped:
        faults.append(tell_stopped(stopped, record["num_envs"]))
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
