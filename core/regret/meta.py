"""Regret matching over K bins at each of many states, kept in a store of fixed size.

The caller names states by keys, int64 in [0, 2**63 - 1): those of `keys.state_key`, or the number of an information
set. The store holds up to C of them; where it is full, those that were learned of longest ago make room.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_key, check_number, check_shape, check_size
from armfold.core.regret import lru
from armfold.core.regret.match import regret_match
from armfold.core.regret.mix import entropy
from armfold.core.types import Scalar, per_lane


class MetaRegret(NamedTuple):
    """What is known of up to C states. Slots in use come first, by ascending keys; the others are 0 but for the key."""

    key: Tensor  # [*B, C] int64, ascending; 2**63 - 1 in an empty slot
    used: Tensor  # [*B, C] int64, the clock when the state was last learned of
    regret: Tensor  # [*B, C, K] float, utility unit, cumulative regret of not having played each bin
    utility: Tensor  # [*B, C, K] float, utility unit, smoothed utility of each bin
    clock: Tensor  # [*B] int64, updates of single states so far
    evicted: Tensor  # [*B] int64, states that made room so far
    faults: Tensor  # [*B] int64, rows so far that could not be learned from, see `meta_regret_step`


class MetaRegretStats(NamedTuple):
    """A store in a few figures; means are over its states and their bins, and 0 for a store without states."""

    size: Tensor  # [*B] int64, states that it holds
    updates: Tensor  # [*B] int64, updates of single states so far
    evicted: Tensor  # [*B] int64, states that made room so far
    faults: Tensor  # [*B] int64, rows so far that could not be learned from
    regret: Tensor  # [*B] float, utility unit, mean cumulative regret
    utility: Tensor  # [*B] float, utility unit, mean smoothed utility
    entropy: Tensor  # [*B] float, nats, mean entropy of the probabilities of bins


class _Rule(NamedTuple):
    """The tunables of a step."""

    decay: Scalar
    util_clip: Scalar
    regret_clip: Scalar
    regret_min: Scalar
    initial_regret: Scalar
    smoothing_factor: Scalar
    evict: int


def meta_regret_init(
    rng: Tensor, *, bins: int = 5, capacity: int = 10_000, dtype: torch.dtype = torch.float32
) -> MetaRegret:
    """A store without states for each key in rng [*B, 2]: K = bins and C = capacity, both >= 1."""
    check_key(rng)
    check_size("bins", bins)
    check_size("capacity", capacity)
    slots = (*rng.shape[:-1], capacity)

    def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=rng.device)

    return MetaRegret(
        key=torch.full(slots, lru.EMPTY, dtype=torch.int64, device=rng.device),
        used=zeros(*slots),
        regret=zeros(*slots, bins, dtype=dtype),
        utility=zeros(*slots, bins, dtype=dtype),
        clock=zeros(*slots[:-1]),
        evicted=zeros(*slots[:-1]),
        faults=zeros(*slots[:-1]),
    )


def meta_regret_probs(state: MetaRegret, key: Tensor, *, smoothing_factor: Scalar = 1e-6) -> Tensor:
    """Probabilities of the bins at states key int64 [*B] or [*B, n]: [*B, K] or [*B, n, K]; uniform where unknown.

    Regret matching with a share `smoothing_factor` in [0, 1] (a number or a tensor [*B]) of uniform play. A look does
    not count as use: it keeps no state from making room.
    """
    _check_share("smoothing_factor", smoothing_factor)
    rows = key if key.ndim > state.clock.ndim else key.unsqueeze(-1)
    _check_rows(state, rows)
    slot, known = lru.find(state.key, rows)
    probs = _play(torch.where(known.unsqueeze(-1), lru.read(state.regret, slot), 0), smoothing_factor)
    return probs if rows is key else probs.squeeze(-2)


def meta_regret_step(
    state: MetaRegret,
    key: Tensor,
    utility: Tensor,
    *,
    valid: Tensor | None = None,
    decay: Scalar = 0.995,
    util_clip: Scalar = 5.0,
    regret_clip: Scalar = 10.0,
    regret_min: Scalar = 0.0,
    initial_regret: Scalar = 0.0,
    smoothing_factor: Scalar = 1e-6,
    evict: int = 100,
) -> MetaRegret:
    """One state of each lane, key int64 [*B], learns from the utility [*B, K] of every one of its bins; or n <= C rows
    of each lane at once do: key [*B, n], utility [*B, n, K].

    Utilities are clipped to [-util_clip, util_clip] and smoothed, decay * old + (1 - decay) * new. A bin's regret
    grows by its smoothed utility less the mean of them as played, and is clipped to [regret_min, regret_clip]. decay 0,
    util_clip and regret_clip inf, and regret_min -inf turn these off: then the largest regret after T steps is at most
    U sqrt(K T), for utilities that span U at every step, and a smoothing_factor of 0 (Cesa-Bianchi and Lugosi 2006,
    corollary 2.1, with p = 2). All these are numbers or tensors [*B].

    Rows of one state are averaged, and the state takes one step with their mean: known states first, then new ones,
    each in order of first appearance. valid bool, of key's shape, or None: all; other rows are passed over.

    A new state starts with smoothed utilities 0 and regrets initial_regret; where the store is full, the `evict` >= 0
    states that were learned of longest ago go, but for those that take a step now: fewer go where no others are left.
    With 0 none goes, and what is new stays out. Utilities that are not finite, keys out of range and states that stay
    out change nothing: `faults` counts them. Raises ValueError for tunables out of range and for more than C rows.
    """
    rule = _Rule(decay, util_clip, regret_clip, regret_min, initial_regret, smoothing_factor, evict)
    if key.ndim > state.clock.ndim:
        return _learn(state, key, utility, valid, rule)
    check_shape("key", key, state.clock.shape)
    check_shape("utility", utility, (*key.shape, state.regret.shape[-1]))
    return _learn(state, key.unsqueeze(-1), utility.unsqueeze(-2), None if valid is None else valid.unsqueeze(-1), rule)


def meta_regret_stats(state: MetaRegret, *, smoothing_factor: Scalar = 1e-6) -> MetaRegretStats:
    """Figures of a store, reduced on the device. smoothing_factor: as in `meta_regret_probs`."""
    _check_share("smoothing_factor", smoothing_factor)
    held = state.key < lru.EMPTY
    size = held.sum(-1)

    def mean(x: Tensor) -> Tensor:
        return torch.where(held, x, 0).sum(-1) / size.clamp(min=1)

    spread = entropy(_play(state.regret, smoothing_factor))
    return MetaRegretStats(
        size,
        state.clock,
        state.evicted,
        state.faults,
        mean(state.regret.mean(-1)),
        mean(state.utility.mean(-1)),
        mean(spread),
    )


def _check_share(name: str, value: Scalar) -> None:
    check_number(name, value, low=0.0, high=1.0)


def _check_rule(rule: _Rule) -> None:
    _check_share("decay", rule.decay)
    _check_share("smoothing_factor", rule.smoothing_factor)
    check_number("initial_regret", rule.initial_regret)
    check_size("evict", rule.evict, low=0)
    for name, bound in (
        ("util_clip", rule.util_clip),
        ("regret_clip", rule.regret_clip),
        ("regret_min", rule.regret_min),
    ):
        off = -math.inf if name == "regret_min" else math.inf
        if isinstance(bound, Tensor) or bound != off:
            check_number(name, bound, low=min(off, 0.0), high=max(off, 0.0))


def _check_rows(state: MetaRegret, key: Tensor) -> None:
    if key.dtype != torch.int64 or key.ndim != state.key.ndim or key.shape[:-1] != state.clock.shape:
        raise ShapeError(
            f"key must be int64 with lanes {tuple(state.clock.shape)}, and n rows behind them or none, "
            f"got {key.dtype} {tuple(key.shape)}"
        )


def _play(regret: Tensor, smoothing_factor: Scalar) -> Tensor:
    share = per_lane(smoothing_factor, regret.dtype, 2)
    return (1 - share) * regret_match(regret) + share / regret.shape[-1]


def _learn(state: MetaRegret, key: Tensor, utility: Tensor, valid: Tensor | None, rule: _Rule) -> MetaRegret:
    _check_rule(rule)
    _check_rows(state, key)
    check_shape("utility", utility, (*key.shape, state.regret.shape[-1]))
    n, capacity = key.shape[-1], state.key.shape[-1]
    if n > capacity:
        raise ValueError(f"key has {n} rows for a store of capacity {capacity}: give fewer at once, or a larger store")
    if n == 0:
        return state
    usable = (key >= 0) & (key < lru.EMPTY) & torch.isfinite(utility).all(-1)
    offered = torch.ones_like(usable) if valid is None else valid
    if offered.dtype != torch.bool or offered.shape != key.shape:
        raise ShapeError(f"valid must be bool {tuple(key.shape)}, got {offered.dtype} {tuple(offered.shape)}")
    rows = lru.look_up(state.key, key, offered & usable)
    moved = lru.use(state.key, state.used, state.clock, rows, evict=rule.evict)
    regret, smooth = _updated(state, rows, _means(utility, rows.group, offered & usable), rule)
    return MetaRegret(
        lru.move(state.key, rows.key, moved.source, lru.EMPTY),
        lru.move(state.used, moved.tick, moved.source),
        lru.move(state.regret, regret, moved.source),
        lru.move(state.utility, smooth, moved.source),
        state.clock + moved.used,
        state.evicted + moved.evicted,
        state.faults + (offered & ~usable).sum(-1) + moved.refused,
    )


def _means(utility: Tensor, group: Tensor, ok: Tensor) -> Tensor:
    """The mean utility [*B, n, K] of each group's rows, float64."""
    parts = torch.where(ok.unsqueeze(-1), utility, 0).to(torch.float64)
    index = group.unsqueeze(-1).expand(parts.shape)
    total = torch.scatter_add(torch.zeros_like(parts), -2, index, parts)
    number = torch.scatter_add(torch.zeros_like(group), -1, group, ok.to(torch.int64))
    return total / number.clamp(min=1).unsqueeze(-1)


def _updated(state: MetaRegret, rows: lru.Rows, utility: Tensor, rule: _Rule) -> tuple[Tensor, Tensor]:
    """Regrets and smoothed utilities [*B, n, K] of states after a step with `utility`."""
    dtype = state.regret.dtype
    known = rows.known.unsqueeze(-1)
    regret = torch.where(known, lru.read(state.regret, rows.slot), per_lane(rule.initial_regret, dtype, 2)).to(dtype)
    decay, limit = per_lane(rule.decay, dtype, 2), per_lane(rule.util_clip, dtype, 2)
    clipped = utility.to(dtype).clamp(min=-limit).clamp(max=limit)
    smooth = decay * torch.where(known, lru.read(state.utility, rows.slot), 0) + (1 - decay) * clipped
    gained = smooth - (_play(regret, rule.smoothing_factor) * smooth).sum(-1, keepdim=True)
    low, high = per_lane(rule.regret_min, dtype, 2), per_lane(rule.regret_clip, dtype, 2)
    return (regret + gained).clamp(min=low).clamp(max=high), smooth
