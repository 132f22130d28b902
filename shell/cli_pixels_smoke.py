"""`armfold pixels smoke`: whether the pixel environments work here."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_size
from armfold.shell.backends.gameboy import GameBoy
from armfold.shell.cli_pixels_machines import MachineOptions, action_names, open_machines, open_play, read_options
from armfold.shell.compiled import Mode
from armfold.shell.device import cpu_threads, synchronize
from armfold.shell.envs.pixels import FRAME, GoalEnv, PixelsEnv, TaskEnv
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.run.pixels import make_agent
from armfold.shell.run.pixels_bench import cpu_allocations, look_at_memory
from armfold.shell.store.goals import START, Goal, load_goal

_WARM_UP = 3  # steps, in which all is compiled
_COUNTED = 4  # steps whose allocations are counted
_LEAD = 32  # steps of random play whose last screen is the goal, where none is given


@dataclasses.dataclass(frozen=True)
class _Smoke:
    """What is tried, and how long."""

    stack_k: tyro.conf.UseAppendAction[tuple[int, ...]] = ()
    """Frames in an observation; several times for several runs; 1 and 4 where not given."""
    num_envs: int = 8
    """Lanes."""
    steps: int = 64
    """Steps of each run."""
    max_steps: int = 16
    """Steps of an episode."""
    goal: Path | None = None
    """A goal that `armfold pixels goal` captured, whose state GoalEnv starts from where there is no --state; where not
    given, what the screen shows after some random play."""
    compile: Mode = "auto"
    """torch.compile the environments' part of a step: on, off, or auto: where a compiler is found."""


@dataclasses.dataclass(frozen=True)
class _SmokeOptions(MachineOptions, _Smoke):
    """Run both pixel environments a little with random actions, and check what they return: shapes, that the newest
    frame of an observation is the one on the screen, finite rewards, nothing allocated by a compiled step.

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
            env = _make(config, kind, stack_k, goal)
            with cpu_threads(1, env.device):  # torch's; the machines have their own
                faults, told = _check(config, env)
            env.close()
            status = max(status, int(bool(faults)))
            if faults or not config.quiet:
                print(f"{kind.__name__} stack_k={stack_k}: {'; '.join(faults) or 'ok'} ({told})")
    return status


def _find_goal(config: _SmokeOptions) -> Goal:
    """The goal of --goal, or what random play leads to."""
    play = open_play(dataclasses.replace(config, state=config.state[:1]), 1)
    rom = play.machines.rom
    if config.goal is not None:
        return load_goal(config.goal, rom=rom.sha256)
    agent = make_agent("random", rom, num_envs=1, actions=action_names(config), seed=config.seed)
    (frame,) = [screen[0].cpu().clone() for screen in play.watch(agent, _LEAD)][-1:]
    return Goal(frame, 0.05, 4, rom.sha256)


def _make(config: _SmokeOptions, kind: type[TaskEnv], stack_k: int, goal: Goal) -> TaskEnv:
    machines = open_machines(config, config.num_envs)
    paths = list(config.state)
    if kind is GoalEnv and config.goal is not None and not paths:
        folder = config.goal if config.goal.is_dir() else config.goal.parent
        paths = [folder / START] if (folder / START).is_file() else []
    starts = load_starts(machines, paths) if paths else None
    knobs: dict[str, Any] = {"stack_k": stack_k, "max_steps": config.max_steps, "starts": starts}
    if kind is GoalEnv:
        return GoalEnv(machines, goal.frame, tau=goal.tau, k=goal.k, compile=config.compile, **knobs)
    return PixelsEnv(machines, compile=config.compile, **knobs)


def _check(config: _SmokeOptions, env: TaskEnv) -> tuple[list[str], str]:
    """What is wrong with an environment, and what it did."""
    actions = random.randint(random.key(config.seed), (config.steps, env.num_envs), high=len(env.backend.actions))
    actions = actions.to(env.device)
    obs, _ = env.reset(random.split(random.key(config.seed, device=env.device), env.num_envs))
    faults = _find_faults(env, obs, torch.zeros(env.num_envs, device=env.device))
    ended, began = 0, time.perf_counter()
    for step, action in enumerate(actions):
        if step == _WARM_UP:
            synchronize(env.device)
            began = time.perf_counter()
        obs, reward, terminated, truncated, _ = env.step(action)
        faults += [f"step {step}: {fault}" for fault in _find_faults(env, obs, reward)]
        ended += int((terminated | truncated).sum())
        if faults:
            break
    synchronize(env.device)
    rate = max(config.steps - _WARM_UP, 0) * env.num_envs / (time.perf_counter() - began)
    told = [f"{config.steps} steps of {env.num_envs} lanes", f"{ended} episodes ended", f"{rate:.3g} env-steps/s"]
    if not (env.compiled and isinstance(env.backend, GameBoy)):
        return faults, ", ".join([*told, "allocations not looked at: not compiled"])
    count = _allocations(env, lambda: [env.step(action) for action in actions[:_COUNTED]])
    return faults + [f"{count} allocations in {_COUNTED} steps"] * (count > 0), ", ".join([*told, "allocates nothing"])


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
