"""The machines of `armfold pixels`: the options that its actions share, and what they mean."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from armfold.shell.backends import Kind, open_backend
from armfold.shell.backends.gameboy import ACTIONS
from armfold.shell.backends.gameboy.machine import Draw
from armfold.shell.device import find_device
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.run.pixels import Agent, Machines, Play, Timing, make_agent
from armfold.shell.store.goals import Goal, save_goal
from armfold.shell.view.console import log_to_terminal
from armfold.shell.view.pixels import tile, write_png
from armfold.shell.words import read_words, refuse_flags


@dataclasses.dataclass(frozen=True)
class MachineOptions:
    """The machine, and what is a step of it. Name it last among the bases."""

    rom: str = "lantern"
    """A ROM file, or the name of a game that comes with the library: lantern."""
    state: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A file of a saved state to start from, in place of power-on; several times for several lanes."""
    backend: Kind = "auto"
    """What plays: gameboy, pyboy, or auto: pyboy where nothing can compile gameboy."""
    device: str = "cpu"
    """Where to run: cpu, cuda, cuda:1, ..."""
    frames_per_step: int = 24
    """Frames of the Game Boy in a step, 59.7 a second."""
    release_after_frames: int = 8
    """Frames of a step for which an action's buttons are held."""
    actions: str = ",".join(ACTIONS)
    """Names of the actions that --agent random draws from, separated by commas; an action is noop, a button (a, b,
    select, start, right, left, up, down), or several joined by +."""
    seed: int = 0
    """Seed of what is drawn."""
    threads: int | None = None
    """CPU threads, with pyboy processes; all cores where not given, with pyboy this process alone."""
    verbose: bool = False
    """Show where an error came from."""
    quiet: bool = False
    """Say nothing but errors."""


def read_options(kind: type[Any], action: str, argv: list[str]) -> Any:
    """The options of an action of `armfold pixels`. Logging is on from then on."""
    about = inspect.cleandoc(kind.__doc__ or "")
    config = read_words(kind, args=argv, prog=f"armfold pixels {action}", description=about)
    log_to_terminal(verbose=config.verbose, quiet=config.quiet)
    return config


def action_names(config: MachineOptions) -> tuple[str, ...]:
    """The names in --actions. Raises ValueError for none."""
    names = tuple(name.strip() for name in config.actions.split(",") if name.strip())
    if not names:
        raise ValueError(f"actions must name at least one, got {config.actions!r}")
    return names


def open_machines(config: MachineOptions, num_envs: int, *, chunk: int | None = None, draw: Draw = "half") -> Machines:
    """Machines that have just been switched on, with the steps of the options; or of `chunk` frames, in which they
    release no button. Raises ValueError for what cannot be."""
    settings: dict[str, Any] = {"actions": action_names(config), "draw": draw}
    if config.threads is not None:
        settings["workers" if config.backend == "pyboy" else "threads"] = config.threads
    frames, held = config.frames_per_step, config.release_after_frames
    step = {"frames_per_step": chunk or frames, "release_after_frames": chunk or held}
    device = find_device(config.device)
    return open_backend(config.rom, num_envs, device, backend=config.backend, **step, **settings)


def start_lanes(config: MachineOptions, machines: Machines) -> None:
    """Put the lanes where --state says: lane i where file i % S does. Raises ValueError for more files than lanes."""
    if not config.state:
        return
    count, lanes = len(config.state), machines.num_envs
    if count > lanes:
        raise ValueError(f"state names {count} files, and there is room for {lanes} (num_envs)")
    starts = load_starts(machines, config.state)
    machines.reset(None, starts, torch.arange(lanes, device=machines.device) % count)


def open_play(config: MachineOptions, num_envs: int, *, every: int | None = None, draw: Draw = "half") -> Play:
    """Machines where --state says, for somebody who looks every so many frames. Raises ValueError."""
    timing = Timing(config.frames_per_step, config.release_after_frames, every)
    timing.check()
    machines = open_machines(config, num_envs, chunk=timing.chunk, draw=draw)
    start_lanes(config, machines)
    return Play(machines, timing)


def open_agent(config: Any, machines: Machines, argv: list[str]) -> Agent:
    """The agent of --agent. Raises ValueError, also for flags of agents that draw where this one does not."""
    if config.agent != "random":
        refuse_flags(argv, dict.fromkeys(("seed", "actions"), f"only agent random draws, not {config.agent}"))
    names = action_names(config)
    return make_agent(config.agent, machines.rom, num_envs=machines.num_envs, actions=names, seed=config.seed)


def play_length(agent: Agent, steps: int | None, otherwise: int) -> int:
    """How many steps to play: `steps`, else those of the agent, else `otherwise`."""
    if steps is not None:
        return steps
    return otherwise if agent.steps is None else agent.steps


def write_goal(folder: Path, frame: Tensor, start: Any, config: Any, machines: Any, *, replace: bool = False) -> None:
    """Write a goal's folder: a frame [72, 80], and the State of one lane to start from. The machines are afterwards as
    they were. Raises ValueError for --tau and --k that cannot be."""
    now = machines.snapshot()
    machines.restore(start)
    try:
        save_goal(
            folder,
            Goal(frame, config.tau, config.k, machines.rom.sha256),
            start=machines.save_state,
            draw=lambda path: write_png(path, tile(frame[None], scale=3), "grey"),
            replace=replace,
        )
    finally:
        machines.restore(now)
