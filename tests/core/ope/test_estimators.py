"""Estimators against every log of a small problem, limits and invariances, and all ways to run them."""

from functools import partial

import pytest
import torch

from armfold.core import ope, random
from armfold.core.bandits import epsilon_greedy, lin_ucb
from armfold.core.check import ShapeError
from armfold.core.types import Logged
from tests.core.ope.helpers import CONTEXT, LOGGING, MEANS, TARGET, VALUE, WRONG, every_log, sampled
from tests.purity import check_pure

EXACT = {"rtol": 0, "atol": 1e-12}


def expectation(estimate, chance):
    return (estimate.value * chance).sum()


def variance(estimate, chance):
    return (chance * (estimate.value - expectation(estimate, chance)) ** 2).sum()


# --- unbiasedness, exactly


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_ips_is_unbiased(rows):
    context, logged, chance = every_log(rows)
    torch.testing.assert_close(chance.sum(), torch.tensor(1.0, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(expectation(ope.ips(logged, TARGET[context]), chance), VALUE, **EXACT)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_doubly_robust_is_unbiased_where_the_propensities_or_the_model_are_right(rows):
    for propensities, model, right in (
        (LOGGING, WRONG, True),
        (WRONG, MEANS, True),
        (LOGGING, MEANS, True),
        (WRONG, WRONG, False),
    ):
        context, logged, chance = every_log(rows, propensities)
        mean = expectation(ope.doubly_robust(logged, TARGET[context], model[context]), chance)
        assert bool((mean - VALUE).abs() < 1e-12) is right
    wrong_ips = expectation(ope.ips(every_log(rows, WRONG)[1], TARGET[context]), chance)
    assert (wrong_ips - VALUE).abs() > 0.01


def test_the_direct_method_is_what_the_model_says():
    context, _, chance = every_log(2)
    torch.testing.assert_close(expectation(ope.direct_method(TARGET[context], MEANS[context]), chance), VALUE, **EXACT)
    wrong = (CONTEXT.unsqueeze(-1) * TARGET * WRONG).sum()
    torch.testing.assert_close(expectation(ope.direct_method(TARGET[context], WRONG[context]), chance), wrong, **EXACT)


def test_variance_of_doubly_robust_is_below_that_of_ips():
    context, logged, chance = every_log(2)
    plain = variance(ope.ips(logged, TARGET[context]), chance)
    robust = variance(ope.doubly_robust(logged, TARGET[context], MEANS[context]), chance)
    assert robust < 0.6 * plain
    # One row of ips has variance E[w^2 r^2] - value^2, and two rows half of that.
    second = (CONTEXT.unsqueeze(-1) * TARGET**2 / LOGGING * MEANS).sum()
    torch.testing.assert_close(plain, (second - VALUE**2) / 2, **EXACT)


def test_a_clip_bounds_the_weights_and_biases_towards_nought():
    context, logged, chance = every_log(2)
    target = TARGET[context]
    assert ope.weights(logged, target).max().item() == pytest.approx(5)
    assert ope.weights(logged, target, clip=1.5).max() == 1.5
    assert expectation(ope.ips(logged, target, clip=1.5), chance) < VALUE - 0.05
    lanes = torch.full((len(chance),), 1.5)
    assert torch.equal(ope.ips(logged, target, clip=lanes).value, ope.ips(logged, target, clip=1.5).value)
    swept, fixed = (ope.snips(logged, target, clip=clip) for clip in (lanes, 1.5))
    assert torch.equal(swept.term, fixed.term)
    assert torch.equal(swept.weight, fixed.weight)


# --- limits and invariances


def test_snips_moves_with_the_rewards_and_ignores_the_scale_of_weights():
    logged, target, _ = sampled((4,), 50, dtype=torch.float64)
    value = ope.snips(logged, target).value
    shifted = logged._replace(reward=3 * logged.reward - 7)
    torch.testing.assert_close(ope.snips(shifted, target).value, 3 * value - 7)
    halved = logged._replace(propensity=logged.propensity / 2)
    torch.testing.assert_close(ope.snips(halved, target).value, value)
    low, high = logged.reward.amin(-1), logged.reward.amax(-1)
    assert ((value >= low) & (value <= high)).all()


def test_a_target_that_is_the_logging_policy_gives_the_mean_reward():
    logged, _, model = sampled((4,), 50, dtype=torch.float64)
    target = torch.zeros(4, 50, 3, dtype=torch.float64).scatter(-1, logged.action.unsqueeze(-1), 1.0)
    certain = logged._replace(propensity=torch.ones(4, 50, dtype=torch.float64))
    for estimate in (
        ope.ips(certain, target),
        ope.snips(certain, target),
        ope.doubly_robust(certain, target, model),
        ope.switch_dr(certain, target, model, threshold=1.0),
    ):
        torch.testing.assert_close(estimate.value, logged.reward.mean(-1))


def test_switch_dr_lies_between_the_direct_method_and_doubly_robust():
    logged, target, model = sampled((4,), 50, dtype=torch.float64)
    switch = partial(ope.switch_dr, logged, target, model)
    assert torch.equal(switch(threshold=float("inf")).value, ope.doubly_robust(logged, target, model).value)
    assert torch.equal(switch(threshold=0.0).value, ope.direct_method(target, model).value)
    nothing = torch.zeros_like(model)
    torch.testing.assert_close(
        ope.switch_dr(logged, target, nothing, threshold=float("inf")).value, ope.ips(logged, target).value
    )
    # By hand: rows above the threshold keep the model alone.
    weight = ope.weights(logged, target)
    direct = (target * model).sum(-1)
    error = logged.reward - model.gather(-1, logged.action.unsqueeze(-1)).squeeze(-1)
    want = torch.where(weight <= 1.5, direct + weight * error, direct).mean(-1)
    assert 0 < (weight > 1.5).sum() < weight.numel()
    torch.testing.assert_close(switch(threshold=1.5).value, want)
    assert torch.equal(switch(threshold=torch.full((4,), 1.5)).value, switch(threshold=1.5).value)


# --- the model


def test_the_model_without_contexts_is_a_mean_of_the_other_folds_shrunk_to_the_overall_one():
    action = torch.tensor([0, 1, 0, 1, 0, 0])
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    model = ope.ridge_model(Logged(None, action, reward), arms=3, ridge=0.5, folds=2)
    for row in range(6):
        other = torch.arange(6) % 2 != row % 2
        overall = reward[other].mean()
        for arm in range(3):
            mine = reward[other & (action == arm)]
            want = (mine.sum() + 0.5 * overall) / (len(mine) + 0.5)
            torch.testing.assert_close(model[row, arm], want.double())


def test_the_model_is_the_ridge_regression_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    logged, _, _ = sampled((), 60, dtype=torch.float64)
    model = ope.ridge_model(logged, arms=3, ridge=2.0, folds=3)
    features = torch.cat([torch.ones(60, 3, 1, dtype=torch.float64), logged.obs], -1)
    for fold in range(3):
        held = torch.arange(60) % 3 == fold
        centre = logged.reward[~held].mean()
        for arm in range(3):
            used = ~held & (logged.action == arm)
            fit = linear_model.Ridge(alpha=2.0, fit_intercept=False)
            fit.fit(features[used, arm].numpy(), (logged.reward[used] - centre).numpy())
            want = torch.from_numpy(fit.predict(features[held, arm].numpy())) + centre
            torch.testing.assert_close(model[held, arm], want)


def test_a_row_does_not_see_its_own_reward():
    logged, _, _ = sampled((2,), 20, dtype=torch.float64)
    model = ope.ridge_model(logged, arms=3, folds=4)
    for row in range(20):
        other = logged._replace(reward=torch.where(torch.arange(20) == row, 1e6, logged.reward))
        changed = ope.ridge_model(other, arms=3, folds=4)
        assert torch.equal(changed[:, row::4][:, :1], model[:, row::4][:, :1])
        assert not torch.equal(changed, model)


def test_the_ridge_may_differ_between_lanes():
    logged, _, _ = sampled((2,), 20, dtype=torch.float64)
    swept = ope.ridge_model(logged, arms=3, ridge=torch.tensor([0.5, 8.0]))
    for i, ridge in enumerate((0.5, 8.0)):
        alone = Logged(*(field[i] for field in logged))
        torch.testing.assert_close(swept[i], ope.ridge_model(alone, arms=3, ridge=ridge), rtol=1e-12, atol=1e-12)


# --- replay


@pytest.mark.parametrize("contextual", [False, True])
def test_replay_is_the_naive_loop(contextual):
    lanes, rows = 3, 40
    logged, _, _ = sampled((lanes,), rows)
    bandit = lin_ucb(arms=3, features=2) if contextual else epsilon_greedy(arms=3)
    rng = random.split(random.key(5), lanes)
    estimate, state = ope.replay(bandit, bandit.init(rng), rng, logged)
    for lane in range(lanes):
        one, rewards = bandit.init(rng[lane]), []
        for i in range(rows):
            obs = logged.obs[lane, i]
            action = bandit.select(one, random.jump(rng[lane], 2 * i), obs)
            if action == logged.action[lane, i]:
                reward = logged.reward[lane, i]
                one = bandit.update(one, random.jump(rng[lane], 2 * i + 1), obs, action, reward)
                rewards.append(reward.item())
        assert 0 < len(rewards) < rows
        assert estimate.weight[lane].sum() == len(rewards)
        assert estimate.value[lane].item() == pytest.approx(sum(rewards) / len(rewards))
        torch.testing.assert_close(tuple(x[lane] for x in state), tuple(one))


def test_replay_without_a_match_has_no_value_and_teaches_nothing():
    bandit = epsilon_greedy(arms=3, epsilon=0.0)
    start = bandit.init(random.key(0))
    taught = bandit.update(start, random.key(0), None, torch.tensor(0), torch.tensor(1.0))
    taught = bandit.update(taught, random.key(0), None, torch.tensor(1), torch.tensor(0.0))
    taught = bandit.update(taught, random.key(0), None, torch.tensor(2), torch.tensor(0.0))
    logged = Logged(None, torch.tensor([1, 2, 1, 2]), torch.ones(4))
    estimate, state = ope.replay(bandit, taught, random.key(1), logged)
    assert torch.isnan(estimate.value)
    assert estimate.weight.sum() == 0
    assert all(torch.equal(a, b) for a, b in zip(state, taught))


@pytest.mark.slow
def test_replay_of_a_uniform_log_is_the_learner_met_in_the_world():
    """4000 lanes; means agree within 4 standard errors: it fails once in 16,000 seeds."""
    lanes, rows = 4000, 60
    p = torch.tensor([0.2, 0.5, 0.8])
    keys = random.split(random.key(3), 4 * lanes).reshape(4, lanes, 2)
    action = random.randint(keys[0], (rows,), high=3)
    reward = random.bernoulli(keys[1], p[action], (rows,)).float()
    bandit = epsilon_greedy(arms=3, epsilon=0.3)
    estimate, _ = ope.replay(bandit, bandit.init(keys[2]), keys[2], Logged(None, action, reward))
    counted = estimate.weight.cumsum(-1)
    first = torch.where(counted <= 10, estimate.term, 0).sum(-1)[counted[:, -1] >= 10]
    state, met = bandit.init(keys[3]), torch.zeros(lanes)
    for i in range(10):
        action = bandit.select(state, random.jump(keys[3], 3 * i + 1))
        got = random.bernoulli(random.jump(keys[3], 3 * i + 2), p[action]).float()
        state, met = bandit.update(state, random.jump(keys[3], 3 * i + 3), None, action, got), met + got
    error = (first.var() / len(first) + met.var() / lanes).sqrt()
    assert (first.mean() - met.mean()).abs() < 4 * error


# --- overlap


def test_effective_sample_size():
    for weights, want in (([1, 1, 1, 1], 4), ([3, 0, 0], 1), ([2, 2, 0, 0], 2), ([1, 2, 3], 36 / 14), ([0, 0], 0)):
        assert ope.effective_sample_size(torch.tensor(weights, dtype=torch.float64)).item() == pytest.approx(want)


def test_overlap():
    action = torch.tensor([0, 0, 1, 1, 1])
    logged = Logged(None, action, torch.zeros(5), torch.tensor([0.4, 0.4, 0.6, 0.6, 0.6]))
    target = torch.tensor([0.2, 0.5, 0.3]).expand(5, 3)
    facts = ope.overlap(logged, target)
    weights = [0.5, 0.5, 5 / 6, 5 / 6, 5 / 6]
    assert facts.largest_weight.item() == pytest.approx(5 / 6)
    assert facts.mean_weight.item() == pytest.approx(sum(weights) / 5)
    assert facts.ess_share.item() == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights) / 5)
    assert facts.unseen.item() == pytest.approx(0.3)
    assert ope.overlap(logged, target, rare=0.4).unseen.item() == pytest.approx(0.5)


# --- every way to run them


def everything(logged, target, model):
    return (
        ope.ips(logged, target, clip=2.0),
        ope.snips(logged, target),
        ope.direct_method(target, model),
        ope.doubly_robust(logged, target, model),
        ope.switch_dr(logged, target, model, threshold=1.5),
        ope.overlap(logged, target),
    )


def check_variants(variants, traced):
    variants(everything, *sampled((5,), 7), traced=traced)
    variants(everything, *sampled((2, 3), 7), batch=2, traced=False)
    variants(partial(ope.ridge_model, arms=3, folds=2), sampled((5,), 30)[0], atol=1e-12, traced=traced)
    bandit, rng = epsilon_greedy(arms=3), random.split(random.key(0), 5)
    variants(partial(ope.replay, bandit), bandit.init(rng), rng, sampled((5,), 4)[0], traced=traced)


def test_eager_and_vmapped_agree(variants):
    check_variants(variants, traced=False)


@pytest.mark.slow
def test_traced_agrees(variants):
    check_variants(variants, traced=True)


def test_functions_are_pure():
    logged, target, model = sampled((4,), 10)
    check_pure(everything, logged, target, model)
    check_pure(partial(ope.ridge_model, arms=3), logged)
    bandit, rng = epsilon_greedy(arms=3), random.split(random.key(0), 4)
    check_pure(partial(ope.replay, bandit), bandit.init(rng), rng, logged)


# --- bad data


def test_wrong_shapes_are_refused():
    logged, target, model = sampled((4,), 10)
    for name, bad in {"action": logged.action.int(), "reward": logged.reward[:, :9], "propensity": target}.items():
        with pytest.raises(ShapeError, match=f"{name} must"):
            ope.ips(logged._replace(**{name: bad}), target)
    with pytest.raises(ShapeError, match="obs must"):
        ope.ips(logged._replace(obs=logged.obs[:, :, 0]), target)
    for bad in (target[:, :9], target.long(), target[0]):
        with pytest.raises(ShapeError, match="target must"):
            ope.ips(logged, bad)
    with pytest.raises(ShapeError, match="model must"):
        ope.doubly_robust(logged, target, model[..., :2])
    with pytest.raises(ShapeError, match="obs must have 4 arms"):
        ope.ridge_model(logged, arms=4)


def test_wrong_settings_are_refused():
    logged, target, model = sampled((4,), 10)
    with pytest.raises(ValueError, match=r"propensity must be given"):
        ope.ips(logged._replace(propensity=None), target)
    with pytest.raises(ValueError, match=r"clip .*0"):
        ope.ips(logged, target, clip=0.0)
    with pytest.raises(ValueError, match=r"threshold .*-1"):
        ope.switch_dr(logged, target, model, threshold=-1.0)
    with pytest.raises(ValueError, match=r"ridge .*0"):
        ope.ridge_model(logged, arms=3, ridge=0.0)
    with pytest.raises(ValueError, match=r"folds .*1"):
        ope.ridge_model(logged, arms=3, folds=1)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("action", 3, r"action must lie in \[0, 3\), got 3 in row \(1, 4\)"),
        ("action", -1, r"action must lie in \[0, 3\), got -1 in row \(1, 4\)"),
        ("reward", torch.nan, r"reward must be finite, got nan in row \(1, 4\)"),
        ("propensity", 0.0, r"propensity must lie in \(0, 1\], got 0.0 in row \(1, 4\)"),
        ("propensity", 1.5, r"propensity must lie in \(0, 1\], got 1.5 in row \(1, 4\)"),
        ("propensity", torch.nan, r"propensity must lie in \(0, 1\], got nan in row \(1, 4\)"),
        ("obs", torch.inf, r"obs must be finite, got inf in row \(1, 4\)"),
    ],
)
def test_wrong_values_are_named_with_their_row(field, value, complaint):
    logged, _, _ = sampled((2,), 6)
    ope.check_logged(logged, 3)
    bad = getattr(logged, field).clone()
    bad[1, 4] = value
    with pytest.raises(ValueError, match=complaint):
        ope.check_logged(logged._replace(**{field: bad}), 3)


def test_wrong_targets_are_named_with_their_row():
    _, target, _ = sampled((), 6)
    ope.check_target(target)
    for at, row in (([0.5, 0.7, -0.2], "-0.2"), ([0.5, 0.2, 0.1], "0.8"), ([torch.nan, 0.5, 0.5], "nan")):
        bad = target.clone()
        bad[4] = torch.tensor(at)
        with pytest.raises(ValueError, match=rf"target must .*got {row}.* in row 4"):
            ope.check_target(bad)
