"""Stacks of frames against a list of frames, and rings against stacks, through resets."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import (
    Ring,
    ring_init,
    ring_reset,
    ring_stack,
    ring_update,
    stack_init,
    stack_reset,
    stack_update,
)
from tests.purity import check_pure
from tests.shell.helpers import allocations

SHAPES = st.sampled_from([(), (1,), (3,), (2, 2), (0,)])
SEEDS = st.integers(0, 10**6)
H, W = 3, 4


def frames(seed: int, *batch: int) -> Tensor:
    """Any bytes, not only shades: a stack looks at none."""
    return random.randint(random.key(seed), (*batch, H, W), high=256).to(torch.uint8)


def mask(seed: int, *batch: int) -> Tensor:
    return random.bernoulli(random.key(seed), 0.3, batch)


@settings(max_examples=15)
@given(SHAPES, st.integers(1, 5), SEEDS)
def test_a_stack_is_the_last_frames_oldest_first(batch: tuple[int, ...], stack_k: int, seed: int) -> None:
    """Against lists of NumPy frames, one a lane, which begin again with copies of a first frame."""
    first = frames(seed, *batch)
    lanes = [[pix] * stack_k for pix in first.numpy().reshape(-1, H, W)]
    stack, ring = stack_init(first, stack_k=stack_k), ring_init(first, stack_k=stack_k)
    for t in range(1, 8):
        pix, start, ended = frames(seed + t, *batch), frames(seed - t, *batch), mask(seed + t, *batch)
        stack, ring = stack_update(stack, pix), ring_update(ring, pix)
        stack, ring = stack_reset(stack, start, ended), ring_reset(ring, start, ended)
        rows = zip(pix.numpy().reshape(-1, H, W), start.numpy().reshape(-1, H, W), ended.reshape(-1).tolist())
        lanes = [[new] * stack_k if begin else lane[1:] + [now] for lane, (now, new, begin) in zip(lanes, rows)]
        want = np.array(lanes, dtype=np.uint8).reshape(*batch, stack_k, H, W)
        assert np.array_equal(stack.numpy(), want)
        assert torch.equal(ring_stack(ring), stack)
        assert stack.is_contiguous()


@given(st.integers(1, 5), SEEDS, st.integers(0, 4))
def test_a_ring_means_the_same_wherever_its_lanes_stand(stack_k: int, seed: int, shift: int) -> None:
    newest = torch.remainder(torch.arange(4) + shift, stack_k)
    ring = Ring(frames(seed, 4, stack_k), newest)
    pix, start, ended = frames(seed + 1, 4), frames(seed + 2, 4), mask(seed, 4)
    updated, stack = ring_update(ring, pix), ring_stack(ring)
    assert torch.equal(ring_stack(updated), stack_update(stack, pix))
    assert torch.equal(ring_stack(ring_reset(ring, start, ended)), stack_reset(stack, start, ended))
    assert int((updated.frames != ring.frames).any(-1).any(-1).sum()) <= 4  # one frame a lane is written


def test_a_stack_of_one_is_the_frame() -> None:
    pix = frames(0, 3)
    stack = stack_update(frames(1, 3, 1), pix)
    assert stack.shape == (3, 1, H, W)
    assert torch.equal(stack[:, 0], pix)


def test_strides_of_what_comes_in_do_not_matter() -> None:
    wide = frames(0, 6).movedim(0, -1)[:, :, ::2].movedim(-1, 0)
    stack = frames(1, 4, 3).transpose(0, 1)
    assert torch.equal(stack_update(stack, wide), stack_update(stack.contiguous(), wide.contiguous()))
    assert stack_update(stack, wide).is_contiguous()


def functions(stack: Tensor, newest: Tensor, pix: Tensor, ended: Tensor) -> tuple[object, ...]:
    """All of them at once: one trace serves."""
    ring = Ring(stack, newest)
    made = stack_init(pix, stack_k=3), ring_init(pix, stack_k=2)
    rings = ring_update(ring, pix), ring_reset(ring, pix, ended), ring_stack(ring)
    return *made, *rings, stack_update(stack, pix), stack_reset(stack, pix, ended)


def inputs(*batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    newest = torch.arange(math.prod(batch)).reshape(batch).remainder(3)
    return frames(0, *batch, 3), newest, frames(1, *batch), mask(3, *batch)


@pytest.mark.parametrize(
    "batch", [(3,), pytest.param((), marks=pytest.mark.slow), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_functions_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    variants(functions, *inputs(*batch), batch=len(batch), traced=batch == (3,))


@pytest.mark.slow
def test_functions_agree_when_compiled(variants) -> None:
    variants(functions, *inputs(3), compiled=True)
    variants(lambda stack, pix: stack_update(stack, pix), frames(0, 3, 1), frames(1, 3), compiled=True)


def _turn(other: Tensor, this: Tensor, pix: Tensor, start: Tensor, ended: Tensor) -> None:
    other.copy_(stack_reset(stack_update(this, pix), start, ended))


def _write(ring: Ring, pix: Tensor) -> None:
    updated = ring_update(ring, pix)
    ring.frames.copy_(updated.frames)
    ring.newest.copy_(updated.newest)


def _look(seen: Tensor, ring: Ring) -> None:
    seen.copy_(ring_stack(ring))


@pytest.mark.slow
@pytest.mark.parametrize("stack_k", [1, 4])
def test_compiled_into_buffers_nothing_needs_a_temporary(stack_k: int, tmp_path: Path) -> None:
    """As `stack.py` tells."""
    this, pix, start, ended = frames(0, 64, stack_k), frames(1, 64), frames(2, 64), mask(3, 64)
    seen, ring = torch.zeros_like(this), Ring(this.clone(), torch.full((64,), stack_k - 1))
    once = stack_update(this, pix)
    for f, args, want in (
        (_turn, (seen, this, pix, start, ended), stack_reset(once, start, ended)),
        (_write, (ring, pix), None),
        (
            _look,
            (seen, ring),
            stack_update(once, pix),
        ),  # written twice: by the first call and by the one that is watched
    ):
        compiled = torch.compile(f, fullgraph=True, dynamic=False)
        compiled(*args)
        assert want is None or torch.equal(seen, want), f.__name__
        taken = allocations(lambda compiled=compiled, args=args: compiled(*args), tmp_path)
        assert all(size < H * W for size in taken), f.__name__


def test_functions_are_pure() -> None:
    check_pure(functions, *inputs(3))
    check_pure(lambda stack, pix: stack_update(stack, pix), frames(0, 2, 1), frames(1, 2))
    check_pure(lambda pix: stack_init(pix, stack_k=1), frames(0, 2))
    check_pure(lambda stack, newest: ring_stack(Ring(stack, newest)), frames(0, 2, 1), torch.zeros(2).long())


@settings(max_examples=5)
@given(SEEDS)
def test_lanes_that_are_not_reset_keep_every_bit(seed: int) -> None:
    stack, pix = frames(seed, 5, 3), frames(seed + 1, 5)
    assert torch.equal(stack_reset(stack, pix, torch.zeros(5, dtype=torch.bool)), stack)
    assert torch.equal(stack_reset(stack, pix, torch.ones(5, dtype=torch.bool)), stack_init(pix, stack_k=3))


def test_wrong_arguments_are_named() -> None:
    stack, newest, pix, ended = inputs(2)
    ring = Ring(stack, newest)
    for call, complaint in (
        (lambda: stack_update(stack.int(), pix), r"prev must be uint8 of shape \(\*B, K, H, W\) .* got torch.int32"),
        (lambda: stack_update(stack[:, :0], pix), r"prev must be uint8 .* with K >= 1, got .*\(2, 0, 3, 4\)"),
        (lambda: stack_update(stack, pix[0]), r"pix must have shape \(2, 3, 4\), got \(3, 4\)"),
        (lambda: stack_update(stack, pix[..., :2]), r"pix must have shape \(2, 3, 4\), got \(2, 3, 2\)"),
        (lambda: stack_update(stack, pix.bool()), r"pix must be uint8 of shape \(\*B, H, W\), got torch.bool"),
        (lambda: stack_reset(stack, pix, ended.byte()), r"mask must have dtype torch.bool, got torch.uint8"),
        (lambda: stack_reset(stack, pix, ended[:1]), r"mask must have shape \(2,\), got \(1,\)"),
        (lambda: stack_init(pix[0, 0]), r"pix must be uint8 of shape \(\*B, H, W\), got torch.uint8 \(4,\)"),
        (lambda: ring_update(ring, pix[:1]), r"pix must have shape \(2, 3, 4\), got \(1, 3, 4\)"),
        (lambda: ring_stack(ring._replace(newest=newest.int())), r"ring.newest must have dtype torch.int64, got"),
        (lambda: ring_stack(ring._replace(newest=newest[0])), r"ring.newest must have shape \(2,\), got \(\)"),
        (lambda: ring_reset(ring._replace(frames=pix[0, 0]), pix, ended), r"ring.frames must be uint8 of shape"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()
    with pytest.raises(ValueError, match="stack_k must be an integer >= 1, got 0"):
        stack_init(pix, stack_k=0)
