"""Passes over the sequence form: from a policy to its realisation plan, from payoffs to values."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.games.sums import row_max, row_sum
from armfold.core.games.tree import Side, Tree


class Values(NamedTuple):
    """What one player can expect, times the chance that the others let it happen."""

    root: Tensor  # [*B] float, payoff
    sequence: Tensor  # [S_i, *B] float, after each of his sequences
    infoset: Tensor  # [I_i, *B] float, at each of his infosets


def bounds(tree: Tree) -> tuple[slice, slice]:
    """The sequences of each player."""
    first = len(tree.sides[0].infoset)
    return slice(0, first), slice(first, len(tree.slot))


def check_policy(tree: Tree, policy: Tensor) -> None:
    """Raise ShapeError unless `policy` is a floating tensor [I, A, *B]."""
    if not policy.is_floating_point() or policy.shape[:2] != tree.legal.shape:
        wanted = (*tree.legal.shape, "*B")
        raise ShapeError(f"policy must be floating of shape {wanted}, got {policy.dtype} {tuple(policy.shape)}")


def from_table(tree: Tree, policy: Tensor) -> Tensor:
    """A policy [I, A, *B] over sequences: [S, *B]; 1 for the empty ones."""
    check_policy(tree, policy)
    flat = policy.flatten(0, 1).index_select(0, tree.slot)
    cuts = [flat[own][1:] for own in bounds(tree)]
    one = torch.ones_like(flat[:1])
    return torch.cat([one, cuts[0], one, cuts[1]])


def to_table(tree: Tree, values: Tensor, fill: float = 0.0) -> Tensor:
    """Values over sequences [S, *B] as a table [I, A, *B], with `fill` where an action is illegal."""
    table = values.index_select(0, tree.sequence.flatten()).reshape(*tree.legal.shape, *values.shape[1:])
    legal = tree.legal.reshape(*tree.legal.shape, *(1,) * (values.ndim - 1))
    return torch.where(legal, table, fill)


def plan(side: Side, policy: Tensor) -> Tensor:
    """The realisation plan [S_i, *B] of one player's `policy` [S_i, *B]: products of his probabilities on the way."""
    reached, first = [policy[:1]], 1
    for level in side.levels:
        count = len(level.parent)
        reached.append(reached[-1].index_select(0, level.parent) * policy[first : first + count])
        first += count
    return torch.cat(reached)


def match(side: Side, weight: Tensor) -> Tensor:
    """Probabilities [S_i, *B] in proportion to `weight` [S_i, *B] >= 0 at each infoset; uniform where all are 0."""
    parts, first = [torch.ones_like(weight[:1])], 1
    for level in side.levels:
        own = weight[first : first + len(level.parent)]
        total = row_sum(level.actions, own).index_select(0, level.infoset)
        uniform = level.uniform.to(weight.dtype).reshape(-1, *(1,) * (weight.ndim - 1))
        parts.append(torch.where(total > 0, own / torch.where(total > 0, total, 1.0), uniform))
        first += len(level.parent)
    return torch.cat(parts)


def match_both(tree: Tree, weight: Tensor) -> Tensor:
    """`match` for both players' sequences: [S, *B]."""
    return torch.cat([match(side, weight[own]) for side, own in zip(tree.sides, bounds(tree))])


def values(side: Side, policy: Tensor | None, other: Tensor) -> Values:
    """Counterfactual values of one player's `policy` [S_i, *B], or of his best response where it is None, against the
    other's realisation plan [S_j, *B]."""
    return backup(side, policy, row_sum(side.payoff, other))


def backup(side: Side, policy: Tensor | None, payoff: Tensor) -> Values:
    """The same from what the player wins straight after each of his sequences, `payoff` [S_i, *B]: times the chance
    that the others let it happen, or as often as samples have it."""
    at_sequences: list[Tensor] = []
    at_infosets: list[Tensor] = []
    end = len(payoff)
    for level in reversed(side.levels):
        own = slice(end - len(level.parent), end)
        end = own.start
        value = payoff[own]
        if at_infosets:
            value = value + row_sum(level.children, at_infosets[-1])
        best = row_max(level.actions, value) if policy is None else row_sum(level.actions, value * policy[own])
        at_sequences.append(value)
        at_infosets.append(best)
    root = payoff[0] + row_sum(side.first, at_infosets[-1])[0] if at_infosets else payoff[0]
    return Values(
        root, torch.cat([root.unsqueeze(0), *at_sequences[::-1]]), torch.cat([payoff[:0], *at_infosets[::-1]])
    )


def regrets(side: Side, value: Values) -> Tensor:
    """What each of a player's sequences is worth more than its infoset, [S_i, *B]; 0 for the empty one."""
    gain = value.sequence[1:] - value.infoset.index_select(0, side.infoset[1:])
    return torch.cat([torch.zeros_like(value.sequence[:1]), gain])
