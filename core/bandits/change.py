"""Arms that come and go, and learners that begin with a log: pure functions on the states of any algorithm.

A state belongs to the bandit that was made for its number of arms. Fields with one entry for each arm are found by
their shapes in `bandit.init`; fields that hold positions of arms end in `_arm` and are renumbered.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key, check_shape
from armfold.core.types import Bandit, Logged, State


def _arm_axis(name: str, old: Tensor, fresh: Tensor) -> int | None:
    """The axis along which two states of one algorithm differ, None where they do not."""
    if old.ndim != fresh.ndim or old.dtype != fresh.dtype:
        raise ShapeError(f"state.{name} is of another algorithm: {old.dtype} {tuple(old.shape)} against {fresh.dtype}")
    axes = [axis for axis in range(old.ndim) if old.shape[axis] != fresh.shape[axis]]
    if len(axes) > 1:
        raise ShapeError(
            f"state.{name} must differ from bandit's in its arms alone, got {tuple(old.shape)} and {tuple(fresh.shape)}"
        )
    return axes[0] if axes else None


def add_arms(bandit: Bandit, state: State, rng: Tensor) -> State:
    """`state` of K arms as a state of `bandit`, which has more: the new ones come last and are as `bandit.init` has
    them, with the keys rng [*B, 2]. What is known of the old arms stays. Raises ShapeError for another algorithm."""
    fields = {}
    for name, fresh in bandit.init(rng)._asdict().items():
        old = getattr(state, name)
        axis = _arm_axis(name, old, fresh)
        if axis is not None:
            new = fresh.shape[axis] - old.shape[axis]
            if new < 0:
                raise ShapeError(f"bandit must have more arms than state.{name}, {tuple(old.shape)}; see remove_arms")
            old = torch.cat((old, fresh.narrow(axis, old.shape[axis], new)), axis)
        fields[name] = old
    return state._replace(**fields)


def remove_arms(bandit: Bandit, state: State, rng: Tensor, *, removed: Sequence[int]) -> State:
    """`state` of K arms without those at positions `removed`, as a state of `bandit`, which has so many fewer.

    The arms that stay move up. rng [*B, 2] gives the lanes. Raises ValueError for positions that are not there.
    """
    fields = {}
    fresh = bandit.init(rng)._asdict()
    axes = {name: _arm_axis(name, getattr(state, name), like) for name, like in fresh.items()}
    axis_name = next((name for name, axis in axes.items() if axis is not None), None)
    if axis_name is None:
        raise ShapeError("bandit must have fewer arms than state; a state without arms of its own needs no change")
    arms = getattr(state, axis_name).shape[axes[axis_name]]
    if any(isinstance(arm, bool) or not isinstance(arm, int) or not 0 <= arm < arms for arm in removed):
        raise ValueError(f"removed must hold arms in [0, {arms}), got {list(removed)}")
    keep = [arm for arm in range(arms) if arm not in set(removed)]
    if len(keep) != fresh[axis_name].shape[axes[axis_name]]:
        raise ValueError(f"removed must leave as many arms as bandit has, got {list(removed)} of {arms}")
    kept = torch.tensor(keep, device=rng.device)
    # Where each arm has gone; -1 for those removed, and, in the last place, for the -1 that says "no arm".
    moved = torch.full((arms + 1,), -1, device=rng.device).index_put(
        (kept,), torch.arange(len(keep), device=rng.device)
    )
    for name, axis in axes.items():
        old = getattr(state, name)
        old = old if axis is None else old.index_select(axis, kept)
        fields[name] = moved[old.to(torch.int64)].to(old.dtype) if name.endswith("_arm") else old
    return state._replace(**fields)


def warm_start(bandit: Bandit, state: State, rng: Tensor, logged: Logged) -> State:
    """`state` after learning from n logged decisions in their order: a fold of `bandit.update`.

    rng [*B, 2]; logged: fields [*B, n, ...], with the propensities that learners who weigh by them should use. Rows
    whose reward is not finite, or whose action is not an arm, teach nothing. Raises ShapeError.
    """
    check_key(rng)
    batch = rng.shape[:-1]
    if logged.action.ndim != len(batch) + 1:
        raise ShapeError(f"logged.action must have shape {(*batch, 'n')}, got {tuple(logged.action.shape)}")
    rows = logged.action.shape[-1]
    for name, value in logged._asdict().items():
        if value is not None:
            check_shape(f"logged.{name}", value, (*batch, rows, *value.shape[len(batch) + 1 :]))
    axis = len(batch)
    for row in range(rows):
        obs, action, reward, propensity = (None if x is None else x.select(axis, row) for x in logged)
        state = bandit.update(state, random.fold_in(rng, row), obs, action, reward, propensity=propensity)
    return state
