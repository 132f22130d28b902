"""Upper confidence bounds in closed form. Rewards in [0, 1]."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.bandits import arms as _arms
from armfold.core.bandits.arms import State
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane


def ucb1_index(state: State, *, c: Scalar = 2.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """mean + sqrt(c ln t / n), [*B, K], with t the step about to be taken; +inf for unplayed arms."""
    plays = _arms.plays(state, dtype)
    log_time = torch.log(_arms.time(state, dtype))
    return _arms.unplayed_first(state, _arms.mean(state, dtype) + torch.sqrt(per_lane(c, dtype) * log_time / plays))


def ucb1(*, arms: int, c: Scalar = 2.0, dtype: torch.dtype = torch.float32) -> Bandit:
    """UCB1: optimism by Hoeffding's bound, sqrt(c ln t / n).

    arms: K >= 2. c >= 0: a number or a tensor [*B]. Rewards in [0, 1]. Raises ValueError for values outside.
    Source: Auer, Cesa-Bianchi and Fischer 2002, figure 1.
    """
    check_number("c", c, low=0.0)
    return _arms.index_bandit(partial(ucb1_index, c=c, dtype=dtype), arms=arms)


class MomentState(NamedTuple):
    """`arms.State` and the sum of squared rewards."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    reward_sum: Tensor  # [*B, K] float64, reward unit
    square_sum: Tensor  # [*B, K] float64, reward unit squared


def init_moments(rng: Tensor, *, arms: int) -> MomentState:
    """No plays, for each key in rng [*B, 2]."""
    state = _arms.init(rng, arms=arms)
    return MomentState(*state, torch.zeros_like(state.reward_sum))


def update_moments(
    state: MomentState,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> MomentState:
    """`arms.update`, and the square of the reward added."""
    played = _arms.chosen(state.pulls, action, reward)
    pulls, reward_sum = _arms.update(State(*state[:2]), rng, obs, action, reward, available=available)
    square = reward.to(torch.float64) * reward.to(torch.float64)
    return MomentState(pulls, reward_sum, _arms.add_reward(state.square_sum, played, square))


def ucb_v_index(
    state: MomentState, *, zeta: Scalar = 1.2, c: Scalar = 1.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """mean + sqrt(2 V zeta ln t / n) + 3 c zeta ln t / n, [*B, K], with V the empirical variance."""
    plain = State(*state[:2])
    plays, mean = _arms.plays(plain, dtype), _arms.mean(plain, dtype)
    exact_mean = state.reward_sum / state.pulls.clamp(min=1)
    variance = (state.square_sum / state.pulls.clamp(min=1) - exact_mean * exact_mean).clamp(min=0).to(dtype)
    rate = per_lane(zeta, dtype) * torch.log(_arms.time(plain, dtype)) / plays
    return _arms.unplayed_first(plain, mean + torch.sqrt(2 * variance * rate) + 3 * per_lane(c, dtype) * rate)


def ucb_v(*, arms: int, zeta: Scalar = 1.2, c: Scalar = 1.0, dtype: torch.dtype = torch.float32) -> Bandit:
    """UCB-V: optimism by Bernstein's bound with the empirical variance.

    arms: K >= 2. zeta > 0 scales ln t, c >= 0 the term in 1/n; each a number or a tensor [*B]. Rewards in [0, 1].
    Raises ValueError for values outside. Source: Audibert, Munos and Szepesvari 2009, equation 1.
    """
    check_size("arms", arms, low=2)
    check_number("zeta", zeta, low=0.0, open_low=True)
    check_number("c", c, low=0.0)
    index = partial(ucb_v_index, zeta=zeta, c=c, dtype=dtype)
    return Bandit(
        partial(init_moments, arms=arms),
        partial(_arms.select, index=index),
        update_moments,
        partial(_arms.policy, index=index),
    )


def plays_left(state: State, horizon: Scalar, dtype: torch.dtype) -> Tensor:
    """max(1, T / (K n)), [*B, K], with the step about to be taken in place of a horizon T that is infinite."""
    arms = state.pulls.shape[-1]
    if isinstance(horizon, float | int) and math.isinf(horizon):
        horizon = _arms.time(state, dtype).squeeze(-1)
    return (per_lane(horizon, dtype) / (arms * _arms.plays(state, dtype))).clamp(min=1)


def check_horizon(horizon: Scalar) -> None:
    """Raise ValueError unless `horizon` is at least 1, or infinite."""
    if not (isinstance(horizon, float) and horizon == math.inf):
        check_number("horizon", horizon, low=1.0)


def moss_index(state: State, *, horizon: Scalar = math.inf, dtype: torch.dtype = torch.float32) -> Tensor:
    """mean + sqrt(max(0, ln(T / (K n))) / n), [*B, K]."""
    width = torch.sqrt(torch.log(plays_left(state, horizon, dtype)) / _arms.plays(state, dtype))
    return _arms.unplayed_first(state, _arms.mean(state, dtype) + width)


def moss(*, arms: int, horizon: Scalar = math.inf, dtype: torch.dtype = torch.float32) -> Bandit:
    """MOSS: minimax optimal in the stochastic case, sqrt(max(0, ln(T / (K n))) / n).

    arms: K >= 2. horizon: T, in steps, a number or a tensor [*B]; inf puts the current step in its place (anytime).
    Rewards in [0, 1]. Raises ValueError for a horizon below 1.
    Source: Audibert and Bubeck 2009, section 2; anytime: Degenne and Perchet 2016.
    """
    check_horizon(horizon)
    return _arms.index_bandit(partial(moss_index, horizon=horizon, dtype=dtype), arms=arms)
