"""Pixel environments beside PyBoy: frames, env-steps, threads, resets, allocations, memory, and how N scales.

PyBoy is one emulator in a loop of Python, as anybody would write it, on the same cartridge after the same lead, which
must show the same screens and registers as ours; it copies every second pixel where an observation is wanted. On the
CPU all sides but those of threads have one thread on one core. `armfold pixels bench` measures one configuration by the
same code; here, on the CPU, the time of large ones is limited (500 steps of 256 lanes fit in), and their records say
how many steps there were.

Two threads are held against two independent processes, so that a machine whose cores share what they have is not held
against us: threads_2 / threads_1 >= 1.8 processes_2 / (2 processes_1), in env-steps a second, where processes_2 is what
two processes of one thread each make together, on a core each, and processes_1 is threads_1: so the row, of machines
without environments, is threads_2 against half of processes_2.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from armfold.shell.backends.gameboy.build import BuildError
from armfold.shell.run.pixels import tell_stopped
from armfold.shell.run.pixels_bench import measure as measure_one
from armfold.shell.run.pixels_player import Player, Settings
from bench import record
from bench.pixels_parts import PARTS, time_parts
from bench.pixels_peers import PlainPyBoy, require_pyboy, same_play
from bench.pixels_processes import ALL_CORES, memory_of, on_cores, processes
from bench.pixels_roms import alu_rom, ram_rom

UNIT = "frames or env-steps a second (parts: ms; allocations: 1 / (1 + number); memory: 1 / bytes)"
UNRENDERED_BAR, ALU_BAR, RENDERED_BAR = 2.0, 1.5, 4.0  # of PyBoy's speed, one thread
THREADS_BAR = 1.8
RESETS_BAR = 1 / 1.1  # of a step without its resets to one with all lanes reset, on CUDA
CUDA_RATE, CUDA_LANES = 100_000, 16384  # env-steps a second that are wanted, and of how many lanes
MOST_MEMORY, MEMORY_LANES = 2 << 30, 16384  # bytes on the CPU
QUICK = {"repeats": 1, "seconds": 0.05, "budget": 0.05, "num_envs": 16, "lanes": [1, 16]}

Rows = Iterator[record.Row]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = record.parser("pixels", (__doc__ or "").splitlines()[0])
    parser.add_argument("--rom", default="lantern", help="the game: a file, or the name of a shipped one")
    parser.add_argument("--num-envs", type=record.positive, default=256, help="N, but in the table over N")
    parser.add_argument("--lanes", type=_numbers, default="1,256,8192,16384", help="N of the table, with commas")
    parser.add_argument("--frames", type=_numbers, default="24,1", help="frames a step of the table, with commas")
    parser.add_argument("--seconds", type=float, default=0.8, help="about how long one repeat of one side lasts")
    parser.add_argument("--budget", type=float, default=16.0, help="most seconds of a row of the table, on the CPU")
    parser.add_argument("--only", type=_sections, default=",".join(SECTIONS), help="what to measure, with commas")
    parser.add_argument("--quick", action="store_true", help="a smoke run, for which no bar counts")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [record.positive(word) for word in text.split(",")]


def _sections(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no {', '.join(map(repr, unknown))}; choose from {', '.join(SECTIONS)}")
    return names


def settings_of(options: argparse.Namespace, **others: object) -> Settings:
    """What all sides have in common."""
    lanes, threads = options.num_envs, 1 if options.device == "cpu" else None
    common = Settings(rom=options.rom, num_envs=lanes, device=options.device, threads=threads, backend="gameboy")
    return replace(common, **others)  # type: ignore[arg-type]


def require_game(options: argparse.Namespace) -> None:
    """Raise CannotRunError where the game cannot be played here."""
    try:
        with Player(settings_of(options, num_envs=1, env="machine", max_seconds=options.budget)) as player:
            player.play(30)
            stopped = player.stopped
    except (ValueError, BuildError) as error:
        raise record.CannotRunError(" ".join(str(error).split())) from error
    if stopped:
        raise record.CannotRunError(f"rom {options.rom!r}: {tell_stopped(stopped, 1)}")


@contextlib.contextmanager
def open_players(cases: Mapping[str, Settings]) -> Iterator[dict[str, Player]]:
    """A player of each; leaving closes them."""
    with contextlib.ExitStack() as opened:
        yield {name: opened.enter_context(Player(settings)) for name, settings in cases.items()}


def race(options: argparse.Namespace, sides: Mapping[str, record.Play]) -> dict[str, record.Timing]:
    """Every side in turn."""
    timings = record.race(sides, repeats=options.repeats, seconds=options.seconds, first=4)
    if options.device == "cpu":
        record.warn_if_shared({name: timing for name, timing in timings.items() if "processes" not in name})
    return timings


def barred(options: argparse.Namespace, bar: float, device: str = "cpu") -> float | None:
    """The bar, where it counts."""
    return bar if options.device == device and not options.quick else None


def compare_machines(options: argparse.Namespace) -> Rows:
    """Frames a second, drawn and not, and env-steps with an observation every 24 frames, against PyBoy."""
    with tempfile.TemporaryDirectory() as folder:
        alu = Path(folder, "alu.gb")
        alu.write_bytes(alu_rom())
        machine = settings_of(options, env="machine", draw="none")
        yield from _against_pyboy(options, {"frames, undrawn": (machine, UNRENDERED_BAR)})
        silent = replace(machine, rom=str(alu), agent="noop", lead_frames=24)
        yield from _against_pyboy(options, {"frames, ALU": (silent, ALU_BAR)})
    env = settings_of(options, env="pixels")
    drawn = {"env-steps": (env, RENDERED_BAR), "env-steps, machine alone": (replace(env, env="machine"), None)}
    yield from _against_pyboy(options, drawn)


def _against_pyboy(options: argparse.Namespace, cases: dict[str, tuple[Settings, float | None]]) -> Rows:
    """Sides that do what one PyBoy does."""
    settings = {name: case for name, (case, _) in cases.items()}
    with open_players(settings) as players, PlainPyBoy(next(iter(settings.values()))) as boy:
        sound = same_play(boy, list(players.values()))
        timings = race(options, {**{name: player.play for name, player in players.items()}, "pyboy": boy.play})
    for name, (case, bar) in cases.items():
        unit = case.frames_per_step if name.startswith("frames") else 1
        rates = unit * case.num_envs * timings[name].rate, unit * timings["pyboy"].rate
        detail = {
            "lanes": case.num_envs,
            "frames_per_step": case.frames_per_step,
            "pyboy": record.version("pyboy"),
            "timings": {side: timings[side]._asdict() for side in (name, "pyboy")},
        }
        yield record.Row(name, "pyboy", *rates, bar and barred(options, bar), detail, sound)


def compare_threads(options: argparse.Namespace) -> Rows:
    """Two threads: the machines alone against two processes, an environment against one thread."""
    cores = sorted(ALL_CORES)[:2]
    if options.device != "cpu" or len(cores) < 2:
        record.console.print("threads: needs a CPU with two cores")
        return
    alone = settings_of(options, env="machine")
    half = replace(alone, num_envs=-(-alone.num_envs // 2))
    with on_cores(frozenset(cores)):
        with processes(half, cores) as play:
            rates, detail = _race_threads(options, alone, {"two processes": (play, len(cores) * half.num_envs)})
        ours, theirs, bar = rates["two threads"], rates["two processes"] / 2, barred(options, THREADS_BAR)
        yield record.Row("two threads, machine alone", "1 process of 2", ours, theirs, bar, detail)
        rates, detail = _race_threads(options, settings_of(options), {})
        ours, theirs = rates["two threads"], rates["one thread"]
        yield record.Row("env-steps, two threads", "one thread", ours, theirs, None, detail)


def _race_threads(
    options: argparse.Namespace, settings: Settings, others: Mapping[str, tuple[record.Play, int]]
) -> tuple[dict[str, float], dict[str, Any]]:
    """One thread and two, and others with how many lanes they play: env-steps a second of each, and a row's detail."""
    cases = {"one thread": replace(settings, threads=1), "two threads": replace(settings, threads=2)}
    with open_players(cases) as players:
        sides = {**{name: (player.play, settings.num_envs) for name, player in players.items()}, **others}
        timings = race(options, {name: play for name, (play, _) in sides.items()})
    rates = {name: lanes * timings[name].rate for name, (_, lanes) in sides.items()}
    detail = {
        "env_steps_per_sec": rates,
        "over_one_thread": {name: rate / rates["one thread"] for name, rate in rates.items()},
        "timings": {name: timing._asdict() for name, timing in timings.items()},
    }
    return rates, detail


def compare_resets(options: argparse.Namespace) -> Rows:
    """Resets forced and at random against none, and asking first whether there are any against not asking."""
    goal = settings_of(options, env="goal")
    cases = {}
    for resets in ("none", "random", "forced"):
        for skip in (False, True):
            name = f"{resets} {'asking' if skip else 'always'}"
            cases[name] = replace(goal, resets=resets, skip_reset_if_empty=skip)
    with open_players(cases) as players:
        timings = race(options, {name: player.play for name, player in players.items()})
        steps = 4 if options.quick else 100
        parts = {resets: time_parts(players[f"{resets} always"], steps) for resets in ("none", "forced")}
    rates = {name: options.num_envs * timing.rate for name, timing in timings.items()}
    for ours, theirs in (("forced", "none"), ("random", "none")):
        detail = {"timings": {name: timings[f"{name} always"]._asdict() for name in (ours, theirs)}}
        yield record.Row(f"resets {ours}", theirs, rates[f"{ours} always"], rates[f"{theirs} always"], None, detail)
    for resets in ("none", "random", "forced"):
        names = f"{resets} asking", f"{resets} always"
        detail = {"timings": {name: timings[name]._asdict() for name in names}}
        yield record.Row(f"any(mask), resets {resets}", "not asked", *(rates[name] for name in names), None, detail)
    yield from _parts(options, parts)


def _parts(options: argparse.Namespace, parts: Mapping[str, dict[str, float]]) -> Rows:
    """The parts of a step, ms, without resets ("none") and with all lanes reset ("forced"), and what these cost."""
    for resets, found in parts.items():
        for part in PARTS:
            yield record.Row(f"{part}, resets {resets}", "step", found[part], found["step"], None, {"ms": found})
    forced = parts["forced"]
    without, bar = forced["step"] - forced["reset"], barred(options, RESETS_BAR, "cuda")
    yield record.Row("step less its resets", "step", 1 / forced["step"], 1 / without, bar, {"ms": forced})


def check_allocations(options: argparse.Namespace) -> Rows:
    """What a step allocates once it is warm."""
    goal = settings_of(options, env="goal", resets="random", reset_probability=0.02, warmup=8, steps=8)
    bar = barred(options, 1.0, options.device)
    cases: dict[str, dict[str, Any]] = {
        "": {},
        ", asking": {"skip_reset_if_empty": True},
        ", asking, nobody ends": {"skip_reset_if_empty": True, "resets": "none"},
    }
    for stack_k in (1, 4):
        for name, case in cases.items():
            found = measure_one(replace(goal, stack_k=stack_k, compile="on", **case))
            count = found["allocations_per_step"]
            yield record.Row(f"allocations, K={stack_k}{name}", "none", 1 / (1 + count), 1.0, bar, found)


def check_memory(options: argparse.Namespace) -> Rows:
    """The most memory that lanes take whose cartridges have 32 KiB of RAM, observations of one frame included."""
    if options.device != "cpu":
        return
    lanes = 256 if options.quick else MEMORY_LANES
    with tempfile.TemporaryDirectory() as folder:
        rom = Path(folder, "ram.gb")
        rom.write_bytes(ram_rom())
        still = settings_of(options, rom=str(rom), num_envs=lanes, stack_k=1, lead_frames=0, agent="noop", steps=2)
        found = memory_of(replace(still, warmup=0, compile="off"))
    detail = {"lanes": lanes, "bytes": found, "bytes_per_lane": {name: size / lanes for name, size in found.items()}}
    for name, size in detail["bytes_per_lane"].items():
        record.console.print(f"memory, {lanes} lanes, {name}: {size:.0f} bytes a lane")
    if "peak" in found:
        yield record.Row("memory", "2 GiB", 1 / found["peak"], 1 / MOST_MEMORY, barred(options, 1.0), detail)
    else:
        record.console.print("memory: this system does not say the most that was held")


def scale(options: argparse.Namespace) -> Rows:
    """Env-steps a second over N, against one PyBoy that draws as often."""
    cuda = options.device == "cuda"
    common = settings_of(options, max_seconds=None if cuda else options.budget)
    cases = [("noop", "none"), ("random", "none"), ("random", "random"), ("random", "forced")]
    for frames in options.frames:
        one = replace(common, frames_per_step=frames, num_envs=1, env="machine")
        with PlainPyBoy(one) as boy, Player(one) as player:
            sound = same_play(boy, [player])
            theirs = race(options, {"pyboy": boy.play})["pyboy"].rate
        for lanes in options.lanes:
            for agent, resets in cases:
                case = replace(common, frames_per_step=frames, num_envs=lanes, agent=agent, resets=resets)
                found = measure_one(case)
                ours = found["env_steps_per_sec"]
                name = f"N={lanes}, {frames} frames, {agent}, resets {resets}"
                record.console.print(f"{name}: {ours:.0f} a second, {found['steps']} steps timed")
                yield record.Row(name, "one pyboy", ours, theirs, None, found, sound)
                if (lanes, frames, agent, resets) == (CUDA_LANES, 24, "random", "none") and cuda:
                    bar = barred(options, 1.0, "cuda")
                    yield record.Row(name, f"{CUDA_RATE} a second", ours, CUDA_RATE, bar, {"lanes": lanes})


SECTIONS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "machines": compare_machines,
    "threads": compare_threads,
    "resets": compare_resets,
    "allocations": check_allocations,
    "memory": check_memory,
    "scale": scale,
}


def measure(options: argparse.Namespace) -> list[record.Row]:
    """Every row that was asked for."""
    require_pyboy()
    require_game(options)
    rows: list[record.Row] = []
    for name in options.only:
        record.console.print(name)
        rows += SECTIONS[name](options)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    if options.quick:
        vars(options).update(QUICK)
    return record.run("pixels", options, UNIT, partial(measure, options))


if __name__ == "__main__":
    sys.exit(main())
