"""The `armfold sweep` command."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, Literal

import tyro

from armfold.shell import config as configuration
from armfold.shell.choose import find_algorithm, find_environment, is_data
from armfold.shell.run import sweep as run
from armfold.shell.run.plan import known_parameters
from armfold.shell.run.space import Parameter, resolve
from armfold.shell.view.console import log_to_terminal
from armfold.shell.view.sweep import draw_parameters, print_best
from armfold.shell.words import flags, read_words


@dataclasses.dataclass(frozen=True)
class _Options(configuration.Common):
    """Sweep options of algorithms and of their environment: every point in thousands of seeded lanes, one table of all,
    a picture for each option."""

    algos: str = "kl_ucb"
    """Algorithms, separated by commas (see `armfold list`), or your own as package.module:function."""
    steps: int = 1000
    """Steps of each run."""
    threads: int = 1
    """CPU threads; one is fastest for small steps, and what a worker of Ray takes."""
    max_memory: str | None = None
    """Memory for a block of runs, in each worker, such as 512MiB or 2GiB."""
    out: Path | None = None
    """Folder of the sweep; runs/sweep-<env>-<time> where not given. It must be new or empty, unless --resume."""
    runs: int = 256
    """Independent runs (lanes) of each point and seed."""
    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUES, several times for several options. VALUES: a,b,c or lin:LOW:HIGH:COUNT (equal steps) or
    log:LOW:HIGH:COUNT (equal ratios). NAME: ALGORITHM.OPTION such as kl_ucb.c, or an option of the environment such as
    sigma; OPTION alone where it is no other's. What is not swept keeps the value of its own flag."""
    random: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=LAW, several times for several options. LAW: uniform:LOW:HIGH, loguniform:LOW:HIGH or randint:LOW:HIGH.
    Combined with every point of the grid."""
    draws: int | None = None
    """How often --random options are drawn, all together."""
    draw_seed: int = 0
    """Seed of the draws."""
    seeds: str = "0"
    """Seeds of arms, contexts and rewards, separated by commas: each point is run with each. Points that share a seed
    meet the same rewards, run by run."""
    shard: int = 4096
    """Lanes that run, and are kept, together: what a worker of Ray takes at a time."""
    engine: Literal["local", "ray"] = "local"
    """Where shards run: one after another here, or side by side in Ray's workers. The results are the same."""
    num_workers: int | None = None
    """Workers of Ray; all cores where not given."""
    ray_address: str | None = None
    """HOST:PORT of a running Ray cluster, or auto; Ray is started for the sweep where not given."""


_Config: type[Any] = configuration.with_tunables(_Options)


def sweep(argv: list[str]) -> None:
    """Sweep options of algorithms and environments over grids and random draws."""
    config = read_words(_Config, args=argv, prog="armfold sweep", description=inspect.getdoc(_Options))
    log_to_terminal(verbose=config.verbose, quiet=config.quiet)
    algos = list(dict.fromkeys(_words(config.algos)))
    configuration.refuse_idle(argv, env=config.env, algos=algos)
    folder = config.folder(f"sweep-{Path(config.env).stem}")
    grid, random = _pairs("grid", config.grid), _pairs("random", config.random)
    swept = resolve([*grid, *random], known_parameters(config.env, algos))
    same = (
        *("env", "draws", "draw_seed", "agent_seed", "steps", "runs", "context", "label", "reward_range", "device"),
        *("dtype", "compile", "threads", "shard", "engine", "num_workers", "ray_address", "checkpoint_every", "resume"),
    )
    found = run.sweep(
        algos,
        grid=grid,
        random=random,
        options=_fixed(config, algos, argv=argv, swept=swept),
        seeds=_seeds(config.seeds),
        max_memory=configuration.memory(config),
        out=folder,
        progress=not config.quiet,
        **{name: getattr(config, name) for name in same},
    )
    _report(found, folder, config.env, quiet=config.quiet)


def show_sweep(folder: Path) -> None:
    """Show a finished sweep again, from the files in its folder."""
    found, config = run.load(folder)
    _report(found, folder, config["env"], quiet=False)


def _report(found: run.Sweep, folder: Path, env: str, *, quiet: bool) -> None:
    row = found.rows[0]
    seeds = len({row.seed for row in found.rows})
    title = f"{env}: regret after {row.steps} steps, {row.runs} runs" + (f" under {seeds} seeds" if seeds > 1 else "")
    pictures = draw_parameters(found, folder, title=title)
    print_best(found, title=title)
    if not quiet:
        print("\n".join([f"table: {folder / run.TABLE}", *(f"picture: {path}" for path in pictures)]))


def _fixed(config: Any, algos: list[str], *, argv: list[str], swept: list[Parameter]) -> dict[str, Any]:
    """The options that flags give, and those whose default is the command's own, unless they are swept."""
    given = {option if "." in option else f"env.{option}" for option in flags(argv).values()}
    varied = {parameter.full_name for parameter in swept}
    sources = {name: (find_algorithm(name).options, configuration.tunables(config, name)) for name in algos}
    if not is_data(config.env):
        sources["env"] = (find_environment(config.env).options, configuration.env_options(config))
    fixed = {}
    for owner, (options, values) in sources.items():
        for option in (option for option in values if option in options):
            name, value = f"{owner}.{option}", values[option]
            own = value not in ((), None, options[option].default)
            if name in given or (own and name not in varied):
                fixed[name] = value
    return fixed


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _pairs(option: str, words: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not (name and equals):
            raise ValueError(f"{option} must be NAME={'VALUES' if option == 'grid' else 'LAW'}, got {word!r}")
        if name in pairs:
            raise ValueError(f"{option}: {name} is given twice")
        pairs[name] = text
    return pairs


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        raise ValueError(f"seeds must be integers separated by commas, got {text!r}") from None
