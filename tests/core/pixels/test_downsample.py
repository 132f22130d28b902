"""Every second pixel, and four shades to a byte and back, against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import downsample, pack, unpack
from tests.purity import check_pure

SHAPES = st.sampled_from([(), (1,), (3,), (2, 2), (0,)])
SEEDS = st.integers(0, 10**6)


def frames(seed: int, *shape: int, shades: int = 4) -> Tensor:
    return random.randint(random.key(seed), shape, high=shades).to(torch.uint8)


@given(SHAPES, st.integers(0, 4), st.integers(0, 4), SEEDS)
def test_downsample_keeps_the_top_left_of_every_four(batch: tuple[int, ...], h: int, w: int, seed: int) -> None:
    frame = frames(seed, *batch, 2 * h, 2 * w, shades=256)
    small = downsample(frame)
    want = frame.numpy().reshape(*batch, h, 2, w, 2)[..., 0, :, 0]
    assert small.dtype == torch.uint8
    assert small.is_contiguous()
    assert np.array_equal(small.numpy(), want)


def test_downsample_of_a_game_boy() -> None:
    assert downsample(frames(0, 2, 144, 160)).shape == (2, 72, 80)


@given(SHAPES, st.integers(0, 3), st.integers(0, 3), SEEDS)
def test_pack_and_unpack_are_inverses(batch: tuple[int, ...], h: int, w: int, seed: int) -> None:
    shades, packed = frames(seed, *batch, h, 4 * w), frames(seed + 1, *batch, h, w, shades=256)
    assert pack(shades).shape == (*batch, h, w)
    assert torch.equal(unpack(pack(shades)), shades)
    assert torch.equal(pack(unpack(packed)), packed)
    weights = np.array([1, 4, 16, 64], dtype=np.int64)
    assert np.array_equal(pack(shades).numpy(), (shades.numpy().reshape(*batch, h, w, 4) * weights).sum(-1))


def test_the_leftmost_pixel_is_in_the_low_bits() -> None:
    assert pack(torch.tensor([[3, 0, 0, 0, 0, 1, 2, 3]], dtype=torch.uint8)).tolist() == [[0b00000011, 0b11100100]]
    assert pack(torch.tensor([[7, 4, 4, 4]], dtype=torch.uint8)).tolist() == [[3]]  # of other values, the low two bits


def functions(frame: Tensor) -> tuple[Tensor, ...]:
    return downsample(frame), pack(frame), unpack(frame)


@pytest.mark.parametrize(
    "batch", [(3,), pytest.param((), marks=pytest.mark.slow), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_functions_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    variants(functions, frames(0, *batch, 4, 8, shades=256), batch=len(batch), traced=batch == (3,))


@pytest.mark.slow
def test_functions_agree_when_compiled(variants) -> None:
    variants(functions, frames(0, 3, 4, 8, shades=256), compiled=True)


def test_functions_are_pure() -> None:
    check_pure(functions, frames(0, 2, 4, 8))
    check_pure(downsample, frames(0, 2, 2, 2))


def test_wrong_arguments_are_named() -> None:
    for call, complaint in (
        (lambda: downsample(frames(0, 2, 3, 4)), r"frame must have an even height and width, got \(2, 3, 4\)"),
        (lambda: downsample(frames(0, 2, 3)), r"frame must have an even height and width, got \(2, 3\)"),
        (lambda: downsample(torch.zeros(2, 2)), r"frame must be uint8 of shape \(\*B, H, W\), got torch.float32"),
        (lambda: pack(frames(0, 2, 6)), r"shades must have a width that 4 divides, got \(2, 6\)"),
        (lambda: pack(frames(0, 4)), r"shades must be uint8 of shape \(\*B, H, W\), got torch.uint8 \(4,\)"),
        (lambda: unpack(frames(0, 2, 4).long()), r"packed must be uint8 of shape \(\*B, H, W\), got torch.int64"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()
