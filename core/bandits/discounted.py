"""Learners that forget by discounting: each step multiplies all that was seen before. Rewards in [0, 1]."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.bandits import arms as _arms
from armfold.core.bandits.thompson import beta_select
from armfold.core.check import check_key, check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane


class State(NamedTuple):
    """Discounted plays and rewards of each arm. One that is not played for long comes back to 0, its start."""

    pulls: Tensor  # [*B, K] float64, plays, each worth gamma^(plays of any arm since)
    reward_sum: Tensor  # [*B, K] float64, reward unit, discounted likewise


def init(rng: Tensor, *, arms: int) -> State:
    """No plays, for each key in rng [*B, 2]."""
    check_key(rng)
    shape = (*rng.shape[:-1], arms)
    return State(*(torch.zeros(shape, dtype=torch.float64, device=rng.device) for _ in State._fields))


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    gamma: Scalar = 0.9975,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """All arms discounted by gamma, then one play counted: action int64 [*B], reward float [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    played = _arms.chosen(state.pulls, action, reward)
    learned, gamma = played.any(-1, keepdim=True), per_lane(gamma, torch.float64)
    pulls, reward_sum = (torch.where(learned, gamma * past, past) for past in state)
    return State(pulls + played, _arms.add_reward(reward_sum, played, reward))


def d_ucb_index(state: State, *, xi: Scalar = 0.02, dtype: torch.dtype = torch.float32) -> Tensor:
    """mean + 2 sqrt(xi ln(1 + all plays) / plays), all discounted, [*B, K]; +inf for arms never played.

    The plays of an arm that is kept from being played may underflow: it too is at +inf then.
    """
    # In float64 throughout: float32 would have no plays left after 9,000 steps at gamma = 0.99.
    log_time = torch.log(1 + state.pulls.sum(-1, keepdim=True))
    width = torch.sqrt(per_lane(xi, torch.float64) * log_time / state.pulls)
    return torch.where(state.pulls > 0, state.reward_sum / state.pulls + 2 * width, torch.inf).to(dtype)


def d_ucb(*, arms: int, gamma: Scalar = 0.9975, xi: Scalar = 0.02, dtype: torch.dtype = torch.float32) -> Bandit:
    """Discounted UCB: UCB1 over plays that fade by gamma a step, 2 sqrt(xi ln n / n_k).

    arms: K >= 2. gamma in (0, 1]: it remembers about 1 / (1 - gamma) steps, and at gamma = 1 is `ucb1` with
    c = 4 xi. xi >= 0; the proof wants more than 0.5, which is close to uniform play where memory holds few plays of
    each arm. Each a number or a tensor [*B]. Rewards in [0, 1]. Raises ValueError for values outside.
    Source: Garivier and Moulines 2011, section 3; Kocsis and Szepesvari 2006.
    """
    check_size("arms", arms, low=2)
    check_number("gamma", gamma, low=0.0, high=1.0, open_low=True)
    check_number("xi", xi, low=0.0)
    index = partial(d_ucb_index, xi=xi, dtype=dtype)
    return Bandit(
        partial(init, arms=arms),
        partial(_arms.select, index=index),
        partial(update, gamma=gamma),
        partial(_arms.policy, index=index),
    )


def discounted_ts(
    *,
    arms: int,
    gamma: Scalar = 0.999,
    prior_a: Scalar = 1.0,
    prior_b: Scalar = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """Thompson sampling whose successes and failures fade by gamma a step, back to Beta(prior_a, prior_b).

    arms: K >= 2. gamma in (0, 1]: at 1 it is `beta_ts`. prior_a, prior_b > 0. Each a number or a tensor [*B].
    Rewards in [0, 1]; those between count as fractions of a success. `policy` is a Monte Carlo estimate.
    Raises ValueError for values outside. Source: Raj and Kalyani 2017, algorithm 1.
    """
    check_size("arms", arms, low=2)
    check_number("gamma", gamma, low=0.0, high=1.0, open_low=True)
    check_number("prior_a", prior_a, low=0.0, open_low=True)
    check_number("prior_b", prior_b, low=0.0, open_low=True)
    draw = partial(beta_select, prior_a=prior_a, prior_b=prior_b, dtype=dtype)
    return Bandit(
        partial(init, arms=arms), draw, partial(update, gamma=gamma), partial(_arms.sampled_policy, select=draw)
    )
