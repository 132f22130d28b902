"""Bernoulli arms that change all at once, and stay in between. Rewards 0 and 1."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key, check_number, check_size, check_values
from armfold.core.envs.arms import coin
from armfold.core.types import BanditEnv, Scalar, per_lane


class State(NamedTuple):
    """The arms of each lane, and how long they have been so."""

    p: Tensor  # [*B, K] float32, probability of a reward of 1
    phase: Tensor  # [*B] int64, changes so far
    age: Tensor  # [*B] int64, steps since the last change


def init(rng: Tensor, *, arms: int, table: Tensor | None) -> State:
    """The arms of the first phase, for each lane of rng [*B, 2]: table[0], or drawn where there is no table."""
    check_key(rng)
    batch = rng.shape[:-1]
    p = random.uniform(rng, (arms,)) if table is None else table[0].expand(*batch, arms).clone()
    return State(p, *(torch.zeros(batch, dtype=torch.int64, device=rng.device) for _ in range(2)))


def observe(state: State) -> None:
    """No context."""
    return None


def means(state: State) -> Tensor:
    """Expected rewards now, [*B, K]."""
    return state.p.clone()


def pull(
    state: State, rng: Tensor, action: Tensor, *, table: Tensor | None, period: int, hazard: Scalar | None
) -> tuple[State, Tensor]:
    """A coin of the pulled arm; then the next phase, where this one is over."""
    check_key(rng, state.p.shape[:-1])
    reward = coin(random.fold_in(rng, 0), state.p, action)
    if hazard is None:
        over = state.age + 1 >= period
    else:
        over = random.bernoulli(random.fold_in(rng, 1), per_lane(hazard, torch.float32, 0))
    phase = state.phase + over
    if table is None:
        fresh = random.uniform(random.fold_in(rng, 2), state.p.shape[-1:])
        p = torch.where(over.unsqueeze(-1), fresh, state.p)
    else:
        p = table[(phase % table.shape[0]).unsqueeze(-1)].squeeze(-2)  # no 0-dim index: it would be read on the host
    return State(p, phase, torch.where(over, 0, state.age + 1)), reward


def _table(p: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """The probabilities of every phase, float32 [phases, K]."""
    if not isinstance(p, Tensor):
        try:
            p = torch.tensor(p, dtype=torch.float32)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"p must be numbers [phases, K], got {p!r} ({error})") from error
    if p.ndim != 2 or p.shape[0] == 0 or p.shape[1] < 2 or not p.is_floating_point():
        raise ShapeError(f"p must be floating [phases, K] with K >= 2, got {p.dtype} {tuple(p.shape)}")
    check_values("p", p, low=0, high=1)
    return p.to(torch.float32)


def abrupt(
    *,
    p: Sequence[Sequence[float]] | Tensor | None = None,
    arms: int | None = None,
    period: int = 1000,
    hazard: Scalar | None = None,
) -> BanditEnv:
    """Bernoulli arms that change abruptly, every `period` steps or with probability `hazard` a step.

    arms: K >= 2, each phase drawn from U(0, 1) for each lane; or p: the probabilities [phases, K] of the phases, gone
    through in turn, again and again. period >= 1: steps of a phase. hazard in [0, 1], a number or a tensor [*B]:
    where it is given, phases end at random instead, after 1 / hazard steps on average. Raises ValueError for values
    outside. Source: Garivier and Moulines 2011, section 6.
    """
    check_size("period", period)
    if hazard is not None:
        check_number("hazard", hazard, low=0.0, high=1.0)
    table = None
    if p is not None and arms is None:
        table = _table(p)
        arms = table.shape[1]
    elif p is not None or arms is None:
        raise ValueError(f"give either p or arms, got p={p!r}, arms={arms!r}")
    check_size("arms", arms, low=2)
    return BanditEnv(
        partial(init, arms=arms, table=table),
        observe,
        means,
        partial(pull, table=table, period=period, hazard=hazard),
    )
