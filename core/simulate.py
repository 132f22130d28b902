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


def env_key(rng: Tensor) -> Tensor:
    """The environment's keys [*B, 2] of runs with the keys rng [*B, 2]; `init` of the environment folds in 0."""
    return random.fold_in(rng, 0)


def agent_key(rng: Tensor) -> Tensor:
    """The learner's keys [*B, 2] of runs with the keys rng [*B, 2]; `init` of the learner folds in 0."""
    return random.fold_in(rng, 1)


def init(bandit: Bandit, env: BanditEnv, rng: Tensor, *, agent_rng: Tensor | None = None) -> Carry:
    """The start of a run for each key in rng [*B, 2].

    The environment's keys come from rng, the learner's from agent_rng [*B, 2] (rng where it is None): learners that
    share rng meet the same arms, contexts and reward noise.
    """
    check_key(rng)
    agent_rng = rng if agent_rng is None else agent_rng
    check_key(agent_rng, rng.shape[:-1])
    env_rng, bandit_rng = env_key(rng), agent_key(agent_rng)
    return Carry(
        bandit.init(random.fold_in(bandit_rng, 0)),
        env.init(random.fold_in(env_rng, 0)),
        bandit_rng,
        env_rng,
        torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device),
        torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device),
    )


def choose(bandit: Bandit, state: State, rng: Tensor, time: Tensor, obs: Tensor | None) -> Tensor:
    """The action of step `time` [*B], counted from 1, of learners whose runs have the keys rng [*B, 2]: int64 [*B]."""
    return bandit.select(state, random.jump(rng, 2 * time), obs)


def pull(env: BanditEnv, state: State, rng: Tensor, time: Tensor, action: Tensor) -> tuple[State, Trace]:
    """What action [*B] earns at step `time` [*B], counted from 1, of runs whose environments have the keys rng
    [*B, 2]: the environment's next state, and what happened."""
    means = env.means(state)
    moved, reward = env.pull(state, random.jump(rng, time), action)
    expected, best = pick(means, action), means.amax(-1)
    return moved, Trace(action, reward, expected, best - expected, expected == best)


def learn(
    bandit: Bandit, state: State, rng: Tensor, time: Tensor, obs: Tensor | None, action: Tensor, reward: Tensor
) -> State:
    """The learner's state after step `time` [*B] of runs that have the keys rng [*B, 2]."""
    return bandit.update(state, random.jump(rng, 2 * time + 1), obs, action, reward)


def step(bandit: Bandit, env: BanditEnv, carry: Carry) -> tuple[Carry, Trace]:
    """One step of every lane: see, choose, pull, learn."""
    obs, time = env.observe(carry.env), carry.time + 1  # what lies before the first jump has served `init`
    action = choose(bandit, carry.bandit, carry.bandit_rng, time, obs)
    env_state, trace = pull(env, carry.env, carry.env_rng, time, action)
    learned = learn(bandit, carry.bandit, carry.bandit_rng, time, obs, action, trace.reward)
    faults = carry.faults + ~torch.isfinite(trace.reward)
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
