"""What a tree holds, on games drawn at random, and what rules it refuses."""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core.games import CHANCE, END, Rules, Tree, compile_game, move
from armfold.core.games.sums import Rows, row_sum
from tests.core.games.plain import Node, compiled, every, grow, random_rules

SEEDS = st.integers(0, 99)


@cache
def some_tree(seed: int) -> Tree:
    """A random game."""
    return compile_game(random_rules(seed, depth=4))


def dense(rows: Rows, columns: int) -> Tensor:
    """Rows as a matrix: what they make of each unit vector."""
    return row_sum(rows, torch.eye(columns, dtype=torch.float64))


# ---------------------------------------------------------------- what a tree holds


@settings(max_examples=15)
@given(SEEDS)
def test_histories_are_those_of_the_rules_breadth_first(seed: int) -> None:
    tree = some_tree(seed)
    h = tree.histories
    nodes = {node.h: node for node in every(grow(tree))}
    assert sorted(nodes) == list(range(len(h.parent)))
    below = [(-1, -1, 1.0)] * len(nodes)
    for node in nodes.values():
        chances = node.chance or (1.0,) * len(node.children)
        for child, action, p in zip(node.children, node.actions, chances):
            below[child.h] = (node.h, action, p)
    assert list(zip(h.parent.tolist(), h.action.tolist(), h.probability.tolist())) == below
    assert h.player.tolist() == [nodes[i].player for i in range(len(nodes))]
    assert h.payoff.tolist() == [nodes[i].payoff for i in range(len(nodes))]
    assert h.branches.tolist() == [len(nodes[i].children) for i in range(len(nodes))]
    assert all((h.first[i] == 0) == (nodes[i].player == END) for i in nodes)
    named = [tree.names[i] if i >= 0 else "" for i in h.infoset.tolist()]
    assert named == [nodes[i].infoset for i in range(len(nodes))]
    depth = [0] * len(nodes)
    for i, parent in enumerate(h.parent.tolist()):
        depth[i] = depth[parent] + 1 if i else 0
    assert depth == sorted(depth)
    assert list(tree.depths) == [*(depth.index(d) for d in range(depth[-1] + 1)), len(nodes)]
    assert tree.names == tuple(dict.fromkeys(tree.names))


@settings(max_examples=15)
@given(SEEDS)
def test_reaches_are_products_of_chance_and_sequences_what_was_done(seed: int) -> None:
    tree = some_tree(seed)
    h, offset = tree.histories, len(tree.sides[0].infoset)

    def check(node: Node, reach: float, done: tuple[int, int]) -> None:
        assert h.reach[node.h].item() == reach
        assert h.sequence[node.h].tolist() == list(done)
        for k, (child, action) in enumerate(zip(node.children, node.actions)):
            after = done
            if node.player >= 0:
                reached = int(tree.sequence[h.infoset[node.h], action])
                after = (reached, done[1]) if node.player == 0 else (done[0], reached)
            check(child, reach * (node.chance[k] if node.chance else 1.0), after)

    check(grow(tree), 1.0, (0, offset))


@settings(max_examples=15)
@given(SEEDS)
def test_sequences_are_numbered_by_player_level_and_infoset(seed: int) -> None:
    tree = some_tree(seed)
    offset, at = len(tree.sides[0].infoset), tree.legal.nonzero()
    assert torch.equal(tree.legal, tree.sequence > 0)
    assert torch.equal(tree.slot[tree.sequence[tree.legal]], at[:, 0] * tree.legal.shape[1] + at[:, 1])
    wanted = [i for i in range(len(tree.slot)) if i not in (0, offset)]
    assert tree.sequence[tree.legal].tolist() == wanted  # each once, in order
    assert tree.player.tolist() == sorted(tree.player.tolist())
    names = {node.infoset: node for node in every(grow(tree)) if node.player >= 0}
    for i, name in enumerate(tree.names):
        assert names[name].player == tree.player[i]
        assert tree.legal[i].nonzero().flatten().tolist() == list(names[name].actions)


@settings(max_examples=15)
@given(SEEDS)
def test_levels_are_an_infoset_forest(seed: int) -> None:
    """By the definition: an infoset hangs below its player's last action on the way to it."""
    tree = some_tree(seed)
    h = tree.histories
    for player, side in enumerate(tree.sides):
        mine = (tree.player == player).nonzero().flatten()
        first, offset = 0, 1
        before = range(1)
        for level in side.levels:
            infosets = mine[first : first + int(level.infoset.max()) + 1]
            count = len(level.parent)
            for s in range(count):
                i = infosets[level.infoset[s]]
                seen = h.sequence[h.infoset == i][:, player] - (player and len(tree.sides[0].infoset))
                assert set(seen.tolist()) == {before[level.parent[s]]}
                assert side.infoset[offset + s] == first + level.infoset[s]
                assert float(level.uniform[s]) == 1 / int(tree.legal[i].sum())
            acts = torch.nn.functional.one_hot(level.infoset, len(infosets)).double().T
            assert torch.equal(dense(level.actions, count), acts)
            before = range(offset, offset + count)
            first, offset = first + len(infosets), offset + count
        assert (first, offset) == (len(mine), len(side.infoset))
        for upper, lower in zip(side.levels, side.levels[1:]):
            hangs = torch.zeros(len(upper.parent), int(lower.infoset.max()) + 1, dtype=torch.float64)
            hangs[lower.parent, lower.infoset] = 1
            assert torch.equal(dense(upper.children, hangs.shape[1]), hangs)


@settings(max_examples=15)
@given(SEEDS)
def test_the_payoff_matrix_is_chance_times_what_is_won(seed: int) -> None:
    tree = some_tree(seed)
    h, (first, second) = tree.histories, tree.sides
    shape = (len(first.infoset), len(second.infoset))
    want = torch.zeros(shape, dtype=torch.float64)
    for node in every(grow(tree)):
        if node.player == END:
            s, t = h.sequence[node.h].tolist()
            want[s, t - shape[0]] += h.reach[node.h] * node.payoff
    torch.testing.assert_close(dense(first.payoff, shape[1]), want, rtol=0, atol=1e-15)
    torch.testing.assert_close(dense(second.payoff, shape[0]), -want.T, rtol=0, atol=1e-15)


def test_a_tree_moves_to_another_dtype_and_back() -> None:
    tree = compiled("kuhn")
    moved = move(tree, dtype=torch.float32, device="cpu")
    assert moved.histories.reach.dtype == moved.sides[0].payoff.stages[0].weight.dtype == torch.float32
    assert moved.histories.player.dtype == torch.int64
    assert moved.legal.dtype == torch.bool
    assert (moved.rules, moved.names, moved.depths) == (tree.rules, tree.names, tree.depths)
    assert torch.equal(move(moved, dtype=torch.float64).histories.payoff, tree.histories.payoff)
    assert tree.histories.reach.dtype == torch.float64


def test_a_player_may_have_nothing_to_decide() -> None:
    rules = random_rules(0)._replace(turn=lambda point: 1 if len(point.way) < 2 else END, legal=lambda point: [0, 1])
    tree = compile_game(rules._replace(infoset=lambda point: str(point.way)))
    assert tree.player.tolist() == [1, 1, 1]
    assert tree.sides[0].levels == ()
    assert [len(side.infoset) for side in tree.sides] == [1, 7]


# ---------------------------------------------------------------- what is refused

# Chance deals 0 or 1, the first player acts, then the second, who has seen it.
GOOD = Rules(
    name="example",
    actions=("a", "b"),
    start=(),
    turn=lambda way: (CHANCE, 0, 1, END)[len(way)],
    legal=lambda way: (0, 1),
    chance=lambda way: [(0, 0.5), (1, 0.5)],
    follow=lambda way, action: (*way, action),
    payoffs=lambda way: (1.0, -1.0),
    infoset=lambda way: str(len(way)) + str(way[1:]),
)


def test_the_example_itself_is_a_game() -> None:
    assert compile_game(GOOD).legal.shape == (3, 2)


def at(way: tuple[int, ...], bad: Any, good: Callable[..., Any]) -> Callable[..., Any]:
    """A function of rules that is `bad` at one point of the game."""
    return lambda point: bad if point == way else good(point)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a sum above zero": (
        {"payoffs": at((1, 0, 1), (1.0, 1.0), GOOD.payoffs)},
        "payoffs must be finite and sum to zero, got (1.0, 1.0) after [1, 0, 1]",
    ),
    "a payoff that is NaN": (
        {"payoffs": at((0, 0, 0), (math.nan, math.nan), GOOD.payoffs)},
        "payoffs must be finite and sum to zero, got (nan, nan) after [0, 0, 0]",
    ),
    "one payoff that is NaN": (
        {"payoffs": at((0, 0, 0), (1.0, math.nan), GOOD.payoffs)},
        "payoffs must be finite and sum to zero, got (1.0, nan) after [0, 0, 0]",
    ),
    "an infinite payoff": (
        {"payoffs": at((0, 0, 0), (math.inf, -math.inf), GOOD.payoffs)},
        "payoffs must be finite and sum to zero, got (inf, -inf) after [0, 0, 0]",
    ),
    "probabilities that sum to less than 1": (
        {"chance": at((), [(0, 0.5), (1, 0.4)], GOOD.chance)},
        "probabilities of chance must sum to 1, got 0.9 after []",
    ),
    "an outcome that never comes": (
        {"chance": at((), [(0, 1.0), (1, 0.0)], GOOD.chance)},
        "outcome 1 of chance has probability 0.0 after []: what lies behind is never reached; leave it out",
    ),
    "a negative probability": (
        {"chance": at((), [(0, 1.5), (1, -0.5)], GOOD.chance)},
        "outcome 1 of chance has probability -0.5 after []",
    ),
    "a probability that is NaN": (
        {"chance": at((), [(0, 0.5), (1, math.nan)], GOOD.chance)},
        "outcome 1 of chance has probability nan after []",
    ),
    "an outcome twice": (
        {"chance": at((), [(0, 0.5), (0, 0.5)], GOOD.chance)},
        "outcomes of chance must be distinct integers, got [0, 0] after []",
    ),
    "an outcome that is no integer": (
        {"chance": at((), [(0.5, 1.0)], GOOD.chance)},
        "chance must give pairs (integer, probability), got [(0.5, 1.0)] after []",
    ),
    "an outcome with a name": (
        {"chance": at((), [("a", 1.0)], GOOD.chance)},
        "chance must give pairs (integer, probability), got [('a', 1.0)] after []",
    ),
    "a probability that is no number": (
        {"chance": at((), [(0, "1")], GOOD.chance)},
        "chance must give pairs (integer, probability), got [(0, '1')] after []",
    ),
    "chance that says nothing": (
        {"chance": at((), None, GOOD.chance)},
        "chance must give pairs (integer, probability), got None after []",
    ),
    "one payoff": (
        {"payoffs": at((1, 0, 1), 1, GOOD.payoffs)},
        "payoffs must be two numbers, got 1 after [1, 0, 1]",
    ),
    "three payoffs": (
        {"payoffs": at((1, 0, 1), (1, 0, -1), GOOD.payoffs)},
        "payoffs must be two numbers, got (1, 0, -1) after [1, 0, 1]",
    ),
    "payoffs that are no numbers": (
        {"payoffs": at((1, 0, 1), ("1", "-1"), GOOD.payoffs)},
        "payoffs must be two numbers, got ('1', '-1') after [1, 0, 1]",
    ),
    "an infoset that is no text": (
        {"infoset": at((1, 0), (1, 0), GOOD.infoset)},
        "infoset must be a str, got (1, 0) after [1, 0]",
    ),
    "no actions at all": (
        {"legal": at((1,), None, GOOD.legal)},
        "legal must give integers, got None after [1]",
    ),
    "actions that are no integers": (
        {"legal": at((1,), (0.0, 1.0), GOOD.legal)},
        "legal must give integers, got (0.0, 1.0) after [1]",
    ),
    "a summary of two": (
        {"summary": at((0, 0), (1, 2), lambda way: (0, 0, 0, 0))},
        "summary must give four integers, got (1, 2) after [0, 0]",
    ),
    "a summary of fractions": (
        {"summary": at((0, 0), (0, 0, 0.5, 0), lambda way: (0, 0, 0, 0))},
        "summary must give four integers, got (0, 0, 0.5, 0) after [0, 0]",
    ),
    "actions without names": ({"actions": (0, 1)}, "actions must be different names, got (0, 1)"),
    "actions of one name": ({"actions": ("a", "a")}, "actions must be different names, got ('a', 'a')"),
    "no outcome": ({"chance": at((), [], GOOD.chance)}, "probabilities of chance must sum to 1, got 0.0 after []"),
    "nothing legal": (
        {"legal": at((1, 1), (), GOOD.legal), "infoset": str},
        "infoset '(1, 1)' is empty: no action is legal after [1, 1]",
    ),
    "actions that do not ascend": (
        {"legal": at((0,), (1, 0), GOOD.legal)},
        "legal must be ascending actions in [0, 2), got [1, 0] after [0]",
    ),
    "an action twice": (
        {"legal": at((0,), (0, 0), GOOD.legal)},
        "legal must be ascending actions in [0, 2), got [0, 0] after [0]",
    ),
    "an action beyond the last": (
        {"legal": at((0,), (0, 2), GOOD.legal)},
        "legal must be ascending actions in [0, 2), got [0, 2] after [0]",
    ),
    "a negative action": (
        {"legal": at((0,), (-1, 0), GOOD.legal)},
        "legal must be ascending actions in [0, 2), got [-1, 0] after [0]",
    ),
    "different actions in one infoset": (
        {"legal": at((1,), (0,), GOOD.legal)},
        "infoset '1()' has player 0 with actions [0, 1] in one place, and player 0 with [0] after [1]: "
        "give them different names",
    ),
    "different players in one infoset": (
        {"infoset": lambda way: "same"},
        "infoset 'same' has player 0 with actions [0, 1] in one place, and player 1 with [0, 1] after [0, 0]",
    ),
    "a player who forgets what he did": (
        {
            "turn": lambda way: (CHANCE, 0, 0, END)[len(way)],
            "infoset": lambda way: str(len(way)),
        },
        "infoset '2' forgets what player 0 has done after [0, 1]: name that too",
    ),
    "a player who forgets that he has acted": (
        {"turn": lambda way: (CHANCE, 0, 0, END)[len(way)], "infoset": lambda way: "here"},
        "infoset 'here' forgets what player 0 has done after [0, 0]: name that too",
    ),
    "a turn of nobody": (
        {"turn": at((1, 0), 7, GOOD.turn)},
        "turn must be 0, 1, CHANCE or END, got 7 after [1, 0]",
    ),
    "a game that never ends": (
        {"turn": lambda way: 0, "infoset": str},
        "max_histories 1000 is too few for example: raise it, or does it end?",
    ),
    "a game without a player": (
        {"turn": lambda way: (CHANCE, END)[len(way)]},
        "nobody ever moves in example: turn gives neither 0 nor 1",
    ),
    "a game that is over before it begins": ({"turn": lambda way: END}, "nobody ever moves in example"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_game_is_refused_and_the_place_named(name: str) -> None:
    changes, message = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_game(GOOD._replace(**changes), max_histories=1000)


def test_numbers_of_any_kind_become_pythons_own() -> None:
    exotic = GOOD._replace(
        turn=lambda way: float(GOOD.turn(way)),
        legal=lambda way: (False, True),
        chance=lambda way: iter([(torch.tensor(0), Fraction(1, 2)), (True, 0.5)]),
        payoffs=lambda way: [Fraction(1), -1],
    )
    for got, want in zip(compile_game(exotic).histories, compile_game(GOOD).histories):
        assert torch.equal(got, want)
        assert got.dtype == want.dtype


def test_the_most_histories_are_a_number() -> None:
    with pytest.raises(ValueError, match=r"max_histories must be an integer >= 1, got 'all'"):
        compile_game(GOOD, max_histories="all")  # type: ignore[arg-type]
