"""Running a bandit in an environment: thousands of seeded lanes, block after block, step after step."""

import bisect
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core import simulate as core
from armfold.core.check import check_number, check_seed, check_size
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.buffers import Layout, choose_layout, write
from armfold.shell.compiled import Mode, Tally, advance, bind, choose, init_tally, lane_tunables, tensor_tunables
from armfold.shell.describe import describe
from armfold.shell.device import cpu_threads, find_device, synchronize
from armfold.shell.run.profile import log_profile
from armfold.shell.run.result import NORMAL_95, Result
from armfold.shell.store import checkpoint as store
from armfold.shell.view.progress import Glimpse, Watcher, track

log = logging.getLogger("armfold")

World = BanditEnv | Callable[[Tensor], BanditEnv]  # an environment, or what makes that of lanes [n]

_STRIDE = 256  # steps that the device takes between two looks of the host


class _Gathered:
    """What a run has gathered so far and where it is: all that a checkpoint holds beside the block's own state."""

    def __init__(self, runs: int, points: int) -> None:
        self.block = 0  # blocks finished
        self.step = 0  # steps taken in the block at hand
        self.lanes = 0  # lanes of the finished blocks
        self.seconds = 0.0
        self.regret = torch.zeros(runs, dtype=torch.float64)
        self.reward = torch.zeros(runs, dtype=torch.float64)
        self.optimal = torch.zeros(runs, dtype=torch.float64)
        self.mean = torch.zeros(points, dtype=torch.float64)
        self.square = torch.zeros(points, dtype=torch.float64)  # sum of squared deviations from the mean

    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def place(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not isinstance(value, Tensor)}

    def add_point(self, point: int, regret: Tensor) -> None:
        """Merge a block's regrets at one point of the curve (Chan, Golub and LeVeque 1979)."""
        count, mean = regret.numel(), regret.mean()
        gap, total = mean - self.mean[point], self.lanes + count
        self.square[point] += ((regret - mean) ** 2).sum() + gap * gap * self.lanes * count / total
        self.mean[point] += gap * count / total

    def add_block(self, tally: Tally, lanes: int, steps: int) -> None:
        """Take over what a finished block has summed."""
        here = slice(self.lanes, self.lanes + lanes)
        self.regret[here] = tally.regret[:lanes].cpu()
        self.reward[here] = tally.reward[:lanes].cpu() / steps
        self.optimal[here] = tally.optimal[:lanes].cpu().to(torch.float64) / steps
        self.block, self.step, self.lanes = self.block + 1, 0, self.lanes + lanes


def curve_steps(steps: int, points: int) -> list[int]:
    """At most `points` evenly spaced steps, the last one included."""
    points = min(points, steps)
    return [math.ceil(steps * (i + 1) / points) for i in range(points)]


class Seeds(NamedTuple):
    """What the keys of each lane come from."""

    env: Tensor  # [runs, 2] int64, key of the seed that serves arms, contexts and rewards
    agent: Tensor  # [runs, 2] int64, key of the learner's seed
    number: Tensor  # [runs] int64, number of the lane

    def keys(self, lane: Tensor) -> tuple[Tensor, Tensor]:
        """The runs' keys [n, 2] at lane [n]: for the environment and for the learner."""
        number = self.number[lane]
        return random.fold_in(self.env[lane], number), random.fold_in(self.agent[lane], number)


def find_seeds(
    seed: int | Tensor, agent_seed: int | Tensor | None, number: int | Tensor, *, runs: int, device: torch.device
) -> Seeds:
    """The seeds of `runs` lanes: each an integer (the first one's, of lanes' numbers), or int64 [runs]."""
    agent_seed = seed if agent_seed is None else agent_seed
    for name, value in {"seed": seed, "agent_seed": agent_seed, "first_run": number}.items():
        if isinstance(value, Tensor) and (value.dtype != torch.int64 or value.shape != (runs,)):
            raise ValueError(f"{name} must be an integer or int64 [{runs}], got {value.dtype} {tuple(value.shape)}")
        if not isinstance(value, Tensor) and name != "first_run":
            check_seed(name, value)
    if not isinstance(number, Tensor):
        check_size("first_run", number, low=0)
        number = number + torch.arange(runs)
    env, agent = (random.key(value, device=device).expand(runs, 2) for value in (seed, agent_seed))
    return Seeds(env, agent, number.to(device))


def env_of_lanes(env: World, lane: Tensor) -> BanditEnv:
    """The environment of these lanes: `env`, or what it makes for them. Its floats become tensors."""
    made = env if isinstance(env, BanditEnv) else env(lane)
    if not isinstance(made, BanditEnv):
        raise ValueError(f"env must be a BanditEnv or make one, made {type(made).__name__}")
    return tensor_tunables(made, lane.device)  # type: ignore[no-any-return]


class _Run:
    """Lanes on their way: the block at hand in its buffers, and what the finished ones have left."""

    def __init__(self, bandit: Bandit, env: World, seeds: Seeds, marks: list[int]) -> None:
        self.bandit, self.make_env, self.seeds, self.marks = bandit, env, seeds, marks
        self.runs, self.device = seeds.number.numel(), seeds.number.device
        self.gathered = _Gathered(self.runs, len(marks))
        self.held = 0  # lanes that count of the block last stepped

    def allocate(self, max_memory: int | None) -> Layout:
        """Choose the layout and make the buffers."""
        few = self._start(0, 2)
        self.layout = choose_layout(few, few.bandit, runs=self.runs, max_memory=max_memory)
        chances = self.learner.policy(few.bandit, few.bandit_rng, self.env.observe(few.env), samples=1)
        means = self.env.means(few.env)
        if chances.shape != means.shape:
            raise ValueError(f"bandit has {chances.shape[-1]} arms, but env has {means.shape[-1]}")
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
                stop = min(self.marks[point], gathered.step + _STRIDE)
                for _ in range(stop - gathered.step):
                    step()
                gathered.step = stop
                if stop == self.marks[point]:
                    gathered.add_point(point, self.tally.regret[: self.lanes].cpu())
                if stop < last:
                    yield
            gathered.add_block(self.tally, self.lanes, last)
            yield

    def check(self, reward_range: tuple[float, float] | None) -> None:
        """Raise ValueError where the block at hand has met a reward that is not finite or out of range."""
        faults = int((self.carry.faults[: self.held] > 0).sum())
        if faults:
            raise ValueError(f"reward was not finite in {faults} lanes: paid so, or for an action outside [0, K)")
        low, high = float(self.tally.lowest[: self.held].min()), float(self.tally.highest[: self.held].max())
        if reward_range is not None and (low < reward_range[0] or high > reward_range[1]):
            raise ValueError(
                f"reward outside [{reward_range[0]:g}, {reward_range[1]:g}]: met values from {low:.6g} to {high:.6g}; "
                "give a reward_range (low, high) that holds them all, or None for a learner of unbounded rewards"
            )

    def live(self) -> dict[str, Tensor]:
        """The block at hand, by name."""
        return {f"live.{i}": leaf for i, leaf in enumerate(pytree.tree_leaves((self.carry, self.tally)))}

    def restore(self, tensors: dict[str, Tensor], place: dict[str, Any]) -> None:
        """Take over a checkpoint. Raises CheckpointError where something is missing from it."""
        wanted = self.gathered.tensors().keys() | self.live().keys()
        if place.keys() != self.gathered.place().keys() or not wanted <= tensors.keys():
            raise store.CheckpointError("a part of the run is missing from it")
        vars(self.gathered).update({name: tensors[name] for name in self.gathered.tensors()}, **place)
        write((self.carry, self.tally), [tensors[name] for name in self.live()])

    def result(self, seconds: float, compiled: bool) -> Result:
        """What the finished run gave."""
        end = self.gathered
        deviation = torch.sqrt(end.square / (self.runs - 1) / self.runs)  # NaN for one run
        return Result(
            regret=end.regret,
            reward=end.reward,
            optimal=end.optimal,
            curve_t=torch.tensor(self.marks),
            curve_mean=end.mean,
            curve_ci95=NORMAL_95 * deviation,
            steps=self.marks[-1],
            seconds=seconds,
            compiled=compiled,
            layout=self.layout,
        )


class _Keeper:
    """The checkpoint of a run: restores it, keeps it every few seconds, and leaves the result in its place."""

    def __init__(self, folder: Path | None, identity: dict[str, Any], every: float) -> None:
        self.folder, self.identity, self.every = folder, identity, every
        self.saved = 0.0  # seconds into the run
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise store.CheckpointError(f"checkpoint {folder} cannot be a folder ({error})") from error

    def restore(self, run: _Run) -> Result | None:
        """Set `run` back to the checkpoint, where there is one; the result, where it had ended."""
        if self.folder is None or not store.exists(self.folder):
            return None
        tensors, facts = store.load(self.folder)
        before = facts.get("identity", {})
        names = self.identity.keys() | before.keys()
        changed = sorted(name for name in names if self.identity.get(name) != before.get(name))
        if changed:
            raise store.CheckpointError(
                f"checkpoint {self.folder} is of another run: {', '.join(changed)} differ; "
                "give another folder, or do not resume"
            )
        if "result" in facts:
            return Result.load(self.folder)
        try:
            run.restore(tensors, facts.get("progress", {}))
        except store.CheckpointError as error:
            raise store.CheckpointError(f"checkpoint {self.folder}: {error}; delete it, or do not resume") from error
        self.saved = run.gathered.seconds
        return None

    def keep(self, run: _Run, seconds: float) -> None:
        """Write a checkpoint if the last one is old enough; `seconds` is the time that the run has taken."""
        if self.folder is not None and seconds - self.saved >= self.every:
            self.saved = run.gathered.seconds = seconds
            facts = {"identity": self.identity, "progress": run.gathered.place()}
            store.save(self.folder, {**run.gathered.tensors(), **run.live()}, facts)

    def finish(self, result: Result) -> Result:
        """Write the result in place of the checkpoint."""
        if self.folder is not None:
            store.save(self.folder, result.tensors(), {"identity": self.identity, "result": result.facts()})
        return result


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
    reward_range: tuple[float, float] | None = (0.0, 1.0),
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
    checkpoint_every seconds; resume goes on from it. watch is called every few steps with a Glimpse of the run.
    profile logs where the time goes. label names the progress bar.
    Raises ValueError (CheckpointError, ShapeError) that names the argument at fault.
    """
    for name, value in {"steps": steps, "runs": runs, "points": points, "threads": threads}.items():
        check_size(name, value)
    check_number("checkpoint_every", checkpoint_every, low=0)
    if max_memory is not None:
        check_size("max_memory", max_memory)
    where = find_device(device)
    seeds = find_seeds(seed, agent_seed, first_run, runs=runs, device=where)
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None and store.exists(folder) and not resume:
        raise store.CheckpointError(f"checkpoint {folder} exists: pass resume=True to go on, or another folder")
    if reward_range is not None and len(reward_range) != 2:
        raise ValueError(f"reward_range must be (low, high) or None, got {reward_range!r}")
    if reward_range is not None and tuple(reward_range) != (0.0, 1.0):
        bandit = core.rescale_rewards(bandit, *reward_range)
    with cpu_threads(threads, where), torch.no_grad():
        bandit = tensor_tunables(bandit, where)
        run = _Run(bandit, env, seeds, curve_steps(steps, points))
        layout = run.allocate(max_memory)
        stepping, compiled = choose(advance, compile, device=where, calls=steps * math.ceil(runs / layout.block))
        identity = {
            "bandit": describe(bandit), "env": describe(env), "steps": steps, "runs": runs, "points": points,
            "seed": describe(seed), "agent_seed": describe(seed if agent_seed is None else agent_seed),
            "first_run": describe(first_run), "device": str(where), "compiled": compiled,
            "layout": list(layout), "reward_range": reward_range and list(reward_range), "torch": torch.__version__,
        }  # fmt: skip
        keeper = _Keeper(folder, identity, checkpoint_every)
        if resume and (ended := keeper.restore(run)) is not None:
            return ended
        log.info("%s: %s, threads %d, compiled %s", label, layout, threads, compiled)
        began = time.perf_counter() - run.gathered.seconds
        with track(label, runs * steps, enabled=progress) as moved:
            for _ in run.go(stepping):
                run.check(reward_range)
                moved(run.done)
                if watch is not None:
                    watch(run.glimpse())
                keeper.keep(run, time.perf_counter() - began)
        synchronize(where)
        result = run.result(time.perf_counter() - began, compiled)
        if profile:
            log_profile(label, run.learner, run.env, run.carry, run.tally, stepping)
    return keeper.finish(result)
