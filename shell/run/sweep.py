"""Sweeping options of algorithms and of their environment: thousands of lanes for each point, one table of all."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from armfold.shell.choose import find_algorithm, find_environment, is_data
from armfold.shell.run.space import (
    Value,
    check_draws,
    combine,
    draw_values,
    find_parameters,
    read_values,
    resolve,
)


class Row(NamedTuple):
    """What a point gave under one seed. Tunables are those of the sweep that concern its algorithm."""

    algorithm: str
    tunables: dict[str, Value]
    seed: int
    runs: int
    steps: int
    regret_mean: float  # reward unit, at the end
    regret_ci95: float  # half-width
    optimal_rate: float
    reward_mean: float


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave. Row i of a tensor belongs to row i of the table; equal columns met equal rewards."""

    parameters: list[str]  # what was swept
    drawn: list[str]  # those of them that were drawn at random
    rows: list[Row]
    regret: Tensor  # [rows, runs] float64, reward unit, cumulative pseudo-regret at the end
    reward: Tensor  # [rows, runs] float64, reward unit, mean reward a step
    optimal: Tensor  # [rows, runs] float64, share of steps on which a best arm was played

    def best(self) -> Row:
        """The row of least regret."""
        return min(self.rows, key=lambda row: row.regret_mean)

    def to_csv(self) -> str:
        """The table as text: a column for each parameter, empty where it does not concern the algorithm."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["algorithm", *self.parameters, *Row._fields[2:]])
        for row in self.rows:
            writer.writerow([row.algorithm, *(row.tunables.get(name, "") for name in self.parameters), *row[2:]])
        return text.getvalue()


class Plan:
    """Points, groups and shards of a sweep; nothing of it depends on the engine."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.algorithms = [find_algorithm(name) for name in config["algos"]]
        env = None if is_data(config["env"]) else find_environment(config["env"])
        known = find_parameters(self.algorithms, env)
        grid, law = dict(config["grid"]), dict(config["random"])
        swept = resolve([*grid, *law], known)
        self.fixed = {p: config["options"][name] for name, p in _pairs(config["options"], known) if p not in swept}
        self.grid = {p: read_values(p, values) for p, values in zip(swept, grid.values())}
        check_draws(law, config["draws"], config["draw_seed"])
        self.drawn = {
            p: draw_values(p, text, config["draws"], config["draw_seed"])
            for p, text in zip(swept[len(grid) :], law.values())
        }
        self.points = combine(config["algos"], self.grid, self.drawn)
        self._check()

    @property
    def parameters(self) -> list[str]:
        """The names of what is swept."""
        return [p.name for p in (*self.grid, *self.drawn)]
