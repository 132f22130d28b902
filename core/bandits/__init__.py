"""Bandit algorithms: `NAME(arms=..., ...)` gives a `Bandit`, a tuple of pure functions over a state tuple."""

from armfold.core.bandits.adversarial import exp3, exp3_ix, exp3_p
from armfold.core.bandits.bagged import bagged_linear
from armfold.core.bandits.change import add_arms, remove_arms, warm_start
from armfold.core.bandits.changepoint import glr_kl_ucb
from armfold.core.bandits.delay import with_delay
from armfold.core.bandits.discounted import d_ucb, discounted_ts
from armfold.core.bandits.divergence import imed, kl_ucb, kl_ucb_pp
from armfold.core.bandits.experts import exp4
from armfold.core.bandits.greedy import epsilon_greedy
from armfold.core.bandits.halving import successive_halving
from armfold.core.bandits.inverse_gap import square_cb
from armfold.core.bandits.linear import lin_ts, lin_ucb, linear_epsilon_greedy
from armfold.core.bandits.logistic import logistic_ts, logistic_ucb
from armfold.core.bandits.quantile import bayes_ucb
from armfold.core.bandits.registry import ALGORITHMS, Algorithm
from armfold.core.bandits.thompson import beta_ts, gaussian_ts
from armfold.core.bandits.tracking import track_and_stop
from armfold.core.bandits.tsallis import tsallis_inf
from armfold.core.bandits.ucb import moss, ucb1, ucb_v
from armfold.core.bandits.window import sw_ucb

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "add_arms",
    "bagged_linear",
    "bayes_ucb",
    "beta_ts",
    "d_ucb",
    "discounted_ts",
    "epsilon_greedy",
    "exp3",
    "exp3_ix",
    "exp3_p",
    "exp4",
    "gaussian_ts",
    "glr_kl_ucb",
    "imed",
    "kl_ucb",
    "kl_ucb_pp",
    "lin_ts",
    "lin_ucb",
    "linear_epsilon_greedy",
    "logistic_ts",
    "logistic_ucb",
    "moss",
    "remove_arms",
    "square_cb",
    "successive_halving",
    "sw_ucb",
    "track_and_stop",
    "tsallis_inf",
    "ucb1",
    "ucb_v",
    "warm_start",
    "with_delay",
]
