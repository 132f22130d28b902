"""Sweeping options of algorithms and of their environment: a table of every point, from lanes that run together."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.shell.buffers import LANES
from armfold.shell.choose import Context
from armfold.shell.compiled import Mode
from armfold.shell.run.compare import open_folder, read_config
from armfold.shell.run.engines import Engine, Name, open_engine
from armfold.shell.run.plan import Plan, make_plan
from armfold.shell.run.result import Result, mean_ci95
from armfold.shell.run.shard import Running, Shard, Shelf, play
from armfold.shell.run.space import Value, Values
from armfold.shell.store.files import write_text
from armfold.shell.view.progress import track

TABLE = "sweep.csv"


class Row(NamedTuple):
    """What a point gave under one seed."""

    algorithm: str
    tunables: dict[str, Value]  # what was swept and concerns the algorithm, by name
    seed: int
    runs: int
    steps: int
    regret_mean: float  # reward unit, at the end
    regret_ci95: float  # half-width
    optimal_rate: float
    reward_mean: float


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave. Row i of a tensor belongs to row i of the table; one column met the same rewards in all rows
    that have the same seed."""

    parameters: list[str]  # names of what was swept
    drawn: list[str]  # those of them that were drawn at random
    rows: list[Row]
    regret: Tensor  # [rows, runs] float64, reward unit, cumulative pseudo-regret at the end
    reward: Tensor  # [rows, runs] float64, reward unit, mean reward a step
    optimal: Tensor  # [rows, runs] float64, share of steps on which a best arm was played

    @property
    def best(self) -> Row:
        """The row of least regret."""
        return min(self.rows, key=lambda row: (math.isnan(row.regret_mean), row.regret_mean))

    def to_csv(self) -> str:
        """The table as text: a column for each parameter, empty where it does not concern the algorithm."""
        return _to_csv(self.parameters, self.rows)


def _to_csv(parameters: Sequence[str], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["algorithm", *parameters, *Row._fields[2:]])
    for row in rows:
        writer.writerow([row.algorithm, *(row.tunables.get(name, "") for name in parameters), *row[2:]])
    return text.getvalue()


class _Rows:
    """The rows of a sweep, from its lanes by point, seed and run as they come."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.seeds = plan, plan.config["seeds"]
        rows = len(plan.points) * len(self.seeds)
        self.lanes = torch.empty((3, rows, plan.config["runs"]), dtype=torch.float64)
        self.missing = torch.full((rows,), plan.config["runs"])  # lanes that have not come yet
        self.rows: dict[int, Row] = {}  # those that are complete, by place

    def add(self, shard: Shard, result: Result) -> None:
        """Take over what a shard gave."""
        lanes = shard.group.locate(torch.arange(shard.first, shard.first + shard.counted))
        places = torch.tensor(shard.group.points)[lanes.point] * len(self.seeds) + lanes.seed
        values = torch.stack((result.regret, result.reward, result.optimal))
        self.lanes[:, places, lanes.run] = values[:, : shard.counted]
        self.missing -= places.bincount(minlength=len(self.missing))
        for place in set(places.tolist()):
            if self.missing[place] == 0:
                self.rows[place] = self._row(place)

    def _row(self, place: int) -> Row:
        point, (regret, reward, optimal) = self.plan.points[place // len(self.seeds)], self.lanes[:, place]
        return Row(
            point.algorithm,
            {parameter.name: value for parameter, value in point.values.items()},
            self.seeds[place % len(self.seeds)],
            self.plan.config["runs"],
            self.plan.config["steps"],
            *mean_ci95(regret),
            optimal_rate=optimal.mean().item(),
            reward_mean=reward.mean().item(),
        )

    def to_csv(self) -> str:
        """The table of the rows that are complete."""
        return _to_csv(self.plan.parameters, (self.rows[place] for place in sorted(self.rows)))

    def sweep(self) -> Sweep:
        """The sweep of the rows that are complete."""
        places = sorted(self.rows)
        drawn = [parameter.name for parameter in self.plan.drawn]
        return Sweep(self.plan.parameters, drawn, [self.rows[place] for place in places], *self.lanes[:, places])


def sweep(
    algos: str | Sequence[str],
    env: str = "bernoulli",
    *,
    grid: Mapping[str, Values] | None = None,
    random: Mapping[str, str] | None = None,
    draws: int | None = None,
    draw_seed: int = 0,
    options: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    agent_seed: int | None = None,
    steps: int = 1000,
    runs: int = 256,
    context: Context = "shared",
    label: str | None = None,
    reward_range: tuple[float, float] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    compile: Mode = "auto",
    threads: int = 1,
    max_memory: int | None = None,
    shard: int = 4096,
    engine: Name = "local",
    num_workers: int | None = None,
    ray_address: str | None = None,
    out: str | Path | None = None,
    checkpoint_every: float = 30.0,
    resume: bool = False,
    progress: bool = True,
) -> Sweep:
    """Run each algorithm at each point of a grid, of random draws, or of both, under each seed.

    algos, env: names, a data set's file, or your own as package.module:function. grid: values by option, as a sequence
    or as text: "a,b,c", "lin:LOW:HIGH:COUNT", "log:LOW:HIGH:COUNT". random: laws by option, "uniform:LOW:HIGH",
    "loguniform:LOW:HIGH" or "randint:LOW:HIGH", drawn together `draws` times from draw_seed. options: values that stay.
    An option is ALGORITHM.OPTION, env.OPTION, or OPTION where it is no other's.
    steps, runs, seeds: of every point. Points that share a seed meet the same rewards in runs of the same number.
    agent_seed, reward_range, device, compile, threads, max_memory, checkpoint_every: as in `simulate`; workers of Ray
    take one thread. context, label: of data sets. dtype: of the learners' arithmetic.
    shard: lanes that run, and are kept, together. engine: "local", or "ray" with num_workers (all cores where None), on
    the cluster at ray_address or else on one that is started for the sweep. out: a folder for config.json, sweep.csv
    and shards; resume goes on with the sweep there, on any engine.
    Raises ValueError that names the argument at fault.
    """
    if resume and out is None:
        raise ValueError("resume needs out: the folder of the sweep to go on with")
    plan = make_plan(
        {
            "env": env, "algos": [algos] if isinstance(algos, str) else algos,
            "grid": grid or {}, "random": random or {}, "draws": draws, "draw_seed": draw_seed,
            "options": options or {}, "seeds": seeds, "agent_seed": agent_seed, "steps": steps, "runs": runs,
            "context": context, "label": label, "reward_range": reward_range, "device": device, "dtype": dtype,
            "compile": compile, "shard": shard,
        }
    )  # fmt: skip
    if engine == "ray" and device != "cpu":
        raise ValueError(f"engine 'ray' runs on the CPU: use engine 'local' for device {device!r}")
    running = Running(threads, max_memory, checkpoint_every)
    for group in plan.groups:  # errors that a few steps show come before anything is written
        play(Shard("trial", group, 0, LANES), running=running, steps=min(steps, 4), compile="off")
    with open_engine(engine, running, num_workers=num_workers, address=ray_address) as run:
        if out is not None:
            open_folder(Path(out), plan.config, resume=resume)
        return _run(plan, run, None if out is None else Path(out), progress=progress)


def _run(plan: Plan, run: Engine, out: Path | None, *, progress: bool) -> Sweep:
    """Run the shards that are left, and write the table whenever one is finished."""
    shelf = Shelf(out, plan.config)
    rows, left = _gather(plan, shelf)
    total, to_do = (sum(shard.lanes for shard in some) * plan.config["steps"] for some in (plan.shards, left))
    if out is not None:
        write_text(out / TABLE, rows.to_csv())
    jobs = [(shard, shelf.folder(shard)) for shard in left]
    with (
        track("sweep", total, enabled=progress) as moved,
        closing(run(jobs, lambda done: moved(total - to_do + done))) as ended,
    ):
        for shard, result in ended:
            shelf.save(shard, result)
            rows.add(shard, result)
            if out is not None:
                write_text(out / TABLE, rows.to_csv())
    return rows.sweep()


def load(out: Path) -> tuple[Sweep, dict[str, Any]]:
    """The finished sweep in a folder, and its configuration. Raises ValueError where it has not ended or is damaged."""
    config = read_config(out)
    try:
        plan = make_plan(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{out / 'config.json'} cannot be read ({type(error).__name__}: {error})") from error
    rows, left = _gather(plan, Shelf(out, config))
    if left:
        missing = f"{len(left)} of {len(plan.shards)} shards missing"
        raise ValueError(f"the sweep in {out} has not ended ({missing}): resume it first")
    return rows.sweep(), config


def _gather(plan: Plan, shelf: Shelf) -> tuple[_Rows, list[Shard]]:
    """What the finished shards on a shelf gave, and the others."""
    rows, left = _Rows(plan), []
    for shard in plan.shards:
        result = shelf.load(shard)
        if result is None:
            left.append(shard)
        else:
            rows.add(shard, result)
    return rows, left
