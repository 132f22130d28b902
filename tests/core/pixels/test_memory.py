"""Pay for what happens in memory, against NumPy and Python's integers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import MemoryState, memory_init, memory_restart, memory_step, number_change
from tests.purity import check_pure, same_bits

SHAPES = st.sampled_from([(), (1,), (4,), (2, 2), (0,)])
SEEDS = st.integers(0, 10**6)


def memory(seed: int, *shape: int) -> Tensor:
    return random.randint(random.key(seed), shape, high=256).to(torch.uint8)


def numbers(bytes_: Tensor) -> list[int]:
    return [int.from_bytes(bytes(row), "little") for row in bytes_.numpy().reshape(-1, bytes_.shape[-1])]


@given(SHAPES, st.integers(1, 7), SEEDS)
def test_a_number_grows_by_the_exact_difference(batch: tuple[int, ...], length: int, seed: int) -> None:
    before, after = memory(seed, *batch, length), memory(seed + 1, *batch, length)
    got = number_change(before, after)
    want = [float(np.float32(y - x)) for x, y in zip(numbers(before), numbers(after), strict=True)]
    assert (got.dtype, got.shape) == (torch.float32, batch)
    assert got.reshape(-1).tolist() == want


def test_the_greatest_numbers_do_not_wrap() -> None:
    none, all_ = torch.zeros(7, dtype=torch.uint8), torch.full((7,), 255, dtype=torch.uint8)
    assert number_change(none, all_).item() == np.float32(256**7 - 1)
    assert number_change(all_, none).item() == -np.float32(256**7 - 1)
    assert number_change(none[:0].expand(3, 0), none[:0].expand(3, 0)).tolist() == [0.0] * 3


@settings(max_examples=20)
@given(SHAPES, SEEDS, st.integers(1, 4), st.booleans())
def test_episodes_are_those_of_one_lane_at_a_time(
    batch: tuple[int, ...], seed: int, max_steps: int, alike: bool
) -> None:
    """Weights by lane or one for all; lanes begin again with other memory, and are paid from that."""
    weight = 0.5 if alike else random.uniform(random.key(seed), batch)
    weights = np.broadcast_to(np.asarray(weight, dtype=np.float32), batch).reshape(-1)
    now = memory(seed, *batch, 2)
    state, steps = memory_init(now), np.zeros(math.prod(batch), int)
    for t in range(1, 8):
        before, now = now, memory(seed + t, *batch, 2)
        state, outcome = memory_step(state, now, weight=weight, max_steps=max_steps)
        change = np.array(numbers(now), dtype=np.float32) - np.array(numbers(before), dtype=np.float32)
        steps += 1
        np.testing.assert_array_equal(outcome.reward.reshape(-1), (weights * change).astype(np.float32))
        assert outcome.dist is None
        assert not outcome.terminated.any()
        assert outcome.truncated.reshape(-1).tolist() == (steps >= max_steps).tolist()
        first, mask = memory(seed - t, *batch, 2), random.bernoulli(random.key(seed + t), 0.3, batch)
        state = memory_restart(state, first, mask)
        now, steps = torch.where(mask[..., None], first, now), np.where(mask.reshape(-1), 0, steps)
        assert same_bits(state.memory, now)
        assert state.steps.reshape(-1).tolist() == steps.tolist()


def test_any_function_pays_and_none_cuts_off() -> None:
    state, _ = memory_step(memory_init(memory(0, 3, 4)), memory(1, 3, 4))
    state, outcome = memory_step(
        state._replace(steps=state.steps + 10**6),
        memory(2, 3, 4),
        function=lambda before, after: (before[:, 0] < after[:, 0]).long(),
        weight=torch.tensor(2.0, dtype=torch.float64),
        max_steps=None,
    )
    assert outcome.reward.dtype == torch.float32
    assert outcome.reward.tolist() == (2.0 * (memory(1, 3, 4)[:, 0] < memory(2, 3, 4)[:, 0])).tolist()
    assert not outcome.truncated.any()


def functions(state: MemoryState, now: Tensor, weight: Tensor, mask: Tensor) -> tuple[object, ...]:
    moved, outcome = memory_step(state, now, weight=weight, max_steps=2)
    assert outcome.dist is None  # which vmap does not let through
    begun = memory_restart(moved, state.memory, mask)
    return number_change(state.memory, now), memory_init(now), moved, outcome[1:], begun


def inputs(*batch: int) -> tuple[MemoryState, Tensor, Tensor, Tensor]:
    state = MemoryState(memory(0, *batch, 3), torch.arange(math.prod(batch)).reshape(batch))
    mask = random.bernoulli(random.key(2), 0.5, batch)
    return state, memory(1, *batch, 3), random.uniform(random.key(3), batch), mask


@pytest.mark.parametrize(
    "batch", [(3,), pytest.param((), marks=pytest.mark.slow), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_functions_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    variants(functions, *inputs(*batch), batch=len(batch), traced=batch == (3,))


@pytest.mark.slow
def test_functions_agree_when_compiled(variants) -> None:
    variants(functions, *inputs(3), compiled=True)


def test_functions_are_pure() -> None:
    check_pure(functions, *inputs(3))


def test_wrong_arguments_are_named() -> None:
    state, now, weight, mask = inputs(2)
    eight = memory(0, 2, 8)
    for call, complaint in (
        (lambda: number_change(now, now[:, :2]), r"after must have shape \(2, 3\), got \(2, 2\)"),
        (lambda: number_change(now.int(), now), r"before must be uint8 of shape \(\*B, L\), got torch.int32"),
        (lambda: number_change(eight, eight), "before must have at most 7 bytes for a number, got 8"),
        (lambda: memory_init(now[0, 0]), r"memory must be uint8 of shape \(\*B, L\), got torch.uint8 \(\)"),
        (lambda: memory_step(state, now[:1]), r"memory must have shape \(2, 3\), got \(1, 3\)"),
        (lambda: memory_step(state, now, weight=weight[:1]), r"weight must have shape \(2,\), got \(1,\)"),
        (
            lambda: memory_step(state, now, function=torch.add),
            r"what function gives must have shape \(2,\), got \(2, 3\)",
        ),
        (lambda: memory_restart(state, now, mask.long()), r"mask must have dtype torch.bool, got torch.int64"),
        (lambda: memory_restart(state, now[:, :1], mask), r"memory must have shape \(2, 3\), got \(2, 1\)"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()
    for knobs, complaint in (
        ({"max_steps": 0}, "max_steps must be an integer >= 1, got 0"),
        ({"weight": math.nan}, "weight must be finite .* got nan"),
    ):
        with pytest.raises(ValueError, match=complaint):
            memory_step(state, now, **knobs)
