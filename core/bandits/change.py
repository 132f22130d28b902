"""Arms that come and go, and learners that begin with a log: pure functions on the states of any algorithm.

A state belongs to the bandit that was made for its number of arms K. The first tensor of every state is [*B, K]. In the
others the arms lie along the axis, if any, whose size differs in the same way from that in `bandit.init`. Fields that
hold positions of arms end in `_arm` and are renumbered.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key, check_shape
from armfold.core.types import Bandit, Logged, State


def _arms(state: State) -> int:
    """K: the last size of the first tensor."""
    while not isinstance(state, Tensor):
        state = state[0]
    return int(state.shape[-1])


def _arm_axis(name: str, old: Tensor, fresh: Tensor, sizes: tuple[int, int]) -> int | None:
    """The axis of the arms, of which there are `sizes` in old and in fresh; None for a tensor without arms or without
    a change. Raises ShapeError where the two differ in anything else."""
    axes = [axis for axis, pair in enumerate(zip(old.shape, fresh.shape)) if pair[0] != pair[1]]
    alike = old.ndim == fresh.ndim and old.dtype == fresh.dtype and len(axes) <= 1
    if not alike or any((old.shape[axis], fresh.shape[axis]) != sizes for axis in axes):
        raise ShapeError(
            f"{name} must be as bandit has it but for the number of arms, "
            f"got {old.dtype} {tuple(old.shape)} against {fresh.dtype} {tuple(fresh.shape)}"
        )
    return axes[0] if axes else None


def _change(change: Callable[..., Tensor], name: str, old: Any, fresh: Any, sizes: tuple[int, int]) -> Any:
    """`old` with change(name, tensor, fresh tensor, axis of the arms) for each of its tensors, however nested."""
    if type(old) is not type(fresh):
        raise ShapeError(f"{name} must be of bandit's algorithm, a {type(fresh)}, got {type(old)}")
    if isinstance(old, Tensor):
        return change(name, old, fresh, _arm_axis(name, old, fresh, sizes))
    fields, fresh_fields = (x if isinstance(x, dict) else x._asdict() for x in (old, fresh))
    if fields.keys() != fresh_fields.keys():
        raise ShapeError(f"{name} must have what bandit keeps, {list(fresh_fields)}, got {list(fields)}")
    changed = {key: _change(change, f"{name}.{key}", fields[key], fresh_fields[key], sizes) for key in fields}
    return changed if isinstance(old, dict) else type(old)(**changed)


def _grown(name: str, old: Tensor, fresh: Tensor, axis: int | None) -> Tensor:
    if axis is None:
        return old
    arms = old.shape[axis]
    return torch.cat((old, fresh.narrow(axis, arms, fresh.shape[axis] - arms)), axis)


def add_arms(bandit: Bandit, state: State, rng: Tensor) -> State:
    """`state` of K arms as a state of `bandit`, which has more: the new ones come last and are as `bandit.init` has
    them, with the keys rng [*B, 2]. What is known of the old arms stays.

    Weights that are counted from the best arm's, as those of EXP3, start with it. Raises ValueError for fewer arms,
    ShapeError for a state of another algorithm or of other lanes.
    """
    fresh = bandit.init(rng)
    sizes = (_arms(state), _arms(fresh))
    if sizes[0] > sizes[1]:
        raise ValueError(f"bandit must have no fewer arms than state, got {sizes[1]} against {sizes[0]}")
    return _change(_grown, "state", state, fresh, sizes)


def _shrunk(name: str, old: Tensor, fresh: Tensor, axis: int | None, *, kept: Tensor, moved: Tensor) -> Tensor:
    if axis is not None:
        old = old.index_select(axis, kept)
    if name.endswith("_arm"):
        # -1 would be an index from the end, and a 0-dim index would be read on the host.
        arm = torch.where(old < 0, len(moved) - 1, old).to(torch.int64)
        old = moved.index_select(0, arm.reshape(-1)).reshape(old.shape).to(old.dtype)
    return old


def remove_arms(bandit: Bandit, state: State, rng: Tensor, *, removed: Sequence[int]) -> State:
    """`state` of K arms without those at positions `removed`, as a state of `bandit`, which has so many fewer.

    The arms that stay move up; what all arms have taught together stays. rng [*B, 2] gives the lanes. Raises
    ValueError for positions that are not there or too many or few of them, ShapeError for a state of another
    algorithm or of other lanes.
    """
    fresh = bandit.init(rng)
    arms, left = sizes = (_arms(state), _arms(fresh))
    if any(isinstance(arm, bool) or not isinstance(arm, int) or not 0 <= arm < arms for arm in removed):
        raise ValueError(f"removed must hold arms in [0, {arms}), got {list(removed)}")
    keep = [arm for arm in range(arms) if arm not in removed]
    if len(keep) != left:
        raise ValueError(f"removed must leave as many arms as bandit has, {left} of {arms}, got {list(removed)}")
    kept = torch.tensor(keep, device=rng.device)
    # Where each arm goes, -1 for those removed; a -1, which says "no arm", reads the last place and stays.
    moved = torch.tensor([keep.index(arm) if arm in keep else -1 for arm in range(arms)] + [-1], device=rng.device)
    return _change(partial(_shrunk, kept=kept, moved=moved), "state", state, fresh, sizes)


def warm_start(bandit: Bandit, state: State, rng: Tensor, logged: Logged) -> State:
    """`state` after learning from n logged decisions in their order: a fold of `bandit.update`.

    rng [*B, 2]; logged: fields [*B, n, ...], with the propensities that learners who weigh by them should use. Rows
    whose reward is not finite, or whose action is not an arm, teach nothing. Raises ShapeError.
    """
    check_key(rng)
    lanes, batch = rng.ndim - 1, rng.shape[:-1]
    if logged.action.ndim != lanes + 1:
        raise ShapeError(f"logged.action must have shape {(*batch, 'n')}, got {tuple(logged.action.shape)}")
    rows = logged.action.shape[-1]
    for name, value in logged._asdict().items():
        if value is not None:
            check_shape(f"logged.{name}", value, (*batch, rows, *value.shape[lanes + 1 :]))
    for row in range(rows):
        obs, action, reward, propensity = (None if x is None else x.select(lanes, row) for x in logged)
        state = bandit.update(state, random.fold_in(rng, row), obs, action, reward, propensity=propensity)
    return state
