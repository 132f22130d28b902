"""The `armfold bandit` command."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from armfold.core.check import ShapeError
from armfold.shell import config as configuration
from armfold.shell.choose import env_shape, find_algorithm, make_bandit, make_env
from armfold.shell.device import find_device
from armfold.shell.replay.bandit import Facts, record_bandit
from armfold.shell.run import compare
from armfold.shell.run.bandit import simulate
from armfold.shell.run.decisions import log_decisions
from armfold.shell.run.hosted import simulate_hosted
from armfold.shell.run.hosts import Hosting, check_host
from armfold.shell.run.result import Result, tabulate
from armfold.shell.store.files import find_place
from armfold.shell.toml import to_toml
from armfold.shell.view.console import log_to_terminal
from armfold.shell.view.dashboard import Dashboard
from armfold.shell.view.table import print_comparison
from armfold.shell.words import refuse_flags


def bandit(argv: list[str]) -> None:
    """Compare bandit algorithms in one environment."""
    config = configuration.parse(argv)
    if config.print_config:
        print(to_toml(config), end="")
        return
    names = list(dict.fromkeys(name.strip() for name in config.algos.split(",") if name.strip()))
    if not names:
        raise ValueError(f"algos must name at least one algorithm, got {config.algos!r}")
    configuration.refuse_idle(argv, env=config.env, algos=names)
    if not (config.log_decisions or config.log_replay):
        refuse_flags(argv, {"log_runs": "it is for --log-decisions and --log-replay"})
    elif not 1 <= config.log_runs <= config.runs:
        raise ValueError(f"log_runs must be an integer in [1, runs], got {config.log_runs}")
    find_device(config.device)
    check_host(_hosting(config), config.runs)
    if config.host != "core" and config.max_memory is not None:
        raise ValueError(f"max_memory is for host 'core', got {config.max_memory!r} with host {config.host!r}")
    env = make_env(config.env, configuration.env_options(config), context=config.context, label=config.label)
    learners = {name: _make_learner(config, name, env) for name in names}
    identity = configuration.identity(config, names)
    folder = config.folder(Path(config.env).stem)
    for name, learner in learners.items():  # errors that a few steps show come before anything is written
        _simulate(config, name, learner, env, steps=min(config.steps, 4), runs=min(config.runs, 64), compile="off")
    console = log_to_terminal(verbose=config.verbose or config.profile, quiet=config.quiet)
    csv = find_place("csv", config.csv)
    compare.open_folder(folder, identity, resume=config.resume)
    results = _compare(config, learners, env, folder, console)
    _log_steps(config, folder, learners, env)
    _report(folder, results, identity, csv=csv, quiet=config.quiet)


def _compare(config: Any, learners: dict[str, Any], env: Any, folder: Path, console: Console) -> dict[str, Result]:
    if not config.tui or config.quiet:
        return {name: _simulate(config, name, learner, env, folder=folder) for name, learner in learners.items()}
    title = f"{config.env}, {config.steps} steps, {config.runs} runs"
    results = {}
    with Dashboard(list(learners), steps=config.steps, title=title, device=config.device, console=console) as board:
        for name, learner in learners.items():
            results[name] = _simulate(
                config, name, learner, env, folder=folder, progress=False, watch=board.watcher(name)
            )
            board.finish(name, results[name])
    return results


def _log_steps(config: Any, folder: Path, learners: dict[str, Any], env: Any) -> None:
    """What --log-decisions and --log-replay want of the first runs."""
    for name, learner in learners.items():
        same = {
            "steps": config.steps,
            "runs": config.log_runs,
            "seed": config.seed,
            "agent_seed": config.agent_seed,
            "reward_range": _reward_range(config, name),
        }
        progress, file_name = not config.quiet, compare.file_name(name)
        if config.log_decisions:
            path, label = folder / f"decisions-{file_name}.csv", f"decisions of {name}"
            log_decisions(learner, env, path, label=label, progress=progress, **same)
        if config.log_replay:
            facts = Facts(
                name,
                config.env,
                tunables=configuration.tunables(config, name),
                env_options=configuration.env_options(config),
                context=config.context,
                label=config.label,
                dtype=config.dtype,
                delay=_delay(config),
                **same,
            )
            record_bandit(folder / f"replay-{file_name}.jsonl", facts, progress=progress)


def _simulate(config: Any, name: str, learner: Any, env: Any, *, folder: Path | None = None, **changed: Any) -> Result:
    settings = {
        "steps": config.steps,
        "runs": config.runs,
        "seed": config.seed,
        "agent_seed": config.agent_seed,
        "device": config.device,
        "compile": config.compile,
        "threads": config.threads,
        "points": config.points,
        "reward_range": _reward_range(config, name),
        "max_memory": configuration.memory(config),
        "checkpoint_every": config.checkpoint_every,
        "progress": folder is not None and not config.quiet,
        "profile": folder is not None and config.profile,
    }
    if folder is not None:
        settings |= {
            "checkpoint": compare.result_folder(folder, name),
            "resume": config.resume,
            "label": name,
        }
    try:
        if config.host != "core" and folder is not None:
            return simulate_hosted(learner, env, **_hosted(config, {**settings, **changed}))
        return simulate(learner, env, **{**settings, **changed})
    except ShapeError as error:
        raise ValueError(f"{name} in {config.env}: {error}") from error


def _hosted(config: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run against a host; it cannot keep an environment that is elsewhere."""
    only_core = ("max_memory", "checkpoint_every")
    return {name: value for name, value in settings.items() if name not in only_core} | _hosting(config)._asdict()


def _hosting(config: Any) -> Hosting:
    return Hosting(*(getattr(config, name) for name in Hosting._fields))


def show_comparison(folder: Path) -> None:
    """Show a finished run again, from the files in its folder."""
    _report(folder, *compare.load(folder), quiet=False)


def _report(
    folder: Path, results: dict[str, Result], identity: dict[str, Any], *, csv: Path | None = None, quiet: bool
) -> None:
    paths = compare.save(folder, results, identity, csv=csv)
    seconds = {name: result.seconds for name, result in results.items()}
    first = next(iter(results.values()))
    title = f"{identity['env']}: regret after {first.steps} steps, {first.regret.numel()} runs"
    print_comparison(tabulate(results), seconds, reference=next(iter(results)), title=title)
    if not quiet:
        print(f"table: {paths[0]}\nrecords: {paths[1]}\npicture: {paths[2]}")


def _make_learner(config: Any, name: str, env: Any) -> Any:
    arms, features = env_shape(env)
    return make_bandit(
        find_algorithm(name),
        configuration.tunables(config, name),
        arms=arms,
        features=features,
        dtype=getattr(torch, config.dtype),
        delay=_delay(config),
    )


def _delay(config: Any) -> int:
    return config.delay if config.env == "delayed" else 0


def _reward_range(config: Any, name: str) -> tuple[float, float] | None:
    if find_algorithm(name).rewards == "real":
        return None
    return config.reward_range or (0.0, 1.0)
