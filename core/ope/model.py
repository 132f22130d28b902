"""Estimates that lean on a model of the rewards, and a model to lean on."""

import math

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.check import ShapeError, check_number, check_shape, check_size
from armfold.core.ope.estimate import Estimate, mean
from armfold.core.ope.logs import check_probabilities, check_rows
from armfold.core.ope.weighting import at_action, weights
from armfold.core.types import Logged, Scalar, per_lane


def _expected(target: Tensor, model: Tensor) -> Tensor:
    """The model's reward of each row under the target, [*B, n] float64."""
    check_probabilities(target, target.shape[:-1])
    check_shape("model", model, target.shape)
    return (target.to(torch.float64) * model.to(torch.float64)).sum(-1)


def direct_method(target: Tensor, model: Tensor) -> Estimate:
    """What `model` [*B, n, K] expects under `target` [*B, n, K]. As biased as the model is; intervals see only how
    rows differ, never the model's error.

    Source: Dudik, Langford and Li 2011, section 2.
    """
    return mean(_expected(target, model))


def doubly_robust(logged: Logged, target: Tensor, model: Tensor, *, clip: Scalar = math.inf) -> Estimate:
    """The direct method, corrected by the weighted errors of the model on the actions that were logged. Unbiased
    where the propensities are right or the model is.

    Source: Dudik, Langford and Li 2011, section 2.
    """
    return _corrected(logged, target, model, weights(logged, target, clip=clip))


def switch_dr(logged: Logged, target: Tensor, model: Tensor, *, threshold: Scalar) -> Estimate:
    """Doubly robust where the weight is at most `threshold` >= 0 (a number or a tensor [*B]), the direct method alone
    where it is above: inf gives `doubly_robust`, 0 gives `direct_method`.

    Source: Wang, Agarwal and Dudik 2017, ICML.
    """
    if not (isinstance(threshold, float) and threshold == math.inf):
        check_number("threshold", threshold, low=0.0)
    weight = weights(logged, target)
    kept = torch.where(weight <= per_lane(threshold, weight.dtype), weight, 0)
    return _corrected(logged, target, model, kept)


def _corrected(logged: Logged, target: Tensor, model: Tensor, weight: Tensor) -> Estimate:
    error = logged.reward.to(torch.float64) - at_action(model, logged.action)
    return mean(_expected(target, model) + weight * error)


def ridge_model(logged: Logged, *, arms: int, ridge: Scalar = 1.0, folds: int = 5) -> Tensor:
    """Rewards predicted by a ridge regression for each arm on its context and a constant, [*B, n, K] float64.

    Without contexts it is each arm's mean. All is shrunk towards the mean reward of all arms, as by `ridge` > 0 (a
    number or a tensor [*B]) rows that had it, so an arm never logged has that. Row i is predicted from the rows j with
    j % folds != i % folds: a model that had seen the row's own reward would make its error too small, and the
    correction of `doubly_robust` biased. Raises ValueError for folds < 2.

    Source: Hoerl and Kennard 1970; cross-fitting: Chernozhukov et al. 2018.
    """
    check_size("arms", arms)
    check_size("folds", folds, low=2)
    check_number("ridge", ridge, low=0.0, open_low=True)
    check_rows(logged)
    features = _features(logged, arms)
    row = torch.arange(features.shape[-3], device=features.device)
    model = torch.zeros(features.shape[:-1], dtype=torch.float64, device=features.device)
    for fold in range(folds):
        held = row % folds == fold
        model = torch.where(held.unsqueeze(-1), _fit_and_predict(logged, features, ~held, ridge), model)
    return model


def _features(logged: Logged, arms: int) -> Tensor:
    """Contexts with a constant in front, [*B, n, K, 1 + d] float64."""
    one = torch.ones((*logged.action.shape, arms, 1), dtype=torch.float64, device=logged.action.device)
    if logged.obs is None:
        return one
    if logged.obs.shape[-2] != arms:
        raise ShapeError(f"obs must have {arms} arms, got {logged.obs.shape[-2]}")
    return torch.cat([one, logged.obs.to(torch.float64)], -1)


def _fit_and_predict(logged: Logged, features: Tensor, used: Tensor, ridge: Scalar) -> Tensor:
    """Predictions [*B, n, K] for all rows from those `used`, bool [n]."""
    arms, size = features.shape[-2:]
    reward = logged.reward.to(torch.float64)
    centre = torch.where(used, reward, 0).sum(-1, keepdim=True) / used.sum().clamp(min=1)
    played = masked.one_hot(logged.action, arms) & used.unsqueeze(-1)
    # [*B, K, n, size]: the features of the rows on which an arm was played, 0 elsewhere.
    x = torch.where(played.unsqueeze(-1), features, 0).movedim(-2, -3)
    gram = x.mT @ x + per_lane(ridge, x.dtype, 3) * torch.eye(size, dtype=x.dtype, device=x.device)
    moment = (x * (reward - centre).unsqueeze(-1).unsqueeze(-3)).sum(-2)
    weight: Tensor = torch.linalg.solve(gram, moment)
    return (features * weight.unsqueeze(-3)).sum(-1) + centre.unsqueeze(-1)
