"""Sums and maxima of ragged rows against plain loops."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from armfold.core.games.sums import make_rows, row_max, row_sum
from tests.purity import check_pure

Row = list[tuple[int, float]]
ROW = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([-2.0, -0.5, 0.25, 1.0, 3.0])), max_size=12)
LONG: Row = [(i % 10, 1.0 + i % 3) for i in range(500)]
MANY: list[Row] = [[(i % 10, 1.0)] * (i % 3) for i in range(400)]


def table(*batch: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(10, *batch, generator=torch.Generator().manual_seed(3), dtype=dtype)


def check(rows: list[Row], x: torch.Tensor) -> None:
    made, values = make_rows(rows), x.reshape(10, -1).T.tolist()
    sums, most = row_sum(made, x), row_max(made, x)
    assert sums.shape == most.shape == (len(rows), *x.shape[1:])
    assert sums.dtype == most.dtype == x.dtype
    want = [[sum(w * lane[i] for i, w in row) for lane in values] for row in rows]
    torch.testing.assert_close(sums.reshape(len(rows), -1), torch.tensor(want, dtype=x.dtype), rtol=1e-5, atol=1e-5)
    if x.dtype == torch.float64:
        torch.testing.assert_close(sums.reshape(len(rows), -1), torch.tensor(want, dtype=x.dtype), rtol=0, atol=1e-11)
    largest = [[max((lane[i] for i, _ in row), default=-math.inf) for lane in values] for row in rows]
    assert torch.equal(most.reshape(len(rows), -1), torch.tensor(largest, dtype=x.dtype))


@settings(max_examples=40)
@given(st.lists(ROW, min_size=1, max_size=8), st.sampled_from([(), (1,), (3,), (2, 2)]))
@example([[]], ())
@example([[], [], [(9, 1.0)]], (3,))
def test_they_are_those_of_plain_loops(rows: list[Row], batch: tuple[int, ...]) -> None:
    check(rows, table(*batch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_one_long_row_among_many_short_ones(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    for rows in ([*MANY, LONG], [LONG, *MANY], [*MANY[:200], LONG, [], *MANY[200:]], [LONG] * 3 + MANY):
        check(rows, table(*batch, dtype=dtype))


def test_a_long_row_does_not_pad_the_others() -> None:
    rows = make_rows([*MANY, LONG])
    assert len(rows.stages) > 1
    assert sum(stage.entry.numel() for stage in rows.stages) < 10_000  # 401 rows of 500 entries would be 200,500
    assert make_rows([[(1, 1.0)], [(0, 2.0)]]).stages[0].entry.shape == (1, 2)


def test_the_sum_of_an_empty_row_is_zero_and_its_maximum_minus_infinity() -> None:
    rows = make_rows([[], [(0, 1.0)]])
    x = torch.tensor([[5.0, -5.0]])
    assert row_sum(rows, x).tolist() == [[0.0, 0.0], [5.0, -5.0]]
    assert row_max(rows, x).tolist() == [[-math.inf, -math.inf], [5.0, -5.0]]


@pytest.mark.parametrize("function", [row_sum, row_max])
def test_lanes_are_independent_and_nothing_is_changed(function) -> None:
    rows, x = make_rows([*MANY, LONG]), table(2, 3)
    got = check_pure(lambda x: function(rows, x), x)
    for i in range(2):
        for j in range(3):
            assert torch.equal(got[:, i, j], function(rows, x[:, i, j]))
    mapped = torch.func.vmap(lambda x: function(rows, x), in_dims=-1, out_dims=-1)(x[:, 0])
    assert torch.equal(mapped, got[:, 0])
