"""Play the best mean so far, but explore with a small probability. Any reward unit."""

from functools import partial

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.arms import State
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane


def exploration(pulls: Tensor, *, epsilon: Scalar, decay: Scalar, dtype: torch.dtype) -> Tensor:
    """Probability [*B] of exploring at this step, min(1, epsilon / t^decay), after the plays `pulls` [*B, K]."""
    time = 1 + pulls.to(dtype).sum(-1)
    epsilon, decay = per_lane(epsilon, dtype, 0), per_lane(decay, dtype, 0)
    return (epsilon * torch.exp(-decay * torch.log(time))).clamp(max=1)


def explore_or_exploit(value: Tensor, rng: Tensor, explore: Scalar, available: Tensor | None) -> Tensor:
    """Any usable arm with probability explore, a number or [*B], else one of largest value [*B, K]: int64 [*B]."""
    greedy = masked.argmax(value, random.fold_in(rng, 0), available)
    any_arm = masked.argmax(0 * value.clamp(-1, 1), random.fold_in(rng, 1), available)  # NaN stays NaN: never chosen
    return torch.where(random.bernoulli(random.fold_in(rng, 2), explore), any_arm, greedy)


def explore_or_exploit_law(value: Tensor, explore: Scalar, available: Tensor | None) -> Tensor:
    """Exact law of `explore_or_exploit`, [*B, K]."""
    any_arm = masked.argmax_probs(0 * value.clamp(-1, 1), available)
    explore = per_lane(explore, value.dtype)
    return explore * any_arm + (1 - explore) * masked.argmax_probs(value, available)


def select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    epsilon: Scalar = 0.1,
    decay: Scalar = 0.0,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
) -> Tensor:
    """A uniform arm with probability `exploration`, otherwise the best mean, unplayed arms first: int64 [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    value = _arms.unplayed_first(state, _arms.mean(state, dtype))
    return explore_or_exploit(
        value, rng, exploration(state.pulls, epsilon=epsilon, decay=decay, dtype=dtype), available
    )


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    epsilon: Scalar = 0.1,
    decay: Scalar = 0.0,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]. `samples` is not used."""
    _arms.check_select(state.pulls, rng, obs, available)
    value = _arms.unplayed_first(state, _arms.mean(state, dtype))
    return explore_or_exploit_law(value, exploration(state.pulls, epsilon=epsilon, decay=decay, dtype=dtype), available)


def epsilon_greedy(
    *, arms: int, epsilon: Scalar = 0.1, decay: Scalar = 0.0, dtype: torch.dtype = torch.float32
) -> Bandit:
    """Epsilon-greedy: explore with probability min(1, epsilon / t^decay).

    arms: K >= 2. epsilon in [0, 1]; decay >= 0 (0 keeps epsilon constant); each a number or a tensor [*B].
    Raises ValueError for values outside. Source: Sutton and Barto 2018, section 2.2; Auer et al. 2002, figure 3.
    """
    check_size("arms", arms, low=2)
    check_number("epsilon", epsilon, low=0.0, high=1.0)
    check_number("decay", decay, low=0.0)
    return Bandit(
        partial(_arms.init, arms=arms),
        partial(select, epsilon=epsilon, decay=decay, dtype=dtype),
        _arms.update,
        partial(policy, epsilon=epsilon, decay=decay, dtype=dtype),
    )
