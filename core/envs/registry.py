"""Every bandit environment by name."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from armfold.core import catalogue
from armfold.core.envs.adversary import adversarial
from armfold.core.envs.coins import bernoulli, drifting
from armfold.core.envs.labels import classification
from armfold.core.envs.late import delayed
from armfold.core.envs.logistic import contextual
from armfold.core.envs.normal import gaussian
from armfold.core.envs.rows import dataset
from armfold.core.envs.switching import abrupt
from armfold.core.types import BanditEnv


class Environment(NamedTuple):
    """An entry of the registry."""

    name: str
    make: Callable[..., BanditEnv]  # keyword arguments only

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """What may be set: its sizes, tunables, and choices that are part of its structure."""
        return dict(inspect.signature(self.make).parameters)

    @property
    def tunables(self) -> dict[str, float | None]:
        """Its float tunables and their defaults, None where they are off: those that may differ between lanes."""
        return catalogue.scalars(self.make)

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return catalogue.summary(self.make)

    @property
    def source(self) -> str:
        """The paper that its docstring names."""
        return catalogue.source(self.make)


ENVIRONMENTS: dict[str, Environment] = {
    environment.name: environment
    for environment in (
        Environment("bernoulli", bernoulli),
        Environment("gaussian", gaussian),
        Environment("drifting", drifting),
        Environment("abrupt", abrupt),
        Environment("adversarial", adversarial),
        Environment("delayed", delayed),
        Environment("contextual", contextual),
        Environment("classification", classification),
        Environment("dataset", dataset),
    )
}
