"""The machines of `armfold pixels`: the options that its actions share, and what they mean."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import torch
import tyro

from armfold.shell.backends import Kind, open_backend
from armfold.shell.backends.gameboy import ACTIONS
from armfold.shell.backends.gameboy.machine import Draw
from armfold.shell.device import find_device
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.run.pixels import Agent, Machines, Play, Timing, make_agent
from armfold.shell.view.console import log_to_terminal
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


def open_machines(config: MachineOptions, num_envs: int, *, timing: Timing, draw: Draw = "half") -> Machines:
    """Machines that play `timing.chunk` frames at a time. Raises ValueError for what cannot be."""
    timing.check()
    settings: dict[str, Any] = {"actions": action_names(config), "draw": draw}
    if config.threads is not None:
        settings["workers" if config.backend == "pyboy" else "threads"] = config.threads
    device = find_device(config.device)
    chunk = {"frames_per_step": timing.chunk, "release_after_frames": timing.chunk}
    return open_backend(config.rom, num_envs, device, backend=config.backend, **chunk, **settings)


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
    machines = open_machines(config, num_envs, timing=timing, draw=draw)
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
