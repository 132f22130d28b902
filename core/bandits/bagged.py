"""Bagged regression: many ridge regressions on resampled rewards, one of which, drawn anew each step, chooses."""

import math
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.bayes import linear
from armfold.core.check import check_available, check_key, check_number, check_size, require_obs
from armfold.core.types import Bandit, Scalar, per_lane

# P(Poisson(1) <= j); beyond the last, 8, lies 1e-6.
_POISSON = tuple(accumulate(math.exp(-1) / math.factorial(j) for j in range(8)))


class State(NamedTuple):
    """H linear posteriors for each arm."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    root: Tensor  # [*B, H, K, d, d] float, square root of the covariance, of unit noise
    mean: Tensor  # [*B, H, K, d] float, weights, reward unit per feature


def init(rng: Tensor, *, arms: int, features: int, heads: int, ridge: Scalar, dtype: torch.dtype) -> State:
    """The prior of every head and arm, for each key in rng [*B, 2]."""
    pulls = _arms.init(rng, arms=arms).pulls
    batch = (*pulls.shape[:-1], heads, arms)
    prior = per_lane(ridge, dtype, 2)
    return State(pulls, *linear.init(batch, features=features, ridge=prior, dtype=dtype, device=rng.device))


def _contexts(state: State, rng: Tensor, obs: Tensor | None, available: Tensor | None) -> Tensor:
    *batch, arms = state.pulls.shape
    check_key(rng, batch)
    check_available(available, batch, arms)
    return require_obs(obs, tuple(batch), arms, state.mean.shape[-1]).to(state.mean.dtype)


def select(state: State, rng: Tensor, obs: Tensor | None = None, *, available: Tensor | None = None) -> Tensor:
    """The arm of largest mean by a head drawn at random: int64 [*B]."""
    x = _contexts(state, rng, obs, available)
    head = random.randint(random.fold_in(rng, 0), high=state.mean.shape[-3])
    value = (masked.take(state.mean, head) * x).sum(-1)
    return masked.argmax(value, random.fold_in(rng, 1), available)


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]: the heads' votes. `samples` is not used."""
    x = _contexts(state, rng, obs, available)
    value = (state.mean * x.unsqueeze(-3)).sum(-1)
    legal = None if available is None else available.unsqueeze(-2)
    return masked.argmax_probs(value, legal).mean(-2)


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """Each head is given the reward Poisson(1) times; unchanged where the reward or the context is not finite."""
    played = _arms.chosen(state.pulls, action, reward)
    x = masked.take(_contexts(state, rng, obs, available), action)
    y = reward.to(x.dtype)
    played = played & torch.isfinite((x * x).sum(-1) + y * y).unsqueeze(-1)
    heads = state.mean.shape[-3]
    drawn = random.uniform(rng, (heads,), dtype=x.dtype)
    times = torch.stack([drawn >= p for p in _POISSON]).to(x.dtype).sum(0)
    arm = action.unsqueeze(-1).expand(*action.shape, heads)
    before = linear.State(masked.take(state.root, arm), masked.take(state.mean, arm))
    after = linear.update(before, x.unsqueeze(-2), y.unsqueeze(-1), times)
    counted = played.any(-1)
    root = torch.where(counted[..., None, None, None], after.root, before.root)
    mean = torch.where(counted[..., None, None], after.mean, before.mean)
    pulls = _arms.add_pull(state.pulls, played)
    return State(pulls, masked.put(state.root, arm, root), masked.put(state.mean, arm, mean))


def bagged_linear(
    *,
    arms: int,
    features: int,
    ridge: Scalar = 1.0,
    heads: int = 10,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Bagged ridge regressions: an online bootstrap of `heads` of them, one of which, drawn at random, chooses.

    arms: K >= 2; features: d >= 1; heads: H >= 1. ridge > 0: a number or a tensor [*B]. Any reward unit. Raises
    ValueError for values outside, ShapeError for contexts that are not [*B, K, d].
    Source: Eckles and Kaptein 2014, section 2; Oza and Russell 2001 (online bagging).
    """
    for name, value in {"features": features, "heads": heads}.items():
        check_size(name, value)
    check_size("arms", arms, low=2)
    check_number("ridge", ridge, low=0.0, open_low=True)
    start = partial(init, arms=arms, features=features, heads=heads, ridge=ridge, dtype=dtype)
    return Bandit(start, select, update, policy)
