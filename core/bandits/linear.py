"""Rules over a linear model of the reward (see `linear_models`): optimism, Thompson sampling, epsilon. Any reward unit.

Contexts are [*B, K, d]: one feature vector for each arm; where all arms share a context it is repeated.
"""

from functools import partial

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.greedy import exploration, explore_or_exploit, explore_or_exploit_law
from armfold.core.bandits.linear_models import Kind, Model, State, linear_model, observed
from armfold.core.check import check_available, check_key, check_number
from armfold.core.types import Bandit, Scalar, per_lane


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
    learned: State = model.learn(state, x, action, y, torch.ones_like(y), played)
    return learned


def scores(
    state: State, rng: Tensor, obs: Tensor | None, model: Model, available: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean and variance (of unit noise) of every arm's reward in the contexts obs: [*B, K] each."""
    *batch, arms = state.pulls.shape
    check_key(rng, batch)
    check_available(available, batch, arms)
    return model.score(state, model.contexts(state, obs))


def ucb_index(mean: Tensor, variance: Tensor, *, alpha: Scalar = 1.0) -> Tensor:
    """mean + alpha standard deviations of every arm's score, [*B, K]."""
    return mean + per_lane(alpha, mean.dtype) * torch.sqrt(variance)


def ucb_select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    alpha: Scalar = 1.0,
    available: Tensor | None = None,
) -> Tensor:
    """The arm of largest upper bound in its context, ties at random: int64 [*B]."""
    return masked.argmax(ucb_index(*scores(state, rng, obs, model, available), alpha=alpha), rng, available)


def ucb_policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    alpha: Scalar = 1.0,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `ucb_select`, [*B, K]: uniform over the ties. `samples` is not used."""
    return masked.argmax_probs(ucb_index(*scores(state, rng, obs, model, available), alpha=alpha), available)


def ts_select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    scale: Scalar = 0.1,
    available: Tensor | None = None,
) -> Tensor:
    """The arm of largest drawn score: int64 [*B]."""
    *batch, arms = state.pulls.shape
    check_key(rng, batch)
    check_available(available, batch, arms)
    drawn = model.draw(state, random.fold_in(rng, 0), model.contexts(state, obs), scale)
    return masked.argmax(drawn, random.fold_in(rng, 1), available)


def ucb_bandit(model: Model, alpha: Scalar, update: partial[State]) -> Bandit:
    """Optimism over a model."""
    select = partial(ucb_select, model=model, alpha=alpha)
    return Bandit(model.init, select, update, partial(ucb_policy, model=model, alpha=alpha))


def ts_bandit(model: Model, scale: Scalar, update: partial[State]) -> Bandit:
    """Thompson sampling over a model."""
    draw = partial(ts_select, model=model, scale=scale)
    return Bandit(model.init, draw, update, partial(_arms.sampled_policy, select=draw))


def lin_ucb(
    *,
    arms: int,
    features: int,
    alpha: Scalar = 1.0,
    ridge: Scalar = 1.0,
    model: Kind = "disjoint",
    shared_features: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """LinUCB: ridge regression, and alpha standard deviations of optimism.

    arms: K >= 2; features: d >= 1. alpha >= 0 in the reward's unit, ridge > 0; each a number or a tensor [*B].
    model, shared_features: see `linear_models.linear_model`. dtype: of the posterior.
    Raises ValueError for values outside, ShapeError for contexts that are not [*B, K, d].
    Source: Li, Chu, Langford and Schapire 2010, algorithms 1 and 2.
    """
    check_number("alpha", alpha, low=0.0)
    made = linear_model(model, arms=arms, features=features, ridge=ridge, shared_features=shared_features, dtype=dtype)
    return ucb_bandit(made, alpha, partial(update, model=made))


def lin_ts(
    *,
    arms: int,
    features: int,
    scale: Scalar = 0.1,
    ridge: Scalar = 1.0,
    model: Kind = "disjoint",
    shared_features: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Linear Thompson sampling: the scores are drawn from their exact posterior.

    arms: K >= 2; features: d >= 1. scale >= 0 is the noise's standard deviation in the reward's unit, ridge > 0;
    each a number or a tensor [*B]. model, shared_features: see `linear_models.linear_model`. dtype: of the posterior.
    `policy` is a Monte Carlo estimate. Raises ValueError for values outside, ShapeError for contexts that are not
    [*B, K, d]. Source: Agrawal and Goyal 2013 (contextual), algorithm 1.
    """
    check_number("scale", scale, low=0.0)
    made = linear_model(model, arms=arms, features=features, ridge=ridge, shared_features=shared_features, dtype=dtype)
    return ts_bandit(made, scale, partial(update, model=made))


def greedy_select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    epsilon: Scalar = 0.1,
    decay: Scalar = 0.0,
    available: Tensor | None = None,
) -> Tensor:
    """A uniform arm with probability `greedy.exploration`, otherwise the best mean: int64 [*B]."""
    mean, _ = scores(state, rng, obs, model, available)
    explore = exploration(state.pulls, epsilon=epsilon, decay=decay, dtype=mean.dtype)
    return explore_or_exploit(mean, rng, explore, available)


def greedy_policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    model: Model,
    epsilon: Scalar = 0.1,
    decay: Scalar = 0.0,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `greedy_select`, [*B, K]. `samples` is not used."""
    mean, _ = scores(state, rng, obs, model, available)
    explore = exploration(state.pulls, epsilon=epsilon, decay=decay, dtype=mean.dtype)
    return explore_or_exploit_law(mean, explore, available)


def linear_epsilon_greedy(
    *,
    arms: int,
    features: int,
    epsilon: Scalar = 0.1,
    decay: Scalar = 0.0,
    ridge: Scalar = 1.0,
    model: Kind = "disjoint",
    shared_features: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Epsilon-greedy over ridge regression: explore with probability min(1, epsilon / t^decay).

    arms: K >= 2; features: d >= 1. epsilon in [0, 1], decay >= 0, ridge > 0; each a number or a tensor [*B].
    model, shared_features: see `linear_models.linear_model`. Raises ValueError for values outside, ShapeError for
    contexts that are not [*B, K, d]. Source: Langford and Zhang 2007, section 3; Auer et al. 2002, figure 3.
    """
    check_number("epsilon", epsilon, low=0.0, high=1.0)
    check_number("decay", decay, low=0.0)
    made = linear_model(model, arms=arms, features=features, ridge=ridge, shared_features=shared_features, dtype=dtype)
    return Bandit(
        made.init,
        partial(greedy_select, model=made, epsilon=epsilon, decay=decay),
        partial(update, model=made),
        partial(greedy_policy, model=made, epsilon=epsilon, decay=decay),
    )
