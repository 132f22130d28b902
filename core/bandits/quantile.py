"""Optimism by a quantile of the posterior. Rewards in [0, 1]."""

from functools import partial

import torch
from torch import Tensor

from armfold.core import special
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.arms import State
from armfold.core.bandits.thompson import beta_posterior
from armfold.core.check import check_number
from armfold.core.types import Bandit, Scalar, per_lane


def bayes_ucb_index(
    state: State,
    *,
    c: Scalar = 0.0,
    prior_a: Scalar = 1.0,
    prior_b: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The quantile at 1 - 1 / (t max(1, ln t)^c) of each arm's beta posterior, [*B, K]."""
    a, b = beta_posterior(state, prior_a=prior_a, prior_b=prior_b, dtype=dtype)
    log_time = torch.log(_arms.time(state, dtype).clamp(min=2))
    tail = torch.exp(-log_time - per_lane(c, dtype) * torch.log(log_time.clamp(min=1)))
    return special.beta_upper_quantile(a, b, tail.expand_as(a))


def bayes_ucb(
    *,
    arms: int,
    c: Scalar = 0.0,
    prior_a: Scalar = 1.0,
    prior_b: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Bayes-UCB: play the arm of largest posterior quantile, Beta(prior_a, prior_b) before the first reward.

    arms: K >= 2. c >= 0 (5 in the proof, 0 in practice); prior_a, prior_b >= 0.5; each a number or a tensor [*B].
    Rewards in [0, 1]; those between count as fractions of a success. Raises ValueError for values outside.
    Source: Kaufmann, Cappe and Garivier 2012, algorithm 1.
    """
    check_number("c", c, low=0.0)
    check_number("prior_a", prior_a, low=0.5)
    check_number("prior_b", prior_b, low=0.5)
    index = partial(bayes_ucb_index, c=c, prior_a=prior_a, prior_b=prior_b, dtype=dtype)
    return _arms.index_bandit(index, arms=arms)
