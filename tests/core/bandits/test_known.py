"""Indices and posteriors of every algorithm at one small state, against the papers' formulas in numpy float64."""

import math

import numpy as np
import pytest
import torch
from scipy import special as scipy_special
from scipy.optimize import brentq
from sklearn.linear_model import Ridge

from armfold.core import random
from armfold.core.bandits import (
    divergence,
    epsilon_greedy,
    lin_ts,
    lin_ucb,
    linear,
    linear_models,
    quantile,
    thompson,
    ucb,
)
from armfold.core.bandits.arms import State
from tests import oracle

# Four arms after 14 plays; the last was never played, the third always paid.
N = np.array([3.0, 8.0, 3.0, 0.0])
S = np.array([1.0, 5.5, 3.0, 0.0])
SQUARES = np.array([0.5, 4.25, 3.0, 0.0])
MEAN = S / np.maximum(N, 1)
T = 15  # the step about to be taken: what the published table of exact regrets goes by, see test_exact.py

PRECISIONS = [(torch.float32, 2e-6), (torch.float64, 1e-11)]
NEAR = [(torch.float32, 2e-6), (torch.float64, 1e-8)]  # the inverse of KL: 4e-9 in float64
both = pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
near = pytest.mark.parametrize(("dtype", "rtol"), NEAR)


def plain():
    return State(torch.tensor(N).long(), torch.tensor(S))


def agree(ours, played_arms, rtol, unplayed=math.inf):
    """The index of the first three arms, and of the one never played."""
    np.testing.assert_allclose(ours[:3].numpy(), played_arms, rtol=rtol)
    assert ours[3] == unplayed


@both
def test_ucb1(dtype, rtol):
    agree(ucb.ucb1_index(plain(), dtype=dtype), MEAN[:3] + np.sqrt(2 * np.log(T) / N[:3]), rtol)
    agree(ucb.ucb1_index(plain(), c=0.5, dtype=dtype), MEAN[:3] + np.sqrt(np.log(T) / 2 / N[:3]), rtol)


@both
def test_ucb_v(dtype, rtol):
    state = ucb.MomentState(*plain(), torch.tensor(SQUARES))
    variance = (SQUARES[:3] - N[:3] * MEAN[:3] ** 2) / N[:3]
    for zeta, c in ((1.2, 1.0), (2.0, 0.25)):
        rate = zeta * np.log(T) / N[:3]
        wanted = MEAN[:3] + np.sqrt(2 * variance * rate) + 3 * c * rate
        agree(ucb.ucb_v_index(state, zeta=zeta, c=c, dtype=dtype), wanted, rtol)


@both
def test_moss(dtype, rtol):
    for horizon in (1000.0, 20.0, math.inf):
        left = np.maximum(1, (T if math.isinf(horizon) else horizon) / (4 * N[:3]))
        agree(ucb.moss_index(plain(), horizon=horizon, dtype=dtype), MEAN[:3] + np.sqrt(np.log(left) / N[:3]), rtol)


def upper(mean, budget):
    """The root of KL(mean, u) = budget above the mean, by Brent's method; 1 where the mean is 1."""
    return 1.0 if mean == 1 else brentq(lambda u: oracle.divergence(mean, u) - budget, mean, 1 - 1e-16, xtol=1e-15)


@near
def test_kl_ucb(dtype, rtol):
    for c in (0.0, 3.0):
        budget = (np.log(T) + c * np.log(np.log(T))) / N[:3]
        wanted = [upper(*arm) for arm in zip(MEAN, budget, strict=False)]
        agree(divergence.kl_ucb_index(plain(), c=c, dtype=dtype), wanted, rtol)


def test_kl_ucb_before_the_loglog_is_positive():
    state = State(torch.tensor([1, 0]), torch.tensor([0.0, 0.0]).double())  # ln 2 < 1
    index = divergence.kl_ucb_index(state, c=3.0, dtype=torch.float64)
    assert index[0] == pytest.approx(1 - 1 / 2)  # KL(0, u) = -ln(1 - u) = ln 2


@near
def test_kl_ucb_pp(dtype, rtol):
    for horizon in (1000.0, 20.0, math.inf):
        left = np.maximum(1, (T if math.isinf(horizon) else horizon) / (4 * N[:3]))
        budget = np.log(left * (np.log(left) ** 2 + 1)) / N[:3]
        wanted = [upper(*arm) if arm[1] else arm[0] for arm in zip(MEAN, budget, strict=False)]
        agree(divergence.kl_ucb_pp_index(plain(), horizon=horizon, dtype=dtype), wanted, rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-7)])
def test_bayes_ucb(dtype, rtol):
    for c, a, b in ((0.0, 1.0, 1.0), (5.0, 0.5, 2.0)):
        tail = 1 / (T * np.log(T) ** c)
        wanted = scipy_special.betainccinv(S + a, N - S + b, tail)
        ours = quantile.bayes_ucb_index(plain(), c=c, prior_a=a, prior_b=b, dtype=dtype)
        np.testing.assert_allclose(ours.numpy(), wanted, rtol=rtol)


@both
def test_imed(dtype, rtol):
    state = State(torch.tensor([3, 8, 2, 0]), torch.tensor([1.0, 5.5, 1.0, 0.0]).double())
    n, mean = np.array([3.0, 8.0, 2.0]), np.array([1 / 3, 0.6875, 0.5])
    wanted = -(n * oracle.divergence(mean, np.full(3, 0.6875)) + np.log(n))
    agree(divergence.imed_index(state, dtype=dtype), wanted, 4 * rtol)


def test_imed_of_a_perfect_arm():
    """Others are at infinite divergence from a mean of 1: they wait, and nothing is NaN."""
    state = State(torch.tensor([1000, 1]), torch.tensor([1000.0, 0.5]).double())
    index = divergence.imed_index(state)
    assert torch.isfinite(index).all()
    assert index.argmax() == 0


@both
def test_beta_posterior(dtype, rtol):
    a, b = thompson.beta_posterior(plain(), prior_a=0.5, prior_b=2.0, dtype=dtype)
    np.testing.assert_allclose(a.numpy(), S + 0.5, rtol=rtol)
    np.testing.assert_allclose(b.numpy(), N - S + 2, rtol=rtol)


@both
def test_gaussian_posterior(dtype, rtol):
    """Normal prior times normal likelihood, by completing the square."""
    mean, precision = thompson.gaussian_posterior(
        plain(), prior_mean=-1.0, prior_precision=0.5, noise_precision=4.0, dtype=dtype
    )
    np.testing.assert_allclose(precision.numpy(), 0.5 + 4 * N, rtol=rtol)
    np.testing.assert_allclose(mean.numpy(), (0.5 * -1 + 4 * S) / (0.5 + 4 * N), rtol=rtol)


def test_thompson_sampling_draws_from_its_posteriors():
    """P(arm 0 has the larger draw), two arms, within 5 standard errors of a frequency in 50,000."""
    lanes = 50_000
    state = State(torch.tensor([[4, 9]]).expand(lanes, 2), torch.tensor([[3.0, 4.0]]).double().expand(lanes, 2))
    keys = random.split(random.key(11), lanes)
    (m0, m1), (v0, v1) = np.array([3.0, 4.0]) / [5, 10], 1 / np.array([5.0, 10.0])
    gap = (m0 - m1) / math.sqrt(v0 + v1)
    for select, wanted in (
        (thompson.beta_select, oracle.beta_ts(4, np.array([3.0]), 9, np.array([4.0])).item()),
        (thompson.gaussian_select, (1 + math.erf(gap / math.sqrt(2))) / 2),
    ):
        share = (select(state, keys) == 0).double().mean()
        assert abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / lanes)


def test_epsilon_greedy_policy():
    state = State(torch.tensor([3, 8, 3]), torch.tensor([1.0, 5.5, 3.0]).double())
    bandit, rng = epsilon_greedy(arms=3, epsilon=0.6, decay=0.5), random.key(0)
    explore = 0.6 / math.sqrt(T)
    wanted = [explore / 3, explore / 3, 1 - 2 * explore / 3]
    np.testing.assert_allclose(bandit.policy(state, rng).numpy(), wanted, rtol=1e-6)
    always = epsilon_greedy(arms=3, epsilon=1.0, decay=0.0).policy(state, rng)
    np.testing.assert_allclose(always.numpy(), [1 / 3] * 3, rtol=1e-6)


def linear_run(dtype, ridge, steps=200):
    """A run of LinUCB, and each arm's contexts and rewards as it met them."""
    arms, features, made = 3, 4, np.random.default_rng(5)
    bandit, key = lin_ucb(arms=arms, features=features, ridge=ridge, dtype=dtype), random.key(5)
    state, weights = bandit.init(key), made.normal(size=(arms, features))
    data = [([], []) for _ in range(arms)]
    for t in range(steps):
        x = made.normal(size=(arms, features))
        obs = torch.tensor(x, dtype=dtype)
        action = bandit.select(state, random.fold_in(key, t), obs)
        y = float(x[action] @ weights[action] + made.normal())
        state = bandit.update(state, key, obs, action, torch.tensor(y, dtype=dtype))
        data[action][0].append(x[action])
        data[action][1].append(y)
    return state, torch.tensor(made.normal(size=(arms, features)), dtype=dtype), data


@pytest.mark.parametrize("ridge", [1.0, 0.25])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-11)])
def test_linear_posteriors_are_ridge_regression(dtype, tolerance, ridge):
    state, obs, data = linear_run(dtype, ridge)
    mean, variance = linear_models.score_disjoint(state, obs)
    index = linear.ucb_index(mean, variance, alpha=0.7).numpy()
    mean, variance = mean.numpy(), variance.numpy()
    assert min(len(y) for _, y in data) > 10
    assert state.pulls.tolist() == [len(y) for _, y in data]
    for k, (x, y) in enumerate(data):
        x, y, at = np.array(x), np.array(y), obs[k].double().numpy()
        gram = ridge * np.eye(4) + x.T @ x
        m, v = at @ np.linalg.solve(gram, x.T @ y), at @ np.linalg.solve(gram, at)
        np.testing.assert_allclose(
            [mean[k], variance[k], index[k]], [m, v, m + 0.7 * math.sqrt(v)], rtol=0, atol=tolerance
        )
        fitted = Ridge(alpha=ridge, fit_intercept=False).fit(x, y)
        assert mean[k] == pytest.approx(fitted.predict(at[None])[0], abs=tolerance)


def test_linear_thompson_sampling_draws_from_the_posterior():
    """P(arm 0 is chosen of two), against the normal law of the difference of scores: 5 standard errors in 50,000."""
    lanes, scale = 50_000, 3.0
    state, obs, _ = linear_run(torch.float32, 1.0, steps=12)
    state, obs = linear_models.State(*(leaf[:2] for leaf in state)), obs[:2]
    (m0, m1), (v0, v1) = (out.double().numpy() for out in linear_models.score_disjoint(state, obs))
    wanted = (1 + math.erf((m0 - m1) / math.sqrt(2 * scale**2 * (v0 + v1)))) / 2
    assert 0.05 < wanted < 0.95
    many = linear_models.State(*(leaf.expand(lanes, *leaf.shape) for leaf in state))
    bandit = lin_ts(arms=2, features=4, scale=scale)
    drawn = bandit.select(many, random.split(random.key(3), lanes), obs.expand(lanes, 2, 4))
    assert abs((drawn == 0).double().mean() - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / lanes)
