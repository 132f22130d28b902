"""The configuration of `armfold bandit`: presets, then a TOML file, then flags. `armfold sweep` shares options."""

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from armfold.core.bandits import ALGORITHMS
from armfold.shell.choose import convert, find_environment, is_data, option_kinds, suggest
from armfold.shell.options import RunOptions
from armfold.shell.words import find_flag, read_words, refuse_flags

_DTYPES = Literal["float32", "float64"]
_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclasses.dataclass(frozen=True)
class _Bandits:
    """Learners, their environment, and how they are run."""

    env: str = "bernoulli"
    """bernoulli, gaussian, drifting, abrupt, adversarial, delayed, contextual, digits, a CSV or NPZ file of contexts
    with labels or rewards, or your own as package.module:function."""
    algos: str = "kl_ucb,beta_ts,ucb1"
    """Algorithms, separated by commas (see `armfold list`), or your own as package.module:function. Differences in the
    table are to the first."""
    steps: int = 10_000
    """Steps of each run."""
    runs: int = 4096
    """Independent runs (lanes)."""
    agent_seed: int | None = None
    """Seed of the algorithms' own randomness; the seed where not given."""
    arms: int = 10
    """Number of arms, where the environment leaves it open."""
    features: int = 8
    """Features of each arm in the contextual environment."""
    p: tuple[float, ...] = ()
    """Probabilities of bernoulli, drifting and delayed arms, or of each phase of abrupt ones, --arms numbers a phase;
    drawn from U(0, 1) for each run where not given."""
    mean: tuple[float, ...] = ()
    """Means of gaussian arms; drawn from N(0, 1) for each run where not given."""
    std: float = 1.0
    """Standard deviation of gaussian rewards."""
    sigma: float = 0.1
    """Standard deviation of a step of drifting arms."""
    boundary: Literal["clip", "reflect"] = "clip"
    """What happens to drifting arms that leave [0, 1]."""
    period: int = 1000
    """Steps between changes of abrupt arms."""
    hazard: float | None = None
    """Probability of a change of abrupt arms at each step, in place of a period."""
    gap: float = 0.125
    """How far the best of the adversarial arms lies above the others."""
    growth: float = 1.6
    """How many times longer each phase of adversarial arms is than the one before."""
    delay: int = 100
    """Steps by which rewards of delayed arms are late. Algorithms are told then which step a reward belongs to."""
    scale: float = 1.0
    """Standard deviation of the weights of the contextual environment."""
    context: Literal["shared", "blocks"] = "shared"
    """What data sets show: the same features for every arm, or a block of a longer vector for each."""
    label: str | None = None
    """Label column of a CSV file; "y", "label" or the last column where not given."""
    reward_range: tuple[float, float] | None = None
    """Rewards from LOW to HIGH are rescaled to [0, 1] for algorithms that need it; those outside are refused."""
    device: str = "cpu"
    """Where to run: cpu, cuda, cuda:1, ..."""
    dtype: _DTYPES = "float32"
    """Precision of the algorithms' arithmetic."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile the step: always, never, or where the steps are enough to pay for it."""
    max_memory: str | None = None
    """Memory for a block of runs, such as 512MiB or 2GiB."""


@dataclasses.dataclass(frozen=True)
class Common(RunOptions, _Bandits):
    """What `armfold bandit` and `armfold sweep` are both told."""


@dataclasses.dataclass(frozen=True)
class _Options(Common):
    """Compare bandit algorithms in one environment: thousands of seeded runs, a table, a picture, a run folder."""

    seed: int = 0
    """Seed of arms, contexts and rewards: the same for every algorithm."""
    host: Literal["core", "gymnasium", "pufferlib"] = "core"
    """Who steps the environment: core, in one program with the algorithm; or a Gymnasium vector environment, or native
    PufferLib ones, with actions and rewards handed over at each step. The results are the same; only core keeps
    checkpoints."""
    vector: Literal["serial", "mp"] | None = None
    """How pufferlib steps: serial (in this process) or mp (in processes of their own)."""
    num_workers: int | None = None
    """Environments of pufferlib, each with its share of the runs, and with mp its own process; 1 where not given."""
    batch_size: int | None = None
    """Environments of pufferlib that are handed over at a time, while the others step; all where not given."""
    overwork: bool = False
    """Let pufferlib have more workers than there are cores, which is slow."""
    points: int = 200
    """Points of the regret curve."""
    csv: Path | None = None
    """A file to write the comparison to as well, the same as summary.csv in the run folder."""
    profile: bool = False
    """Say where the time of a step goes, and how much memory it takes."""
    tui: bool = False
    """Show on standard error how all learners are doing, instead of progress bars; without a terminal, a line now and
    then. --quiet silences it."""
    preset: Literal["smoke", "quickstart", "quickstart-digits", "experiment", "benchmark"] | None = None
    """Values to start from: smoke (seconds), quickstart and quickstart-digits (what `make run` shows), experiment
    (10000 steps, 4096 runs), benchmark (compiled, 8192 runs, profiled)."""
    config: Path | None = None
    """A TOML file with any of these options; tables such as [kl_ucb] for an algorithm's own."""
    log_decisions: bool = False
    """Also write decisions-<algorithm>.csv: each decision of the first runs, for `armfold evaluate`."""
    log_replay: bool = False
    """Also write replay-<algorithm>.jsonl: every number of the first runs, which are stepped once more for it, eagerly
    and on the CPU; for `armfold replay verify`."""
    log_runs: int = 1
    """Runs that --log-decisions and --log-replay write; each is stepped once more, eagerly and on the CPU."""
    print_config: bool = False
    """Print the configuration as TOML and stop."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 200, "runs": 256, "points": 20},
    "quickstart": {
        "algos": "kl_ucb,kl_ucb_pp,imed,beta_ts,gaussian_ts,ucb1,ucb_v,moss,epsilon_greedy",
        "steps": 1000,
        "runs": 1024,
    },
    "quickstart-digits": {
        "env": "digits",
        "algos": "lin_ucb,lin_ts,beta_ts",
        "steps": 1000,
        "runs": 64,
    },
    "experiment": {"steps": 10_000, "runs": 4096},
    "benchmark": {"steps": 2000, "runs": 8192, "compile": "on", "profile": True, "verbose": True},
}
_TRANSIENT = frozenset(  # what a run may be resumed with other values of
    [
        "out",
        "resume",
        "csv",
        "vector",
        "num_workers",
        "batch_size",
        "overwork",
        "threads",
        "max_memory",
        "checkpoint_every",
        "profile",
        "verbose",
        "tui",
        "quiet",
        "log_decisions",
        "log_replay",
        "log_runs",
        "preset",
        "config",
        "print_config",
    ]
)


def _tunables_class(name: str) -> type:
    algorithm = ALGORITHMS[name]
    kinds = option_kinds(algorithm.make)
    fields = [
        (key, Annotated[kinds[key], tyro.conf.arg(help="")], dataclasses.field(default=option.default))
        for key, option in algorithm.options.items()
    ]
    return dataclasses.make_dataclass(name, fields, frozen=True)


_TUNED = {name: _tunables_class(name) for name, algorithm in ALGORITHMS.items() if algorithm.options}


def with_tunables(options: type) -> type[Any]:
    """A dataclass with those options and, for each algorithm, its own."""
    # Without a help of their own, tyro would look for one in the source of each class, which has none.
    tuned = [
        (name, Annotated[kind, tyro.conf.arg(help=ALGORITHMS[name].summary)], dataclasses.field(default_factory=kind))
        for name, kind in _TUNED.items()
    ]
    kind = dataclasses.make_dataclass("Config", tuned, bases=(options,), frozen=True)
    kind.__doc__ = options.__doc__
    return kind


Config: type[Any] = with_tunables(_Options)


def parse(argv: list[str]) -> Any:
    """A `Config` from the words of a command line. Raises ValueError for a preset or file that cannot be used."""
    file = find_flag(argv, "config")
    values = {} if file is None else _read(Path(file))
    preset = find_flag(argv, "preset") or values.get("preset")
    if preset is not None and preset not in PRESETS:
        raise suggest("preset", preset, PRESETS)
    start = Config(**((PRESETS[preset] if preset else {}) | values))
    return read_words(Config, args=argv, default=start, prog="armfold bandit", description=_Options.__doc__)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"config {path}: {error}") from error
    kinds = get_type_hints(_Options)
    del kinds["config"]
    if "config" in values:
        raise ValueError(f"config {path}: config is for the command line: a file cannot name another")
    for key in values:
        if key not in kinds and key not in _TUNED:
            raise suggest(f"option in {path}", key, kinds.keys() | _TUNED.keys())
    return {key: _tuned(key, v) if key in _TUNED else convert(key, kinds[key], v) for key, v in values.items()}


def _tuned(algorithm: str, values: Any) -> Any:
    """An algorithm's table of a TOML file."""
    if not isinstance(values, dict):
        raise ValueError(f"{algorithm} must be a table of its tunables, got {values!r}")
    options, kinds = ALGORITHMS[algorithm].options, option_kinds(ALGORITHMS[algorithm].make)
    for name in values:
        if name not in options:
            raise suggest(f"option of {algorithm}", name, options)
    return _TUNED[algorithm](**{name: convert(f"{algorithm}.{name}", kinds[name], v) for name, v in values.items()})


def tunables(config: Any, algorithm: str) -> dict[str, Any]:
    """The options of `algorithm` in a `Config`."""
    return dataclasses.asdict(getattr(config, algorithm)) if algorithm in _TUNED else {}


_OF_DATA = ("context", "label")
_OF_ENVIRONMENTS = (
    *("arms", "features", "p", "mean", "std", "sigma", "scale"),
    *("boundary", "period", "hazard", "gap", "growth", "delay"),
)


def env_options(config: Any) -> dict[str, Any]:
    """The options of environments in a `Config`."""
    return {name: getattr(config, name) for name in _OF_ENVIRONMENTS}


def refuse_idle(argv: list[str], *, env: str, algos: Iterable[str]) -> None:
    """Raise ValueError for a flag that would change nothing: of another environment, or of an algorithm that is not
    run. Those of a file may be there for other runs."""
    known = (
        _OF_DATA if is_data(env) else tuple(name for name in find_environment(env).options if name in _OF_ENVIRONMENTS)
    )
    others = (name for name in (*_OF_DATA, *_OF_ENVIRONMENTS) if name not in known)
    idle = dict.fromkeys(others, f"the options of {env} are {', '.join(known) or 'none'}")
    for name in _TUNED.keys() - set(algos):
        options = (f"{name}.{option}" for option in ALGORITHMS[name].options)
        idle |= dict.fromkeys(options, f"{name} is not among the algorithms")
    refuse_flags(argv, idle)


def memory(config: Any) -> int | None:
    """Bytes that the max_memory of a `Config` means."""
    text = config.max_memory
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"max_memory must be a size such as 512MiB or 2GiB, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def identity(config: Any, algorithms: list[str]) -> dict[str, Any]:
    """What of a `Config` decides the results, as JSON: for config.json and for resuming."""
    values = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(_Options)
        if field.name not in _TRANSIENT
    }
    tuned = {
        name: {key: str(v) if v in (math.inf, -math.inf) else v for key, v in tunables(config, name).items()}
        for name in algorithms
    }
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {**listed, "algos": algorithms, "tunables": tuned}
