"""The rules of every game against OpenSpiel's, point by point, and what views and summaries tell."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from armfold.core import games
from armfold.core.games import CHANCE, END, Rules, compile_game, goofspiel, kuhn, leduc, liars_dice
from armfold.core.games.decisions import decisions
from armfold.core.games.infosets import tables
from armfold.shell.openspiel import lockstep
from tests.core.games.plain import GAMES, compiled, every, grow


def check_is_openspiels(tree: games.Tree) -> None:
    """Turns and legal actions are compared by `lockstep` itself; here outcomes, payoffs and who knows what."""
    points, first = tree.histories, tree.histories.first.tolist()
    probability, payoff, infoset = (x.tolist() for x in (points.probability, points.payoff, points.infoset))
    known: dict[tuple[int, str], int] = {}
    count = 0
    for h, state in lockstep(tree):
        count += 1
        if state.is_terminal():
            assert [payoff[h], -payoff[h]] == state.returns()
        elif state.is_chance_node():
            got = probability[first[h] : first[h] + len(state.chance_outcomes())]
            assert got == pytest.approx([p for _, p in state.chance_outcomes()], rel=1e-15)
        else:
            who = (state.current_player(), state.information_state_string())
            assert known.setdefault(who, infoset[h]) == infoset[h]
    assert count == len(points.parent)
    assert sorted(known.values()) == list(range(len(tree.names)))  # one infoset of ours for each of theirs
    assert [player for player, _ in sorted(known, key=known.__getitem__)] == tree.player.tolist()


@pytest.mark.parametrize("name", GAMES)
def test_a_game_is_that_of_openspiel(name: str) -> None:
    check_is_openspiels(compiled(name))


@pytest.mark.slow
@pytest.mark.parametrize("rules", [liars_dice(6), liars_dice(3, 2), goofspiel(5)], ids=lambda rules: rules.name)
def test_a_large_game_is_that_of_openspiel(rules: Rules) -> None:
    check_is_openspiels(compile_game(rules))


def test_lockstep_finds_a_game_that_differs() -> None:
    wrong = liars_dice(4)._replace(openspiel=liars_dice(3).openspiel)
    with pytest.raises(ValueError, match=r"dice_sides=3,numdice=1\) of OpenSpiel is not liars_dice\(4, 1\): see "):
        list(lockstep(compiled("liars_dice 4")._replace(rules=wrong)))
    rigged = [(0, 0.5), (1, 0.25), (2, 0.25)]
    for other in (
        kuhn()._replace(payoffs=lambda state: (7.0, -7.0)),
        kuhn()._replace(chance=lambda state: kuhn().chance(state) if state.cards else rigged),
        kuhn()._replace(legal=lambda state: (0, 1) if state.history else (1,)),
    ):
        with pytest.raises(ValueError, match="kuhn_poker of OpenSpiel is not kuhn: see "):
            list(lockstep(compile_game(other)))
    assert len(list(lockstep(games.move(compiled("kuhn"), dtype=torch.float32)))) == 58  # chances are rounded there


# ---------------------------------------------------------------- what players know


@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 2, 2 dice", "goofspiel 3"])
def test_a_view_is_what_the_player_knows(name: str) -> None:
    """It is the same wherever OpenSpiel tells the player the same, also while he waits, and at his own turns differs
    wherever that differs. A summary is the same throughout an infoset."""
    tree = compiled(name)
    view, summary, nodes = tree.rules.view, tree.rules.summary, {node.h: node for node in every(grow(tree))}
    assert view is not None
    assert summary is not None
    infoset, rows = tree.histories.infoset.tolist(), [tuple(row) for row in tree.summary.tolist()]
    views: dict[tuple[int, str], tuple[float, ...]] = {}
    own = set()
    for h, state in lockstep(tree):
        if (mover := nodes[h].player) >= 0:
            assert summary(nodes[h].state) == rows[infoset[h]]
            own.add((mover, state.information_state_string(mover)))
            for player in (0, 1):
                seen = tuple(view(nodes[h].state, player))
                assert views.setdefault((player, state.information_state_string(player)), seen) == seen
    assert len(own) == len({views[who] for who in own}) == len(tree.names)
    assert len({len(seen) for seen in views.values()}) == 1
    assert {x for seen in views.values() for x in seen} == {0.0, 1.0}


def test_the_summary_of_leduc_is_what_openspiel_prints() -> None:
    tree = compiled("leduc")
    infoset = tree.histories.infoset.tolist()
    for h, state in lockstep(tree):
        if infoset[h] >= 0:
            told = dict(re.findall(r"(\w[\w ()]*): ?([\d ]*)", str(state)))
            money = told["Money (player_0 player_1)"].split()[state.current_player()]
            actions = state.information_state_string().split(f"[Round{told['Round']}: ")[1].split("]")[0].split()
            want = [int(told["Round"]) - 1, len(actions), int(told["Pot"]), int(money) - 100 + 13]
            assert tree.summary[infoset[h]].tolist() == want


@pytest.mark.parametrize(
    ("name", "infoset", "want"),
    [
        ("kuhn", "Kpb", (0, 2, 3, 1)),  # one bet lies in the pot
        ("kuhn", "J", (0, 0, 2, 1)),
        ("liars_dice 4", "3 1-2 2-1", (1, 0, 5, 3)),  # bid number 4 of 8: five are beaten, three and `liar` beat it
        ("liars_dice 4", "1", (0, 0, 0, 8)),
        ("goofspiel 4", "P1 4/+", (1, 1, 3, 6)),  # three prizes are left, and the cards 1, 2 and 3
    ],
)
def test_summaries_worked_out_by_hand(name: str, infoset: str, want: tuple[int, ...]) -> None:
    tree = compiled(name)
    assert tree.summary[tree.names.index(infoset)].tolist() == list(want)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([1.0], "view must give as many numbers everywhere, got 1 after [0, 2], 9 before"),
        (["a"] * 9, "view must give numbers, got ['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a'] after [0, 2]"),
        (None, "view must give numbers, got None after [0, 2]"),
    ],
)
def test_views_that_are_none_are_refused_and_the_place_named(told: Any, message: str) -> None:
    bad = kuhn()._replace(view=lambda state, player: told if state.cards == (0, 2) else kuhn().view(state, player))
    tree = compiled("kuhn")._replace(rules=bad)
    with pytest.raises(ValueError, match=re.escape(message)):
        decisions(tree)
    with pytest.raises(ValueError, match=re.escape(message).replace(r"0,\ 2", ".*")):
        tables(tree)


# ---------------------------------------------------------------- constructors


@pytest.mark.parametrize("name", games.GAMES)
def test_the_registry_makes_games_of_their_names(name: str) -> None:
    rules = games.GAMES[name]()
    assert rules.name.startswith(name)
    state = rules.start
    while (player := rules.turn(state)) != END:
        choices = [outcome for outcome, _ in rules.chance(state)] if player == CHANCE else list(rules.legal(state))
        state = rules.follow(state, choices[-1])
    assert sum(rules.payoffs(state)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: goofspiel(1), "cards must be an integer >= 2, got 1"),
        (lambda: goofspiel(2.0), "cards must be an integer >= 2, got 2.0"),
        (lambda: liars_dice(1), "sides must be an integer >= 2, got 1"),
        (lambda: liars_dice(4, 0), "dice must be an integer >= 1, got 0"),
    ],
)
def test_sizes_that_make_no_game_are_refused(make: Callable[[], Rules], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_equal_ranks_of_leduc_share_the_pot() -> None:
    """Both have a king, of either suit, and no pair: nobody wins, however much lies there."""
    rules = leduc()
    state = rules.start
    for action in (4, 5, 2, 1, 0, 2, 1):  # K, K, raise, call, the public jack, raise, call
        state = rules.follow(state, action)
    assert rules.turn(state) == END
    assert rules.payoffs(state) == (0.0, 0.0)
