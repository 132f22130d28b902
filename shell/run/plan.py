"""The plan of a sweep: from what is asked for to points, to groups that share a program, to shards. No engine yet."""

import json
import math
from collections.abc import Mapping
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
    """The plan for arguments of `sweep`, or for the `config` of a plan. Raises ValueError for what cannot run."""
    _check(config)
    names, laws = list(dict.fromkeys(config["algos"])), dict(config["random"])
    grid, drawn, fixed = _read_options(config, names)
    plain = {
        **config,
        "algos": names,
        "seeds": list(config["seeds"]),
        "grid": [[p.name, [_plain(value) for value in values]] for p, values in grid.items()],
        "random": [[p.name, law] for p, law in zip(drawn, laws.values())],
        "options": [[p.name, _plain(value)] for p, value in fixed.items()],
        "reward_range": config["reward_range"] and list(config["reward_range"]),
    }
    points = combine(names, grid, drawn)
    groups = _group(plain, points, fixed)
    shards = [s for i, g in enumerate(groups) for s in cut(f"{file_name(g.algorithm)}-{i}", g, config["shard"])]
    compiled = [group.settings["compile"] == "on" for group in groups]
    return Plan({**plain, "compiled": compiled, "torch": torch.__version__}, grid, drawn, points, groups, shards)


def _check(config: Mapping[str, Any]) -> None:
    """Raise ValueError for what is wrong whatever the algorithms are."""
    if not config["algos"]:
        raise ValueError("algos must name at least one algorithm")
    for name in ("steps", "runs", "shard"):
        check_size(name, config[name])
    seeds = list(config["seeds"])
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different integers, one at least, got {seeds}")
    for seed in seeds:
        check_seed("seeds", seed)
    if config["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {config['dtype']!r}")


Chosen = dict[Parameter, list[Value]]


def _read_options(config: Mapping[str, Any], names: list[str]) -> tuple[Chosen, Chosen, dict[Parameter, Any]]:
    """The values of the grid, those that are drawn, and those that are the same at all points."""
    env = None if is_data(config["env"]) else find_environment(config["env"])
    known = find_parameters([find_algorithm(name) for name in names], env)
    grid, laws, options = (dict(config[key]) for key in ("grid", "random", "options"))
    swept = resolve([*grid, *laws], known)
    values = {p: read_values(p, given) for p, given in zip(swept, grid.values())}
    draws, seed = config["draws"], config["draw_seed"]
    check_draws(laws, draws, seed)
    drawn = {p: draw_values(p, law, draws, seed) for p, law in zip(swept[len(grid) :], laws.values())}
    fixed = {p: _fix(p, value) for p, value in zip(resolve(options, known), options.values()) if p not in swept}
    _check_arms(config["env"], swept, fixed)
    return values, drawn, fixed


def _fix(parameter: Parameter, value: Any) -> Any:
    """A value that is the same at all points."""
    if value is None:
        return None
    if parameter.kind is not None:
        return read_values(parameter, [value])[0]
    listed = value.tolist() if hasattr(value, "tolist") else value  # of torch and numpy
    try:
        json.dumps(listed)
    except TypeError as error:
        raise ValueError(f"{parameter.name} must be numbers, words, or lists of them, got {value!r}") from error
    return listed


def _check_arms(env: str, swept: list[Parameter], fixed: Mapping[Parameter, Any]) -> None:
    """Raise ValueError where the number of arms is swept and would be passed over."""
    known = [p.name for p, value in fixed.items() if p.algorithm is None and p.option in ("p", "mean") and value]
    if known and env != "abrupt" and any(p.algorithm is None and p.option == "arms" for p in swept):
        raise ValueError(f"arms cannot be swept where {known[0]} says how many there are")


def _plain(value: Any) -> Any:
    """A value as JSON has it, which knows no infinity."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
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


def _group(config: Mapping[str, Any], points: list[Point], fixed: Mapping[Parameter, Any]) -> list[Group]:
    """Points that may share a program, each tried first with plain numbers: constructors look at those."""
    groups: dict[Any, Group] = {}
    shapes: dict[Any, tuple[int, int | None]] = {}
    made = {"context": config["context"], "label": config["label"]}
    data = make_env(config["env"], {}, **made) if is_data(config["env"]) else None
    for i, point in enumerate(points):
        options = _split(point, fixed)
        world = {**options.env, **options.env_tunables}
        env = data or make_env(config["env"], world, **made)
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
        key = (point.algorithm, repr(options.learner), structure, *options.tunables, *options.env_tunables)
        if key not in groups:
            groups[key] = _start_group(config, point.algorithm, options)
        group = groups[key]
        group.points.append(i)
        for columns, values in ((group.tunables, options.tunables), (group.env_tunables, options.env_tunables)):
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
    return [_settle_compiling(group, config["shard"]) for group in groups.values()]


def _start_group(config: Mapping[str, Any], algorithm: str, options: _Options) -> Group:
    unit = find_algorithm(algorithm).rewards == "unit"
    settings = {name: config[name] for name in ("steps", "agent_seed", "device", "compile")}
    settings |= {name: config[name] for name in ("context", "label", "dtype")}
    settings["reward_range"] = (tuple(config["reward_range"] or (0.0, 1.0))) if unit else None
    return Group(
        algorithm, config["env"], options.learner, options.env, {}, {}, [], config["seeds"], config["runs"], settings
    )


def _settle_compiling(group: Group, most: int) -> Group:
    """The group with "auto" decided for all its shards at once: they may share compiled code."""
    calls = group.settings["steps"] * math.ceil(group.lanes / most)
    device = find_device(group.settings["device"])
    compiled = choose(advance, group.settings["compile"], device=device, calls=calls)[1]
    return group._replace(settings={**group.settings, "compile": "on" if compiled else "off"})
