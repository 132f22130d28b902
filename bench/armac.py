"""ARMAC with networks beside OpenSpiel's Deep CFR and NFSP: exact exploitability, the same CPU time, one thread.

Ours trains first, a seed after the other, with the defaults of `armfold armac`. The mean CPU time of its seeds is what
each seed of a peer then has, with the settings of the peer's own examples; measuring a peer, with the steps in which
Deep CFR's policy network learns what is measured, comes on top of that. All that is measured is the average policy.
"""

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from armfold import shell
from armfold.core import games
from armfold.core.games import Tree
from armfold.core.games.armac import Settings
from armfold.shell.games import find_tree
from bench import record
from bench.peers_neural import PEERS, SETTINGS, SOURCES, modules

UNIT = "1 / exploitability (1 / CPU seconds)"
SEEDS, PEER_SEEDS = 5, 2
POINTS = 4  # of the curves


class Case(NamedTuple):
    """What is asked of a game."""

    exploitability: float  # mean of seeds, at most
    seconds: float  # CPU time of the slowest seed, at most
    peers: float | None  # least ratio of a peer's exploitability to ours; None: only reported


CASES = {"kuhn": Case(0.02, 120.0, None), "leduc": Case(0.25, 900.0, 1.0)}
QUICK_SETTINGS = Settings(games=512, critic_games=256, hidden=(16,), stored=8, regret_steps=10, meta_games=64)


class Seed(NamedTuple):
    """What a seed came to."""

    seed: int
    exploitability: float
    seconds: float  # CPU time
    curve: list[tuple[int, float, float]]  # epochs, iterations or games; CPU seconds; exploitability


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.armac",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Prints one JSON record on stdout, all else on stderr. Exit code: 0; 1, a bar missed; 2, cannot run.",
    )
    parser.add_argument("--game", nargs="+", choices=CASES, default=list(CASES), help="games to run")
    parser.add_argument("--seeds", type=record.positive, default=SEEDS, help=f"of ours; bars count from {SEEDS} on")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a seed each, for which no bar counts")
    parser.add_argument("--out", type=Path, help="also write the record to this file")
    parser.set_defaults(device="cpu")
    return parser.parse_args(arguments)


def tell(game: str, who: str, found: Seed) -> Seed:
    """A line on stderr for those who wait."""
    told = f"exploitability {found.exploitability:.4f} after {found.seconds:.1f} CPU seconds"
    record.console.print(f"{game}, {who}, seed {found.seed}: {told}", highlight=False)
    return found


def train(tree: Tree, settings: dict[str, Any], seed: int) -> Seed:
    """Train ours until its epochs are done."""
    found = shell.run_armac(tree, seeds=(seed,), points=POINTS, progress=False, **settings)[seed]
    points = (found.curve_epoch, found.curve_seconds, found.measure("exploitability"))
    curve = list(zip(*(point.tolist() for point in points), strict=True))
    return Seed(seed, float(games.exploitability(tree, found.average)), found.seconds, curve)


def train_peer(tree: Tree, name: str, settings: dict[str, Any], seconds: float, seed: int) -> Seed:
    """Train a peer for some seconds of CPU time; what it began then, it ends."""
    peer = PEERS[name](tree, settings, seed)
    curve: list[tuple[int, float, float]] = []
    steps, spent = 0, 0.0
    for point in range(1, POINTS + 1):
        while not steps or spent < seconds * point / POINTS:
            spent += record.timed(peer.play, 1)[1]
            steps += 1
        curve.append((steps, spent, peer.exploitability()))
    return Seed(seed, curve[-1][2], spent, curve)


def detail(settings: dict[str, Any], source: str, seeds: list[Seed]) -> dict[str, Any]:
    """A side, as the record has it."""
    return {"settings": settings, "source": source, "seeds": [seed._asdict() for seed in seeds]}


def compare(game: str, options: argparse.Namespace) -> list[record.Row]:
    """Ours against the bars of a game, and against each peer."""
    case, tree, quick = CASES[game], find_tree(game), options.quick
    counts = not quick and options.seeds >= SEEDS
    settings: dict[str, Any] = {"settings": QUICK_SETTINGS, "epochs": POINTS} if quick else {"settings": Settings()}
    found = [tell(game, "ours", train(tree, settings, seed)) for seed in range(1 if quick else options.seeds)]
    ours = statistics.mean(seed.exploitability for seed in found)
    seconds, slowest = statistics.mean(seed.seconds for seed in found), max(seed.seconds for seed in found)
    source = "a smoke run" if quick else "the defaults of armfold armac"
    told = detail({**settings["settings"]._asdict(), "epochs": found[0].curve[-1][0]}, source, found)
    bar = 1.0 if counts else None
    rows = [
        record.Row(f"{game}, mean of seeds", f"{case.exploitability:g}", 1 / ours, 1 / case.exploitability, bar, told),
        record.Row(f"{game}, CPU seconds", f"{case.seconds:g}", 1 / slowest, 1 / case.seconds, bar, {}),
    ]
    for name in PEERS:
        at = SETTINGS[name][game]
        run = partial(train_peer, tree, name, at, seconds)
        peers = [tell(game, name, run(seed)) for seed in range(1 if quick else PEER_SEEDS)]
        theirs = statistics.mean(seed.exploitability for seed in peers)
        told = detail(at, SOURCES[name].format(game), peers)
        rows.append(record.Row(game, name, 1 / ours, 1 / theirs, case.peers if counts else None, told))
    return rows


def measure(options: argparse.Namespace) -> list[record.Row]:
    """Every row that was asked for."""
    modules()  # or else this ends now, not when ours are trained
    return [row for game in options.game for row in compare(game, options)]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    return record.run("armac", options, UNIT, partial(measure, options))


if __name__ == "__main__":
    sys.exit(main())
