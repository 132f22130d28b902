"""Replay: the value of a learner while it learns, from a log that chose its actions uniformly."""

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_key
from armfold.core.ope.estimate import Estimate, ratio
from armfold.core.ope.logs import check_rows
from armfold.core.types import Bandit, Logged, State


def replay(bandit: Bandit, state: State, rng: Tensor, logged: Logged) -> tuple[Estimate, State]:
    """Walk the log with a learner that goes on from `state`, for keys rng [*B, 2].

    A row counts, and teaches, where the learner chooses the action that was logged; the others are passed over. The
    log must have chosen its actions uniformly and independently of the context: then the rows that count are what the
    learner would have met. Some n / K rows count. The value is their mean reward, NaN where there are none. Intervals
    take rows as independent, which those of a learner that still changes are not quite.

    Source: Li, Chu, Langford and Wang 2011, WSDM.
    """
    check_rows(logged)
    check_key(rng, logged.action.shape[:-1])
    matches = []
    for i in range(logged.action.shape[-1]):
        obs = None if logged.obs is None else logged.obs[..., i, :, :]
        select_rng, update_rng = (random.jump(rng, 2 * i + tag) for tag in (0, 1))
        action = bandit.select(state, select_rng, obs)
        match = action == logged.action[..., i]
        # An update with action -1 leaves its lane as it is.
        state = bandit.update(state, update_rng, obs, torch.where(match, action, -1), logged.reward[..., i])
        matches.append(match)
    counted = torch.stack(matches, -1)
    reward = torch.where(counted, logged.reward.to(torch.float64), 0)
    return ratio(reward, counted.to(torch.float64)), state
