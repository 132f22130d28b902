"""From rules to a tree: a walk over all points of a game, which are then numbered player by player, level by level."""

import itertools
import math
from collections.abc import Sequence
from operator import index
from typing import NamedTuple

import torch

from armfold.core.check import check_size
from armfold.core.games.rules import CHANCE, END, Rules, where
from armfold.core.games.sums import Rows, make_rows
from armfold.core.games.tree import Histories, Level, Side, Tree

MAX_HISTORIES = 3_000_000  # that a game is unfolded to, where nobody says how many


class _Infoset(NamedTuple):
    """One that has been met: by whom, after which of his sequences, with which actions; where its sequences begin."""

    player: int
    parent: int
    legal: tuple[int, ...]
    base: int
    summary: tuple[int, ...]


class _Walk:
    """All points of a game, breadth first, with sequences and infosets numbered as they are met."""

    def __init__(self, rules: Rules, most: int) -> None:
        self.rules, self.most = rules, most
        self.found: dict[str, int] = {}
        self.names: list[str] = []
        self.infosets: list[_Infoset] = []
        self.sequences = [1, 1]  # so far, of each player
        self.states = [rules.start]
        self.parent, self.action, self.probability = [-1], [-1], [1.0]
        self.reach, self.done = [1.0], [(0, 0)]
        self.player: list[int] = []
        self.infoset: list[int] = []
        self.first: list[int] = []
        self.payoff: list[float] = []
        self.depths = [0]
        while self.depths[-1] < len(self.states):
            begin, end = self.depths[-1], len(self.states)
            self.depths.append(end)
            for h in range(begin, end):
                self._visit(h, self.states[h])
                self.states[h] = None  # only the last depth is kept

    def _visit(self, h: int, state: object) -> None:
        turn = self.rules.turn(state)
        if turn not in (0, 1, CHANCE, END):
            raise ValueError(f"turn must be 0, 1, CHANCE or END, got {turn!r} {self._where(h)}")
        player = int(turn)
        self.player.append(player)
        self.first.append(len(self.states))
        self.payoff.append(0.0)
        self.infoset.append(-1)
        if player == END:
            self.payoff[h] = self._won(h, state)
        elif player == CHANCE:
            self._deal(h, state)
        else:
            self._decide(h, state, player)
        if len(self.states) > self.most:
            raise ValueError(f"max_histories {self.most} is too few for {self.rules.name}: raise it, or does it end?")

    def _where(self, h: int) -> str:
        return where(self.parent, self.action, h)

    def _add(self, h: int, state: object, action: int, probability: float, done: tuple[int, int]) -> None:
        self.states.append(self.rules.follow(state, action))
        self.parent.append(h)
        self.action.append(action)
        self.probability.append(probability)
        self.reach.append(self.reach[h] * probability)
        self.done.append(done)

    def _won(self, h: int, state: object) -> float:
        payoffs = self.rules.payoffs(state)
        try:
            first, second = payoffs
            right = math.isfinite(first) and abs(first + second) <= 1e-9 * max(1.0, abs(first))
        except (TypeError, ValueError):
            raise ValueError(f"payoffs must be two numbers, got {payoffs!r} {self._where(h)}") from None
        if not right:
            raise ValueError(f"payoffs must be finite and sum to zero, got {(first, second)} {self._where(h)}")
        return float(first)

    def _deal(self, h: int, state: object) -> None:
        for outcome, p in self._outcomes(h, state):
            self._add(h, state, outcome, p, self.done[h])

    def _outcomes(self, h: int, state: object) -> list[tuple[int, float]]:
        told = self.rules.chance(state)
        try:
            outcomes = [(index(outcome), p) for outcome, p in told]
            never = next(((outcome, p) for outcome, p in outcomes if not p > 0), None)
            total = math.fsum(p for _, p in outcomes)
        except (TypeError, ValueError):
            raise ValueError(f"chance must give pairs (integer, probability), got {told!r} {self._where(h)}") from None
        if len(dict(outcomes)) < len(outcomes):
            alike = [outcome for outcome, _ in outcomes]
            raise ValueError(f"outcomes of chance must be distinct integers, got {alike} {self._where(h)}")
        if never:
            raise ValueError(
                f"outcome {never[0]} of chance has probability {never[1]} {self._where(h)}: what lies behind is never "
                "reached; leave it out"
            )
        if not abs(total - 1) <= 1e-9:
            raise ValueError(f"probabilities of chance must sum to 1, got {total} {self._where(h)}")
        return [(outcome, float(p)) for outcome, p in outcomes]

    def _decide(self, h: int, state: object, player: int) -> None:
        name, told, done = self.rules.infoset(state), self.rules.legal(state), self.done[h]
        if not isinstance(name, str):
            raise ValueError(f"infoset must be a str, got {name!r} {self._where(h)}")
        try:
            legal = tuple(map(index, told))
        except TypeError:
            raise ValueError(f"legal must give integers, got {told!r} {self._where(h)}") from None
        i = self.found.get(name)
        if i is None:
            i = self._meet(h, name, player, legal, state)
        known = self.infosets[i]
        if (known.player, known.legal) != (player, legal):
            raise ValueError(
                f"infoset {name!r} has player {known.player} with actions {list(known.legal)} in one place, and player "
                f"{player} with {list(legal)} {self._where(h)}: give them different names"
            )
        if known.parent != done[player]:
            raise ValueError(f"infoset {name!r} forgets what player {player} has done {self._where(h)}: name that too")
        self.infoset[h] = i
        for k, action in enumerate(legal):
            reached = known.base + k
            self._add(h, state, action, 1.0, (reached, done[1]) if player == 0 else (done[0], reached))

    def _meet(self, h: int, name: str, player: int, legal: tuple[int, ...], state: object) -> int:
        if not legal:
            raise ValueError(f"infoset {name!r} is empty: no action is legal {self._where(h)}")
        if list(legal) != sorted(set(legal)) or not 0 <= legal[0] <= legal[-1] < len(self.rules.actions):
            raise ValueError(
                f"legal must be ascending actions in [0, {len(self.rules.actions)}), got {list(legal)} {self._where(h)}"
            )
        summary = self._summarise(h, state)
        self.infosets.append(_Infoset(player, self.done[h][player], legal, self.sequences[player], summary))
        self.sequences[player] += len(legal)
        self.names.append(name)
        self.found[name] = len(self.names) - 1
        return len(self.names) - 1

    def _summarise(self, h: int, state: object) -> tuple[int, ...]:
        """Round, position, pot and stack; where the rules tell none, moves of chance and of the players so far."""
        if self.rules.summary:
            told = self.rules.summary(state)
            try:
                round_, position, pot, stack = map(index, told)
            except (TypeError, ValueError):
                raise ValueError(f"summary must give four integers, got {told!r} {self._where(h)}") from None
            return round_, position, pot, stack
        chance = moves = 0
        while (h := self.parent[h]) >= 0:
            chance, moves = (chance + 1, moves) if self.player[h] == CHANCE else (chance, moves + 1)
        return chance, moves, 0, 0


class _Order(NamedTuple):
    """One player's infosets by level, and his sequences' numbers in that order."""

    levels: list[list[int]]  # infosets, by the number that the walk gave them
    sequence: list[int]  # the number of each of the walk's sequences


def _order(walk: _Walk, player: int) -> _Order:
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


def _side(walk: _Walk, order: _Order, payoff: Rows) -> Side:
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


def _payoffs(walk: _Walk, orders: Sequence[_Order]) -> tuple[Rows, Rows]:
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


def _histories(walk: _Walk, infoset: list[int], orders: Sequence[_Order]) -> Histories:
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
    walk = _Walk(rules, max_histories)
    orders = [_order(walk, player) for player in (0, 1)]
    sorted_infosets = [i for order in orders for level in order.levels for i in level]
    number = [0] * len(sorted_infosets)
    for new, old in enumerate(sorted_infosets):
        number[old] = new
    known = [walk.infosets[i] for i in sorted_infosets]
    if not known:
        raise ValueError(f"nobody ever moves in {rules.name}: turn gives neither 0 nor 1")
    width, offset = len(rules.actions), (0, walk.sequences[0])
    legal = torch.zeros(len(known), width, dtype=torch.bool)
    sequence = torch.zeros(len(known), width, dtype=torch.int64)
    slots, actions, reached = [], [], []
    for i, infoset in enumerate(known):
        for k, action in enumerate(infoset.legal):
            slots.append(i)
            actions.append(action)
            reached.append(offset[infoset.player] + orders[infoset.player].sequence[infoset.base + k])
    at, act, to = torch.tensor(slots), torch.tensor(actions), torch.tensor(reached)
    legal[at, act] = True
    sequence[at, act] = to
    slot = torch.zeros(sum(walk.sequences), dtype=torch.int64)
    slot[to] = at * width + act
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
