"""What training ARMAC gave: the policies and the curve of a seed, how seeds compare, and the tables written of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from armfold.core.games import Tree, armac, expected_value, exploitability
from armfold.core.games.armac import Info, Settings, State
from armfold.core.games.decisions import Decisions
from armfold.core.regret import (
    EpisodeMetrics,
    KMeans,
    MetaRegretStats,
    Mixed,
    MixingStats,
    episode_metrics,
    meta_regret_stats,
    mixing_stats,
)
from armfold.shell.run.compare import read_config, write_tables
from armfold.shell.store import checkpoint as store

_PLAIN = (
    *("exploitability", "exploitability_last", "exploitability_actor", "exploitability_regret", "value"),
    *("tau", "critic_loss", "regret_loss", "average_loss", "scheduler_kl"),
)
_PARTS: dict[str, type[Any]] = {"mixing": MixingStats, "meta": MetaRegretStats, "games": EpisodeMetrics}
# What is measured at each point of the curve: exploitabilities of the average policy, of the one that was played and of
# its two parts; what the average policy is worth to the first player; the temperature; losses; and the core's figures.
MEASURES = (*_PLAIN, *(f"{part}_{name}" for part, kind in _PARTS.items() for name in kind._fields))


class Trained(NamedTuple):
    """What a seed has learned. Tensors lie on the CPU. I infosets, A actions, M clusters of views with F numbers."""

    average: Tensor  # [I, A] float64, the average policy as its network says it: what is to be played
    last: Tensor  # [I, A] float, what was played in the last epoch: actor and regret policy, mixed
    actor: Tensor  # [I, A] float
    regret: Tensor  # [I, A] float
    lam: Tensor  # [I] float in [0, 1], the actor's share in the last epoch
    centre: Tensor  # [M, F] float, of the clusters that fine keys are made of
    weight: Tensor  # [M] float64, of the clusters
    curve_epoch: Tensor  # [points] int64
    curve_seconds: Tensor  # [points] float64, CPU time until then
    curve: Tensor  # [points, len(MEASURES)] float64
    game: str  # its fingerprint
    epochs: int
    seconds: float  # CPU time, measuring and keeping included, earlier parts of a resumed run included

    def measure(self, name: str) -> Tensor:
        """The curve [points] of one of MEASURES."""
        return self.curve[:, MEASURES.index(name)]

    @property
    def clusters(self) -> KMeans:
        """The clusters of views."""
        return KMeans(self.centre, self.weight)

    def save(self, folder: str | Path) -> None:
        """Write it to `folder`, as a safetensors file and a JSON manifest; `Trained.load` reads it."""
        store.save(Path(folder), self.tensors(), {"result": self.facts()})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote. Raises CheckpointError where the files are damaged or missing."""
        found = store.load_result(Path(folder), cls)
        if found.curve.shape[1:] != (len(MEASURES),):
            raise store.CheckpointError(f"{folder} is of another version of armfold, which measured other things")
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}

    def facts(self) -> dict[str, Any]:
        """The rest of it, by name, as JSON."""
        return {name: value for name, value in self._asdict().items() if not isinstance(value, Tensor)}


def average_policy(tree: Tree, points: Decisions, state: State) -> Tensor:
    """The average policy [I, A] in float64, whose rows sum to 1 as closely as that can say."""
    said = armac.average_policy(tree, points, state.nets).to(torch.float64)
    return said / said.sum(1, keepdim=True)


def measure(tree: Tree, points: Decisions, state: State, info: Info, settings: Settings) -> Tensor:
    """MEASURES after an epoch: float64 [len(MEASURES)]."""
    average = average_policy(tree, points, state)
    policies = torch.stack([average, info.policy, info.actor, info.regret_policy], 2)
    parts = {
        "mixing": mixing_stats(Mixed(info.policy, info.lam), info.actor, info.regret_policy, legal=tree.legal),
        "meta": meta_regret_stats(state.meta, smoothing_factor=settings.smoothing_factor),
        "games": _games(info),
    }
    plain = (
        *exploitability(tree, policies),
        expected_value(tree, policies[:, :, 0]),
        *(info.tau, info.critic_loss, info.regret_loss, info.average_loss, info.scheduler_kl),
    )
    return torch.stack([x.to(torch.float64) for x in (*plain, *(x for part in parts.values() for x in part))])


def _games(info: Info) -> EpisodeMetrics:
    """Figures of the epoch's games, in which players explore; returns are the first player's."""
    games = info.games
    infoset, decided = games.infoset.T.clamp(min=0), games.infoset.T >= 0
    last = torch.arange(len(games.player), device=games.player.device) == (games.length - 1).unsqueeze(1)
    reward = torch.where(decided & last, games.payoff.unsqueeze(1), 0)
    return episode_metrics(reward.to(info.lam.dtype), info.lam[infoset], info.policy[infoset], valid=decided)


def tabulate(trained: Mapping[int, Trained]) -> list[dict[str, Any]]:
    """A row for each seed with what was measured last, and one of their means."""
    ends = {str(seed): found.curve[-1] for seed, found in trained.items()}
    ends["mean"] = torch.stack(list(ends.values())).mean(0)
    epochs = next(iter(trained.values())).epochs
    return [{"seed": name, "epochs": epochs, **_named(end)} for name, end in ends.items()]


def _named(measured: Tensor) -> dict[str, Any]:
    return dict(zip(MEASURES, measured.tolist(), strict=True))


def row_seconds(trained: Mapping[int, Trained]) -> dict[str, float]:
    """The CPU time of each row of `tabulate`."""
    seconds = {str(seed): found.seconds for seed, found in trained.items()}
    return {**seconds, "mean": sum(seconds.values()) / len(seconds)}


def save(
    folder: Path, trained: Mapping[int, Trained], config: dict[str, Any], *, csv: Path | None = None
) -> list[Path]:
    """Write summary.csv, also to `csv` where that is given, and records.jsonl. Returns the paths of both."""
    points = [
        {"seed": seed, "epoch": epoch, "seconds": seconds, **_named(measured)}
        for seed, found in trained.items()
        for epoch, seconds, measured in zip(
            found.curve_epoch.tolist(), found.curve_seconds.tolist(), found.curve, strict=True
        )
    ]
    return write_tables(folder, tabulate(trained), points, config, row_seconds(trained), csv=csv)


def load(folder: Path) -> tuple[dict[int, Trained], dict[str, Any]]:
    """What the seeds of a run folder have learned, and its configuration. Raises ValueError where one has not ended."""
    config = read_config(folder)
    paths = {seed: checkpoint_path(folder / "checkpoint", seed) for seed in config["seeds"]}
    missing = [str(seed) for seed, path in paths.items() if not store.exists(path)]
    if missing:
        raise ValueError(f"the run in {folder} has not ended (seeds {', '.join(missing)} missing): resume it first")
    return {seed: Trained.load(path) for seed, path in paths.items()}, config


def checkpoint_path(folder: str | Path, seed: int) -> Path:
    """Where a checkpoint has the seed's part, and in the end what it has learned."""
    return Path(folder) / f"seed-{seed}"
