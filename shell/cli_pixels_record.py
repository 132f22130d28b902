"""`armfold pixels record` and `armfold pixels goal`: what an agent's play leaves in files."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from armfold.core.check import check_number, check_size
from armfold.core.pixels import goal_distance
from armfold.shell.cli_pixels_machines import (
    MachineOptions,
    log,
    open_agent,
    open_play,
    play_length,
    read_options,
    write_goal,
)
from armfold.shell.run.pixels import FRAME_RATE, Play, tell_lanes, tell_stopped
from armfold.shell.store.files import find_place
from armfold.shell.store.goals import check_folder
from armfold.shell.view.pixels import SHORTEST, durations, tile, write_gif, write_png
from armfold.shell.view.progress import track
from armfold.shell.words import refuse_flags

Palette = Literal["grey", "green"]
_STEPS = 256  # of an agent without an end
_LAST = 1000.0  # ms that the last picture of a GIF stays


@dataclasses.dataclass(frozen=True)
class _Record:
    """What is recorded, and how."""

    out: Path | None = None
    """A file for the lanes of --lanes: NAME.gif for all of the play, NAME.png for its last picture."""
    sheet: Path | None = None
    """A file NAME.png for the last picture of every lane."""
    agent: str = "random"
    """Who plays: random, noop, solution (of a game that comes with the library), or a file of action names, one a line
    or a JSON list."""
    steps: int | None = None
    """Steps to play; where not given, all that the agent has to do, or 256."""
    num_envs: int = 1
    """Lanes."""
    lanes: str | None = None
    """Lanes of --out, separated by commas; all where not given."""
    columns: int | None = None
    """Lanes beside each other; where not given, about as many as below each other."""
    scale: int = 3
    """Width and height of a pixel."""
    draw: Literal["half", "full"] = "half"
    """half: 80 x 72 pixels, what environments see; full: 160 x 144."""
    palette: Palette = "grey"
    """Colours of the four shades."""
    every: int | None = None
    """Frames of the Game Boy between two pictures of a GIF: 2 for smooth motion; those of a step where not given."""
    speed: float = 1.0
    """How much faster than a Game Boy a GIF plays."""


@dataclasses.dataclass(frozen=True)
class _RecordOptions(MachineOptions, _Record):
    """Let an agent play, and record the screens of any lanes as a moving picture, the last ones as pictures."""


def record(argv: list[str]) -> None:
    """Record the screens of any lanes as a GIF, their last ones as a PNG, a contact sheet."""
    config: _RecordOptions = read_options(_RecordOptions, "record", argv)
    moving = _check_record(config, argv)
    lanes = _lanes(config)
    with open_play(config, config.num_envs, every=config.every, draw=config.draw) as play:
        agent = open_agent(config, play.machines, argv)
        steps = play_length(agent, config.steps, _STEPS)
        shown = _durations(config, steps, moving=moving)
        out, sheet = find_place("out", config.out), find_place("sheet", config.sheet)
        if out is not None and out == sheet:
            raise ValueError(f"sheet {config.sheet} is the file of out as well: give it another name")
        laid = partial(tile, columns=config.columns, scale=config.scale)
        pictures = 1
        with track("record", len(shown), enabled=not config.quiet) as tell:
            screens = _told(play.watch(agent, steps), tell)
            if out is not None and moving:
                pictures = write_gif(out, (laid(screen[lanes]) for screen in screens), config.palette, shown)
            for _ in screens:
                pass
        if out is not None and not moving:
            write_png(out, laid(play.machines.screen[lanes]), config.palette)
        if sheet is not None:
            write_png(sheet, laid(play.machines.screen), config.palette)
        _report(config, play, steps, pictures)


def _check_record(config: _RecordOptions, argv: list[str]) -> bool:
    """Whether there is a GIF to write. Raises ValueError for options that cannot be."""
    for name in ("scale", "num_envs", "columns", "steps", "every"):
        if getattr(config, name) is not None:
            check_size(name, getattr(config, name))
    check_number("speed", config.speed, low=0, open_low=True)
    if config.out is None and config.sheet is None:
        raise ValueError("out or sheet must name a file to write")
    for name, path, suffixes in (("out", config.out, (".gif", ".png")), ("sheet", config.sheet, (".png",))):
        if path is not None and path.suffix.lower() not in suffixes:
            raise ValueError(f"{name} must end in {' or '.join(suffixes)}, got {str(path)!r}")
    moving = config.out is not None and config.out.suffix.lower() == ".gif"
    if not moving:
        refuse_flags(argv, dict.fromkeys(("every", "speed"), "there is no GIF to write"))
    return moving


def _durations(config: _RecordOptions, steps: int, *, moving: bool) -> list[int]:
    """How long each picture is shown, ms. Raises ValueError for none, and where that is shorter than a GIF can."""
    every = config.every or config.frames_per_step
    count, each = steps * config.frames_per_step // every, 1000 * every / FRAME_RATE / config.speed
    if not count:
        raise ValueError(f"every {every} frames there is no picture in {steps} steps of {config.frames_per_step}")
    if each < SHORTEST and moving:
        raise ValueError(
            f"every {every} frames at speed {config.speed:g} is a picture each {each:.1f} ms, "
            f"and in a GIF none can be shorter than {SHORTEST} ms"
        )
    return durations(count, each, last=_LAST)


def _told(screens: Iterator[Tensor], tell: Callable[..., None]) -> Iterator[Tensor]:
    for done, screen in enumerate(screens, start=1):
        tell(done)
        yield screen


def _lanes(config: _RecordOptions) -> Tensor:
    """The lanes of --lanes, int64 [L]."""
    if config.lanes is None:
        return torch.arange(config.num_envs)
    if config.out is None:
        raise ValueError("--lanes would change nothing: sheet shows every lane, and out is not given")
    words = [word.strip() for word in config.lanes.split(",") if word.strip()]
    for word in words:
        if not word.isdecimal() or int(word) >= config.num_envs:
            raise ValueError(
                f"lanes must lie in [0, {config.num_envs}), got {word!r}; num_envs says how many there are"
            )
    if not words:
        raise ValueError(f"lanes must name at least one lane, got {config.lanes!r}")
    return torch.tensor([int(word) for word in words])


def _report(config: _RecordOptions, play: Play, steps: int, pictures: int) -> None:
    if stopped := int(play.machines.faults.sum()):
        log.warning(tell_stopped(stopped, config.num_envs))
    if config.quiet:
        return
    print(f"{play.machines.rom.title}: {tell_lanes(config.num_envs)}, {steps} steps of agent {config.agent}")
    for name, path in (("picture", config.out), ("sheet", config.sheet)):
        if path is not None:
            told = f", {pictures} pictures" if path.suffix.lower() == ".gif" else ""
            print(f"{name}: {path} ({path.stat().st_size / 1024:.0f} KiB{told})")


@dataclasses.dataclass(frozen=True)
class _Goal:
    """What is captured, and when."""

    out: Path
    """Folder to write; it must be new or empty."""
    agent: str = "solution"
    """Who plays: solution (of a game that comes with the library), random, noop, or a file of action names, one a line
    or a JSON list."""
    at: int | None = None
    """Steps played when the screen is the goal; all that the agent has to do where not given."""
    start_at: int = 0
    """Steps played at the state to start from."""
    tau: float = 0.05
    """How near the screen must be to the goal: the mean difference of pixels, in (0, 1]."""
    k: int = 4
    """Steps in a row for which it must be."""


@dataclasses.dataclass(frozen=True)
class _GoalOptions(MachineOptions, _Goal):
    """Capture what the screen shows at a step of an agent's play, as a goal, and the state of an earlier step, to
    start from: files for GoalEnv. Its folder has goal.safetensors, start.safetensors and goal.png."""


def goal(argv: list[str]) -> None:
    """Capture a goal, and a state to start from, from an agent's play."""
    config: _GoalOptions = read_options(_GoalOptions, "goal", argv)
    check_number("tau", config.tau, low=0.0, high=1.0, open_low=True)
    check_size("k", config.k)
    check_size("start_at", config.start_at, low=0)
    with open_play(config, 1) as play:
        agent = open_agent(config, play.machines, argv)
        if config.at is None and agent.steps is None:
            raise ValueError(f"at must be given for agent {config.agent!r}, whose play has no end")
        at = play_length(agent, config.at, 0)
        check_size("at", at, low=0)
        if agent.steps is not None and at > agent.steps:
            raise ValueError(f"at must lie in [0, {agent.steps}], the steps of agent {config.agent!r}, got {at}")
        if config.start_at > at:
            raise ValueError(f"start_at must lie in [0, {at}], the steps before the goal, got {config.start_at}")
        check_folder("out", config.out)
        frames, start = [play.machines.screen[0].cpu().clone()], play.machines.snapshot()
        for screen in play.watch(agent, at):
            frames.append(screen[0].cpu().clone())
            if len(frames) == config.start_at + 1:
                start = play.machines.snapshot()
        if stopped := int(play.machines.faults.sum()):
            raise ValueError(f"at {at} is no screen to reach: {tell_stopped(stopped, 1)} before it")
        write_goal(config.out, frames[-1], start, config, play.machines)
        title = play.machines.rom.title
    dist = goal_distance(torch.stack(frames), frames[-1]).tolist()
    if not config.quiet:
        near = sum(x < config.tau for x in dist)
        print(f"{title}: the screen after {at} steps of agent {config.agent}")
        print(f"distance: {dist[config.start_at]:.3f} at the start, after {config.start_at} steps; tau {config.tau:g}")
        print(f"near it: {near} of the {len(dist)} screens of this play; k {config.k}")
        print(f"goal: {config.out}")
    if dist[config.start_at] < config.tau:
        log.warning("the start is within tau %g of the goal already", config.tau)
