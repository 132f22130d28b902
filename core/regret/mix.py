"""Mixing two policies by a scheduler's lambda. Lambda weights the actor, everywhere in this package:

pi = lambda * actor + (1 - lambda) * regret
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_number, check_shape
from armfold.core.regret.match import check_rows, regret_match
from armfold.core.regret.output import Bins, Mode, Output, output_to_lambda
from armfold.core.types import Scalar, per_lane


class Mixed(NamedTuple):
    """A mixed policy, and by how much it was mixed."""

    policy: Tensor  # [*B, A] float, probabilities; all 0 where nothing is legal
    lam: Tensor  # [*B] float, lambda in [0, 1]: the actor's share


def mix_policies(
    out: Output | Mapping[str, Any],
    a: Tensor,
    r: Tensor,
    *,
    legal: Tensor | None = None,
    bins: Bins | None = None,
    tau: Scalar = 1.0,
    mode: Mode = "soft",
    rng: Tensor | None = None,
) -> Mixed:
    """pi = lambda * actor + (1 - lambda) * regret, over what is legal.

    out: a scheduler's output, or its dictionary (`as_dict`). a, r [*B, A] float: the probabilities of the actor and of
    the regret policy. legal bool [*B, A], or None: all. bins, tau, mode, rng: how a discrete output becomes lambda, as
    in `discrete_logits_to_lambda`, but "hard" takes the bin that `out.chosen` names; a continuous output needs none.

    Illegal entries are exactly 0 and the others sum to 1; they are uniform where neither policy plays what is legal.
    NaN counts as illegal; a row with nothing legal is all 0. Rows that sum to 1 up to rounding are not scaled, so
    lambda 1 gives the actor to the last bit and 0 the regret policy. Lambda outside [0, 1] is drawn to the nearer end
    (see `check_output`). Raises ShapeError and ValueError as those functions do.
    """
    check_rows("a", a, legal)
    check_shape("r", r, a.shape)
    if r.dtype != a.dtype:
        raise ShapeError(f"r must have the dtype of a, {a.dtype}, got {r.dtype}")
    lam = output_to_lambda(out, bins=bins, tau=tau, mode=mode, rng=rng).to(a.dtype)
    check_shape("lambda of out", lam, a.shape[:-1])
    share = lam.unsqueeze(-1)
    blend = share * a + (1 - share) * r
    kept = (blend if legal is None else torch.where(legal, blend, 0)).clamp(min=0)
    whole = (kept.sum(-1, keepdim=True) - 1).abs() <= a.shape[-1] * torch.finfo(a.dtype).eps
    return Mixed(torch.where(whole, kept, regret_match(blend, legal)), lam)


class MixingStats(NamedTuple):
    """How n rows were mixed: over those that have a policy, means unless named otherwise; entropies in nats."""

    rows: Tensor  # [*B] float, share of rows that have a policy (something is legal, nothing NaN)
    lam_mean: Tensor  # [*B] float
    lam_std: Tensor  # [*B] float, of the rows as the whole population
    lam_min: Tensor  # [*B] float; +inf where no row has a policy
    lam_max: Tensor  # [*B] float; -inf where no row has a policy
    at_regret: Tensor  # [*B] float, share of rows with lambda <= end
    at_actor: Tensor  # [*B] float, share of rows with lambda >= 1 - end
    entropy: Tensor  # [*B] float, of the mixture
    entropy_actor: Tensor  # [*B] float
    entropy_regret: Tensor  # [*B] float
    kl_actor: Tensor  # [*B] float, KL(mixture || actor); +inf where the actor never plays what the mixture may
    kl_regret: Tensor  # [*B] float, KL(mixture || regret); +inf likewise
    distance: Tensor  # [*B] float in [0, 1], total variation between actor and regret: how much lambda can matter


def mixing_stats(mixed: Mixed, a: Tensor, r: Tensor, *, legal: Tensor | None = None, end: Scalar = 1e-3) -> MixingStats:
    """Statistics [*B] of n >= 1 mixed rows, `mixed` from a, r and legal [*B, n, A], reduced on the device.

    Actor and regret policy are taken as `regret_match` scales them to what is legal. end in [0, 0.5] (a number or a
    tensor [*B]): how near to 0 or 1 counts as there. Raises ShapeError for rows that are not [*B, n, A].
    """
    check_number("end", end, low=0.0, high=0.5)
    check_rows("a", a, legal)
    if a.ndim < 2 or a.shape[-2] == 0:
        raise ShapeError(f"a must have shape (*B, n, A) with n >= 1, got {tuple(a.shape)}")
    check_shape("r", r, a.shape)
    check_shape("policy", mixed.policy, a.shape)
    used = (mixed.policy > 0).any(-1)
    number = used.sum(-1).clamp(min=1)

    def mean(x: Tensor) -> Tensor:
        return torch.where(used, x, 0).sum(-1).div(number)

    lam, near = mixed.lam, per_lane(end, a.dtype)
    lam_mean = mean(lam)
    off = lam - lam_mean.unsqueeze(-1)
    actor, regret = regret_match(a, legal), regret_match(r, legal)
    return MixingStats(
        rows=used.to(lam.dtype).mean(-1),
        lam_mean=lam_mean,
        lam_std=torch.sqrt(mean(off * off)),
        lam_min=torch.where(used, lam, torch.inf).amin(-1),
        lam_max=torch.where(used, lam, -torch.inf).amax(-1),
        at_regret=mean((lam <= near).to(lam.dtype)),
        at_actor=mean((lam >= 1 - near).to(lam.dtype)),
        entropy=mean(entropy(mixed.policy)),
        entropy_actor=mean(entropy(actor)),
        entropy_regret=mean(entropy(regret)),
        kl_actor=mean(divergence(mixed.policy, actor)),
        kl_regret=mean(divergence(mixed.policy, regret)),
        distance=mean((actor - regret).abs().sum(-1) / 2),
    )


def entropy(p: Tensor) -> Tensor:
    """Entropy [*B], nats, of probabilities [*B, K]."""
    return -torch.xlogy(p, p).sum(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) [*B], nats, of probabilities [*B, K]; +inf where q never plays what p may."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)
