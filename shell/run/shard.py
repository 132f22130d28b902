"""The lanes of a sweep: groups that share one program, cut into shards that run, and are kept, one by one."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.envs import ENVIRONMENTS
from armfold.core.types import BanditEnv
from armfold.shell.buffers import LANES
from armfold.shell.choose import Context, env_shape, find_algorithm, make_bandit, make_env
from armfold.shell.run.bandit import simulate
from armfold.shell.run.result import Result
from armfold.shell.store import checkpoint as store
from armfold.shell.view.progress import Watcher


class Lanes(NamedTuple):
    """Lanes of a group: which point, seed and run each one is. All int64 [n]."""

    point: Tensor
    seed: Tensor
    run: Tensor


class Group(NamedTuple):
    """Points of one algorithm that differ in float tunables alone: lanes of one program. Plain values only."""

    algorithm: str
    env: str
    options: dict[str, Any]  # of the learner, the same in all lanes
    env_options: dict[str, Any]
    tunables: dict[str, list[float]]  # of the learner, a value for each point
    env_tunables: dict[str, list[float]]
    points: list[int]  # their places in the sweep
    seeds: list[int]
    runs: int  # of each point and seed
    settings: dict[str, Any]  # what else `simulate` is told, and context, label and dtype

    @property
    def lanes(self) -> int:
        """How many there are."""
        return len(self.points) * len(self.seeds) * self.runs

    def locate(self, lane: Tensor) -> Lanes:
        """What lanes int64 [n] are: all runs of the first point's first seed, then of its second seed, and so on."""
        return Lanes(lane // self.runs // len(self.seeds), lane // self.runs % len(self.seeds), lane % self.runs)


class Shard(NamedTuple):
    """Some lanes of a group, from `first` on; those past the group's end repeat its last."""

    name: str
    group: Group
    first: int
    lanes: int

    @property
    def counted(self) -> int:
        """Lanes that are not past the end."""
        return min(self.lanes, self.group.lanes - self.first)


class Running(NamedTuple):
    """What `simulate` is told that changes nothing of what it gives."""

    threads: int = 1
    max_memory: int | None = None
    checkpoint_every: float = 30.0


class Shelf:
    """The folder where a sweep keeps its shards, each marked with the sweep and its place there; none without `out`."""

    def __init__(self, out: Path | None, config: Mapping[str, Any]) -> None:
        self.out, self.config = out, json.dumps(config, sort_keys=True)

    def folder(self, shard: Shard) -> Path | None:
        """Where a shard leaves its checkpoint and, in the end, its result."""
        return None if self.out is None else self.out / "shards" / shard.name

    def _mark(self, shard: Shard) -> str:
        place = f"{self.config} {shard.name} {shard.first} {shard.lanes}"
        return hashlib.sha256(place.encode()).hexdigest()[:16]

    def load(self, shard: Shard) -> Result | None:
        """The result of a shard, None where it has not ended. Raises CheckpointError where it is damaged or another."""
        folder = self.folder(shard)
        if folder is None or not store.exists(folder):
            return None
        mark = store.load(folder)[1].get("shard")
        if mark is None:  # half-way, or stopped before it was marked: its run checks what it goes on from
            return None
        if mark != self._mark(shard):
            raise store.CheckpointError(f"checkpoint {folder} is of another shard or sweep: delete it, and resume")
        return Result.load(folder)

    def save(self, shard: Shard, result: Result) -> None:
        """Keep the result of a shard, marked. What ran it may have left it there too, or on another machine's disk."""
        folder = self.folder(shard)
        if folder is not None:
            store.save(folder, result.tensors(), {"result": result.facts(), "shard": self._mark(shard)})


def cut(name: str, group: Group, most: int) -> list[Shard]:
    """The shards of a group: equally long, so that they share compiled code, and of at most about `most` lanes."""
    count = math.ceil(group.lanes / most)
    lanes = math.ceil(group.lanes / count / LANES) * LANES
    return [Shard(f"{name}-{i}", group, first, lanes) for i, first in enumerate(range(0, group.lanes, lanes))]


def play(
    shard: Shard,
    *,
    folder: Path | None = None,
    running: Running,
    watch: Watcher | None = None,
    **changed: Any,
) -> Result:
    """Run a shard, from the checkpoint in `folder` where there is one; the result is left there."""
    group = shard.group
    settings = {**group.settings, **changed}
    lane = (shard.first + torch.arange(shard.lanes)).clamp(max=group.lanes - 1)
    place = group.locate(lane)
    context, label, dtype = (settings.pop(name) for name in ("context", "label", "dtype"))
    env = partial(_make_env, world=group.env, options=group.env_options, context=context, label=label)
    values = _per_lane(group.env_tunables, place.point)
    try:
        arms, features = env_shape(env({name: column[0] for name, column in group.env_tunables.items()}))
        bandit = make_bandit(
            find_algorithm(group.algorithm),
            {**group.options, **_per_lane(group.tunables, place.point)},
            arms=arms,
            features=features,
            dtype=getattr(torch, dtype),
            delay=delay_of(group.env, group.env_options),
        )
        return simulate(
            bandit,
            partial(_env_of_lanes, make=env, **values) if values else env({}),
            runs=shard.lanes,
            seed=_seeds(group.seeds)[place.seed],
            first_run=place.run,
            points=1,
            checkpoint=folder,
            resume=folder is not None,
            **running._asdict(),
            progress=False,
            watch=watch,
            label=shard.name,
            **settings,
        )
    except ShapeError as error:
        raise ValueError(f"{group.algorithm} in {group.env}: {error}") from error


def delay_of(env: str, options: Mapping[str, Any]) -> int:
    """Steps by which the rewards of an environment are late: what learners are told."""
    if env != "delayed":
        return 0
    return options.get("delay", ENVIRONMENTS[env].options["delay"].default)  # type: ignore[no-any-return]


def _per_lane(tunables: dict[str, list[float]], point: Tensor) -> dict[str, Tensor]:
    return {name: torch.tensor(values, dtype=torch.float64)[point] for name, values in tunables.items()}


def _seeds(seeds: list[int]) -> Tensor:
    return torch.tensor([seed - 2**64 if seed >= 2**63 else seed for seed in seeds])  # the same 64 bits


def _make_env(
    tunables: Mapping[str, Any], *, world: str, options: dict[str, Any], context: Context, label: str | None
) -> BanditEnv:
    return make_env(world, {**options, **tunables}, context=context, label=label)


def _env_of_lanes(lane: Tensor, /, *, make: partial[BanditEnv], **tunables: Tensor) -> BanditEnv:
    """The environment of these lanes of a shard; `tunables` [lanes of the shard]."""
    return make({name: values[lane.cpu()].to(lane.device) for name, values in tunables.items()})
