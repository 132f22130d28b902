"""Playing on machines with a screen: who presses what, and a few frames of a step at a time."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_size
from armfold.core.pixels import InfoMode
from armfold.shell.backends import Kind, open_backend
from armfold.shell.backends.gameboy import ACTIONS, GameBoy, Rom, action_buttons, find_rom, shipped_roms
from armfold.shell.backends.gameboy.rom import SHIPPED
from armfold.shell.backends.pyboy import PyBoyBackend
from armfold.shell.choose import suggest
from armfold.shell.compiled import Mode
from armfold.shell.device import find_device
from armfold.shell.envs.reset_cache import load_starts

FRAME_RATE = 4194304 / 70224  # frames of a Game Boy a second
AGENTS = ("noop", "random", "solution")
Machines = GameBoy | PyBoyBackend


@dataclasses.dataclass(frozen=True)
class MachineSettings:
    """The machine, and what is a step of it."""

    rom: str = "lantern"
    """A ROM file, or the name of a game that comes with the library: lantern."""
    state: tuple[Path, ...] = ()
    """A file of a saved state to start from, in place of power-on; several times for several: machines take them in
    turn, environments one for each episode, by its lane's key."""
    backend: Kind = "auto"
    """What plays: gameboy, pyboy, or auto: pyboy where nothing can compile gameboy."""
    device: str = "cpu"
    """Where to run: cpu, cuda, cuda:1, ..."""
    frames_per_step: int = 24
    """Frames of the Game Boy in a step, 59.7 a second."""
    release_after_frames: int = 8
    """Frames of a step for which an action's buttons are held."""
    actions: str = ",".join(ACTIONS)
    """Names of the actions that random play draws from, separated by commas; an action is noop, a button (a, b,
    select, start, right, left, up, down), or several joined by +."""
    seed: int = 0
    """Seed of what is drawn."""
    threads: int | None = None
    """Threads of the machines on the CPU, with pyboy processes if several; where not given, one for each core, with
    pyboy this process alone."""


@dataclasses.dataclass(frozen=True)
class EnvSettings:
    """Knobs of every pixel environment, as `TaskEnv` has them."""

    info_mode: InfoMode = "full"
    """What a step tells: of every lane, statistics of them, nothing."""
    skip_reset_if_empty: bool = False
    """Ask whether any lane has ended before any is restored."""
    final_obs: bool = True
    """Keep what lanes saw last, in as much memory as observations take."""
    compile: Mode = "auto"
    """torch.compile the environment's part of a step: on, off, or auto: where a compiler is found."""


def env_settings() -> tuple[str, ...]:
    """The names of those knobs."""
    return tuple(field.name for field in dataclasses.fields(EnvSettings))


def action_names(settings: MachineSettings) -> tuple[str, ...]:
    """The names in --actions. Raises ValueError for none."""
    names = tuple(name.strip() for name in settings.actions.split(",") if name.strip())
    if not names:
        raise ValueError(f"actions must name at least one, got {settings.actions!r}")
    return names


def open_machines(settings: MachineSettings, num_envs: int, *, chunk: int | None = None, **knobs: Any) -> Machines:
    """Machines that have just been switched on, with the steps of the settings; or of `chunk` frames, in which they
    release no button. knobs: others of the backend's. Raises ValueError for what cannot be."""
    device, threads = find_device(settings.device), settings.threads
    if threads is not None:
        check_size("threads", threads)
        if device.type != "cpu":
            raise ValueError(f"--threads would change nothing: the device is {settings.device}, a GPU")
    if settings.backend != "pyboy":
        knobs["threads"] = threads
    elif threads is not None and threads > 1:
        knobs["workers"] = threads
    frames, held = chunk or settings.frames_per_step, chunk or settings.release_after_frames
    step = {"frames_per_step": frames, "release_after_frames": held, "actions": action_names(settings)}
    return open_backend(settings.rom, num_envs, device, backend=settings.backend, **step, **knobs)


def start_lanes(settings: MachineSettings, machines: Machines) -> None:
    """Put the lanes where --state says: lane i where file i % S does. Raises ValueError for more files than lanes."""
    if not settings.state:
        return
    count, lanes = len(settings.state), machines.num_envs
    if count > lanes:
        raise ValueError(f"state names {count} files, and there is room for {lanes} (num_envs)")
    starts = load_starts(machines, settings.state)
    machines.reset(None, starts, torch.arange(lanes, device=machines.device) % count)


def tell_lanes(count: int) -> str:
    """So many lanes, in words."""
    return f"{count} lane" if count == 1 else f"{count} lanes"


def tell_stopped(stopped: int, lanes: int) -> str:
    """How many lanes an illegal opcode has stopped, in words."""
    return f"{stopped} of {tell_lanes(lanes)} met an illegal opcode and stood still"


class Agent(NamedTuple):
    """Who plays N lanes."""

    buttons: Callable[[int], Tensor]  # of step t, from 0 on: uint8 [N], bit i is button i of BUTTONS
    steps: int | None  # that it has something to do in; nothing is pressed later; None: it goes on


def make_agent(name: str, rom: Rom, *, num_envs: int, actions: Sequence[str], seed: int = 0) -> Agent:
    """An agent by its name in AGENTS, or from a file of action names: a JSON list, or one a line.

    random: uniform over `actions`, each lane with a key of its own. solution: what wins a game that comes with the
    library. Raises ValueError for an agent that there is not, and for a name in the file that is no action.
    """
    bits = torch.tensor([action_buttons(action) for action in actions], dtype=torch.uint8)
    if name == "random":
        keys = random.split(random.key(seed), num_envs)
        return Agent(lambda t: bits[random.randint(random.fold_in(keys, t), high=len(bits))], None)
    if name == "noop":
        return Agent(lambda t: torch.zeros(num_envs, dtype=torch.uint8), None)
    names = _solution(rom) if name == "solution" else _read_actions(name)
    script = torch.tensor([*names, 0], dtype=torch.uint8)
    return Agent(lambda t: script[min(t, len(script) - 1)].expand(num_envs), len(names))


def _solution(rom: Rom) -> list[int]:
    for name in shipped_roms():
        facts = SHIPPED / f"{name}.json"
        if find_rom(SHIPPED / f"{name}.gb").sha256 == rom.sha256 and facts.is_file():
            return [action_buttons(action) for action in json.loads(facts.read_text(encoding="utf-8"))["solution"]]
    raise ValueError(f"agent 'solution' is for the games {', '.join(shipped_roms())}, not for {rom.title!r}")


def _read_actions(name: str) -> list[int]:
    """The buttons of the actions in a file."""
    path = Path(name)
    if not path.is_file():
        if path.suffix or path.parent != Path():
            raise ValueError(f"agent {name!r} is not a file")
        raise suggest("agent", name, AGENTS)
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except ValueError as error:
        raise ValueError(f"agent {name!r} cannot be read as actions ({error})") from error
    buttons = []
    for at, action in enumerate(names, start=1):
        try:
            buttons += [action_buttons(action.strip())] if action.strip() else []
        except (ValueError, AttributeError) as error:
            reason = f"{action!r} is no name" if not isinstance(action, str) else error
            raise ValueError(f"agent {name!r}: action {at}: {reason}") from error
    if not buttons:
        raise ValueError(f"agent {name!r} names no action")
    return buttons


class Timing(NamedTuple):
    """What a step is in frames, and how often somebody looks."""

    frames_per_step: int
    release_after_frames: int
    every: int | None = None  # frames between two looks; None: those of a step

    def check(self) -> None:
        """Raise ValueError for what cannot be."""
        for name, value in self._asdict().items():
            if value is not None:
                check_size(name, value)

    @property
    def chunk(self) -> int:
        """Frames that can be played at once: `Play` wants machines whose frames_per_step is that."""
        held = min(self.release_after_frames, self.frames_per_step)
        return math.gcd(self.frames_per_step, held, self.every or 0)


class Play:
    """Steps played a few frames at a time. The game is the one of whole steps, bit for bit, and can be looked at."""

    def __init__(self, machines: Machines, timing: Timing) -> None:
        """machines: with `timing.chunk` frames a step, and buttons that they do not release in it."""
        self.machines, self.timing = machines, timing
        self.frame = timing.frames_per_step  # of the step; all are over
        self.played = 0  # frames
        self._buttons = self._none = torch.zeros(machines.num_envs, dtype=torch.uint8, device=machines.device)

    def begin(self, buttons: Tensor) -> None:
        """A step with these buttons, uint8 [N]."""
        self._buttons, self.frame = buttons.to(self.machines.device), 0

    def advance(self) -> None:
        """A few frames of the step that has begun."""
        held = self.frame < self.timing.release_after_frames
        self.machines.step_buttons(self._buttons if held else self._none)
        self.frame += self.timing.chunk
        self.played += self.timing.chunk

    @property
    def over(self) -> bool:
        """Whether all frames of the step have been played."""
        return self.frame >= self.timing.frames_per_step

    def watch(self, agent: Agent, steps: int) -> Iterator[Tensor]:
        """Let an agent play: the live screens [N, H, W] after every `timing.every` frames."""
        every = self.timing.every or self.timing.frames_per_step
        for step in range(steps):
            self.begin(agent.buttons(step))
            while not self.over:
                self.advance()
                if self.played % every == 0:
                    yield self.machines.screen
