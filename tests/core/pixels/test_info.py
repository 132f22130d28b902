"""Summaries of lanes against NumPy's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import FullInfo, NoInfo, StatsInfo, step_info
from tests.purity import check_pure

SEEDS = st.integers(0, 10**6)
NAMES = ("dist_mean", "dist_p10", "dist_p50", "dist_p90", "done_rate", "trunc_rate", "reset_rate")


def lanes(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    k = random.split(random.key(seed), 3)
    terminated = random.bernoulli(k[1], 0.3, shape)
    return random.uniform(k[0], shape), terminated, random.bernoulli(k[2], 0.3, shape) & ~terminated


@given(
    st.sampled_from([(1,), (2,), (7,), (11,), (100,), (3, 5)]), SEEDS, st.sampled_from([torch.float32, torch.float64])
)
def test_statistics_are_those_of_numpy(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    dist, terminated, truncated = lanes(seed, *shape)
    dist = dist.to(dtype)
    got = step_info("stats", dist, terminated, truncated)
    assert isinstance(got, StatsInfo)
    exact = dist.double().numpy()
    rates = [x.double().numpy().mean(-1) for x in (terminated, truncated, terminated | truncated)]
    want = [exact.mean(-1), *(np.quantile(exact, share, axis=-1) for share in (0.1, 0.5, 0.9)), *rates]
    assert tuple(got._asdict()) == NAMES
    for name, x, y in zip(NAMES, got, want, strict=True):
        assert x.shape == shape[:-1]
        assert x.dtype == (dtype if name.startswith("dist") else torch.float32)
        np.testing.assert_allclose(x.double().numpy(), y, rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_lane_that_is_not_known_makes_distances_unknown() -> None:
    """As in NumPy. Other rows, and the rates, are what they are."""
    dist, terminated, truncated = lanes(0, 2, 6)
    dist[0, 2] = math.nan
    got = step_info("stats", dist, terminated, truncated)
    whole = step_info("stats", dist[1], terminated[1], truncated[1])
    assert isinstance(got, StatsInfo)
    assert isinstance(whole, StatsInfo)
    assert all(x[0].isnan() for x in got[:4])
    assert torch.equal(torch.stack(got[:4])[:, 1], torch.stack(whole[:4]))
    assert torch.equal(got.done_rate, terminated.float().mean(-1))


def test_full_has_every_lane_and_none_has_nothing() -> None:
    dist, terminated, truncated = lanes(1, 5)
    full = step_info("full", dist, terminated, truncated)
    assert isinstance(full, FullInfo)
    assert full.dist is dist
    assert torch.equal(full.reset_mask, terminated | truncated)
    assert set(full._asdict()) == {"dist", "reset_mask"}
    assert step_info("none", dist, terminated, truncated) == NoInfo()
    assert NoInfo()._asdict() == {}


def test_lanes_may_begin_again_for_other_reasons() -> None:
    dist, terminated, truncated = lanes(1, 5)
    everywhere = torch.ones(5, dtype=torch.bool)
    assert step_info("stats", dist, terminated, truncated, reset_mask=everywhere).reset_rate == 1
    assert step_info("full", dist, terminated, truncated, reset_mask=everywhere).reset_mask is everywhere


def test_without_a_goal_there_is_no_distance() -> None:
    _, terminated, truncated = lanes(1, 5)
    assert step_info("full", None, terminated, truncated).dist is None
    stats = step_info("stats", None, terminated, truncated)
    assert stats[:4] == (None,) * 4
    assert stats.done_rate == terminated.float().mean()


def functions(dist: Tensor, terminated: Tensor, truncated: Tensor) -> tuple:
    return tuple(step_info(mode, dist, terminated, truncated) for mode in ("full", "stats", "none"))


@pytest.mark.parametrize(
    "batch", [(), pytest.param((3,), marks=pytest.mark.slow), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_functions_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    variants(functions, *lanes(0, *batch, 9), batch=len(batch), traced=batch == ())


@pytest.mark.slow
def test_functions_agree_when_compiled(variants) -> None:
    variants(functions, *lanes(0, 3, 9), compiled=True)


def test_functions_are_pure() -> None:
    check_pure(functions, *lanes(0, 9))
    check_pure(lambda *args: step_info("stats", *args), *lanes(0, 1))


def test_wrong_arguments_are_named() -> None:
    dist, terminated, truncated = lanes(0, 3)
    for args, complaint in (
        ((dist, terminated[0], truncated), r"terminated must have shape \(\*B, N\) with N >= 1, got \(\)"),
        ((dist[:0], terminated[:0], truncated), r"terminated must have shape .* with N >= 1, got \(0,\)"),
        ((dist[:2], terminated, truncated), r"dist must be floating of shape \(3,\), got torch.float32 \(2,\)"),
        ((dist.long(), terminated, truncated), r"dist must be floating of shape \(3,\), got torch.int64"),
        ((dist, terminated.long(), truncated), r"terminated must have dtype torch.bool, got torch.int64"),
        ((dist, terminated, truncated[:2]), r"truncated must have shape \(3,\), got \(2,\)"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            step_info("none", *args)
    with pytest.raises(ShapeError, match=r"reset_mask must have shape \(3,\), got \(1,\)"):
        step_info("full", dist, terminated, truncated, reset_mask=truncated[:1])
    with pytest.raises(ValueError, match="info_mode must be one of full, stats, none, got 'all'"):
        step_info("all", dist, terminated, truncated)
