"""Regret matching against OpenSpiel's, and what it does with masks, NaN and sums too large to hold."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_spiel.python.algorithms import cfr

from armfold.core.check import ShapeError
from armfold.core.regret import regret_match
from tests.purity import check_pure

INF, NAN = math.inf, math.nan

REGRET = st.floats(-50, 50) | st.sampled_from([0.0, 1.0, -1.0])
ROWS = st.lists(st.tuples(REGRET | st.just(NAN), st.booleans()), min_size=1, max_size=6)


@given(ROWS)
@settings(max_examples=30)
@example([(0.0, True), (-1.0, True)])
@example([(5e-324, True), (1.0, False), (0.0, True)])
def test_it_is_that_of_openspiel_over_what_is_legal(pairs: list[tuple[float, bool]]) -> None:
    usable = [i for i, (r, ok) in enumerate(pairs) if ok and r == r]
    want = cfr._regret_matching({i: pairs[i][0] for i in usable}, usable)
    r, legal = torch.tensor([r for r, _ in pairs], dtype=torch.float64), torch.tensor([ok for _, ok in pairs])
    got = regret_match(r, legal)
    assert got.tolist() == pytest.approx([want.get(i, 0.0) for i in range(len(pairs))], rel=1e-12, abs=0)
    assert float(got.sum()) == pytest.approx(float(bool(usable)))
    torch.testing.assert_close(regret_match(torch.where(legal, r, NAN)), got, rtol=0, atol=0)


def test_entries_whose_sum_has_no_number() -> None:
    most = torch.finfo(torch.float32).max
    r = torch.tensor([[most, most, -INF], [INF, 1.0, 2.0], [INF, INF, -most], [-INF, -INF, NAN], [NAN, NAN, NAN]])
    want = torch.tensor([[0.5, 0.5, 0], [1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]])
    torch.testing.assert_close(regret_match(r), want, rtol=1e-6, atol=1e-30)


def test_entries_too_large_for_a_sum_count_as_what_is_not() -> None:
    most = torch.finfo(torch.float32).max
    r = torch.tensor([[INF, most / 4], [most, most / 4], [INF, most], [1e38, 2e37]])
    want = torch.tensor([[2 / 3, 1 / 3], [2 / 3, 1 / 3], [0.5, 0.5], [5 / 6, 1 / 6]])
    torch.testing.assert_close(regret_match(r), want)


def test_its_gradient_is_finite_everywhere() -> None:
    r = torch.tensor([[1.0, 2.0, -1.0], [-1.0, -2.0, 0.0], [NAN, 1.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    legal = torch.tensor([[True] * 3, [True] * 3, [True] * 3, [False] * 3])
    regret_match(r, legal)[:, 1].sum().backward()
    # d/dr of r_1 / (r_0 + r_1): -2/9 and 1/9; of r_1 / (r_1 + r_2): 3/16 and -1/16.
    want = [[-2 / 9, 1 / 9, 0], [0, 0, 0], [0, 3 / 16, -1 / 16], [0, 0, 0]]
    torch.testing.assert_close(r.grad, torch.tensor(want))


@pytest.mark.parametrize("steps", [100, 900])
def test_regrets_of_a_matrix_game_stay_below_their_bound(steps: int) -> None:
    """Blackwell's bound holds surely: the largest regret is at most sqrt(A T) of payoffs that differ by up to 1."""
    payoff = torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.5, 0.2], [0.0, 0.9, 0.5]], dtype=torch.float64)
    regret, total = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(steps):
        play = regret_match(regret)
        utility = torch.stack((payoff @ play[1], -payoff.T @ play[0]))
        regret = regret + utility - (play * utility).sum(-1, keepdim=True)
        total = total + play
    assert (regret.amax(-1) <= math.sqrt(3 * steps)).all()
    row, column = total / steps
    # The average play is nearer to equilibrium than the bounds of both: max_i payoff - min_j payoff.
    assert float((payoff @ column).max() - (payoff.T @ row).min()) <= 2 * math.sqrt(3 / steps)


R = torch.tensor(
    [
        [[1.0, 2.0, -2.0], [0.0, -1.0, -3.0], [NAN, NAN, NAN]],
        [[1.0, NAN, 3.0], [INF, 1.0, 2.0], [-1.0, 4.0, 0.5]],
    ]
)
LEGAL = torch.tensor([[[True, True, False], [True, False, True], [True] * 3], [[True] * 3, [True] * 3, [False] * 3]])


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_it_agrees_in_every_variant(batch: tuple[int, ...], variants) -> None:
    lane = {(): (1, 0), (3,): (1,), (2, 3): ()}[batch]
    variants(regret_match, R[lane], LEGAL[lane], batch=len(batch), traced=batch == (3,))
    variants(regret_match, R[lane], batch=len(batch), traced=False)


def test_it_is_pure() -> None:
    check_pure(regret_match, R, LEGAL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_regrets(dtype: torch.dtype) -> None:
    got = regret_match(torch.tensor([3.0, 1.0, -1.0], dtype=dtype))
    assert got.dtype == dtype
    assert got.tolist() == [0.75, 0.25, 0.0]


@pytest.mark.parametrize(
    ("r", "legal", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), None, r"r must be floating of shape \(\*B, A\), got torch.int64 \(3,\)"),
        (torch.zeros(()), None, r"r must be floating of shape \(\*B, A\), got torch.float32 \(\)"),
        (torch.zeros(2, 0), None, r"r must be floating of shape \(\*B, A\), got torch.float32 \(2, 0\)"),
        (0.5, None, r"r must be floating of shape \(\*B, A\), got 0.5"),
        (torch.zeros(2, 3), torch.ones(2, 3), r"legal must have dtype torch.bool, got torch.float32"),
        (torch.zeros(2, 3), torch.ones(3, dtype=torch.bool), r"legal must have shape \(2, 3\), got \(3,\)"),
    ],
)
def test_wrong_shapes_are_named(r: torch.Tensor, legal: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        regret_match(r, legal)
