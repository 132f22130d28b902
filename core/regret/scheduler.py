"""A small network that says how much the actor counts in a mixture, and how it learns that from a meta-learner.

The first dimensions [*B] of states x [*B, *M, F] are the lanes of the parameters: networks that are run together, none
for a single one. Losses are means over the states *M of a lane.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import optim
from armfold.core.check import ShapeError, check_number, check_shape, check_size
from armfold.core.nn import Mlp, mlp, mlp_init
from armfold.core.regret.match import check_rows, kind
from armfold.core.regret.output import Bins, Continuous, Discrete, Output, best_bin, check_bins, number_of, per_row
from armfold.core.types import Scalar, per_lane


def scheduler_init(
    rng: Tensor,
    features: int,
    *,
    hidden: Sequence[int] = (64, 32),
    bins: Bins | None = None,
    final_scale: Scalar = 0.01,
    dtype: torch.dtype = torch.float32,
) -> Mlp:
    """Parameters of a scheduler for each key in rng [*B, 2], of states with `features` numbers.

    bins: K values of lambda that ascend in [0, 1], for a discrete scheduler; None: a continuous one. final_scale: of
    the last layer's weights, so small that all states begin near lambda 0.5, or near equal odds of all bins.
    Raises ValueError for other bins and sizes; bins that are a tensor are not read.
    """
    if bins is not None and not isinstance(bins, Tensor):
        check_bins(bins)
    return mlp_init(rng, (features, *hidden, _outputs(bins)), final_scale=final_scale, dtype=dtype)


def _outputs(bins: Bins | None) -> int:
    return 1 if bins is None else number_of(bins)


def _scores(params: Mlp, x: Tensor, bins: Bins | None) -> Tensor:
    """The network's outputs [*B, *M, K], K = 1 for a continuous scheduler."""
    if params.biases[-1].shape[-1] != _outputs(bins):
        raise ShapeError(
            f"params must have an output for each of {_outputs(bins)} bins (one without bins), "
            f"got {params.biases[-1].shape[-1]}"
        )
    return mlp(params, x)


def scheduler_apply(
    params: Mlp,
    x: Tensor,
    step: Tensor,
    *,
    bins: Bins | None = None,
    warmup: int = 1000,
    init_lambda: Scalar = 0.5,
    eps: float = 1e-3,
) -> Output:
    """What the scheduler says of states x [*B, *M, F]: `Discrete` over `bins`, or `Continuous` without them.

    step: int64 [], or over the first dimensions of x: steps taken. While it is below `warmup`, lambda is exactly
    `init_lambda` in [0, 1] (a number or a tensor over the first dimensions): a discrete output then says so in `fixed`,
    which `mix_policies` obeys in every mode, whether or not it is a bin. Its logits are the network's all the same, so
    that they can be trained meanwhile. eps in [0, 0.5]: a continuous lambda stays in [eps, 1 - eps] after the warm-up,
    bins 0 and 1 are exact. Raises ValueError for values outside, ShapeError for other params, states and steps.
    """
    check_size("warmup", warmup, low=0)
    check_number("init_lambda", init_lambda, low=0.0, high=1.0)
    check_number("eps", eps, low=0.0, high=0.5)
    scores = _scores(params, x, bins)
    rows = scores[..., 0]
    if not isinstance(step, Tensor) or step.dtype != torch.int64 or step.shape != rows.shape[: step.ndim]:
        raise ShapeError(f"step must be torch.int64 with first dimensions of {tuple(rows.shape)}, got {kind(step)}")
    warming = (step < warmup).reshape((*step.shape, *(1,) * (rows.ndim - step.ndim)))
    fixed = torch.where(warming, per_row("init_lambda", init_lambda, rows), torch.full_like(rows, torch.nan))
    if bins is not None:
        return Discrete(scores, best_bin(scores), fixed)
    lam = torch.sigmoid(rows).clamp(eps, 1 - eps)
    return Continuous(torch.where(warming, fixed, lam).unsqueeze(-1))


def anneal(
    step: Tensor,
    *,
    start: Scalar = 1.0,
    end: Scalar = 0.1,
    steps: int = 50_000,
    kind: Literal["linear", "exponential"] = "linear",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A temperature for `mix_policies(tau=...)`, [*B]: from `start` to `end` in `steps`, then `end`.

    step int64 [*B], steps taken. start, end > 0: numbers or tensors [*B]. kind: "linear", or "exponential", by equal
    factors. Raises ValueError for values outside and another kind.
    """
    check_size("steps", steps)
    if kind not in ("linear", "exponential"):
        raise ValueError(f'kind must be "linear" or "exponential", got {kind!r}')
    time, first, last = _schedule(step, start, end, dtype)
    done = (time / steps).clamp(0, 1)
    if kind == "linear":
        return (1 - done) * first + done * last
    return torch.where(done < 1, first * torch.exp(done * (_log(last) - _log(first))), last)


def anneal_by_rate(
    step: Tensor,
    *,
    start: Scalar = 1.0,
    end: Scalar = 0.1,
    rate: Scalar = 0.99,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A temperature for `mix_policies(tau=...)`, [*B]: `start` times `rate` for each step taken, at least `end`.

    step int64 [*B]. start, end > 0, rate in (0, 1]: numbers or tensors [*B]. Raises ValueError for values outside.
    """
    check_number("rate", rate, low=0.0, high=1.0, open_low=True)
    time, first, last = _schedule(step, start, end, dtype)
    return (first * torch.exp(time * _log(per_row("rate", rate, time)))).clamp(min=last)


def _schedule(step: Tensor, start: Scalar, end: Scalar, dtype: torch.dtype) -> tuple[Tensor, Scalar, Scalar]:
    if not isinstance(step, Tensor) or step.dtype != torch.int64:
        raise ShapeError(f"step must be a tensor of dtype torch.int64, got {kind(step)}")
    check_number("start", start, low=0.0, open_low=True)
    check_number("end", end, low=0.0, open_low=True)
    time = step.to(dtype)
    return time, per_row("start", start, time), per_row("end", end, time)


def _log(x: Scalar) -> Scalar:
    return torch.log(x) if isinstance(x, Tensor) else math.log(x)


class SchedulerLosses(NamedTuple):
    """What a scheduler learns from, for each lane of parameters; means over its states."""

    loss: Tensor  # [*B] float, kl + beta_l2 l2 - beta_ent entropy
    kl: Tensor  # [*B] float, nats: KL(target || scheduler)
    entropy: Tensor  # [*B] float, nats, of the scheduler's law
    l2: Tensor  # [*B] float, sum of the squares of all parameters


def _laws(params: Mlp, x: Tensor, target: Tensor, bins: Bins | None, tau: Scalar) -> tuple[Tensor, Tensor]:
    """The target's probabilities and the scheduler's log-probabilities, [*B, *M, K] each."""
    scores = _scores(params, x, bins)
    if bins is not None:
        check_shape("target", target, scores.shape)
        return target, torch.log_softmax(scores / per_row("tau", tau, scores), -1)
    check_shape("target", target, scores.shape[:-1])
    # Lambda is the chance of the actor, one of two: the law over bins 0 and 1.
    return torch.stack((1 - target, target), -1), torch.cat(
        (torch.nn.functional.logsigmoid(-scores), torch.nn.functional.logsigmoid(scores)), -1
    )


def scheduler_loss(
    params: Mlp,
    x: Tensor,
    target: Tensor,
    *,
    bins: Bins | None = None,
    tau: Scalar = 1.0,
    beta_l2: Scalar = 1e-4,
    beta_ent: Scalar = 1e-3,
) -> SchedulerLosses:
    """KL(target || scheduler) + beta_l2 * (sum of squared parameters) - beta_ent * entropy: entropy is rewarded.

    x [*B, *M, F]. With `bins`, target [*B, *M, K] is a law over them, such as the meta-learner's, and the scheduler's
    law is softmax(logits / tau). Without, target [*B, *M] is a lambda in [0, 1] (`expected_lambda` makes one of a law),
    and lambda counts as the law (1 - lambda, lambda) over regret policy and actor, before it is clamped: so the
    gradient does not vanish where the clamp begins. tau > 0, for bins only: a number or a tensor over the first
    dimensions of x. Left at 1, lower temperatures of the mixer sharpen what is learned. beta_l2, beta_ent >= 0:
    numbers or tensors [*B]. Raises ValueError for values outside.
    """
    check_number("tau", tau, low=0.0, open_low=True)
    check_number("beta_l2", beta_l2, low=0.0)
    check_number("beta_ent", beta_ent, low=0.0)
    check_rows("target", target.unsqueeze(-1), None)
    target, said = _laws(params, x, target, bins, tau)
    lanes = params.biases[0].ndim - 1

    def mean(rows: Tensor) -> Tensor:
        return rows.unsqueeze(-1).flatten(lanes).mean(-1)

    kl = mean((torch.xlogy(target, target) - target * said).sum(-1))
    entropy = -mean((torch.exp(said) * said).sum(-1))
    l2 = torch.stack([(p * p).flatten(lanes).sum(-1) for p in (*params.weights, *params.biases)]).sum(0)
    weighted = per_lane(beta_l2, l2.dtype, 0) * l2 - per_lane(beta_ent, l2.dtype, 0) * entropy
    return SchedulerLosses(kl + weighted, kl, entropy, l2)


class SchedulerStats(NamedTuple):
    """What one step of learning saw, before it: the losses, and how large the gradient was."""

    loss: Tensor  # [*B] float
    kl: Tensor  # [*B] float, nats
    entropy: Tensor  # [*B] float, nats
    l2: Tensor  # [*B] float
    grad_norm: Tensor  # [*B] float64, of all parameters, before clipping


def scheduler_optimiser(*, rate: optim.Rate = 1e-4, max_norm: Scalar = 1.0, lanes: int = 0) -> optim.Optimiser:
    """Adam at `rate`, of gradients clipped to the norm `max_norm`, for parameters with `lanes` dimensions [*B]."""
    return optim.chain(optim.clip_by_global_norm(max_norm, lanes=lanes), optim.adam(rate, lanes=lanes))


def scheduler_step(
    params: Mlp,
    opt_state: optim.Tree,
    x: Tensor,
    target: Tensor,
    *,
    optimiser: optim.Optimiser | None = None,
    bins: Bins | None = None,
    tau: Scalar = 1.0,
    beta_l2: Scalar = 1e-4,
    beta_ent: Scalar = 1e-3,
) -> tuple[Mlp, optim.Tree, SchedulerStats]:
    """One step down `scheduler_loss`: the new parameters, the new optimiser's state, and what it saw.

    `opt_state` comes from `optimiser.init(params)`; optimiser None: `scheduler_optimiser` with its defaults for the
    lanes of params. Data and tunables are those of `scheduler_loss`.
    """
    lanes = params.biases[0].ndim - 1
    optimiser = scheduler_optimiser(lanes=lanes) if optimiser is None else optimiser

    def total(now: Mlp) -> tuple[Tensor, SchedulerLosses]:
        losses = scheduler_loss(now, x, target, bins=bins, tau=tau, beta_l2=beta_l2, beta_ent=beta_ent)
        return losses.loss.sum(), losses  # lanes share nothing, so the sum's gradient is each lane's own

    grads, losses = torch.func.grad(total, has_aux=True)(params)
    updates, opt_state = optimiser.update(grads, opt_state, params)
    norm = optim.global_norm(grads, lanes=lanes)
    stats = SchedulerStats(losses.loss, losses.kl, losses.entropy, losses.l2, norm)
    return optim.apply_updates(params, updates), opt_state, stats
