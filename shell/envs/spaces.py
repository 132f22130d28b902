"""What hosts of bandit environments share: spaces, and numpy arrays that are views of a face's buffers."""

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from armfold.core import random
from armfold.core.types import BanditEnv


def bandit_spaces(env: BanditEnv) -> tuple[Box, Discrete]:
    """The spaces of one lane: observations [K, d] float32, or [1], always 0, where there is no context; K actions."""
    state = env.init(random.key(0))
    obs, arms = env.observe(state), env.means(state).shape[-1]
    if obs is None:
        return Box(0.0, 1.0, (1,), np.float32), Discrete(arms)
    return Box(-np.inf, np.inf, tuple(obs.shape), np.float32), Discrete(arms)


def check_actions(actions: Any, lanes: int, arms: int) -> torch.Tensor:
    """Actions as a tensor [N] of integers. Raises ValueError for another dtype or shape, or values outside [0, K)."""
    array = np.asarray(actions)
    if array.dtype.kind not in "iu" or array.shape != (lanes,):
        raise ValueError(f"actions must be integers of shape ({lanes},), got {array.dtype} {array.shape}")
    if array.min() < 0 or array.max() >= arms:
        wrong = array[(array < 0) | (array >= arms)][0]
        raise ValueError(f"actions must lie in [0, {arms}), got {wrong}")
    return torch.from_numpy(array.astype(np.int64, order="C"))  # a copy: it may be read-only, or run backwards
