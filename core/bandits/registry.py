"""Every bandit algorithm by name, with what a user wants to know before choosing one."""

import inspect
from collections.abc import Callable
from typing import Literal, NamedTuple

from armfold.core import catalogue
from armfold.core.bandits.adversarial import exp3, exp3_ix, exp3_p
from armfold.core.bandits.bagged import bagged_linear
from armfold.core.bandits.changepoint import glr_kl_ucb
from armfold.core.bandits.discounted import d_ucb, discounted_ts
from armfold.core.bandits.divergence import imed, kl_ucb, kl_ucb_pp
from armfold.core.bandits.experts import exp4
from armfold.core.bandits.greedy import epsilon_greedy
from armfold.core.bandits.halving import successive_halving
from armfold.core.bandits.inverse_gap import square_cb
from armfold.core.bandits.linear import lin_ts, lin_ucb, linear_epsilon_greedy
from armfold.core.bandits.logistic import logistic_ts, logistic_ucb
from armfold.core.bandits.quantile import bayes_ucb
from armfold.core.bandits.thompson import beta_ts, gaussian_ts
from armfold.core.bandits.tracking import track_and_stop
from armfold.core.bandits.tsallis import tsallis_inf
from armfold.core.bandits.ucb import moss, ucb1, ucb_v
from armfold.core.bandits.window import sw_ucb
from armfold.core.types import Bandit

_STRUCTURE = ("arms", "features", "dtype")


class Algorithm(NamedTuple):
    """An entry of the registry."""

    name: str
    make: Callable[..., Bandit]  # keyword arguments only: arms, features where contextual, tunables, dtype
    rewards: Literal["unit", "real"]  # the rewards it is meant for: [0, 1], or any

    @property
    def contextual(self) -> bool:
        """Whether it needs obs [*B, K, d]."""
        return "features" in inspect.signature(self.make).parameters

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """What may be set beside its sizes and its dtype: tunables, and choices that are part of its structure."""
        return {p.name: p for p in inspect.signature(self.make).parameters.values() if p.name not in _STRUCTURE}

    @property
    def tunables(self) -> dict[str, float]:
        """Its float tunables and their defaults: those that may differ between lanes."""
        return {name: p.default for name, p in self.options.items() if isinstance(p.default, float)}

    @property
    def choices(self) -> dict[str, int | str]:
        """Its other options and their defaults: one value for all lanes."""
        return {name: p.default for name, p in self.options.items() if isinstance(p.default, int | str)}

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return catalogue.summary(self.make)

    @property
    def source(self) -> str:
        """The paper that its docstring names."""
        return catalogue.source(self.make)


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("epsilon_greedy", epsilon_greedy, "real"),
        Algorithm("ucb1", ucb1, "unit"),
        Algorithm("ucb_v", ucb_v, "unit"),
        Algorithm("moss", moss, "unit"),
        Algorithm("kl_ucb", kl_ucb, "unit"),
        Algorithm("kl_ucb_pp", kl_ucb_pp, "unit"),
        Algorithm("bayes_ucb", bayes_ucb, "unit"),
        Algorithm("imed", imed, "unit"),
        Algorithm("beta_ts", beta_ts, "unit"),
        Algorithm("gaussian_ts", gaussian_ts, "real"),
        Algorithm("d_ucb", d_ucb, "unit"),
        Algorithm("sw_ucb", sw_ucb, "unit"),
        Algorithm("discounted_ts", discounted_ts, "unit"),
        Algorithm("glr_kl_ucb", glr_kl_ucb, "unit"),
        Algorithm("exp3", exp3, "unit"),
        Algorithm("exp3_ix", exp3_ix, "unit"),
        Algorithm("exp3_p", exp3_p, "unit"),
        Algorithm("tsallis_inf", tsallis_inf, "unit"),
        Algorithm("exp4", exp4, "unit"),
        Algorithm("successive_halving", successive_halving, "unit"),
        Algorithm("track_and_stop", track_and_stop, "unit"),
        Algorithm("lin_ucb", lin_ucb, "real"),
        Algorithm("lin_ts", lin_ts, "real"),
        Algorithm("linear_epsilon_greedy", linear_epsilon_greedy, "real"),
        Algorithm("square_cb", square_cb, "real"),
        Algorithm("bagged_linear", bagged_linear, "real"),
        Algorithm("logistic_ucb", logistic_ucb, "unit"),
        Algorithm("logistic_ts", logistic_ts, "unit"),
    )
}
