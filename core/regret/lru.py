"""A store of C keys of which those used longest ago make room: where keys are, and where they go.

Keys are int64 in [0, 2**63 - 1) and lie in ascending order, so that bisection finds them. Time is a counter, which
ticks once for each key that is used; never a wall clock.
"""

from typing import NamedTuple

import torch
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).max  # the key of an empty slot, which lies behind all others


class Rows(NamedTuple):
    """The distinct keys among n rows, ascending; where there are fewer than n, the rest is empty and comes last."""

    key: Tensor  # [*B, n] int64; 2**63 - 1 for none
    first: Tensor  # [*B, n] int64, the row where the key appears first
    slot: Tensor  # [*B, n] int64, in [0, C], where the key is in the store, or else the next one above it
    known: Tensor  # [*B, n] bool: the key is in the store
    group: Tensor  # [*B, n] int64, in [0, n): of each row, the position of its key in `key`


class Move(NamedTuple):
    """What happens to a store of C keys when those of n rows are used."""

    source: Tensor  # [*B, C] int64, what comes into each slot: slot i of before, key i - C of the rows, C + n: nothing
    tick: Tensor  # [*B, n] int64, the clock when each key is used
    used: Tensor  # [*B] int64, keys used
    evicted: Tensor  # [*B] int64, keys that made room
    refused: Tensor  # [*B] int64, new keys that found no room


def find(stored: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Where key [*B, n] is among stored [*B, C], ascending: the first slot that is not below it, int64 in [0, C], and
    whether it is there, bool."""
    # Under vmap, bisection copies what only one of the two has no lanes of, and warns: so both are given the other's.
    lanes, rows = torch.zeros_like(stored[..., :1]), torch.zeros_like(key[..., :1])
    slot = torch.searchsorted(stored + rows, key + lanes)
    return slot, (torch.gather(stored, -1, slot.clamp(max=stored.shape[-1] - 1)) == key) & (key < EMPTY)


def look_up(stored: Tensor, key: Tensor, usable: Tensor) -> Rows:
    """The distinct keys of rows key int64 [*B, n], n >= 1, where usable [*B, n], in a store of keys [*B, C]."""
    n = key.shape[-1]
    ordered, row = torch.sort(torch.where(usable, key, EMPTY), dim=-1, stable=True)
    begins = torch.cat((torch.ones_like(usable[..., :1]), ordered[..., 1:] != ordered[..., :-1]), -1)
    group = begins.cumsum(-1) - 1
    into = torch.where(begins, group, n)
    blank = torch.full((*key.shape[:-1], n + 1), n, dtype=torch.int64, device=key.device)
    distinct = torch.scatter(torch.full_like(row, EMPTY), -1, group, ordered)
    first = torch.scatter(blank, -1, into, row)[..., :n]
    return Rows(distinct, first, *find(stored, distinct), torch.scatter(torch.zeros_like(row), -1, row, group))


def read(x: Tensor, slot: Tensor) -> Tensor:
    """x[slot] of each lane, [*B, n, *S], for x [*B, C, *S] and slot [*B, n] in [0, C]; slot C reads the last."""
    lanes, event = slot.ndim - 1, x.shape[slot.ndim :]
    index = slot.clamp(max=x.shape[lanes] - 1).reshape(*slot.shape, *(1,) * len(event))
    return torch.gather(x, lanes, index.expand(*slot.shape, *event))


def _before(flags: Tensor) -> Tensor:
    """How many of flags [*B, n] are set before each position in [0, n]: [*B, n + 1]."""
    return torch.nn.functional.pad(flags.cumsum(-1), (1, 0))


def _turn(flags: Tensor, first: Tensor) -> Tensor:
    """How many of the flagged keys [*B, n] appear in rows before the `first` one of each key."""
    n = first.shape[-1]
    blank = torch.zeros((*first.shape[:-1], n + 1), dtype=torch.int64, device=first.device)
    by_row = torch.scatter(blank, -1, first, flags.to(torch.int64))[..., :n]
    return torch.gather(_before(by_row), -1, first)


def _oldest(age: Tensor, number: Tensor, most: int) -> Tensor:
    """Bool [*B, C]: the `number` [*B], at most `most`, smallest of ages [*B, C], which are distinct."""
    ordered = torch.topk(age, most, dim=-1, largest=False, sorted=True).values
    last = torch.gather(ordered, -1, (number - 1).clamp(min=0).unsqueeze(-1))
    return (age <= last) & (number > 0).unsqueeze(-1)


def use(stored: Tensor, used: Tensor, clock: Tensor, rows: Rows, *, evict: int) -> Move:
    """What using the keys of n <= C rows does to a store of keys [*B, C] that were `used` [*B, C] last.

    Known keys are used first, then new ones, each in order of first appearance. A new key that finds the store full
    evicts the `evict` keys used longest ago, or as many as there are beside those of `rows`.
    """
    capacity, n = stored.shape[-1], rows.key.shape[-1]
    new, found, occupied = (rows.key < EMPTY) & ~rows.known, rows.known.sum(-1), stored < EMPTY
    above, kept = find(rows.key, stored)
    free = capacity - occupied.sum(-1)
    out, stays = torch.zeros_like(free), occupied
    if evict:
        short = (new.sum(-1) - free).clamp(min=0)
        out = torch.minimum((short + evict - 1) // evict * evict, capacity - free - found)
        age = torch.where(occupied & ~kept, used, EMPTY)
        stays = occupied & ~_oldest(age, out, min(capacity, -(-n // evict) * evict))
    turn = _turn(new, rows.first)
    enters = new & (turn < (free + out).unsqueeze(-1))
    # A key goes where as many lie below it as there are smaller ones that stay or enter.
    below, entered = _before(stays), _before(enters)
    slot_to = torch.where(stays, below[..., :-1] + torch.gather(entered, -1, above), capacity)
    row_to = torch.where(rows.known | enters, torch.gather(below, -1, rows.slot) + entered[..., :-1], capacity)
    origin = torch.arange(capacity + n, device=stored.device)
    source = torch.full((*stored.shape[:-1], capacity + 1), capacity + n, dtype=torch.int64, device=stored.device)
    # What was used is written last, over what it was before.
    source = torch.scatter(source, -1, slot_to, origin[:capacity].expand(slot_to.shape))
    source = torch.scatter(source, -1, row_to, origin[capacity:].expand(row_to.shape))[..., :-1]
    tick = clock.unsqueeze(-1) + 1 + torch.where(rows.known, _turn(rows.known, rows.first), found.unsqueeze(-1) + turn)
    return Move(source, tick, found + enters.sum(-1), out, (new & ~enters).sum(-1))


def move(before: Tensor, of_rows: Tensor, source: Tensor, nothing: int = 0) -> Tensor:
    """What a store keeps beside its keys, [*B, C, *S], after a move: as `before` it, `of_rows` [*B, n, *S], or
    `nothing`."""
    blank = torch.full_like(of_rows.narrow(source.ndim - 1, 0, 1), nothing)
    return read(torch.cat((before, of_rows, blank), source.ndim - 1), source)
