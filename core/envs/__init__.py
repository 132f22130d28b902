"""Environments as pure functions: `NAME(...)` gives a `BanditEnv`."""

from armfold.core.envs.coins import bernoulli, drifting
from armfold.core.envs.labels import classification
from armfold.core.envs.logistic import contextual
from armfold.core.envs.normal import gaussian
from armfold.core.envs.registry import ENVIRONMENTS, Environment

__all__ = ["ENVIRONMENTS", "Environment", "bernoulli", "classification", "contextual", "drifting", "gaussian"]
