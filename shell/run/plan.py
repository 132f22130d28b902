"""The plan of a sweep: from what is asked for to points, to groups that share a program, to shards. No engine yet."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from armfold.core.check import check_seed, check_size
from armfold.shell.choose import env_shape, find_algorithm, find_environment, is_data, make_bandit, make_env
from armfold.shell.compiled import advance, choose
from armfold.shell.device import find_device
from armfold.shell.run.compare import file_name
from armfold.shell.run.shard import Group, Shard, cut, delay_of
from armfold.shell.run.space import (
    Parameter,
    Point,
    Value,
    check_draws,
    combine,
    draw_values,
    find_parameters,
    read_values,
    resolve,
    untied,
)


class Plan(NamedTuple):
    """What a sweep will run."""

    config: dict[str, Any]  # all that decides its results, as JSON; `make_plan` of it is this plan
    grid: dict[Parameter, list[Value]]
    drawn: dict[Parameter, list[Value]]
    points: list[Point]
    groups: list[Group]
    shards: list[Shard]

    @property
    def parameters(self) -> list[str]:
        """The names of what is swept."""
        return [parameter.name for parameter in (*self.grid, *self.drawn)]


def make_plan(config: Mapping[str, Any]) -> Plan:
    """The plan for arguments of `sweep`, each point of which is tried; or, untried, for the `config` of a plan, which
    needs neither a device nor a data set. Raises ValueError for what cannot run."""
    config = _check({name: untied(value) for name, value in config.items()})
    names, laws = list(dict.fromkeys(config["algos"])), dict(config["random"])
    grid, drawn, fixed = _read_options(config, names)
    plain = {
        **config,
        "algos": names,
        "grid": [[p.name, [_to_json(value) for value in values]] for p, values in grid.items()],
        "random": [[p.name, law] for p, law in zip(drawn, laws.values())],
        "options": [[p.name, _to_json(value)] for p, value in fixed.items()],
    }
    points = combine(names, grid, drawn)
    split = [_split(point, fixed) for point in points]
    groups = _group(plain, points, split)
    if "compiled" not in config:
        _try(plain, points, split)
        plain |= {"compiled": [_compiles(group, config["shard"]) for group in groups], "torch": torch.__version__}
    groups = [_compile(group, compiled) for group, compiled in zip(groups, plain["compiled"], strict=True)]
    shards = [s for i, g in enumerate(groups) for s in cut(f"{file_name(g.algorithm)}-{i}", g, config["shard"])]
    return Plan(plain, grid, drawn, points, groups, shards)


def _check(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with lists for sequences. Raises ValueError for what is wrong whatever the algorithms are."""
    for name, wanted in {"algos": "names of algorithms", "seeds": "integers", "reward_range": "LOW and HIGH"}.items():
        value = config[name]
        if isinstance(value, str) or not isinstance(value, Iterable | None):
            raise ValueError(f"{name} must be a sequence: {wanted}, got {value!r}")
        config[name] = None if value is None else [untied(item) for item in value]
    algorithms, seeds, limits = (config[name] for name in ("algos", "seeds", "reward_range"))
    if not algorithms or not all(isinstance(name, str) for name in algorithms):
        raise ValueError(f"algos must name at least one algorithm, got {algorithms}")
    for name in ("steps", "runs", "shard"):
        check_size(name, config[name])
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different integers, one at least, got {seeds}")
    for seed in seeds:
        check_seed("seeds", seed)
    if limits is not None and len(limits) != 2:
        raise ValueError(f"reward_range must be LOW and HIGH, got {limits}")
    if config["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {config['dtype']!r}")
    return config


Chosen = dict[Parameter, list[Value]]


def _read_options(config: Mapping[str, Any], names: list[str]) -> tuple[Chosen, Chosen, dict[Parameter, Any]]:
    """The values of the grid, those that are drawn, and those that are the same at all points."""
    known = known_parameters(config["env"], names)
    grid, laws, options = (dict(config[key]) for key in ("grid", "random", "options"))
    swept = resolve([*grid, *laws], known)
    values = {p: read_values(p, given) for p, given in zip(swept, grid.values())}
    draws, seed = config["draws"], config["draw_seed"]
    check_draws(laws, draws, seed)
    drawn = {p: draw_values(p, law, draws, seed) for p, law in zip(swept[len(grid) :], laws.values())}
    fixed = {p: _fix(p, value) for p, value in zip(resolve(options, known), options.values())}
    _check_fixed(config["env"], swept, fixed)
    return values, drawn, fixed


def known_parameters(env: str, algorithms: Iterable[str]) -> dict[str, Parameter]:
    """The options that may be swept in this environment with these algorithms, by each name that they go by."""
    world = None if is_data(env) else find_environment(env)
    return find_parameters([find_algorithm(name) for name in algorithms], world)


def _fix(parameter: Parameter, value: Any) -> Any:
    """A value that is the same at all points."""
    if value is None:
        return None
    if parameter.kind is not None:
        return read_values(parameter, [value])[0]
    listed = untied(value)
    try:
        json.dumps(listed)
    except TypeError as error:
        raise ValueError(f"{parameter.name} must be numbers, words, or lists of them, got {value!r}") from error
    return listed


def _check_fixed(env: str, swept: list[Parameter], fixed: Mapping[Parameter, Any]) -> None:
    """Raise ValueError for an option that would be passed over: another is given in its place."""
    for parameter in fixed:
        if parameter in swept:
            raise ValueError(f"{parameter.name} is swept, and cannot have a value among the options as well")
    given = [*swept, *(parameter for parameter, value in fixed.items() if value not in (None, (), []))]
    names = [parameter.option for parameter in given if parameter.algorithm is None]
    known = [name for name in ("p", "mean") if name in names]
    if known and env != "abrupt" and "arms" in {p.option for p in swept if p.algorithm is None}:
        raise ValueError(f"arms cannot be swept where {known[0]} says how many there are")
    if env == "abrupt" and {"period", "hazard"} <= set(names):
        raise ValueError("period and hazard exclude each other: give one of them")


def _to_json(value: Any) -> Any:
    """A value as JSON has it, which knows no infinity."""
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class _Options(NamedTuple):
    """The options of a point. The first two decide whether it shares a program with others."""

    learner: dict[str, Any]
    env: dict[str, Any]
    tunables: dict[str, float]  # of the learner, those that may differ from lane to lane
    env_tunables: dict[str, float]


def _split(point: Point, fixed: Mapping[Parameter, Any]) -> _Options:
    options = _Options({}, {}, {}, {})
    for parameter, value in {**fixed, **point.values}.items():
        if parameter.algorithm not in (None, point.algorithm):
            continue
        shared, lanes = options[:2], options[2:]
        # Infinity is another formula, not another number.
        differs = parameter in point.values and parameter.lanes and isinstance(value, float) and math.isfinite(value)
        place: dict[str, Any] = (lanes if differs else shared)[parameter.algorithm is None]
        place[parameter.option] = value
    return options


def _group(config: Mapping[str, Any], points: list[Point], split: list[_Options]) -> list[Group]:
    """Points that may share a program."""
    groups: dict[Any, Group] = {}
    for i, (point, options) in enumerate(zip(points, split, strict=True)):
        structure = (repr(options.learner), repr(options.env), *options.tunables, *options.env_tunables)
        key = (point.algorithm, *structure)
        if key not in groups:
            groups[key] = _start_group(config, point.algorithm, options)
        group = groups[key]
        group.points.append(i)
        for columns, values in ((group.tunables, options.tunables), (group.env_tunables, options.env_tunables)):
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
    return list(groups.values())


def _start_group(config: Mapping[str, Any], algorithm: str, options: _Options) -> Group:
    unit, limits = find_algorithm(algorithm).rewards == "unit", config["reward_range"]
    settings = {name: config[name] for name in ("steps", "agent_seed", "device", "compile")}
    settings |= {name: config[name] for name in ("context", "label", "dtype")}
    settings["reward_range"] = tuple(limits or (0.0, 1.0)) if unit else None
    env = config["env"]
    if Path(env).suffix and is_data(env):
        env = str(Path(env).absolute())  # workers may stand elsewhere
    return Group(algorithm, env, options.learner, options.env, {}, {}, [], config["seeds"], config["runs"], settings)


def _try(config: Mapping[str, Any], points: list[Point], split: list[_Options]) -> None:
    """Make the learner and the environment of each point with plain numbers: constructors look at those."""
    shapes: dict[str, tuple[int, int | None]] = {}
    made = {"context": config["context"], "label": config["label"]}
    data = make_env(config["env"], {}, **made) if is_data(config["env"]) else None
    for point, options in zip(points, split, strict=True):
        env = data or make_env(config["env"], {**options.env, **options.env_tunables}, **made)
        structure = repr(options.env)
        if structure not in shapes:
            shapes[structure] = env_shape(env)
        arms, features = shapes[structure]
        make_bandit(
            find_algorithm(point.algorithm),
            {**options.learner, **options.tunables},
            arms=arms,
            features=features,
            dtype=getattr(torch, config["dtype"]),
            delay=delay_of(config["env"], options.env),
        )


def _compiles(group: Group, most: int) -> bool:
    """Whether "auto" means to compile, decided for all shards at once: they may share compiled code."""
    calls = group.settings["steps"] * math.ceil(group.lanes / most)
    device = find_device(group.settings["device"])
    return choose(advance, group.settings["compile"], device=device, calls=calls)[1]


def _compile(group: Group, compiled: bool) -> Group:
    return group._replace(settings={**group.settings, "compile": "on" if compiled else "off"})
