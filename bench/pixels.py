"""Pixel environments beside PyBoy: frames, env-steps, threads, resets, allocations, memory, and how N scales.

PyBoy is one emulator in a loop of Python, as anybody would write it, on the same cartridge after the same lead, which
must show the same screens and registers as ours; it copies every second pixel where an observation is wanted. On the
CPU all sides but those of threads have one thread on one core. `armfold pixels bench` measures one configuration by the
same code; here the time of large ones is limited, and their records say how many steps there were.

Two threads are held against two independent processes, so that a machine whose cores share what they have is not held
against us: threads_2 / threads_1 >= 1.8 processes_2 / (2 processes_1), in env-steps a second, where processes_2 is what
two processes of one thread each make together, on a core each, and processes_1 is threads_1: so the row is threads_2
against half of processes_2.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from armfold.shell.run.pixels_bench import measure as measure_one
from armfold.shell.run.pixels_player import Player, Settings
from bench import record
from bench.pixels_parts import PARTS, time_parts
from bench.pixels_peers import PlainPyBoy, require_pyboy, same_play
from bench.pixels_processes import ALL_CORES, Processes, memory_of, on_cores
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
    parser.add_argument("--budget", type=float, default=1.2, help="seconds of a configuration of the table, on the CPU")
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
    common = Settings(rom=options.rom, num_envs=lanes, device=options.device, threads=threads)
    return replace(common, **others)  # type: ignore[arg-type]


def race(options: argparse.Namespace, sides: dict[str, Callable[[int], object]]) -> dict[str, record.Timing]:
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
        silent = replace(machine, rom=str(alu), actions="noop", lead_frames=24)
        yield from _against_pyboy(options, {"frames, ALU": (silent, ALU_BAR)})
    env = settings_of(options, env="pixels")
    drawn = {"env-steps": (env, RENDERED_BAR), "env-steps, machine alone": (replace(env, env="machine"), None)}
    yield from _against_pyboy(options, drawn)


def _against_pyboy(options: argparse.Namespace, cases: dict[str, tuple[Settings, float | None]]) -> Rows:
    """Sides that do what one PyBoy does."""
    players = {name: Player(settings) for name, (settings, _) in cases.items()}
    settings = next(iter(cases.values()))[0]
    boy, sound = PlainPyBoy(settings), same_play(settings.rom)
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
        players[name].close()
    boy.close()


def compare_threads(options: argparse.Namespace) -> Rows:
    """Two threads against one, and against two processes."""
    cores = sorted(ALL_CORES)[:2]
    if options.device != "cpu" or len(cores) < 2:
        record.console.print("threads: needs a CPU with two cores")
        return
    settings = settings_of(options, env="machine")
    with on_cores(frozenset(cores)):
        one, two = (Player(replace(settings, threads=threads)) for threads in (1, 2))
        processes = Processes(replace(settings, num_envs=-(-options.num_envs // 2)), cores)
        sides = {"one thread": one.play, "two threads": two.play, "two processes": processes.play}
        timings = race(options, sides)
        processes.close()
    rates = {name: options.num_envs * timing.rate for name, timing in timings.items()}
    detail = {
        "env_steps_per_sec": rates,
        "threads_2_over_1": rates["two threads"] / rates["one thread"],
        "processes_2_over_1": rates["two processes"] / rates["one thread"],
        "timings": {name: timing._asdict() for name, timing in timings.items()},
    }
    ours, theirs = rates["two threads"], rates["two processes"] / 2
    yield record.Row("two threads", "1 process of 2", ours, theirs, barred(options, THREADS_BAR), detail)


def compare_resets(options: argparse.Namespace) -> Rows:
    """Resets forced and at random against none, and asking first whether there are any against not asking."""
    goal = settings_of(options, env="goal")
    players = {}
    for resets in ("none", "random", "forced"):
        for skip in (False, True):
            name = f"{resets} {'asking' if skip else 'always'}"
            players[name] = replace(goal, resets=resets, skip_reset_if_empty=skip)
    made = {name: Player(settings) for name, settings in players.items()}
    timings = race(options, {name: player.play for name, player in made.items()})
    rates = {name: options.num_envs * timing.rate for name, timing in timings.items()}
    for ours, theirs in (("forced", "none"), ("random", "none")):
        detail = {"timings": {name: timings[f"{name} always"]._asdict() for name in (ours, theirs)}}
        yield record.Row(f"resets {ours}", theirs, rates[f"{ours} always"], rates[f"{theirs} always"], None, detail)
    for resets in ("none", "random", "forced"):
        names = f"{resets} asking", f"{resets} always"
        detail = {"timings": {name: timings[name]._asdict() for name in names}}
        yield record.Row(f"any(mask), resets {resets}", "not asked", *(rates[name] for name in names), None, detail)
    yield from _parts(options, {resets: made[f"{resets} always"] for resets in ("none", "forced")})
    for player in made.values():
        player.close()


def _parts(options: argparse.Namespace, players: dict[str, Player]) -> Rows:
    """The parts of a step, without resets and with all lanes reset, and what these cost."""
    for resets, player in players.items():
        parts = time_parts(player, 4 if options.quick else 100)
        for part in PARTS:
            yield record.Row(f"{part}, resets {resets}", "step", parts[part], parts["step"], None, {"ms": parts})
    without = parts["step"] - parts["reset"]  # of the forced ones
    bar = barred(options, RESETS_BAR, "cuda")
    yield record.Row("step less its resets", "step", 1 / parts["step"], 1 / without, bar, {"ms": parts})


def check_allocations(options: argparse.Namespace) -> Rows:
    """What a step allocates once it is warm."""
    goal = settings_of(options, env="goal", resets="random", reset_probability=0.02, warmup=8, steps=8)
    for stack_k in (1, 4):
        for skip in (False, True):
            found = measure_one(replace(goal, stack_k=stack_k, skip_reset_if_empty=skip, compile="on"))
            name = f"allocations, K={stack_k}{', asking' if skip else ''}"
            yield record.Row(name, "none", 1 / (1 + found["allocations_per_step"]), 1.0, 1.0, found)


def check_memory(options: argparse.Namespace) -> Rows:
    """The most memory that lanes take whose cartridges have 32 KiB of RAM, observations of one frame included."""
    if options.device != "cpu":
        return
    lanes = 256 if options.quick else MEMORY_LANES
    with tempfile.TemporaryDirectory() as folder:
        rom = Path(folder, "ram.gb")
        rom.write_bytes(ram_rom())
        still = settings_of(options, rom=str(rom), num_envs=lanes, stack_k=1, lead_frames=0, actions="noop", steps=2)
        found = memory_of(replace(still, warmup=0, compile="off"))
    detail = {"lanes": lanes, "bytes": found, "bytes_per_lane": {name: size / lanes for name, size in found.items()}}
    for name, size in detail["bytes_per_lane"].items():
        record.console.print(f"memory, {lanes} lanes, {name}: {size:.0f} bytes a lane")
    yield record.Row("memory", "2 GiB", 1 / found["peak"], 1 / MOST_MEMORY, barred(options, 1.0), detail)


def scale(options: argparse.Namespace) -> Rows:
    """Env-steps a second over N, against one PyBoy that draws as often."""
    cuda = options.device == "cuda"
    common = settings_of(options, max_seconds=None if cuda else options.budget)
    cases = [("noop", "none"), ("random", "none"), ("random", "random"), ("random", "forced")]
    for frames in options.frames:
        boy = PlainPyBoy(replace(common, frames_per_step=frames))
        theirs = race(options, {"pyboy": boy.play})["pyboy"].rate
        boy.close()
        for lanes in options.lanes:
            for actions, resets in cases:
                one = replace(common, frames_per_step=frames, num_envs=lanes, actions=actions, resets=resets)
                found = measure_one(one)
                ours = found["env_steps_per_sec"]
                record.console.print(f"N={lanes}, {frames} frames, {actions}, resets {resets}: {ours:.0f}")
                name = f"N={lanes}, {frames} frames, {actions}, resets {resets}"
                yield record.Row(name, "one pyboy", ours, theirs, None, found)
                if (lanes, frames, actions, resets) == (CUDA_LANES, 24, "random", "none") and cuda:
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
