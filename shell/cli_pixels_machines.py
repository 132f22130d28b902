"""The machines of `armfold pixels`: the options that its actions share, and what they mean."""

import dataclasses
import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import tyro
from torch import Tensor

from armfold.shell.backends.gameboy.machine import Draw
from armfold.shell.run.pixels import (
    Agent,
    Machines,
    MachineSettings,
    Play,
    Timing,
    action_names,
    make_agent,
    open_machines,
    start_lanes,
)
from armfold.shell.store.goals import Goal, save_goal
from armfold.shell.view.console import log_to_terminal
from armfold.shell.view.pixels import tile, write_png
from armfold.shell.words import read_words, refuse_flags

log = logging.getLogger("armfold")


@dataclasses.dataclass(frozen=True)
class MachineOptions(MachineSettings):
    """The machine, and what the command says. Name it first among the bases: its options come last then."""

    verbose: bool = False
    """Show where an error came from."""
    quiet: bool = False
    """Say nothing but warnings and errors."""


def read_options(kind: type[Any], action: str, argv: list[str]) -> Any:
    """The options of an action of `armfold pixels`. Logging is on from then on, and every warning is told once."""
    about, several = inspect.cleandoc(kind.__doc__ or ""), (tyro.conf.UseAppendAction,)
    config = read_words(kind, args=argv, prog=f"armfold pixels {action}", description=about, config=several)
    log_to_terminal(verbose=config.verbose, quiet=False)
    told: set[str] = set()

    def tell(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Without its place in the code: it is about what is not installed, or cannot be."""
        if (text := str(message)) not in told:
            told.add(text)
            log.warning("%s", text)

    warnings.showwarning = tell
    return config


@contextmanager
def open_play(
    config: MachineOptions, num_envs: int, *, every: int | None = None, draw: Draw = "half"
) -> Iterator[Play]:
    """Machines where --state says, for somebody who looks every so many frames; closed on leaving. Raises
    ValueError."""
    timing = Timing(config.frames_per_step, config.release_after_frames, every)
    timing.check()
    with open_machines(config, num_envs, chunk=timing.chunk, draw=draw) as machines:
        start_lanes(config, machines)
        yield Play(machines, timing)


def open_agent(config: Any, machines: Machines, argv: list[str]) -> Agent:
    """The agent of --agent. Raises ValueError, also for flags of agents that draw where this one does not, and for a
    solution where it would not win."""
    if config.agent == "solution":
        _check_solution(config)
    if config.agent != "random":
        refuse_flags(argv, dict.fromkeys(("seed", "actions"), f"only agent random draws, not {config.agent}"))
    names = action_names(config)
    return make_agent(config.agent, machines.rom, num_envs=machines.num_envs, actions=names, seed=config.seed)


def _check_solution(config: MachineSettings) -> None:
    """Raise ValueError for what a step is, or where play begins, that solutions were not made for."""
    made = MachineSettings()
    names = [
        name for name in ("frames_per_step", "release_after_frames", "state") if vars(config)[name] != vars(made)[name]
    ]
    if names:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ValueError(
            f"agent 'solution' would not win with {given}: it needs {made.frames_per_step} frames_per_step, "
            f"{made.release_after_frames} release_after_frames, and to start at power-on"
        )


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
