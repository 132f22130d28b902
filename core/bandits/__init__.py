"""Bandit algorithms: `NAME(arms=..., ...)` gives a `Bandit`, a tuple of pure functions over a state tuple."""

from armfold.core.bandits.registry import (
    ALGORITHMS,
    Algorithm,
    bayes_ucb,
    beta_ts,
    epsilon_greedy,
    gaussian_ts,
    imed,
    kl_ucb,
    kl_ucb_pp,
    lin_ts,
    lin_ucb,
    moss,
    ucb1,
    ucb_v,
)

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "bayes_ucb",
    "beta_ts",
    "epsilon_greedy",
    "gaussian_ts",
    "imed",
    "kl_ucb",
    "kl_ucb_pp",
    "lin_ts",
    "lin_ucb",
    "moss",
    "ucb1",
    "ucb_v",
]
