"""ARMAC on tables: two learners at every infoset of both players, mixed by lambda, lanes of solvers in lockstep.

Gruslys et al. 2020 (ARMAC), with values in place of a critic: exact ones, noisy ones, or sampled ones. They are
counterfactual, what an action is worth times the chance that the others let it be played, as the proof for whole games
wants it, and as sampled play weighs them by itself. Players learn one after the other, as in `solve`: with lambda 0 the
iterates are those of CFR+, or of CFR with `floor` -inf and `gamma` 0. Lanes come last here; keys of random numbers and
networks have them first, as everywhere.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key
from armfold.core.games import sequence
from armfold.core.games.infosets import Infosets, Tables, to_sequences, to_table, trailing
from armfold.core.games.learners import (
    VARIANTS,
    Learners,
    Variant,
    advantage,
    check_variant,
    fresh,
    learn,
    mix,
    target,
)
from armfold.core.games.sample import estimate
from armfold.core.games.sums import row_sum
from armfold.core.nn import Mlp
from armfold.core.optim import Optimiser
from armfold.core.regret.mix import entropy
from armfold.core.regret.output import BINS, Bins, check_bins, output_to_lambda
from armfold.core.regret.scheduler import scheduler_apply, scheduler_optimiser, scheduler_step
from armfold.core.types import Scalar, per_lane


class Scheduler(NamedTuple):
    """A network for each lane that says lambda at any infoset, and what its optimiser keeps."""

    params: Mlp
    optimiser: Any


class State(NamedTuple):
    """Solvers between two iterations."""

    learners: tuple[Learners, Learners]  # of the first player and of the second
    average: Tensor  # [S, *B] float: weighted sum of the mixtures' realisation plans
    bins: Tensor  # [K] float, ascending in [0, 1]: the values of lambda that are learned about
    scheduler: Scheduler | None
    iteration: Tensor  # [] int64: iterations done


class Stats(NamedTuple):
    """What an iteration saw, of the policies that were played in it."""

    value: Tensor  # [I, A, *B] float, payoff: counterfactual values as the learners were told; 0 where illegal
    advantage: Tensor  # [I, *B] float, payoff: what the actor would have earned more than the regret learner
    kl: Tensor | None  # [*B] float, nats: KL(meta-learner || scheduler), mean over infosets; None without a scheduler


def scheduler_features(tables: Tables) -> int:
    """How many numbers a scheduler reads: those of `Infosets.features`, and four that say how far learning is."""
    return tables.players[0].features.shape[1] + 4


def tabular_optimiser(lanes: int) -> Optimiser:
    """What steps a scheduler unless told otherwise: Adam at 0.01 / sqrt(1 + steps), of clipped gradients, for
    parameters with `lanes` dimensions [*B]. A rate that stayed would keep the players from settling."""
    return scheduler_optimiser(rate=_rate, lanes=lanes)


def _rate(steps: Tensor) -> Tensor:
    return 0.01 * (1 + steps.to(torch.float64)).rsqrt()


def init(
    tables: Tables,
    batch: Sequence[int] = (),
    *,
    bins: Bins = BINS,
    params: Mlp | None = None,
    optimiser: Optimiser | None = None,
    dtype: torch.dtype = torch.float64,
) -> State:
    """`batch` solvers that have seen nothing, whose learners play uniformly.

    bins: K values of lambda that ascend in [0, 1]; a tensor is [K]. params: for a scheduler, from
    `regret.scheduler_init` with `scheduler_features(tables)` features, lanes [*B] as in `batch`, and these bins.
    optimiser: what steps it, here and in `step`; None: `tabular_optimiser`. Raises ValueError for other bins.
    """
    check_bins(bins)
    if isinstance(bins, Tensor) and bins.ndim > 1:
        raise ShapeError(f"bins must have shape (K,), got {tuple(bins.shape)}")
    shape, device = tuple(batch), tables.tree.slot.device
    kept = torch.as_tensor(bins, dtype=dtype, device=device).clone()
    scheduler = None
    if params is not None:
        scheduler = Scheduler(params, (optimiser or tabular_optimiser(len(shape))).init(params))
    first, second = (fresh(own, shape, kept) for own in tables.players)
    average = torch.zeros((len(tables.tree.slot), *shape), dtype=dtype, device=device)
    return State((first, second), average, kept, scheduler, torch.zeros((), dtype=torch.int64, device=device))


def step(
    tables: Tables,
    state: State,
    rng: Tensor | None = None,
    *,
    variant: str | Variant = "meta",
    optimiser: Optimiser | None = None,
) -> tuple[State, Stats]:
    """One iteration of every solver: the first player learns against the second, then the second against him.

    rng: keys [*B, 2] of this iteration; None where the variant draws nothing. A scheduler learns at both updates,
    whether lambda is its own or not. Raises ValueError for numbers out of range, an unknown variant, keys that are
    missing, and `learned` without a scheduler; ShapeError for tensors of other lanes.
    """
    v, bins = _variant(variant), state.bins
    _check(v, state, rng)
    t = (state.iteration + 1).to(state.average.dtype)
    both, scheduler = list(state.learners), state.scheduler
    policies = [to_sequences(own, before.policy) for own, before in zip(tables.players, both)]
    plans = [sequence.plan(own.side, policy) for own, policy in zip(tables.players, policies)]
    average = state.average + t ** per_lane(v.gamma, t.dtype, 0) * torch.cat(plans)
    values, gaps, losses = [], [], []
    for i, own in enumerate(tables.players):
        key = None if rng is None else random.fold_in(rng, i)
        values.append(_value(tables, i, policies, key, v))
        gaps.append(advantage(both[i], values[i]))
        after = learn(own, both[i], values[i], v, bins)
        if scheduler is not None:
            scheduler, loss = _train(own, after, scheduler, t, bins, optimiser)
            losses.append(loss)
        both[i] = mix(own, after, _lambda(own, after, scheduler, t, key, v, bins))
        policies[i] = to_sequences(own, both[i].policy)
    stats = Stats(torch.cat(values), torch.cat(gaps), torch.stack(losses).mean(0) if losses else None)
    return State((both[0], both[1]), average, bins, scheduler, state.iteration + 1), stats


def _variant(variant: str | Variant) -> Variant:
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: known are {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def _given(tunable: Scalar) -> bool:
    return isinstance(tunable, Tensor) or tunable != 0


def _check(v: Variant, state: State, rng: Tensor | None) -> None:
    batch = tuple(state.average.shape[1:])
    check_variant(v, batch)
    if rng is not None:
        check_key(rng, batch)
    elif _given(v.noise) or _given(v.random) or v.traversals:
        raise ValueError("rng must be keys [*B, 2] for a variant with noise, random or traversals, got None")
    if state.scheduler is None and _given(v.learned):
        raise ValueError("params of a scheduler must be given to init for a variant with learned, got None")


def _value(tables: Tables, player: int, policies: list[Tensor], key: Tensor | None, v: Variant) -> Tensor:
    """Counterfactual values [I_i, A, *B] as a player's learners are told, from both policies [S_i, *B]."""
    own, other = tables.players[player], tables.players[1 - player]
    plan = sequence.plan(other.side, policies[1 - player])
    if key is not None and v.traversals:
        keys = random.split(random.fold_in(key, 1), v.traversals)
        sums, _ = estimate(tables.tree, tables.paths[player], torch.cat(policies), keys, player=player)
        value = to_table(own, sums.sequence / v.traversals)
    else:
        value = to_table(own, sequence.values(own.side, policies[player], plan).sequence)
    if key is None or not _given(v.noise):
        return value
    drawn = random.normal(random.fold_in(key, 0), (own.legal.numel(),)).movedim(-1, 0).reshape(value.shape)
    weight = per_lane(v.noise, value.dtype, 0) * row_sum(own.reach, plan)
    return torch.where(trailing(own.legal, value), value + weight.unsqueeze(1) * drawn.to(value.dtype), 0)


def _lambda(
    own: Infosets, after: Learners, scheduler: Scheduler | None, t: Tensor, key: Tensor | None, v: Variant, bins: Tensor
) -> Tensor:
    """Lambda [I_i, *B] after t iterations."""
    start, end, rate = (per_lane(x, t.dtype, 0) for x in (v.start, v.end, v.rate))
    base = end + (start - end) / (1 + rate * t)
    lam = torch.zeros_like(after.lam) + base
    if key is not None and _given(v.random):
        drawn = random.uniform(random.fold_in(key, 2), lam.shape[:1], dtype=t.dtype).movedim(-1, 0)
        lam = lam + per_lane(v.random, t.dtype, 0) * (drawn - base)
    if _given(v.meta):
        lam = lam + per_lane(v.meta, t.dtype, 0) * (after.said.index_select(0, own.key) - base)
    if scheduler is not None and _given(v.learned):
        x = _inputs(own, after, scheduler, t)
        out = scheduler_apply(scheduler.params, x, t.to(torch.int64), bins=bins, warmup=0)
        said = output_to_lambda(out, bins=bins).movedim(-1, 0).to(t.dtype)
        lam = lam + per_lane(v.learned, t.dtype, 0) * (said - base)
    return lam.clamp(0, 1)


def _inputs(own: Infosets, after: Learners, scheduler: Scheduler, t: Tensor) -> Tensor:
    """What a scheduler reads, [*B, I_i, F]: what the player knows, how sure his learners are and how far apart, and
    how long they have learned."""
    actor, matched = after.actor.movedim(1, -1), after.matched.movedim(1, -1)
    most = math.log(max(2, actor.shape[-1]))
    apart = (actor - matched).abs().sum(-1) / 2
    progress = (entropy(actor) / most, entropy(matched) / most, apart, torch.log(t).expand(apart.shape) / 10)
    moving = torch.stack(progress, -1).movedim(0, -2)
    known = own.features.to(moving.dtype).expand(*moving.shape[:-1], own.features.shape[1])
    return torch.cat((known, moving), -1).to(scheduler.params.biases[0].dtype)


def _train(
    own: Infosets, after: Learners, scheduler: Scheduler, t: Tensor, bins: Tensor, optimiser: Optimiser | None
) -> tuple[Scheduler, Tensor]:
    """One step towards the meta-learner's law at a player's infosets, and how far from it the scheduler was, [*B]."""
    x = _inputs(own, after, scheduler, t)
    wanted = target(own, after).movedim(0, -2).to(x.dtype)
    optimiser = optimiser or tabular_optimiser(x.ndim - 2)
    params, kept, seen = scheduler_step(
        scheduler.params, scheduler.optimiser, x, wanted, optimiser=optimiser, bins=bins
    )
    return Scheduler(params, kept), seen.kl


def average_policy(tables: Tables, state: State) -> Tensor:
    """The average mixture [I, A, *B], which converges; uniform where it never comes."""
    return sequence.to_table(tables.tree, sequence.match_both(tables.tree, state.average))


def last_policy(state: State) -> Tensor:
    """The mixture [I, A, *B] that is played next."""
    return torch.cat([learners.policy for learners in state.learners])
