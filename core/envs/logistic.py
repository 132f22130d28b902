"""Contexts with a logistic reward: one random feature vector for each arm and step. Rewards 0 and 1."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key, check_number, check_size, check_values
from armfold.core.envs.arms import coin, fixed
from armfold.core.types import BanditEnv, Scalar, per_lane


class State(NamedTuple):
    """The arms of each lane and the context that they are in."""

    theta: Tensor  # [*B, K, d] float32, weights of each arm
    x: Tensor  # [*B, K, d] float32, features of each arm now


def init(rng: Tensor, *, arms: int, features: int, scale: Scalar = 1.0) -> State:
    """theta ~ N(0, scale^2) and a first context x ~ N(0, 1), for each lane of rng [*B, 2]."""
    theta = per_lane(scale, torch.float32, 2) * random.normal(random.fold_in(rng, 0), (arms, features))
    return State(theta, random.normal(random.fold_in(rng, 1), (arms, features)))


def init_fixed(rng: Tensor, *, theta: Tensor) -> State:
    """The weights theta [K, d], or [*B, K, d], in every lane of rng [*B, 2], and the first context."""
    shape = theta.shape[-2:]
    return State(fixed("theta", theta, rng, dims=2), random.normal(random.fold_in(rng, 1), shape))


def observe(state: State) -> Tensor:
    """The context, [*B, K, d]."""
    return state.x.clone()


def logits(state: State) -> Tensor:
    """x . theta for each arm, [*B, K]."""
    return torch.einsum("...kd,...kd->...k", state.x, state.theta)


def means(state: State) -> Tensor:
    """Probability of a reward of 1 in this context, [*B, K]."""
    return torch.sigmoid(logits(state))


def pull(state: State, rng: Tensor, action: Tensor) -> tuple[State, Tensor]:
    """A coin of the pulled arm in this context; then the next context."""
    check_key(rng, state.x.shape[:-2])
    reward = coin(random.fold_in(rng, 0), means(state), action)
    return State(state.theta, random.normal(random.fold_in(rng, 1), state.x.shape[-2:])), reward


def contextual(
    *, arms: int | None = None, features: int | None = None, scale: Scalar = 1.0, theta: Tensor | None = None
) -> BanditEnv:
    """Logistic-Bernoulli contexts: P(reward 1) = sigmoid(x . theta_k), x ~ N(0, 1), theta ~ N(0, scale^2).

    arms: K >= 2; features: d >= 1, 8 where it is not given; scale >= 0: a number or a tensor [*B]. Or, in their place,
    theta: the weights, floating [K, d] or [*B, K, d]. Raises ValueError for values outside.
    Source: Chapelle and Li 2011, section 4.
    """
    check_number("scale", scale, low=0.0)
    if theta is None and arms is not None:
        features = 8 if features is None else features
        check_size("arms", arms, low=2)
        check_size("features", features)
        return BanditEnv(partial(init, arms=arms, features=features, scale=scale), observe, means, pull)
    if theta is None or arms is not None or features is not None:
        raise ValueError(f"give either theta or arms, got arms={arms!r}, features={features!r}, theta={theta!r}")
    if isinstance(scale, Tensor) or scale != 1:
        raise ValueError(f"scale is of weights that are drawn: leave it out beside theta, got {scale!r}")
    return BanditEnv(partial(init_fixed, theta=_checked(theta)), observe, means, pull)


def _checked(theta: Tensor) -> Tensor:
    if theta.ndim < 2 or theta.shape[-2] < 2 or theta.shape[-1] == 0 or not theta.is_floating_point():
        raise ShapeError(
            f"theta must be floating [K, d] or [*B, K, d], K >= 2 and d >= 1, got {theta.dtype} {tuple(theta.shape)}"
        )
    most = torch.finfo(torch.float32).max
    check_values("theta", theta, low=-most, high=most)
    return theta
