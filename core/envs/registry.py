"""Every bandit environment by name."""

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
