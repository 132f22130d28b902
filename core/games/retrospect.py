"""What games say to learners: targets for a critic over histories, for regrets, and for the average policy.

Games are `play.Trajectory`, [T, N]. Targets are sums over all that was seen of a row (an infoset, a history's action),
with how often it was seen: a network that is run over all rows learns from them what it would learn from every game.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.games.decisions import Decisions
from armfold.core.games.play import Trajectory


class Targets(NamedTuple):
    """Means over what was seen of R rows."""

    mean: Tensor  # [R, A] float
    seen: Tensor  # [R, A] or [R, 1] float, how often; 0: never, and the mean is 0


def _mean(rows: Tensor, values: Tensor, size: int) -> Targets:
    """Means of values [n, A] by row, int64 [n]; rows outside [0, size) are left out."""
    kept = (rows >= 0) & (rows < size)
    at = torch.where(kept, rows, size)
    total = torch.zeros((size + 1, values.shape[1]), dtype=values.dtype, device=values.device)
    total = total.index_add(0, at, torch.where(kept.unsqueeze(1), values, 0))[:-1]
    seen = torch.zeros(size + 1, dtype=values.dtype, device=values.device).index_add(
        0, at, torch.ones_like(rows, dtype=values.dtype)
    )[:-1]
    return Targets(total / seen.clamp(min=1).unsqueeze(1), seen.unsqueeze(1))


def critic_targets(points: Decisions, games: Trajectory, policy: Tensor, q: Tensor) -> Targets:
    """What games say of q [D, A], the first player's expected win after each action where all follow `policy` [I, A].

    Games may follow another policy: every step backs up policy . q with the sampled action's entry replaced by what
    came of it (tree backup, Precup et al. 2000). Targets are [D, A], with a count for each entry.
    """
    pi = policy[points.infoset]
    value = (pi * q).sum(1)
    back, rows, said = games.payoff.to(q.dtype), [], []
    for t in range(len(games.player) - 1, -1, -1):
        d = points.number[games.history[t]]
        acts, a = d >= 0, games.action[t].clamp(min=0, max=q.shape[1] - 1)
        at = d.clamp(min=0)
        rows.append(torch.where(acts, at * q.shape[1] + a, -1))
        said.append(back)
        back = torch.where(acts, value[at] + pi[at, a] * (back - q[at, a]), back)
    mean, seen = _mean(torch.cat(rows), torch.cat(said).unsqueeze(1), q.numel())
    return Targets(mean.reshape(q.shape), seen.reshape(q.shape))


class Retrospect(NamedTuple):
    """What games against past policies say."""

    regret: Targets  # [I, A] payoff: at the learner's infosets, how much better each action was than the past policy
    average: Targets  # [I, A]: at the other player's infosets, the policies that were followed


def retrospect(
    points: Decisions, games: Trajectory, learner: Tensor, past: Tensor, policies: Tensor, critics: Tensor
) -> Retrospect:
    """Targets of regret and average policy from games in which the learner explored against a past policy.

    learner int64 [N], 0 or 1; past int64 [N], the number j of each game's policies [P, I, A] and critics [P, D, A].
    Opponents follow policy j, so that they come to a history as often as it says, and the learner's exploration does
    not depend on j: the mean of q_j - policy_j . q_j at an infoset is in proportion to the sum of counterfactual
    regrets, without importance weights (Gruslys et al. 2020).
    """
    size = policies.shape[1]
    d = points.number[games.history[:-1]]  # [T, N]
    acts, at = d >= 0, d.clamp(min=0)
    infoset, mine = points.infoset[at], points.player[at] == learner
    j = past.expand_as(d)
    q, pi = critics[j, at], policies[j, infoset]
    sign = (1 - 2 * learner).to(q.dtype).unsqueeze(1)
    gain = (q - (pi * q).sum(-1, keepdim=True)) * points.legal[at] * sign
    regret = _mean(torch.where(acts & mine, infoset, -1).flatten(), gain.flatten(0, 1), size)
    average = _mean(torch.where(acts & ~mine, infoset, -1).flatten(), pi.flatten(0, 1), size)
    return Retrospect(regret, average)
