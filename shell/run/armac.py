"""Training ARMAC: seed after seed and epoch after epoch, with the exploitability measured on the way."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import check_number, check_seed, check_size
from armfold.core.games import MAX_HISTORIES, Rules, Tree
from armfold.core.games.armac import Info, Settings, State
from armfold.core.games.decisions import Decisions, decisions
from armfold.core.regret import KMeans
from armfold.shell.describe import describe
from armfold.shell.device import cpu_threads
from armfold.shell.games import find_again, find_tree, fingerprint
from armfold.shell.replay.armac import Facts, check_games, describe_epoch
from armfold.shell.replay.record import Recorder, ReplayError, check_whole
from armfold.shell.run.epochs import begin, check_settings, train
from armfold.shell.run.keeper import Gathering, Keeper, open_checkpoint
from armfold.shell.run.result import curve_steps
from armfold.shell.run.training import MEASURES, Trained, average_policy, checkpoint_path, measure
from armfold.shell.view.progress import track


class _Curve(Gathering):
    """What has been measured so far, and what was played last."""

    def __init__(self, tree: Tree, points: int) -> None:
        super().__init__()
        self.epoch = 0
        self.measured = 0  # points
        self.curve = torch.zeros((points, len(MEASURES)), dtype=torch.float64)
        self.curve_seconds = torch.zeros(points, dtype=torch.float64)
        self.last, self.actor, self.regret = (torch.zeros(tree.legal.shape) for _ in range(3))
        self.lam = torch.zeros(len(tree.legal))


class Job(NamedTuple):
    """What seeds are trained on, see `prepare`."""

    tree: Tree
    points: Decisions
    name: str  # of the game, as `armfold armac --game` takes it
    settings: Settings
    epochs: int
    seeds: tuple[int, ...]
    marks: list[int]  # epochs after which is measured
    clusters: KMeans | None  # of views, to begin with
    threads: int
    replay_games: int  # recorded of each epoch

    def identity(self, seed: int) -> dict[str, Any]:
        """What decides a seed's results, as JSON."""
        fields = {
            name: describe(getattr(self, name)) for name in ("settings", "epochs", "marks", "clusters", "threads")
        }
        return {**fields, "rules": fingerprint(self.tree), "seed": seed, "torch": torch.__version__}

    def facts(self, seed: int) -> Facts:
        """What a seed is computed again from."""
        return Facts(
            game=self.name,
            rules=fingerprint(self.tree),
            settings=self.settings._asdict(),
            seed=seed,
            epochs=self.epochs,
            games=self.replay_games,
            clusters=self.clusters,
            threads=self.threads,
        )


class _Run:
    """A seed on its way."""

    def __init__(self, job: Job, seed: int, replay: Path | None) -> None:
        self.job, self.seed, self.replay, self.began = job, seed, replay, time.process_time()
        self.state = begin(job.tree, job.points, seed, job.settings, job.clusters)
        self.gathered = _Curve(job.tree, len(job.marks))

    def live(self) -> dict[str, Tensor]:
        """The state, by name."""
        return {f"live.{i}": leaf for i, leaf in enumerate(pytree.tree_leaves(self.state))}

    @property
    def seconds(self) -> float:
        """CPU time so far."""
        return time.process_time() - self.began

    def go(self) -> Iterator[None]:
        """Train to the end; yields after each epoch, where a checkpoint may be taken."""
        at, job = self.gathered, self.job
        self.began = time.process_time() - at.seconds
        epochs = train(job.tree, job.points, self.state, job.settings, epochs=job.epochs, threads=job.threads)
        with self._recorder() as recorder:
            for state, info in epochs:
                self._take(state, info)
                if recorder is not None:
                    recorder.write(**describe_epoch(job.tree, job.points, state, info, job.replay_games))
                yield

    def _recorder(self) -> AbstractContextManager[Recorder | None]:
        """The replay file, which goes on behind the epochs done."""
        if self.replay is None:
            return nullcontext()
        facts = self.job.facts(self.seed)._asdict()
        return Recorder(replay_path(self.replay, self.seed), "armac", facts, after=self.gathered.epoch)

    def _take(self, state: State, info: Info) -> None:
        """Take over what an epoch did, and measure where a point of the curve is."""
        at, job = self.gathered, self.job
        self.state, at.epoch = state, at.epoch + 1
        at.last, at.actor, at.regret, at.lam = info.policy, info.actor, info.regret_policy, info.lam
        if at.epoch == job.marks[at.measured]:
            at.curve[at.measured] = measure(job.tree, job.points, state, info, job.settings)
            at.curve_seconds[at.measured] = self.seconds
            at.measured += 1

    def note(self) -> str:
        """What was measured last, for those who watch."""
        average, last, *_ = self.gathered.curve[self.gathered.measured - 1].tolist()
        return f"exploitability {average:.3g}, of last {last:.3g}" if self.gathered.measured else ""

    def trained(self) -> Trained:
        """What was learned."""
        at, job = self.gathered, self.job
        return Trained(
            average=average_policy(job.tree, job.points, self.state),
            **{name: getattr(at, name) for name in ("last", "actor", "regret", "lam", "curve", "curve_seconds")},
            **self.state.clusters._asdict(),
            curve_epoch=torch.tensor(job.marks),
            game=fingerprint(job.tree),
            epochs=job.epochs,
            seconds=self.seconds,
        )


def replay_path(folder: str | Path, seed: int) -> Path:
    """The replay file of a seed."""
    return Path(folder) / f"replay-{seed}.jsonl"


def prepare(
    game: str | Rules | Tree,
    *,
    name: str | None = None,
    settings: Settings | None = None,
    epochs: int = 200,
    seeds: Sequence[int] = (0,),
    points: int = 50,
    clusters: KMeans | None = None,
    threads: int = 1,
    replay_games: int = 2,
    max_histories: int = MAX_HISTORIES,
) -> Job:
    """What `run_armac` is told, checked, with nothing written. Raises ValueError that names the argument at fault."""
    for option, value in {"epochs": epochs, "points": points, "threads": threads}.items():
        check_size(option, value)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different integers, one at least, got {tuple(seeds)}")
    settings = settings or Settings()
    check_games(settings, replay_games)
    tree = find_tree(game, max_histories=max_histories)
    name = name or (game if isinstance(game, str) else tree.rules.name)
    where = decisions(tree)
    check_settings(tree, where, settings)
    for seed in seeds:
        check_seed("seeds", seed)
    begin(tree, where, seeds[0], settings, clusters)  # which looks at the clusters
    marks = curve_steps(epochs, points)
    return Job(tree, where, name, settings, epochs, tuple(seeds), marks, clusters, threads, replay_games)


def run_armac(
    game: str | Rules | Tree,
    *,
    settings: Settings | None = None,
    epochs: int = 200,
    seeds: Sequence[int] = (0,),
    points: int = 50,
    clusters: KMeans | None = None,
    threads: int = 1,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    resume: bool = False,
    replay: str | Path | None = None,
    replay_games: int = 2,
    name: str | None = None,
    max_histories: int = MAX_HISTORIES,
    progress: bool = True,
) -> dict[int, Trained]:
    """Train ARMAC on a game of two players from each of some seeds, one after the other: what each has learned.

    game: its tree, its rules, or its name as `armfold armac --game` takes it. settings: None for the defaults. points:
    of the curve, at most, evenly spaced; the last epoch is one. clusters: of views, to begin with instead of new ones,
    for keys of level 2. threads: of the CPU. checkpoint: a folder, where each seed keeps everything every
    checkpoint_every seconds of CPU time; resume goes on from it, bit for bit. replay: a folder for replay-<seed>.jsonl,
    which say what every epoch played, with its first replay_games games, for `armfold replay verify`. name: of the
    game, to make it again by, where it is not that of its rules. max_histories: that it is unfolded to, at most.
    Raises ValueError (CheckpointError, ReplayError) that names the argument at fault.
    """
    job = prepare(
        game,
        name=name,
        settings=settings,
        epochs=epochs,
        seeds=seeds,
        points=points,
        clusters=clusters,
        threads=threads,
        replay_games=replay_games,
        max_histories=max_histories,
    )
    return run_job(
        job, checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume, replay=replay, progress=progress
    )


def run_job(
    job: Job,
    *,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    resume: bool = False,
    replay: str | Path | None = None,
    progress: bool = True,
) -> dict[int, Trained]:
    """`run_armac` of what has been prepared."""
    check_number("checkpoint_every", checkpoint_every, low=0)
    places = {seed: None if checkpoint is None else checkpoint_path(checkpoint, seed) for seed in job.seeds}
    for place in places.values():
        open_checkpoint(place, resume=resume)  # refused before the first seed is trained
    if replay is not None:
        find_again(job.name, fingerprint(job.tree))  # which finds out whether the name makes this game
    keepers = {
        seed: Keeper(place, job.identity(seed), checkpoint_every, Trained.load) for seed, place in places.items()
    }
    if replay is not None:
        for seed, keeper in keepers.items():
            if keeper.ended() is not None:
                _check_recorded(job, seed, replay)
    trained = {}
    with cpu_threads(job.threads, torch.device("cpu")):
        for seed, keeper in keepers.items():
            run = _Run(job, seed, None if replay is None else Path(replay))
            ended = keeper.restore(run) if resume else None
            trained[seed] = keeper.finish(_train(run, keeper, progress=progress)) if ended is None else ended
    return trained


def _check_recorded(job: Job, seed: int, replay: str | Path) -> None:
    """Raise ReplayError unless a seed that has ended was recorded."""
    try:
        check_whole(replay_path(replay, seed), "armac", job.facts(seed)._asdict())
    except ReplayError as error:
        raise ReplayError(f"replay {replay} must hold seed {seed}, which has ended: {error}") from error


def _train(run: _Run, keeper: Keeper[Trained], *, progress: bool) -> Trained:
    with track(f"seed {run.seed}", run.job.epochs, enabled=progress) as moved:
        for _ in run.go():
            moved(run.gathered.epoch, run.note())
            keeper.keep(run, run.seconds)
    return run.trained()
