"""A learner that tests each arm for a change of its mean, and starts again where it finds one. Rewards in [0, 1]."""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, special
from armfold.core.bandits import arms as _arms
from armfold.core.bandits.greedy import explore_or_exploit, explore_or_exploit_law
from armfold.core.check import check_number, check_size
from armfold.core.types import Bandit, Scalar, per_lane


class State(NamedTuple):
    """What was seen of each arm since its last restart."""

    pulls: Tensor  # [*B, K] int64, plays; saturates at 2**63 - 1
    reward_sum: Tensor  # [*B, K] float64, reward unit
    age: Tensor  # [*B, K] int64, steps, whichever arm they played
    past_sum: Tensor  # [*B, K, W] float64, reward unit: ring, reward_sum after play s of the arm at slot (s - 1) % W


def init(rng: Tensor, *, arms: int, window: int) -> State:
    """No plays, for each key in rng [*B, 2]."""
    pulls, reward_sum = _arms.init(rng, arms=arms)
    ring = torch.zeros((*pulls.shape, window), dtype=torch.float64, device=rng.device)
    return State(pulls, reward_sum, torch.zeros_like(pulls), ring)


def glr_statistic(past_sum: Tensor, plays: Tensor, total: Tensor) -> Tensor:
    """Log of the generalised likelihood ratio of a change of mean to none, [*B] float64, in nats.

    past_sum [*B, W]: sums of the first s rewards at slot (s - 1) % W, for the last W values of s < plays; plays
    int64 [*B]; total float64 [*B], the sum of all. The largest over those s of
    s KL(mean of the first s, mean) + (plays - s) KL(mean of the rest, mean), and 0 for fewer than two plays.
    """
    window = past_sum.shape[-1]
    slot = torch.arange(window, device=plays.device)
    plays, total = plays.unsqueeze(-1), total.unsqueeze(-1)
    first = plays - 1 - (plays - 2 - slot) % window
    split = first >= 1
    n, rest = first.clamp(min=1).to(torch.float64), (plays - first).to(torch.float64)
    # 2**-50 off the ends: where all rewards are 0, or 1, each KL is 0 all the same, or that much.
    mean = (total / plays.clamp(min=1)).clamp(2**-50, 1 - 2**-50)
    before = n * special.bernoulli_kl((past_sum / n).clamp(0, 1), mean)
    after = rest * special.bernoulli_kl(((total - past_sum) / rest).clamp(0, 1), mean)
    return torch.where(split, before + after, 0).amax(-1)


def glr_threshold(plays: Tensor, delta: Scalar) -> Tensor:
    """ln(3 n^(3/2) / delta), [*B] float64, in nats: what the authors use in practice for plays n [*B]."""
    return torch.log(3 * plays.to(torch.float64) ** 1.5 / per_lane(delta, torch.float64, 0))


def update(
    state: State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    delta: Scalar = 0.01,
    restart: Literal["global", "local"] = "global",
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> State:
    """One play counted, and a restart where its arm has changed: action int64 [*B], reward float [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    arms, window = state.past_sum.shape[-2:]
    played = _arms.chosen(state.pulls, action, reward)
    learned = played.any(-1)
    pulls = _arms.add_pull(state.pulls, played)
    reward_sum = _arms.add_reward(state.reward_sum, played, reward)
    age = _arms.add_pull(state.age, learned.unsqueeze(-1))
    plays, total = (torch.where(played, each, 0).sum(-1) for each in (pulls, reward_sum))
    statistic = glr_statistic(masked.take(state.past_sum, action), plays, total)
    changed = (learned & (statistic >= glr_threshold(plays.clamp(min=1), delta))).unsqueeze(-1)
    if restart == "local":
        changed = changed & played
    ring = state.past_sum.flatten(-2)
    at = action.clamp(0, arms - 1) * window + (plays - 1) % window
    ring = masked.put(ring, at, torch.where(learned, total, masked.take(ring, at)))
    # The ring needs no clearing: its slots are read up to the plays since the restart.
    pulls, reward_sum, age = (torch.where(changed, 0, each) for each in (pulls, reward_sum, age))
    return State(pulls, reward_sum, age, ring.reshape(state.past_sum.shape))


def glr_kl_ucb_index(state: State, *, c: Scalar = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """`kl_ucb_index` with the plays, rewards and steps since each arm's restart, [*B, K]; +inf for unplayed arms."""
    plain = _arms.State(*state[:2])
    log_time = torch.log(1 + state.age.to(dtype))
    budget = (log_time + per_lane(c, dtype) * torch.log(log_time.clamp(min=1))) / _arms.plays(plain, dtype)
    return _arms.unplayed_first(plain, special.kl_upper(_arms.mean(plain, dtype).clamp(0, 1), budget))


def select(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    alpha: Scalar = 0.01,
    c: Scalar = 0.0,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
) -> Tensor:
    """A uniform arm with probability alpha, otherwise the arm of largest index: int64 [*B]."""
    _arms.check_select(state.pulls, rng, obs, available)
    index = glr_kl_ucb_index(state, c=c, dtype=dtype)
    return explore_or_exploit(index, rng, per_lane(alpha, dtype, 0), available)


def policy(
    state: State,
    rng: Tensor,
    obs: Tensor | None = None,
    *,
    alpha: Scalar = 0.01,
    c: Scalar = 0.0,
    dtype: torch.dtype = torch.float32,
    available: Tensor | None = None,
    samples: int | None = None,
) -> Tensor:
    """Exact law of `select`, [*B, K]. `samples` is not used."""
    _arms.check_select(state.pulls, rng, obs, available)
    index = glr_kl_ucb_index(state, c=c, dtype=dtype)
    return explore_or_exploit_law(index, alpha, available)


def glr_kl_ucb(
    *,
    arms: int,
    delta: Scalar = 0.01,
    alpha: Scalar = 0.01,
    c: Scalar = 0.0,
    window: int = 200,
    restart: Literal["global", "local"] = "global",
    dtype: torch.dtype = torch.float32,
) -> Bandit:
    """GLR-klUCB: KL-UCB that restarts when a likelihood ratio test finds a change in the arm just played.

    arms: K >= 2. delta in (0, 1]: the rate of false alarms wanted. alpha in [0, 1]: of steps that explore, with a
    uniform arm (the paper takes turns). c >= 0 weighs ln ln t (3 in the proof). Each a number or a tensor [*B].
    window: an int >= 1: the test looks for changes within the last `window` plays of the arm; a step costs as much.
    restart: "global" forgets all arms, "local" the changed one. Rewards in [0, 1]. Raises ValueError for others.
    Source: Besson, Kaufmann, Maillard and Seznec 2022, algorithm 1.
    """
    check_size("arms", arms, low=2)
    check_number("delta", delta, low=0.0, high=1.0, open_low=True)
    check_number("alpha", alpha, low=0.0, high=1.0)
    check_number("c", c, low=0.0)
    check_size("window", window)
    if restart not in ("global", "local"):
        raise ValueError(f"restart must be 'global' or 'local', got {restart!r}")
    return Bandit(
        partial(init, arms=arms, window=window),
        partial(select, alpha=alpha, c=c, dtype=dtype),
        partial(update, delta=delta, restart=restart),
        partial(policy, alpha=alpha, c=c, dtype=dtype),
    )
