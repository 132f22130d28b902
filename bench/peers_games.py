"""Solvers of games to compare with: OpenSpiel's in C++, and LiteEFG."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from armfold.core import games
from armfold.core.games import Tree
from armfold.shell.openspiel import from_policy
from bench import record


class Peer(NamedTuple):
    """A solver that goes on from where it stands."""

    play: record.Play  # iterations
    exploitability: Callable[[], float]  # of the average policy
    counts: int = 1  # traversals of an iteration, where it samples them
    alike: float | None = 1e-9  # how much its exploitability may differ from ours, relatively; None: it draws


def load(tree: Tree) -> Any:
    """The tree's game in OpenSpiel. Raises CannotRunError where that is not installed."""
    try:
        import pyspiel
    except ImportError as error:
        raise record.CannotRunError("games are compared with OpenSpiel: pip install open_spiel") from error
    return pyspiel.load_game(tree.rules.openspiel)


def repeat(f: Callable[[], object]) -> record.Play:
    """`f` as many times as there are steps."""

    def play(steps: int) -> None:
        for _ in range(steps):
            f()

    return play


def _measured(tree: Tree, solver: Any) -> Callable[[], float]:
    return lambda: float(games.exploitability(tree, from_policy(tree, solver.average_policy())))


def openspiel(tree: Tree) -> Peer:
    """CFR+."""
    game = load(tree)
    import pyspiel

    solver = pyspiel.CFRPlusSolver(game)
    return Peer(repeat(solver.evaluate_and_update_policy), _measured(tree, solver))


def openspiel_mccfr(tree: Tree) -> Peer:
    """External-sampling MCCFR: a traversal for each player in an iteration."""
    game = load(tree)
    import pyspiel

    solver = pyspiel.ExternalSamplingMCCFRSolver(game, seed=0)
    return Peer(repeat(solver.run_iteration), _measured(tree, solver), counts=2, alike=None)


def liteefg(tree: Tree) -> Peer | None:
    """CFR+, which averages the policies after the updates, not those before; None where it is not installed."""
    if record.version("LiteEFG") is None:
        record.console.print("[yellow]LiteEFG is not installed: its row is left out")
        return None
    import LiteEFG
    from LiteEFG.baselines import CFRplus

    graph = CFRplus.graph()
    with _home():  # where it leaves the game as a file
        env = LiteEFG.OpenSpielEnv(load(tree))
    env.set_graph(graph)

    def iterate() -> None:
        graph.update_graph(env)
        env.update_strategy(graph.current_strategy())

    def exploitability() -> float:
        return float(sum(env.exploitability(graph.current_strategy(), "linear-avg-iterate")) / 2)

    return Peer(repeat(iterate), exploitability, alike=0.4)


@contextlib.contextmanager
def _home() -> Iterator[None]:
    """A home folder for a moment."""
    kept = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("HOME")
            if kept is not None:
                os.environ["HOME"] = kept


PEERS: dict[str, Callable[[Tree], Peer | None]] = {
    "openspiel": openspiel,
    "openspiel mccfr": openspiel_mccfr,
    "liteefg": liteefg,
}
