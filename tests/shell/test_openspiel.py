"""Games from OpenSpiel, and policies from it and to it, against OpenSpiel's own numbers."""

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pyspiel
import pytest
import torch
from open_spiel.python import policy as open_spiel_policy
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.games import Tree, compile_game, exploitability, kuhn, solve, uniform
from armfold.shell import openspiel
from armfold.shell.openspiel import from_openspiel, from_policy, lockstep, to_tabular_policy
from tests.core.games.plain import compiled, every, grow, random_policy, random_rules

FOREIGN = [
    "kuhn_poker",
    "matrix_rps",
    "blotto(coins=4,fields=2)",
    "nim(pile_sizes=1;2;3)",
    "coordinated_mp",
    "dark_hex(num_rows=2,num_cols=2)",
    "goofspiel(imp_info=True,num_cards=3,points_order=random)",
]


def their_exploitability(tree: Tree, table: Any) -> float:
    """OpenSpiel's, of a TabularPolicy."""
    rows = table.action_probability_array.tolist()
    laws = {key: list(enumerate(rows[row])) for key, row in table.state_lookup.items()}
    return float(pyspiel.exploitability(pyspiel.load_game(tree.rules.openspiel), laws))


def solved(tree: Tree) -> Tensor:
    state = solve.init(tree)
    for _ in range(10):
        state = solve.step(tree, state)
    return solve.average_policy(tree, state)


# ---------------------------------------------------------------- games


@pytest.mark.parametrize("name", FOREIGN)
def test_a_game_of_openspiel_is_solved_as_by_openspiel(name: str) -> None:
    tree = compile_game(from_openspiel(name))
    game = pyspiel.load_game(tree.rules.openspiel)
    solver = pyspiel.CFRPlusSolver(game)
    for _ in range(10):
        solver.evaluate_and_update_policy()
    policy = solved(tree)
    torch.testing.assert_close(from_policy(tree, solver.average_policy()), policy, rtol=0, atol=1e-9)
    assert float(exploitability(tree, policy)) == pytest.approx(
        pyspiel.exploitability(game, solver.average_policy()), abs=1e-12
    )


@pytest.mark.parametrize("name", ["leduc", "goofspiel 3"])
def test_our_own_games_come_back_as_they_are(name: str) -> None:
    """All but the names and the order of infosets, which are the same too, since both are met in one order."""
    ours, theirs = compiled(name), compile_game(from_openspiel(compiled(name).rules.openspiel))
    for field in ("parent", "action", "player", "infoset", "probability", "reach", "payoff", "sequence"):
        assert torch.equal(getattr(ours.histories, field), getattr(theirs.histories, field))
    assert torch.equal(ours.legal, theirs.legal)


def test_a_game_object_is_taken_as_well_as_its_name() -> None:
    game = pyspiel.load_game("kuhn_poker")
    rules = from_openspiel(game)
    assert rules.name == rules.openspiel == "kuhn_poker()"
    assert rules.actions == ("0", "1")
    assert compile_game(rules).names[0] == "P0 0"
    assert from_openspiel(pyspiel.load_game("matrix_rps")).name == "turn_based_simultaneous_game(game=matrix_rps())"


def test_views_are_information_state_tensors() -> None:
    rules = from_openspiel("kuhn_poker")
    assert rules.view is not None
    for node in every(grow(compile_game(rules))):
        if node.player >= 0:
            assert rules.view(node.state, node.player) == node.state.information_state_tensor()
    assert from_openspiel("nim").view is None


def test_players_who_are_told_the_same_are_told_apart() -> None:
    rules = from_openspiel("phantom_ttt")
    first, second = rules.start, rules.follow(rules.start, 4)
    assert first.information_state_string(0) == second.information_state_string(1)
    assert rules.infoset(first) != rules.infoset(second)


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ("nonsense", "unknown game of OpenSpiel 'nonsense': known are 2048, "),
        ("kuhn_poker(cards=9)", "OpenSpiel cannot load 'kuhn_poker(cards=9)': Unknown parameter 'cards'"),
        ("kuhn_poker(players=3)", "game must have 2 players, but kuhn_poker(players=3) has 3"),
        ("matrix_pd", "game must be zero-sum, but matrix_pd() is GENERAL_SUM"),
        ("first_sealed_auction", "game must be zero-sum, but first_sealed_auction() is GENERAL_SUM"),
        ("markov_soccer", "game must tell what players know, but markov_soccer"),
    ],
)
def test_games_that_rules_cannot_hold_are_refused(game: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        from_openspiel(game)


def test_what_is_neither_a_game_nor_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"game must be a name or a pyspiel\.Game, got 3"):
        from_openspiel(3)


def test_games_of_players_who_forget_are_refused_when_they_are_compiled() -> None:
    with pytest.raises(ValueError, match="forgets what player 1 has done after"):
        compile_game(from_openspiel("liars_dice_ir(dice_sides=3)"))


# ---------------------------------------------------------------- policies


@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 2, 2 dice", "goofspiel 4"])
def test_a_policy_keeps_its_exploitability_and_comes_back(name: str) -> None:
    tree = compiled(name)
    policy = random_policy(tree)
    table = to_tabular_policy(tree, policy)
    assert type(table) is open_spiel_policy.TabularPolicy
    assert their_exploitability(tree, table) == pytest.approx(float(exploitability(tree, policy)), abs=1e-12)
    assert torch.equal(from_policy(tree, table), policy)


def test_a_policy_in_float32_is_written_as_it_is() -> None:
    tree = compiled("kuhn")
    policy = random_policy(tree, dtype=torch.float32)
    assert torch.equal(from_policy(tree, to_tabular_policy(tree, policy)), policy.double())


def test_policies_of_every_kind_are_read() -> None:
    tree = compiled("kuhn")
    game = pyspiel.load_game("kuhn_poker")
    assert torch.equal(from_policy(tree, open_spiel_policy.UniformRandomPolicy(game)), uniform(tree))
    assert torch.equal(from_policy(tree, pyspiel.UniformRandomPolicy(game)), uniform(tree))


def test_a_policy_of_another_game_is_refused() -> None:
    tree = compiled("kuhn")
    other = pyspiel.load_game("leduc_poker")
    with pytest.raises(ValueError, match=r"policy has no law for infoset '[JQK]': is it one of this game\?"):
        from_policy(tree, open_spiel_policy.TabularPolicy(other))
    with pytest.raises(ValueError, match=r"policy must sum to 1, got 0\.0 at infoset 'J'"):
        from_policy(tree, pyspiel.TabularPolicy({}))


def alike() -> Tree:
    """Kuhn poker of players who take a queen for a king."""
    ours = kuhn()
    return compile_game(ours._replace(infoset=lambda state: ours.infoset(state).replace("Q", "K")))


def test_what_openspiel_alone_tells_apart_has_one_law() -> None:
    tree = alike()
    policy = random_policy(tree)
    table = to_tabular_policy(tree, policy)
    rows = {key: table.action_probability_array[row].tolist() for key, row in table.state_lookup.items()}
    cards = {"0": "J", "1": "K", "2": "K"}
    assert rows == {key: policy[tree.names.index(cards[key[0]] + key[1:])].tolist() for key in rows}
    assert torch.equal(from_policy(tree, table), policy)
    table.action_probability_array[table.state_lookup["1pb"]] = [0.25, 0.75]
    with pytest.raises(ValueError, match=r"policy has several laws for infoset 'Kpb': one of them for '[12]pb'"):
        from_policy(tree, table)


def test_a_law_in_half_precision_is_divided_by_its_sum() -> None:
    tree = compiled("goofspiel 3")

    def half(state: Any) -> dict[int, float]:
        legal = state.legal_actions()
        return {action: torch.tensor(1 / len(legal)).half().item() for action in legal}

    policy = from_policy(tree, SimpleNamespace(action_probabilities=half))
    torch.testing.assert_close(policy, uniform(tree), rtol=0, atol=1e-12)
    to_tabular_policy(tree, policy)
    short = SimpleNamespace(action_probabilities=lambda state: {a: 0.999 * p for a, p in half(state).items()})
    with pytest.raises(ValueError, match=r"policy must sum to 1, got 0\.99"):
        from_policy(tree, short)


@pytest.mark.parametrize("action", [5, -1, "pass"])
def test_actions_that_are_none_are_refused(action: Any) -> None:
    policy = SimpleNamespace(action_probabilities=lambda state: {action: 1.0})
    message = f"policy must have probabilities of actions in [0, 2), got 1.0 of {action!r} at infoset '"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_policy(compiled("kuhn"), policy)


def test_tables_that_are_no_policy_are_refused() -> None:
    tree = compiled("leduc")
    policy = uniform(tree)
    with pytest.raises(ValueError, match=r"policy must sum to 1, got 0\.5 at infoset 'Js '"):
        to_tabular_policy(tree, torch.where(torch.arange(936).reshape(-1, 1) == 0, policy / 2, policy))
    with pytest.raises(ValueError, match="illegal action"):
        to_tabular_policy(tree, torch.full_like(policy, 1 / 3))
    with pytest.raises(ValueError, match="got nan of the action"):
        to_tabular_policy(tree, torch.where(policy == 1 / 3, torch.nan, policy))
    with pytest.raises(ShapeError, match=r"policy must .* got torch.float64 \(936, 2\)"):
        to_tabular_policy(tree, policy[:, :2])
    with pytest.raises(ShapeError, match=r"policy must have shape \(936, 3\), got \(936, 3, 2\)"):
        to_tabular_policy(tree, uniform(tree, (2,)))


def test_rules_without_a_game_of_openspiel_are_refused() -> None:
    tree = compile_game(random_rules(0))
    with pytest.raises(ValueError, match=r"rules of random\(0\) name no game of OpenSpiel: give them openspiel="):
        to_tabular_policy(tree, uniform(tree))


def test_infosets_that_a_table_cannot_tell_apart_are_refused() -> None:
    """As in phantom tic-tac-toe, where both begin with the same empty board; a small game is made so here."""
    rules = from_openspiel("kuhn_poker")
    tree = compile_game(rules._replace(infoset=lambda state: f"{state.information_state_string()} {state}"))
    different = uniform(tree)
    different[0] = torch.tensor([0.25, 0.75], dtype=torch.float64)
    with pytest.raises(ValueError, match="are one to a TabularPolicy"):
        to_tabular_policy(tree, different)
    assert torch.equal(from_policy(tree, to_tabular_policy(tree, uniform(tree))), uniform(tree))


# ---------------------------------------------------------------- OpenSpiel itself


@pytest.mark.slow
def test_openspiel_is_imported_by_nothing_but_its_use() -> None:
    code = (
        "import sys, armfold, armfold.shell, armfold.shell.openspiel, armfold.core.games;"
        "sys.exit(any(name.split('.')[0] in ('pyspiel', 'open_spiel') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_openspiel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    for use in (
        lambda: from_openspiel("kuhn_poker"),
        lambda: list(lockstep(compiled("kuhn"))),
        lambda: to_tabular_policy(compiled("kuhn"), uniform(compiled("kuhn"))),
    ):
        with pytest.raises(ValueError, match="OpenSpiel need it: pip install open_spiel"):
            use()
    assert openspiel.from_openspiel is from_openspiel
