"""Running a bandit in an environment: thousands of seeded lanes, block after block, step after step."""

import bisect
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import simulate as core
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.buffers import Layout, choose_layout, write
from armfold.shell.compiled import Mode, advance, bind, choose, init_tally, lane_tunables, tensor_tunables
from armfold.shell.describe import describe
from armfold.shell.device import cpu_threads, find_device, synchronize
from armfold.shell.run.keeper import Keeper, kept_layout, open_checkpoint
from armfold.shell.run.profile import log_profile
from armfold.shell.run.result import Gathered, Result, curve_steps
from armfold.shell.run.rewards import Range, check_rewards, fit_rewards
from armfold.shell.run.seeds import Seeds, find_seeds
from armfold.shell.view.progress import Glimpse, Watcher, seldom, track

log = logging.getLogger("armfold")

World = BanditEnv | Callable[[Tensor], BanditEnv]  # an environment, or what makes that of lanes [n]

_STRIDE = 256  # steps that the device takes between two looks of the host, at most
_PATIENCE = 0.5  # seconds until it looks where steps are slow


def env_of_lanes(env: World, lane: Tensor) -> BanditEnv:
    """The environment of these lanes: `env`, or what it makes for them. Its floats become tensors."""
    made = env if isinstance(env, BanditEnv) else env(lane)
    if not isinstance(made, BanditEnv):
        raise ValueError(f"env must be a BanditEnv or make one, made {type(made).__name__}")
    return tensor_tunables(made, lane.device)  # type: ignore[no-any-return]


def check_arms(bandit: Bandit, env: BanditEnv, few: core.Carry) -> None:
    """Raise ValueError unless both have as many arms; `few` is the start of some lanes."""
    chances = bandit.policy(few.bandit, few.bandit_rng, env.observe(few.env), samples=1)
    means = env.means(few.env)
    if chances.shape != means.shape:
        raise ValueError(f"bandit has {chances.shape[-1]} arms, but env has {means.shape[-1]}")


class _Run:
    """Lanes on their way: the block at hand in its buffers, and what the finished ones have left."""

    def __init__(self, bandit: Bandit, env: World, seeds: Seeds, marks: list[int]) -> None:
        self.bandit, self.make_env, self.seeds, self.marks = bandit, env, seeds, marks
        self.runs, self.device = seeds.number.numel(), seeds.number.device
        self.gathered = Gathered(self.runs, len(marks))
        self.held = 0  # lanes that count of the block last stepped

    def allocate(self, max_memory: int | None, layout: Layout | None = None) -> Layout:
        """Choose the layout, where it is not given, and make the buffers."""
        few = self._start(0, 2)
        self.layout = layout or choose_layout(few, few.bandit, runs=self.runs, max_memory=max_memory)
        check_arms(self.learner, self.env, few)
        self.carry: core.Carry = pytree.tree_map(self.layout.lay, self._start(0, self.layout.block))
        self.tally = init_tally(self.layout.block, self.device)
        return self.layout

    def _start(self, block: int, lanes: int) -> core.Carry:
        lane = torch.arange(block * lanes, (block + 1) * lanes, device=self.device).clamp(max=self.runs - 1)
        self.learner: Bandit = lane_tunables(self.bandit, lane, self.runs)  # with the tunables of these lanes
        self.env: BanditEnv = env_of_lanes(self.make_env, lane)
        rng, agent_rng = self.seeds.keys(lane)
        return core.init(self.learner, self.env, rng, agent_rng=agent_rng)

    @property
    def lanes(self) -> int:
        """Lanes of the block at hand that count; the rest only fill it."""
        return min(self.layout.block, self.runs - self.gathered.lanes)

    @property
    def done(self) -> int:
        """Run-steps taken."""
        return self.gathered.lanes * self.marks[-1] + self.gathered.step * self.lanes

    def _add_block(self, steps: int) -> None:
        """Take over what the finished block has summed."""
        end, lanes = self.gathered, self.lanes
        regret, reward, optimal = (x[:lanes].cpu() for x in (self.tally.regret, self.tally.reward, self.tally.optimal))
        end.add_lanes(slice(end.lanes, end.lanes + lanes), regret, reward, optimal, steps)
        end.block, end.step, end.lanes = end.block + 1, 0, end.lanes + lanes

    def glimpse(self) -> Glimpse:
        """How the block last stepped is doing."""
        step = self.gathered.step or self.marks[-1]
        regret = self.tally.regret[: self.held].mean().item()
        optimal = self.tally.optimal[: self.held].to(torch.float64).mean().item() / step
        return Glimpse(self.done, self.runs * self.marks[-1], step, regret, optimal)

    def go(self, advance: Callable[..., None]) -> Iterator[None]:
        """Take all steps that are left; yields every few, where the host may look and a checkpoint may be taken."""
        gathered, last = self.gathered, self.marks[-1]
        while gathered.lanes < self.runs:
            self.held = self.lanes
            start = self._start(gathered.block, self.layout.block)
            if gathered.step == 0:
                write(self.carry, start)
                write(self.tally, init_tally(self.layout.block, self.device))
            step = bind(advance, self.learner, self.env, self.carry, self.tally)
            while gathered.step < last:
                point = bisect.bisect_right(self.marks, gathered.step)
                stop, until = min(self.marks[point], gathered.step + _STRIDE), time.perf_counter() + _PATIENCE
                for _ in range(stop - gathered.step):
                    step()
                    gathered.step += 1
                    if time.perf_counter() >= until:
                        break
                if gathered.step == self.marks[point]:
                    gathered.add_point(point, self.tally.regret[: self.lanes].cpu())
                if gathered.step < last:
                    yield
            self._add_block(last)
            yield

    def live(self) -> dict[str, Tensor]:
        """The block at hand, by name."""
        return {f"live.{i}": leaf for i, leaf in enumerate(pytree.tree_leaves((self.carry, self.tally)))}

    def result(self, seconds: float, compiled: bool) -> Result:
        """What the finished run gave."""
        return self.gathered.result(self.marks, seconds, compiled, self.layout)


def simulate(
    bandit: Bandit,
    env: World,
    *,
    steps: int,
    runs: int,
    seed: int | Tensor = 0,
    agent_seed: int | Tensor | None = None,
    first_run: int | Tensor = 0,
    device: str | torch.device = "cpu",
    compile: Mode = "auto",
    threads: int = 1,
    points: int = 200,
    reward_range: Range = (0.0, 1.0),
    max_memory: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    resume: bool = False,
    progress: bool = True,
    watch: Watcher | None = None,
    profile: bool = False,
    label: str = "bandit",
) -> Result:
    """Run `bandit` in `env` for `steps` steps in `runs` independent lanes.

    Lane i depends on seed, agent_seed (seed where None) and first_run + i alone, bit for bit, whatever `runs` is.
    seed serves the arms, contexts and rewards, which are then the same for every learner; agent_seed the learner. All
    three may be int64 [runs], a value for each lane: lanes that share seed and number meet the same rewards.
    Tunables of the learner are numbers, or tensors [runs] with one for each lane. Those of the environment are numbers;
    to let them differ, give a function of lanes (int64 [n]) that makes the environment of these lanes.
    device: where it runs. compile: "on", "off", or "auto", which compiles where the steps are enough to pay for it.
    threads: of the CPU; one is fastest for small steps. points: of the regret curve.
    reward_range: (low, high) are rescaled to [0, 1] for the learner, and rewards outside are refused; None passes
    rewards on as they are. max_memory: bytes that a block of lanes may take. checkpoint: a folder, written to every
    checkpoint_every seconds; resume goes on from it, in blocks as large as before. watch is called with a Glimpse of
    the run, ten times a second at most and at the end. profile logs where the time goes. label names the progress bar.
    Raises ValueError (CheckpointError, ShapeError) that names the argument at fault.
    """
    for name, value in {"steps": steps, "runs": runs, "points": points, "threads": threads}.items():
        check_size(name, value)
    check_number("checkpoint_every", checkpoint_every, low=0)
    if max_memory is not None:
        check_size("max_memory", max_memory)
    where = find_device(device)
    seeds = find_seeds(seed, agent_seed, first_run, runs=runs, device=where)
    folder = open_checkpoint(checkpoint, resume=resume)
    bandit = fit_rewards(bandit, reward_range)
    with cpu_threads(threads, where), torch.no_grad():
        bandit = tensor_tunables(bandit, where)
        run = _Run(bandit, env, seeds, curve_steps(steps, points))
        layout = run.allocate(max_memory, kept_layout(folder))
        stepping, compiled = choose(advance, compile, device=where, calls=steps * math.ceil(runs / layout.block))
        identity = {
            "bandit": describe(bandit), "env": describe(env), "steps": steps, "runs": runs, "points": points,
            "seed": describe(seed), "agent_seed": describe(seed if agent_seed is None else agent_seed),
            "first_run": describe(first_run), "device": str(where), "compiled": compiled,
            "layout": list(layout), "reward_range": reward_range and list(reward_range), "torch": torch.__version__,
        }  # fmt: skip
        keeper = Keeper(folder, identity, checkpoint_every, Result.load)
        if resume and (ended := keeper.restore(run)) is not None:
            return ended
        log.info("%s: %s, threads %d, compiled %s", label, layout, threads, compiled)
        began = time.perf_counter() - run.gathered.seconds
        looked = seldom(watch, runs * steps, run.glimpse)
        with track(label, runs * steps, enabled=progress) as moved:
            for _ in run.go(stepping):
                check_rewards(run.tally.lowest[: run.held], run.tally.highest[: run.held], reward_range)
                moved(run.done)
                looked(run.done)
                keeper.keep(run, time.perf_counter() - began)
        synchronize(where)
        result = run.result(time.perf_counter() - began, compiled)
        if profile:
            log_profile(label, run.learner, run.env, run.carry, run.tally, stepping)
    return keeper.finish(result)
