"""From what a user types to a learner or an environment."""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import catalogue, random
from armfold.core.bandits import ALGORITHMS, Algorithm, with_delay
from armfold.core.check import check_size
from armfold.core.envs import ENVIRONMENTS, Environment, classification, dataset
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.envs import data

_LISTED = 30  # names in an error, at most


def suggest(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not known, with the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
    hint = f"did you mean {near[0]!r}?" if near else f"known are {listed}"
    return ValueError(f"unknown {kind} {name!r}: {hint}")


def import_function(kind: str, path: str) -> Callable[..., Any]:
    """The function that "package.module:function" names, of Python's path or the current folder, which is put at the
    path's end. Raises ValueError that names the `kind` of what was wanted and says what is missing."""
    module, _, name = path.partition(":")
    if not module or module.startswith(".") or not name:
        raise ValueError(f"{kind} must be package.module:function, got {path!r}")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"cannot import {path!r} as {kind}: {error}") from error
    if not callable(function):
        raise ValueError(f"{kind} {path!r} is not a function but {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name, or the user's own by "module:function"."""
    if ":" in name:
        return Algorithm(name, import_function("algorithm", name), "real")
    if name not in ALGORITHMS:
        raise suggest("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


_SIZES = {"arms": int, "features": int}  # what these are, where nothing says so


def option_kinds(make: Callable[..., Any]) -> dict[str, Any]:
    """The types of a constructor's options that take one value: float, int, bool, str or a Literal."""
    hints, kinds = catalogue.hints(make), {}
    for p in inspect.signature(make).parameters.values():
        kind = hints.get(p.name, _SIZES.get(p.name, type(p.default)))
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        members = tuple(member for member in members if member not in (NoneType, Tensor))
        if len(members) == 1 and (members[0] in (float, int, bool, str) or get_origin(members[0]) is Literal):
            kinds[p.name] = members[0]
    return kinds


def convert(key: str, kind: Any, value: Any) -> Any:
    """A value from a file or a word as an option of that type holds it. Raises ValueError for one that does not fit."""
    inner = [member for member in get_args(kind) if member is not NoneType]
    if get_origin(kind) in (Union, UnionType):
        return convert(key, inner[0], value)
    if get_origin(kind) is Literal:
        fits, wanted = value in inner, f"one of {inner}"
    elif get_origin(kind) is tuple:
        open_ended = Ellipsis in inner
        fits = isinstance(value, list) and (open_ended or len(value) == len(inner))
        wanted = "a list of numbers" if open_ended else f"a list of {len(inner)} numbers"
        value = tuple(convert(key, inner[0], item) for item in value) if fits else value
    elif kind is float:
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        value = float(value) if fits else value
    elif kind is Path:
        fits, wanted = isinstance(value, str), "a path"
        value = Path(value) if fits else value
    else:
        fits, wanted = type(value) is kind, f"of type {kind.__name__}"
    if not fits:
        raise ValueError(f"{key} must be {wanted}, got {value!r}")
    return value


def make_bandit(
    algorithm: Algorithm,
    tunables: dict[str, Any],
    *,
    arms: int,
    features: int | None,
    dtype: torch.dtype,
    delay: int = 0,
) -> Bandit:
    """The algorithm for `arms` arms, contexts of `features` numbers and rewards `delay` steps late. Errors begin with
    its name."""
    known = inspect.signature(algorithm.make).parameters
    if algorithm.contextual and features is None:
        raise ValueError(f"{algorithm.name} needs contexts: choose an environment that has them, such as contextual")
    given = {"arms": arms, "features": features, "dtype": dtype}
    structure = {key: value for key, value in given.items() if key in known}
    try:
        bandit = algorithm.make(**structure, **tunables)
        if not isinstance(bandit, Bandit):
            raise TypeError(f"must return a Bandit, returned {type(bandit).__name__}")
        if delay == 0:
            return bandit
        first = {key: value[0].item() if isinstance(value, Tensor) else value for key, value in tunables.items()}
        weighs = _weighs(algorithm.make(**structure, **first), arms, features)
        return with_delay(bandit, delay=delay, arms=arms, features=features, propensities=weighs, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{algorithm.name}: {error}") from error


def _weighs(bandit: Bandit, arms: int, features: int | None) -> bool:
    """Whether what it learns depends on the propensity: found by trying two, for it may be anybody's algorithm."""
    rng = random.key(0)
    state, action = bandit.init(rng), torch.tensor(0)
    obs = None if features is None else torch.ones(arms, features)
    learned = [
        bandit.update(state, rng, obs, action, torch.tensor(0.5), propensity=torch.tensor(chance))
        for chance in (0.25, 0.5)
    ]
    return not all(torch.equal(x, y) for x, y in zip(*map(pytree.tree_leaves, learned), strict=True))


Context = Literal["shared", "blocks"]


def make_env(name: str, options: dict[str, Any], *, context: Context = "shared", label: str | None = None) -> BanditEnv:
    """The environment of that name with those of `options` that it takes.

    A name of the registry, "digits", a CSV or NPZ file, or the user's own by "module:function".
    """
    path = Path(name)
    if not is_data(name):
        return _make_pure(name, options)
    if name == "digits":
        read: data.Labelled | data.Rewarded = data.load_digits()
    else:
        if not path.is_file():
            raise ValueError(f"env {name!r}: there is no such file")
        read = data.load_csv(path, label) if path.suffix == ".csv" else data.load_npz(path)
    if isinstance(read, data.Labelled):
        return classification(x=read.x, y=read.y, arms=len(read.classes), context=context)
    try:
        return dataset(x=read.x, p=read.p, context=context)
    except ValueError as error:
        raise ValueError(f"env {name}: {error}") from error


_OF_FILES = {"classification", "dataset"}  # made from files and "digits", not by their names


def is_data(name: str) -> bool:
    """Whether an environment of that name is made from a data set."""
    return name == "digits" or Path(name).suffix in (".csv", ".npz")


def find_environment(name: str) -> Environment:
    """The environment of that name, or the user's own by "module:function"; not one that is made from a data set."""
    if ":" in name:
        return Environment(name, import_function("env", name))
    if name not in ENVIRONMENTS or name in _OF_FILES:
        raise suggest("environment", name, (ENVIRONMENTS.keys() - _OF_FILES) | {"digits"})
    return ENVIRONMENTS[name]


def _make_pure(name: str, options: dict[str, Any]) -> BanditEnv:
    make = find_environment(name).make
    if name == "abrupt" and options.get("p"):
        options = {**options, "p": _phases(options["p"], options.get("arms"))}
    known = inspect.signature(make).parameters
    means = {key: options[key] for key in ("p", "mean") if key in known and options.get(key)}
    given = {key: value for key, value in options.items() if key in known and key not in ("p", "mean")}
    if means:
        given = {key: value for key, value in given.items() if key != "arms"} | means
    try:
        env = make(**given)
    except TypeError as error:
        raise ValueError(f"env {name}: {error}") from error
    if not isinstance(env, BanditEnv):
        raise ValueError(f"env {name}: must return a BanditEnv, returned {type(env).__name__}")
    return env


def _phases(p: Any, arms: Any) -> list[Sequence[float]]:
    """The numbers `p` as phases of `arms` arms."""
    check_size("arms", arms, low=2)
    if not isinstance(p, list | tuple):
        raise ValueError(f"p must be a list of numbers, got {p!r}")
    if len(p) % arms:
        raise ValueError(f"p must be {arms} numbers a phase, as many as arms, got {len(p)} numbers")
    return [p[i : i + arms] for i in range(0, len(p), arms)]


def env_shape(env: BanditEnv) -> tuple[int, int | None]:
    """Its number of arms, and of features where it shows contexts."""
    state = env.init(random.key(0))
    obs = env.observe(state)
    return env.means(state).shape[-1], None if obs is None else obs.shape[-1]
