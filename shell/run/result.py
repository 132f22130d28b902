"""What a run gathers and gives, and how results compare."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from armfold.shell.buffers import Layout
from armfold.shell.run.keeper import Gathering
from armfold.shell.store import checkpoint as store

NORMAL_95 = 1.959964  # two-sided 95% of a normal


@dataclass(frozen=True)
class Result:
    """What a run of `runs` lanes over `steps` steps gave. Tensors lie on the CPU."""

    regret: Tensor  # [runs] float64, reward unit, cumulative pseudo-regret at the end
    reward: Tensor  # [runs] float64, reward unit, mean reward a step
    optimal: Tensor  # [runs] float64, share of steps on which a best arm was played
    curve_t: Tensor  # [points] int64, steps
    curve_mean: Tensor  # [points] float64, reward unit, mean cumulative pseudo-regret over lanes
    curve_ci95: Tensor  # [points] float64, reward unit, half-width of its 95% confidence interval
    steps: int
    seconds: float  # wall time of the run, compilation included, earlier parts of a resumed run included
    compiled: bool
    layout: Layout

    @property
    def reward_mean(self) -> float:
        """Mean reward a step, over lanes and steps."""
        return self.reward.mean().item()

    @property
    def optimal_rate(self) -> float:
        """Share of steps on which a best arm was played, over lanes and steps."""
        return self.optimal.mean().item()

    def save(self, folder: str | Path) -> None:
        """Write the result to `folder` as a safetensors file and a JSON manifest; `Result.load` reads it."""
        store.save(Path(folder), self.tensors(), {"result": self.facts()})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The result that `save` wrote. Raises CheckpointError where the files are damaged or missing."""
        return store.load_result(Path(folder), lambda layout, **fields: cls(**fields, layout=Layout(*layout)))

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def facts(self) -> dict[str, Any]:
        """The rest of it, by name, as JSON."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, Tensor)}


def curve_steps(steps: int, points: int) -> list[int]:
    """At most `points` evenly spaced steps, the last one included."""
    points = min(points, steps)
    return [math.ceil(steps * (i + 1) / points) for i in range(points)]


class Gathered(Gathering):
    """What a bandit's run has gathered so far: sums over time of the lanes that are finished, and the curve."""

    def __init__(self, runs: int, points: int) -> None:
        super().__init__()
        self.block = 0  # blocks finished
        self.step = 0  # steps taken in the block at hand
        self.lanes = 0  # lanes of the finished blocks
        self.regret = torch.zeros(runs, dtype=torch.float64)
        self.reward = torch.zeros(runs, dtype=torch.float64)
        self.optimal = torch.zeros(runs, dtype=torch.float64)
        self.mean = torch.zeros(points, dtype=torch.float64)
        self.square = torch.zeros(points, dtype=torch.float64)  # sum of squared deviations from the mean
        self.seen = torch.zeros(points, dtype=torch.int64)  # lanes that these are of

    def add_point(self, point: int, regret: Tensor) -> None:
        """Merge the regrets of some lanes at one point of the curve (Chan, Golub and LeVeque 1979)."""
        count, mean, before = regret.numel(), regret.mean(), int(self.seen[point])
        gap, total = mean - self.mean[point], before + count
        self.square[point] += ((regret - mean) ** 2).sum() + gap * gap * before * count / total
        self.mean[point] += gap * count / total
        self.seen[point] = total

    def add_lanes(self, here: slice, regret: Tensor, reward: Tensor, optimal: Tensor, steps: int) -> None:
        """Take over what finished lanes have summed over their steps."""
        self.regret[here] = regret
        self.reward[here] = reward / steps
        self.optimal[here] = optimal.to(torch.float64) / steps

    def result(self, marks: list[int], seconds: float, compiled: bool, layout: Layout) -> Result:
        """What a finished run gave; `marks` are the steps of the points."""
        runs = self.regret.numel()
        deviation = torch.sqrt(self.square / (runs - 1) / runs)  # NaN for one run
        return Result(
            regret=self.regret,
            reward=self.reward,
            optimal=self.optimal,
            curve_t=torch.tensor(marks),
            curve_mean=self.mean,
            curve_ci95=NORMAL_95 * deviation,
            steps=marks[-1],
            seconds=seconds,
            compiled=compiled,
            layout=layout,
        )


class Row(NamedTuple):
    """A line of the comparison; differences are paired lane by lane with the first learner."""

    algorithm: str
    regret_mean: float  # reward unit, at the end
    regret_ci95: float  # half-width
    difference: float  # regret less that of the first learner
    difference_ci95: float
    optimal_rate: float
    reward_mean: float
    runs: int
    steps: int


def mean_ci95(x: Tensor) -> tuple[float, float]:
    """The mean of x [n], and the half-width of its 95% confidence interval: NaN for one value."""
    spread = x.std(correction=1).item() if x.numel() > 1 else math.nan
    return x.mean().item(), NORMAL_95 * spread / math.sqrt(x.numel())


def tabulate(results: dict[str, Result]) -> list[Row]:
    """A row for each result, least regret first. `results` begins with the learner the others are compared with."""
    reference = next(iter(results.values())).regret
    rows = [
        Row(
            name,
            *mean_ci95(result.regret),
            *mean_ci95(result.regret - reference),
            result.optimal_rate,
            result.reward_mean,
            result.regret.numel(),
            result.steps,
        )
        for name, result in results.items()
    ]
    return sorted(rows, key=lambda row: row.regret_mean)
