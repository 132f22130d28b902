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
ridges = st.sampled_from([0.01, 1.0, 30.0])


def start(batch, d, ridge=1.0, dtype=torch.float64):
    return linear.init(batch, features=d, ridge=ridge, dtype=dtype, device=torch.device("cpu"))


def observations(seed, n, batch, d, dtype=torch.float64):
    """Features [n, *batch, d], some of them tiny or huge, targets and weights [n, *batch], some of these 0."""
    made = np.random.default_rng(seed)
    x = made.normal(size=(n, *batch, d)) * 10.0 ** made.integers(-2, 2, size=(n, *batch, 1))
    weight = made.choice([0.0, 0.03, 1.0, 20.0], size=(n, *batch))
    return [torch.tensor(a, dtype=dtype) for a in (x, made.normal(size=(n, *batch)), weight)]


def learn(state, *rows):
    for row in zip(*rows, strict=True):
        state = linear.update(state, *row)
    return state


def exact(x, y, weight, ridge):
    """Covariance, mean and precision, by a direct inverse."""
    precision = ridge * np.eye(x.shape[-1]) + (x.T * weight) @ x
    inverse = np.linalg.inv(precision)
    return inverse, inverse @ (x.T @ (weight * y)), precision


def covariance(state):
    root = state.root.double()
    return root @ root.mT


@given(seed=seeds, d=sizes, n=st.integers(0, 40), ridge=ridges)
def test_rank_one_updates_are_the_direct_inverse(seed, d, n, ridge):
    rows = observations(seed, n, (), d)
    state = learn(start((), d, ridge), *rows)
    inverse, mean, _ = exact(*map(np.asarray, rows), ridge)
    np.testing.assert_allclose(covariance(state), inverse, rtol=0, atol=1e-9 / ridge)
    np.testing.assert_allclose(state.mean, mean, rtol=0, atol=1e-7 / ridge)
    at = np.random.default_rng(seed).normal(size=d)
    score, variance = linear.score(state, torch.tensor(at))
    assert score.item() == pytest.approx(at @ mean, abs=1e-7 / ridge)
    assert variance.item() == pytest.approx(at @ inverse @ at, abs=1e-8 / ridge)
    projected = linear.project(state.root, torch.tensor(at))
    assert projected @ projected == pytest.approx(at @ inverse @ at, abs=1e-8 / ridge)


@given(seed=seeds, d=sizes, n=st.integers(0, 40))
def test_an_observation_has_weight_one_by_default(seed, d, n):
    x, y, _ = observations(seed, n, (), d)
    torch.testing.assert_close(learn(start((), d), x, y), learn(start((), d), x, y, torch.ones_like(y)))


@given(seed=seeds, d=sizes, n=st.integers(0, 40), ridge=ridges)
def test_fit_and_factor_equal_a_fold_of_updates(seed, d, n, ridge):
    x, y, weight = observations(seed, n, (3,), d)
    tolerance = {"rtol": 0, "atol": 1e-7 / ridge}
    for state, want in (
        (linear.fit(x.movedim(0, 1), y.mT, ridge=ridge, dtype=torch.float64), learn(start((3,), d, ridge), x, y)),
        (
            linear.factor(
                ridge * torch.eye(d) + torch.einsum("nbi,nb,nbj->bij", x, weight, x),
                torch.einsum("nbi,nb,nb->bi", x, weight, y),
                torch.float64,
            ),
            learn(start((3,), d, ridge), x, y, weight),
        ),
    ):
        np.testing.assert_allclose(covariance(state), covariance(want), **tolerance)
        np.testing.assert_allclose(state.mean, want.mean, **tolerance)


def test_fit_has_a_ridge_for_each_lane():
    x, y, _ = observations(5, 9, (2, 3), 4)
    ridge = torch.tensor([[0.5], [4.0]]).expand(2, 3)
    state = linear.fit(x.movedim(0, 2), y.movedim(0, 2), ridge=ridge)
    assert {leaf.dtype for leaf in state} == {torch.float32}
    inverse, mean, _ = exact(x[:, 1, 2].numpy(), y[:, 1, 2].numpy(), np.ones(9), 4.0)
    np.testing.assert_allclose(covariance(state)[1, 2], inverse, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.mean[1, 2], mean, rtol=1e-5, atol=1e-6)


@given(seed=seeds, d=sizes)
def test_learning_never_makes_a_score_less_certain(seed, d):
    rows = observations(seed, 10, (4,), d)
    state, at = start((4,), d), observations(seed + 1, 1, (4,), d)[0][0]
    for row in zip(*rows, strict=True):
        before, state = linear.score(state, at)[1], linear.update(state, *row)
        after = linear.score(state, at)[1]
        assert (after >= 0).all()
        assert (after <= before * (1 + 1e-9)).all()


@given(seed=seeds, d=sizes)
def test_order_of_observations_does_not_matter(seed, d):
    rows = observations(seed, 12, (), d)
    there, back = learn(start((), d), *rows), learn(start((), d), *(row.flip(0) for row in rows))
    torch.testing.assert_close(covariance(there), covariance(back), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(there.mean, back.mean, rtol=1e-8, atol=1e-8)


@given(seed=seeds, d=sizes)
def test_a_context_of_zeros_and_a_weight_of_zero_teach_nothing(seed, d):
    x, y, weight = observations(seed, 5, (2,), d, torch.float32)
    state = learn(start((2,), d, dtype=torch.float32), x, y, weight)
    for after in (linear.update(state, torch.zeros(2, d), y[0]), linear.update(state, x[0], y[0], torch.zeros(2))):
        assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


@given(seed=seeds, d=sizes)
def test_absorb_is_the_update_but_for_the_mean(seed, d):
    x, y, weight = observations(seed, 6, (2,), d)
    state = learn(start((2,), d), x[:-1], y[:-1], weight[:-1])
    root, gain = linear.absorb(state.root, x[-1], weight[-1])
    after = linear.update(state, x[-1], y[-1], weight[-1])
    assert torch.equal(root, after.root)
    wanted = (covariance(after) @ x[-1].unsqueeze(-1)).squeeze(-1) * weight[-1].unsqueeze(-1)
    torch.testing.assert_close(gain, wanted, rtol=1e-8, atol=1e-8)


def test_prior():
    state = start((2, 3), 2, ridge=torch.tensor([[0.25], [4.0]]), dtype=torch.float32)
    assert state.root.shape == (2, 3, 2, 2)
    assert torch.equal(state.root[0, 1], 2 * torch.eye(2))
    assert torch.equal(state.root[1, 2], torch.eye(2) / 2)
    assert not state.mean.any()
    assert linear.score(state, torch.ones(2, 3, 2))[1].tolist() == [[8.0] * 3, [0.5] * 3]


# --- lanes


@pytest.mark.parametrize("batch", [(5,), (2, 3), (130,)])
@pytest.mark.parametrize("d", [1, 8, 17])
def test_a_lane_alone_is_bitwise_the_lane_of_a_batch(batch, d):
    rows = observations(3, 20, batch, d, torch.float32)
    many = learn(start(batch, d, dtype=torch.float32), *rows)
    at = tuple(n - 1 for n in batch)
    one = learn(start((), d, dtype=torch.float32), *(row[(slice(None), *at)] for row in rows))
    assert all(map(same_bits, one, tree_map(lambda x: x[at], many)))
    alone = linear.score(one, rows[0][(0, *at)])
    assert all(map(same_bits, alone, tree_map(lambda x: x[at], linear.score(many, rows[0][0]))))


@pytest.mark.parametrize("batch", [(5,), (2, 3)])
def test_ways_to_run_agree_and_are_pure(variants, batch):
    x, y, weight = observations(4, 6, batch, 3, torch.float32)
    state = learn(start(batch, 3, dtype=torch.float32), x, y, weight)
    traced, lanes = batch == (5,), len(batch)
    variants(linear.update, state, x[0], y[0], weight[2], batch=lanes, traced=traced)
    variants(linear.score, state, x[0], batch=lanes, traced=False)
    variants(linear.project, state.root, x[0], batch=lanes, traced=False)
    variants(lambda x, y: linear.fit(x, y, ridge=1.0), x.movedim(0, -2), y.movedim(0, -1), batch=lanes, traced=False)
    check_pure(linear.update, state, x[0], y[0], weight[2])
    check_pure(linear.absorb, state.root, x[0], weight[2])
    check_pure(linear.score, state, x[0])
    check_pure(lambda x, y: linear.fit(x, y, ridge=1.0), x.movedim(0, -2), y.movedim(0, -1))
    check_pure(linear.factor, covariance(state).inverse(), state.mean)


# --- rounding


def errors(state, inverse, mean, directions):
    """Largest relative error of posterior standard deviations, and of means in such deviations, along directions."""
    sd = np.sqrt(np.einsum("ij,jk,ik->i", directions, inverse, directions))
    found = np.linalg.norm(directions @ state.root.double().numpy(), axis=-1)
    off = directions @ (state.mean.double().numpy() - mean)
    return np.abs(found / sd - 1).max(), np.abs(off / sd).max()


@given(seed=seeds, d=sizes, n=st.integers(1, 40), scale=st.sampled_from([1e-3, 1.0, 1e2, 1e4]))
def test_covariance_stays_positive_definite_in_float32(seed, d, n, scale):
    """Singular values of the root: those of the covariance are their squares."""
    x, y, weight = observations(seed, n, (3,), d, torch.float32)
    root = learn(start((3,), d, dtype=torch.float32), scale * x, y, weight).root
    assert (torch.linalg.svdvals(root.double()) > 0).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [4, 16])
@pytest.mark.parametrize(("scale", "sd_error", "mean_error"), [(1e3, 1e-3, 0.05), (1e4, 5e-3, 0.5)])
def test_features_of_thousands_in_float32(seed, d, scale, sd_error, mean_error):
    """Contexts that nobody scaled, whose posterior falls by 1e4 in one step. A covariance kept as such loses
    definiteness here; of a root's measured errors, 3e-4 (scale 1e3) and 1.4e-3 (1e4), the bounds are some threefold.
    After 500 updates a mean is off by 0.02 and 0.26 of a standard deviation that is then 5e-6: by its own rounding."""
    made = np.random.default_rng(seed)
    x = torch.tensor(scale * made.normal(size=(500, d)), dtype=torch.float32)
    y = torch.tensor(x.numpy() @ made.normal(size=d) + made.normal(size=500), dtype=torch.float32)
    directions = np.concatenate([np.eye(d), made.normal(size=(20, d))])
    state = start((), d, dtype=torch.float32)
    for first, last in ((0, 1), (1, 8), (8, 50), (50, 500)):
        state = learn(state, x[first:last], y[first:last])
        seen = x[:last].double().numpy(), y[:last].double().numpy(), np.ones(last)
        sd, mean = errors(state, *exact(*seen, 1.0)[:2], directions)
        assert sd < sd_error
        assert mean < mean_error
    fitted = linear.fit(x, y, ridge=1.0)
    sd, mean = errors(fitted, *exact(*seen, 1.0)[:2], directions)
    assert sd < 1e-5
    assert mean < mean_error


def fold(root, mean, x, y):
    return learn(linear.State(root, mean), x.unbind(0), y.unbind(0))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "sd_error", "mean_error"), [(torch.float32, 0.05, 0.5), (torch.float64, 1e-6, 1e-6)])
def test_a_million_updates(dtype, sd_error, mean_error):
    """64 features, neighbours correlated by 0.9. Measured: standard deviations within 9e-5 and means within 0.08 of
    them in float32, 6e-14 and 8e-11 in float64."""
    torch._dynamo.reset()
    step, d, block = torch.compile(fold, fullgraph=True, dynamic=False), 64, 25
    made = np.random.default_rng(0)
    mix = np.linalg.cholesky(0.9 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d))))
    weights, precision, moment = made.normal(size=d), np.eye(d), np.zeros(d)
    state = start((), d, dtype=dtype)
    for _ in range(1000):
        x = (made.normal(size=(1000, d)) @ mix.T).astype(np.float32)
        y = (x @ weights + made.normal(size=1000)).astype(np.float32)
        precision += x.T.astype(np.float64) @ x
        moment += x.T.astype(np.float64) @ y
        for xs, ys in zip(torch.tensor(x, dtype=dtype).split(block), torch.tensor(y, dtype=dtype).split(block)):
            state = step(*state, xs, ys)
    inverse = np.linalg.inv(precision)
    directions = np.concatenate([np.eye(d), np.linalg.eigh(precision)[1].T])
    sd, mean = errors(state, inverse, np.linalg.solve(precision, moment), directions)
    assert np.linalg.eigvalsh(covariance(state).numpy()).min() > 0
    assert sd < sd_error
    assert mean < mean_error
