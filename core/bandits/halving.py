"""The best arm with a given number of plays: play all arms alike, drop the worse half, and again."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.check import check_size
from armfold.core.types import Bandit


class State(NamedTuple):
    """`arms.State`, and what was dropped when."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    reward_sum: Tensor  # [*B, K] float64, reward unit
    dropped_round: Tensor  # [*B, K] int64, the round, from 1 on, after which the arm was dropped; 0: it survives


def init(rng: Tensor, *, arms: int) -> State:
    """No plays, and every arm survives, for each key in rng [*B, 2]."""
    pulls, reward_sum = _arms.init(rng, arms=arms)
    return State(pulls, reward_sum, torch.zeros_like(pulls))


def schedule(arms: int, budget: int) -> tuple[tuple[int, int], ...]:
    """For each round: the arms that survive it, and the plays there have been by its end.

    Of r = ceil(log2 K) rounds, one with n arms plays each floor(budget / (n r)) times and keeps ceil(n / 2).
    """
    rounds = (arms - 1).bit_length()
    ends, survivors, played = [], arms, 0
    for _ in range(rounds):
        played += survivors * (budget // (survivors * rounds))
        survivors = (survivors + 1) // 2
        ends.append((survivors, played))
    return tuple(ends)


def _means(state: State, dtype: torch.dtype) -> Tensor:
    return _arms.mean(_arms.State(*state[:2]), dtype)


def recommend(state: State) -> Tensor:
    """The surviving arm of best mean, the first of ties: int64 [*B]."""
    survives = state.dropped_round == 0
    return torch.where(survives | ~survives.any(-1, keepdim=True), _means(state, torch.float64), -torch.inf).argmax(-1)


def stopped(state: State) -> Tensor:
    """Bool [*B]: the last round is over, one arm survives."""
    return (state.dropped_round == 0).sum(-1) == 1


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    ends: tuple[tuple[int, int], ...],
    dtype: torch.dtype = torch.float32,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """`arms.update`, and where a round of the `schedule` is over the worse half dropped, ties at random."""
    plain = _arms.update(_arms.State(*state[:2]), rng, obs, action, reward, available=available)
    learned = State(*plain, state.dropped_round)
    total = learned.pulls.to(torch.float64).sum(-1, keepdim=True)
    over, kept = torch.zeros_like(total), torch.full_like(total, learned.pulls.shape[-1])
    for survivors, played in ends:
        over, kept = over + (total >= played), torch.where(total >= played, survivors, kept)
    mean = torch.where(state.dropped_round == 0, _means(learned, dtype), -torch.inf)
    lot = random.bits(rng, learned.pulls.shape[-1:])
    # [*B, K, K]: whether the second arm beats the first. Without branches every step pays for this; K is small.
    beaten = mean.unsqueeze(-1) < mean.unsqueeze(-2)
    unlucky = (mean.unsqueeze(-1) == mean.unsqueeze(-2)) & (lot.unsqueeze(-1) < lot.unsqueeze(-2))
    drops = ((beaten | unlucky).sum(-1) >= kept) & (state.dropped_round == 0)
    drops = drops & _arms.chosen(state.pulls, action, reward).any(-1, keepdim=True)
    return learned._replace(dropped_round=torch.where(drops, over.to(torch.int64), state.dropped_round))


def _candidates(
    state: State, rng: Tensor, obs: Tensor | None, dtype: torch.dtype, available: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Values [*B, K] and which of them to choose the largest among, bool [*B, K]."""
    _arms.check_select(state.pulls, rng, obs, available)
    survives = state.dropped_round == 0
    usable = survives if available is None else survives & available
    some = usable.any(-1, keepdim=True)
    values = torch.where(some, -state.pulls.to(dtype), _means(state, dtype))
    # None may survive at all: `remove_arms` can take the last one.
    return values, torch.where(some, usable, torch.ones_like(usable) if available is None else available)


def select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
) -> Tensor:
    """The surviving arm of fewest plays, or where none of them is available the best mean; ties at random:
    int64 [*B]."""
    values, usable = _candidates(state, rng, obs, dtype, available)
    return masked.argmax(values, rng, usable)


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]. `samples` is not used."""
    values, usable = _candidates(state, rng, obs, dtype, available)
    return masked.argmax_probs(values, usable)


def successive_halving(*, arms: int, budget: int = 1000, dtype: torch.dtype = torch.float32) -> Bandit:
    """Successive halving: `budget` plays in rounds that play all arms alike and then drop the worse half.

    arms: K >= 2. budget: plays in all, at least K ceil(log2 K); see `schedule`. Rewards in [0, 1]. Raises ValueError
    for values outside. Arms are compared by the mean of all their plays, not of the last round's alone. From the last
    round on the arm that is left is played. See `stopped` and `recommend`.
    With round means the chance of another arm than the best is at most 3 log2(K) exp(-budget / (8 log2(K) H)), where
    H = max i / gap_i^2 over the arms by falling mean, i from 2 (theorem 4.1).
    Source: Karnin, Koren and Somekh 2013, algorithm 1; Jamieson and Talwalkar 2016.
    """
    check_size("arms", arms, low=2)
    check_size("budget", budget, low=arms * (arms - 1).bit_length())
    return Bandit(
        partial(init, arms=arms),
        partial(select, dtype=dtype),
        partial(update, ends=schedule(arms, budget), dtype=dtype),
        partial(policy, dtype=dtype),
    )
