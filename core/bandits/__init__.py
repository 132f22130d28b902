"""Bandit algorithms: `NAME(arms=..., ...)` gives a `Bandit`, a tuple of pure functions over a state tuple."""

from armfold.core.bandits.divergence import imed, kl_ucb, kl_ucb_pp
from armfold.core.bandits.greedy import epsilon_greedy
from armfold.core.bandits.linear import lin_ts, lin_ucb
from armfold.core.bandits.quantile import bayes_ucb
from armfold.core.bandits.registry import ALGORITHMS, Algorithm
from armfold.core.bandits.thompson import beta_ts, gaussian_ts
from armfold.core.bandits.ucb import moss, ucb1, ucb_v

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
