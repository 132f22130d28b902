"""Games in plain Python, by recursion over histories: what the tensors are compared with."""

import itertools
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core.games import CHANCE, END, Rules, Tree, compile_game, goofspiel, kuhn, leduc, liars_dice, solve

GAMES: dict[str, Callable[[], Rules]] = {
    "kuhn": kuhn,
    "leduc": leduc,
    "liars_dice 4": lambda: liars_dice(4),
    "liars_dice 2, 2 dice": lambda: liars_dice(2, 2),
    "goofspiel 3": lambda: goofspiel(3),
    "goofspiel 4": lambda: goofspiel(4),
}


@cache
def compiled(name: str) -> Tree:
    """One of these games as a tree."""
    return compile_game(GAMES[name]())


# ---------------------------------------------------------------- random games


class Point(NamedTuple):
    """What was done, and what each player has done and seen of it."""

    way: tuple[int, ...] = ()
    known: tuple[str, str] = ("", "")


def random_rules(seed: int, *, depth: int = 5, branches: int = 3) -> Rules:
    """A game of up to `depth` turns whose every trait is drawn by `seed`. Players remember all that they do and see.

    Turns, payoffs and what is seen depend on the whole way; legal actions on what the player to move knows, and on no
    more. A turn of chance may show its outcome to both, to one or to nobody, and so may a player's action.
    """

    def draw(*what: object) -> random.Random:
        return random.Random(repr((seed, *what)))

    def turn(point: Point) -> int:
        dice, done = draw("turn", point.way), len(point.way)
        if done < 2:
            return dice.choice([0, 1] if done else [0, CHANCE])
        return END if done >= depth or dice.random() < 0.2 else dice.choice([0, 1, 0, 1, CHANCE])

    def legal(point: Point) -> list[int]:
        dice = draw("legal", turn(point), point.known[turn(point)])
        return sorted(dice.sample(range(branches), dice.randint(1, branches)))

    def chance(point: Point) -> list[tuple[int, float]]:
        dice = draw("chance", point.way)
        weights = [dice.randint(1, 4) for _ in range(dice.randint(1, branches))]
        return [(10 + i, weight / sum(weights)) for i, weight in enumerate(weights)]

    def follow(point: Point, action: int) -> Point:
        mover, way = turn(point), (*point.way, action)
        seen = [draw("seen", player, way).choice(["", f" saw {action}"]) for player in (0, 1)]
        if mover >= 0:
            seen[mover] = f" did {action}"
        return Point(way, (point.known[0] + seen[0], point.known[1] + seen[1]))

    def payoffs(point: Point) -> tuple[float, float]:
        won = draw("won", point.way).gauss(0, 1)
        return won, -won

    return Rules(
        name=f"random({seed})",
        actions=tuple("abcdefgh"[:branches]),
        start=Point(),
        turn=turn,
        legal=legal,
        chance=chance,
        follow=follow,
        payoffs=payoffs,
        infoset=lambda point: f"P{turn(point)}{point.known[turn(point)]}",
    )


def random_policy(tree: Tree, *batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A policy [I, A, *B] with a third of the legal actions, but one, never played."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.rand(*tree.legal.shape, *batch, generator=rng, dtype=dtype) + 0.01
    legal = tree.legal.reshape(*tree.legal.shape, *(1,) * len(batch))
    played = legal & (torch.rand(weight.shape, generator=rng) < 2 / 3)
    played = torch.where(played.any(1, keepdim=True), played, legal)
    weight = torch.where(played, weight, 0)
    return weight / weight.sum(1, keepdim=True)


# ---------------------------------------------------------------- histories


class Node(NamedTuple):
    """A history, and all that follow it."""

    h: int  # its number in a tree
    state: Any
    player: int
    infoset: str
    actions: tuple[int, ...]
    children: "tuple[Node, ...]"
    chance: tuple[float, ...]  # probabilities of the children of chance
    payoff: float


def grow(tree: Tree) -> Node:
    """All histories of a tree's rules, each with its number in the tree, should the tree hold what it promises."""
    first, rules = tree.histories.first.tolist(), tree.rules

    def node(h: int, state: Any) -> Node:
        player = rules.turn(state)
        outcomes = rules.chance(state) if player == CHANCE else ()
        actions = tuple(a for a, _ in outcomes) if player == CHANCE else () if player == END else rules.legal(state)
        return Node(
            h,
            state,
            player,
            rules.infoset(state) if player >= 0 else "",
            tuple(actions),
            tuple(node(first[h] + k, rules.follow(state, action)) for k, action in enumerate(actions)),
            tuple(p for _, p in outcomes),
            rules.payoffs(state)[0] if player == END else 0.0,
        )

    return node(0, rules.start)


def every(node: Node) -> Iterator[Node]:
    """A node and all below it, depth first."""
    yield node
    for child in node.children:
        yield from every(child)


def value(node: Node, law: Callable[[Node], Any]) -> float:
    """What the first player wins on average from `node` on where players follow the probabilities that `law` gives."""
    if node.player == END:
        return node.payoff
    probabilities = node.chance if node.player == CHANCE else law(node)
    return sum(p * value(child, law) for p, child in zip(probabilities, node.children) if p)


def table_law(tree: Tree, policy: Tensor) -> Callable[[Node], Any]:
    """A policy [I, A] as `value` takes it."""
    rows = dict(zip(tree.names, policy.tolist()))
    return lambda node: [rows[node.infoset][action] for action in node.actions]


def best_value(tree: Tree, policy: Tensor, player: int) -> float:
    """What the best of all pure strategies of `player` wins against `policy` [I, A], found by trying every one."""
    root, followed = grow(tree), table_law(tree, policy)
    actions = {node.infoset: node.actions for node in every(root) if node.player == player}
    values = []
    for chosen in itertools.product(*actions.values()):
        pure = dict(zip(actions, chosen))

        def law(node: Node, pure: dict[str, int] = pure) -> Any:
            return [float(a == pure[node.infoset]) for a in node.actions] if node.player == player else followed(node)

        values.append(value(root, law) * (1 if player == 0 else -1))
    return max(values)


# ---------------------------------------------------------------- counterfactual regret


class Solver:
    """Counterfactual regret minimisation, in numbers of any kind, history by history in the order of OpenSpiel's."""

    def __init__(
        self,
        tree: Tree,
        number: Callable[[Any], Any] = float,
        *,
        floor: bool = False,
        predictive: bool = False,
        alpha: float | None = None,
        beta: float | None = None,
        gamma: float = 0.0,
    ) -> None:
        self.tree, self.root, self.number = tree, grow(tree), number
        self.floor, self.predictive = floor, predictive
        self.alpha, self.beta, self.gamma, self.t = alpha, beta, gamma, 0
        self.chance = {node.h: [self._exact(p) for p in node.chance] for node in every(self.root)}
        self.actions = {node.infoset: node.actions for node in every(self.root) if node.player >= 0}
        self.owner = {node.infoset: node.player for node in every(self.root)}
        self.regret = {name: [number(0)] * len(actions) for name, actions in self.actions.items()}
        self.average = {name: [number(0)] * len(actions) for name, actions in self.actions.items()}
        self.policy = {name: self._match(regret) for name, regret in self.regret.items()}

    def _exact(self, p: float) -> Any:
        """A probability of chance: the rules' float, or in another number the fraction that it stands for."""
        fraction = Fraction(p).limit_denominator(10**6)
        return p if self.number is float else self.number(fraction.numerator) / self.number(fraction.denominator)

    def _match(self, weight: list[Any]) -> list[Any]:
        total = sum((w for w in weight if w > 0), self.number(0))
        if total > 0:
            return [w / total if w > 0 else self.number(0) for w in weight]
        return [self.number(1) / self.number(len(weight))] * len(weight)

    def _scale(self, power: float | None) -> Any:
        weight = self.number(self.t) ** self.number(power) if power is not None else None
        return self.number(1) if weight is None else weight / (weight + 1)

    def step(self) -> None:
        """One iteration: the first player's regrets and policy, then the second's."""
        self.t += 1
        for player in (0, 1):
            before = {name: list(regret) for name, regret in self.regret.items()}
            self._walk(self.root, player, self.number(1), self.number(1), self.number(1))
            for name, regret in self.regret.items():
                if self.owner[name] == player:
                    self._settle(name, [new - old for new, old in zip(regret, before[name])])

    def _settle(self, name: str, gain: list[Any]) -> None:
        regret, zero = self.regret[name], self.number(0)
        if self.floor:
            regret = [max(r, zero) for r in regret]
        if self.alpha is not None or self.beta is not None:
            regret = [r * self._scale(self.alpha if r > 0 else self.beta) for r in regret]
        self.regret[name] = regret
        self.policy[name] = self._match([r + g for r, g in zip(regret, gain)] if self.predictive else regret)

    def _walk(self, node: Node, player: int, own: Any, other: Any, chance: Any) -> Any:
        """What `player` wins on average from here on; adds to his regrets and averages on the way."""
        if node.player == END:
            return self.number(node.payoff if player == 0 else -node.payoff)
        if own == 0 and other == 0:
            return self.number(0)
        if node.player == CHANCE:
            parts = zip(self.chance[node.h], node.children)
            return sum((p * self._walk(c, player, own, other, chance * p) for p, c in parts), self.number(0))
        policy = self.policy[node.infoset]
        if node.player != player:
            values = [self._walk(c, player, own, other * p, chance) for p, c in zip(policy, node.children)]
            return sum((p * v for p, v in zip(policy, values)), self.number(0))
        values = [self._walk(c, player, own * p, other, chance) for p, c in zip(policy, node.children)]
        mean = sum((p * v for p, v in zip(policy, values)), self.number(0))
        weight = self.number(self.t) ** self.number(self.gamma) if self.gamma else self.number(1)
        for k, (p, v) in enumerate(zip(policy, values)):
            self.regret[node.infoset][k] += (other * chance) * (v - mean)
            self.average[node.infoset][k] += weight * own * p
        return mean

    def table(self, which: dict[str, list[Any]]) -> Tensor:
        """Numbers at infosets as a table [I, A] float64."""
        table = torch.zeros(self.tree.legal.shape, dtype=torch.float64)
        for i, name in enumerate(self.tree.names):
            table[i, list(self.actions[name])] = torch.tensor([float(x) for x in which[name]], dtype=torch.float64)
        return table

    def average_policy(self) -> Tensor:
        """The average policy [I, A]."""
        return self.table({name: self._match(average) for name, average in self.average.items()})


def run(tree: Tree, variant: str | solve.Variant, iterations: int, state: solve.State | None = None) -> solve.State:
    """Our own solver after some iterations."""
    state = solve.init(tree) if state is None else state
    for _ in range(iterations):
        state = solve.step(tree, state, variant=variant)
    return state
