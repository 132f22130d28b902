"""The `armfold` command."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import tyro

import armfold
from armfold.core.bandits import ALGORITHMS
from armfold.core.catalogue import source, summary
from armfold.core.envs import ENVIRONMENTS
from armfold.core.games import GAMES, MAX_HISTORIES
from armfold.shell.backends.gameboy.build import BuildError
from armfold.shell.choose import suggest
from armfold.shell.cli_armac import armac, show_training
from armfold.shell.cli_bandit import bandit, show_comparison
from armfold.shell.cli_evaluate import evaluate
from armfold.shell.cli_pixels import pixels
from armfold.shell.cli_replay import replay
from armfold.shell.cli_solve import is_game, no_game, show_game, show_solutions, solve
from armfold.shell.cli_sweep import show_sweep, sweep
from armfold.shell.run import compare
from armfold.shell.run.solvers import SOLVERS
from armfold.shell.view.table import print_catalogue
from armfold.shell.words import read_words, refuse_flags


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 with one line on standard error for input that is wrong, or what
    the command says itself; 1, without a word, where nobody reads the output to its end."""
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, as `head` does: what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int | None]] = {
        "bandit": bandit,
        "evaluate": evaluate,
        "sweep": sweep,
        "solve": solve,
        "armac": armac,
        "replay": replay,
        "pixels": pixels,
        "list": catalogue,
        "show": show,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(commands))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"armfold {armfold.__version__}")
        return 0
    if argv[0] not in commands:
        return _fail(str(suggest("command", argv[0], commands)))
    try:
        return commands[argv[0]](argv[1:]) or 0
    except BrokenPipeError:
        raise
    except (ValueError, OSError, BuildError) as error:
        if "--verbose" in argv:
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        kept = "" if argv[0] == "pixels" else "; --resume goes on from what is kept"
        return _fail(f"interrupted{kept}", status=130)


def _fail(message: str, *, status: int = 2) -> int:
    print(f"armfold: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def _usage(commands: dict[str, Callable[[list[str]], int | None]]) -> str:
    lines = [f"  {name:10}{(function.__doc__ or '').splitlines()[0]}" for name, function in commands.items()]
    return "\n".join(["usage: armfold COMMAND [OPTIONS]", "", *lines, "", "armfold COMMAND --help lists its options."])


def catalogue(argv: list[str]) -> None:
    """List the algorithms, environments, games and their solvers, with their sources."""
    read_words(lambda: None, args=argv, prog="armfold list", description=catalogue.__doc__)
    algorithms = [(entry.name, entry.summary, entry.source) for entry in ALGORITHMS.values()]
    environments = [(entry.name, entry.summary, entry.source) for entry in ENVIRONMENTS.values()]
    print_catalogue("Algorithms", algorithms)
    print_catalogue("Environments", environments)
    games = [(name, summary(make), source(make)) for name, make in GAMES.items()]
    solvers = [(name, *entry) for name, entry in SOLVERS.items()]
    print_catalogue("Games", games)
    print_catalogue("Solvers of games", solvers)


def show(argv: list[str]) -> None:
    """Show a finished run or sweep again, its table and pictures, from the files in its folder; or what a game is."""

    def arguments(what: tyro.conf.Positional[str], max_histories: int = MAX_HISTORIES) -> tuple[str, int]:
        """Show a finished run or sweep again, or say what a game is.

        Args:
            what: The folder of the run, or the name of the game.
            max_histories: Histories of the game, at most.
        """
        return what, max_histories

    what, max_histories = read_words(arguments, args=argv, prog="armfold show")
    if is_game(what):
        show_game(what, max_histories=max_histories)
        return
    folder = Path(what)
    if not folder.exists():
        raise no_game(what)
    refuse_flags(argv, {"max_histories": f"{what} is a folder"})
    config = compare.read_config(folder)
    if "grid" in config:
        show_sweep(folder)
        return
    if config["algos"] == ["armac"]:
        show_training(folder)
        return
    if "game" in config:
        show_solutions(folder)
        return
    show_comparison(folder)


if __name__ == "__main__":
    sys.exit(main())
