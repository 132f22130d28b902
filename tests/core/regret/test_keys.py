"""Keys of states: the same everywhere, one for each state, and readable."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.regret import bucket, describe_key, state_key
from armfold.core.regret.keys import EDGES, FIELDS
from tests.purity import check_pure

LIMITS = (2**20, 2**12, 2**60)  # of a field, by level


def grid(level: int, *sizes: int) -> Tensor:
    """Keys of all combinations of fields below `sizes`, in ascending order of the fields."""
    return state_key(level, *torch.tensor(list(itertools.product(*map(range, sizes)))).unbind(-1))


def test_keys_are_these_in_every_process() -> None:
    fields = [torch.tensor(x) for x in (3, 1, 0, 2, 7)]
    assert int(state_key(0, *fields[:3])) == 0x0_00003_00001_00000
    assert int(state_key(1, *fields)) == 0x1_003_001_000_002_007
    assert int(state_key(2, torch.tensor(42))) == 0x2_00000000000002A


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_keys_are_the_same_on_another_device() -> None:
    fields = [torch.arange(100) % n for n in (5, 2, 7, 3, 4)]
    assert torch.equal(state_key(1, *(f.cuda() for f in fields)).cpu(), state_key(1, *fields))


def test_no_two_states_share_a_key() -> None:
    """Every state of a large game, at every level: all distinct, and in the order of their fields."""
    keys = [grid(0, 16, 8, 32), grid(1, 5, 3, 6, 9, 9), grid(2, 5000)]
    for level in keys:
        assert (level.diff() > 0).all()
    assert (torch.cat(keys).diff() > 0).all()


@settings(max_examples=15)
@given(st.integers(0, 2), st.data())
def test_keys_can_be_read_back(level: int, data: st.DataObject) -> None:
    """So they are one to one over all fields in range, and levels share none."""
    drawn = [data.draw(st.integers(0, LIMITS[level] - 1) | st.just(LIMITS[level] - 1)) for _ in FIELDS[level]]
    key = int(state_key(level, *map(torch.tensor, drawn)))
    assert describe_key(key) == "_".join(map(str, drawn))
    assert level * 2**60 <= key < (level + 1) * 2**60


def test_keys_of_fields_out_of_range_name_no_state() -> None:
    for level, limit in enumerate(LIMITS):
        for i in range(len(FIELDS[level])):
            fields = [torch.zeros(4, dtype=torch.int64) for _ in FIELDS[level]]
            fields[i] = torch.tensor([-1, limit, limit - 1, -(2**63)])
            assert (state_key(level, *fields) == -1).tolist() == [True, True, False, True]


def test_buckets_are_counted_from_the_edges() -> None:
    value = torch.tensor([-1.0, 1.99, 2.0, 3.0, 4.0, 255.0, 256.0, math.inf, -math.inf, math.nan])
    assert bucket(value).tolist() == [0, 0, 1, 1, 2, 7, 8, 8, 0, -1]
    assert bucket(torch.tensor([[0, 1], [5, 3]]), (1, 2.5, 5)).tolist() == [[0, 1], [3, 2]]
    edges = torch.tensor(EDGES)
    assert torch.equal(bucket(value[:-1]), torch.bucketize(value[:-1], edges, right=True))


def everything(rounds: Tensor, pot: Tensor) -> Tensor:
    coarse = state_key(0, rounds, rounds + 1, rounds - 1)
    medium = state_key(1, rounds, rounds + 1, rounds, bucket(pot), bucket(2 * pot))
    return torch.stack((coarse, medium, state_key(2, rounds)), -1)


@pytest.mark.parametrize("batch", [(), (4,), (2, 2), (0,)])
def test_keys_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    rounds = torch.tensor([0, 1, 2**13, 3])[: math.prod(batch)].reshape(batch)
    pot = torch.tensor([0.0, math.nan, 5.0, 1e9])[: math.prod(batch)].reshape(batch)
    if batch == (0,):
        assert everything(rounds, pot).shape == (0, 3)
    else:
        variants(everything, rounds, pot, batch=len(batch), traced=False)
        check_pure(everything, rounds, pot)


@pytest.mark.slow
def test_keys_agree_when_traced(variants) -> None:
    variants(everything, torch.tensor([0, 1, 2**13, 3]), torch.tensor([0.0, math.nan, 5.0, 1e9]))


@pytest.mark.parametrize("level", [3, -1, True, 1.0, "coarse", None])
def test_other_levels_are_refused(level: object) -> None:
    with pytest.raises(ValueError, match=r"level must be one of 0 \(round, player, pos\); 1 .*; 2 \(cluster\); got"):
        state_key(level, torch.tensor(0))  # type: ignore[arg-type]


def test_wrong_fields_and_edges_are_named() -> None:
    one = torch.tensor([1, 2])
    with pytest.raises(ValueError, match="fields of level 0 must be 3: round, player, pos; got 2"):
        state_key(0, one, one)
    with pytest.raises(ShapeError, match=r"player must have dtype torch.int64, got torch.float32"):
        state_key(0, one, one.float(), one)
    with pytest.raises(ShapeError, match=r"pos must have shape \(2,\), got \(\)"):
        state_key(0, one, one, one[0])
    for edges in ((), (1.0, 1.0), (2.0, 1.0), (1.0, math.nan)):
        with pytest.raises(ValueError, match="edges must ascend"):
            bucket(torch.ones(2), edges)
    for key in (-1, 3 * 2**60):
        with pytest.raises(ValueError, match="key must be one that state_key gives"):
            describe_key(key)
