"""Logistic contextual bandits: a linear model of the log-odds of a reward of 1, kept Gaussian. Rewards in [0, 1].

One observation moves the Gaussian to the mode and curvature of the true posterior along the played arm's score
(Laplace; Spiegelhalter and Lauritzen 1990). That mode solves an equation in one unknown, and the step equals a linear
observation of a certain value and precision: so every linear model serves here too.
"""

from functools import partial

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits.linear import ts_bandit, ucb_bandit
from armfold.core.bandits.linear_models import Kind, Model, State, linear_model, observed
from armfold.core.check import check_number
from armfold.core.types import Bandit, Scalar

_NEWTON_STEPS = 8
_LEAST = 3e-7  # curvature, as at log-odds of 15: flatter likelihoods are taken to be as curved


def linear_equivalent(mean: Tensor, variance: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
    """The value and precision [*B] of the linear observation that moves a score's Gaussian as `reward` does, Laplace's
    way. Its mode z solves z = mean + variance (reward - sigmoid(z))."""
    # The equation bends at 0 alone: from there, or the end of the bracket next to it, Newton's steps cannot overshoot.
    low, high = mean + variance * (reward - 1), mean + variance * reward
    z = torch.minimum(torch.maximum(torch.zeros_like(mean), low), high)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid(z)
        z = z - (z - mean - variance * (reward - p)) / (1 + variance * p * (1 - p))
    p, q = torch.sigmoid(z), torch.sigmoid(-z)
    precision = (p * q).clamp(min=_LEAST)
    # Whatever the precision, this value moves the mean to z. Written so, reward - p keeps its digits where p is near 1.
    return z + (reward * q - (1 - reward) * p) / precision, precision


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    model: Model,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """The model given the played arm's context and the reward; unchanged where one of them is not finite."""
    x, y, played = observed(state, model, rng, obs, action, reward, available)
    mean, variance = (masked.take(part, action) for part in model.score(state, x))
    learned: State = model.learn(state, x, action, *linear_equivalent(mean, variance, y), played)
    return learned


def logistic_ucb(
    *,
    arms: int,
    features: int,
    alpha: Scalar = 1.0,
    ridge: Scalar = 1.0,
    model: Kind = "disjoint",
    shared_features: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Logistic UCB: Laplace's posterior of the log-odds, and alpha standard deviations of optimism.

    arms: K >= 2; features: d >= 1. alpha >= 0 in log-odds, ridge > 0; each a number or a tensor [*B].
    model, shared_features: see `linear_models.linear_model`. Rewards in [0, 1]. Raises ValueError for values outside,
    ShapeError for contexts that are not [*B, K, d]. Source: Filippi, Cappe, Garivier and Szepesvari 2010, section 4.
    """
    check_number("alpha", alpha, low=0.0)
    made = linear_model(model, arms=arms, features=features, ridge=ridge, shared_features=shared_features, dtype=dtype)
    return ucb_bandit(made, alpha, partial(update, model=made))


def logistic_ts(
    *,
    arms: int,
    features: int,
    scale: Scalar = 1.0,
    ridge: Scalar = 1.0,
    model: Kind = "disjoint",
    shared_features: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Logistic Thompson sampling: log-odds drawn from Laplace's posterior.

    arms: K >= 2; features: d >= 1. scale >= 0 stretches the posterior's standard deviation, ridge > 0; each a
    number or a tensor [*B]. model, shared_features: see `linear_models.linear_model`. Rewards in [0, 1]. `policy` is a
    Monte Carlo estimate. Raises ValueError for values outside, ShapeError for contexts that are not [*B, K, d].
    Source: Chapelle and Li 2011, algorithm 3, with the full covariance.
    """
    check_number("scale", scale, low=0.0)
    made = linear_model(model, arms=arms, features=features, ridge=ridge, shared_features=shared_features, dtype=dtype)
    return ts_bandit(made, scale, partial(update, model=made))
