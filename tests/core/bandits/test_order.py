"""Rewards that come late, in another order than that of the decisions: for whom it makes no difference."""

import pytest
import torch

from armfold.core import random
from tests.core.bandits.helpers import (
    FORMS,
    WEIGHS_BY_PROPENSITY,
    K,
    among,
    close,
    context,
    contextual,
    keys,
    make,
    same,
)

LANES, STEPS = 4, 60
ROUNDING = 2e-5

# For these it does: they forget, so that it matters what came last; they stop or drop arms by what came first; their
# posterior is an approximation made anew at each step; and EXP3.P also learns from the law that it had at the time.
ORDER_MATTERS = (
    {"d_ucb", "discounted_ts", "sw_ucb", "glr_kl_ucb"}
    | {"successive_halving", "track_and_stop"}
    | {"logistic_ucb", "logistic_ts"}
    | {"exp3_p"}
)
FREE = [form for form in FORMS if not among(form, ORDER_MATTERS)]
BOUND = [form for form in FORMS if among(form, ORDER_MATTERS)]


def decisions(form):
    """Keys, contexts, actions, rewards and propensities [LANES, STEPS, ...] of a world whose best arm changes."""
    batch = (LANES, STEPS)
    action = random.randint(keys(batch, 31), high=K)
    best = 2 * torch.arange(STEPS) // STEPS
    reward = torch.floor(64 * (0.9 * (action == best) + 0.1 * random.uniform(keys(batch, 32)))) / 64  # sums are exact
    return keys(batch, 33), context(form, batch, 34), action, reward, 0.2 + 0.6 * random.uniform(keys(batch, 35))


def learned(form, order, propensities=True):
    """What is learned from the decisions, told in the given order, int64 [LANES, STEPS]; each with its own key."""
    bandit, lanes = make(form), torch.arange(LANES).unsqueeze(-1)
    state = bandit.init(keys((LANES,)))
    rng, obs, action, reward, chance = (None if x is None else x[lanes, order] for x in decisions(form))
    for t in range(STEPS):
        seen, given = None if obs is None else obs[:, t], chance[:, t] if propensities else None
        state = bandit.update(state, rng[:, t], seen, action[:, t], reward[:, t], propensity=given)
    return state


IN_ORDER = torch.arange(STEPS).expand(LANES, STEPS)
LATE = random.permutation(keys((LANES,), 36), STEPS)


def belief(form, state):
    """What choices are made by: a covariance, not one of its square roots; weights relative to the largest."""
    fields = state._asdict()
    for field in fields.keys() & {"root", "shared_root"}:
        fields[field] = fields[field] @ fields[field].mT
    for field in fields.keys() & {"log_weights", "loss_sum"}:
        fields[field] = fields[field] - fields[field].amax(-1, keepdim=True)
    return fields.values()


def apart(form, left, right):
    """The largest difference between what two states believe."""
    return max((x - y).abs().max() for x, y in zip(belief(form, left), belief(form, right), strict=True))


@pytest.mark.parametrize("form", FREE)
def test_the_order_of_rewards_makes_no_difference(form):
    """Plain statistics are the same bit for bit, sums of floats up to rounding. Each decision keeps its key, and, for
    those who weigh by it, its propensity."""
    states = [learned(form, order) for order in (IN_ORDER, LATE)]
    if contextual(form) or among(form, WEIGHS_BY_PROPENSITY):
        close(*(belief(form, state) for state in states), ROUNDING)
    else:
        assert same(*states)


@pytest.mark.parametrize("form", BOUND)
def test_the_order_of_rewards_makes_a_difference(form):
    assert apart(form, *(learned(form, order) for order in (IN_ORDER, LATE))) > 20 * ROUNDING


@pytest.mark.parametrize("name", sorted(WEIGHS_BY_PROPENSITY))
def test_without_propensities_it_does_too(name):
    """They would be worked out from weights that have changed since."""
    states = (learned(name, order, propensities=False) for order in (IN_ORDER, LATE))
    assert apart(name, *states) > 20 * ROUNDING
