"""Bayesian linear regression against direct inverses in float64, and its invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_map

from armfold.core.bayes import linear
from tests.purity import check_pure, same_bits

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


def start(batch, d, ridge=1.0, dtype=torch.float64):
    return linear.init(batch, features=d, ridge=ridge, dtype=dtype, device=torch.device("cpu"))


def observations(seed, n, batch, d, dtype=torch.float64):
    """Features [n, *batch, d], some of them tiny or huge, and targets [n, *batch]."""
    made = np.random.default_rng(seed)
    x = made.normal(size=(n, *batch, d)) * 10.0 ** made.integers(-2, 2, size=(n, *batch, 1))
    return torch.tensor(x, dtype=dtype), torch.tensor(made.normal(size=(n, *batch)), dtype=dtype)


def learn(state, xs, ys):
    for x, y in zip(xs, ys, strict=True):
        state = linear.update(state, x, y)
    return state


@given(seed=seeds, d=sizes, n=st.integers(0, 40), ridge=st.sampled_from([0.01, 1.0, 30.0]))
def test_rank_one_updates_are_the_direct_inverse(seed, d, n, ridge):
    xs, ys = observations(seed, n, (), d)
    state = learn(start((), d, ridge), xs, ys)
    x, y = xs.numpy(), ys.numpy()
    inverse = np.linalg.inv(ridge * np.eye(d) + x.T @ x)
    np.testing.assert_allclose(state.covariance.numpy(), inverse, rtol=0, atol=1e-9 / ridge)
    np.testing.assert_allclose(state.moment.numpy(), x.T @ y, rtol=0, atol=1e-9)
    at = np.random.default_rng(seed).normal(size=d)
    mean, variance = linear.score(state, torch.tensor(at))
    assert mean.item() == pytest.approx(at @ inverse @ (x.T @ y), abs=1e-7 / ridge)
    assert variance.item() == pytest.approx(at @ inverse @ at, abs=1e-8 / ridge)


@given(seed=seeds, d=sizes, n=st.integers(1, 40))
def test_covariance_stays_symmetric_positive_definite_in_float32(seed, d, n):
    xs, ys = observations(seed, n, (3,), d, torch.float32)
    covariance = learn(start((3,), d, dtype=torch.float32), xs, ys).covariance
    assert torch.equal(covariance, covariance.mT)
    assert (torch.linalg.eigvalsh(covariance.double()) > 0).all()


@given(seed=seeds, d=sizes)
def test_learning_never_makes_a_score_less_certain(seed, d):
    xs, ys = observations(seed, 10, (4,), d)
    state, at = start((4,), d), observations(seed + 1, 1, (4,), d)[0][0]
    for x, y in zip(xs, ys, strict=True):
        before, state = linear.score(state, at)[1], linear.update(state, x, y)
        after = linear.score(state, at)[1]
        assert (after >= 0).all()
        assert (after <= before * (1 + 1e-9)).all()


@given(seed=seeds, d=sizes)
def test_order_of_observations_does_not_matter(seed, d):
    xs, ys = observations(seed, 12, (), d)
    there, back = learn(start((), d), xs, ys), learn(start((), d), xs.flip(0), ys.flip(0))
    torch.testing.assert_close(tuple(there), tuple(back), rtol=1e-8, atol=1e-9)


@given(seed=seeds, d=sizes)
def test_a_context_of_zeros_teaches_nothing(seed, d):
    xs, ys = observations(seed, 5, (2,), d, torch.float32)
    state = learn(start((2,), d, dtype=torch.float32), xs, ys)
    after = linear.update(state, torch.zeros(2, d), ys[0])
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


def test_prior():
    state = linear.init(
        (2, 3), features=2, ridge=torch.tensor([[0.5], [4.0]]), dtype=torch.float32, device=torch.device("cpu")
    )
    assert state.covariance.shape == (2, 3, 2, 2)
    assert torch.equal(state.covariance[0, 1], 2 * torch.eye(2))
    assert torch.equal(state.covariance[1, 2], torch.eye(2) / 4)
    assert not state.moment.any()
    assert linear.score(state, torch.ones(2, 3, 2))[1].tolist() == [[4.0] * 3, [0.5] * 3]


@pytest.mark.parametrize("batch", [(5,), (2, 3), (130,)])
@pytest.mark.parametrize("d", [1, 8, 17])
def test_a_lane_alone_is_bitwise_the_lane_of_a_batch(batch, d):
    xs, ys = observations(3, 20, batch, d, torch.float32)
    many = learn(start(batch, d, dtype=torch.float32), xs, ys)
    at = tuple(n - 1 for n in batch)
    one = learn(start((), d, dtype=torch.float32), xs[(slice(None), *at)], ys[(slice(None), *at)])
    assert all(map(same_bits, one, tree_map(lambda x: x[at], many)))
    alone = linear.score(one, xs[(0, *at)])
    assert all(map(same_bits, alone, tree_map(lambda x: x[at], linear.score(many, xs[0]))))


def test_ways_to_run_agree_and_are_pure(variants):
    xs, ys = observations(4, 6, (5,), 3, torch.float32)
    state = learn(start((5,), 3, dtype=torch.float32), xs, ys)
    variants(linear.update, state, xs[0], ys[0])
    variants(linear.score, state, xs[0])
    check_pure(linear.update, state, xs[0], ys[0])
    check_pure(linear.score, state, xs[0])


@pytest.mark.parametrize("seed", range(3))
def test_features_of_some_thousands_blow_nothing_up_in_float32(seed):
    """Contexts that nobody scaled: the posterior may lose digits, but not its mind."""
    x = 3000 * torch.tensor(np.random.default_rng(seed).normal(size=(200, 4)), dtype=torch.float32)
    covariance = learn(start((), 4, dtype=torch.float32), x, x[:, 0]).covariance
    assert covariance.abs().max() <= 1


@pytest.mark.slow
def test_ten_thousand_updates_in_float32():
    """Measured 3e-6 at d = 8."""
    made = np.random.default_rng(0)
    x = made.normal(size=(10_000, 8))
    state = start((), 8, dtype=torch.float32)
    for row in torch.tensor(x, dtype=torch.float32):
        state = linear.update(state, row, row[0])
    inverse = np.linalg.inv(np.eye(8) + x.T @ x)
    assert np.abs(state.covariance.numpy() - inverse).max() < 1e-5
    assert np.linalg.eigvalsh(state.covariance.numpy()).min() > 0
