"""The `armfold armac` command."""

import logging
import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from armfold.core.check import check_number, check_size
from armfold.core.games import Tree, exploitability, uniform
from armfold.core.regret import KMeans
from armfold.shell.config_armac import parse, settings
from armfold.shell.describe import describe
from armfold.shell.games import find_again, find_tree, fingerprint
from armfold.shell.run import compare
from armfold.shell.run.armac import Job, prepare, replay_path, run_job
from armfold.shell.run.training import Trained, load, save
from armfold.shell.store.clusters import read_clusters, write_clusters
from armfold.shell.store.files import check_writable, find_place
from armfold.shell.store.policies import write_policy
from armfold.shell.view.armac import draw_training, print_training
from armfold.shell.view.console import log_to_terminal

log = logging.getLogger("armfold")


def armac(argv: list[str]) -> None:
    """Train ARMAC on a game: regret matching with networks, and an actor that counts as much as lambda says."""
    config, remarks = parse(argv)
    log_to_terminal(verbose=config.verbose, quiet=config.quiet)
    for remark in remarks:
        log.warning("%s", remark)
    check_size("seeds", config.seeds)
    check_number("replay_tolerance", config.replay_tolerance, low=0)
    check_number("checkpoint_every", config.checkpoint_every, low=0)
    folder = config.folder(f"armac-{config.game}")
    cluster_file = _cluster_file(config)
    job = prepare(
        find_tree(config.game, max_histories=config.max_histories),
        name=config.game,
        settings=settings(config),
        epochs=config.epochs,
        seeds=range(config.seed, config.seed + config.seeds),
        points=config.points,
        clusters=_clusters(config, cluster_file, folder),
        threads=config.threads,
        replay_games=config.replay_games,
    )
    csv = find_place("csv", config.csv)
    if cluster_file is not None and not cluster_file.is_file():
        check_writable("cluster_file", cluster_file)
    replay = _replay_folder(config, folder)
    identity = _identity(config, job)
    compare.open_folder(folder, identity, resume=config.resume)
    trained = run_job(
        job,
        checkpoint=folder / "checkpoint",
        checkpoint_every=config.checkpoint_every,
        resume=config.resume,
        replay=replay,
        progress=not config.quiet,
    )
    _write(folder, job, trained, cluster_file)
    _report(folder, job.tree, trained, identity, csv=csv, quiet=config.quiet)
    if replay is not None and not config.quiet:
        print(f"replays: {_verify_command(config.replay_tolerance, (replay_path(replay, seed) for seed in trained))}")


def _replay_folder(config: Any, folder: Path) -> Path | None:
    """Where replay files go, where they are wanted."""
    if not config.log_replay:
        return None
    place: Path = folder if config.replay_dir is None else config.replay_dir / folder.name
    if config.replay_dir is not None and not config.resume and place.exists():
        raise ValueError(
            f"replay_dir {config.replay_dir} has files of a run {folder.name} already: give --out another name"
        )
    return place


def _verify_command(tolerance: float, paths: Iterable[Path]) -> str:
    """What to type to have replays verified."""
    return shlex.join(["armfold", "replay", "verify", "--tolerance", f"{tolerance:g}", *map(str, paths)])


def _cluster_file(config: Any) -> Path | None:
    """The file of clusters, where keys are made of them."""
    if config.state_keying.level != 2:
        return None
    path: Path | None = config.cluster_file
    if path is not None and path.suffix == ".pkl":
        path = path.with_suffix(".safetensors")
        log.warning("cluster_file %s is taken as %s: nothing is ever unpickled", config.cluster_file, path)
    return path


def _clusters(config: Any, path: Path | None, folder: Path) -> KMeans | None:
    """The clusters to begin with, where there are any."""
    if path is None or not path.is_file():
        return None
    if config.resume and (folder / "config.json").is_file() and compare.read_config(folder).get("clusters") is None:
        return None  # the run began without a file, and may have written this one
    return read_clusters(path)


def _identity(config: Any, job: Job) -> dict[str, Any]:
    """What decides the results, as JSON: for config.json and for resuming."""
    own = {
        name: getattr(config, name) for name in ("game", "epochs", "points", "threads", "log_replay", "replay_games")
    }
    told = {name: _plain(value) for name, value in job.settings._asdict().items()}
    replay_dir = config.replay_dir and str(config.replay_dir)
    facts = {"rules": fingerprint(job.tree), "clusters": describe(job.clusters), "replay_dir": replay_dir}
    return {"algos": ["armac"], **own, "seeds": list(job.seeds), **facts, "settings": told}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return list(value) if isinstance(value, tuple) else value


def _write(folder: Path, job: Job, trained: Mapping[int, Trained], cluster_file: Path | None) -> None:
    """Policies as tables, and clusters where keys are made of them."""
    for seed, found in trained.items():
        write_policy(folder / f"policy-{seed}.csv", job.tree, found.average)
        if job.settings.level == 2:
            write_clusters(folder / f"clusters-{seed}.safetensors", found.clusters)
    if cluster_file is not None and not cluster_file.exists():
        write_clusters(cluster_file, next(iter(trained.values())).clusters)


def show_training(folder: Path) -> None:
    """Show a finished run again, from the files in its folder and the rules of its game."""
    trained, config = load(folder)
    _report(folder, find_again(config["game"], config["rules"]), trained, config, quiet=False)


def _report(
    folder: Path,
    tree: Tree,
    trained: Mapping[int, Trained],
    config: dict[str, Any],
    *,
    csv: Path | None = None,
    quiet: bool,
) -> None:
    told = config["settings"]
    lam = f"fixed:{told['fixed']:g}" if told["lam"] == "fixed" else told["lam"]
    title = f"{tree.rules.name}: ARMAC, lambda {lam}, {len(trained)} seed{'s' * (len(trained) > 1)}"
    summary, records = save(folder, trained, config, csv=csv)
    picture = folder / "exploitability.png"
    draw_training(trained, picture, uniform=exploitability(tree, uniform(tree)).item(), title=title)
    print_training(trained, title=title)
    if not quiet:
        policies = [f"policy: {folder / f'policy-{seed}.csv'}" for seed in trained]
        print("\n".join([f"table: {summary}", f"records: {records}", f"picture: {picture}", *policies]))
