"""Thompson sampling: draw a mean for each arm from its posterior, and play the largest."""

from functools import partial

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.arms import State
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane


def beta_posterior(
    state: State, *, prior_a: Scalar = 1.0, prior_b: Scalar = 1.0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Parameters a and b of each arm's beta posterior, [*B, K] each, > 0."""
    successes, failures = state.reward_sum.clamp(min=0), (state.pulls - state.reward_sum).clamp(min=0)
    return successes.to(dtype) + per_lane(prior_a, dtype), failures.to(dtype) + per_lane(prior_b, dtype)


def beta_select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    prior_a: Scalar = 1.0,
    prior_b: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
) -> Tensor:
    """The arm of largest draw from the beta posteriors: int64 [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    a, b = beta_posterior(state, prior_a=prior_a, prior_b=prior_b, dtype=dtype)
    return masked.argmax(random.beta(random.fold_in(rng, 0), a, b), random.fold_in(rng, 1), available)


def beta_ts(*, arms: int, prior_a: Scalar = 1.0, prior_b: Scalar = 1.0, dtype: torch.dtype = torch.float32) -> Bandit:
    """Thompson sampling for Bernoulli rewards, Beta(prior_a, prior_b) before the first one.

    arms: K >= 2. prior_a, prior_b > 0: each a number or a tensor [*B]. Rewards in [0, 1]; those between count as
    fractions of a success. `policy` is a Monte Carlo estimate. Raises ValueError for values outside.
    Source: Thompson 1933; Chapelle and Li 2011, algorithm 2.
    """
    check_size("arms", arms, low=2)
    check_number("prior_a", prior_a, low=0.0, open_low=True)
    check_number("prior_b", prior_b, low=0.0, open_low=True)
    draw = partial(beta_select, prior_a=prior_a, prior_b=prior_b, dtype=dtype)
    return Bandit(partial(_arms.init, arms=arms), draw, _arms.update, partial(_arms.sampled_policy, select=draw))


def gaussian_posterior(
    state: State,
    *,
    prior_mean: Scalar = 0.0,
    prior_precision: Scalar = 1.0,
    noise_precision: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Mean [*B, K], in the reward's unit, and precision [*B, K] > 0, 1/unit^2, of each arm's posterior."""
    prior, noise = per_lane(prior_precision, dtype), per_lane(noise_precision, dtype)
    precision = prior + noise * state.pulls.to(dtype)
    return (prior * per_lane(prior_mean, dtype) + noise * state.reward_sum.to(dtype)) / precision, precision


def gaussian_select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    prior_mean: Scalar = 0.0,
    prior_precision: Scalar = 1.0,
    noise_precision: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
) -> Tensor:
    """The arm of largest draw from the Gaussian posteriors: int64 [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    mean, precision = gaussian_posterior(
        state, prior_mean=prior_mean, prior_precision=prior_precision, noise_precision=noise_precision, dtype=dtype
    )
    noise = random.normal(random.fold_in(rng, 0), mean.shape[-1:], dtype=dtype)
    return masked.argmax(mean + noise / torch.sqrt(precision), random.fold_in(rng, 1), available)


def gaussian_ts(
    *,
    arms: int,
    prior_mean: Scalar = 0.0,
    prior_precision: Scalar = 1.0,
    noise_precision: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Thompson sampling for Gaussian rewards of known noise, Normal(prior_mean, 1 / prior_precision) before them.

    arms: K >= 2. prior_mean in the reward's unit; prior_precision, noise_precision > 0, 1/unit^2; each a number or
    a tensor [*B]. Any reward unit. `policy` is a Monte Carlo estimate. Raises ValueError for values outside.
    Source: Russo et al. 2018, section 3; Agrawal and Goyal 2013, algorithm 2.
    """
    check_size("arms", arms, low=2)
    check_number("prior_mean", prior_mean)
    check_number("prior_precision", prior_precision, low=0.0, open_low=True)
    check_number("noise_precision", noise_precision, low=0.0, open_low=True)
    draw = partial(
        gaussian_select,
        prior_mean=prior_mean,
        prior_precision=prior_precision,
        noise_precision=noise_precision,
        dtype=dtype,
    )
    return Bandit(partial(_arms.init, arms=arms), draw, _arms.update, partial(_arms.sampled_policy, select=draw))
