"""`armfold pixels play`: a game in the terminal, for a person or an agent."""

import contextlib
import dataclasses
import shutil
import time
from pathlib import Path
from typing import Literal

import torch

from armfold.core.check import check_number, check_size
from armfold.shell.backends.gameboy import action_buttons
from armfold.shell.cli_pixels_machines import MachineOptions, log, open_agent, open_play, read_options, write_goal
from armfold.shell.run.pixels import FRAME_RATE, Agent, Play, tell_stopped
from armfold.shell.store.files import find_place
from armfold.shell.store.goals import check_folder
from armfold.shell.view.terminal_pixels import Terminal, fit, open_terminal, picture_rows, plain_rows
from armfold.shell.words import refuse_flags

_EVERY = 2  # frames between two pictures
_LAG = 0.1  # seconds that a slow machine tries to catch up with
_HELP = "q quit  v save  g goal  arrows walk  z A  x B  enter START  backspace SELECT"


@dataclasses.dataclass(frozen=True)
class _Play:
    """Who plays, and what keys write."""

    agent: str = "keyboard"
    """Who plays: keyboard, random, noop, solution (of a game that comes with the library), or a file of action names,
    one a line or a JSON list."""
    steps: int | None = None
    """Steps to watch; where not given, all that the agent has to do, or until q is pressed."""
    frames: bool = False
    """Print pictures in ASCII one below the other, a step each, as fast as it goes: for what is no terminal."""
    save: Path | None = None
    """A file for the state that v saves."""
    goal: Path | None = None
    """A folder for the goal that g captures, with the state that play began with; it must be new or empty."""
    tau: float = 0.05
    """How near the screen must be to the goal: the mean difference of pixels, in (0, 1]."""
    k: int = 4
    """Steps in a row for which it must be."""
    draw: Literal["half", "full"] = "half"
    """half: 80 x 72 pixels, what environments see; full: 160 x 144."""
    speed: float = 1.0
    """How much faster than a Game Boy it plays."""


@dataclasses.dataclass(frozen=True)
class _PlayOptions(MachineOptions, _Play):
    """Play in the terminal, with arrows or WASD, z or j for A, x or k for B, enter for START and backspace for SELECT;
    v saves the state to --save, g captures the picture as a goal in --goal, q quits. Or watch an agent.

    A key plays one step; while none is pressed, time goes on.
    """


def play(argv: list[str]) -> None:
    """Play in the terminal, or watch an agent."""
    config: _PlayOptions = read_options(_PlayOptions, "play", argv)
    _check_play(config, argv)
    every = config.frames_per_step if config.frames else _EVERY
    with open_play(config, 1, every=every, draw=config.draw) as shown:
        agent = None if config.agent == "keyboard" else open_agent(config, shown.machines, argv)
        if config.frames and agent is not None:
            _print_frames(shown, agent, agent.steps if config.steps is None else config.steps)
            return
        config = dataclasses.replace(config, save=find_place("save", config.save))
        if config.goal is not None:
            check_folder("goal", config.goal)
        with open_terminal() as terminal:
            session = _Session(config, shown, agent, terminal)
            with contextlib.suppress(KeyboardInterrupt):
                session.run()
        if not config.quiet:
            session.report()


def _check_play(config: _PlayOptions, argv: list[str]) -> None:
    """Raise ValueError for options that cannot be, or would change nothing."""
    check_number("speed", config.speed, low=0, open_low=True)
    check_number("tau", config.tau, low=0.0, high=1.0, open_low=True)
    check_size("k", config.k)
    if config.steps is not None:
        check_size("steps", config.steps)
    if config.agent == "keyboard":
        if config.frames:
            raise ValueError("frames are of an agent that plays: give --agent")
        refuse_flags(argv, dict.fromkeys(("seed", "actions"), "only agent random draws, not keyboard"))
    if config.frames:
        refuse_flags(argv, dict.fromkeys(("save", "goal", "tau", "k", "speed"), "--frames is not played by keys"))
    elif config.goal is None:
        refuse_flags(argv, dict.fromkeys(("tau", "k"), "there is no --goal"))


def _print_frames(shown: Play, agent: Agent, steps: int | None) -> None:
    if steps is None:
        raise ValueError("steps must be given with --frames, for this agent's play has no end")
    for step, screen in enumerate(shown.watch(agent, steps), start=1):
        print("\n".join([*plain_rows(fit(screen[0], 80, 36)), f"step {step}"]))
    if stopped := int(shown.machines.faults.sum()):
        log.warning(tell_stopped(stopped, 1))


class _Session:
    """A game at a terminal."""

    def __init__(self, config: _PlayOptions, shown: Play, agent: Agent | None, terminal: Terminal) -> None:
        self.config, self.play, self.agent, self.terminal = config, shown, agent, terminal
        self.machines, self.start = shown.machines, shown.machines.snapshot()
        self.steps = agent.steps if config.steps is None and agent is not None else config.steps
        self.step, self.pressed, self.idle = 0, "", False
        self.left = self.saved = self.captured = False
        self.message = _HELP if agent is None else "q quit  v save  g goal"

    def run(self) -> None:
        """Until somebody quits, or all steps are over."""
        seconds = self.play.timing.chunk / FRAME_RATE / self.config.speed
        due = time.monotonic()
        while not self.left:
            for key in self.terminal.keys(due - time.monotonic()):
                self.press(key)
            if (now := time.monotonic()) < due:
                continue  # a key came before the next frame
            due = max(due, now - _LAG) + seconds
            if self.next_step():
                self.play.advance()
                if self.play.played % _EVERY == 0 and (now < due or self.play.over):  # else drawing is too slow
                    self.terminal.show(self.machines.screen[0].cpu(), self.line())

    def next_step(self) -> bool:
        """Begin a step where it is time to; a key need not wait for the end of one in which nothing is pressed.
        Returns whether there is anything to play."""
        if not (self.play.over or (self.pressed and self.idle)):
            return True
        if self.step == self.steps:
            self.left = True
            return False
        if self.agent is None:
            self.idle = not self.pressed
            buttons = torch.tensor([action_buttons(self.pressed or "noop")], dtype=torch.uint8)
        else:
            buttons = self.agent.buttons(self.step)
        self.play.begin(buttons)
        self.step, self.pressed = self.step + 1, ""
        return True

    def press(self, key: str) -> None:
        """Do what a key asks for, or keep it for the next step."""
        if key == "quit":
            self.left = True
        elif key == "save":
            self.save()
        elif key == "goal":
            self.capture()
        elif self.agent is None:
            self.pressed = key.lower()

    def save(self) -> None:
        """The state, to --save."""
        if self.config.save is None:
            self.message = "no file to save to: --save FILE names one"
            return
        self.machines.save_state(self.config.save)
        self.saved = True
        self.message = f"saved {self.config.save.name}"

    def capture(self) -> None:
        """The picture as a goal, to --goal; a later one replaces an earlier one."""
        folder, screen = self.config.goal, self.machines.screen[0].cpu()
        if folder is None:
            self.message = "no folder for a goal: --goal FOLDER names one"
            return
        frame = (screen[::2, ::2] if self.config.draw == "full" else screen).clone()
        write_goal(folder, frame, self.start, self.config, self.machines, replace=self.captured)
        self.captured, self.message = True, f"goal {folder.name}"

    def report(self) -> None:
        """What stays when the pictures have gone: the last one of an agent's play, and what keys wrote."""
        if self.agent is not None:
            rows = picture_rows(self.machines.screen[0].cpu(), self.line(), shutil.get_terminal_size())
            print("\n".join(rows))
        for name, path, written in (("state", self.config.save, self.saved), ("goal", self.config.goal, self.captured)):
            if written:
                print(f"{name}: {path}")

    def line(self) -> str:
        """What stands below the picture."""
        stopped = "stopped by an illegal opcode  " if bool(self.machines.faults[0]) else ""
        return f"{self.machines.rom.title}  step {self.step}  {stopped}{self.message}"
