"""Contextual learners on handwritten digits, against logistic regression that is shown every label."""

import pytest
from sklearn.linear_model import LogisticRegression

from armfold.core import bandits
from armfold.core.envs import classification
from armfold.shell import simulate
from armfold.shell.envs.data import load_digits

STEPS, LAST, LANES = 5000, 500, 64


@pytest.mark.slow
def test_the_best_contextual_learner_nears_what_is_learned_from_all_labels() -> None:
    """Over 90% of the accuracy that logistic regression reaches on the very rows it was fitted to."""
    digits = load_digits()
    offline = LogisticRegression(max_iter=2000).fit(digits.x, digits.y).score(digits.x, digits.y)
    env = classification(x=digits.x, y=digits.y, arms=10)
    result = simulate(
        bandits.lin_ts(arms=10, features=64), env, steps=STEPS, runs=LANES, points=STEPS // LAST, progress=False
    )
    last = 1 - (result.curve_mean[-1] - result.curve_mean[-2]).item() / LAST
    assert last > 0.9 * offline, (last, offline)
