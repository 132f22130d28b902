"""The range of rewards that a run lets through, and the learner's view of it."""

import math

from torch import Tensor

from armfold.core import simulate
from armfold.core.types import Bandit

Range = tuple[float, float] | None


def fit_rewards(bandit: Bandit, reward_range: Range) -> Bandit:
    """`bandit`, shown rewards of (low, high) as [0, 1]; None: as they are. Raises ValueError for another range."""
    if reward_range is not None and len(reward_range) != 2:
        raise ValueError(f"reward_range must be (low, high) or None, got {reward_range!r}")
    if reward_range is None or tuple(reward_range) == (0.0, 1.0):
        return bandit
    return simulate.rescale_rewards(bandit, *reward_range)


def check_rewards(lowest: Tensor, highest: Tensor, reward_range: Range) -> None:
    """Raise ValueError where the least and largest rewards met, [N] each, are not finite or out of range."""
    low, high = float(lowest.min()), float(highest.max())  # NaN where one of them is
    if not (math.isfinite(low) and math.isfinite(high)):
        faults = int((~(lowest.isfinite() & highest.isfinite())).sum())
        raise ValueError(f"reward was not finite in {faults} lanes: paid so, or for an action outside [0, K)")
    if reward_range is not None and (low < reward_range[0] or high > reward_range[1]):
        raise ValueError(
            f"reward outside [{reward_range[0]:g}, {reward_range[1]:g}]: met values from {low:.6g} to {high:.6g}; "
            "give a reward_range (low, high) that holds them all, or None for a learner of unbounded rewards"
        )
