"""From rules to a tree: the points that a walk has met are numbered player by player, level by level."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.check import check_size
from armfold.core.games.rules import END, Rules
from armfold.core.games.sums import Rows, make_rows
from armfold.core.games.tree import Histories, Level, Side, Tree
from armfold.core.games.walk import Infoset, Walk

MAX_HISTORIES = 3_000_000  # that a game is unfolded to, where nobody says how many


class _Order(NamedTuple):
    """One player's infosets by level, and his sequences' numbers in that order."""

    levels: list[list[int]]  # infosets, by the number that the walk gave them
    sequence: list[int]  # the number of each of the walk's sequences


def _order(walk: Walk, player: int) -> _Order:
    behind: dict[int, list[int]] = {}
    for i, infoset in enumerate(walk.infosets):
        if infoset.player == player:
            behind.setdefault(infoset.parent, []).append(i)
    numbers, levels, last = [0] * walk.sequences[player], [], [0]
    count = 1
    while level := [i for s in last for i in behind.get(s, ())]:
        levels.append(level)
        last = []
        for i in level:
            for k in range(len(walk.infosets[i].legal)):
                last.append(walk.infosets[i].base + k)
                numbers[last[-1]] = count
                count += 1
    return _Order(levels, numbers)


def _side(walk: Walk, order: _Order, payoff: Rows) -> Side:
    levels, at, first = [], [0], 0
    before = [0]  # the walk's numbers of the sequences of the level before
    for depth, infosets in enumerate(order.levels):
        known = [walk.infosets[i] for i in infosets]
        rank = {s: k for k, s in enumerate(before)}
        before = [infoset.base + k for infoset in known for k in range(len(infoset.legal))]
        local = [i for i, infoset in enumerate(known) for _ in infoset.legal]
        actions: list[list[tuple[int, float]]] = [[] for _ in known]
        for s, i in enumerate(local):
            actions[i].append((s, 1.0))
        children: dict[int, list[tuple[int, float]]] = {s: [] for s in before}
        for j, i in enumerate(order.levels[depth + 1] if depth + 1 < len(order.levels) else ()):
            children[walk.infosets[i].parent].append((j, 1.0))
        levels.append(
            Level(
                parent=torch.tensor([rank[known[i].parent] for i in local]),
                infoset=torch.tensor(local),
                actions=make_rows(actions),
                children=make_rows(list(children.values())),
                uniform=torch.tensor([1 / len(known[i].legal) for i in local], dtype=torch.float64),
            )
        )
        at += [first + i for i in local]
        first += len(known)
    roots = [(i, 1.0) for i in range(len(order.levels[0]))] if order.levels else []
    return Side(payoff, torch.tensor(at), tuple(levels), make_rows([roots]))


def _payoffs(walk: Walk, orders: Sequence[_Order]) -> tuple[Rows, Rows]:
    """For each player, the rows of the payoff matrix: chance times what he wins, by both players' sequences."""
    matrix: dict[tuple[int, int], float] = {}
    for h, player in enumerate(walk.player):
        if player == END and walk.payoff[h]:
            s, t = walk.done[h]
            at = (orders[0].sequence[s], orders[1].sequence[t])
            matrix[at] = matrix.get(at, 0.0) + walk.reach[h] * walk.payoff[h]
    first: list[list[tuple[int, float]]] = [[] for _ in orders[0].sequence]
    second: list[list[tuple[int, float]]] = [[] for _ in orders[1].sequence]
    for (s, t), x in matrix.items():
        first[s].append((t, x))
        second[t].append((s, -x))
    return make_rows(first), make_rows(second)


def _histories(walk: Walk, infoset: list[int], orders: Sequence[_Order]) -> Histories:
    offset = len(orders[0].sequence)
    done = [(orders[0].sequence[s], offset + orders[1].sequence[t]) for s, t in walk.done]
    ends = [*walk.first[1:], len(walk.states)]
    return Histories(
        parent=torch.tensor(walk.parent),
        action=torch.tensor(walk.action),
        player=torch.tensor(walk.player),
        infoset=torch.tensor([infoset[i] if i >= 0 else -1 for i in walk.infoset]),
        first=torch.tensor([0 if player == END else f for f, player in zip(walk.first, walk.player)]),
        branches=torch.tensor([end - f for f, end in zip(walk.first, ends)]),
        probability=torch.tensor(walk.probability, dtype=torch.float64),
        reach=torch.tensor(walk.reach, dtype=torch.float64),
        payoff=torch.tensor(walk.payoff, dtype=torch.float64),
        sequence=torch.tensor(done),
    )


def _tables(
    walk: Walk, known: Sequence[Infoset], orders: Sequence[_Order], width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which actions are legal at each infoset, the sequence that each leads to, and where sequences stand in those."""
    legal = torch.zeros(len(known), width, dtype=torch.bool)
    sequence = torch.zeros(len(known), width, dtype=torch.int64)
    slot = torch.zeros(sum(walk.sequences), dtype=torch.int64)
    offset = (0, walk.sequences[0])
    reached = [
        (i, action, offset[infoset.player] + orders[infoset.player].sequence[infoset.base + k])
        for i, infoset in enumerate(known)
        for k, action in enumerate(infoset.legal)
    ]
    at, act, to = torch.tensor(reached).unbind(1)
    legal[at, act], sequence[at, act], slot[to] = True, to, at * width + act
    return legal, sequence, slot


def compile_game(rules: Rules, *, max_histories: int = MAX_HISTORIES) -> Tree:
    """The tree of a game, on the CPU, with numbers in float64. It takes ten to twenty microseconds a history.

    Where the rules have no `summary`, an infoset's is how often chance and the players have moved before, and zeros.

    Raises ValueError, with the actions that lead there, for functions that give something else than `Rules` says,
    payoffs that do not sum to zero, probabilities of chance that do not sum to 1, outcomes that are alike or never
    reached, infosets without a legal action or with different players or actions, players who forget what they did,
    and games of more than `max_histories` histories.
    """
    check_size("max_histories", max_histories)
    named = all(isinstance(action, str) for action in rules.actions)
    if not named or len(set(rules.actions)) < len(rules.actions):
        raise ValueError(f"actions must be different names, got {rules.actions!r}")
    walk = Walk(rules, max_histories)
    orders = [_order(walk, player) for player in (0, 1)]
    sorted_infosets = [i for order in orders for level in order.levels for i in level]
    number = [0] * len(sorted_infosets)
    for new, old in enumerate(sorted_infosets):
        number[old] = new
    known = [walk.infosets[i] for i in sorted_infosets]
    if not known:
        raise ValueError(f"nobody ever moves in {rules.name}: turn gives neither 0 nor 1")
    legal, sequence, slot = _tables(walk, known, orders, len(rules.actions))
    payoffs, histories = _payoffs(walk, orders), _histories(walk, number, orders)
    return Tree(
        rules=rules,
        names=tuple(walk.names[i] for i in sorted_infosets),
        legal=legal,
        player=torch.tensor([infoset.player for infoset in known]),
        summary=torch.tensor([infoset.summary for infoset in known]),
        sequence=sequence,
        slot=slot,
        sides=(_side(walk, orders[0], payoffs[0]), _side(walk, orders[1], payoffs[1])),
        histories=histories,
        depths=tuple(walk.depths),
        widths=tuple(int(histories.branches[begin:end].max()) for begin, end in itertools.pairwise(walk.depths)),
    )
