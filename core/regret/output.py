"""What a scheduler says, and the lambda that it means: the actor's share of a mixture (see `mix.mix_policies`).

`Continuous` gives lambda itself, `Discrete` scores K bins of it.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import ShapeError, check_key, check_number, check_values
from armfold.core.regret.match import check_rows, kind
from armfold.core.types import Scalar, per_lane

BINS = (0.0, 0.25, 0.5, 0.75, 1.0)

Mode = Literal["soft", "hard", "gumbel"]
Bins = Sequence[float] | Tensor  # K values of lambda in [0, 1], ascending; a tensor is [K] or [*B, K]


class Continuous(NamedTuple):
    """What a scheduler says that gives lambda itself."""

    lam: Tensor  # [*B, 1] float, lambda in [0, 1]: the actor's share


class Discrete(NamedTuple):
    """What a scheduler says that chooses among K bins of lambda."""

    logits: Tensor  # [*B, K] float, scores of the bins
    chosen: Tensor  # [*B] int64, the best bin, in [0, K); -1 where the logits are NaN
    fixed: Tensor | None = None  # [*B] float: lambda where it is fixed, in every mode; NaN: the bins decide


Output = Continuous | Discrete


def as_dict(out: Output) -> dict[str, Any]:
    """`out` as a dictionary: {"mode": "continuous", "lambda": [*B, 1]}, or {"mode": "discrete", "logits": [*B, K],
    "lambda_idx": [*B]}, and there "lambda_fixed" [*B] where `out` has it."""
    if isinstance(out, Continuous):
        return {"mode": "continuous", "lambda": out.lam}
    said = {"mode": "discrete", "logits": out.logits, "lambda_idx": out.chosen}
    return said if out.fixed is None else {**said, "lambda_fixed": out.fixed}


def from_dict(said: Mapping[str, Any]) -> Output:
    """The inverse of `as_dict`. Raises ValueError for another mode or a key that is missing; further keys are left.
    Values are left as they are too: see `check_output`."""
    names = {"continuous": ("lambda",), "discrete": ("logits", "lambda_idx")}
    mode = said.get("mode")
    if mode not in names:
        raise ValueError(f'out["mode"] must be "continuous" or "discrete", got {mode!r}')
    missing = [name for name in names[mode] if name not in said]
    if missing:
        raise ValueError(f"out of mode {mode!r} must have {missing[0]!r}, got the keys {sorted(said)}")
    if mode == "continuous":
        return Continuous(said["lambda"])
    return Discrete(said["logits"], said["lambda_idx"], said.get("lambda_fixed"))


def number_of(bins: Bins) -> int:
    """How many values `bins` have, K >= 1. Raises ShapeError for a tensor that is not [*B, K], ValueError for what is
    neither a tensor nor a sequence of numbers in [0, 1]."""
    if isinstance(bins, Tensor):
        if bins.ndim == 0 or bins.shape[-1] == 0:
            raise ShapeError(f"bins must have shape (K,) or (*B, K), K >= 1, got {tuple(bins.shape)}")
        return bins.shape[-1]
    values = bins if isinstance(bins, Sequence) else ()
    if not values or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        raise ValueError(f"bins must be numbers in [0, 1], at least one, got {bins!r}")
    return len(values)


def check_bins(bins: Bins) -> None:
    """Raise ValueError unless `bins` ascend strictly inside [0, 1]. A tensor is read: not for traced code."""
    number = number_of(bins)
    if isinstance(bins, Tensor):
        for row in bins.reshape(-1, number).tolist():
            check_bins(row)
        return
    if not all(low < high for low, high in itertools.pairwise(bins)):
        raise ValueError(f"bins must be sorted, each above the one before, got {bins!r}")


def check_output(out: Output | Mapping[str, Any], bins: Bins | None = None) -> None:
    """Raise ValueError unless every value of `out` can be used: lambda in [0, 1], logits with a finite largest entry,
    chosen bins that exist; and `bins`, where they are given. Raises ShapeError for other shapes.

    It reads the tensors: for where data comes in, not for traced code. `mix_policies` itself draws lambda to the
    nearer end of [0, 1], and gives rows of 0 where it is NaN.
    """
    out = _output(out)
    if bins is not None:
        check_bins(bins)
    if isinstance(out, Continuous):
        check_values("lambda", out.lam, low=0.0, high=1.0)
        return
    best = out.logits.amax(-1)
    wrong = ~torch.isfinite(best)
    if bool(wrong.any()):
        raise ValueError(f"logits must have a finite largest entry in every row, got {best[wrong][0].item()}")
    check_values("chosen", out.chosen, low=0, high=out.logits.shape[-1] - 1)
    if out.fixed is not None:
        check_values("fixed", torch.where(out.fixed == out.fixed, out.fixed, 0), low=0.0, high=1.0)


def _output(out: Any) -> Output:
    """A scheduler's output or what its dictionary says, in the shapes that it must have."""
    out = from_dict(out) if isinstance(out, Mapping) else out
    if isinstance(out, Continuous):
        lam = out.lam
        if not isinstance(lam, Tensor) or not lam.is_floating_point() or lam.ndim == 0 or lam.shape[-1] != 1:
            raise ShapeError(f"lambda must be floating of shape (*B, 1), got {kind(lam)}")
        return out
    if not isinstance(out, Discrete):
        raise ValueError(f"out must be Continuous, Discrete or a dictionary of either, got {kind(out)}")
    check_rows("logits", out.logits, None)
    rows = out.logits.shape[:-1]
    if not isinstance(out.chosen, Tensor) or out.chosen.dtype != torch.int64 or out.chosen.shape != rows:
        raise ShapeError(f"chosen must be torch.int64 of shape {tuple(rows)}, got {kind(out.chosen)}")
    if out.fixed is not None and (not isinstance(out.fixed, Tensor) or out.fixed.shape != rows):
        raise ShapeError(f"fixed must be a tensor of shape {tuple(rows)}, got {kind(out.fixed)}")
    return out


def per_row(name: str, tunable: Scalar, x: Tensor) -> Scalar:
    """A number, or a tensor over the first dimensions of `x` that is ready to meet it, or ShapeError."""
    if not isinstance(tunable, Tensor):
        return tunable
    if tunable.shape != x.shape[: tunable.ndim]:
        raise ShapeError(f"{name} must have the first dimensions of {tuple(x.shape)}, got {tuple(tunable.shape)}")
    return per_lane(tunable.to(x.dtype), x.dtype, x.ndim - tunable.ndim)


def _bin_values(bins: Bins, logits: Tensor) -> Tensor:
    if not isinstance(bins, Tensor):
        check_bins(bins)
        bins = torch.tensor(bins, dtype=logits.dtype, device=logits.device)
    if bins.shape != logits.shape[-1:] and bins.shape != logits.shape:
        raise ShapeError(f"bins must be as many as logits, [K] for {tuple(logits.shape)}, got {tuple(bins.shape)}")
    return bins.to(logits.dtype)


def best_bin(logits: Tensor) -> Tensor:
    """Position of the largest of logits [*B, K], int64 [*B]; -1 where one is NaN."""
    return torch.where((logits == logits).all(-1), logits.argmax(-1), -1)


def _value_of(bins: Tensor, index: Tensor) -> Tensor:
    """The bin's value to the last bit, [*B]; NaN for an index outside [0, K)."""
    chosen = masked.one_hot(index, bins.shape[-1])
    return torch.where(chosen.any(-1), torch.where(chosen, bins, 0).sum(-1), torch.nan)


def expected_lambda(probs: Tensor, bins: Bins) -> Tensor:
    """The mean [*B] of `bins` (K values) under probabilities [*B, K]."""
    check_rows("probs", probs, None)
    return (probs * _bin_values(bins, probs)).sum(-1)


def discrete_logits_to_lambda(
    logits: Tensor, bins: Bins, *, tau: Scalar = 1.0, mode: Mode = "soft", rng: Tensor | None = None
) -> Tensor:
    """Lambda [*B] from scores [*B, K] of `bins`, K values that ascend in [0, 1].

    mode: "soft": the mean bin under softmax(logits / tau). "hard": the best bin, without a gradient. "gumbel": a bin
    drawn from softmax(logits) by the key `rng` [*B, 2], with the gradient of the mean bin under softmax((logits +
    noise) / tau) of the same noise (straight through). tau > 0: a number, or a tensor [*B] or over the first of those
    dimensions; it does not move "hard". A row that has a NaN gives NaN. Raises ValueError for bins that are not sorted
    or outside [0, 1] and tau <= 0 where they are numbers (tensors are not read), another mode, and "gumbel" without
    rng; ShapeError for other shapes.
    Source: Jang, Gu and Poole 2017; Maddison, Mnih and Teh 2017.
    """
    _check_mode(mode, tau)
    check_rows("logits", logits, None)
    values = _bin_values(bins, logits)
    if mode == "hard":
        return _value_of(values, best_bin(logits))
    if mode == "gumbel":
        if rng is None:
            raise ValueError('rng must be given for mode "gumbel": an int64 key [*B, 2], got None')
        check_key(rng, logits.shape[:-1])
        logits = logits + random.gumbel(rng, logits.shape[-1:], dtype=logits.dtype)
    # From the largest on, so that no temperature is too low.
    scores = (logits - logits.detach().amax(-1, keepdim=True)) / per_row("tau", tau, logits)
    soft = expected_lambda(torch.softmax(scores, -1), values)
    return soft if mode == "soft" else _value_of(values, best_bin(logits)) + (soft - soft.detach())


def _check_mode(mode: str, tau: Scalar) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    check_number("tau", tau, low=0.0, open_low=True)


def output_to_lambda(
    out: Output | Mapping[str, Any],
    *,
    bins: Bins | None = None,
    tau: Scalar = 1.0,
    mode: Mode = "soft",
    rng: Tensor | None = None,
) -> Tensor:
    """Lambda [*B] that a scheduler's output means, in [0, 1] or NaN. See `mix_policies` for the arguments."""
    out = _output(out)
    _check_mode(mode, tau)
    if isinstance(out, Continuous):
        return out.lam.squeeze(-1).clamp(0, 1)
    if bins is None:
        raise ValueError("bins must be given for the output of a discrete scheduler, got None")
    if mode == "hard":
        lam = _value_of(_bin_values(bins, out.logits), out.chosen)
    else:
        lam = discrete_logits_to_lambda(out.logits, bins, tau=tau, mode=mode, rng=rng)
    if out.fixed is not None:
        lam = torch.where(out.fixed == out.fixed, out.fixed.to(lam.dtype), lam)
    return lam.clamp(0, 1)
