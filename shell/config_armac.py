"""The configuration of `armfold armac`: a TOML or YAML file, then flags. Files may be those of seed 2 as well.

docs/seeds.md has every key of the seed's configuration and where it goes.
"""

import contextlib
import dataclasses
import math
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml

from armfold.core.check import check_number
from armfold.core.games.armac import Lambda, Settings
from armfold.shell.choose import convert, suggest
from armfold.shell.config_seed import COUNT, KEYS, OPTIONS, SWITCHES, derive, flatten, spare_temperatures, translate
from armfold.shell.options_armac import CLASSES, DEFAULTS, GROUPS, Config, Options, kinds
from armfold.shell.words import find_flag, flags, read_words, refuse_flags


def parse(argv: list[str]) -> tuple[Any, list[str]]:
    """The configuration that the words of a command line say, and remarks on its file. Raises ValueError for a file
    that cannot be used, words that cannot be read, and flags that would change nothing."""
    path = find_flag(argv, "config")
    file = {} if path is None else _read(Path(path))
    typed = {option.removeprefix("no_") for option in flags(argv).values()}
    config, derived = _resolve(argv, path, file, typed)
    settings(config)  # what is no lambda at all is said first
    made_of = {"init_lambda"} if derived.get("lambda", "learned") != "learned" else set()  # a fixed lambda
    idle = {option: reason for option, reason in _idle(config).items() if option not in made_of}
    refuse_flags(argv, idle)
    spare = spare_temperatures(config.scheduler.mode)
    lost = [key for key in file if _option(key) in idle or key in spare]
    return config, [_remark(Path(path).name, lost, verbose=config.verbose)] if path and lost else []


def _resolve(
    argv: list[str], path: str | None, file: Mapping[str, Any], typed: Collection[str]
) -> tuple[Any, dict[str, Any]]:
    """The configuration by precedence: defaults, keys of the file that are an option, keys that hang on others, flags.
    And the options that the keys that hang on others say."""
    with _blaming(path):
        start = _make({option: value for option, (_, value) in translate(file).items()})
    options = _flat(read_words(Config, args=argv, default=start, prog="armfold armac", description=Options.__doc__))
    check_number("init_lambda", options["init_lambda"], low=0.0, high=1.0)  # lambda may be made of it
    with _blaming(path):
        derived = derive({key: value for key, value in file.items() if _option(key) not in typed}, options)
    return _make(options | derived), derived


@contextlib.contextmanager
def _blaming(path: object) -> Iterator[None]:
    """Errors within it are of a file: they begin with its name."""
    try:
        yield
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"config {path}: {error}") from error


def _remark(name: str, mute: list[str], *, verbose: bool) -> str:
    """What is said of keys that change nothing: other runs may need them, so they are no error."""
    listed, more = mute if verbose else mute[:6], f" and {len(mute) - 6} more (--verbose names them)"
    return f"keys of {name} that change nothing here: {', '.join(listed)}{more if len(listed) < len(mute) else ''}"


def _make(options: Mapping[str, Any]) -> Any:
    """A configuration with some options, by the names that they have in a file."""
    rest = dict(options)
    groups = {
        name: kind(**{field: rest.pop(field) for field in GROUPS[name][1] if field in rest})
        for name, kind in CLASSES.items()
    }
    if "lambda" in rest:
        rest["lam"] = rest.pop("lambda")
    return Config(**rest, **groups)


def _flat(config: Any) -> dict[str, Any]:
    """The options of a configuration, by the names that they have in a file."""
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(Options)}
    own["lambda"] = own.pop("lam")
    return own | {field: getattr(getattr(config, name), field) for name in GROUPS for field in GROUPS[name][1]}


def _read(path: Path) -> dict[str, Any]:
    """What a configuration file says, by its keys."""
    with _blaming(path):
        text = path.read_text(encoding="utf-8")
        told = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else tomllib.loads(text)
        if not isinstance(told, dict | None):
            raise ValueError(f"it must have keys with values, got {type(told).__name__}")
        return {key: _value(key, value) for key, value in flatten(told or {}).items()}


_KINDS = kinds() | {COUNT: int}


def _option(key: str) -> str:
    """The option that a key of a file speaks of."""
    return OPTIONS.get(key, SWITCHES.get(key, key))


def _value(key: str, value: Any) -> Any:
    """A value of a file, as the key's option holds it."""
    if key == "config":
        raise ValueError("config is for the command line: a file cannot name another")
    kind = bool if key in SWITCHES else _KINDS.get(_option(key))
    if kind is None:
        raise suggest("option", key, ["lambda"] if key == "lam" else _KINDS.keys() | KEYS)
    if value is None and NoneType in get_args(kind):
        return None
    if key == "utility_computation.utility_type" and isinstance(value, str):
        value = value.removesuffix("_based")
    if key == "lambda":
        return _lambda_text(value)
    found = convert(key, kind, _number(kind, value))
    if _option(key) == "init_lambda":
        check_number(key, found, low=0.0, high=1.0)
    return found


def _number(kind: Any, value: Any) -> Any:
    """`value` as a number where one is wanted: YAML 1.1 takes 1e-4 for a text."""
    if isinstance(value, list):
        return [_number(get_args(kind)[:1] and get_args(kind)[0], item) for item in value]
    wanted = next((member for member in (kind, *get_args(kind)) if member in (int, float)), None)
    if wanted is None or not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if wanted is int and number.is_integer() else number


def _read_lambda(text: Any) -> tuple[Any, float | None]:
    """What `text` says of lambda, and the number of a fixed one. Files may have what is no text."""
    kind, colon, number = str(text).partition(":")
    try:
        value = float(number) if colon else None
    except ValueError:
        value = math.nan
    if kind not in get_args(Lambda) or (kind == "fixed") != (value is not None) or not 0 <= (value or 0) <= 1:
        raise ValueError(
            f"lambda must be learned, meta, random or fixed:NUMBER with a number in [0, 1], such as fixed:0.5, got "
            f"{text!r}"
        )
    return kind, value


def _lambda_text(text: Any) -> str:
    """`text` in the one way that says it, so that equal ones can be seen to be equal."""
    kind, value = _read_lambda(text)
    return kind if value is None else f"{kind}:{value}"


def settings(config: Any) -> Settings:
    """What ARMAC is to be trained with. Raises ValueError for a lambda that is none."""
    fields = {name: value for group in GROUPS for name, value in dataclasses.asdict(getattr(config, group)).items()}
    kind, value = _read_lambda(config.lam)
    return Settings(**fields, lam=kind, fixed=DEFAULTS["fixed"] if value is None else value)


_SCHEDULER = [name for name in GROUPS["scheduler"][1] if name != "bins"]  # the meta-learner has bins too
_TEMPERATURE = ["tau_start", "tau_end", "tau_steps", "tau_rate"]
# Options that change nothing where a condition holds, and why: the first that does is said.
_USELESS: list[tuple[list[str], Callable[[Any], bool], str]] = [
    (["replay_games", "replay_dir", "replay_tolerance"], lambda c: not c.log_replay, "it is for --log-replay"),
    (["cluster_file", "n_clusters", "update_clusters"], lambda c: c.state_keying.level < 2, "it is for --level 2"),
    (_SCHEDULER, lambda c: c.lam != "learned", "it is for --lambda learned"),
    (["mode", *_TEMPERATURE], lambda c: c.scheduler.continuous, "a continuous lambda needs no bins"),
    (["clamp"], lambda c: not c.scheduler.continuous, "it is for --continuous"),
    (_TEMPERATURE, lambda c: c.scheduler.mode == "hard", "the best bin is the same at every temperature"),
    (["tau_steps"], lambda c: c.scheduler.tau_rate is not None, "--tau-rate is given"),
    (["init_lambda"], lambda c: c.scheduler.warmup == 0, "--warmup is 0"),
    (
        ["gamma", "baseline_window", "min_samples"],
        lambda c: c.utility_computation.utility == "advantage",
        "it is for --utility immediate and hybrid",
    ),
    (
        ["advantage_window"],
        lambda c: c.utility_computation.utility == "immediate",
        "it is for --utility advantage and hybrid",
    ),
]


def _idle(config: Any) -> dict[str, str]:
    """The options that change nothing, each with the reason why."""
    idle: dict[str, str] = {}
    for options, condition, reason in _USELESS:
        if condition(config):
            idle = dict.fromkeys(options, reason) | idle
    return idle
