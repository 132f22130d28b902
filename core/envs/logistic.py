"""Contexts with a logistic reward: one random feature vector for each arm and step. Rewards 0 and 1."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_key, check_number, check_size
from armfold.core.envs.arms import coin
from armfold.core.types import BanditEnv, Scalar, per_lane


class State(NamedTuple):
    """The arms of each lane and the context that they are in."""

    theta: Tensor  # [*B, K, d] float32, weights of each arm
    x: Tensor  # [*B, K, d] float32, features of each arm now


def init(rng: Tensor, *, arms: int, features: int, scale: Scalar = 1.0) -> State:
    """theta ~ N(0, scale^2) and a first context x ~ N(0, 1), for each lane of rng [*B, 2]."""
    theta = per_lane(scale, torch.float32, 2) * random.normal(random.fold_in(rng, 0), (arms, features))
    return State(theta, random.normal(random.fold_in(rng, 1), (arms, features)))


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


def contextual(*, arms: int, features: int = 8, scale: Scalar = 1.0) -> BanditEnv:
    """Logistic-Bernoulli contexts: P(reward 1) = sigmoid(x . theta_k), x ~ N(0, 1), theta ~ N(0, scale^2).

    arms: K >= 2; features: d >= 1; scale >= 0: a number or a tensor [*B]. Raises ValueError for values outside.
    Source: Chapelle and Li 2011, section 4.
    """
    check_size("arms", arms, low=2)
    check_size("features", features)
    check_number("scale", scale, low=0.0)
    return BanditEnv(partial(init, arms=arms, features=features, scale=scale), observe, means, pull)
