"""Checks of what estimators are given: shapes always, values where the shell takes data in."""

from collections.abc import Sequence

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_action, check_reward, check_shape, check_size
from armfold.core.types import Logged

_SUM_ERROR = 1e-3  # of a row of probabilities: a float32 softmax over very many arms stays below


def check_rows(logged: Logged) -> None:
    """Raise ShapeError unless the fields of `logged` have one leading shape [*B, n]."""
    if logged.action.ndim == 0:
        raise ShapeError("action must have shape [*B, n], got ()")
    rows = logged.action.shape
    check_action(logged.action, rows)
    check_reward(logged.reward, rows)
    if logged.propensity is not None:
        check_shape("propensity", logged.propensity, rows)
    if logged.obs is not None and (logged.obs.ndim != len(rows) + 2 or logged.obs.shape[:-2] != rows):
        raise ShapeError(f"obs must be None or have shape {(*rows, 'K', 'd')}, got {tuple(logged.obs.shape)}")


def check_probabilities(target: Tensor, rows: Sequence[int], *, name: str = "target") -> None:
    """Raise ShapeError unless `target` (or a model of that `name`) is floating [*B, n, K] for rows [*B, n]."""
    if not target.is_floating_point() or target.ndim != len(rows) + 1 or tuple(target.shape[:-1]) != tuple(rows):
        raise ShapeError(f"{name} must be floating of shape {(*rows, 'K')}, got {target.dtype} {tuple(target.shape)}")


def _refuse(name: str, wanted: str, value: Tensor, right: Tensor) -> None:
    """Raise ValueError that names the first row of `value` [*B, n] that is not `right`."""
    wrong = (~right).nonzero()
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise ValueError(f"{name} must {wanted}, got {value[at].item()} in row {at[0] if len(at) == 1 else at}")


def check_logged(logged: Logged, arms: int) -> None:
    """Raise ValueError that names the argument, the row and the value unless a log of `arms` arms can be used:
    actions in [0, K), finite rewards and contexts, propensities in (0, 1].

    It reads the tensors: for where data comes in, not for traced code.
    """
    check_size("arms", arms)
    check_rows(logged)
    obs, action, reward, propensity = logged
    _refuse("action", f"lie in [0, {arms})", action, (action >= 0) & (action < arms))
    _refuse("reward", "be finite", reward, torch.isfinite(reward))
    if propensity is not None:
        _refuse("propensity", "lie in (0, 1]", propensity, (propensity > 0) & (propensity <= 1))
    if obs is not None:
        if obs.shape[-2] != arms:
            raise ShapeError(f"obs must have {arms} arms, got {obs.shape[-2]}")
        _refuse("obs", "be finite", obs.sum((-2, -1)), torch.isfinite(obs).all(-1).all(-1))


def check_target(target: Tensor) -> None:
    """Raise ValueError that names the row and the value unless every row of `target` [*B, n, K] is a distribution.

    It reads the tensor: for where data comes in, not for traced code.
    """
    check_probabilities(target, target.shape[:-1])
    least, total = target.amin(-1), target.sum(-1)
    _refuse("target", "hold probabilities >= 0", least, least >= 0)
    _refuse("target", "sum to 1 over the arms", total, (total - 1).abs() <= _SUM_ERROR)
