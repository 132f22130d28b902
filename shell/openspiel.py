"""Games from OpenSpiel, and policies from it and to it. OpenSpiel is needed where it is used, not to import this."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from armfold.core.check import check_shape
from armfold.core.games import CHANCE, END, Rules, Tree
from armfold.core.games.play import NEAR, check_policy_values
from armfold.shell.choose import suggest

_ROUGH = 1e-3  # how far from 1 a law in half precision may sum


def _pyspiel() -> Any:
    try:
        import pyspiel
    except ImportError as error:
        raise ValueError("games and policies of OpenSpiel need it: pip install open_spiel") from error
    return pyspiel


def _load(name: str) -> Any:
    pyspiel = _pyspiel()
    known = pyspiel.registered_names()
    if (kind := name.partition("(")[0].strip()) not in known:  # OpenSpiel would print all of them
        raise suggest("game of OpenSpiel", kind, known)
    try:
        return pyspiel.load_game(name)
    except pyspiel.SpielError as error:
        raise ValueError(f"OpenSpiel cannot load {name!r}: {str(error).splitlines()[0]}") from error


def _turn_based(game: Any) -> Any:
    """The game with moves one after the other. Raises ValueError unless it is of a kind that rules can hold."""
    pyspiel = _pyspiel()
    if not isinstance(game, pyspiel.Game):
        raise ValueError(f"game must be a name or a pyspiel.Game, got {game!r}")
    kind = game.get_type()
    if game.num_players() != 2:
        raise ValueError(f"game must have 2 players, but {game} has {game.num_players()}")
    if kind.utility != kind.Utility.ZERO_SUM:
        raise ValueError(f"game must be zero-sum, but {game} is {kind.utility.name}")
    if kind.chance_mode == kind.ChanceMode.SAMPLED_STOCHASTIC:
        raise ValueError(f"game must tell the outcomes of chance, but {game} only samples them")
    if not kind.provides_information_state_string:
        raise ValueError(f"game must tell what players know, but {game} has no information_state_string")
    if kind.dynamics == kind.Dynamics.SIMULTANEOUS:
        return pyspiel.convert_to_turn_based(game)
    if kind.dynamics != kind.Dynamics.SEQUENTIAL:
        raise ValueError(f"game must be sequential or simultaneous, but {game} is {kind.dynamics.name}")
    return game


def _turn(state: Any) -> int:
    if state.is_terminal():
        return END
    return CHANCE if state.is_chance_node() else int(state.current_player())


def _outcomes(state: Any) -> list[tuple[int, float]]:
    return [(outcome, p) for outcome, p in state.chance_outcomes() if p > 0]


def from_openspiel(game: Any) -> Rules:
    """The rules of a game of OpenSpiel: its name with options, such as "leduc_poker", or a `pyspiel.Game`.

    Moves at the same time become moves one after the other, of which the second player learns nothing. Infosets are
    named by the player and `information_state_string`; views are `information_state_tensor` where the game has it.
    Actions keep their numbers, and are called by them.

    Raises ValueError without OpenSpiel, for what is neither, a name that it does not know, and games that do not have
    two players and a sum of zero, or that hide the outcomes of chance or what players know.
    """
    game = _turn_based(_load(game) if isinstance(game, str) else game)
    view = game.get_type().provides_information_state_tensor
    return Rules(
        name=str(game),
        actions=tuple(str(action) for action in range(game.num_distinct_actions())),
        start=game.new_initial_state(),
        turn=_turn,
        legal=lambda state: state.legal_actions(),
        chance=_outcomes,
        follow=lambda state, action: state.child(action),
        payoffs=lambda state: tuple(state.returns()),
        infoset=lambda state: f"P{state.current_player()} {state.information_state_string()}",
        view=(lambda state, player: state.information_state_tensor(player)) if view else None,
        openspiel=str(game),
    )


def lockstep(tree: Tree) -> Iterator[tuple[int, Any]]:
    """Every history of `tree` with the state of `tree.rules.openspiel` that it is, depth first.

    Raises ValueError where the rules name no game of OpenSpiel, or one that differs from the tree: in whose turn it is,
    in what may be done or drawn, in chances or payoffs (by more than a millionth).
    """
    if tree.rules.openspiel is None:
        raise ValueError(f"rules of {tree.rules.name} name no game of OpenSpiel: give them openspiel=")
    names = ("first", "branches", "player", "action", "probability", "payoff")
    first, branches, player, action, chance, payoff = (getattr(tree.histories, name).tolist() for name in names)
    waiting = [(0, _load(tree.rules.openspiel).new_initial_state())]
    while waiting:
        h, state = waiting.pop()
        below = range(first[h], first[h] + branches[h])
        theirs = _outcomes(state) if state.is_chance_node() else [(move, 1.0) for move in state.legal_actions()]
        alike = (player[h], [action[child] for child in below]) == (_turn(state), [move for move, _ in theirs])
        numbers = [(chance[child], p) for child, (_, p) in zip(below, theirs)]
        if alike and state.is_terminal():
            numbers = [(payoff[h], state.returns()[0])]
        if not alike or not all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in numbers):
            raise ValueError(f"{tree.rules.openspiel} of OpenSpiel is not {tree.rules.name}: see {str(state)!r}")
        yield h, state
        waiting += [(child, state.child(action[child])) for child in below]


def _deciding(tree: Tree) -> Iterator[tuple[int, str, Any]]:
    """Every infoset with each name that OpenSpiel has for it, and a state of OpenSpiel's where it is met."""
    infoset, met = tree.histories.infoset.tolist(), set()
    for h, state in lockstep(tree):
        if infoset[h] >= 0 and (known := (infoset[h], state.information_state_string())) not in met:
            met.add(known)
            yield *known, state


def to_tabular_policy(tree: Tree, policy: Tensor) -> Any:
    """A policy [I, A] as OpenSpiel's `open_spiel.python.policy.TabularPolicy`.

    Raises ValueError for probabilities of illegal actions or that do not sum to 1, for infosets that OpenSpiel names
    alike and so has one law for, where theirs differ, and as `lockstep` does; ShapeError for another shape.
    """
    check_policy_values(tree, policy)
    check_shape("policy", policy, tree.legal.shape)
    states = list(_deciding(tree))
    from open_spiel.python.policy import TabularPolicy

    table, rows = TabularPolicy(states[0][2].get_game()), policy.cpu().double().numpy()
    written: dict[int, int] = {}
    for i, name, _ in states:
        row = table.state_lookup[name]
        if not (rows[written.setdefault(row, i)] == rows[i]).all():
            raise ValueError(f"infosets {tree.names[written[row]]!r} and {tree.names[i]!r} are one to a TabularPolicy")
        table.action_probability_array[row] = rows[i]
    return table


def from_policy(tree: Tree, policy: Any) -> Tensor:
    """A policy of OpenSpiel, of its solvers in C++ or any of `open_spiel.python.policy`, as a table: [I, A] float64.

    Laws that sum to 1 to three digits only, as in half precision, are divided by their sums. Raises ValueError where
    the policy has no law of legal actions, or several for one infoset, and as `lockstep` does.
    """
    laws: dict[int, Tensor] = {}
    for i, name, state in _deciding(tree):
        law = _law(tree, i, policy, state)
        if not torch.allclose(law, laws.setdefault(i, law), rtol=0, atol=NEAR, equal_nan=True):
            raise ValueError(f"policy has several laws for infoset {tree.names[i]!r}: one of them for {name!r}")
    table = torch.stack([laws[i] for i in range(len(tree.names))])
    check_policy_values(tree, table)
    return table


def _law(tree: Tree, i: int, policy: Any, state: Any) -> Tensor:
    """What a policy of OpenSpiel does at a state of infoset `i`: [A] float64."""
    try:
        found = policy.action_probabilities(state)
    except (KeyError, RuntimeError) as error:  # of Python's and of C++'s policies
        raise ValueError(f"policy has no law for infoset {tree.names[i]!r}: is it one of this game?") from error
    law = torch.zeros(tree.legal.shape[1], dtype=torch.float64)
    for action, p in found.items():
        if action not in range(len(law)):
            raise ValueError(
                f"policy must have probabilities of actions in [0, {len(law)}), got {p} of {action!r} at infoset "
                f"{tree.names[i]!r}"
            )
        law[action] = p
    total = law.sum()
    return law / total if NEAR < (total - 1).abs() <= _ROUGH else law
