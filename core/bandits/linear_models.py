"""Linear models of the reward for K arms: what a rule such as LinUCB or Thompson sampling chooses by.

disjoint: a weight vector for each arm. shared: one for all arms. hybrid: both, and their sum is an arm's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.bayes import linear
from armfold.core.check import check_available, check_key, check_number, check_size, require_obs
from armfold.core.types import Scalar, per_lane

Kind = Literal["disjoint", "shared", "hybrid"]


class State(NamedTuple):
    """A linear posterior for each arm, or (shared) one for all."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    root: Tensor  # [*B, K, d, d] or (shared) [*B, d, d] float, square root of the covariance, of unit noise
    mean: Tensor  # [*B, K, d] or (shared) [*B, d] float, weights, reward unit per feature


class HybridState(NamedTuple):
    """Weights b common to all arms, and of each arm its own weights given b: their mean is mean - cross b."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    root: Tensor  # [*B, K, d, d] float, square root of the covariance of an arm's weights given b, of unit noise
    mean: Tensor  # [*B, K, d] float, an arm's weights if b were 0
    cross: Tensor  # [*B, K, d, m] float, how they give way to b
    shared_root: Tensor  # [*B, m, m] float, square root of the covariance of b
    shared_mean: Tensor  # [*B, m] float, mean of b


class Model(NamedTuple):
    """A posterior over the arms' scores.

    init(rng [*B, 2]) -> state
    contexts(state, obs) -> x [*B, K, d]              obs checked, in the posterior's dtype
    score(state, x) -> (mean, variance)               [*B, K] each; the variance is of unit noise
    draw(state, rng, x, scale) -> [*B, K]             scores from the joint posterior of noise `scale`
    learn(state, x, action, y, weight, played) -> state
                                                      y [*B] seen in x[action] with precision weight [*B]; unchanged in
                                                      lanes where played [*B, K] is all false
    """

    init: Callable[..., Any]
    contexts: Callable[..., Tensor]
    score: Callable[..., tuple[Tensor, Tensor]]
    draw: Callable[..., Tensor]
    learn: Callable[..., Any]


def observed(
    state: State,
    model: Model,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    available: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts [*B, K, d], reward [*B] and the played arm, bool [*B, K], all false where reward or context is bad."""
    *batch, arms = state.pulls.shape
    check_key(rng, batch)
    check_available(available, batch, arms)
    played = _arms.chosen(state.pulls, action, reward)
    x, y = model.contexts(state, obs), reward.to(state.mean.dtype)
    taken = masked.take(x, action)
    size = (taken * taken).sum(-1)  # not finite where a feature is not, or where its square would overflow
    return x, y, played & torch.isfinite(size + y * y).unsqueeze(-1)


def contexts(state: State, obs: Tensor | None, *, features: int) -> Tensor:
    """`obs` [*B, K, d] in the posterior's dtype; ShapeError for other shapes."""
    return require_obs(obs, tuple(state.pulls.shape[:-1]), state.pulls.shape[-1], features).to(state.mean.dtype)


def _replace(old: Tensor, new: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted.reshape(*counted.shape, *(1,) * (old.ndim - counted.ndim)), new, old)


# --- disjoint


def init_disjoint(rng: Tensor, *, arms: int, features: int, ridge: Scalar, dtype: torch.dtype) -> State:
    """The prior of every arm, for each key in rng [*B, 2]."""
    pulls = _arms.init(rng, arms=arms).pulls
    prior = linear.init(pulls.shape, features=features, ridge=per_lane(ridge, dtype), dtype=dtype, device=rng.device)
    return State(pulls, *prior)


def score_disjoint(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every arm's score."""
    return linear.score(linear.State(state.root, state.mean), x)


def draw_disjoint(state: State, rng: Tensor, x: Tensor, scale: Scalar) -> Tensor:
    """Scores of disjoint posteriors are independent normals: no weight vector need be drawn."""
    mean, variance = score_disjoint(state, x)
    noise = random.normal(rng, mean.shape[-1:], dtype=mean.dtype)
    return mean + per_lane(scale, mean.dtype) * torch.sqrt(variance) * noise


def learn_disjoint(state: State, x: Tensor, action: Tensor, y: Tensor, weight: Tensor, played: Tensor) -> State:
    """Only the played arm's posterior is read and written: index_put compiles to a store in place."""
    before = linear.State(masked.take(state.root, action), masked.take(state.mean, action))
    after = linear.update(before, masked.take(x, action), y, weight)
    counted = played.any(-1)
    return State(
        _arms.add_pull(state.pulls, played),
        masked.put(state.root, action, _replace(before.root, after.root, counted)),
        masked.put(state.mean, action, _replace(before.mean, after.mean, counted)),
    )


# --- shared


def init_shared(rng: Tensor, *, arms: int, features: int, ridge: Scalar, dtype: torch.dtype) -> State:
    """The prior of the weights, for each key in rng [*B, 2]."""
    pulls = _arms.init(rng, arms=arms).pulls
    batch = tuple(pulls.shape[:-1])
    return State(pulls, *linear.init(batch, features=features, ridge=ridge, dtype=dtype, device=rng.device))


def score_shared(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every arm's score."""
    return linear.score(linear.State(state.root.unsqueeze(-3), state.mean.unsqueeze(-2)), x)


def draw_weights(root: Tensor, mean: Tensor, rng: Tensor, scale: Scalar) -> Tensor:
    """Weights from the posterior, [*B, d]: the square root is at hand, nothing need be factorised."""
    noise = random.normal(rng, mean.shape[-1:], dtype=mean.dtype)
    return mean + per_lane(scale, mean.dtype) * (root * noise.unsqueeze(-2)).sum(-1)


def draw_shared(state: State, rng: Tensor, x: Tensor, scale: Scalar) -> Tensor:
    """Every arm's score under weights drawn once."""
    return (x * draw_weights(state.root, state.mean, rng, scale).unsqueeze(-2)).sum(-1)


def learn_shared(state: State, x: Tensor, action: Tensor, y: Tensor, weight: Tensor, played: Tensor) -> State:
    """The weights given one observation."""
    before = linear.State(state.root, state.mean)
    after = linear.update(before, masked.take(x, action), y, weight)
    counted = played.any(-1)
    return State(
        _arms.add_pull(state.pulls, played),
        _replace(before.root, after.root, counted),
        _replace(before.mean, after.mean, counted),
    )


# --- hybrid


def init_hybrid(rng: Tensor, *, arms: int, own: int, shared: int, ridge: Scalar, dtype: torch.dtype) -> HybridState:
    """The prior of common and own weights, for each key in rng [*B, 2]."""
    arm = init_disjoint(rng, arms=arms, features=own, ridge=ridge, dtype=dtype)
    common = linear.init(rng.shape[:-1], features=shared, ridge=ridge, dtype=dtype, device=rng.device)
    cross = torch.zeros((*arm.mean.shape, shared), dtype=dtype, device=rng.device)
    return HybridState(*arm, cross, *common)


def _parts(state: HybridState, x: Tensor) -> tuple[Tensor, Tensor]:
    """What of x meets the common weights and what the arm's own: all of it both where their sizes say so."""
    own, shared = state.mean.shape[-1], state.shared_mean.shape[-1]
    return x[..., :shared], x[..., x.shape[-1] - own :]


def _given(mean: Tensor, cross: Tensor, common: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Of a score: its part that does not depend on the common weights, and their coefficients in the rest."""
    return (mean * own).sum(-1), common - (cross * own.unsqueeze(-1)).sum(-2)


def score_hybrid(state: HybridState, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every arm's score."""
    common, own = _parts(state, x)
    base, coefficients = _given(state.mean, state.cross, common, own)
    mean, variance = linear.score(
        linear.State(state.shared_root.unsqueeze(-3), state.shared_mean.unsqueeze(-2)), coefficients
    )
    projected = linear.project(state.root, own)
    return base + mean, variance + (projected * projected).sum(-1)


def draw_hybrid(state: HybridState, rng: Tensor, x: Tensor, scale: Scalar) -> Tensor:
    """Common weights drawn once; given them the arms' scores are independent normals."""
    common, own = _parts(state, x)
    base, coefficients = _given(state.mean, state.cross, common, own)
    weights = draw_weights(state.shared_root, state.shared_mean, random.fold_in(rng, 0), scale)
    projected = linear.project(state.root, own)
    noise = random.normal(random.fold_in(rng, 1), base.shape[-1:], dtype=base.dtype)
    spread = torch.sqrt((projected * projected).sum(-1)) * noise
    return base + (coefficients * weights.unsqueeze(-2)).sum(-1) + per_lane(scale, base.dtype) * spread


def learn_hybrid(
    state: HybridState, x: Tensor, action: Tensor, y: Tensor, weight: Tensor, played: Tensor
) -> HybridState:
    """The common weights see the score with the arm's own weights integrated out; then those, given the common ones."""
    common, own = _parts(state, masked.take(x, action))
    root, mean, cross = (masked.take(field, action) for field in (state.root, state.mean, state.cross))
    base, coefficients = _given(mean, cross, common, own)
    projected = linear.project(root, own)
    before = linear.State(state.shared_root, state.shared_mean)
    precision = weight / (1 + weight * (projected * projected).sum(-1))
    after = linear.update(before, coefficients, y - base, precision)
    smaller, gain = linear.absorb(root, own, weight)
    counted = played.any(-1)
    return HybridState(
        _arms.add_pull(state.pulls, played),
        masked.put(state.root, action, _replace(root, smaller, counted)),
        masked.put(state.mean, action, _replace(mean, mean + (y - base).unsqueeze(-1) * gain, counted)),
        masked.put(
            state.cross,
            action,
            _replace(cross, cross + gain.unsqueeze(-1) * coefficients.unsqueeze(-2), counted),
        ),
        _replace(before.root, after.root, counted),
        _replace(before.mean, after.mean, counted),
    )


def linear_model(
    kind: Kind, *, arms: int, features: int, ridge: Scalar, shared_features: int = 0, dtype: torch.dtype
) -> Model:
    """The model of that kind for K = arms >= 2 and contexts of features d >= 1; ridge > 0, a number or a tensor [*B].

    shared_features, for hybrid: so many features, the first ones, have common weights alone and the rest the arm's
    alone; 0: all have both. Raises ValueError.
    """
    check_size("arms", arms, low=2)
    check_size("features", features)
    check_number("ridge", ridge, low=0.0, open_low=True)
    check_size("shared_features", shared_features, low=0)
    if shared_features and (kind != "hybrid" or shared_features >= features):
        raise ValueError(f"shared_features must be 0, or below features in a hybrid model, got {shared_features}")
    see = partial(contexts, features=features)
    if kind == "disjoint":
        start = partial(init_disjoint, arms=arms, features=features, ridge=ridge, dtype=dtype)
        return Model(start, see, score_disjoint, draw_disjoint, learn_disjoint)
    if kind == "shared":
        start = partial(init_shared, arms=arms, features=features, ridge=ridge, dtype=dtype)
        return Model(start, see, score_shared, draw_shared, learn_shared)
    if kind == "hybrid":
        own, shared = features - shared_features, shared_features or features
        both = partial(init_hybrid, arms=arms, own=own, shared=shared, ridge=ridge, dtype=dtype)
        return Model(both, see, score_hybrid, draw_hybrid, learn_hybrid)
    raise ValueError(f"model must be 'disjoint', 'shared' or 'hybrid', got {kind!r}")
