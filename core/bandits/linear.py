"""Linear contextual bandits with a weight vector of its own for each arm (disjoint). Any reward unit.

Contexts are [*B, K, d]: one feature vector for each arm; where all arms share a context it is repeated.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.bayes import linear
from armfold.core.check import check_key, check_number, check_size, require_obs
from armfold.core.types import Bandit, Scalar, per_lane


class State(NamedTuple):
    """A linear posterior for each arm."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    covariance: Tensor  # [*B, K, d, d] float, of unit noise
    moment: Tensor  # [*B, K, d] float, reward unit


def init(rng: Tensor, *, arms: int, features: int, ridge: Scalar = 1.0, dtype: torch.dtype = torch.float32) -> State:
    """The prior of every arm, for each key in rng [*B, 2]."""
    check_key(rng)
    batch = (*rng.shape[:-1], arms)
    pulls = torch.zeros(batch, dtype=torch.int64, device=rng.device)
    return State(
        pulls, *linear.init(batch, features=features, ridge=per_lane(ridge, dtype), dtype=dtype, device=rng.device)
    )


def _contexts(state: State, obs: Tensor | None) -> Tensor:
    *batch, arms, features = state.moment.shape
    return require_obs(obs, batch, arms, features).to(state.moment.dtype)


def scores(state: State, obs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance (of unit noise) of every arm's reward in the contexts obs: [*B, K] each."""
    return linear.score(linear.State(state.covariance, state.moment), _contexts(state, obs))


def update(
    state: State, rng: Tensor, obs: Tensor | None, action: Tensor, reward: Tensor, *, propensity: Tensor | None = None
) -> State:
    """The played arm's posterior given its context obs[action] and the reward; unchanged where one of them is not
    finite. `rng` and `propensity` are not used."""
    check_key(rng, state.pulls.shape[:-1])
    played = _arms.chosen(state.pulls, action, reward)
    x, y = masked.take(_contexts(state, obs), action), reward.to(state.moment.dtype)
    size = (x * x).sum(-1)  # not finite where a feature is not, or where its square would overflow
    played = played & torch.isfinite(size + y * y).unsqueeze(-1)
    # Only the played arm's posterior is read and written: index_put compiles to a store in place.
    before = linear.State(masked.take(state.covariance, action), masked.take(state.moment, action))
    after = linear.update(before, x, y)
    counted = played.any(-1)
    covariance = torch.where(counted[..., None, None], after.covariance, before.covariance)
    moment = torch.where(counted[..., None], after.moment, before.moment)
    return State(
        _arms.add_pull(state.pulls, played),
        masked.put(state.covariance, action, covariance),
        masked.put(state.moment, action, moment),
    )


def ucb_index(state: State, obs: Tensor | None, *, alpha: Scalar = 1.0) -> Tensor:
    """mean + alpha standard deviations of every arm's score, [*B, K]."""
    mean, variance = scores(state, obs)
    return mean + per_lane(alpha, mean.dtype) * torch.sqrt(variance)


def ucb_select(state: State, rng: Tensor, obs: Tensor | None = None, *, alpha: Scalar = 1.0) -> Tensor:
    """The arm of largest upper bound in its context, ties at random: int64 [*B]."""
    check_key(rng, state.pulls.shape[:-1])
    return masked.argmax(ucb_index(state, obs, alpha=alpha), rng)


def ucb_policy(
    state: State, rng: Tensor, obs: Tensor | None = None, *, alpha: Scalar = 1.0, samples: int | None = None
) -> Tensor:
    """Exact law of `ucb_select`, [*B, K]: uniform over the ties. `samples` is not used."""
    check_key(rng, state.pulls.shape[:-1])
    return masked.argmax_probs(ucb_index(state, obs, alpha=alpha))


def _init(arms: int, features: int, ridge: Scalar, dtype: torch.dtype) -> partial[State]:
    check_size("arms", arms, low=2)
    check_size("features", features)
    check_number("ridge", ridge, low=0.0, open_low=True)
    return partial(init, arms=arms, features=features, ridge=ridge, dtype=dtype)


def lin_ucb(
    *, arms: int, features: int, alpha: Scalar = 1.0, ridge: Scalar = 1.0, dtype: torch.dtype = torch.float32
) -> Bandit:
    """LinUCB, disjoint: ridge regression for each arm, and alpha standard deviations of optimism.

    arms: K >= 2; features: d >= 1. alpha >= 0 in the reward's unit, ridge > 0; each a number or a tensor [*B].
    Raises ValueError for values outside, ShapeError for contexts that are not [*B, K, d].
    Source: Li, Chu, Langford and Schapire 2010, algorithm 1.
    """
    check_number("alpha", alpha, low=0.0)
    prior = _init(arms, features, ridge, dtype)
    return Bandit(prior, partial(ucb_select, alpha=alpha), update, partial(ucb_policy, alpha=alpha))


def ts_select(state: State, rng: Tensor, obs: Tensor | None = None, *, scale: Scalar = 0.1) -> Tensor:
    """The arm of largest drawn score: int64 [*B].

    With disjoint posteriors the scores x'w are independent normals across arms, so drawing them is exact and no
    weight vector need be drawn.
    """
    check_key(rng, state.pulls.shape[:-1])
    mean, variance = scores(state, obs)
    noise = random.normal(random.fold_in(rng, 0), mean.shape[-1:], dtype=mean.dtype)
    return masked.argmax(mean + per_lane(scale, mean.dtype) * torch.sqrt(variance) * noise, random.fold_in(rng, 1))


def lin_ts(
    *, arms: int, features: int, scale: Scalar = 0.1, ridge: Scalar = 1.0, dtype: torch.dtype = torch.float32
) -> Bandit:
    """Linear Thompson sampling, disjoint: each arm's score is drawn from its exact posterior.

    arms: K >= 2; features: d >= 1. scale >= 0 is the noise's standard deviation in the reward's unit, ridge > 0;
    each a number or a tensor [*B]. `policy` is a Monte Carlo estimate. Raises ValueError for values outside,
    ShapeError for contexts that are not [*B, K, d]. Source: Agrawal and Goyal 2013 (contextual), algorithm 1.
    """
    check_number("scale", scale, low=0.0)
    draw = partial(ts_select, scale=scale)
    return Bandit(_init(arms, features, ridge, dtype), draw, update, partial(_arms.sampled_policy, select=draw))
