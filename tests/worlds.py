"""Small environments of every kind, for tests of what steps them."""

from typing import Any

from armfold.core import random
from armfold.core.envs import bernoulli, contextual, dataset, drifting, gaussian
from tests.corridor import CORRIDOR

K = 3  # arms of the bandits
X = random.normal(random.key(1), (11, K, 2))
ENVS: dict[str, Any] = {
    "bernoulli": bernoulli(arms=K),
    "drifting": drifting(arms=K, sigma=0.2),
    "gaussian": gaussian(arms=K),
    "contextual": contextual(theta=random.normal(random.key(2), (K, 4))),
    "dataset": dataset(x=X, p=random.uniform(random.key(3), (11, K))),
    "corridor": CORRIDOR,
}
BANDITS = [name for name in ENVS if name != "corridor"]
