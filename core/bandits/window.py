"""A learner that forgets what lies further back than a window of steps. Rewards in [0, 1]."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits import arms as _arms
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane


class State(NamedTuple):
    """Plays and rewards of each arm in the last W steps, and the ring of those steps."""

    pulls: Tensor  # [*B, K] int64, plays in the window
    reward_sum: Tensor  # [*B, K] float64, reward unit, in the window
    fresh_sum: Tensor  # [*B, K] float64, reward unit, since the ring was last begun at slot 0
    recent_arm: Tensor  # [*B, W] int64, the arm played at each step of the ring; -1 for none
    recent_reward: Tensor  # [*B, W] float64, reward unit, of those plays
    slot: Tensor  # [*B] int64, in [0, W): of the ring, the slot to write next, where the oldest step is


def init(rng: Tensor, *, arms: int, window: int) -> State:
    """No plays, for each key in rng [*B, 2]."""
    pulls, reward_sum = _arms.init(rng, arms=arms)
    ring = torch.zeros((*rng.shape[:-1], window), dtype=torch.float64, device=rng.device)
    slot = torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device)
    recent_arm = torch.full(ring.shape, -1, dtype=torch.int64, device=rng.device)
    return State(pulls, reward_sum, torch.zeros_like(reward_sum), recent_arm, ring, slot)


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
    """One play counted, the oldest one of a full window taken off: action int64 [*B], reward float [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    arms, window = state.pulls.shape[-1], state.recent_arm.shape[-1]
    played = _arms.chosen(state.pulls, action, reward)
    learned = played.any(-1)
    old_arm, old_reward = masked.take(state.recent_arm, state.slot), masked.take(state.recent_reward, state.slot)
    left = masked.one_hot(old_arm, arms) & learned.unsqueeze(-1)
    reward_sum = torch.where(left, state.reward_sum - old_reward.unsqueeze(-1), state.reward_sum)
    reward_sum = _arms.add_reward(reward_sum, played, reward)
    fresh_sum = _arms.add_reward(state.fresh_sum, played, reward)
    slot = torch.where(learned, (state.slot + 1) % window, state.slot)
    # At slot 0 the fresh sums are of exactly the window: what subtractions have rounded away so far is forgotten.
    anew = (learned & (slot == 0)).unsqueeze(-1)
    return State(
        state.pulls + played - left.to(torch.int64),
        torch.where(anew, fresh_sum, reward_sum),
        torch.where(anew, 0, fresh_sum),
        masked.put(state.recent_arm, state.slot, torch.where(learned, action, old_arm)),
        masked.put(state.recent_reward, state.slot, torch.where(learned, reward.to(torch.float64), old_reward)),
        slot,
    )


def sw_ucb_index(state: State, *, xi: Scalar = 0.1, dtype: torch.dtype = torch.float32) -> Tensor:
    """mean + sqrt(xi ln min(t, W) / n), [*B, K], with t the step about to be taken; +inf for arms not played in the
    window."""
    plain = _arms.State(*state[:2])
    log_time = torch.log(_arms.time(plain, dtype).clamp(max=state.recent_arm.shape[-1]))
    width = torch.sqrt(per_lane(xi, dtype) * log_time / _arms.plays(plain, dtype))
    return _arms.unplayed_first(plain, _arms.mean(plain, dtype) + width)


def sw_ucb(*, arms: int, window: int = 500, xi: Scalar = 0.1, dtype: torch.dtype = torch.float32) -> Bandit:
    """Sliding-window UCB: UCB1 over the last `window` steps, sqrt(xi ln min(t, window) / n).

    arms: K >= 2. window: an int >= 1, in steps; before it is full this is `ucb1` with c = xi. xi >= 0 (above 0.5
    in the proof): a number or a tensor [*B]. Rewards in [0, 1]. Raises ValueError for values outside.
    Source: Garivier and Moulines 2011, section 4.
    """
    check_size("arms", arms, low=2)
    check_size("window", window)
    check_number("xi", xi, low=0.0)
    index = partial(sw_ucb_index, xi=xi, dtype=dtype)
    return Bandit(
        partial(init, arms=arms, window=window),
        partial(_arms.select, index=index),
        update,
        partial(_arms.policy, index=index),
    )
