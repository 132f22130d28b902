"""Choosing among arms, under a mask, written once.

Illegal and NaN entries are never chosen. Where nothing is left to choose, actions are -1 and probabilities 0, which is
the flag that callers look for.
"""

import itertools

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_key

_UNROLLED = 32  # arms


def _at(x: Tensor, action: Tensor) -> tuple[Tensor, ...]:
    """The index of x[lane, action] for every lane, with actions outside [0, K) drawn to its ends."""
    batch = action.shape
    lanes = [torch.arange(n, device=x.device).reshape(n, *(1,) * (len(batch) - i - 1)) for i, n in enumerate(batch)]
    # A dimension of their own keeps indices from being 0-dim, which would be read on the host.
    return tuple(i.unsqueeze(-1) for i in (*lanes, action.clamp(0, x.shape[len(batch)] - 1)))


def take(x: Tensor, action: Tensor) -> Tensor:
    """x[lane, action] for x [*B, K, *S] and action int64 [*B]: [*B, *S]. Actions outside read the nearest arm."""
    return x[_at(x, action)].squeeze(action.ndim)


def put(x: Tensor, action: Tensor, value: Tensor) -> Tensor:
    """`x` [*B, K, *S] with value [*B, *S] at x[lane, action]. Actions outside write the nearest arm."""
    return torch.index_put(x, _at(x, action), value.unsqueeze(action.ndim))


def one_hot(action: Tensor, arms: int) -> Tensor:
    """Bool [*B, K]: whether the arm is `action`, int64 [*B]. All false for an action outside [0, K)."""
    # 32 bits: a vector of them is as long as one of float32, which it will mostly mask.
    arm = torch.arange(arms, device=action.device, dtype=torch.int32)
    return arm == action.clamp(-1, arms).to(torch.int32).unsqueeze(-1)


def _usable(x: Tensor, legal: Tensor | None) -> Tensor:
    usable = x == x  # not NaN; torch.isnan has no vector code on CPUs
    return usable if legal is None else usable & legal


def ties(x: Tensor, legal: Tensor | None = None) -> Tensor:
    """Bool [*B, K]: the usable entries of `x` [*B, K] that equal its largest usable one."""
    usable = _usable(x, legal)
    best = torch.where(usable, x, -torch.inf).amax(-1, keepdim=True)
    return usable & (x == best)


def argmax(x: Tensor, rng: Tensor, legal: Tensor | None = None) -> Tensor:
    """Position of the largest entry along the last axis, ties broken uniformly at random by the lane's key.

    x [*B, K] float; rng [*B, 2]; legal bool [*B, K] or None. Returns int64 [*B], -1 where nothing is usable.
    """
    check_key(rng, x.shape[:-1])
    priority = torch.where(ties(x, legal), random.bits(rng, x.shape[-1:]), -1)
    return torch.where(priority.amax(-1) >= 0, priority.argmax(-1), -1)


def argmax_probs(x: Tensor, legal: Tensor | None = None) -> Tensor:
    """The law of `argmax` over its rng: [*B, K], uniform over the ties, all 0 where nothing is usable."""
    tied = ties(x, legal).to(x.dtype)
    return tied / tied.sum(-1, keepdim=True).clamp(min=1)


def _settled(logits: Tensor, usable: Tensor) -> Tensor:
    """`logits` with -inf where not usable, such that a softmax exists: entries of +inf share everything between them;
    where all that is usable is -inf, all that is usable shares."""
    x = torch.where(usable, logits, -torch.inf)
    best = x.amax(-1, keepdim=True)
    return torch.where(torch.isinf(best), torch.where(usable & (x == best), 0.0, -torch.inf).to(x.dtype), x)


def log_softmax(logits: Tensor, legal: Tensor | None = None) -> Tensor:
    """Log-probabilities [*B, K] over the usable entries, -inf elsewhere."""
    usable = _usable(logits, legal)
    return torch.where(usable, torch.log_softmax(_settled(logits, usable), -1), -torch.inf)


def softmax(logits: Tensor, legal: Tensor | None = None) -> Tensor:
    """Probabilities [*B, K] over the usable entries, 0 elsewhere."""
    return torch.exp(log_softmax(logits, legal))


def categorical(rng: Tensor, logits: Tensor, legal: Tensor | None = None) -> Tensor:
    """A draw from softmax(logits) over the usable entries (Gumbel-max): int64 [*B], -1 where nothing is usable."""
    usable = _usable(logits, legal)
    return torch.where(usable.any(-1), random.categorical(rng, _settled(logits, usable)), -1)


def draw(rng: Tensor, weights: Tensor) -> Tensor:
    """An arm with probability proportional to its weight, by one uniform and a running sum: int64 [*B].

    weights [*B, K] float, >= 0. Arms of weight 0 are never drawn; -1 where the weights sum to 0 (or less than twice
    the smallest normal number), inf or NaN.
    """
    check_key(rng, weights.shape[:-1])
    point = random.uniform(rng, dtype=weights.dtype)
    if weights.shape[-1] > _UNROLLED:
        passed = weights.cumsum(-1)
        total = passed[..., -1]
        drawn = (point.unsqueeze(-1) * total.unsqueeze(-1) >= passed).sum(-1)
    else:
        # Compiled, this is one loop over lanes, where a cumulative sum would be one over arms.
        sums = list(itertools.accumulate(weights.unbind(-1)))
        total = sums[-1]
        drawn = sum(((point * total >= passed).to(weights.dtype) for passed in sums[:-1]), torch.zeros_like(total))
    # The uniform is at most 1 - 2**-24, so that point * total stays below total under rounding, and some arm passes it:
    # but not where products have lost digits, and the last one may be rounded up.
    least = 2 * torch.finfo(weights.dtype).tiny
    return torch.where((total >= least) & (total < torch.inf), drawn, -1).to(torch.int64)
