"""Running a bandit in environments that a host steps: select, send, receive, update, in buffers that stay."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core import simulate as core
from armfold.core.check import check_size
from armfold.core.types import Bandit, BanditEnv, State
from armfold.shell.buffers import LANES, Layout, write
from armfold.shell.compiled import Mode, bind, choose, lane_tunables, tensor_tunables
from armfold.shell.describe import describe
from armfold.shell.device import cpu_threads, find_device
from armfold.shell.run.bandit import check_arms
from armfold.shell.run.hosts import Array, Batch, Host, HostName, VectorName, make_host
from armfold.shell.run.keeper import Keeper, open_checkpoint
from armfold.shell.run.profile import Stopwatch, log_phases
from armfold.shell.run.result import Gathered, Result, curve_steps
from armfold.shell.run.rewards import Range, check_rewards, fit_rewards
from armfold.shell.run.seeds import Seeds, find_seeds
from armfold.shell.view.progress import Glimpse, Watcher, seldom, track

log = logging.getLogger("armfold")

_PHASES = ("select", "actions_to_cpu", "env_step", "rewards_to_device", "update")


class Learner(NamedTuple):
    """What a batch of lanes carries on the learner's side."""

    state: State
    rng: Tensor  # [n, 2] int64, the learner's keys
    time: Tensor  # [n] int64, the step at hand, counted from 1


def select(bandit: Bandit, learner: Learner, obs: Tensor | None, action: Tensor) -> None:
    """The next action of every lane, written into `action`."""
    action.copy_(core.choose(bandit, learner.state, learner.rng, learner.time, obs))


def update(bandit: Bandit, learner: Learner, obs: Tensor | None, action: Tensor, reward: Tensor) -> None:
    """Learn from one step of every lane, written into `learner`."""
    state = core.learn(bandit, learner.state, learner.rng, learner.time, obs, action, reward)
    write(learner, Learner(state, learner.rng, learner.time + 1))


class _Crossing:
    """A buffer on the device, and one beside the host through which it is filled or read: pinned where that is CUDA,
    elsewhere the same memory."""

    def __init__(self, shape: tuple[int, ...], lanes: int, dtype: torch.dtype, device: torch.device) -> None:
        self.there = torch.zeros(shape, dtype=dtype, device=device)
        self.part = self.there[:lanes]  # what lies beyond only fills the last vector
        pinned = device.type == "cuda"
        self.here = torch.zeros_like(self.part, device="cpu", pin_memory=True) if pinned else self.part
        self.array: Array = self.here.numpy()

    def fill(self, values: Array) -> None:
        """Copy `values` to the device."""
        np.copyto(self.array, values)
        if self.here is not self.part:
            self.part.copy_(self.here, non_blocking=True)

    def read(self) -> Array:
        """What is on the device; the next `read` changes it."""
        if self.here is not self.part:
            self.here.copy_(self.part)
        return self.array


class Side:
    """The learner's side of one batch: its state, and the buffers through which it meets the host, made once."""

    def __init__(self, bandit: Bandit, seeds: Seeds, lanes: slice, obs_shape: tuple[int, ...] | None) -> None:
        self.lanes, self.device = lanes.stop - lanes.start, seeds.number.device
        filled = -(-self.lanes // LANES) * LANES  # every lane goes through the same vector code
        lane = torch.arange(lanes.start, lanes.start + filled, device=self.device).clamp(max=lanes.stop - 1)
        self.bandit: Bandit = lane_tunables(bandit, lane, seeds.number.numel())
        rng = core.agent_key(seeds.keys(lane)[1])
        state = self.bandit.init(random.fold_in(rng, 0))
        self.layout = Layout(all(leaf.ndim <= 2 for leaf in pytree.tree_leaves(state)), filled)
        start = Learner(state, rng, torch.ones(filled, dtype=torch.int64, device=self.device))
        self.learner: Learner = pytree.tree_map(self.layout.lay, start)
        self.action = _Crossing((filled,), self.lanes, torch.int64, self.device)
        self.reward = _Crossing((filled,), self.lanes, torch.float32, self.device)
        self.obs = (
            None if obs_shape is None else _Crossing((filled, *obs_shape), self.lanes, torch.float32, self.device)
        )

        self.lowest = np.full(self.lanes, np.inf, np.float32)  # rewards met
        self.highest = np.full(self.lanes, -np.inf, np.float32)

    def pay(self, rewards: Array) -> None:
        """Take in the rewards [n] of the last actions."""
        np.minimum(self.lowest, rewards, out=self.lowest)
        np.maximum(self.highest, rewards, out=self.highest)
        self.reward.fill(rewards)

    def bind(self, select: Callable[..., None], update: Callable[..., None]) -> None:
        """Make `select` and `update` this side's own."""
        obs, action, reward = self.obs and self.obs.there, self.action.there, self.reward.there
        self.select = bind(select, self.bandit, self.learner, obs, action)
        self.update = bind(update, self.bandit, self.learner, obs, action, reward)


def make_side(bandit: Bandit, env: BanditEnv, lanes: int, *, seed: int = 0, compile: Mode = "off") -> Side:
    """The learner's side of lanes 0 to `lanes` - 1, on the CPU: for loops of your own around a `Host`."""
    cpu = torch.device("cpu")
    bandit, seeds = tensor_tunables(bandit, cpu), find_seeds(seed, None, 0, runs=lanes, device=cpu)
    with torch.no_grad():
        side = Side(bandit, seeds, slice(0, lanes), context_shape(bandit, env, seeds))
    side.bind(*(choose(function, compile, device=cpu, calls=0)[0] for function in (select, update)))
    return side


class Exchange:
    """All lanes on their way."""

    def __init__(self, host: Host, sides: list[Side], marks: list[int], runs: int) -> None:
        self.host, self.sides, self.marks = host, sides, marks
        self.gathered, self.runs = Gathered(runs, len(marks)), runs
        self.points = {mark: point for point, mark in enumerate(marks)}
        self.done, self.latest = 0, Glimpse(0, runs * marks[-1], 0, 0.0, 0.0)

    def go(self, watch: Stopwatch) -> Iterator[None]:
        """Take all steps; yields after each step of each batch."""
        turns = (self.marks[-1] + 1) * len(self.sides)
        watch.start()
        for turn in range(turns):
            side = self.sides[turn % len(self.sides)]
            batch = self.host.receive()
            watch.lap("env_step")
            if turn >= len(self.sides):  # before, there was no action that it could be the reward of
                side.pay(batch.reward)
                watch.lap("rewards_to_device")
                side.update()
                watch.lap("update")
                self.done += side.lanes
                self._note(batch)
                yield
                watch.start()
            if turn < turns - len(self.sides):
                if side.obs is not None:
                    side.obs.fill(batch.obs)
                watch.lap("rewards_to_device")
                side.select()
                watch.lap("select")
            if turn < turns - 1:  # a host wants actions of every batch before it hands over the next
                actions = side.action.read()
                watch.lap("actions_to_cpu")
                self.host.send(actions)
                watch.lap("env_step")

    def _note(self, batch: Batch) -> None:
        """Take over what the batch reports."""
        for step, first, totals in batch.reports:
            here, last = slice(first, first + len(totals.regret)), self.marks[-1]
            self.gathered.add_point(self.points[step], totals.regret)
            optimal = totals.optimal.to(torch.float64).mean().item() / step
            self.latest = Glimpse(0, self.runs * last, step, totals.regret.mean().item(), optimal)
            if step == last:
                self.gathered.add_lanes(here, totals.regret, totals.reward, totals.optimal, last)

    def glimpse(self) -> Glimpse:
        """What was reported last."""
        return self.latest._replace(done=self.done)

    def check(self, reward_range: Range) -> None:
        """Raise ValueError where a reward was not finite or out of range."""
        for side in self.sides:
            check_rewards(torch.from_numpy(side.lowest), torch.from_numpy(side.highest), reward_range)


def simulate_hosted(
    bandit: Bandit,
    env: BanditEnv,
    *,
    host: HostName,
    vector: VectorName | None = None,
    num_workers: int | None = None,
    batch_size: int | None = None,
    steps: int,
    runs: int,
    seed: int = 0,
    agent_seed: int | None = None,
    device: str | torch.device = "cpu",
    compile: Mode = "auto",
    threads: int = 1,
    points: int = 200,
    reward_range: Range = (0.0, 1.0),
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    watch: Watcher | None = None,
    profile: bool = False,
    label: str = "bandit",
) -> Result:
    """Run `bandit` against `env` as `host` steps it: what `simulate` does in one program, in two halves.

    The results are those of `simulate`, lane for lane and bit for bit where neither is compiled. The environment is on
    the CPU, the learner on `device`. host: "gymnasium" steps one vector environment; "pufferlib" steps native ones,
    vector "serial" in this process or "mp" in num_workers processes of runs / num_workers lanes each, and hands them
    over batch_size workers at a time (all of them where None), so that some step while the learner serves others.
    checkpoint: a folder for the result; an environment elsewhere cannot be kept, so that resume takes over a result
    but begins a broken run anew. profile logs ms a step of select, actions_to_cpu, env_step, rewards_to_device and
    update, and memory. The other arguments are those of `simulate`. Raises ValueError that names the one at fault.
    """
    for name, value in {"steps": steps, "runs": runs, "points": points, "threads": threads}.items():
        check_size(name, value)
    where = find_device(device)
    seeds = find_seeds(seed, agent_seed, 0, runs=runs, device=where)
    folder = open_checkpoint(checkpoint, resume=resume)
    marks = curve_steps(steps, points)
    with cpu_threads(threads, where), torch.no_grad():
        bandit = tensor_tunables(fit_rewards(bandit, reward_range), where)
        obs_shape = context_shape(bandit, env, seeds)
        selecting, compiled = choose(select, compile, device=where, calls=steps)
        updating, _ = choose(update, compile, device=where, calls=steps)
        keeper = Keeper(folder, _identity(bandit, env, seeds, marks, compiled, reward_range, host), 0.0)
        if resume and (ended := keeper.ended()) is not None:
            return ended
        began = time.perf_counter()
        hosted = make_host(
            host, env, runs, vector=vector, num_workers=num_workers, batch_size=batch_size, report=marks,
            compile="on" if compiled else "off",
        )  # fmt: skip
        try:
            size = runs // hosted.batches
            sides = [Side(bandit, seeds, slice(i * size, (i + 1) * size), obs_shape) for i in range(hosted.batches)]
            for side in sides:
                side.bind(selecting, updating)
            log.info("%s: host %s, %d batches of %s", label, host, hosted.batches, sides[0].layout)
            run, stopwatch = Exchange(hosted, sides, marks, runs), Stopwatch(where, exact=profile, phases=_PHASES)
            hosted.reset(seed)
            _take_steps(run, stopwatch, reward_range, watch, label if progress else None)
        finally:
            hosted.close()
        result = run.gathered.result(marks, time.perf_counter() - began, compiled, sides[0].layout)
        if profile:
            log_phases(label, stopwatch, steps, where)
    return keeper.finish(result)


def _take_steps(
    run: Exchange, stopwatch: Stopwatch, reward_range: Range, watch: Watcher | None, bar: str | None
) -> None:
    total, due = run.runs * run.marks[-1], run.runs
    looked = seldom(watch, total, run.glimpse)
    with track(bar or "", total, enabled=bar is not None) as moved:
        for _ in run.go(stopwatch):
            if run.done >= due or run.done == total:  # every batch has been paid
                run.check(reward_range)
                moved(run.done)
                due = run.done + total // 100
            if run.latest.step:
                looked(run.done)


def _identity(
    bandit: Bandit, env: BanditEnv, seeds: Seeds, marks: list[int], compiled: bool, reward_range: Range, host: str
) -> dict[str, Any]:
    return {
        "bandit": describe(bandit), "env": describe(env), "marks": marks, "seeds": describe(seeds), "host": host,
        "device": str(seeds.number.device), "compiled": compiled, "reward_range": reward_range and list(reward_range),
        "torch": torch.__version__,
    }  # fmt: skip


def context_shape(bandit: Bandit, env: BanditEnv, seeds: Seeds) -> tuple[int, ...] | None:
    """The shape [K, d] of the context, None where there is none. Raises ValueError where the arms differ."""
    lane = torch.zeros(2, dtype=torch.int64, device=seeds.number.device)
    learner, world = lane_tunables(bandit, lane, seeds.number.numel()), tensor_tunables(env, lane.device)
    few = core.init(learner, world, seeds.keys(lane)[0])
    check_arms(learner, world, few)
    obs = env.observe(few.env)
    return None if obs is None else tuple(obs.shape[1:])
