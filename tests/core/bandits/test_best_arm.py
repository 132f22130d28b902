"""Best-arm identification: schedules and laws against plain Python and enumeration, allocations against scipy."""

import itertools
import math
from collections import deque
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import entr, rel_entr
from scipy.stats import binom

from armfold.core import envs, random, simulate
from armfold.core.bandits import halving, remove_arms, successive_halving, track_and_stop, tracking
from tests.purity import check_pure, same_bits

INF = math.inf


def keys(lanes, seed=0):
    return random.split(random.key(seed), lanes)


def run(bandit, p, lanes, steps, seed=0):
    """Carries after 0, 1, .. `steps` steps with Bernoulli arms p."""
    env = envs.bernoulli(p=torch.tensor(p))
    carry = simulate.init(bandit, env, keys(lanes, seed))
    yield carry
    for _ in range(steps):
        carry, _ = simulate.step(bandit, env, carry)
        yield carry


def last(carries):
    """The learner's state at the end of a run."""
    return deque(carries, maxlen=1).pop().bandit


def frequencies(arm, arms):
    return torch.bincount(arm, minlength=arms).double() / arm.numel()


def check_law(bandit, state, available=None):
    """`policy` at a state of one lane against `select` under 20,000 keys: each arm within 5 standard errors."""
    lanes = 20_000
    law = bandit.policy(state, random.key(0), available=available).double()
    many = type(state)(*(x.expand(lanes, *x.shape) for x in state))
    mask = None if available is None else available.expand(lanes, -1)
    found = frequencies(bandit.select(many, keys(lanes, 1), available=mask), law.numel())
    assert law.sum() == pytest.approx(1, abs=1e-6)
    assert ((found - law).abs() <= 1e-6 + 5 * torch.sqrt(law * (1 - law) / lanes)).all(), (found, law)
    return law.tolist()


# --- successive halving


SIZES = [(2, 2), (2, 7), (3, 6), (3, 100), (4, 16), (5, 37), (8, 24), (10, 200), (17, 170)]


def halve(rewards, budget):
    """Algorithm 1 of the paper on a table [K, plays] of rewards, with the means of all plays: the plays of each arm,
    the round after which each was dropped, and the winner."""
    arms = len(rewards)
    rounds = math.ceil(math.log2(arms))
    alive, plays, dropped = list(range(arms)), [0] * arms, [0] * arms
    for r in range(rounds):
        each = math.floor(budget / (len(alive) * math.ceil(math.log2(arms))))
        for arm in alive:
            plays[arm] += each
        alive.sort(key=lambda arm: -np.mean(rewards[arm][: plays[arm]]))
        for arm in alive[math.ceil(len(alive) / 2) :]:
            dropped[arm] = r + 1
        alive = alive[: math.ceil(len(alive) / 2)]
    (winner,) = alive
    return plays, dropped, winner


@pytest.mark.parametrize(("arms", "budget"), SIZES)
def test_halving_does_what_plain_python_does(arms, budget):
    """Two lanes with rewards that depend on the arm and on how often it was played. No two means tie."""
    bandit, table = successive_halving(arms=arms, budget=budget), np.random.default_rng(arms).random((2, arms, budget))
    state, rows = bandit.init(keys(2)), torch.arange(2)
    wanted = [halve(table[lane], budget) for lane in range(2)]
    spent = sum(wanted[0][0])
    for t in range(spent):
        assert not halving.stopped(state).any()
        action = bandit.select(state, keys(2, t))
        reward = torch.tensor(table)[rows, action, state.pulls[rows, action]]
        state = bandit.update(state, keys(2, t), None, action, reward)
    assert state.pulls.tolist() == [plays for plays, _, _ in wanted]
    assert state.dropped_round.tolist() == [dropped for _, dropped, _ in wanted]
    assert halving.stopped(state).all()
    assert halving.recommend(state).tolist() == [winner for _, _, winner in wanted]
    for t in range(3):
        action = bandit.select(state, keys(2, t))
        assert torch.equal(action, halving.recommend(state))
        state = bandit.update(state, keys(2, t), None, action, torch.zeros(2))  # however bad it turns out
    assert spent <= budget < spent + arms * math.ceil(math.log2(arms))


def law_of_winner(p):
    """The law of the winner among 4 Bernoulli arms with budget 16: 2 plays each, the best two 4 more; ties 1/2."""
    law = np.zeros(4)
    for sums in itertools.product(range(3), repeat=4):
        mass = np.prod(binom.pmf(sums, 2, p))
        orders = [o for o in itertools.permutations(range(4)) if sorted(sums, reverse=True) == [sums[a] for a in o]]
        for a, b, *_ in orders:
            after_a = binom.pmf(np.arange(5), 4, p[a])[:, None] * binom.pmf(np.arange(5), 4, p[b])
            lead = sums[a] + np.arange(5)[:, None] - sums[b] - np.arange(5)
            wins = (after_a * np.where(lead == 0, 0.5, lead > 0)).sum()
            law[a] += mass * wins / len(orders)
            law[b] += mass * (1 - wins) / len(orders)
    return law


@pytest.mark.parametrize("p", [(0.5, 0.5, 0.5, 0.5), (0.3, 0.7, 0.4, 0.6)])
def test_law_of_the_winner_is_the_enumerated_one(p):
    """10,000 lanes, each arm within 5 standard errors: below 5e-6 false alarms."""
    lanes, wanted = 10_000, torch.tensor(law_of_winner(p))
    state = last(run(successive_halving(arms=4, budget=16), p, lanes, 16))
    assert halving.stopped(state).all()
    found = frequencies(halving.recommend(state), 4)
    assert wanted.sum() == pytest.approx(1)
    assert ((found - wanted).abs() < 5 * torch.sqrt(wanted * (1 - wanted) / lanes)).all(), (found, wanted)


@pytest.mark.slow
def test_errors_of_halving_stay_below_the_published_bound():
    """Karnin, Koren and Somekh 2013, theorem 4.1, here 0.11. With errors as frequent as that, 2000 lanes would show
    fewer than half as many with probability below 1e-15: so that is asked."""
    p, budget, lanes = (0.1, 0.1, 0.9, 0.1), 400, 2000
    hardness = max((i + 1) / 0.8**2 for i in range(1, 4))
    bound = 3 * 2 * math.exp(-budget / (8 * 2 * hardness))
    assert 0.1 < bound < 0.12
    state = last(run(successive_halving(arms=4, budget=budget), p, lanes, budget))
    assert (halving.recommend(state) != 2).double().mean() < bound / 2


@pytest.mark.parametrize(("arms", "least"), [(2, 2), (3, 6), (8, 24), (9, 36)])
def test_a_budget_without_a_play_of_each_arm_in_each_round_is_refused(arms, least):
    successive_halving(arms=arms, budget=least)
    for budget in (least - 1, 0, -5, 100.0, True, None):
        with pytest.raises(ValueError, match=rf"budget .*{least}, got {budget}"):
            successive_halving(arms=arms, budget=budget)


HALVED = halving.State(
    torch.tensor([5, 3, 5, 2, 5]),
    torch.tensor([4.0, 3.0, 2.0, 0.0, 1.0], dtype=torch.float64),
    torch.tensor([0, 0, 0, 1, 2]),
)


@pytest.mark.parametrize(
    ("available", "law"),
    [
        (None, [0, 1, 0, 0, 0]),
        ([1, 1, 1, 1, 1], [0, 1, 0, 0, 0]),
        ([1, 0, 1, 1, 1], [0.5, 0, 0.5, 0, 0]),
        ([0, 0, 1, 1, 1], [0, 0, 1, 0, 0]),
        ([0, 0, 0, 1, 1], [0, 0, 0, 0, 1]),  # none survives: the best mean
        ([0, 0, 0, 1, 0], [0, 0, 0, 1, 0]),
    ],
)
def test_halving_chooses_among_what_is_available(available, law):
    mask = None if available is None else torch.tensor(available).bool()
    assert check_law(successive_halving(arms=5), HALVED, mask) == law


def test_where_nothing_is_available_nothing_is_chosen():
    for bandit, state in ((successive_halving(arms=5), HALVED), (track_and_stop(arms=5), tracked(HALVED))):
        none = torch.zeros(5, dtype=torch.bool)
        assert bandit.select(state, random.key(0), available=none) == -1
        assert (bandit.policy(state, random.key(0), available=none) == 0).all()


def test_halving_goes_on_where_arms_are_missing():
    """Rounds go by plays in all, so a run ends on time whatever is available. The arm that never is cannot win."""
    bandit, lanes = successive_halving(arms=4, budget=40), 50
    state = bandit.init(keys(lanes))
    for t in range(40):
        mask = random.bernoulli(keys(lanes, 1000 + t), 0.6, (4,)) & torch.tensor([True, True, True, False])
        mask = mask | (torch.arange(4) == t % 3)
        action = bandit.select(state, keys(lanes, t), available=mask)
        assert (mask & torch.nn.functional.one_hot(action, 4).bool()).any(-1).all()
        state = bandit.update(state, keys(lanes, t), None, action, torch.ones(lanes), available=mask)
    assert halving.stopped(state).all()
    assert (halving.recommend(state) != 3).all()


def test_halving_without_a_survivor_plays_the_best_mean():
    """As `remove_arms` may leave it."""
    ended = HALVED._replace(dropped_round=torch.tensor([3, 0, 2, 1, 1]))
    bandit = successive_halving(arms=4)
    state = remove_arms(bandit, ended, random.key(0), removed=[1])
    assert bandit.policy(state, random.key(0)).tolist() == [1, 0, 0, 0]
    assert halving.recommend(state) == 0
    assert not halving.stopped(state)


# --- track and stop


def tracked(state, arm=-1):
    return tracking.State(state.pulls, state.reward_sum, torch.tensor(arm))


def kl(p, q):
    return rel_entr(p, q) + rel_entr(1 - np.asarray(p), 1 - np.asarray(q))


def information(w, mean):
    """What plays in shares w tell against each other arm being the best: [K], +inf for the best."""
    w, mean, best = np.asarray(w), np.asarray(mean), np.argmax(mean)
    both = np.maximum(w[best] + w, 1e-300)
    middle = np.clip((w[best] * mean[best] + w * mean) / both, 0, 1)
    value = w[best] * kl(mean[best], middle) + w * kl(mean, middle)
    return np.where(np.arange(len(w)) == best, INF, value)


def maximised(mean):
    """The shares of plays of largest least information, by sequential quadratic programming from several starts."""
    arms, best, found = len(mean), np.argmax(mean), []
    scale = np.min(information(np.full(arms, 1 / arms), mean))
    others = [a for a in range(arms) if a != best]
    least = {"type": "ineq", "fun": lambda x: information(x[:-1], mean)[others] / scale - x[-1]}
    whole = {"type": "eq", "fun": lambda x: x[:-1].sum() - 1}
    for start in (np.full(arms, 1 / arms), np.where(np.arange(arms) == best, 0.5, 0.5 / (arms - 1))):
        x = minimize(
            lambda x: -x[-1],
            np.append(start, 0.9),
            jac=lambda x: np.append(np.zeros(arms), -1.0),
            constraints=[least, whole],
            bounds=[(1e-9, 1)] * arms + [(0, None)],
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-13},
        ).x
        found.append(x[:-1] / x[:-1].sum())
    return max(found, key=lambda w: information(w, mean).min())


def optimality(w, mean):
    """Theorem 5: what is told about each arm but the best, which should be one number, and the sum of the ratios of
    divergences, which should be 1."""
    mean, best = np.asarray(mean), np.argmax(mean)
    middle = (w[best] * mean[best] + w * mean) / (w[best] + w)
    ratios = np.delete(kl(mean[best], middle), best) / np.delete(kl(mean, middle), best)
    return np.delete(information(w, mean), best), ratios.sum()


@cache
def instances():
    """Means of 2 to 8 arms: uniform, small, large, and whole sixths, 0 and 1 among them; the best is one. And the
    weights that they should have."""
    rng = np.random.default_rng(0)
    drawn = [rng.random(k) for k in (2, 3, 5, 8) for _ in range(6)]
    drawn += [0.05 * rng.random(4) for _ in range(4)] + [1 - 0.05 * rng.random(4) for _ in range(4)]
    drawn += [rng.integers(0, 7, 3) / 6 for _ in range(16)]
    means = [mean.astype(np.float32).astype(np.float64) for mean in drawn if np.diff(np.sort(mean))[-1] > 1e-3]
    return [(mean, maximised(mean)) for mean in means]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_the_maximisers(dtype):
    """To the precision of the quadratic programme."""
    for mean, wanted in instances():
        np.testing.assert_allclose(tracking.optimal_weights(torch.tensor(mean, dtype=dtype)), wanted, atol=2e-4)


@pytest.mark.slow
def test_newton_has_converged():
    """Means of up to 100 arms, near 0 and 1 or alike among them, where the start is worst: float64 is settled to 1e-6
    after the steps that are taken, as theorem 5 has it."""
    rng = np.random.default_rng(3)
    for arms in (2, 4, 20, 100):
        mean = rng.random((2000, arms)) ** rng.choice([0.1, 1, 10], (2000, 1))
        mean[:500, 1:] = mean[:500, 1:].min(-1, keepdims=True)
        mean = mean[np.diff(np.sort(mean))[:, -1] > 1e-4]
        weights = tracking.optimal_weights(torch.tensor(mean)).numpy()
        assert len(mean) > 1000
        for w, m in zip(weights, mean, strict=True):
            gained, ratios = optimality(w, m)
            np.testing.assert_allclose(gained, gained[0], rtol=1e-4)
            assert ratios == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("mean", "weights"),
    [
        ((0.5, 0.45, 0.43, 0.4), (0.417, 0.390, 0.136, 0.057)),
        ((0.3, 0.21, 0.2, 0.19, 0.18), (0.336, 0.251, 0.177, 0.132, 0.104)),
    ],
)
def test_weights_are_the_published_ones(mean, weights):
    """Garivier and Kaufmann 2016, section 6."""
    np.testing.assert_allclose(tracking.optimal_weights(torch.tensor(mean)), weights, rtol=0, atol=5e-4)


MEANS = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=6)


@given(MEANS)
def test_weights_exist_for_any_means(mean):
    for dtype in (torch.float32, torch.float64):
        w = tracking.optimal_weights(torch.tensor(mean, dtype=dtype))
        assert ((w > 0) & (w < 1)).all()
        assert w.sum() == pytest.approx(1, abs=1e-6)


@given(MEANS)
def test_weights_are_optimal_for_any_means(mean):
    if np.diff(np.sort(mean))[-1] > 1e-4:
        gained, ratios = optimality(tracking.optimal_weights(torch.tensor(mean, dtype=torch.float64)).numpy(), mean)
        np.testing.assert_allclose(gained, gained[0], rtol=1e-4)
        assert ratios == pytest.approx(1, abs=1e-4)


def test_best_arms_that_tie_share_the_plays():
    w = tracking.optimal_weights(torch.tensor([[0.5, 0.5, 0.1, 0.0], [0.0, 1.0, 0.3, 1.0]]))
    np.testing.assert_allclose(w, [[0.5, 0.5, 0, 0], [0, 1 - math.exp(-1), 0, math.exp(-1)]], rtol=0, atol=1e-3)


def likelihood(pulls, total):
    """The largest log-likelihood of `total` successes in `pulls` plays."""
    return -pulls * (entr(total / pulls) + entr(1 - total / pulls))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_evidence_is_the_generalised_likelihood_ratio(dtype, rtol):
    rng = np.random.default_rng(1)
    pulls = rng.integers(1, 200, (300, 4))
    total = rng.binomial(pulls, rng.choice([0.0, 0.1, 0.5, 0.9, 1.0], (300, 4))).astype(np.float64)
    wanted = []
    for n, s in zip(pulls, total, strict=True):
        best = np.argmax(s / n)
        apart, joint = likelihood(n, s) + likelihood(n[best], s[best]), likelihood(n + n[best], s + s[best])
        wanted.append(np.delete(apart - joint, best).min())
    state = tracking.State(torch.tensor(pulls), torch.tensor(total), torch.full((300,), -1))
    found = tracking.evidence(state, dtype=dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-5)
    bound = np.log(2 * pulls.sum(-1) * 3 / 0.1)
    np.testing.assert_allclose(tracking.threshold(state, delta=0.1, dtype=dtype), bound, rtol=rtol)
    error = 2 * pulls.sum(-1) * 3 * np.exp(-np.array(wanted))
    assert ((error < 0.5) & (error > 1e-3)).sum() > 5
    assert (error > 1).sum() > 5
    np.testing.assert_allclose(
        tracking.confidence(state, dtype=dtype), np.clip(1 - error, 0, 1 - 1e-16), rtol=0, atol=10 * rtol
    )


def test_nothing_is_known_before_both_arms_were_played():
    state = tracking.init(keys(3), arms=2)
    once = tracking.State(torch.tensor([900, 0]), torch.tensor([900.0, 0.0]).double(), torch.tensor(-1))
    for nothing in (state, once):
        assert (tracking.evidence(nothing) == 0).all()
        assert (tracking.confidence(nothing) == 0).all()
        assert not tracking.stopped(nothing).any()
    assert (tracking.recommend(state) == 0).all()
    assert tracking.confidence(once._replace(pulls=torch.tensor([900, 900]))) < 1


def due(pulls, mean):
    """D-tracking: the arms it may play next."""
    t, arms = pulls.sum(), len(pulls)
    starved = (pulls == 0) | (pulls < math.sqrt(t) - arms / 2)
    if starved.any():
        return starved & (pulls == pulls[starved].min())
    behind = t * maximised(mean) - pulls
    return behind == behind.max()


def test_the_arm_furthest_behind_is_played():
    rng, bandit = np.random.default_rng(2), track_and_stop(arms=3)
    starving = 0
    for _ in range(30):
        pulls = rng.integers(0, 12, 3) + rng.choice([0, 30], 3)
        total = rng.permutation([0.2, 0.5, 0.6]) * pulls
        state = tracking.State(torch.tensor(pulls), torch.tensor(total), torch.tensor(-1))
        wanted = due(pulls, total / np.maximum(pulls, 1))
        starving += (pulls == 0).any() or (pulls < math.sqrt(pulls.sum()) - 1.5).any()
        np.testing.assert_allclose(bandit.policy(state, random.key(0)), wanted / wanted.sum(), atol=1e-6)
    assert 5 < starving < 25


@pytest.mark.parametrize(
    ("least", "stopped_arm", "available", "law"),
    [
        (8, -1, None, None),
        (8, -1, [1, 1, 1, 1, 1], None),
        (8, -1, [0, 0, 0, 1, 1], [0, 0, 0, 0.5, 0.5]),
        (8, -1, [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]),
        (5, -1, None, [0, 0, 0, 0.5, 0.5]),  # both are below sqrt(t) - K / 2
        (5, -1, [1, 1, 1, 0, 1], [0, 0, 0, 0, 1]),
        (5, -1, [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]),
        (5, 1, None, [0, 1, 0, 0, 0]),  # stopped: the answer, or else the best mean
        (5, 1, [1, 0, 1, 1, 1], [1, 0, 0, 0, 0]),
        (5, 1, [0, 0, 0, 1, 1], [0, 0, 0, 0.5, 0.5]),
    ],
)
def test_law_of_tracking(least, stopped_arm, available, law):
    pulls = torch.tensor([30, 25, 12, least, least])
    state = tracking.State(pulls, pulls * torch.tensor([0.6, 0.5, 0.4, 0.2, 0.2]).double(), torch.tensor(stopped_arm))
    found = check_law(track_and_stop(arms=5), state, None if available is None else torch.tensor(available).bool())
    assert found == (law or [0, 1, 0, 0, 0])  # the second arm is furthest behind


def test_a_rule_that_has_held_stays_and_its_arm_is_played():
    """A looser delta stops sooner, on the same plays: those before the first stop."""
    strict, loose = (track_and_stop(arms=3, delta=delta) for delta in (0.001, 0.2))
    state = strict.init(keys(20))
    other = state
    stops, sooner = torch.full((20,), -1), torch.full((20,), -1)
    for t in range(150):
        action = strict.select(state, keys(20, t))
        reward = random.bernoulli(keys(20, 500 + t), torch.tensor([0.05, 0.95, 0.1])[action]).float()
        held = state.stopped_arm
        assert torch.equal(action[held >= 0], held[held >= 0])
        state = strict.update(state, keys(20), None, action, reward)
        other = loose.update(other, keys(20), None, action, reward)
        assert torch.equal(state.stopped_arm[held >= 0], held[held >= 0])
        new = tracking.stopped(state) & (held < 0)
        assert (tracking.confidence(state)[new] > 1 - 0.001 - 1e-6).all()
        assert (tracking.confidence(state)[~tracking.stopped(state)] <= 1 - 0.001 + 1e-6).all()
        stops, sooner = (
            torch.where(tracking.stopped(s) & (when < 0), t, when) for s, when in ((state, stops), (other, sooner))
        )
    assert tracking.stopped(state).all()
    assert (tracking.recommend(state) == 1).all()
    assert (sooner < stops).all()
    assert torch.equal(tracking.recommend(state), state.stopped_arm)


def test_a_bad_reward_stops_nothing():
    state = tracking.State(torch.tensor([400, 400]), torch.tensor([300.0, 20.0]).double(), torch.tensor(-1))
    bandit, one = track_and_stop(arms=2), torch.tensor(1)
    assert bandit.update(state, random.key(0), None, one, torch.tensor(0.0)).stopped_arm == 0
    for action, reward in ((one, math.nan), (torch.tensor(-1), 0.0), (torch.tensor(2), 0.0)):
        kept = bandit.update(state, random.key(0), None, action, torch.tensor(reward))
        assert all(same_bits(a, b) for a, b in zip(kept, state, strict=True))


def test_no_arm_starves():
    """N >= sqrt(t) - K / 2 - 1 at every step (lemma 8 of the paper), and the rule never stops at delta 1e-30."""
    lowest = INF
    for carry in run(track_and_stop(arms=4, delta=1e-30), (0.9, 0.1, 0.2, 0.85), 20, 150):
        pulls = carry.bandit.pulls
        slack = pulls - (torch.sqrt(pulls.sum(-1, keepdim=True)) - 2 - 1)
        lowest = min(lowest, slack.min().item())
    assert 0 <= lowest < 1
    assert not tracking.stopped(carry.bandit).any()


@pytest.mark.slow
def test_shares_of_plays_tend_to_the_weights():
    p = (0.3, 0.6, 0.5)
    state = last(run(track_and_stop(arms=3, delta=1e-30), p, 20, 3000))
    wanted = maximised(np.array(p))
    shares = (state.pulls / state.pulls.sum(-1, keepdim=True)).mean(0)
    np.testing.assert_allclose(shares, wanted, rtol=0, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("delta", "factor"), [(0.1, 6), (0.01, 3)])
def test_answers_are_right_with_the_confidence_asked_for(delta, factor):
    """2000 lanes: at most delta wrong, plus 5 standard errors (under 3e-7 false alarms). The mean stopping time lies
    between the lower bound T* kl(delta, 1 - delta) of theorem 1 and `factor` times that, and within 10% of the t at
    which evidence of t / T* meets the threshold. Standard errors of that mean are below 1%."""
    p, lanes = (0.45, 0.7, 0.3, 0.45), 2000
    stop_time = torch.zeros(lanes)
    for carry in run(track_and_stop(arms=4, delta=delta), p, lanes, 4000):
        stop_time = stop_time + ~tracking.stopped(carry.bandit)
        if tracking.stopped(carry.bandit).all():
            break
    assert tracking.stopped(carry.bandit).all()
    wrong = (tracking.recommend(carry.bandit) != 1).double().mean()
    assert wrong <= delta + 5 * math.sqrt(delta * (1 - delta) / lanes)
    rate = information(maximised(np.array(p)), p).min()  # 1 / T*
    bound, expected = kl(delta, 1 - delta) / rate, 500.0
    for _ in range(50):
        expected = math.log(2 * expected * 3 / delta) / rate
    assert bound <= stop_time.mean() <= factor * bound
    assert stop_time.mean() == pytest.approx(expected, rel=0.1)


# --- both


def answers(module, bandit, state, rng, action, reward):
    learned = bandit.update(state, rng, None, action, reward)
    more = (tracking.confidence(learned),) if module is tracking else ()
    return learned, bandit.select(learned, rng), bandit.policy(learned, rng), module.recommend(learned), *more


def near_the_end(module, bandit, steps):
    """A state of 6 lanes some of which stop in the next step, and that step's action and reward."""
    state = last(run(bandit, (0.1, 0.9, 0.5), 6, steps))
    action = bandit.select(state, keys(6, 1))
    stepped = bandit.update(state, keys(6, 2), None, action, torch.ones(6))
    return state, action, torch.ones(6), stepped


@pytest.mark.parametrize(
    ("module", "bandit", "steps"),
    [(halving, successive_halving(arms=3, budget=30), 28), (tracking, track_and_stop(arms=3, delta=0.1), 24)],
    ids=["halving", "tracking"],
)
class TestBoth:
    def test_every_way_to_run_agrees(self, module, bandit, steps, variants):
        state, action, reward, stepped = near_the_end(module, bandit, steps)
        assert (module.stopped(stepped) & ~module.stopped(state)).any()
        step = partial(answers, module, bandit)
        variants(step, state, keys(6, 2), action, reward, traced=False, atol=1e-5)
        variants(module.stopped, state, traced=False)

    @pytest.mark.slow
    def test_traced_agrees(self, module, bandit, steps, variants):
        state, action, reward, _ = near_the_end(module, bandit, steps)
        step = partial(answers, module, bandit)
        variants(step, state, keys(6, 2), action, reward, atol=1e-5)
        variants(module.stopped, state)

    def test_functions_are_pure(self, module, bandit, steps):
        state, action, reward, _ = near_the_end(module, bandit, steps)
        check_pure(partial(answers, module, bandit), state, keys(6, 2), action, reward)
        check_pure(module.stopped, state)
