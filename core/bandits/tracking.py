"""The best arm with a given confidence: track the best allocation of plays, and stop once the evidence is enough."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked
from armfold.core.bandits import arms as _arms
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane

_TINY = 1e-30
_NEWTON_STEPS = 3


class State(NamedTuple):
    """`arms.State`, and the answer once there is one."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    reward_sum: Tensor  # [*B, K] float64, reward unit
    stopped_arm: Tensor  # [*B] int64, the arm recommended when the rule stopped; -1 before


def init(rng: Tensor, *, arms: int) -> State:
    """No plays and no answer, for each key in rng [*B, 2]."""
    pulls, reward_sum = _arms.init(rng, arms=arms)
    return State(pulls, reward_sum, torch.full(pulls.shape[:-1], -1, dtype=torch.int64, device=pulls.device))


def _means(state: State, dtype: torch.dtype) -> Tensor:
    return _arms.mean(_arms.State(*state[:2]), dtype).clamp(0, 1)


def _shortfall(p: Tensor, moved: Tensor, gap: Tensor) -> Tensor:
    """gap - p log(moved / p) >= 0 for moved = p + gap: half of a divergence, where nothing cancels for small gaps."""
    p, moved = p.clamp(min=_TINY), moved.clamp(min=_TINY)
    u = gap / (p + moved)  # log(moved / p) = 2 atanh(u)
    square = u * u
    near = u * (gap - 2 * p * square * (1 / 3 + square * (1 / 5 + square * (1 / 7))))
    return torch.where(square < 1 / 256, near, gap - p * torch.log(moved / p))


def _meet(top: Tensor, delta: Tensor, share: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """KL(top, m) and KL(top - delta, m) at m = top - share delta, then m and 1 - m; share + rest = 1."""
    complement, down, up = 1 - top, share * delta, rest * delta
    low, low_complement = top - delta, complement + delta
    m, m_complement = low + up, complement + down
    upper = _shortfall(top, m, -down) + _shortfall(complement, m_complement, down)
    lower = _shortfall(low, m, up) + _shortfall(low_complement, m_complement, -up)
    return upper, lower, m, m_complement


def _newton(q: Tensor, inverse: Tensor, inverse_slope: Tensor, ratio: Tensor, ratio_slope: Tensor) -> Tensor:
    """One step of Newton's method for: inverse_a(q_a) is one v for all a, and sum_a ratio_a(q_a) is 1.

    Taken as ||ratio||^-1/2 = 1, both are linear in (q, v) for Gaussian arms, and nearly so for others.
    """
    total, pull = ratio.sum(-1, keepdim=True), ratio_slope / inverse_slope
    v = (2 * total * (1 - torch.sqrt(total)) + (pull * inverse).sum(-1, keepdim=True)) / pull.sum(-1, keepdim=True)
    return torch.maximum(q + (v - inverse) / inverse_slope, 0.25 * q)


def optimal_weights(mean: Tensor) -> Tensor:
    """The shares of plays that tell the best of Bernoulli arms soonest, [*B, K] for mean [*B, K] in [0, 1].

    With d = KL, x_a = w_a / w_best and m_a between the means of the best arm and arm a as their plays weigh them:
    d(best, m_a) + x_a d(a, m_a) is the same for all a, and sum_a d(best, m_a) / d(a, m_a) = 1 (Garivier and Kaufmann
    2016, theorem 5). Newton's method on q_a = 1 / x_a, from the solution for Gaussian arms. Where arms tie for the
    best, the first of them is it and the others lie an epsilon below: one of the solutions there.
    """
    eps = torch.finfo(mean.dtype).eps
    top = mean.amax(-1, keepdim=True).clamp(min=8 * eps)
    best = masked.one_hot(mean.argmax(-1), mean.shape[-1])
    delta = (top - mean).clamp(min=eps)
    delta = torch.where(best, torch.where(best, torch.inf, delta).amin(-1, keepdim=True), delta)  # a stand-in
    others = (~best).to(mean.dtype)
    middle = top - 0.5 * delta
    cost = delta * delta / (2 * middle * (1 - middle))
    q = 2 * cost / cost.amin(-1, keepdim=True) - 1
    q = _newton(q, (1 + q) / cost, 1 / cost, others / (q * q), -2 * others / (q * q * q))
    for _ in range(_NEWTON_STEPS):
        share = 1 / (1 + q)
        rest = q * share
        upper, lower, m, m_complement = _meet(top, delta, share, rest)
        inverse, ratio = 1 / (upper + lower / q), upper / lower
        moved = share * share * delta * delta / (m * m_complement)  # of share and rest of the divergences, for dq
        ratio_slope = -moved * (share + ratio * rest) / lower
        q = _newton(q, inverse, lower * (inverse / q) * (inverse / q), others * ratio, others * ratio_slope)
    weight = torch.where(best, 1, 1 / q)
    return weight / weight.sum(-1, keepdim=True)


def evidence(state: State, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nats [*B] of evidence that the best mean so far is of the best arm: the least, over other arms, log of how much
    likelier the rewards are with these two arms' means as they are than with both the same."""
    mean, pulls = _means(state, dtype), state.pulls.to(dtype)
    best = masked.one_hot(mean.argmax(-1), mean.shape[-1])
    most = torch.where(best, pulls, 0).sum(-1, keepdim=True)
    share = pulls / (pulls + most).clamp(min=1)
    top = mean.amax(-1, keepdim=True)
    upper, lower, _, _ = _meet(top, top - mean, share, 1 - share)
    return torch.where(best, torch.inf, most * upper + pulls * lower).amin(-1)


def threshold(state: State, *, delta: Scalar, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nats [*B] of `evidence` to stop at: ln(2 t (K - 1) / delta) after t plays."""
    played = (_arms.time(_arms.State(*state[:2]), dtype) - 1).clamp(min=1)
    return torch.log(2 * (state.pulls.shape[-1] - 1) * played / per_lane(delta, dtype)).squeeze(-1)


def confidence(state: State, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The 1 - delta [*B], in [0, 1), up to which the rule would stop now. It may fall again after a stop."""
    error = torch.exp(threshold(state, delta=1.0, dtype=dtype) - evidence(state, dtype=dtype))
    return (1 - error).clamp(0, 1 - torch.finfo(dtype).eps)


def recommend(state: State) -> Tensor:
    """The best arm as far as is known: int64 [*B]. Where the rule stopped, the arm it stopped with; else the best mean,
    the first of ties."""
    return torch.where(state.stopped_arm >= 0, state.stopped_arm, _means(state, torch.float64).argmax(-1))


def stopped(state: State) -> Tensor:
    """Bool [*B]: the rule has held after some step. From then on the recommendation stays."""
    return state.stopped_arm >= 0


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    delta: Scalar = 0.05,
    dtype: torch.dtype = torch.float32,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """`arms.update`, then the rule: stop where the evidence is above the threshold."""
    plain = _arms.update(_arms.State(*state[:2]), rng, obs, action, reward, available=available)
    learned = State(*plain, state.stopped_arm)
    enough = evidence(learned, dtype=dtype) > threshold(learned, delta=delta, dtype=dtype)
    stops = enough & _arms.chosen(state.pulls, action, reward).any(-1)
    return learned._replace(stopped_arm=torch.where(stops, recommend(learned), state.stopped_arm))


def tracking_index(state: State, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Share of plays that is due less the share had, [*B, K]; above all of these, arms with fewer than
    sqrt(t) - K / 2 plays, the fewest first. Once stopped, the mean, and +inf for the arm recommended."""
    mean, pulls = _means(state, dtype), state.pulls.to(dtype)
    played = pulls.sum(-1, keepdim=True).clamp(min=1)
    root = torch.sqrt(played)
    starved = (pulls < root - 0.5 * pulls.shape[-1]) | (state.pulls == 0)
    index = torch.where(starved, 2 - pulls / root, optimal_weights(mean) - pulls / played)
    answer = masked.one_hot(state.stopped_arm, pulls.shape[-1])
    return torch.where((state.stopped_arm >= 0).unsqueeze(-1), torch.where(answer, torch.inf, mean), index)


def track_and_stop(*, arms: int, delta: Scalar = 0.05, dtype: torch.dtype = torch.float32) -> Bandit:
    """Track-and-Stop: play in the shares that tell the best arm soonest, until it is known with confidence 1 - delta.

    arms: K >= 2. delta in (0, 1]: a number or a tensor [*B]. Rewards in [0, 1]. Raises ValueError for values outside.
    Each step plays the arm furthest behind `optimal_weights` of the means (D-tracking), but first any arm with fewer
    than sqrt(t) - K / 2 plays, or none. After t plays Chernoff's rule stops where `evidence` > ln(2 t (K - 1) / delta).
    For Bernoulli rewards, and however arms were chosen, the chance that it ever stops with another arm than the best
    is then at most delta. From there on the arm it stopped with is played. See `stopped`, `recommend`, `confidence`.
    Source: Garivier and Kaufmann 2016, section 3.1 (D-tracking), theorem 10 (threshold).
    """
    check_size("arms", arms, low=2)
    check_number("delta", delta, low=0.0, high=1.0, open_low=True)
    index = partial(tracking_index, dtype=dtype)
    return Bandit(
        partial(init, arms=arms),
        partial(_arms.select, index=index),
        partial(update, delta=delta, dtype=dtype),
        partial(_arms.policy, index=index),
    )
