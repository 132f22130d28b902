"""Pixel environments, or the machines alone, set up to be timed: settings, actions, resets on purpose."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_number, check_size
from armfold.core.types import Scalar
from armfold.shell.backends.gameboy.machine import Draw, MemoryLayout, usable_cores
from armfold.shell.device import cpu_threads, find_device, synchronize
from armfold.shell.envs.pixel_env import TaskEnv
from armfold.shell.envs.pixel_steps import FRAME
from armfold.shell.envs.pixel_tasks import Task, goal_task, memory_task
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.run.pixels import (
    EnvSettings,
    MachineSettings,
    action_names,
    env_settings,
    open_machines,
    start_lanes,
)

Resets = Literal["none", "forced", "random"]
_ROWS = 256  # steps after which the actions come again


@dataclasses.dataclass(frozen=True)
class Settings(EnvSettings, MachineSettings):
    """What is timed, and for how long."""

    lead_frames: int = 1200
    """Where there is no state: frames of random play by one lane from power-on, after which every episode starts; 0 is
    power-on."""
    env: Literal["pixels", "goal", "machine"] = "pixels"
    """What is stepped: an environment without a goal, one with a goal that is never reached, or the machines alone."""
    num_envs: int = 256
    """N, lanes stepped at once."""
    draw: Draw = "half"
    """What the last frame of a step leaves: 72 x 80 pixels, 144 x 160, or nothing (the machines alone)."""
    stack_k: int = 4
    """K, frames in an observation."""
    resets: Resets = "none"
    """Which lanes are cut off: none, all in every step, or each with --reset-probability."""
    reset_probability: float = 0.01
    """Probability that a lane is cut off in a step of random resets."""
    agent: Literal["noop", "random"] = "random"
    """Who plays: noop, with whom lanes never part ways, or random, each lane for itself."""
    warmup: int = 50
    """Steps before the clock runs."""
    steps: int = 500
    """Steps that are timed."""
    max_seconds: float | None = None
    """Stop measuring after so long, and warming up after a tenth of it; the record says how many steps there were."""
    layout: MemoryLayout | None = None
    """How memories lie: lane after lane, or word by word of all lanes; the device's faster one where not given."""
    lanes_per_warp: int = 32
    """Lanes that share a warp of a GPU."""


class BenchState(NamedTuple):
    """What a lane carries whose episodes are cut off on purpose."""

    task: Any  # of the task itself
    rng: Tensor  # [N, 2] int64, keys
    clock: Tensor  # [N] int64, steps taken
    resets: Tensor  # [N] int64, episodes begun


def cut_off(task: Task, resets: Resets, *, probability: float, seed: int) -> Task:
    """`task`, with the lanes cut off that `resets` says; it counts episodes, too."""
    cut = partial(_cut_step, task=task.step, resets=resets, probability=probability)
    return Task(
        partial(_cut_init, task=task.init, seed=seed), cut, partial(_cut_restart, task=task.restart), task.watch
    )


def _cut_init(frame: Tensor, memory: Tensor, *, task: Callable[..., Any], seed: int) -> BenchState:
    no = torch.zeros(len(frame), dtype=torch.int64, device=frame.device)
    rng = random.split(random.key(seed, device=frame.device), len(frame))
    return BenchState(task(frame, memory), rng, no, no.clone())


def _cut_step(
    state: BenchState,
    frame: Tensor,
    memory: Tensor,
    *,
    task: Callable[..., Any],
    resets: Resets,
    probability: Scalar,
) -> tuple[BenchState, Any]:
    inner, outcome = task(state.task, frame, memory)
    clock = state.clock + 1
    if resets == "forced":
        outcome = outcome._replace(truncated=torch.ones_like(outcome.truncated))
    elif resets == "random":
        outcome = outcome._replace(truncated=random.bernoulli(random.fold_in(state.rng, clock), probability))
    return state._replace(task=inner, clock=clock), outcome


def _cut_restart(
    state: BenchState, frame: Tensor, memory: Tensor, mask: Tensor, *, task: Callable[..., Any]
) -> BenchState:
    return state._replace(task=task(state.task, frame, memory, mask), resets=state.resets + mask)


def lead_actions(settings: Settings) -> Tensor:
    """What the one lane presses that finds the start of all episodes, uint8 [steps]."""
    steps = -(-settings.lead_frames // settings.frames_per_step)
    return random.randint(random.key(settings.seed), (steps,), high=len(action_names(settings))).to(torch.uint8)


def draw_actions(settings: Settings, lanes: int) -> Tensor:
    """What lanes press, uint8 [rows, lanes], of at most 256 steps."""
    rows, high = min(_ROWS, settings.warmup + settings.steps), len(action_names(settings))
    table = torch.zeros(rows, lanes, dtype=torch.uint8)
    if settings.agent == "random":
        for i in range(rows):  # a row at a time, as a draw takes many times the memory of what it gives
            rng = random.fold_in(random.key(settings.seed), i + 1)
            table[i] = random.randint(rng, (lanes,), high=high)
    return table


def _check(settings: Settings) -> None:
    """Raise ValueError for what nothing else refuses."""
    for name, low in (("num_envs", 1), ("frames_per_step", 1), ("warmup", 0), ("steps", 1), ("lead_frames", 0)):
        check_size(name, getattr(settings, name), low=low)
    if settings.max_seconds is not None:
        check_number("max_seconds", settings.max_seconds, low=0.0, open_low=True)
    check_number("reset_probability", settings.reset_probability, low=0.0, high=1.0)
    if settings.env == "machine" and settings.resets != "none":
        raise ValueError(f"resets must be none for the machines alone, got {settings.resets!r}")


def _step_env(env: TaskEnv, stopped: Tensor, actions: Tensor) -> None:
    """A step of an environment, in which lanes that an illegal opcode stops start again at once: they are noted."""
    stopped.logical_or_(env.step(actions)[-1].faults)


class Player:
    """An environment, or machines, and the actions that are pressed: the same ones again after 256 steps. A context:
    leaving it closes them."""

    def __init__(self, settings: Settings) -> None:
        """Ready for the first step. Raises ValueError for settings that cannot be."""
        _check(settings)
        self.settings, self.device = settings, find_device(settings.device)
        self.threads = settings.threads or usable_cores()
        self.actions = draw_actions(settings, settings.num_envs).to(self.device)
        self.env: TaskEnv | None = None
        self._stopped = torch.zeros(settings.num_envs, dtype=torch.bool, device=self.device)
        self.steps = 0
        with cpu_threads(self.threads, self.device):  # what is compiled has those of its first call
            lead = None if settings.state or not settings.lead_frames else self._lead()
            self.backend = self._open(settings.num_envs)
            try:
                self._begin(lead)
            except BaseException:
                self.close()
                raise

    def _begin(self, lead: Any) -> None:
        """Put all lanes where their episodes start."""
        settings = self.settings
        if settings.env == "machine":
            self.backend.reset(None, lead)
            start_lanes(settings, self.backend)
            self._step: Callable[[Tensor], object] = self.backend.step
            return
        starts = load_starts(self.backend, settings.state) if settings.state else lead
        knobs: dict[str, Any] = {name: getattr(settings, name) for name in (*env_settings(), "stack_k")}
        self.env = TaskEnv(self.backend, self._task(), starts=starts, **knobs)
        self.env.reset(random.split(random.key(settings.seed, device=self.device), settings.num_envs))
        self._step = partial(_step_env, self.env, self._stopped)

    def _open(self, lanes: int) -> Any:
        s = self.settings
        knobs: dict[str, Any] = {"layout": s.layout, "lanes_per_warp": s.lanes_per_warp} if s.backend != "pyboy" else {}
        return open_machines(s, lanes, draw=s.draw, **knobs)

    def _lead(self) -> Any:
        """Where one lane comes to."""
        with self._open(1) as machine:
            for action in lead_actions(self.settings).to(self.device)[:, None]:
                machine.step(action)
            return machine.snapshot()

    def _task(self) -> Task:
        rows, columns = (torch.arange(size) for size in FRAME)
        pattern = (3 * ((rows[:, None] + columns) % 2)).to(torch.uint8)  # half of it differs from any plain screen
        goal = self.settings.env == "goal"
        task = goal_task(pattern.to(self.device), tau=1e-6, max_steps=None) if goal else memory_task(max_steps=None)
        probability, seed = self.settings.reset_probability, self.settings.seed
        return cut_off(task, self.settings.resets, probability=probability, seed=seed)

    def step(self) -> None:
        """One step of all lanes."""
        self._step(self.actions[self.steps % len(self.actions)])
        self.steps += 1

    def play(self, steps: int) -> None:
        """Some steps, to their end, with the player's threads for torch too."""
        with cpu_threads(self.threads, self.device):
            for _ in range(steps):
                self.step()
            synchronize(self.device)

    @property
    def stopped(self) -> int:
        """Lanes that have met an illegal opcode."""
        return int((self.backend.faults if self.env is None else self._stopped).sum())

    @property
    def resets(self) -> int:
        """Episodes that have begun since the first ones."""
        if self.env is None:
            return 0
        return int(self.env.state.resets.sum()) - self.settings.num_envs

    def close(self) -> None:
        """Close the machines."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
