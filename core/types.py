"""The few tuples that everything shares. An algorithm or an environment is a tuple of pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

State = Any  # a NamedTuple of tensors, each with leading lane dimensions [*B]
Scalar = float | Tensor  # a tunable: one number for all lanes, or a tensor [*B] with one for each


def per_lane(tunable: Scalar, dtype: torch.dtype, dims: int = 1) -> Scalar:
    """A tunable [*B] ready to meet values [*B, ...] of `dtype` with `dims` dimensions more.

    A number stays, and so does a 0-dim tensor: neither takes part in type promotion.
    """
    if isinstance(tunable, Tensor) and tunable.ndim:
        return tunable.reshape((*tunable.shape, *(1,) * dims)).to(dtype)
    return tunable


class Bandit(NamedTuple):
    """A bandit algorithm for K arms.

    init(rng [*B, 2]) -> state
    select(state, rng, obs) -> action                 obs [*B, K, d] or None; action int64 [*B]
    update(state, rng, obs, action, reward, *, propensity=None) -> state
                                                      propensity [*B]: of the action when it was selected, for
                                                      rewards that come later; None: recomputed where needed
    policy(state, rng, obs, *, samples) -> [*B, K]    the law of `select` over its rng; exact unless documented as
                                                      a Monte Carlo estimate from `samples` draws

    All three take `available=`: bool [*B, K], the arms that could be chosen at this step; None: all of them. An arm
    that is not available is never chosen; where none is, the action is -1 and the law is 0.
    """

    init: Callable[..., State]
    select: Callable[..., Tensor]
    update: Callable[..., State]
    policy: Callable[..., Tensor]


class Logged(NamedTuple):
    """Decisions of n steps, as a log has them."""

    obs: Tensor | None  # [*B, n, K, d] float: what was seen; None: no context
    action: Tensor  # [*B, n] int64, in [0, K)
    reward: Tensor  # [*B, n] float, reward unit
    propensity: Tensor | None = None  # [*B, n] float, in (0, 1]: probability of the action when it was chosen


class BanditEnv(NamedTuple):
    """A bandit environment; its state holds the current context.

    init(rng [*B, 2]) -> state
    observe(state) -> obs [*B, K, d] or None
    means(state) -> [*B, K]                           expected rewards now
    pull(state, rng, action) -> (state, reward [*B])  the reward first, then drift and the next context
    """

    init: Callable[..., State]
    observe: Callable[[State], Tensor | None]
    means: Callable[[State], Tensor]
    pull: Callable[[State, Tensor, Tensor], tuple[State, Tensor]]


class Step(NamedTuple):
    """What one step of an `Env` returns beside its state."""

    reward: Tensor  # [*B] float
    terminated: Tensor  # [*B] bool: the episode ended by its rules
    truncated: Tensor  # [*B] bool: the episode was cut off


class Env(NamedTuple):
    """A sequential environment with A actions.

    init(rng [*B, 2]) -> state
    observe(state) -> obs
    legal(state) -> bool [*B, A] or None
    step(state, rng, action) -> (state, Step)
    """

    init: Callable[..., State]
    observe: Callable[[State], Tensor | None]
    legal: Callable[[State], Tensor | None]
    step: Callable[[State, Tensor, Tensor], tuple[State, Step]]
