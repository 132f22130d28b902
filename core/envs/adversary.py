"""Bernoulli arms of an adversary who may move every mean, but not the distance between them. Rewards 0 and 1."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import check_key, check_number, check_size
from armfold.core.envs.arms import coin
from armfold.core.types import BanditEnv, Scalar, per_lane

_LONGEST = 2.0**53  # steps of a phase, the most that float64 counts one by one


class State(NamedTuple):
    """Which arm is best, and where each lane is in its phases."""

    best_arm: Tensor  # [*B] int64, in [0, K)
    phase: Tensor  # [*B] int64, from 0 on: rewards are high in even ones and low in odd ones
    length: Tensor  # [*B] float64, steps of this phase before they are rounded down
    left: Tensor  # [*B] int64, steps of this phase not yet taken, at least 1


def init(rng: Tensor, *, arms: int) -> State:
    """The best arm of each lane of rng [*B, 2], drawn uniformly, and a first phase of one step."""
    best = random.randint(rng, high=arms)
    return State(best, torch.zeros_like(best), torch.ones_like(best, dtype=torch.float64), torch.ones_like(best))


def observe(state: State) -> None:
    """No context."""
    return None


def means(state: State, *, arms: int, gap: Scalar = 0.125) -> Tensor:
    """Expected rewards now, float32 [*B, K]: 1 for the best arm and 1 - gap for others, or gap and 0."""
    best = masked.one_hot(state.best_arm, arms).to(torch.float32)
    gap = per_lane(gap, torch.float32)
    high = (state.phase % 2 == 0).unsqueeze(-1)
    return torch.where(high, 1 - gap * (1 - best), gap * best)


def pull(
    state: State, rng: Tensor, action: Tensor, *, arms: int, gap: Scalar = 0.125, growth: Scalar = 1.6
) -> tuple[State, Tensor]:
    """A coin of the pulled arm; then the next phase, `growth` times as long, where this one is over."""
    check_key(rng, state.phase.shape)
    reward = coin(rng, means(state, arms=arms, gap=gap), action)
    over = state.left <= 1
    longer = (state.length * per_lane(growth, torch.float64, 0)).clamp(max=_LONGEST)
    left = torch.where(over, longer.to(torch.int64), state.left - 1)
    return State(state.best_arm, state.phase + over, torch.where(over, longer, state.length), left), reward


def adversarial(*, arms: int, gap: Scalar = 0.125, growth: Scalar = 1.6) -> BanditEnv:
    """The stochastically constrained adversary: means jump between high and low in ever longer phases.

    Rewards are Bernoulli. One arm, drawn for each lane, is best by `gap` at every step; its mean is 1 in phases 0, 2,
    ... and `gap` in phases 1, 3, ... Phase i takes floor(growth^i) steps. arms: K >= 2; gap in (0, 1]; growth > 1;
    each a number or a tensor [*B]. Raises ValueError for values outside.
    Source: Zimmert and Seldin 2021, experiments.
    """
    check_size("arms", arms, low=2)
    check_number("gap", gap, low=0.0, high=1.0, open_low=True)
    check_number("growth", growth, low=1.0, open_low=True)
    return BanditEnv(
        partial(init, arms=arms),
        observe,
        partial(means, arms=arms, gap=gap),
        partial(pull, arms=arms, gap=gap, growth=growth),
    )
