"""A walk over all points of a game, which checks its rules on the way."""

import math
from operator import index
from typing import NamedTuple

from armfold.core.games.rules import CHANCE, END, Rules, describe_path


class Infoset(NamedTuple):
    """One that has been met: by whom, after which of his sequences, with which actions; where its sequences begin."""

    player: int
    parent: int
    legal: tuple[int, ...]
    base: int
    summary: tuple[int, ...]


class Walk:
    """All points of a game, breadth first, with sequences and infosets numbered as they are met."""

    def __init__(self, rules: Rules, most: int) -> None:
        self.rules, self.most = rules, most
        self.found: dict[str, int] = {}
        self.names: list[str] = []
        self.infosets: list[Infoset] = []
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
        return describe_path(self.parent, self.action, h)

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
        self.infosets.append(Infoset(player, self.done[h][player], legal, self.sequences[player], summary))
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
