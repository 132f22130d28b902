"""Games from OpenSpiel, and policies from it and to it. OpenSpiel is needed where it is used, not to import this."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from armfold.core.check import check_shape
from armfold.core.games import CHANCE, END, Rules, Tree
from armfold.core.games.play import check_policy_values
from armfold.shell.choose import suggest


def _load(name: str) -> Any:
    try:
        import pyspiel
    except ImportError as error:
        raise ValueError("games and policies of OpenSpiel need it: pip install open_spiel") from error
    known = pyspiel.registered_names()
    if (kind := name.partition("(")[0].strip()) not in known:  # OpenSpiel would print all of them
        raise suggest("game of OpenSpiel", kind, known)
    try:
        return pyspiel.load_game(name)
    except pyspiel.SpielError as error:
        raise ValueError(f"OpenSpiel cannot load {name!r}: {str(error).splitlines()[0]}") from error


def _turn_based(game: Any) -> Any:
    """The game with moves one after the other. Raises ValueError unless it is of a kind that rules can hold."""
    import pyspiel  # it is there, for the game is its

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

    Raises ValueError without OpenSpiel, for a name that it does not know, and for games that do not have two players
    and a sum of zero, or that hide the outcomes of chance or what players know.
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

    Raises ValueError where the rules name no game of OpenSpiel, or one that differs from the tree.
    """
    if tree.rules.openspiel is None:
        raise ValueError(f"rules of {tree.rules.name} name no game of OpenSpiel: give them openspiel=")
    fields = (tree.histories.first, tree.histories.branches, tree.histories.action, tree.histories.player)
    first, branches, action, player = (field.tolist() for field in fields)
    waiting = [(0, _load(tree.rules.openspiel).new_initial_state())]
    while waiting:
        h, state = waiting.pop()
        below = range(first[h], first[h] + branches[h])
        theirs = [outcome for outcome, _ in _outcomes(state)] if state.is_chance_node() else state.legal_actions()
        if (player[h], [action[child] for child in below]) != (_turn(state), theirs):
            raise ValueError(f"{tree.rules.openspiel} of OpenSpiel is not {tree.rules.name}: see {str(state)!r}")
        yield h, state
        waiting += [(child, state.child(action[child])) for child in below]


def _deciding(tree: Tree) -> Iterator[tuple[int, Any]]:
    """Every infoset with a state of OpenSpiel's where it is met."""
    infoset, met = tree.histories.infoset.tolist(), {-1}
    for h, state in lockstep(tree):
        if infoset[h] not in met:
            met.add(infoset[h])
            yield infoset[h], state


def to_tabular_policy(tree: Tree, policy: Tensor) -> Any:
    """A policy [I, A] as OpenSpiel's `open_spiel.python.policy.TabularPolicy`.

    Raises ValueError for probabilities of illegal actions or that do not sum to 1, for infosets of both players that
    OpenSpiel names alike and so has one law for, and as `lockstep` does; ShapeError for another shape.
    """
    check_policy_values(tree, policy)
    check_shape("policy", policy, tree.legal.shape)
    states = list(_deciding(tree))
    from open_spiel.python.policy import TabularPolicy

    table, rows = TabularPolicy(states[0][1].get_game()), policy.cpu().double().numpy()
    written: dict[int, int] = {}
    for i, state in states:
        row = table.state_lookup[state.information_state_string()]
        if not (rows[written.setdefault(row, i)] == rows[i]).all():
            raise ValueError(f"infosets {tree.names[written[row]]!r} and {tree.names[i]!r} are one to a TabularPolicy")
        table.action_probability_array[row] = rows[i]
    return table


def from_policy(tree: Tree, policy: Any) -> Tensor:
    """A policy of OpenSpiel, of its solvers in C++ or any of `open_spiel.python.policy`, as a table: [I, A] float64.

    Raises ValueError where it has no law of legal actions, and as `lockstep` does.
    """
    table = torch.zeros(tree.legal.shape, dtype=torch.float64)
    for i, state in _deciding(tree):
        try:
            law = policy.action_probabilities(state)
        except (KeyError, RuntimeError) as error:  # of Python's and of C++'s policies
            raise ValueError(f"policy has no law for infoset {tree.names[i]!r}: is it one of this game?") from error
        for action, p in law.items():
            table[i, action] = p
    check_policy_values(tree, table.float())  # to the digits that a network's law has
    return table
