"""Bernoulli arms: fixed, or drifting by a random walk in [0, 1]. Rewards 0 and 1."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key, check_number, check_size, check_values
from armfold.core.envs.arms import coin, fixed
from armfold.core.types import BanditEnv, Scalar, per_lane


class State(NamedTuple):
    """The arms of each lane."""

    p: Tensor  # [*B, K] float32, probability of a reward of 1


def init_fixed(rng: Tensor, *, p: Tensor) -> State:
    """The arms p [K], or [*B, K], in every lane of rng [*B, 2]."""
    return State(fixed("p", p, rng))


def init_uniform(rng: Tensor, *, arms: int) -> State:
    """Arms p ~ U(0, 1), drawn for each lane of rng [*B, 2]."""
    return State(random.uniform(rng, (arms,)))


def observe(state: State) -> None:
    """No context."""
    return None


def means(state: State) -> Tensor:
    """Expected rewards now, [*B, K]."""
    return state.p.clone()


def pull(state: State, rng: Tensor, action: Tensor) -> tuple[State, Tensor]:
    """A coin of the pulled arm."""
    return state, coin(rng, state.p, action)


def start(p: Sequence[float] | Tensor | None, arms: int | None) -> partial[State]:
    """The `init` of arms p, or of `arms` arms drawn for each lane. Raises ValueError for neither, both, or bad ones."""
    if p is None and arms is not None:
        check_size("arms", arms, low=2)
        return partial(init_uniform, arms=arms)
    if p is None or arms is not None:
        raise ValueError(f"give either p or arms, got p={p!r}, arms={arms!r}")
    if not isinstance(p, Tensor):
        for i, value in enumerate(p):
            check_number(f"p[{i}]", value, low=0.0, high=1.0)
        p = torch.tensor(tuple(p), dtype=torch.float32)
    if p.ndim == 0 or p.shape[-1] < 2 or not p.is_floating_point():
        raise ShapeError(f"p must be floating [K] or [*B, K] with K >= 2, got {p.dtype} {tuple(p.shape)}")
    check_values("p", p, low=0, high=1)
    return partial(init_fixed, p=p)


def bernoulli(*, p: Sequence[float] | Tensor | None = None, arms: int | None = None) -> BanditEnv:
    """Bernoulli arms that stay: p as given, or p ~ U(0, 1) for each lane.

    p: K >= 2 probabilities, or a tensor [K] or [*B, K]; or arms: K. Raises ValueError for values outside [0, 1].
    Source: Robbins 1952.
    """
    return BanditEnv(start(p, arms), observe, means, pull)


def drift(
    state: State,
    rng: Tensor,
    action: Tensor,
    *,
    sigma: Scalar = 0.1,
    boundary: Literal["clip", "reflect"] = "clip",
) -> tuple[State, Tensor]:
    """A coin of the pulled arm; then every p takes a step N(0, sigma^2), and what left [0, 1] comes back."""
    check_key(rng, state.p.shape[:-1])
    reward = coin(random.fold_in(rng, 0), state.p, action)
    step = random.normal(random.fold_in(rng, 1), state.p.shape[-1:])
    p = state.p + per_lane(sigma, state.p.dtype) * step
    p = p.clamp(0, 1) if boundary == "clip" else 1 - (1 - p % 2).abs()  # folded at 0 and 1, however far it went
    return State(p), reward


def drifting(
    *,
    p: Sequence[float] | Tensor | None = None,
    arms: int | None = None,
    sigma: Scalar = 0.1,
    boundary: Literal["clip", "reflect"] = "clip",
) -> BanditEnv:
    """Bernoulli arms that drift: each p walks by N(0, sigma^2) a step, clipped to [0, 1] or reflected at its ends.

    p: K >= 2 probabilities to start from, or a tensor [K] or [*B, K]; or arms: K, drawn from U(0, 1).
    sigma >= 0: a number or a tensor [*B]. boundary: "clip", where many arms come to lie at 0 and 1 exactly, or
    "reflect", which leaves U(0, 1) as it is and is the source's. Raises ValueError for values outside.
    Source: Slivkins and Upfal 2008.
    """
    check_number("sigma", sigma, low=0.0)
    if boundary not in ("clip", "reflect"):
        raise ValueError(f"boundary must be 'clip' or 'reflect', got {boundary!r}")
    return BanditEnv(start(p, arms), observe, means, partial(drift, sigma=sigma, boundary=boundary))
