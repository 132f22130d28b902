"""Every bandit environment by name."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from armfold.core.envs.coins import bernoulli, drifting
from armfold.core.envs.labels import classification
from armfold.core.envs.logistic import contextual
from armfold.core.envs.normal import gaussian
from armfold.core.types import BanditEnv


class Environment(NamedTuple):
    """An entry of the registry."""

    name: str
    make: Callable[..., BanditEnv]  # keyword arguments only

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return inspect.cleandoc(self.make.__doc__ or "").splitlines()[0]

    @property
    def source(self) -> str:
        """The paper that its docstring names."""
        return " ".join((self.make.__doc__ or "").split("Source:")[1].split()).rstrip(".")


ENVIRONMENTS: dict[str, Environment] = {
    environment.name: environment
    for environment in (
        Environment("bernoulli", bernoulli),
        Environment("gaussian", gaussian),
        Environment("drifting", drifting),
        Environment("contextual", contextual),
        Environment("classification", classification),
    )
}
