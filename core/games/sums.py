"""Sums and maxima over rows of unequal length, as gathers: they batch, compile, and add in one order on any device."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

Row = Sequence[tuple[int, float]]  # entries of a table, and their weights


_STAGE = 2000  # entries that could be read in the time that one stage more takes


class Stage(NamedTuple):
    """R rows of up to W entries of a table [X, *B], column by column."""

    entry: Tensor  # [W, R] int64, which of the X; 0 where a row has fewer
    weight: Tensor  # [W, R] float64; 0 where a row has fewer


class Rows(NamedTuple):
    """R rows of entries of a table; where they are too unequal to be padded, pieces of them, and rows of these."""

    stages: tuple[Stage, ...]


def make_rows(rows: Sequence[Row]) -> Rows:
    """Rows of (entry, weight) in the order they are to be added. A row may be empty."""
    lengths = [len(row) for row in rows]
    longest = max(lengths, default=0)
    widths = [2**i for i in range(1, longest.bit_length())]
    width = min(widths, key=lambda w: _cost(lengths, w), default=1)
    if longest <= 1 or len(rows) * longest <= _STAGE + _cost(lengths, width):
        return Rows((_stage(rows, max(longest, 1)),))
    pieces: list[Row] = []
    whole: list[Row] = []
    for row in rows:
        cut = [row[i : i + width] for i in range(0, len(row), width)]
        whole.append([(len(pieces) + i, 1.0) for i in range(len(cut))])
        pieces += cut
    return Rows((_stage(pieces, width), *make_rows(whole).stages))


def _cost(lengths: Sequence[int], width: int) -> int:
    """Entries to be read, about, where rows are cut in pieces of `width`."""
    pieces = [-(-n // width) for n in lengths]
    return (width + 2) * sum(pieces) + min(len(lengths) * max(pieces), 4 * sum(pieces))


def _stage(rows: Sequence[Row], width: int) -> Stage:
    padded = [[*row, *[(0, 0.0)] * (width - len(row))] for row in rows]
    entry = torch.tensor([[i for i, _ in row] for row in padded], dtype=torch.int64).reshape(len(rows), width)
    weight = torch.tensor([[w for _, w in row] for row in padded], dtype=torch.float64).reshape(len(rows), width)
    return Stage(entry.T.contiguous(), weight.T.contiguous())


def _columns(stage: Stage, table: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of the W columns, its entries of the table [R, *B] and their weights, [R, 1, ...]."""
    # One column after the other: the compiler makes a single loop of them, with vectors of lanes inside, where it
    # would sum over a dimension of [R, W, *B] entry by entry.
    for entry, weight in zip(stage.entry.unbind(), stage.weight.unbind()):
        yield table.index_select(0, entry), weight.reshape(-1, *(1,) * (table.ndim - 1))


def row_sum(rows: Rows, table: Tensor) -> Tensor:
    """The weighted sum of each row's entries of `table` [X, *B] float: [R, *B]. 0 for an empty row."""
    for stage in rows.stages:
        table = reduce(torch.add, (x * weight.to(x.dtype) for x, weight in _columns(stage, table)))
    return table


def row_max(rows: Rows, table: Tensor) -> Tensor:
    """The largest of each row's entries of `table` [X, *B] float: [R, *B]. -inf for an empty row."""
    for stage in rows.stages:
        there = (torch.where(weight != 0, x, -torch.inf) for x, weight in _columns(stage, table))
        table = reduce(torch.maximum, there)
    return table
