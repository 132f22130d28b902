"""`armfold pixels smoke`: whether the pixel environments work here."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_size
from armfold.shell.backends.gameboy import GameBoy
from armfold.shell.cli_pixels_machines import MachineOptions, open_play, read_options
from armfold.shell.device import cpu_threads, synchronize
from armfold.shell.envs.pixel_tasks import goal_task
from armfold.shell.envs.pixels import FRAME, GoalEnv, PixelsEnv, TaskEnv
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.run.pixels import (
    EnvSettings,
    Machines,
    action_names,
    env_settings,
    make_agent,
    open_machines,
    tell_stopped,
)
from armfold.shell.run.pixels_bench import cpu_allocations, look_at_memory
from armfold.shell.store.goals import Goal, find_start, load_goal

_WARM_UP = 3  # steps that no time is told of
_COUNTED = 4  # steps whose allocations are counted
_LEAD = 32  # steps of random play whose last screen is the goal, where none is given


@dataclasses.dataclass(frozen=True)
class _Smoke(EnvSettings):
    """What is tried, and how long."""

    stack_k: tuple[int, ...] = ()
    """Frames in an observation; several times for several runs; 1 and 4 where not given."""
    num_envs: int = 8
    """Lanes."""
    steps: int = 64
    """Steps of each run."""
    max_steps: int = 16
    """Steps of an episode, few, so that some end; environments have 512 where not told."""
    goal: Path | None = None
    """A goal that `armfold pixels goal` captured, whose state GoalEnv starts from where there is no --state; where not
    given, what the screen shows after some random play."""
    tau: float | None = None
    """GoalEnv: how near the screen must be to the goal, in (0, 1]; where not given, what --goal says, or 0.05."""
    k: int | None = None
    """GoalEnv: steps in a row for which it must be; where not given, what --goal says, or 4."""
    alpha: float = 1.0
    """GoalEnv: what coming nearer by all of the screen is paid."""
    step_penalty: float = -0.01
    """GoalEnv: what a step is paid."""
    goal_reward: float = 10.0
    """GoalEnv: what the goal is paid."""


@dataclasses.dataclass(frozen=True)
class _SmokeOptions(MachineOptions, _Smoke):
    """Run both pixel environments a little with random actions, and check what they return: shapes, that the newest
    frame of an observation is the one on the screen, finite rewards, no illegal opcode, nothing allocated by a compiled
    step.

    A line for each; the exit status is 0 where all is well, 1 where it is not.
    """


def smoke(argv: list[str]) -> int:
    """Run both pixel environments a little, and check what they return.

    Returns the exit status.
    """
    config: _SmokeOptions = read_options(_SmokeOptions, "smoke", argv)
    for name in ("num_envs", "steps", "max_steps"):
        check_size(name, getattr(config, name))
    sizes = config.stack_k or (1, 4)
    for stack_k in sizes:
        check_size("stack_k", stack_k)
    goal = _find_goal(config)
    status = 0
    for stack_k in sizes:
        for kind in (PixelsEnv, GoalEnv):
            with open_machines(config, config.num_envs) as machines:
                env = _make(config, machines, kind, stack_k, goal)
                with cpu_threads(1, env.device):  # torch's; the machines have their own
                    faults, told = _check(config, env)
            status = max(status, int(bool(faults)))
            if faults or not config.quiet:
                print(f"{kind.__name__} stack_k={stack_k}: {'; '.join(faults) or 'ok'} ({told})")
    return status


def _find_goal(config: _SmokeOptions) -> Goal:
    """The goal of --goal, or what random play leads to."""
    with open_play(dataclasses.replace(config, state=config.state[:1]), 1) as play:
        rom = play.machines.rom
        if config.goal is not None:
            goal = load_goal(config.goal, rom=rom.sha256)
        else:
            agent = make_agent("random", rom, num_envs=1, actions=action_names(config), seed=config.seed)
            (frame,) = [screen[0].cpu().clone() for screen in play.watch(agent, _LEAD)][-1:]
            goal = Goal(frame, 0.05, 4, rom.sha256)
    tau, k = goal.tau if config.tau is None else config.tau, goal.k if config.k is None else config.k
    goal = goal._replace(tau=tau, k=k)
    goal_task(goal.frame, **_tunables(config, goal))  # it refuses what cannot be, before anything is tried
    return goal


def _tunables(config: _SmokeOptions, goal: Goal) -> dict[str, Any]:
    """What GoalEnv takes beside the goal's frame."""
    paid = {name: getattr(config, name) for name in ("alpha", "step_penalty", "goal_reward")}
    return {"tau": goal.tau, "k": goal.k, **paid}


def _make(config: _SmokeOptions, machines: Machines, kind: type[TaskEnv], stack_k: int, goal: Goal) -> TaskEnv:
    paths = list(config.state)
    if kind is GoalEnv and config.goal is not None and not paths:
        start = find_start(config.goal)
        paths = [start] if start else []
    starts = load_starts(machines, paths) if paths else None
    knobs: dict[str, Any] = {name: getattr(config, name) for name in (*env_settings(), "max_steps")}
    knobs |= {"stack_k": stack_k, "starts": starts}
    if kind is GoalEnv:
        return GoalEnv(machines, goal.frame, **_tunables(config, goal), **knobs)
    return PixelsEnv(machines, **knobs)


def _check(config: _SmokeOptions, env: TaskEnv) -> tuple[list[str], str]:
    """What is wrong with an environment, and what it did."""
    actions = random.randint(random.key(config.seed), (config.steps, env.num_envs), high=len(env.backend.actions))
    actions = actions.to(env.device)
    obs, _ = env.reset(random.split(random.key(config.seed, device=env.device), env.num_envs))
    faults = _find_faults(env, obs, torch.zeros(env.num_envs, device=env.device))
    stopped = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    seconds, ended = list[float](), 0
    for taken, action in enumerate(actions):
        began = time.perf_counter()
        obs, reward, terminated, truncated, info = env.step(action)
        synchronize(env.device)
        seconds.append(time.perf_counter() - began)
        stopped |= info.faults
        faults += [f"step {taken}: {fault}" for fault in _find_faults(env, obs, reward)]
        ended += int((terminated | truncated).sum())
        if faults:
            break
    if count := int(stopped.sum()):
        faults.append(tell_stopped(count, env.num_envs))
    told = [f"{len(seconds)} steps of {env.num_envs} lanes", f"{ended} episodes ended"]
    if len(seconds) > _WARM_UP:  # the median: some of them compile, when the first episodes end
        told.append(f"{env.num_envs / statistics.median(seconds[_WARM_UP:]):.3g} env-steps/s")
    if faults:
        return faults, ", ".join(told)
    if not (env.compiled and isinstance(env.backend, GameBoy)) or env.info_mode == "stats":
        reason = "statistics allocate" if env.info_mode == "stats" else "not compiled"
        return [], ", ".join([*told, f"allocations not looked at: {reason}"])
    again = actions[:_COUNTED]
    if count := _allocations(env, lambda: [env.step(action) for action in again]):
        return [f"{count} allocations in {len(again)} steps"], ", ".join(told)
    return [], ", ".join([*told, "allocates nothing"])


def _find_faults(env: TaskEnv, obs: Tensor, reward: Tensor) -> list[str]:
    faults, wanted = [], (env.num_envs, env.stack_k, *FRAME)
    if obs.shape != wanted or obs.dtype != torch.uint8:
        faults.append(f"observations are {obs.dtype} {tuple(obs.shape)}, not torch.uint8 {wanted}")
    elif not torch.equal(obs[:, -1], env.pixels):
        faults.append(f"obs[:, {env.stack_k - 1}] is not env.pixels")
    elif int(obs.max()) > 3:
        faults.append(f"a shade is {int(obs.max())}")
    if reward.shape != (env.num_envs,) or not bool(torch.isfinite(reward).all()):
        faults.append(f"rewards are {reward.tolist()[:4]}")
    return faults


def _allocations(env: TaskEnv, work: Callable[[], object]) -> int:
    if env.device.type == "cuda":
        before = look_at_memory(env.device).allocations
        work()
        return look_at_memory(env.device).allocations - before
    return len(cpu_allocations(work))
