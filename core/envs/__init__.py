"""Environments as pure functions: `NAME(...)` gives a `BanditEnv`."""

from armfold.core.envs.adversary import adversarial
from armfold.core.envs.coins import bernoulli, drifting
from armfold.core.envs.labels import classification
from armfold.core.envs.late import delayed
from armfold.core.envs.logistic import contextual
from armfold.core.envs.normal import gaussian
from armfold.core.envs.registry import ENVIRONMENTS, Environment
from armfold.core.envs.rows import dataset
from armfold.core.envs.switching import abrupt

__all__ = [
    "ENVIRONMENTS",
    "Environment",
    "abrupt",
    "adversarial",
    "bernoulli",
    "classification",
    "contextual",
    "dataset",
    "delayed",
    "drifting",
    "gaussian",
]
