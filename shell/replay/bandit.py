"""Replays of bandits: every decision of a few lanes, made from names and options alone."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch

from armfold.core.check import check_size
from armfold.core.envs import ENVIRONMENTS
from armfold.shell.choose import (
    env_shape,
    find_algorithm,
    find_environment,
    is_data,
    make_bandit,
    make_env,
    suggest,
)
from armfold.shell.replay.facts import read_facts
from armfold.shell.replay.record import Recorder
from armfold.shell.run.decisions import FewLanes
from armfold.shell.view.progress import track


class Facts(NamedTuple):
    """Everything that the decisions of a bandit's lanes depend on, as `armfold bandit` is told it."""

    algorithm: str
    env: str
    steps: int
    runs: int = 1  # lanes 0 to runs - 1
    seed: int = 0
    agent_seed: int | None = None
    tunables: Mapping[str, Any] = MappingProxyType({})
    env_options: Mapping[str, Any] = MappingProxyType({})
    context: Literal["shared", "blocks"] = "shared"
    label: str | None = None
    dtype: Literal["float32", "float64"] = "float32"
    delay: int = 0
    reward_range: tuple[float, float] | None = None
    mode: Literal["eager"] = "eager"  # compiled programs round in other places
    data_sha256: str | None = None  # of the file that env names


def record_bandit(path: str | Path, facts: Facts, *, progress: bool = True) -> None:
    """Step lanes as `simulate` does, eagerly and on the CPU, and record every decision in a replay file.

    A record is a step: the fields of `run.decisions.Decision`, with those of its trace. The propensity is null for
    learners that have no closed form. Raises ValueError, before anything is written, for facts that cannot be.
    """
    facts = read_facts(Facts, facts._asdict())
    facts = facts._replace(data_sha256=_digest(facts.env))
    lanes = _make(facts)
    label = f"replay of {facts.algorithm}"
    with (
        Recorder(path, "bandit", facts._asdict()) as recorder,
        track(label, facts.steps, enabled=progress) as moved,
    ):
        for fields in _records(lanes, facts.steps):
            recorder.write(**fields)
            moved(recorder.records)


def recompute(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records of a run from the facts in its file. Raises ValueError where they, or a data set, are not here."""
    told = read_facts(Facts, facts)
    digest = _digest(told.env)
    if told.data_sha256 != digest:
        raise ValueError(f"env {told.env} is not what it was: its sha256 was {told.data_sha256}, now it is {digest}")
    return _records(_make(told), told.steps)


def _make(facts: Facts) -> FewLanes:
    check_size("steps", facts.steps)
    if ":" in facts.algorithm and facts.tunables:  # a file does not decide what a function of anybody's is called with
        raise ValueError(f"tunables are for algorithms that armfold lists, got {dict(facts.tunables)}")
    _check_known(facts.env, facts.env_options)
    env = make_env(facts.env, dict(facts.env_options), context=facts.context, label=facts.label)
    arms, features = env_shape(env)
    bandit = make_bandit(
        find_algorithm(facts.algorithm),
        dict(facts.tunables),
        arms=arms,
        features=features,
        dtype=getattr(torch, facts.dtype),
        delay=facts.delay,
    )
    return FewLanes(
        bandit,
        env,
        runs=facts.runs,
        seed=facts.seed,
        agent_seed=facts.agent_seed,
        reward_range=facts.reward_range,
    )


def _check_known(env: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option of no environment; `armfold bandit` tells those of other environments too."""
    known = {option for entry in ENVIRONMENTS.values() for option in entry.options}
    if ":" in env:
        known |= find_environment(env).options.keys()
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"env_options {option} = {value!r}: {suggest('option of environments', option, known)}")


def _records(lanes: FewLanes, steps: int) -> Iterator[dict[str, Any]]:
    for decision in lanes.decide(steps, estimate=False):
        fields = decision._asdict()
        trace = fields.pop("trace")
        yield {**fields, **trace._asdict()}


def _digest(env: str) -> str | None:
    """The sha256 of the file that env names, None where it names none."""
    if not is_data(env) or env == "digits":
        return None
    if not Path(env).is_file():
        raise ValueError(f"env {env}: there is no such file; replays are verified in the folder of their run's start")
    with Path(env).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
