"""Importance weighting: rows count by how much more often the evaluated policy would have chosen their action."""

import math

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.check import check_number
from armfold.core.ope.estimate import Estimate, mean, ratio
from armfold.core.ope.logs import check_probabilities, check_rows
from armfold.core.types import Logged, Scalar, per_lane


def at_action(values: Tensor, action: Tensor) -> Tensor:
    """values[..., action] in float64, [*B, n], for values [*B, n, K] and actions [*B, n]; 0 for an action outside."""
    return torch.where(masked.one_hot(action, values.shape[-1]), values.to(torch.float64), 0).sum(-1)


def weights(logged: Logged, target: Tensor, *, clip: Scalar = math.inf) -> Tensor:
    """Importance weights [*B, n] float64: probability of the logged action under `target` [*B, n, K] over its
    propensity, but at most `clip` > 0, a number or a tensor [*B]. Raises ValueError for a log without propensities."""
    check_rows(logged)
    check_probabilities(target, logged.action.shape)
    if not (isinstance(clip, float) and clip == math.inf):
        check_number("clip", clip, low=0.0, open_low=True)
    if logged.propensity is None:
        raise ValueError("logged.propensity must be given to weigh by it, got None")
    ideal = at_action(target, logged.action) / logged.propensity.to(torch.float64)
    most = per_lane(clip, ideal.dtype)
    return torch.minimum(ideal, most) if isinstance(most, Tensor) else ideal.clamp(max=most)


def effective_sample_size(weights: Tensor) -> Tensor:
    """Rows of equal weight that would tell as much as these, sum(w)^2 / sum(w^2), [*B]; 0 where all weights are 0.

    Source: Kish 1965, Survey Sampling.
    """
    total, square = weights.sum(-1), (weights * weights).sum(-1)
    return torch.where(square > 0, total * total / square, 0)


def ips(logged: Logged, target: Tensor, *, clip: Scalar = math.inf) -> Estimate:
    """Inverse propensity score: the mean of weight * reward. Unbiased where the log could show every action of the
    target; a `clip` on the weights trades bias towards 0 for variance.

    Source: Horvitz and Thompson 1952; clipped: Ionides 2008.
    """
    return mean(weights(logged, target, clip=clip) * logged.reward.to(torch.float64))


def snips(logged: Logged, target: Tensor, *, clip: Scalar = math.inf) -> Estimate:
    """Self-normalised: the weighted mean of rewards. It stays among the rewards met and moves with them; its bias
    vanishes as 1/n.

    Source: Swaminathan and Joachims 2015, NIPS.
    """
    weight = weights(logged, target, clip=clip)
    return ratio(weight * logged.reward.to(torch.float64), weight)
