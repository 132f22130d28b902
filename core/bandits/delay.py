"""Rewards that come a fixed number of steps late: any bandit, and a ring of what it must remember until they do."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import (
    check_action,
    check_available,
    check_key,
    check_reward,
    check_shape,
    check_size,
    require_obs,
)
from armfold.core.types import Bandit, State


class Delayed(NamedTuple):
    """A learner, and the steps whose rewards it still waits for."""

    learner: State  # of the bandit inside
    slot: Tensor  # [*B] int64, in [0, delay): the oldest step, in whose place the next one goes
    steps: dict[str, Tensor]  # rings [*B, delay, ...] of what is kept of each step, see `init`


def init(
    rng: Tensor,
    *,
    bandit: Bandit,
    delay: int,
    arms: int,
    features: int,
    masks: bool,
    propensities: bool,
    dtype: torch.dtype,
) -> Delayed:
    """The learner's beginning, for each key in rng [*B, 2], and steps that teach nothing: arms -1."""
    check_key(rng)
    ring, device = (*rng.shape[:-1], delay), rng.device
    steps = {"played_arm": torch.full(ring, -1, dtype=torch.int64, device=device)}
    if features:
        steps["obs"] = torch.zeros((*ring, arms, features), dtype=dtype, device=device)
    if masks:
        steps["available"] = torch.zeros((*ring, arms), dtype=torch.int8, device=device)
    if propensities:
        steps["propensity"] = torch.ones(ring, dtype=dtype, device=device)
    return Delayed(bandit.init(rng), torch.zeros(ring[:-1], dtype=torch.int64, device=device), steps)


def select(state: Delayed, rng: Tensor, obs: Tensor | None = None, *, bandit: Bandit, **options: Any) -> Tensor:
    """The learner's choice from what it has learned so far: int64 [*B]. `options` are those of its `select`."""
    return bandit.select(state.learner, rng, obs, **options)


def policy(state: Delayed, rng: Tensor, obs: Tensor | None = None, *, bandit: Bandit, **options: Any) -> Tensor:
    """The law of `select`, [*B, K]: exact or estimated, as the learner's is. `options` are those of its `policy`."""
    return bandit.policy(state.learner, rng, obs, **options)


def update(
    state: Delayed,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    bandit: Bandit,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> Delayed:
    """The step just taken is filed, and the learner taught that of `delay` steps ago, whose reward this is.

    The first `delay` rewards belong to no step: the learner is given the action -1 with them, and ignores them.
    Where propensities are kept and none is given, it is read from the policy, which has not changed since `select`.
    """
    check_reward(reward, state.slot.shape)
    now = _step(state, obs, action, propensity, available)
    if "propensity" in state.steps and propensity is None:
        options = {} if available is None else {"available": available}
        law = bandit.policy(state.learner, random.fold_in(rng, 1), obs, **options)
        now["propensity"] = torch.where(masked.one_hot(action, law.shape[-1]), law, 0).sum(-1)
    then = {name: masked.take(ring, state.slot) for name, ring in state.steps.items()}
    steps = {name: masked.put(ring, state.slot, now[name].to(ring.dtype)) for name, ring in state.steps.items()}
    seen, arm = then.pop("obs", None), then.pop("played_arm")
    if "available" in then:
        then["available"] = then["available"] > 0
    learner = bandit.update(state.learner, random.fold_in(rng, 0), seen, arm, reward, **then)
    return Delayed(learner, (state.slot + 1) % state.steps["played_arm"].shape[-1], steps)


def _step(
    state: Delayed, obs: Tensor | None, action: Tensor, propensity: Tensor | None, available: Tensor | None
) -> dict[str, Tensor]:
    """What is given of a step, under the names of the rings. Raises ShapeError for what does not fit them, ValueError
    for what would be lost."""
    batch, rings = state.slot.shape, state.steps
    check_action(action, batch)
    now = {"played_arm": action}
    if "obs" in rings:
        now["obs"] = require_obs(obs, batch, *rings["obs"].shape[-2:])
    if "available" in rings:
        arms = rings["available"].shape[-1]
        check_available(available, batch, arms)
        now["available"] = torch.ones_like(rings["available"][..., 0, :]) if available is None else available
    elif available is not None:
        raise ValueError("available would be forgotten before the reward comes: keep it by with_delay(..., masks=True)")
    if propensity is not None:
        check_shape("propensity", propensity, batch)
        now["propensity"] = propensity
        if "propensity" not in rings:
            raise ValueError("propensity would be forgotten before the reward comes: keep it by propensities=True")
    return now


def with_delay(
    bandit: Bandit,
    *,
    delay: int,
    arms: int | None = None,
    features: int | None = None,
    masks: bool = False,
    propensities: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """`bandit` for rewards that come `delay` steps late: each is learned with the context and arm that earned it.

    Each `update` takes the step just made and the reward that arrives now, as `envs.delayed` pays it; `delay` 0 is
    `bandit` itself. Kept for each step that waits: its arm; contexts [*B, K, d] where arms (K) and features (d) are
    given, for contextual learners; with `masks` (and arms), which arms were available; with `propensities`, the
    probability with which the arm was chosen, for learners that weigh by it: that costs a call of `policy` a step
    where `update` is not given one. dtype: of contexts and propensities kept. Raises ValueError for sizes out of range.
    Source: Joulani, Gyorgy and Szepesvari 2013.
    """
    check_size("delay", delay, low=0)
    for name, value, low in (("arms", arms, 2), ("features", features, 1)):
        if value is not None:
            check_size(name, value, low=low)
    if arms is None and (features is not None or masks):
        raise ValueError(f"arms must be given to keep contexts or masks, got arms=None, {features=}, {masks=}")
    if delay == 0:
        return bandit
    start = partial(
        init,
        bandit=bandit,
        delay=delay,
        arms=arms or 0,
        features=features or 0,
        masks=masks,
        propensities=propensities,
        dtype=dtype,
    )
    select_now, policy_now = partial(select, bandit=bandit), partial(policy, bandit=bandit)
    return Bandit(start, select_now, partial(update, bandit=bandit), policy_now)
