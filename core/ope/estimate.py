"""An estimate with the terms that it is made of, so that every interval fits every estimator."""

from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """The value of a policy: the sum of `term` over the sum of `weight`, in float64."""

    value: Tensor  # [*B] float64, reward unit a step; NaN where the weights sum to 0
    term: Tensor  # [*B, n] float64, reward unit, what each row adds
    weight: Tensor  # [*B, n] float64, what each row counts: 1 in a plain mean


def ratio(term: Tensor, weight: Tensor) -> Estimate:
    """The estimate sum(term) / sum(weight) of [*B, n] each."""
    return Estimate(term.sum(-1) / weight.sum(-1), term, weight)


def mean(term: Tensor) -> Estimate:
    """The estimate that is the plain mean of `term` [*B, n]."""
    return ratio(term, torch.ones_like(term))
