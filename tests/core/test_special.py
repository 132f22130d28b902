"""Special functions against float64 bisection and scipy. Inputs are rounded to the dtype under test before the oracle
sees them, so that only the function's own error counts."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special as scipy_special
from torch import Tensor

from armfold.core import special
from tests.purity import check_pure

Array = NDArray[np.float64]
DTYPES = [torch.float32, torch.float64]
ERROR = 1e-5  # promised of every quantile, absolute
UNIT = st.floats(0, 1) | st.floats(0, 1, width=16) | st.sampled_from([0.0, 1e-30, 1e-9, 0.5, 1 - 1e-9, 1.0])


def kl(p: Array, q: Array) -> Array:
    """KL(Bernoulli(p), Bernoulli(q)) in float64."""
    return scipy_special.rel_entr(p, q) + scipy_special.rel_entr(1 - p, 1 - q)


def bisected(p: Array, budget: Array) -> Array:
    """The largest u in [p, 1] with kl(p, u) <= budget, to 2**-60."""
    low, high = p.copy(), np.ones_like(p)
    for _ in range(60):
        middle = (low + high) / 2
        inside = kl(p, middle) <= budget
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low


def exact(x: Tensor) -> Array:
    return x.double().numpy()


def check_kl_upper(p: Tensor, budget: Tensor) -> None:
    u = special.kl_upper(p, budget)
    assert u.dtype == p.dtype
    assert ((u >= p) & (u <= 1)).all()
    np.testing.assert_allclose(exact(u), bisected(exact(p), exact(budget)), rtol=0, atol=ERROR)


@st.composite
def budgets(draw: st.DrawFn) -> float:
    """0 to 100 nats: any, tiny ones, and those of KL-UCB with c = 3 at n plays of t."""
    n, t = draw(st.integers(0, 30)), draw(st.integers(1, 40))
    log_t = t * math.log(2)
    ucb = min((log_t + 3 * math.log(max(1.0, log_t))) / 2**n, 100.0)
    return draw(st.sampled_from([0.0, ucb, 100.0]) | st.floats(0, 100) | st.floats(-40, 4).map(math.exp))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=200)
@given(UNIT, budgets())
@example(0.0, 0.0)
@example(1.0, 0.0)
@example(0.0, 100.0)
@example(1.0, 100.0)
@example(0.5, math.log(1e12) / 1e9)
@example(1.0, math.log(1e12))
@example(1 - 2.0**-24, 1e-9)
def test_kl_upper_meets_bisection(dtype: torch.dtype, p: float, budget: float) -> None:
    check_kl_upper(torch.tensor([p], dtype=dtype), torch.tensor([budget], dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_upper_over_the_whole_domain(dtype: torch.dtype) -> None:
    ends = torch.logspace(-12, -1, 45, dtype=torch.float64)
    p = torch.cat([torch.tensor([0.0, 1.0]), ends, torch.linspace(0.1, 0.9, 81), 1 - ends]).to(dtype)
    budget = torch.cat([torch.zeros(1), torch.logspace(-12, 2, 400)]).to(dtype)
    check_kl_upper(*(x.flatten() for x in torch.meshgrid(p, budget, indexing="ij")))


@pytest.mark.parametrize("t", [2, 10, 10**6, 10**12])
def test_kl_upper_of_counted_plays(t: int) -> None:
    """Means that n plays can have, from n = 1 (0 or 1) to n = 1e9."""
    for n in (1, 2, 3, 10, 1000, 10**9):
        wins = torch.linspace(0, n, min(n, 50) + 1, dtype=torch.float64).round()
        for dtype in DTYPES:
            p = (wins / n).to(dtype)
            check_kl_upper(p, torch.full_like(p, math.log(t) / n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_upper_grows_with_the_budget(dtype: torch.dtype) -> None:
    """Up to the rounding of the last bits of u."""
    p = torch.linspace(0, 1, 101, dtype=dtype).unsqueeze(-1)
    budget = torch.cat([torch.zeros(1), torch.logspace(-12, 2, 2000)]).to(dtype)
    u = special.kl_upper(p, budget.expand(101, -1))
    assert (u.diff() >= -16 * torch.finfo(dtype).eps).all()
    assert (u[1:-1, -1] > u[1:-1, 0]).all()
    assert torch.equal(u[:, :1], p)  # nothing to spend: no bonus


@given(UNIT, st.floats(1e-6, 1 - 1e-6))
def test_bernoulli_kl(p: float, q: float) -> None:
    """Within what rounding q - p, 1 - p and the logarithms may cost."""
    for dtype in DTYPES:
        x, y = torch.tensor([p], dtype=dtype), torch.tensor([q], dtype=dtype)
        got, (p_, q_) = special.bernoulli_kl(x, y), (exact(x), exact(y))
        error = 4 * torch.finfo(dtype).eps * (1 + p_ / q_ + (1 - p_) / (1 - q_))
        assert (np.abs(exact(got) - kl(p_, q_)) <= error).all()


def test_bernoulli_kl_is_zero_at_p_and_exact_near_it() -> None:
    p = torch.linspace(0.001, 0.999, 999)
    assert (special.bernoulli_kl(p, p) == 0).all()
    q = p + 1e-3 * p * (1 - p)
    np.testing.assert_allclose(exact(special.bernoulli_kl(p, q)), kl(exact(p), exact(q)), rtol=1e-3)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 3e-6), (torch.float64, 3e-6)])
def test_stirling_error(dtype: torch.dtype, atol: float) -> None:
    """Of order 1 / (12 x); the series behind it is cut off at 3e-6."""
    x = torch.logspace(math.log10(0.5), 8, 500, dtype=dtype)
    y = exact(x)
    want = scipy_special.gammaln(y) - ((y - 0.5) * np.log(y) - y + 0.5 * math.log(2 * math.pi))
    tail = y > 1e4  # where that difference cancels to nothing
    want[tail] = 1 / (12 * y[tail])
    np.testing.assert_allclose(exact(special._stirling_error(x)), want, rtol=0, atol=atol)


def check_quantile(a: Tensor, b: Tensor, tail: Tensor) -> None:
    x = special.beta_upper_quantile(a, b, tail)
    assert x.dtype == a.dtype
    want = 1 - scipy_special.betaincinv(exact(b), exact(a), exact(tail))
    np.testing.assert_allclose(exact(x), want, rtol=0, atol=ERROR)


SIZES = st.floats(math.log(0.5), math.log(1e7)).map(math.exp).map(lambda x: min(max(x, 0.5), 1e7))
TAILS = st.floats(math.log(1e-12), math.log(0.5)).map(math.exp).map(lambda x: min(max(x, 1e-12), 0.5))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=200)
@given(SIZES, SIZES, TAILS)
@example(0.5, 0.5, 0.5)
@example(0.5, 0.5, 1e-12)
@example(0.5, 1e7, 1e-12)
@example(1e7, 0.5, 1e-12)
@example(1e7, 0.5, 0.5)
@example(1e7, 1e7, 0.5)
@example(1.0, 1.0, 1e-3)
def test_beta_upper_quantile_meets_scipy(dtype: torch.dtype, a: float, b: float, tail: float) -> None:
    check_quantile(*(torch.tensor([x], dtype=dtype) for x in (a, b, tail)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_beta_upper_quantile_over_the_whole_domain(dtype: torch.dtype) -> None:
    sizes = torch.logspace(math.log10(0.5), 7, 25, dtype=torch.float64).clamp(0.5, 1e7).to(dtype)
    tails = torch.logspace(-12, math.log10(0.5), 15, dtype=torch.float64).clamp(1e-12, 0.5).to(dtype)
    check_quantile(*(x.flatten() for x in torch.meshgrid(sizes, sizes, tails, indexing="ij")))


ELEMENTWISE: dict[str, tuple[Callable[..., Tensor], int]] = {
    "bernoulli_kl": (special.bernoulli_kl, 2),
    "kl_upper": (special.kl_upper, 2),
    "_stirling_error": (special._stirling_error, 1),
    "beta_upper_quantile": (lambda a, b, tail: special.beta_upper_quantile(20 * a, 5 * b + 0.5, tail / 2), 3),
}


def _arguments(number: int, *shape: int) -> list[Tensor]:
    grid = torch.linspace(0.05, 0.95, math.prod(shape)).reshape(shape)
    return [(grid * (i + 1)).remainder(0.97) + 0.01 for i in range(number)]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_agree_in_every_variant(name: str, shape: tuple[int, ...], variants) -> None:
    f, number = ELEMENTWISE[name]
    traced = shape == (3,) and name != "beta_upper_quantile"  # which takes a second: see the slow test
    variants(f, *_arguments(number, *shape), batch=min(len(shape), 2), traced=traced)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (64,)])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_agree_when_compiled(name: str, shape: tuple[int, ...], variants) -> None:
    f, number = ELEMENTWISE[name]
    variants(f, *_arguments(number, *shape), batch=len(shape), compiled=True, atol=3e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_are_pure(name: str) -> None:
    f, number = ELEMENTWISE[name]
    check_pure(f, *_arguments(number, 5))
