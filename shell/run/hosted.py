"""Running a bandit in environments that a host steps: select, send, receive, update, in buffers that stay."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from armfold.core.check import check_size
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.compiled import Mode, choose, tensor_tunables
from armfold.shell.describe import describe
from armfold.shell.device import cpu_threads, find_device
from armfold.shell.envs.vector import advance
from armfold.shell.run.hosts import Batch, Host, Hosting, HostName, VectorName, check_host, make_host
from armfold.shell.run.keeper import Keeper, open_checkpoint
from armfold.shell.run.profile import Stopwatch, log_phases
from armfold.shell.run.result import Gathered, Result, curve_steps
from armfold.shell.run.rewards import Range, check_rewards, fit_rewards
from armfold.shell.run.seeds import Seeds, find_seeds
from armfold.shell.run.side import Side, context_shape, select, update
from armfold.shell.view.progress import Glimpse, Watcher, seldom, track

log = logging.getLogger("armfold")

_PHASES = ("select", "actions_to_cpu", "env_step", "rewards_to_device", "update")


class Exchange:
    """All lanes on their way."""

    def __init__(self, host: Host, sides: list[Side], marks: list[int], runs: int) -> None:
        self.host, self.sides, self.marks = host, sides, marks
        self.gathered, self.runs = Gathered(runs, len(marks)), runs
        self.points = {mark: point for point, mark in enumerate(marks)}
        self.optimal = torch.zeros(len(marks), dtype=torch.int64)  # steps on which a best arm was played, of all lanes
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
            here, last, point = slice(first, first + len(totals.regret)), self.marks[-1], self.points[step]
            self.gathered.add_point(point, totals.regret)
            self.optimal[point] += totals.optimal.sum()
            if self.gathered.seen[point] == self.runs:  # all lanes are there
                optimal = self.optimal[point].item() / (self.runs * step)
                self.latest = Glimpse(0, self.runs * last, step, self.gathered.mean[point].item(), optimal)
            if step == last:
                self.gathered.add_lanes(here, totals.regret, totals.reward, totals.optimal, last)

    def glimpse(self) -> Glimpse:
        """What all lanes have reported last."""
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
    overwork: bool = False,
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
    overwork: allow more workers than cores. All lanes share the environment's tunables.
    checkpoint: a folder for the result; an environment elsewhere cannot be kept, so that resume takes over a result
    but begins a broken run anew. profile logs ms a step of select, actions_to_cpu, env_step, rewards_to_device and
    update, and memory. The other arguments are those of `simulate`. Raises ValueError that names the one at fault.
    """
    for name, value in {"steps": steps, "runs": runs, "points": points, "threads": threads}.items():
        check_size(name, value)
    hosting = Hosting(host, vector, num_workers, batch_size, overwork)
    check_host(hosting, runs)
    where, cpu = find_device(device), torch.device("cpu")
    seeds = find_seeds(seed, agent_seed, 0, runs=runs, device=where)
    folder = open_checkpoint(checkpoint, resume=resume)
    marks = curve_steps(steps, points)
    with cpu_threads(threads, cpu), torch.no_grad():
        bandit = tensor_tunables(fit_rewards(bandit, reward_range), where)
        obs_shape = context_shape(bandit, env, seeds)
        selecting, compiled = choose(select, compile, device=where, calls=steps)
        updating, _ = choose(update, compile, device=where, calls=steps)
        _, stepping = choose(advance, compile, device=cpu, calls=steps)  # whether the host compiles its step
        identity = _identity(bandit, env, seeds, marks, [compiled, stepping], reward_range, host)
        keeper = Keeper(folder, identity, 0.0, Result.load)
        if resume and (ended := keeper.ended()) is not None:
            return ended
        began = time.perf_counter()
        hosted = make_host(hosting, env, runs, report=marks, compile="on" if stepping else "off")
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
    bandit: Bandit, env: BanditEnv, seeds: Seeds, marks: list[int], compiled: list[bool], reward_range: Range, host: str
) -> dict[str, Any]:
    return {
        "bandit": describe(bandit), "env": describe(env), "marks": marks, "seeds": describe(seeds), "host": host,
        "device": str(seeds.number.device), "compiled": compiled, "reward_range": reward_range and list(reward_range),
        "torch": torch.__version__,
    }  # fmt: skip
