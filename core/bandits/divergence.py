"""Upper confidence bounds by the Bernoulli divergence, and IMED, the index of least divergence. Rewards in [0, 1]."""

import math
from functools import partial

import torch
from torch import Tensor

from armfold.core import special
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.arms import State
from armfold.core.bandits.ucb import check_horizon, plays_left
from armfold.core.check import check_number
from armfold.core.types import Bandit, Scalar, per_lane


def kl_ucb_index(state: State, *, c: Scalar = 3.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Largest u with n KL(mean, u) <= ln t + c ln max(1, ln t), [*B, K]; +inf for unplayed arms."""
    log_time = torch.log(_arms.time(state, dtype))
    budget = (log_time + per_lane(c, dtype) * torch.log(log_time.clamp(min=1))) / _arms.plays(state, dtype)
    return _arms.unplayed_first(state, special.kl_upper(_arms.mean(state, dtype).clamp(0, 1), budget))


def kl_ucb(*, arms: int, c: Scalar = 3.0, dtype: torch.dtype = torch.float32) -> Bandit:
    """KL-UCB: optimism by Chernoff's bound, the tightest for Bernoulli rewards.

    arms: K >= 2. c >= 0 weighs ln ln t (3 in the proof, 0 in practice): a number or a tensor [*B].
    Rewards in [0, 1]. Raises ValueError for values outside. Source: Garivier and Cappe 2011, algorithm 1.
    """
    check_number("c", c, low=0.0)
    return _arms.index_bandit(partial(kl_ucb_index, c=c, dtype=dtype), arms=arms)


def kl_ucb_pp_index(state: State, *, horizon: Scalar = math.inf, dtype: torch.dtype = torch.float32) -> Tensor:
    """Largest u with n KL(mean, u) <= g(n), g(n) = ln+(T/(K n) (ln+(T/(K n))^2 + 1)), [*B, K]."""
    left = plays_left(state, horizon, dtype)
    log_left = torch.log(left)
    budget = torch.log(left * (log_left * log_left + 1)) / _arms.plays(state, dtype)
    return _arms.unplayed_first(state, special.kl_upper(_arms.mean(state, dtype).clamp(0, 1), budget))


def kl_ucb_pp(*, arms: int, horizon: Scalar = math.inf, dtype: torch.dtype = torch.float32) -> Bandit:
    """KL-UCB++: minimax and asymptotically optimal at once.

    arms: K >= 2. horizon: T, in steps, a number or a tensor [*B]; inf puts the current step in its place (anytime).
    Rewards in [0, 1]. Raises ValueError for a horizon below 1. Source: Menard and Garivier 2017, algorithm 1.
    """
    check_horizon(horizon)
    return _arms.index_bandit(partial(kl_ucb_pp_index, horizon=horizon, dtype=dtype), arms=arms)


def imed_index(state: State, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """-(n KL(mean, best mean) + ln n), [*B, K]; +inf for unplayed arms."""
    plays, mean = _arms.plays(state, dtype), _arms.mean(state, dtype)
    # A best mean of exactly 1 is at infinite divergence from all others; the ceiling keeps the index finite there.
    best = mean.amax(-1, keepdim=True).clamp(max=1 - 2**-22)
    divergence = torch.where(mean < best, special.bernoulli_kl(mean, best), 0)
    return _arms.unplayed_first(state, -(plays * divergence + torch.log(plays)))


def imed(*, arms: int, dtype: torch.dtype = torch.float32) -> Bandit:
    """IMED: play the arm of least n KL(mean, best mean) + ln n.

    arms: K >= 2. Rewards in [0, 1]. Source: Honda and Takemura 2015, algorithm 1.
    """
    return _arms.index_bandit(partial(imed_index, dtype=dtype), arms=arms)
