"""Environments that end and start again, stepped without a learner: what the hosts of environments stand on.

A lane's draws are those of `simulate`: fed the same actions, it meets the same arms, contexts and rewards. Steps are
counted through all its episodes, so that no key is used twice (2**31 steps a lane).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import random, simulate
from armfold.core.check import check_key
from armfold.core.types import BanditEnv, Env, State


class Totals(NamedTuple):
    """Sums over the steps of a lane since it was first reset."""

    regret: Tensor  # [*B] float64, reward unit, pseudo-regret of a BanditEnv; 0 for an Env, which knows none
    reward: Tensor  # [*B] float64, reward unit
    optimal: Tensor  # [*B] int64, steps on which a best arm of a BanditEnv was played


class Lanes(NamedTuple):
    """Everything that lanes carry from one step to the next."""

    env: State
    rng: Tensor  # [*B, 2] int64, the environment's keys
    time: Tensor  # [*B] int64, steps taken, and episodes without any
    begun: Tensor  # [*B] int64, steps taken when the episode at hand began
    totals: Totals


class Outcome(NamedTuple):
    """What one step gave."""

    reward: Tensor  # [*B] float, reward unit
    terminated: Tensor  # [*B] bool: the episode ended by its rules
    truncated: Tensor  # [*B] bool: it was cut off after `max_steps`, or by the environment
    regret: Tensor  # [*B] float, reward unit: what the best arm is expected to pay above the one that was pulled


def init(env: BanditEnv | Env, rng: Tensor) -> Lanes:
    """The first episode of runs with the keys rng [*B, 2]: what `simulate.init` starts from."""
    check_key(rng)
    env_rng = simulate.env_key(rng)
    count = torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device)
    nothing = torch.zeros_like(count, dtype=torch.float64)
    totals = Totals(nothing, nothing.clone(), count.clone())
    return Lanes(env.init(random.fold_in(env_rng, 0)), env_rng, count, count.clone(), totals)


def step(env: BanditEnv | Env, lanes: Lanes, action: Tensor, *, max_steps: int | None = None) -> tuple[Lanes, Outcome]:
    """One step of every lane with action int64 [*B]. Lanes that end stay as they ended: `restart` starts them again."""
    time = lanes.time + 1
    over = torch.zeros_like(time, dtype=torch.bool) if max_steps is None else time - lanes.begun >= max_steps
    if isinstance(env, BanditEnv):
        state, trace = simulate.pull(env, lanes.env, lanes.rng, time, action)
        outcome = Outcome(trace.reward, torch.zeros_like(over), over, trace.regret)
        optimal = lanes.totals.optimal + trace.optimal
    else:
        state, ended = env.step(lanes.env, random.jump(lanes.rng, time), action)
        truncated = (ended.truncated | over) & ~ended.terminated
        outcome = Outcome(ended.reward, ended.terminated, truncated, torch.zeros_like(ended.reward))
        optimal = lanes.totals.optimal
    totals = Totals(lanes.totals.regret + outcome.regret, lanes.totals.reward + outcome.reward, optimal)
    return Lanes(state, lanes.rng, time, lanes.begun, totals), outcome


def restart(env: BanditEnv | Env, lanes: Lanes, ended: Tensor) -> Lanes:
    """New episodes for the lanes of ended, bool [*B]; the others as they are."""
    # Steps jump ahead in a lane's stream, from 1 on; new episodes jump back from its start. One in which no step was
    # taken counts as one, or the next would be the same again.
    time = lanes.time + (ended & (lanes.time == lanes.begun))
    fresh = env.init(random.fold_in(random.jump(lanes.rng, -time), 0))
    begun = torch.where(ended, time, lanes.begun)
    return lanes._replace(env=_choose(ended, fresh, lanes.env), time=time, begun=begun)


def _choose(where: Tensor, new: Any, old: Any) -> Any:
    """The leaves of `new` for lanes where, bool [*B], of `old` for others: tuples of tensors [*B, ...] of any depth."""
    if isinstance(new, Tensor):
        return torch.where(where.reshape((*where.shape, *(1,) * (new.ndim - where.ndim))), new, old)
    if isinstance(new, tuple):
        chosen = [_choose(where, x, y) for x, y in zip(new, old, strict=True)]
        return type(new)(*chosen) if hasattr(new, "_fields") else tuple(chosen)
    return old
