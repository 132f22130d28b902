"""Environments as pure functions: `NAME(...)` gives a `BanditEnv`."""

from armfold.core.envs.registry import (
    ENVIRONMENTS,
    Environment,
    bernoulli,
    classification,
    contextual,
    drifting,
    gaussian,
)

__all__ = ["ENVIRONMENTS", "Environment", "bernoulli", "classification", "contextual", "drifting", "gaussian"]
