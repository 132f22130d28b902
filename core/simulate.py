"""A bandit in an environment, one step at a time. A run is a fold of `step` over time."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_key
from armfold.core.envs.arms import pick
from armfold.core.types import Bandit, BanditEnv, State


class Carry(NamedTuple):
    """Everything that a run carries from one step to the next."""

    bandit: State
    env: State
    bandit_rng: Tensor  # [*B, 2] int64, the learner's keys
    env_rng: Tensor  # [*B, 2] int64, the environment's keys
    time: Tensor  # [*B] int64, steps taken
    faults: Tensor  # [*B] int64, steps whose reward was not finite, as it is for an action outside [0, K)


class Trace(NamedTuple):
    """What happened in one step."""

    action: Tensor  # [*B] int64
    reward: Tensor  # [*B] float, reward unit
    expected: Tensor  # [*B] float, expected reward of the action
    regret: Tensor  # [*B] float, best expected reward less that of the action (pseudo-regret)
    optimal: Tensor  # [*B] bool, the action was a best one


def init(bandit: Bandit, env: BanditEnv, rng: Tensor, *, agent_rng: Tensor | None = None) -> Carry:
    """The start of a run for each key in rng [*B, 2].

    The environment's keys come from rng, the learner's from agent_rng [*B, 2] (rng where it is None): learners that
    share rng meet the same arms, contexts and reward noise.
    """
    check_key(rng)
    agent_rng = rng if agent_rng is None else agent_rng
    check_key(agent_rng, rng.shape[:-1])
    env_rng, bandit_rng = random.fold_in(rng, 0), random.fold_in(agent_rng, 1)
    return Carry(
        bandit.init(random.fold_in(bandit_rng, 0)),
        env.init(random.fold_in(env_rng, 0)),
        bandit_rng,
        env_rng,
        torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device),
        torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device),
    )


def step(bandit: Bandit, env: BanditEnv, carry: Carry) -> tuple[Carry, Trace]:
    """One step of every lane: see, choose, pull, learn."""
    obs, means = env.observe(carry.env), env.means(carry.env)
    time = carry.time + 1  # what lies before the first jump has served `init`
    select_rng, update_rng = (random.jump(carry.bandit_rng, 2 * time + tag) for tag in (0, 1))
    action = bandit.select(carry.bandit, select_rng, obs)
    env_state, reward = env.pull(carry.env, random.jump(carry.env_rng, time), action)
    learned = bandit.update(carry.bandit, update_rng, obs, action, reward)
    expected, best = pick(means, action), means.amax(-1)
    trace = Trace(action, reward, expected, best - expected, expected == best)
    faults = carry.faults + ~torch.isfinite(reward)
    return Carry(learned, env_state, carry.bandit_rng, carry.env_rng, time, faults), trace


def rescale_rewards(bandit: Bandit, low: float, high: float) -> Bandit:
    """`bandit`, fed (reward - low) / (high - low): for learners of [0, 1] in an environment of [low, high]."""
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"reward_range must be finite (low, high) with low < high, got ({low}, {high})")

    return bandit._replace(update=partial(_rescaled_update, update=bandit.update, low=low, high=high))


def _rescaled_update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    update: Callable[..., State],
    low: float,
    high: float,
    **at_selection: Tensor | None,
) -> State:
    return update(state, rng, obs, action, (reward - low) / (high - low), **at_selection)
