"""Special functions that torch lacks: the Bernoulli divergence, its inverse, and the quantile of a beta posterior."""

import math

import torch
from torch import Tensor

_TINY = 1e-30
_HALLEY_STEPS = 2
_NEWTON_STEPS = 4


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(Bernoulli(p) || Bernoulli(q)) in nats, elementwise, for p in [0, 1] and q in (0, 1)."""
    return _kl_gap(p.clamp(min=_TINY), (1 - p).clamp(min=_TINY), q - p)


def _kl_gap(p: Tensor, complement: Tensor, gap: Tensor) -> Tensor:
    # log1p of the gap, not log of the ratio: the two terms cancel to first order when the gap is small.
    return -p * torch.log1p(gap / p) - complement * torch.log1p(-gap / complement)


def kl_upper(p: Tensor, budget: Tensor) -> Tensor:
    """Largest u in [p, 1) with KL(p, u) <= budget, for p in [0, 1] and budget >= 0 in nats, elementwise.

    Halley's iteration on the gap u - p, from the lower of two upper bounds: KL >= gap^2 / (2 u (1 - p)), and
    KL >= p log p + (1 - p) log((1 - p) / (1 - u)). Two steps reach rounding, 3e-7 in float32, over the whole domain
    (tests/core/test_special.py), because the start is never far and the convergence is cubic.
    """
    return p + _upper_gap(p.clamp(min=_TINY), (1 - p).clamp(min=_TINY), budget)


def _upper_gap(p: Tensor, complement: Tensor, budget: Tensor) -> Tensor:
    per_p, per_complement = 1 / p, 1 / complement
    y = budget * complement
    near = y + torch.sqrt(y * (y + 2 * p))
    far = -complement * torch.expm1((p * torch.log(p) - budget) * per_complement)
    start = torch.minimum(torch.minimum(near, far), complement * (1 - 2 * torch.finfo(p.dtype).eps))
    gap = start
    for _ in range(_HALLEY_STEPS):
        excess = -p * torch.log1p(gap * per_p) - complement * torch.log1p(-gap * per_complement) - budget
        square = gap * gap
        step = 2 * gap * excess * (p + gap) * (complement - gap)
        step = step / (2 * square - excess * (p * complement + square)).clamp(min=_TINY)
        gap = torch.minimum((gap - step).clamp(min=0), start)
    return gap


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
    tail is concave in z: Newton on it converges from the Chernoff bound. The tail is a 16-point quadrature.
    """
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
    return torch.sigmoid(z)
