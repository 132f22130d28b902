"""Special functions that torch lacks: the Bernoulli divergence, its inverse, and the quantile of a beta posterior."""

import math

import torch
from torch import Tensor

_TINY = 1e-30
_NEWTON_STEPS = 4


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(Bernoulli(p) || Bernoulli(q)) in nats, elementwise, for p in [0, 1] and q in (0, 1)."""
    return _kl_gap(p.clamp(min=_TINY), (1 - p).clamp(min=_TINY), q - p)


def _kl_gap(p: Tensor, complement: Tensor, gap: Tensor) -> Tensor:
    # log1p of the gap, not log of the ratio: the two terms cancel to first order when the gap is small.
    return -p * torch.log1p(gap / p) - complement * torch.log1p(-gap / complement)


def kl_upper(p: Tensor, budget: Tensor) -> Tensor:
    """Largest u in [p, 1) with KL(p, u) <= budget, for p in [0, 1] and budget >= 0 in nats, elementwise.

    Householder's iteration of third order on the gap u - p, from the lower of two closed forms: gap^2 = 2 budget s
    (1 - s) at s = p + 2 gap / 3, which is good for small budgets, and KL >= p log p + (1 - p) log((1 - p) / (1 - u)),
    which is good for large ones. Over the whole domain one step reaches 3e-6, and two, taken in float64, rounding
    (tests/core/test_special.py).
    """
    return p + _upper_gap(p.clamp(min=_TINY), (1 - p).clamp(min=_TINY), budget)


def _upper_gap(p: Tensor, complement: Tensor, budget: Tensor) -> Tensor:
    per_p, per_complement = 1 / p, 1 / complement
    top = complement * (1 - 2 * torch.finfo(p.dtype).eps)
    near = _quadratic_gap(p, complement, budget)
    far = -complement * torch.expm1((p * torch.log(p) - budget) * per_complement)
    gap = torch.minimum(torch.minimum(near, far), top)
    for _ in range(2 if p.dtype == torch.float64 else 1):
        excess = -p * torch.log1p(gap * per_p) - complement * torch.log1p(-gap * per_complement) - budget
        # Derivatives of KL in the gap: gap / w, bend / w^2, 2 (gap w - bend w') / w^3.
        w, square = (p + gap) * (complement - gap), gap * gap
        bend, slope = p * complement + square, complement - p - 2 * gap
        x = excess / square.clamp(min=_TINY)
        step = w * gap * x * (1 - 0.5 * x * bend)
        step = step / (1 - x * bend + x * x * gap * (gap * w - bend * slope) * (1 / 3))
        # The start is good to some per cent: where excess is all rounding, or the root is beyond top, trust it.
        moved = torch.minimum(torch.maximum(gap - step, 0.5 * gap), torch.minimum(1.5 * gap, top))
        gap = torch.where((gap == top) & (excess <= 0), gap, moved)
    return gap


def _quadratic_gap(p: Tensor, complement: Tensor, budget: Tensor) -> Tensor:
    """The gap with gap^2 = 2 budget s (1 - s) at s = p + 2 gap / 3, by whichever formula does not cancel."""
    lean, stretch = (2 / 3) * budget * (complement - p), 1 + (8 / 9) * budget
    spread = 2 * budget * p * complement
    root = torch.sqrt(lean * lean + spread * stretch)
    negative = lean < 0
    return torch.where(negative, spread, root + lean) / torch.where(negative, root - lean, stretch)


def _stirling_error(x: Tensor) -> Tensor:
    """lgamma(x) minus Stirling's (x - 1/2) log x - x + log(2 pi) / 2, for x > 0."""
    y = x + 2
    series = (1 / 12 - (1 / 360 - 1 / (1260 * y * y)) / (y * y)) / y
    return series + (x + 0.5) * torch.log1p(1 / x) - 1 + (x + 1.5) * torch.log1p(1 / (x + 1)) - 1


# Gauss-Legendre on [0, 1], 16 points: positive nodes and weights on [-1, 1] (Abramowitz and Stegun 1964, table 25.4).
_GAUSS = (
    (0.0950125098, 0.1894506105),
    (0.2816035508, 0.1826034150),
    (0.4580167777, 0.1691565194),
    (0.6178762444, 0.1495959888),
    (0.7554044084, 0.1246289713),
    (0.8656312024, 0.0951585117),
    (0.9445750231, 0.0622535239),
    (0.9894009350, 0.0271524594),
)
_NODES = tuple((1 + sign * x) / 2 for sign in (-1, 1) for x, _ in _GAUSS)
_WEIGHTS = tuple(w / 2 for _ in (-1, 1) for _, w in _GAUSS)
_DROP = 18.0  # nats below the density at the lower end, where the quadrature stops


def beta_upper_quantile(a: Tensor, b: Tensor, tail: Tensor) -> Tensor:
    """The x with P(X > x) = tail for X ~ Beta(a, b), elementwise, for a, b >= 0.5 and 0 < tail <= 0.5.

    In z = logit(x) the density is proportional to exp(-n KL(p, x)) with n = a + b, p = a / n, and the log of the
    tail is concave in z: Newton on it converges from the Chernoff bound. The tail is a 16-point quadrature. It is done
    in float64, because a tail may begin closer to 1 than float32 can tell. Within 1e-6 of the true quantile.
    """
    dtype = a.dtype
    a, b, tail = a.to(torch.float64), b.to(torch.float64), tail.to(torch.float64)
    n = a + b
    p, complement = a / n, b / n
    log_norm = 0.5 * torch.log(a * b / (2 * math.pi * n)) + _stirling_error(n) - _stirling_error(a) - _stirling_error(b)
    nodes, weights = a.new_tensor(_NODES), a.new_tensor(_WEIGHTS)

    def chernoff(log_tail: Tensor) -> Tensor:
        gap = _upper_gap(p, complement, -log_tail / n)
        return torch.log((p + gap) / (complement - gap))

    def density(z: Tensor) -> Tensor:
        p_, complement_ = p.unsqueeze(-1), complement.unsqueeze(-1)
        gap = torch.where(p_ < 0.5, torch.sigmoid(z) - p_, complement_ - torch.sigmoid(-z))
        return torch.exp(log_norm.unsqueeze(-1) - n.unsqueeze(-1) * _kl_gap(p_, complement_, gap))

    log_tail = torch.log(tail)
    z, end = chernoff(log_tail), chernoff(log_tail - _DROP)
    for _ in range(_NEWTON_STEPS):
        width = end - z
        mass = width * (weights * density(z.unsqueeze(-1) + width.unsqueeze(-1) * nodes)).sum(-1)
        step = mass * (torch.log(mass) - log_tail) / density(z.unsqueeze(-1)).squeeze(-1)
        z = torch.where(width > 0, torch.minimum(z + step, end), end)  # no width: the quantile rounds to 1
    return torch.sigmoid(z).to(dtype)
