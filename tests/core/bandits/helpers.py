"""Every algorithm of the registry, small: three arms, two features, a few steps played."""

from functools import cache

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from armfold.core import random
from armfold.core.bandits import ALGORITHMS
from armfold.core.bandits import arms as plain
from tests.purity import same_bits

K, D = 3, 2

# Sizes that a dozen steps fill, in place of the defaults: the middle of the second round, a ring gone round.
SMALL = {"successive_halving": {"budget": 24}, "sw_ucb": {"window": 5}, "glr_kl_ucb": {"window": 5}}

# Divide by the probability with which the arm was chosen.
WEIGHS_BY_PROPENSITY = {"exp3", "exp3_ix", "exp3_p", "tsallis_inf", "exp4"}

_MODELS = {
    "shared": {"model": "shared"},
    "hybrid": {"model": "hybrid"},
    "hybrid, 1 shared feature": {"model": "hybrid", "shared_features": 1},
}
# An algorithm, or one with another structure: its name and its options. A rule over a linear model calls the model by
# the same few functions as every other: scores and updates of lin_ucb, draws and weighted updates of logistic_ts
# reach them all.
FORMS = {name: (name, SMALL.get(name, {})) for name in ALGORITHMS}
FORMS |= {f"{name}, {kind}": (name, _MODELS[kind]) for name in ("lin_ucb", "logistic_ts") for kind in _MODELS}
FORMS |= {"glr_kl_ucb, local": ("glr_kl_ucb", {"restart": "local", **SMALL["glr_kl_ucb"]})}


def make(form, **kwargs):
    name, options = FORMS[form]
    features = {"features": D} if ALGORITHMS[name].contextual else {}
    return ALGORITHMS[name].make(**{"arms": K, **features, **options, **kwargs})


MONTE_CARLO = {name for name in ALGORITHMS if getattr(make(name).policy, "func", None) is plain.sampled_policy}


def sampled(form):
    """Whether its policy is a Monte Carlo estimate."""
    return among(form, MONTE_CARLO)


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def contextual(form):
    return ALGORITHMS[FORMS[form][0]].contextual


def context(form, batch, seed=0, dtype=torch.float32, arms=K):
    """What every arm shows, or how strongly experts speak for it; None for those who look at nothing."""
    if not contextual(form):
        return None
    drawn = random.normal(keys(batch, 10_000 + seed), (arms, D), dtype=dtype)
    return drawn.abs() if form == "exp4" else drawn


@cache
def played(form, batch, steps=12, dtype=torch.float32, arms=K):
    """A state after some steps, every arm played, and the obs, action and reward of one step more."""
    bandit = make(form, dtype=dtype, arms=arms)
    state = bandit.init(keys(batch))
    for t in range(steps + 1):
        obs, rng = context(form, batch, t, dtype, arms), keys(batch, 100 + t)
        action = bandit.select(state, rng, obs) if t >= arms else torch.full(batch, t)
        reward = random.uniform(keys(batch, 200 + t), dtype=dtype) * (action + 1) / arms
        if t < steps:
            state = bandit.update(state, rng, obs, action, reward)
    return state, obs, action, reward


def arm_axes(form):
    """The axis, from the last, of the arms in each field of the state that has one."""
    three, five = (make(form, arms=arms).init(keys(()))._asdict() for arms in (3, 5))
    shapes = {field: (three[field].shape, five[field].shape) for field in three}
    return {f: next(i - len(a) for i in range(len(a)) if a[i] != b[i]) for f, (a, b) in shapes.items() if a != b}


def among(form, names):
    return FORMS[form][0] in names


def same(left, right):
    """Bitwise equality of two trees of tensors, whatever the layout in memory."""
    left, right = tree_map(torch.Tensor.contiguous, (left, right))
    return all(same_bits(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True))


def close(left, right, atol=1e-5):
    """Assert that two states agree, up to rounding where they hold floats."""
    torch.testing.assert_close(tuple(left), tuple(right), rtol=atol, atol=atol)


def lane(tree, *at):
    """One lane of a tensor, of a state, or of both in a list; None stays None."""
    return tree_map(lambda x: x[at] if isinstance(x, Tensor) else x, tree)


def spread(tree, lanes):
    """A tree of any batch, `lanes` times: [lanes, *B]."""
    return tree_map(lambda x: x.expand(lanes, *x.shape) if isinstance(x, Tensor) else x, tree)


def assert_law(found, law, lanes, sides=1):
    """Frequencies [K] among `lanes` draws within 5 standard errors of the law: 6e-7 false alarms for each arm."""
    found, law = found.double(), law.double()
    error = torch.sqrt(sides * law * (1 - law) / lanes)
    assert ((found - law).abs() <= 1e-6 + 5 * error).all(), (found, law)
