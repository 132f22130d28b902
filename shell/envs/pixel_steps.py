"""The buffers of a pixel environment, and what writes a step into them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.pixels import (
    FullInfo,
    InfoMode,
    NoInfo,
    StatsInfo,
    choose_start,
    downsample,
    stack_reset,
    stack_update,
    step_info,
)
from armfold.shell.buffers import write
from armfold.shell.envs.pixel_tasks import Task

FRAME = (72, 80)  # pixels of an observation


class Info(NamedTuple):
    """What a step tells beside its outcome."""

    final_obs: Tensor | None  # [N, K, 72, 80] uint8, what a lane that has just ended saw last; elsewhere nothing
    legal: None  # every action may be taken
    faults: Tensor  # [N] bool, lanes that an illegal opcode stopped; they are cut off and start again
    metrics: FullInfo | StatsInfo | NoInfo  # what info_mode asks for, under the names of `_asdict()`


class Outputs(NamedTuple):
    """The buffers that a step fills."""

    obs: Tensor  # [N, K, 72, 80] uint8, shades 0 to 3, oldest frame first
    reward: Tensor  # [N] float32, reward unit
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool
    info: Info


class Lanes(NamedTuple):
    """What lanes carry from one step to the next, beside their machines and what they see."""

    rng: Tensor  # [N, 2] int64, keys
    episode: Tensor  # [N] int64, episodes since `reset`, from 0 on
    task: Any  # GoalState or MemoryState
    terminated: Tensor  # [N] bool: how the episode has ended, until a restart
    truncated: Tensor  # [N] bool


class Snapshot(NamedTuple):
    """Everything: what comes after it is what came after it the first time, bit for bit."""

    machine: Any  # State of the backend
    obs: Tensor  # [N, K, 72, 80] uint8
    lanes: Lanes


class Machine(NamedTuple):
    """What a step reads of the backend, in buffers that stay where they are."""

    frame: Tensor  # [N, 72, 80] uint8
    faults: Tensor  # [N] bool
    memory: Tensor  # [N, L] uint8, the bytes that a reward watches; L = 0: none


class Ends(NamedTuple):
    """Which lanes start again, and from where the next episode of every lane starts."""

    mask: Tensor  # [N] bool
    any: Tensor  # bool, 0-dim
    choice: Tensor  # [N] int64, in [0, S), which the key and the number of that episode decide


class Given(NamedTuple):
    """Those buffers of `Outputs` whose shape K does not change, so that `advance` is compiled once for every K."""

    reward: Tensor  # [N] float32, reward unit
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool
    faults: Tensor  # [N] bool
    metrics: FullInfo | StatsInfo | NoInfo


def advance(task: Task, lanes: Lanes, machine: Machine, given: Given, ends: Ends, info_mode: InfoMode) -> None:
    """What the step just taken has given, written into `lanes`, `given` and `ends`. Lanes that had ended before it and
    were not started again are paid nothing and stay as they ended."""
    state, outcome = task.step(lanes.task, machine.frame, machine.memory)
    plays = ~(lanes.terminated | lanes.truncated)
    terminated = lanes.terminated | (plays & outcome.terminated)
    truncated = lanes.truncated | (plays & (outcome.truncated | machine.faults) & ~outcome.terminated)
    reward = torch.where(plays, outcome.reward, 0.0)
    mask = terminated | truncated
    metrics = step_info(info_mode, outcome.dist, terminated, truncated, reset_mask=mask)
    write(given, Given(reward, terminated, truncated, machine.faults, metrics))
    write(lanes, lanes._replace(task=state, terminated=terminated, truncated=truncated))
    ends.mask.copy_(mask)
    ends.any.copy_(mask.any())


def restart(task: Task, lanes: Lanes, machine: Machine, ends: Ends, starts: int) -> None:
    """New episodes for the lanes of `ends`, whose machines have been restored, written into `lanes`, and where those
    after them start."""
    state = task.restart(lanes.task, machine.frame, machine.memory, ends.mask)
    terminated, truncated = lanes.terminated & ~ends.mask, lanes.truncated & ~ends.mask
    write(lanes, Lanes(lanes.rng, lanes.episode + ends.mask, state, terminated, truncated))
    write_choice(ends, lanes, starts)


def write_choice(ends: Ends, lanes: Lanes, starts: int) -> None:
    """Where the next episode of every lane starts, written into `ends`."""
    if starts > 1:
        ends.choice.copy_(choose_start(random.fold_in(lanes.rng, lanes.episode + 1), starts=starts))


def halve(frame: Tensor, screen: Tensor) -> None:
    """A whole screen [N, 144, 160] as a frame, written into frame [N, 72, 80]."""
    frame.copy_(downsample(screen))


def show(obs: Tensor, seen: Tensor, frame: Tensor) -> None:
    """What lanes see after a step, written into obs [N, K, H, W]: what they saw, and a frame more."""
    obs.copy_(stack_update(seen, frame))


def show_starts(obs: Tensor, final_obs: Tensor | None, frame: Tensor, mask: Tensor) -> None:
    """What lanes see after a restart, written into obs [N, K, H, W]; what they saw before is kept in final_obs."""
    if final_obs is not None:
        final_obs.copy_(obs)
    obs.copy_(stack_reset(obs, frame, mask))
