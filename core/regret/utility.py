"""What each of K mixtures of an actor and a regret policy is worth: utilities for the meta-learner.

Bin k plays pi_k = lambda_k * actor + (1 - lambda_k) * regret. All bins get their utility at once, whichever was played
(full information), less a baseline that is the same for all of them: were it a bin's own value, all would be 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.check import ShapeError, check_number, check_shape
from armfold.core.regret.match import check_rows
from armfold.core.regret.mix import entropy
from armfold.core.regret.output import BINS, Bins, check_bins
from armfold.core.regret.window import Window, window_init, window_mean, window_push
from armfold.core.types import Scalar, per_lane


class Moves(NamedTuple):
    """n decisions of each lane, and what came of them. Illegal entries are not looked at."""

    actor: Tensor  # [*B, n, A] float, probabilities: the actor's policy
    regret: Tensor  # [*B, n, A] float, probabilities: the regret policy
    legal: Tensor | None = None  # [*B, n, A] bool; None: all
    valid: Tensor | None = None  # [*B, n] bool: whether there was a decision, for rows that only fill up; None: all
    action: Tensor | None = None  # [*B, n] int64, in [0, A)
    propensity: Tensor | None = None  # [*B, n] float, in (0, 1]: probability of the action when it was chosen
    returns: Tensor | None = None  # [*B, n] float, reward unit: discounted, from the decision on
    values: Tensor | None = None  # [*B, n, A] float, reward unit: what a critic says of each action
    weights: Tensor | None = None  # [*B, n, K] float: probabilities of the bins when one was chosen; None: equal


class UtilityState(NamedTuple):
    """What is remembered of earlier moves."""

    returns: Window  # of [*B, W] returns, reward unit: their mean is the baseline of `immediate`
    advantages: Window  # of [*B, W, K] utilities, reward unit: their mean is what `advantage` gives


def utility_init(
    rng: Tensor,
    *,
    bins: int = 5,
    baseline_window: int = 100,
    advantage_window: int = 10,
    dtype: torch.dtype = torch.float32,
) -> UtilityState:
    """Nothing remembered, for each key in rng [*B, 2] and K = bins; the windows are of so many moves, >= 1."""
    return UtilityState(
        window_init(rng, window=baseline_window, dtype=dtype),
        window_init(rng, bins, window=advantage_window, dtype=dtype),
    )


def immediate(
    state: UtilityState, moves: Moves, *, bins: Bins = BINS, min_samples: int = 5
) -> tuple[UtilityState, Tensor]:
    """u_k = pi_k(action) / propensity * (return - baseline), [*B, n, K]: utilities from what was played.

    The baseline is the mean of the last returns before this call, 0 while they are fewer than min_samples. The ratio
    makes u_k an unbiased estimate of what bin k earns at this decision, less the baseline, provided that what it plays
    could have been played. NaN where the action is illegal or has no propensity. Needs action, propensity, returns.
    """
    action, propensity, returns = (_needed(moves, name) for name in ("action", "propensity", "returns"))
    actor, regret, lam = _check(state, moves, bins)
    possible = (action >= 0) & (action < actor.shape[-1]) & (propensity > 0)
    if moves.legal is not None:
        possible = possible & masked.take(moves.legal, action)
    baseline = window_mean(state.returns, min_samples=min_samples).unsqueeze(-1)
    scale = torch.where(possible, (returns - baseline) / propensity, torch.nan)
    a, r = masked.take(actor, action).unsqueeze(-1), masked.take(regret, action).unsqueeze(-1)
    seen, _ = window_push(state.returns, returns, moves.valid)
    return state._replace(returns=seen), (lam * a + (1 - lam) * r) * scale.unsqueeze(-1)


def advantage(state: UtilityState, moves: Moves, *, bins: Bins = BINS) -> tuple[UtilityState, Tensor]:
    """u_k = <pi_k, values> - sum over j of weights_j <pi_j, values>, [*B, n, K]: utilities from a critic.

    So u_k = (lambda_k - mean lambda) <actor - regret, values>, linear in lambda. Returned is the mean of the last W
    utilities of the lane, this one included; where decisions at unlike states share a lane, they blur one another
    unless W is 1. NaN where a legal value is. Needs values.
    """
    values = _needed(moves, "values")
    actor, regret, lam = _check(state, moves, bins)
    if moves.legal is not None:
        values = torch.where(moves.legal, values, 0)
    gap = ((actor - regret) * values).sum(-1, keepdim=True)
    weights = moves.weights
    mean = lam.mean(-1, keepdim=True) if weights is None else (weights * lam).sum(-1, keepdim=True)
    utility = (lam - mean) * gap
    seen, average = window_push(state.advantages, utility, moves.valid)
    return state._replace(advantages=seen), torch.where(torch.isfinite(gap), average, torch.nan)


def hybrid(
    state: UtilityState, moves: Moves, *, bins: Bins = BINS, min_samples: int = 5, weight: Scalar = 0.5
) -> tuple[UtilityState, Tensor]:
    """weight * `immediate` + (1 - weight) * `advantage`, [*B, n, K]; weight in [0, 1], a number or a tensor [*B]."""
    check_number("weight", weight, low=0.0, high=1.0)
    state, played = immediate(state, moves, bins=bins, min_samples=min_samples)
    state, judged = advantage(state, moves, bins=bins)
    share = per_lane(weight, judged.dtype, 2)
    return state, share * played + (1 - share) * judged


def _needed(moves: Moves, name: str) -> Tensor:
    given: Tensor | None = getattr(moves, name)
    if given is None:
        raise ValueError(f"moves must have {name} for this utility, got None")
    return given


def _check(state: UtilityState, moves: Moves, bins: Bins) -> tuple[Tensor, Tensor, Tensor]:
    """Both policies [*B, n, A], over what is legal, and lambda [K] or [*B, 1, K]."""
    actor = moves.actor
    check_rows("actor", actor, moves.legal)
    if actor.ndim != state.returns.filled.ndim + 2:
        raise ShapeError(f"actor must have shape {(*state.returns.filled.shape, 'n', 'A')}, got {tuple(actor.shape)}")
    rows, arms = (*state.returns.filled.shape, actor.shape[-2]), actor.shape[-1]
    number = state.advantages.recent.shape[-1]
    for name, given in moves._asdict().items():
        if given is not None:
            of = (arms,) if name in ("actor", "regret", "legal", "values") else (number,) if name == "weights" else ()
            check_shape(name, given, (*rows, *of))
    if not isinstance(bins, Tensor):
        check_bins(bins)
    lam = torch.as_tensor(bins, dtype=actor.dtype, device=actor.device)
    if lam.ndim > 1:
        lam = lam.unsqueeze(-2)
    check_shape("bins", lam, (*(rows[:-1] + (1,) if lam.ndim > 1 else ()), number))
    return _shares(actor, moves.legal), _shares(moves.regret, moves.legal), lam


def _shares(policy: Tensor, legal: Tensor | None) -> Tensor:
    """A policy scaled to what is legal; NaN where it plays nothing of that."""
    kept = policy if legal is None else torch.where(legal, policy, 0)
    return kept / kept.sum(-1, keepdim=True)


def discounted_returns(reward: Tensor, *, gamma: Scalar = 0.99, ended: Tensor | None = None) -> Tensor:
    """The discounted sum of rewards [*B, T] from each step on: [*B, T], in the reward's unit.

    gamma in [0, 1], a number or a tensor [*B]. ended bool [*B, T]: an episode ends with the step, and what comes after
    it does not count; None: not before T.
    """
    check_number("gamma", gamma, low=0.0, high=1.0)
    total, factor = reward, torch.ones_like(reward) * per_lane(gamma, reward.dtype)
    if ended is not None:
        check_shape("ended", ended, reward.shape)
        factor = torch.where(ended, 0, factor)
    span = 1
    while span < reward.shape[-1]:  # twice as many steps are summed each time
        total = total + torch.where(factor > 0, factor * _later(total, span), 0)
        factor = factor * _later(factor, span)
        span *= 2
    return total


def _later(x: Tensor, steps: int) -> Tensor:
    return torch.nn.functional.pad(x[..., steps:], (0, steps))


class EpisodeMetrics(NamedTuple):
    """How E episodes went: means over episodes, or over their moves."""

    returns: Tensor  # [*B] float, reward unit, of an episode; not discounted
    length: Tensor  # [*B] float, decisions of an episode
    lam_mean: Tensor  # [*B] float
    lam_std: Tensor  # [*B] float, of the decisions as the whole population
    entropy: Tensor  # [*B] float, nats, of the policy played


def episode_metrics(reward: Tensor, lam: Tensor, policy: Tensor, *, valid: Tensor | None = None) -> EpisodeMetrics:
    """Figures of E >= 1 episodes, reduced on the device: reward and lambda [*B, E, T], the policy [*B, E, T, A].

    valid bool [*B, E, T]: whether the episode had such a step, for episodes of fewer than T; None: all had.
    """
    if policy.ndim < 3 or policy.shape[-3] == 0:
        raise ShapeError(f"policy must have shape (*B, E, T, A) with E >= 1, got {tuple(policy.shape)}")
    valid = torch.ones_like(lam, dtype=torch.bool) if valid is None else valid
    for name, given in (("reward", reward), ("lam", lam), ("valid", valid)):
        check_shape(name, given, policy.shape[:-1])
    episodes, steps = policy.shape[-3], valid.sum((-2, -1))

    def total(x: Tensor) -> Tensor:
        return torch.where(valid, x, 0).sum((-2, -1))

    lam_mean = total(lam) / steps.clamp(min=1)
    return EpisodeMetrics(
        returns=total(reward) / episodes,
        length=steps / episodes,
        lam_mean=lam_mean,
        lam_std=torch.sqrt(total((lam - lam_mean[..., None, None]) ** 2) / steps.clamp(min=1)),
        entropy=total(entropy(policy)) / steps.clamp(min=1),
    )
