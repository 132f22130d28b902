"""The helpers themselves: `check_pure` and `variants` catch what they are for."""

import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.purity import check_pure


class Pair(NamedTuple):
    kept: Tensor  # [*B]
    moved: Tensor  # [*B]


def _pair() -> Pair:
    return Pair(torch.tensor([1.0, -0.0, torch.nan]), torch.zeros(3))


def test_pure_functions_pass_and_return_their_result() -> None:
    assert torch.equal(check_pure(lambda x, n: x + n, torch.arange(3), 2), torch.tensor([2, 3, 4]))
    pair = _pair()
    result = check_pure(lambda s: s._replace(moved=s.moved + 1), pair)
    assert isinstance(result, Pair)
    assert result.kept is pair.kept
    assert torch.equal(result.moved, torch.ones(3))


COUNT = itertools.count()
KEPT: list[Tensor] = [torch.zeros(3)]


def _returns_what_it_changes_later(x: Tensor) -> Tensor:
    return KEPT[0].add_(1)


@pytest.mark.parametrize(
    ("f", "complaint"),
    [
        (lambda s: s.moved.add_(1) + 1, "input leaf 1 was changed"),
        (lambda s: s.kept[1:2].zero_() + 1, "input leaf 0 was changed"),  # -0 becomes +0
        (lambda s: s.moved + torch.rand(3), "torch generator"),
        (lambda s: s.moved + random.random(), "generator of `random`"),
        (lambda s: s.moved[1:], "output leaf 0 aliases"),
        (lambda s: Pair(s.kept, s.moved.detach()), "output leaf 1 aliases"),
        (lambda s: s.moved + next(COUNT), "output leaf 0 was different"),
        (_returns_what_it_changes_later, "output leaf 0 was different"),
        (lambda s: (s.moved + 1,) * next(COUNT), "another structure"),
    ],
)
def test_impure_functions_are_caught(f: Callable[[Pair], object], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_pure(f, _pair())


def test_variants_returns_the_eager_result(variants: Callable[..., Pair]) -> None:
    pair = Pair(torch.arange(6.0).reshape(2, 3), torch.ones(2, 3))
    result = variants(lambda s, n: s._replace(moved=s.moved.sum(-1) + n), pair, 2, exact=True)
    assert torch.equal(result.moved, torch.full((2,), 5.0))
    assert variants(lambda s: s.moved.amax(-1).log(), pair, batch=1).shape == (2,)
    assert variants(lambda s: (s.moved + s.kept).long(), pair, batch=2).shape == (2, 3)
    assert variants(lambda s: s.moved.sum(), pair, batch=0) == 6


@pytest.mark.parametrize(
    ("f", "complaint"),
    [
        (lambda x: x * (1.0 + torch.compiler.is_compiling()), "aot_eager, leaf 0"),
        (lambda x: x - x.mean(), "vmapped, leaf 0"),  # mixes the lanes
        (lambda x: x + x.ndim * (not torch._C._functorch.is_batchedtensor(x)), "vmapped, leaf 0"),
        (lambda x: x + (x.ndim == 1 and not torch._C._functorch.is_batchedtensor(x)), "single lane, leaf 0"),
        (lambda x: x.long() + (x.sum() > 3), "vmapped, leaf 0"),
    ],
)
def test_variants_catches_functions_that_differ(f: Callable[[Tensor], Tensor], complaint: str, variants) -> None:
    with pytest.raises(AssertionError, match=complaint):
        variants(f, torch.arange(6.0).reshape(2, 3))


def test_variants_catches_what_does_not_trace(variants) -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported):
        variants(lambda x: x if x.sum() > 3 else -x, torch.arange(3.0))
