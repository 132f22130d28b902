"""Bernoulli arms that pay late. Rewards 0 and 1."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.check import check_size
from armfold.core.envs import coins
from armfold.core.envs.arms import coin
from armfold.core.types import BanditEnv


class State(NamedTuple):
    """The arms of each lane, and the rewards on their way."""

    p: Tensor  # [*B, K] float32, probability of a reward of 1
    pending: Tensor  # [*B, delay] float32, reward unit: a ring of rewards earned and not yet paid
    slot: Tensor  # [*B] int64, in [0, delay): what is paid next


def init(rng: Tensor, *, start: Callable[..., coins.State], delay: int) -> State:
    """The arms that `start` gives, and nothing earned, for each lane of rng [*B, 2]."""
    p = start(rng).p
    batch = p.shape[:-1]
    slot = torch.zeros(batch, dtype=torch.int64, device=p.device)
    return State(p, torch.zeros((*batch, delay), dtype=p.dtype, device=p.device), slot)


def observe(state: State) -> None:
    """No context."""
    return None


def means(state: State) -> Tensor:
    """Expected rewards of arms pulled now, [*B, K], which will be paid `delay` steps later."""
    return state.p.clone()


def pull(state: State, rng: Tensor, action: Tensor, *, delay: int) -> tuple[State, Tensor]:
    """The reward of the arm pulled `delay` steps ago, 0 before there is one; the coin of this pull will follow."""
    earned = coin(rng, state.p, action)
    if delay == 0:
        return state, earned
    paid = masked.take(state.pending, state.slot)
    return State(state.p, masked.put(state.pending, state.slot, earned), (state.slot + 1) % delay), paid


def delayed(*, p: Sequence[float] | Tensor | None = None, arms: int | None = None, delay: int = 100) -> BanditEnv:
    """Bernoulli arms that stay and pay late: a reward comes `delay` steps after the pull that earned it.

    p: K >= 2 probabilities, or a tensor [K] or [*B, K]; or arms: K, drawn from U(0, 1) for each lane. delay >= 0: in
    steps; the first `delay` pulls are paid 0, and those with actions outside [0, K) earn NaN. `bandits.with_delay`
    makes learners that know whose reward it is. Raises ValueError for values outside.
    Source: Joulani, Gyorgy and Szepesvari 2013; Chapelle and Li 2011, section 3.
    """
    check_size("delay", delay, low=0)
    return BanditEnv(partial(init, start=coins.start(p, arms), delay=delay), observe, means, partial(pull, delay=delay))
