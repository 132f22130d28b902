"""Whether a log can tell anything about a policy: facts for a warning."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.ope.weighting import effective_sample_size, weights
from armfold.core.types import Logged


class Overlap(NamedTuple):
    """How far the logged actions are those of the evaluated policy."""

    ess_share: Tensor  # [*B] float64, effective sample size over rows; 1: the log is as good as the policy's own
    largest_weight: Tensor  # [*B] float64
    mean_weight: Tensor  # [*B] float64, near 1 where the log could show all that the policy does, less where not
    unseen: Tensor  # [*B] float64, share of the policy's choices that are actions which the log (nearly) never shows


def overlap(logged: Logged, target: Tensor, *, rare: float = 0.0) -> Overlap:
    """The overlap of a log and the policy `target` [*B, n, K]. Arms logged in at most the share `rare` of all rows
    count as unseen. That an arm is seen, but not in the contexts where the policy wants it, shows in `mean_weight`.
    """
    weight = weights(logged, target)
    seen = masked.one_hot(logged.action, target.shape[-1]).to(torch.float64).mean(-2, keepdim=True) > rare
    return Overlap(
        effective_sample_size(weight) / weight.shape[-1],
        weight.amax(-1),
        weight.mean(-1),
        torch.where(seen, 0, target.to(torch.float64)).sum(-1).mean(-1),
    )
