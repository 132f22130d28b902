"""One player's infosets as tables: against a plain walk over histories, and against the whole tree's tables."""

import pytest
import torch

from armfold.core.games import CHANCE, Tree, compile_game, sequence
from armfold.core.games.infosets import tables, to_sequences, to_table
from armfold.core.games.sums import row_sum
from tests.core.games.plain import Node, compiled, every, grow, random_policy, random_rules, table_law

GAMES = ["kuhn", "leduc", "goofspiel 3"]


def walked(tree: Tree, policy: torch.Tensor, player: int) -> torch.Tensor:
    """The probability that chance and the other player lead to each infoset of `player`, by plain recursion."""
    law, reach = table_law(tree, policy), dict.fromkeys(tree.names, 0.0)

    def walk(node: Node, chance: float) -> None:
        if node.player == player:
            reach[node.infoset] += chance
        odds = node.chance if node.player == CHANCE else law(node) if node.player == 1 - player else [1.0] * 9
        for p, child in zip(odds, node.children):
            walk(child, chance * p)

    walk(grow(tree), 1.0)
    return torch.tensor(
        [reach[tree.names[i]] for i in (tree.player == player).nonzero().flatten()], dtype=torch.float64
    )


@pytest.mark.parametrize("name", [*GAMES, "random"])
def test_reach_is_that_of_the_histories(name: str) -> None:
    tree = compile_game(random_rules(7)) if name == "random" else compiled(name)
    policy = random_policy(tree)
    for player, (own, other) in enumerate(zip(tables(tree).players, tables(tree).players[::-1])):
        plan = sequence.plan(other.side, to_sequences(other, policy[tree.player == 1 - player]))
        torch.testing.assert_close(row_sum(own.reach, plan), walked(tree, policy, player))


@pytest.mark.parametrize("name", GAMES)
def test_tables_are_the_trees_cut_in_two(name: str) -> None:
    tree = compiled(name)
    policy = random_policy(tree, 2, 3)
    for player, own in enumerate(tables(tree).players):
        mine, sequences = tree.player == player, sequence.bounds(tree)[player]
        assert torch.equal(to_sequences(own, policy[mine]), sequence.from_table(tree, policy)[sequences])
        assert torch.equal(to_table(own, to_sequences(own, policy[mine])), policy[mine])
        assert torch.equal(own.legal, tree.legal[mine])


def test_keys_tell_apart_what_their_level_says() -> None:
    tree = compiled("leduc")
    first = tree.player == 0
    for level, columns in ((0, [0, 1]), (1, [0, 1, 2, 3]), (None, None)):
        own = tables(tree, level=level).players[0]
        assert torch.equal(row_sum(own.members, torch.ones(len(own.key))), torch.bincount(own.key).float())
        if columns is None:
            assert torch.equal(own.key, torch.arange(len(own.legal)))
        else:
            _, kind = torch.unique(tree.summary[first][:, columns], dim=0, return_inverse=True)
            # At level 1 amounts fall into buckets: one key may have several of them, but no amount has two keys.
            assert len(torch.unique(torch.stack((kind, own.key)), dim=1)[0]) == int(kind.max()) + 1
            assert level or int(own.key.max()) == int(kind.max())
    with pytest.raises(ValueError, match="level must be 0, 1 or None, got 2"):
        tables(tree, level=2)


@pytest.mark.parametrize("name", ["kuhn", "goofspiel 3"])
def test_features_are_what_the_player_sees(name: str) -> None:
    """The view of any history of an infoset, not only of the first, and nothing but numbers of at most 1."""
    tree = compiled(name)
    features = torch.cat([own.features for own in tables(tree).players])
    row = {name: features[i, 5:].tolist() for i, name in enumerate(tree.names)}
    for node in every(grow(tree)):
        if node.player >= 0:
            assert row[node.infoset] == [float(x) for x in tree.rules.view(node.state, node.player)]
    assert features[:, 0].tolist() == tree.player.tolist()
    assert features[:, 1:5].max() == 1


def test_features_do_without_a_view() -> None:
    tree = compile_game(random_rules(1))
    assert [own.features.shape[1] for own in tables(tree).players] == [5, 5]
