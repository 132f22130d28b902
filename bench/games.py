"""Solving games beside OpenSpiel's solvers in C++ and LiteEFG: iterations, exact exploitability, how far they come.

All sides run on the same game, one after the other on one thread: CFR+, or traversals of external-sampling MCCFR. Ours,
in float64 as theirs, go through `shell.solve`, which also measures exploitability at every power of ten. Iterations are
held against OpenSpiel's only where both sides are as exploitable after as many of them; LiteEFG's CFR+ has iterates of
its own, and is only reported, where it is installed: it pins an old JAX that its tables do not use, so
`pip install --no-deps LiteEFG pandas`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from armfold import shell
from armfold.core import games
from armfold.core.games import Tree
from armfold.core.games.solve import VARIANTS
from armfold.shell.openspiel import from_policy
from bench import record
from bench.peers_games import PEERS, load, repeat

UNIT = "solver-iterations per second (traversals, evaluations; 1 / exploitability)"
_CHECKED = 10  # iterations after which sides are compared
_TRAVERSALS = 256  # at once


class Case(NamedTuple):
    """A run of `shell.solve`, and the least ratio of its rate to each peer's; None: only reported."""

    game: str
    options: dict[str, Any]
    bars: dict[str, float | None]
    lanes: int = 1
    traversals: int = 1  # for both players, where it samples them


_MCCFR = {"compile": "on", "algo": "mccfr", "traversals": _TRAVERSALS}
CASES = {
    "leduc": Case("leduc", {"compile": "on"}, {"openspiel": 30.0, "liteefg": None}),
    "leduc, eager": Case("leduc", {"compile": "off"}, {"openspiel": None}),
    "leduc, 64 lanes": Case("leduc", {"compile": "on", "batch": (64,)}, {"openspiel": 200.0}, lanes=64),
    "leduc, mccfr": Case("leduc", _MCCFR, {"openspiel mccfr": None}, traversals=2 * _TRAVERSALS),
    "liars_dice 6": Case("liars_dice 6", {"compile": "on"}, {"openspiel": 30.0, "liteefg": None}),
    "liars_dice 6, eager": Case("liars_dice 6", {"compile": "off"}, {"openspiel": None}),
}
EVALUATED = {"exploitability of liars_dice 6": ("liars_dice 6", 500.0)}  # the game, and the least ratio to OpenSpiel's
REACHED = {"kuhn": 1e-7, "leduc": 2e-4, "liars_dice 6": 2e-4}  # after 1000 iterations of the best variant
GAMES: dict[str, Callable[[], games.Rules]] = {
    "kuhn": games.kuhn,
    "leduc": games.leduc,
    "liars_dice 6": games.liars_dice,
}
ROWS = (*CASES, *EVALUATED, *(f"reached in {game}" for game in REACHED))
QUICK = ("leduc, eager", "reached in kuhn")  # seconds, not minutes


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = record.parser("games", (__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=_rows, default=";".join(ROWS), help="rows to run, with ; between them")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long one repeat of one side lasts")
    parser.add_argument("--iterations", type=record.positive, default=1000, help="of the rows of what is reached")
    parser.add_argument("--quick", action="store_true", help="a smoke run of two rows, for which no bar counts")
    options = parser.parse_args(arguments)
    if options.device != "cpu":
        parser.error("the peers run on the CPU: --device cpu")
    return options


def _rows(text: str) -> list[str]:
    names = text.split(";")
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(map(repr, unknown))}; choose from {'; '.join(ROWS)}")
    return names


def compare_speed(name: str, tree: Tree, options: argparse.Namespace) -> Iterator[record.Row]:
    """Iterations per second of one case, against every peer's."""
    case = CASES[name]
    peers = {peer: side for peer in case.bars if (side := PEERS[peer](tree)) is not None}
    run = partial(shell.solve, tree, points=1, progress=False, **case.options)
    sides: dict[str, record.Play] = {"ours": lambda steps: run(iterations=steps)}
    sides |= {peer: side.play for peer, side in peers.items()}
    ours = float(run(iterations=_CHECKED).curve[-1].mean())
    theirs = {}
    for peer, side in peers.items():
        side.play(_CHECKED * case.traversals // side.counts)
        theirs[peer] = side.exploitability()
    timings = record.race(sides, repeats=options.repeats, seconds=options.seconds, first=_CHECKED)
    record.warn_if_shared(timings)
    for peer, side in peers.items():
        detail = {
            "options": case.options,
            "exploitability": {"iterations": _CHECKED, "ours": ours, "peer": theirs[peer]},
            "timings": {who: timings[who]._asdict() for who in ("ours", peer)},
        }
        rates = case.lanes * case.traversals * timings["ours"].rate, side.counts * timings[peer].rate
        sound = side.alike is None or abs(ours - theirs[peer]) <= side.alike * ours
        yield record.Row(name, peer, *rates, None if options.quick else case.bars[peer], detail, sound)


def compare_evaluation(name: str, tree: Tree, options: argparse.Namespace) -> Iterator[record.Row]:
    """Exact exploitabilities per second, of the policy of a few iterations."""
    game = load(tree)
    import pyspiel

    solver = pyspiel.CFRPlusSolver(game)
    for _ in range(_CHECKED):
        solver.evaluate_and_update_policy()
    theirs = solver.average_policy()
    ours = from_policy(tree, theirs)
    sides = {
        "ours": lambda: float(games.exploitability(tree, ours)),
        "openspiel": lambda: float(pyspiel.exploitability(game, theirs)),
    }
    found = {side: evaluate() for side, evaluate in sides.items()}
    plays = {side: repeat(evaluate) for side, evaluate in sides.items()}
    timings = record.race(plays, repeats=options.repeats, seconds=options.seconds, first=1)
    record.warn_if_shared(timings)
    detail = {
        "options": {"compile": "off"},
        "exploitability": found,
        "timings": {side: timing._asdict() for side, timing in timings.items()},
    }
    rates = (timings["ours"].rate, timings["openspiel"].rate)
    sound = abs(found["ours"] - found["openspiel"]) <= 1e-9
    yield record.Row(name, "openspiel", *rates, None if options.quick else EVALUATED[name][1], detail, sound)


def compare_reached(game: str, tree: Tree, options: argparse.Namespace) -> Iterator[record.Row]:
    """The exploitability of every variant after 1000 iterations, and the best one's against the bar."""
    found: dict[str, dict[str, float]] = {}
    for variant in VARIANTS:
        run = shell.solve(tree, algo=variant, iterations=options.iterations, compile="off", progress=False)
        found[variant] = {"average": float(run.curve[-1]), "last": float(run.curve_last[-1]), "seconds": run.seconds}
        record.console.print(f"{game}, {variant}: {found[variant]['average']:.2e}, last {found[variant]['last']:.2e}")
    best = min(found, key=lambda variant: found[variant]["average"])
    bar = 1.0 if options.iterations >= 1000 and not options.quick else None
    detail = {"mode": "eager", "iterations": options.iterations, "best": best, "exploitability": found}
    yield record.Row(
        f"reached in {game}", f"{REACHED[game]:g}", 1 / found[best]["average"], 1 / REACHED[game], bar, detail
    )


def measure(options: argparse.Namespace) -> list[record.Row]:
    """Every row that was asked for."""
    trees: dict[str, Tree] = {}

    def tree(game: str) -> Tree:
        if game not in trees:
            trees[game] = games.compile_game(GAMES[game]())
        return trees[game]

    rows: list[record.Row] = []
    for name in options.only:
        print(name, file=sys.stderr)
        if name in CASES:
            rows += compare_speed(name, tree(CASES[name].game), options)
        elif name in EVALUATED:
            rows += compare_evaluation(name, tree(EVALUATED[name][0]), options)
        else:
            game = name.removeprefix("reached in ")
            rows += compare_reached(game, tree(game), options)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    if options.quick:
        options.only, options.repeats, options.seconds = QUICK, 1, 0.1
    return record.run("games", options, UNIT, partial(measure, options))


if __name__ == "__main__":
    sys.exit(main())
