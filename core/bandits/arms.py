"""What learners that keep plain statistics of each arm share: the state, its update, and index policies over it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import (
    check_action,
    check_available,
    check_key,
    check_obs,
    check_reward,
    check_shape,
    check_size,
)
from armfold.core.types import Bandit

_MOST_PULLS = torch.iinfo(torch.int64).max


class State(NamedTuple):
    """Plays and rewards of each arm. Sums are float64: in float32 a sum of ones would stop at 2**24."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    reward_sum: Tensor  # [*B, K] float64, reward unit


def init(rng: Tensor, *, arms: int) -> State:
    """No plays, for each key in rng [*B, 2]."""
    check_key(rng)
    shape = (*rng.shape[:-1], arms)
    return State(
        torch.zeros(shape, dtype=torch.int64, device=rng.device),
        torch.zeros(shape, dtype=torch.float64, device=rng.device),
    )


def counts(pulls: Tensor, action: Tensor, reward: Tensor) -> Tensor:
    """Bool [*B]: whether a play counts, with a finite reward and an action in [0, K), for any `pulls` [*B, K]."""
    check_action(action, pulls.shape[:-1])
    check_reward(reward, pulls.shape[:-1])
    return torch.isfinite(reward) & (action >= 0) & (action < pulls.shape[-1])


def chosen(pulls: Tensor, action: Tensor, reward: Tensor) -> Tensor:
    """Bool [*B, K]: the arm that was played. All false for a reward that is not finite or an action outside
    [0, K), so that an update under this mask leaves such a lane unchanged."""
    check_action(action, pulls.shape[:-1])
    check_reward(reward, pulls.shape[:-1])
    return masked.one_hot(action, pulls.shape[-1]) & torch.isfinite(reward).unsqueeze(-1)


def add_pull(pulls: Tensor, played: Tensor) -> Tensor:
    """`pulls` with one more play where `played`, staying at the largest int64 once there."""
    return pulls + (played & (pulls < _MOST_PULLS))


def add_reward(total: Tensor, played: Tensor, reward: Tensor) -> Tensor:
    """`total` [*B, K] plus `reward` [*B] where `played`."""
    return torch.where(played, total + reward.unsqueeze(-1).to(total.dtype), total)


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
    """One play counted: action int64 [*B], reward float [*B]. The rest is not used."""
    check_select(state.pulls, rng, obs, available)
    played = chosen(state.pulls, action, reward)
    return State(add_pull(state.pulls, played), add_reward(state.reward_sum, played, reward))


def plays(state: State, dtype: torch.dtype) -> Tensor:
    """Plays of each arm [*B, K], at least 1, in `dtype`."""
    return state.pulls.clamp(min=1).to(dtype)


def mean(state: State, dtype: torch.dtype) -> Tensor:
    """Mean reward of each arm [*B, K], 0 for an arm never played."""
    return state.reward_sum.to(dtype) / plays(state, dtype)


def time(state: State, dtype: torch.dtype) -> Tensor:
    """The step about to be taken, 1 + all plays so far, [*B, 1]."""
    return 1 + state.pulls.to(dtype).sum(-1, keepdim=True)


def unplayed_first(state: State, index: Tensor) -> Tensor:
    """`index` with +inf for arms never played, so that they come first, in random order."""
    return torch.where(state.pulls == 0, torch.inf, index)


Index = Callable[..., Tensor]  # state -> [*B, K], the largest is played


def select(
    state: State, rng: Tensor, obs: Tensor | None = None, *, index: Index, available: Tensor | None = None
) -> Tensor:
    """The arm of largest index, ties at random: int64 [*B]."""
    check_select(state.pulls, rng, obs, available)
    return masked.argmax(_indexed(state, index), rng, available)


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    index: Index,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]: uniform over the ties. `samples` is not used."""
    check_select(state.pulls, rng, obs, available)
    return masked.argmax_probs(_indexed(state, index), available)


def _indexed(state: State, index: Index) -> Tensor:
    values = index(state)
    check_shape("index (have tunables one value a lane?)", values, state.pulls.shape)
    return values


def check_select(pulls: Tensor, rng: Tensor, obs: Tensor | None, available: Tensor | None = None) -> None:
    """Raise ShapeError unless `rng`, and `obs` and `available` (which may be None), fit `pulls` [*B, K]."""
    *batch, arms = pulls.shape
    check_key(rng, batch)
    check_obs(obs, batch, arms)
    check_available(available, batch, arms)


def index_bandit(index: Index, *, arms: int) -> Bandit:
    """A bandit that plays the arm of largest `index(state)`, for any index over plays and rewards."""
    check_size("arms", arms, low=2)
    return Bandit(partial(init, arms=arms), partial(select, index=index), update, partial(policy, index=index))


def sampled_policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    select: Callable[..., Tensor],
    available: Tensor | None = None,
    samples: int = 1024,
) -> Tensor:
    """Monte Carlo estimate of the law of `select` from `samples` draws: [*B, K] float32."""
    check_size("samples", samples)
    draw = torch.func.vmap(partial(select, available=available), in_dims=(None, 0, None))
    drawn = draw(state, random.split(rng, samples), obs)
    arm = torch.arange(state.pulls.shape[-1], device=drawn.device)
    return (drawn.unsqueeze(-1) == arm).to(torch.float32).mean(0)
