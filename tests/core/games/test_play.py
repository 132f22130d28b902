"""Games played in lockstep: their frequencies, their keys, their records, and what is refused.

Statistical tests reject with probability 1e-6 each (fewer than 30, fixed keys).
"""

import math
from functools import cache, partial

import pyspiel
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.games import CHANCE, END, Rules, Tree, compile_game, expected_value, uniform
from armfold.core.games.play import (
    Trajectory,
    advance,
    check_policy_values,
    check_trajectory,
    play,
    record,
    replay,
    returns,
)
from tests.core.games.plain import compiled, every, grow, random_policy, random_rules, table_law
from tests.purity import check_pure, same_bits

PASS, BET = 0, 1


def keys(games: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), games)


def chances(tree: Tree, policy: Tensor) -> Tensor:
    """The probability of every history [H] under `policy` [I, A], by plain recursion."""
    law, reach = table_law(tree, policy), torch.zeros(len(tree.histories.player), dtype=torch.float64)
    reach[0] = 1
    for node in every(grow(tree)):
        moves = node.chance if node.player == CHANCE else law(node) if node.player != END else ()
        for p, child in zip(moves, node.children):
            reach[child.h] = reach[node.h] * p
    return reach


@cache
def known(name: str) -> tuple[Tree, Tensor, Tensor]:
    """A game, a policy, and the probability of every history under it."""
    tree = compiled(name)
    return tree, random_policy(tree), chances(tree, random_policy(tree))


def fits(drawn: Tensor, probability: Tensor) -> bool:
    """Whether numbers [N] follow probability [H], by a chi-square test at 1e-6; rare ones count together."""
    counts = torch.bincount(drawn, minlength=len(probability)).double()
    want = probability * len(drawn)
    if counts[want == 0].any():
        return False
    rare = want < 10
    counts = torch.cat([counts[~rare], counts[rare].sum().reshape(1)])
    want = torch.cat([want[~rare], want[rare].sum().reshape(1)])
    kept = want > 0
    return int(kept.sum()) == 1 or bool(stats.chisquare(counts[kept].numpy(), want[kept].numpy()).pvalue > 1e-6)


def lanes_first(tree: Tree, policy: Tensor, rng: Tensor, which: Tensor | None = None) -> Trajectory:
    """`play`, with games before steps, as the `variants` fixture wants them."""
    games = play(tree, policy, rng, which)
    return Trajectory(*(x if name in ("payoff", "length") else x.movedim(0, -1) for name, x in games._asdict().items()))


def wheel(outcomes: int) -> Rules:
    """A wheel of many outcomes, the i-th in proportion to i + 1, after which the second player only watches."""
    total = outcomes * (outcomes + 1) / 2
    return Rules(
        name=f"wheel({outcomes})",
        actions=("watch",),
        start=(),
        turn=lambda spun: (CHANCE, 1, END)[len(spun)],
        legal=lambda spun: (0,),
        chance=lambda spun: [(i, (i + 1) / total) for i in range(outcomes)],
        follow=lambda spun, action: (*spun, action),
        payoffs=lambda spun: (float(spun[0]), -float(spun[0])),
        infoset=lambda spun: "watching",
    )


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 4", "goofspiel 4"])
def test_games_end_as_often_as_they_should(name: str) -> None:
    tree, policy, reach = known(name)
    history = play(tree, policy, keys(8000)).history
    over = tree.histories.player == END
    for depth in (len(tree.widths) // 2, len(tree.widths) - 1):
        there = slice(tree.depths[depth], tree.depths[depth + 1])
        assert fits(history[depth], torch.cat([torch.where(over, reach, 0)[: there.start], reach[there]]))


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_games_of_any_shape_end_as_often_as_they_should(seed: int) -> None:
    tree = compile_game(random_rules(seed))
    policy = random_policy(tree, seed=seed)
    ends = play(tree, policy, keys(2000, seed)).history[-1]
    assert fits(ends, torch.where(tree.histories.player == END, chances(tree, policy), 0))


@pytest.mark.parametrize("outcomes", [30, 100])
def test_a_wide_turn_of_chance_is_drawn_by_its_probabilities(outcomes: int) -> None:
    tree = compile_game(wheel(outcomes))
    games = play(tree, uniform(tree), keys(5000))
    assert fits(games.action[0], torch.arange(1, outcomes + 1).double() * 2 / (outcomes * (outcomes + 1)))
    torch.testing.assert_close(games.payoff, games.action[0].double())


@pytest.mark.parametrize("name", ["kuhn", "leduc", "goofspiel 4"])
def test_the_mean_payoff_is_the_expected_value(name: str) -> None:
    tree = compiled(name)
    policy = random_policy(tree)
    won = play(tree, policy, keys(8000)).payoff
    error = float(won.mean() - expected_value(tree, policy)) / float(won.std() / math.sqrt(len(won)))
    assert abs(error) < stats.norm.isf(0.5e-6)


def test_each_player_follows_the_policy_that_is_named_for_him() -> None:
    tree = compiled("leduc")
    stack = torch.stack([random_policy(tree, seed=seed) for seed in range(3)])
    which = random.randint(random.key(1), (500, 2), high=3)
    games = play(tree, stack, keys(500), which)
    for first in range(3):
        for second in range(3):
            together = torch.where((tree.player == 0).unsqueeze(1), stack[first], stack[second])
            there = (which == torch.tensor([first, second])).all(1)
            alone = play(tree, together, keys(500)[there])
            assert all(same_bits(x[..., there].contiguous(), y) for x, y in zip(games, alone))


# ---------------------------------------------------------------- what is recorded


def test_a_game_that_can_be_followed_by_hand() -> None:
    tree = compiled("kuhn")
    policy = torch.zeros(tree.legal.shape, dtype=torch.float64)
    policy[tree.player == 0, BET] = 1
    policy[tree.player == 1, PASS] = 1
    games = play(tree, policy, keys(8))
    cards = games.action[:2]
    assert games.player.tolist() == [[CHANCE] * 8, [CHANCE] * 8, [0] * 8, [1] * 8, [END] * 8]
    assert games.action[2:].tolist() == [[BET] * 8, [PASS] * 8, [-1] * 8]
    assert games.branch[2:].tolist() == [[BET] * 8, [PASS] * 8, [-1] * 8]
    assert (games.payoff.tolist(), games.length.tolist()) == ([1.0] * 8, [4] * 8)
    assert games.probability.tolist() == [[pytest.approx(1 / 3)] * 8, [0.5] * 8, [1] * 8, [1] * 8, [1] * 8]
    names = [[tree.names[i] for i in row] for row in games.infoset[2:4].tolist()]
    assert names == [["JQK"[card] for card in cards[0]], ["JQK"[card] + "b" for card in cards[1]]]
    assert (games.infoset[[0, 1, 4]] == -1).all()
    assert torch.equal(games.history[4], games.history[5])
    assert cards.T.tolist() == [[1, 2], [0, 1], [0, 1], [2, 0], [1, 0], [1, 2], [2, 1], [0, 2]]  # known bits


@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 4", "goofspiel 4"])
def test_openspiel_plays_the_same_games(name: str) -> None:
    tree = compiled(name)
    game = pyspiel.load_game(tree.rules.openspiel)
    games = play(tree, uniform(tree), keys(50))
    for n in range(50):
        state = game.new_initial_state()
        for t in range(int(games.length[n])):
            player = int(games.player[t, n])
            assert state.current_player() == (player if player >= 0 else pyspiel.PlayerId.CHANCE)
            assert state.legal_actions()[int(games.branch[t, n])] == int(games.action[t, n])
            state.apply_action(int(games.action[t, n]))
        assert state.is_terminal()
        assert state.returns() == [float(games.payoff[n]), -float(games.payoff[n])]


@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 4", "goofspiel 4"])
def test_probabilities_are_those_of_the_policy_that_was_followed(name: str) -> None:
    tree, policy, reach = known(name)
    games = play(tree, policy, keys(500))
    torch.testing.assert_close(games.probability.prod(0), reach[games.history[-1]])
    torch.testing.assert_close(games.probability.cumprod(0), reach[games.history[1:]])
    legal = tree.legal[games.infoset.clamp(min=0)]
    moved = games.infoset >= 0
    assert legal[moved, games.action[moved]].all()


def test_games_can_be_told_under_another_policy() -> None:
    tree, other, reach = known("leduc")
    games = play(tree, uniform(tree), keys(500))
    told = record(tree, games.history, other)
    torch.testing.assert_close(told.probability.prod(0), reach[games.history[-1]])
    assert all(same_bits(x, y) for x, y in zip(told._replace(probability=games.probability), games))


def test_returns_are_of_the_player_who_moved() -> None:
    games = play(compiled("kuhn"), uniform(compiled("kuhn")), keys(100))
    sign = torch.tensor([0, 0, 1, -1, 1]).unsqueeze(1) * (games.player >= 0)
    assert torch.equal(returns(games), sign * games.payoff)


def test_a_game_stops_where_its_policy_has_nothing_to_draw_from() -> None:
    tree = compiled("kuhn")
    policy = uniform(tree)
    policy[tree.names.index("Kp")] = 0
    policy[tree.names.index("Kb")] = torch.nan
    games = play(tree, policy, keys(200))
    stopped = games.action[1] == 2  # the second player has the king
    assert 0 < int(stopped.sum()) < 200
    assert torch.equal(torch.isnan(games.payoff), stopped)
    assert torch.equal(games.length == 3, stopped)
    assert (games.action[3:, stopped] == -1).all()
    assert (games.player[3:, stopped] == 1).all()


# ---------------------------------------------------------------- keys and variants


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_games_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    tree = compiled("kuhn")
    rng = keys(math.prod(batch)).reshape(*batch, 2)
    policy, stack = random_policy(tree), random_policy(tree, 4).movedim(-1, 0)
    which = random.randint(rng, (2,), high=4)
    variants(partial(lanes_first, tree, policy), rng, batch=len(batch), exact=True, traced=False)
    variants(partial(lanes_first, tree, stack), rng, which, batch=len(batch), exact=True, traced=False)


@pytest.mark.slow
def test_games_agree_when_traced_and_compiled(variants) -> None:
    tree = compiled("kuhn")
    variants(partial(lanes_first, tree, random_policy(tree)), keys(20), exact=True)
    tree, which = compiled("leduc"), random.randint(keys(20), (2,), high=4)
    stack = random_policy(tree, 4).movedim(-1, 0)
    variants(partial(lanes_first, tree, stack), keys(20), which, exact=True, compiled=True)


def test_a_game_is_the_same_alone_and_among_others() -> None:
    tree = compiled("leduc")
    policy = random_policy(tree)
    games = play(tree, policy, keys(100))
    for n in range(0, 100, 17):
        alone = play(tree, policy, keys(100)[n])
        assert all(same_bits(x[..., n].contiguous(), y) for x, y in zip(games, alone))


def test_advance_needs_no_depth() -> None:
    tree = compiled("leduc")
    policy = random_policy(tree)
    history = torch.arange(len(tree.histories.player))  # all there are, of every depth
    rng = keys(len(history))
    after = advance(tree, history, rng, policy)
    over = tree.histories.player == END
    assert torch.equal(after == history, over)
    assert torch.equal(tree.histories.parent[after][~over], history[~over])
    for depth in range(len(tree.widths)):
        own = slice(tree.depths[depth], tree.depths[depth + 1])
        assert torch.equal(advance(tree, history[own], rng[own], policy, depth=depth), after[own])


def test_play_is_advance_again_and_again() -> None:
    tree = compiled("leduc")
    policy, rng = random_policy(tree), keys(50)
    games = play(tree, policy, rng)
    history = torch.zeros(50, dtype=torch.int64)
    for t in range(len(tree.widths) - 1):
        assert torch.equal(history, games.history[t])
        history = advance(tree, history, random.jump(rng, t), policy)
    assert torch.equal(history, games.history[-1])


def test_functions_are_pure() -> None:
    tree = compiled("kuhn")
    policy, stack = random_policy(tree), random_policy(tree, 4).movedim(-1, 0)
    which = random.randint(keys(5), (2,), high=4)
    games = check_pure(partial(play, tree), policy, keys(5))
    check_pure(partial(play, tree), stack, keys(5), which)
    check_pure(partial(advance, tree), games.history[2], keys(5), stack, which)
    check_pure(partial(record, tree), games.history, policy)
    check_pure(partial(replay, tree), games.action)
    check_pure(returns, games)


# ---------------------------------------------------------------- logs


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_actions_lead_through_the_histories_again(seed: int) -> None:
    tree = compile_game(random_rules(seed))
    policy = random_policy(tree, seed=seed)
    games = play(tree, policy, keys(50, seed))
    history = replay(tree, games.action)
    assert torch.equal(history, games.history)
    assert all(same_bits(x, y) for x, y in zip(record(tree, history, policy), games))
    check_trajectory(tree, games)


def leduc_games() -> tuple[Tree, Trajectory]:
    return compiled("leduc"), play(compiled("leduc"), uniform(compiled("leduc")), keys(50))


def test_an_illegal_action_is_named() -> None:
    tree, games = leduc_games()
    name = tree.names[int(games.infoset[2, 7])]
    action = games.action.clone()
    action[2, 7] = 0  # there is nothing to fold to
    wanted = rf"action 0 of game \[7\] at step 2 is illegal at infoset '{name}': it must be in \[1, 2\]"
    with pytest.raises(ValueError, match=wanted):
        check_trajectory(tree, games._replace(action=action))
    history = replay(tree, action)
    assert (history[3:, 7] == -1).all()
    others = torch.arange(50) != 7
    assert torch.equal(history[:, others], games.history[:, others])


@pytest.mark.parametrize(
    ("step", "done", "where"),
    [
        (1, 6, r"at a turn of chance: it must be in \["),
        (2, -1, r"at infoset '.*': it must be in \[1, 2\]"),
        (10, 1, r"at its end: it must be in \[-1\]"),
    ],
)
def test_other_illegal_actions_are_named(step: int, done: int, where: str) -> None:
    tree, games = leduc_games()
    game = int((games.length < 10).nonzero()[0])
    action = games.action.clone()
    action[step, game] = done
    with pytest.raises(ValueError, match=rf"action {done} of game \[{game}\] at step {step} is illegal {where}"):
        check_trajectory(tree, games._replace(action=action))


@pytest.mark.parametrize("field", [name for name in Trajectory._fields if name != "action"])
def test_a_field_that_contradicts_its_actions_is_named(field: str) -> None:
    tree, games = leduc_games()
    altered = getattr(games, field).clone()
    altered[..., 3] += 2
    with pytest.raises(ValueError, match=rf"trajectory.{field} is .* at \[(0, )?3\], which its actions do not lead to"):
        check_trajectory(tree, games._replace(**{field: altered}))
    with pytest.raises(ShapeError, match=rf"trajectory.{field} must have shape"):
        check_trajectory(tree, games._replace(**{field: altered[..., 1:]}))


# ---------------------------------------------------------------- bad input


def test_policies_that_are_no_laws_are_refused() -> None:
    tree = compiled("leduc")
    for dtype in (torch.float32, torch.float64):
        check_policy_values(tree, random_policy(tree, 3, dtype=dtype))
    policy = uniform(tree)
    for dtype in (torch.float32, torch.float64):  # the same for both: what is written in one is read in the other
        check_policy_values(tree, policy.to(dtype) * (1 + 8e-7))
        with pytest.raises(ValueError, match=r"policy must sum to 1, got 1\.0000"):
            check_policy_values(tree, policy.to(dtype) * (1 + 2e-6))
    i = int((~tree.legal[:, 0]).nonzero()[5])
    for wrong, message in (
        ([0.0, 0.4, 0.5], rf"policy must sum to 1, got 0.9\d* at infoset '{tree.names[i]}'"),
        ([0.1, 0.4, 0.5], rf"got 0.1 of the illegal action 0 at infoset '{tree.names[i]}'"),
        ([0.0, 1.2, -0.2], rf"got -0.2 of the action 2 at infoset '{tree.names[i]}'"),
        ([0.0, math.nan, 1.0], rf"got nan of the action 1 at infoset '{tree.names[i]}'"),
    ):
        policy[i] = torch.tensor(wrong, dtype=torch.float64)
        for table in (policy, torch.stack([uniform(tree), policy], -1)):
            with pytest.raises(ValueError, match=message):
                check_policy_values(tree, table)
        with pytest.raises(ValueError, match=f"infoset number {i}"):
            check_policy_values(tree._replace(names=()), policy)


def test_wrong_shapes_are_named() -> None:
    tree = compiled("kuhn")
    policy, history = uniform(tree), torch.zeros(5, dtype=torch.int64)
    stack, which = uniform(tree, (3,)).movedim(-1, 0), torch.zeros(5, 2, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"rng must have shape \(5, 2\), got \(4, 2\)"):
        advance(tree, history, keys(4), policy)
    with pytest.raises(ShapeError, match=r"rng must be an int64 key"):
        play(tree, policy, torch.zeros(5, 2))
    with pytest.raises(ShapeError, match=r"policy must have shape \(12, 2\), got \(12, 2, 3\)"):
        play(tree, uniform(tree, (3,)), keys(5))
    with pytest.raises(ShapeError, match=r"policy must be floating of shape \('P', 12, 2\), got .*\(12, 2\)"):
        play(tree, policy, keys(5), which)
    with pytest.raises(ShapeError, match=r"which must have shape \(5, 2\), got \(2, 5\)"):
        play(tree, stack, keys(5), which.T)
    with pytest.raises(ShapeError, match=r"which must have dtype torch.int64"):
        play(tree, stack, keys(5), which.int())
    with pytest.raises(ShapeError, match=r"history must have shape \(6, 5\), got \(5, 5\)"):
        record(tree, history.expand(5, 5), policy)
    with pytest.raises(ShapeError, match=r"action must have shape \(5, 5\), got \(6, 5\)"):
        replay(tree, history.expand(6, 5))
    with pytest.raises(ShapeError, match=r"action must have dtype torch.int64"):
        replay(tree, torch.zeros(5, 5))
