"""The configuration of `armfold bandit`: presets, then a TOML file, then flags, each over the one before."""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from armfold.core.bandits import ALGORITHMS
from armfold.shell.choose import suggest

_DTYPES = Literal["float32", "float64"]


@dataclasses.dataclass(frozen=True)
class _Options:
    """Compare bandit algorithms in one environment: thousands of seeded runs, a table, a picture, a run folder."""

    env: str = "bernoulli"
    """bernoulli, gaussian, drifting, contextual, digits, a CSV or NPZ file, or your own as package.module:function."""
    algos: str = "kl_ucb,beta_ts,ucb1"
    """Algorithms, separated by commas (see `armfold list`), or your own as package.module:function. Differences in the
    table are to the first."""
    steps: int = 10_000
    """Steps of each run."""
    runs: int = 4096
    """Independent runs (lanes)."""
    seed: int = 0
    """Seed of arms, contexts and rewards: the same for every algorithm."""
    agent_seed: int | None = None
    """Seed of the algorithms' own randomness; the seed where not given."""
    arms: int = 10
    """Number of arms, where the environment leaves it open."""
    features: int = 8
    """Features of each arm in the contextual environment."""
    p: tuple[float, ...] = ()
    """Probabilities of bernoulli and drifting arms; drawn from U(0, 1) for each run where not given."""
    mean: tuple[float, ...] = ()
    """Means of gaussian arms; drawn from N(0, 1) for each run where not given."""
    std: float = 1.0
    """Standard deviation of gaussian rewards."""
    sigma: float = 0.1
    """Standard deviation of a step of drifting arms."""
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
    threads: int = 1
    """CPU threads; one is fastest for small steps."""
    max_memory: str | None = None
    """Memory for a block of runs, such as 512MiB or 2GiB."""
    points: int = 200
    """Points of the regret curve."""
    out: Path | None = None
    """Run folder; runs/<env>-<time> where not given. It must be new or empty, unless --resume."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints."""
    profile: bool = False
    """Say where the time of a step goes, and how much memory it takes."""
    verbose: bool = False
    """Say more."""
    quiet: bool = False
    """Say nothing but the table and errors."""
    preset: Literal["smoke", "quickstart", "quickstart-digits", "experiment", "benchmark"] | None = None
    """Values to start from: smoke (seconds), quickstart and quickstart-digits (what `make run` shows), experiment
    (10000 steps, 4096 runs), benchmark (compiled, 8192 runs, profiled)."""
    config: Path | None = None
    """A TOML file with any of these options; tables such as [kl_ucb] for an algorithm's own."""
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
_TRANSIENT = ("out", "resume", "checkpoint_every", "profile", "verbose", "quiet", "preset", "config", "print_config")


def _tunables_class(name: str) -> type:
    algorithm = ALGORITHMS[name]
    fields = [
        (key, Annotated[float, tyro.conf.arg(help=algorithm.summary)], dataclasses.field(default=default))
        for key, default in algorithm.tunables.items()
    ]
    return dataclasses.make_dataclass(name, fields, frozen=True)


_TUNED = {name: _tunables_class(name) for name, algorithm in ALGORITHMS.items() if algorithm.tunables}

Config: type[Any] = dataclasses.make_dataclass(
    "Config",
    [(name, kind, dataclasses.field(default_factory=kind)) for name, kind in _TUNED.items()],
    bases=(_Options,),
    frozen=True,
)
Config.__doc__ = _Options.__doc__


def _flag(argv: list[str], name: str) -> str | None:
    for i, word in enumerate(argv):
        if word == f"--{name}" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def parse(argv: list[str]) -> Any:
    """A `Config` from the words of a command line. Raises ValueError for a preset or file that cannot be used."""
    preset, file = _flag(argv, "preset"), _flag(argv, "config")
    if preset is not None and preset not in PRESETS:
        raise suggest("preset", preset, PRESETS)
    values = dict(PRESETS[preset]) if preset else {}
    if file is not None:
        values |= _read(Path(file))
    start = Config(**{key: _typed(key, value) for key, value in values.items()})
    return tyro.cli(Config, args=argv, default=start, prog="armfold bandit", description=_Options.__doc__)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"config {path}: {error}") from error
    known = {field.name for field in dataclasses.fields(Config)}
    for key in values:
        if key not in known:
            raise suggest(f"option in {path}", key, known)
    return values


def _typed(key: str, value: Any) -> Any:
    """A value of a TOML file as the option `key` holds it. Raises ValueError for one of another kind."""
    if key in _TUNED:
        known = ALGORITHMS[key].tunables
        for name, number in dict(value).items():
            if name not in known:
                raise suggest(f"tunable of {key}", name, known)
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ValueError(f"{key}.{name} must be a number, got {number!r}")
        return _TUNED[key](**value)
    default = getattr(_Options, key)
    if isinstance(value, list):
        return tuple(value)
    if key in ("out", "config"):
        return Path(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and not isinstance(default, tuple) and type(value) is not type(default):
        raise ValueError(f"{key} must be {type(default).__name__}, got {value!r}")
    return value


def tunables(config: Any, algorithm: str) -> dict[str, float]:
    """The tunables of `algorithm` in a `Config`."""
    return dataclasses.asdict(getattr(config, algorithm)) if algorithm in _TUNED else {}


def identity(config: Any, algorithms: list[str]) -> dict[str, Any]:
    """What of a `Config` decides the results, as JSON: for config.json and for resuming."""
    values = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(_Options)
        if field.name not in _TRANSIENT
    }
    tuned = {
        name: {key: str(v) if math.isinf(v) else v for key, v in tunables(config, name).items()} for name in algorithms
    }
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {**listed, "algos": algorithms, "tunables": tuned}


def to_toml(config: Any) -> str:
    """A `Config` as a TOML file that --config reads."""
    lines, tables = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in _TUNED:
            inner = [f"{key} = {_toml(number)}" for key, number in dataclasses.asdict(value).items()]
            tables += ["", f"[{field.name}]", *inner]
        elif value is not None and field.name not in ("config", "print_config", "preset"):
            lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines + tables) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
