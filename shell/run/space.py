"""What a sweep goes through: options by name, the values that a line of text gives them, and their products."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from armfold.core import catalogue, random
from armfold.core.bandits import ALGORITHMS, Algorithm
from armfold.core.check import check_seed, check_size
from armfold.core.envs import Environment
from armfold.shell.choose import convert, option_kinds, suggest

Value = float | int | str
Values = str | Value | Sequence[Value]

_GRID = "give values as a,b,c, as lin:LOW:HIGH:COUNT or as log:LOW:HIGH:COUNT"
_LAWS = "give it as uniform:LOW:HIGH, loguniform:LOW:HIGH or randint:LOW:HIGH"


class Parameter(NamedTuple):
    """An option that a sweep may change."""

    name: str  # as columns and pictures have it
    algorithm: str | None  # whose it is; None: the environment's
    option: str  # keyword of the constructor
    kind: Any  # float, int, bool, str or a Literal; None: not a single value
    lanes: bool  # may differ between the lanes of one program

    @property
    def full_name(self) -> str:
        """ALGORITHM.OPTION or env.OPTION, whatever others there are."""
        return f"{self.algorithm or 'env'}.{self.option}"


COLUMNS = ("algorithm", "seed", "runs", "steps", "regret_mean", "regret_ci95", "optimal_rate", "reward_mean")


def find_parameters(algorithms: Sequence[Algorithm], env: Environment | None) -> dict[str, Parameter]:
    """The options of all algorithms and of the environment, by each name that they go by: ALGORITHM.OPTION, env.OPTION,
    and OPTION alone where it is no other's."""
    found: dict[str, Parameter] = {}
    for algorithm in algorithms:
        kinds, scalars = option_kinds(algorithm.make), catalogue.scalars(algorithm.make)
        for option in algorithm.options:
            name = f"{algorithm.name}.{option}"
            found[name] = Parameter(name, algorithm.name, option, kinds.get(option), option in scalars)
    if env is not None:
        kinds, taken = option_kinds(env.make), {*COLUMNS, *(p.option for p in found.values())}
        for option in env.options:
            name = f"env.{option}" if option in taken else option
            found[f"env.{option}"] = Parameter(name, None, option, kinds.get(option), option in env.tunables)
    options = [parameter.option for parameter in found.values()]
    return found | {p.option: p for p in found.values() if options.count(p.option) == 1}


def resolve(names: Iterable[str], known: Mapping[str, Parameter]) -> list[Parameter]:
    """The parameters of these names. Raises ValueError for one that is unknown, with the nearest, or given twice."""
    found: list[Parameter] = []
    for name in names:
        if name not in known:
            raise _unknown(name, known)
        if known[name] in found:
            raise ValueError(f"{known[name].name} is given twice")
        found.append(known[name])
    return found


def _unknown(name: str, known: Mapping[str, Parameter]) -> ValueError:
    several = [other for other in known if other.endswith(f".{name}")]
    if several:
        return ValueError(f"{name!r} could be {' or '.join(several)}: say which")
    algorithm = name.rpartition(".")[0]
    if algorithm in ALGORITHMS and algorithm not in {p.algorithm for p in known.values()}:
        return ValueError(f"{name} cannot be set: {algorithm} has no such option, or is not among the algorithms")
    return suggest("tunable", name, {*known} - {f"env.{p.name}" for p in known.values()})


def read_values(parameter: Parameter, given: Values) -> list[Value]:
    """The values of a grid: a sequence of them, one alone, or text: a,b,c or lin:LOW:HIGH:COUNT or log:LOW:HIGH:COUNT.

    Evenly spaced values are rounded to 12 digits, and for a whole-number option to whole numbers. Raises ValueError.
    """
    name = parameter.name
    if parameter.kind is None:
        raise ValueError(f"{name} cannot be swept: it takes more than a single value")
    given = untied(given)
    if isinstance(given, str):
        values = _read_text(parameter, given)
    else:
        values = [_fit(parameter, value) for value in (given if isinstance(given, Iterable) else [given])]
    if not values:
        raise ValueError(f"{name} has no values: {_GRID}")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{name} has the value {twice!r} twice")
    return values


def untied(value: Any) -> Any:
    """Tensors and arrays, of torch and numpy, as numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _read_text(parameter: Parameter, text: str) -> list[Value]:
    if ":" in text and parameter.kind in (float, int):
        return _space(parameter, text.split(":"))
    words = [word.strip() for word in text.split(",")]
    if any(words) and not all(words):
        raise ValueError(f"{parameter.name}={text} has an empty value: {_GRID}")
    return [_fit(parameter, word) for word in words if word]


def _fit(parameter: Parameter, value: Any) -> Value:
    """A value as the option holds it; words are read first."""
    value = untied(value)
    if isinstance(value, str) and parameter.kind is not str:
        value = _read_word(value)
    return convert(parameter.name, parameter.kind, value)  # type: ignore[no-any-return]


def _read_word(word: str) -> Any:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _numbers(name: str, words: Sequence[str], wanted: str) -> list[float]:
    values = [_read_word(word.strip()) for word in words]
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise ValueError(f"{name}: {':'.join(words)!r} must be finite numbers: {wanted}")
    return [float(value) for value in values]


def _space(parameter: Parameter, words: list[str]) -> list[Value]:
    """LOW to HIGH in COUNT steps that are equal, or whose ratios are."""
    name, text = parameter.name, ":".join(words)
    if len(words) != 4 or words[0] not in ("lin", "log"):
        raise ValueError(f"{name}={text} cannot be read: {_GRID}")
    low, high = _numbers(name, words[1:3], _GRID)
    count = _read_word(words[3])
    if type(count) is not int or count < 1:
        raise ValueError(f"{name}={text}: COUNT must be a whole number of at least 1, got {words[3]}")
    if not low < high and count > 1:
        raise ValueError(f"{name}={text}: LOW must be below HIGH")
    if words[0] == "log" and low <= 0:
        raise ValueError(f"{name}={text}: LOW must be above 0 for logarithmic steps")
    ends = (math.log(low), math.log(high)) if words[0] == "log" else (low, high)
    steps = [ends[0] + (ends[1] - ends[0]) * i / max(count - 1, 1) for i in range(count)]
    values = [math.exp(x) for x in steps] if words[0] == "log" else steps
    if parameter.kind is int:
        return list(dict.fromkeys(round(value) for value in values))
    return [float(f"{min(max(value, low), high):.12g}") for value in values]


def draw_values(parameter: Parameter, law: str, draws: int, seed: int) -> list[Value]:
    """`draws` values of uniform:LOW:HIGH, loguniform:LOW:HIGH or randint:LOW:HIGH (both ends included).

    They depend on the seed and on the option's full name alone. Raises ValueError.
    """
    words, name = law.split(":") if isinstance(law, str) else [], parameter.name
    if len(words) != 3 or words[0] not in ("uniform", "loguniform", "randint"):
        raise ValueError(f"{name}={law} cannot be read: {_LAWS}")
    if parameter.kind not in (float, int) or (parameter.kind is int and words[0] != "randint"):
        wanted = "randint for whole numbers" if parameter.kind is int else "a grid"
        raise ValueError(f"{name} cannot be drawn from {words[0]}: it takes {wanted}")
    low, high = _numbers(name, words[1:], _LAWS)
    if low >= high:
        raise ValueError(f"{name}={law}: LOW must be below HIGH")
    number = int.from_bytes(hashlib.sha256(parameter.full_name.encode()).digest()[:7])
    keys = random.split(random.fold_in(random.key(seed), number), draws)
    if words[0] == "randint":
        if not (low.is_integer() and high.is_integer() and high - low < 2**31 - 1):
            raise ValueError(f"{name}={law}: LOW and HIGH must be whole numbers less than 2**31 - 1 apart")
        return [parameter.kind(x) for x in random.randint(keys, low=int(low), high=int(high) + 1).tolist()]
    if words[0] == "loguniform" and low <= 0:
        raise ValueError(f"{name}={law}: LOW must be above 0 for a logarithmic law")
    units = random.uniform(keys, dtype=torch.float64)
    if words[0] == "uniform":
        return (low + (high - low) * units).clamp(low, high).tolist()
    return (low * (high / low) ** units).clamp(low, high).tolist()


def check_draws(laws: Mapping[str, str], draws: int | None, seed: int) -> None:
    """Raise ValueError unless draws are asked for where something is to be drawn, and only there."""
    if draws is None and laws:
        raise ValueError(f"draws is missing: say how often to draw {' and '.join(laws)}")
    if draws is not None and not laws:
        raise ValueError(f"random is missing: say what to draw {draws} times, or give no draws")
    if draws is not None:
        check_size("draws", draws)
    check_seed("draw_seed", seed)


class Point(NamedTuple):
    """An algorithm with a value for each parameter that concerns it."""

    algorithm: str
    values: dict[Parameter, Value]


def combine(
    algorithms: Sequence[str], grid: Mapping[Parameter, list[Value]], drawn: Mapping[Parameter, list[Value]]
) -> list[Point]:
    """Each algorithm with each value of the grid and each draw that concerns it; what is drawn is drawn together."""
    points = []
    for algorithm in algorithms:
        own = {p: values for p, values in grid.items() if p.algorithm in (None, algorithm)}
        mine = {p: values for p, values in drawn.items() if p.algorithm in (None, algorithm)}
        draws = list(dict.fromkeys(zip(*mine.values()))) if mine else [()]
        for chosen in itertools.product(*own.values()):
            points += [Point(algorithm, {**dict(zip(own, chosen)), **dict(zip(mine, draw))}) for draw in draws]
    return points
