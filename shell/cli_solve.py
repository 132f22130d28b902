"""The `armfold solve` command."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any, Literal

import torch

from armfold.core.games import GAMES, MAX_HISTORIES
from armfold.shell.choose import suggest
from armfold.shell.device import find_device
from armfold.shell.games import find_tree, fingerprint
from armfold.shell.options import RunOptions
from armfold.shell.run import compare
from armfold.shell.run.solution import Solution, load, save
from armfold.shell.run.solve import solve as run
from armfold.shell.run.solvers import SAMPLED
from armfold.shell.store.files import find_place
from armfold.shell.store.policies import write_policy
from armfold.shell.view.console import log_to_terminal
from armfold.shell.view.solve import draw_solutions, print_game, print_solutions
from armfold.shell.words import read_words, refuse_flags

_EXPORTS = ("policy", "last")


@dataclasses.dataclass(frozen=True)
class _Game:
    """What is solved, and how."""

    game: str = "kuhn"
    """kuhn, leduc, liars_dice, goofspiel, with options such as "liars_dice(6, 1)" where they have them; a game of
    OpenSpiel's as openspiel:NAME; or your own as package.module:function."""
    algo: str = "cfr_plus"
    """Algorithms, separated by commas (see `armfold list`)."""
    iterations: int = 1000
    """Iterations of each algorithm, at most."""
    tolerance: float | None = None
    """Exploitability of the average policy that is small enough to stop at; looked at at the points of the curve."""
    points: int = 20
    """Points of the curve in each power of ten."""
    seed: int = 0
    """Seed of mccfr, the algorithm that draws."""
    traversals: int = 256
    """Traversals for each player in an iteration of mccfr."""
    export: str = "policy"
    """What to write of each algorithm as a table, separated by commas: policy, the average one; last, the one that it
    would play next."""
    max_histories: int = MAX_HISTORIES
    """Histories of the game, at most: larger ones are refused before they fill the memory."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of the algorithms' arithmetic; exploitabilities are measured in float64."""
    device: str = "cpu"
    """Where to run: cpu, cuda, cuda:1, ..."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile the iteration: always, never, or where the iterations are enough to pay for it."""
    csv: Path | None = None
    """A file to write the comparison to as well, the same as summary.csv in the run folder."""


@dataclasses.dataclass(frozen=True)
class _Options(RunOptions, _Game):
    """Solve a game: a policy that nobody can exploit, its exploitability as it falls, a table of the policy."""


_OF_SAMPLED = ("seed", "traversals")
_KEPT = ("game", "iterations", "tolerance", "points", *_OF_SAMPLED, "dtype", "device", "compile")  # in config.json
_TOLD = (
    "iterations",
    "tolerance",
    "points",
    *_OF_SAMPLED,
    "device",
    "compile",
    "threads",
    "checkpoint_every",
    "resume",
)


def solve(argv: list[str]) -> None:
    """Solve a game with counterfactual regret minimisation, and measure how exploitable the solution is."""
    config = read_words(_Options, args=argv, prog="armfold solve", description=_Options.__doc__)
    algos, exports = _names("algo", config.algo), _names("export", config.export, known=_EXPORTS)
    if SAMPLED not in algos:
        refuse_flags(argv, dict.fromkeys(_OF_SAMPLED, f"{SAMPLED} is not among the algorithms"))
    find_device(config.device)
    log_to_terminal(verbose=config.verbose, quiet=config.quiet)
    folder = config.folder(config.game)
    tree = find_tree(config.game, max_histories=config.max_histories)
    same = {name: getattr(config, name) for name in _TOLD} | {"dtype": getattr(torch, config.dtype)}
    for name in algos:  # errors that an iteration shows come before anything is written
        run(tree, algo=name, **{**same, "iterations": min(config.iterations, 1), "compile": "off", "progress": False})
    csv = find_place("csv", config.csv)
    identity = {**{name: getattr(config, name) for name in _KEPT}, "algos": algos, "rules": fingerprint(tree)}
    compare.open_folder(folder, identity, resume=config.resume)
    solutions = {}
    for name in algos:
        kept = compare.result_folder(folder, name)
        solutions[name] = run(tree, algo=name, **same, checkpoint=kept, progress=not config.quiet, label=name)
    for name, solution in solutions.items():
        for word in exports:
            policy = solution.policy if word == "policy" else solution.last
            write_policy(folder / f"{word}-{compare.file_name(name)}.csv", tree, policy)
    _report(folder, solutions, identity, csv=csv, quiet=config.quiet)


def _names(option: str, text: str, known: tuple[str, ...] = ()) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names and not known:
        raise ValueError(f"{option} must name at least one, got {text!r}")
    for name in names:
        if known and name not in known:
            raise suggest(option, name, known)
    return names


def is_game(text: str) -> bool:
    """Whether that is a game's name rather than a folder's."""
    return not Path(text).exists() and (text.partition("(")[0].strip() in GAMES or ":" in text)


def no_game(text: str) -> ValueError:
    """An error that says that this is neither a folder nor a game, with a game of nearly that name."""
    near = difflib.get_close_matches(text.partition("(")[0].strip(), GAMES, n=1)
    return ValueError(f"there is no folder {text}" + (f": did you mean the game {near[0]!r}?" if near else ""))


def show_game(text: str, *, max_histories: int) -> None:
    """Say what a game is."""
    print_game(find_tree(text, max_histories=max_histories))


def show_solutions(folder: Path) -> None:
    """Show a finished run again, from the files in its folder and the rules of its game."""
    _report(folder, *load(folder), quiet=False)


def _report(
    folder: Path, solutions: dict[str, Solution], config: dict[str, Any], *, csv: Path | None = None, quiet: bool
) -> None:
    tree = next(iter(solutions.values())).tree
    title = f"{tree.rules.name}: {len(tree.names)} infosets, {len(tree.histories.player)} histories"
    summary, records = save(folder, solutions, config, csv=csv)
    picture = folder / "exploitability.png"
    draw_solutions(solutions, picture, title=title)
    print_solutions(solutions, title=title)
    if not quiet:
        policies = [f"{word}: {path}" for word in _EXPORTS for path in sorted(folder.glob(f"{word}-*.csv"))]
        print("\n".join([f"table: {summary}", f"records: {records}", f"picture: {picture}", *policies]))
