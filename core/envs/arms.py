"""What bandit environments share: reading the value of the arm that was pulled."""

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import ShapeError, check_action, check_key


def pick(values: Tensor, action: Tensor) -> Tensor:
    """values[action] for values [*B, K] float and action int64 [*B]; NaN for an action outside [0, K)."""
    check_action(action, values.shape[:-1])
    arms = values.shape[-1]
    # A masked sum, not a gather: it is a vector operation over lanes, and an action outside needs no clamp.
    chosen = torch.where(masked.one_hot(action, arms), values, 0).sum(-1)
    return torch.where((action >= 0) & (action < arms), chosen, torch.nan)


def coin(rng: Tensor, p: Tensor, action: Tensor) -> Tensor:
    """A Bernoulli reward, float [*B], of the pulled arm's p [*B, K]; NaN for an action outside [0, K).

    The draw depends on the key and the arm alone, so that learners who share a key meet the same coins.
    """
    check_key(rng, p.shape[:-1])
    chosen = pick(p, action)
    heads = random.bernoulli(random.skip(rng, action), chosen)
    return torch.where(chosen == chosen, heads.to(p.dtype), chosen)


def fixed(name: str, values: Tensor, rng: Tensor, *, dims: int = 1) -> Tensor:
    """`values` [K], or of the last dimensions of [*B, K], as float32 [*B, K] for keys rng [*B, 2]; ShapeError that
    names it for others. dims: how many dimensions those of an arm and what follows are."""
    check_key(rng)
    shape = (*rng.shape[:-1], *values.shape[-dims:])
    if values.ndim > len(shape) or tuple(values.shape) != shape[len(shape) - values.ndim :]:
        wanted = " or ".join(str(one) for one in dict.fromkeys((shape[-dims:], shape)))
        raise ShapeError(f"{name} must have shape {wanted}, got {tuple(values.shape)}")
    return values.to(torch.float32).expand(shape).clone()
