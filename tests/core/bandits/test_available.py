"""Arms that may be unavailable at a step, for every algorithm of the registry."""

from functools import partial

import pytest
import torch

from armfold.core import masked, random
from armfold.core.bandits import ALGORITHMS
from armfold.core.check import ShapeError
from tests.core.bandits.helpers import (
    FORMS,
    WEIGHS_BY_PROPENSITY,
    K,
    among,
    assert_law,
    close,
    keys,
    make,
    played,
    same,
    sampled,
    spread,
)
from tests.tiers import thinned

# Work out uniform play over the arms there are from their number, which is a constant where there is no mask: another
# rounding.
ROUNDS_OTHERWISE = {"exp3", "exp3_p"}

every = pytest.mark.parametrize("name", ALGORITHMS)
every_form = pytest.mark.parametrize("form", FORMS)


def some(batch, seed=7):
    """Random masks, of all kinds: bool [*B, K]."""
    return random.bernoulli(keys(batch, seed), 0.5, (K,))


@pytest.mark.parametrize("form", thinned(FORMS, keep=2))
def test_what_is_not_available_is_never_chosen(form):
    """4,096 lanes with masks of all kinds; where nothing is available the action is -1 and the law 0."""
    bandit, batch = make(form), (1024, 4)
    state, obs, _, _ = played(form, (4,))
    state, obs = spread([state, obs], 1024)
    mask = some(batch)
    action = bandit.select(state, keys(batch, 8), obs, available=mask)
    probs = bandit.policy(state, keys(batch, 9), obs, available=mask, samples=8)
    left = mask.any(-1)
    assert not left.all()
    assert torch.equal(action >= 0, left)
    assert (action[~left] == -1).all()
    assert masked.take(mask, action)[left].all()
    assert (probs >= 0).all()
    assert (probs[~mask] == 0).all()
    torch.testing.assert_close(probs.sum(-1), left.to(probs.dtype))


@pytest.mark.parametrize("form", thinned(FORMS))
def test_policy_is_the_law_of_select_under_a_mask(form):
    """Without the arm likeliest otherwise. 8,000 keys, each arm within 5 standard errors: under 5e-5 false alarms."""
    lanes, bandit = 8_000, make(form)
    state, obs, _, _ = played(form, (), 7)
    likeliest = bandit.policy(state, keys(()), obs, samples=64).argmax(-1)
    mask = ~masked.one_hot(likeliest, K)
    law = bandit.policy(state, keys((), 5), obs, available=mask, samples=lanes)
    many, seen = spread([state, obs], lanes)
    drawn = bandit.select(many, keys((lanes,), 6), seen, available=mask.expand(lanes, K))
    assert_law(torch.bincount(drawn, minlength=K) / lanes, law, lanes, sides=2 if sampled(form) else 1)


@pytest.mark.parametrize("form", thinned(FORMS))
def test_all_available_is_no_mask(form):
    bandit, rng, mask = make(form), keys((6,), 9), torch.ones(6, K, dtype=torch.bool)
    state, obs, action, reward = played(form, (6,))
    assert same(*(bandit.select(state, rng, obs, available=a) for a in (mask, None)))
    laws = [bandit.policy(state, rng, obs, available=a, samples=8) for a in (mask, None)]
    learned = [bandit.update(state, rng, obs, action, reward, available=a) for a in (mask, None)]
    if among(form, ROUNDS_OTHERWISE):
        close(laws, laws[::-1], 1e-6)
        close(*learned, 1e-6)
    else:
        assert same(*laws)
        assert same(*learned)


@every_form
def test_what_is_learned_under_a_mask(form):
    """What is learned without one, but by those who weigh by the probability, which depends on the mask."""
    bandit, rng, mask = make(form), keys((6,), 9), some((6,), 3)
    state, obs, action, reward = played(form, (6,))
    mask = mask | masked.one_hot(action, K)
    assert not mask.all()
    learned = bandit.update(state, rng, obs, action, reward, available=mask)
    if not among(form, WEIGHS_BY_PROPENSITY):  # in which case the mask changes nothing
        assert same(learned, bandit.update(state, rng, obs, action, reward))
        return
    assert all(torch.isfinite(leaf).all() for leaf in learned)
    chance = masked.take(bandit.policy(state, rng, obs, available=mask), action)
    close(learned, bandit.update(state, rng, obs, action, reward, available=mask, propensity=chance))
    assert not same(learned, bandit.update(state, rng, obs, action, reward))


@pytest.mark.parametrize("name", sorted(WEIGHS_BY_PROPENSITY))
def test_an_arm_that_could_not_be_chosen_teaches_nothing(name):
    bandit, rng = make(name), keys((6,), 9)
    state, obs, action, reward = played(name, (6,))
    mask = ~masked.one_hot(action, K)
    mask[:2] = False
    assert same(bandit.update(state, rng, obs, action, reward, available=mask), state)


@every_form
def test_where_nothing_was_available_nothing_is_learned(form):
    bandit, rng, nothing = make(form), keys((6,), 9), torch.zeros(6, K, dtype=torch.bool)
    state, obs, _, reward = played(form, (6,))
    action = bandit.select(state, rng, obs, available=nothing)
    assert same(bandit.update(state, rng, obs, action, reward, available=nothing), state)


@every
@pytest.mark.parametrize("call", ["select", "update", "policy"])
def test_a_wrong_mask_is_refused_by_name(name, call):
    function, mask = getattr(make(name), call), torch.ones(4, K, dtype=torch.bool)
    state, obs, *more = played(name, (4,))
    more = more if call == "update" else []
    for bad in (mask.float(), mask.to(torch.int8), mask[:3], mask[0], mask[..., :2], mask.unsqueeze(1)):
        with pytest.raises(ShapeError, match=r"available "):
            function(state, keys((4,)), obs, *more, available=bad)


def masked_step(state, rng, obs, action, reward, available, *, bandit):
    learned = bandit.update(state, rng, obs, action, reward, available=available)
    law = bandit.policy(learned, rng, obs, available=available, samples=8)
    return learned, bandit.select(learned, rng, obs, available=available), law


@pytest.mark.parametrize("form", thinned(FORMS, keep=2))
def test_a_masked_batch_is_its_lanes_one_by_one_and_its_vmap(form, variants):
    state, obs, action, reward = played(form, (4,))
    step = partial(masked_step, bandit=make(form))
    variants(step, state, keys((4,), 9), obs, action, reward, some((4,)), traced=False)


MASKED_TRACE = "exp3_p"  # here, as it does the most with a mask; the rest in slow tests


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == MASKED_TRACE else pytest.mark.slow) for name in ALGORITHMS]
)
def test_a_masked_step_traces(name, variants):
    state, obs, action, reward = played(name, (4,))
    step = partial(masked_step, bandit=make(name))
    variants(step, state, keys((4,), 9), obs, action, reward, some((4,)), atol=1e-5, batch=0)
