"""What a person looks at of games and their solutions: a table, a picture, and what a game is."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from armfold.core.games import END, Tree, expected_value, exploitability, uniform
from armfold.shell.run.solution import Row, Solution, tabulate
from armfold.shell.view.plot import Line, draw_exploitability
from armfold.shell.view.table import fit_columns, make_table

_COLUMNS = {
    "algorithm": "algorithm", "iterations": "iterations", "exploitability": "exploitability", "last": "of last",
    "value": "value", "rate": "it/s", "seconds": "sec",
}  # fmt: skip
_DISPENSABLE = ("seconds", "rate", "value", "last")  # the first to go comes first
_ROUNDING = 1e-15  # what is below it is drawn there: logarithms know no 0


def print_solutions(solutions: Mapping[str, Solution], *, title: str) -> None:
    """Print a row for each solution, least exploitable first; iterations a second are those of the whole run, compiling
    and measuring included. In a terminal that is too narrow, columns are left out."""
    rows, console = tabulate(solutions), Console()
    cells = [_cells(row, solutions[row.algorithm].seconds) for row in rows]
    columns = fit_columns(_COLUMNS, cells, dispensable=_DISPENSABLE, width=console.width)
    converged = [row.algorithm for row in rows if row.converged]
    caption = f"within the tolerance: {', '.join(converged)}" if converged else None
    console.print(make_table(columns, cells, title=title, caption=caption))


def _cells(row: Row, seconds: float) -> dict[str, str]:
    numbers = (f"{row.exploitability:.3g}", f"{row.exploitability_last:.3g}", _signed(row.value))
    times = (f"{row.iterations / seconds:.0f}", f"{seconds:.1f}")
    return dict(zip(_COLUMNS, (row.algorithm, str(row.iterations), *numbers, *times), strict=True))


def _signed(value: float) -> str:
    return f"{round(value, 6) + 0.0:+.6f}"  # which knows no -0


def draw_solutions(solutions: Mapping[str, Solution], path: Path, *, title: str) -> None:
    """Write the curves of all solutions to a picture."""
    lines = []
    for name, solution in solutions.items():
        average, last = ([max(x, _ROUNDING) for x in curve] for curve in solution.means())
        lines.append(Line(name, solution.curve_t.tolist(), average, [0.0] * len(average), beside=last))
    draw_exploitability(lines, path, title=title)


def print_game(tree: Tree) -> None:
    """Print what a game is: its size, its actions, and what uniform play is worth."""
    policy, ends = uniform(tree), int((tree.histories.player == END).sum())
    first, actions = int((tree.player == 0).sum()), tree.rules.actions
    gain, value = exploitability(tree, policy).item(), expected_value(tree, policy).item()
    facts = {
        "infosets": f"{len(tree.names)}: {first} of the first player, {len(tree.names) - first} of the second",
        "sequences": " and ".join(str(len(side.infoset)) for side in tree.sides),
        "histories": f"{tree.depths[-1]}, {ends} of them ends, the longest of {len(tree.depths) - 2} moves and deals",
        "actions": f"{len(actions)}: {', '.join(actions)}",
        "uniform play": f"exploitability {gain:.6f}, value {_signed(value)} to the first player",
        "in OpenSpiel": tree.rules.openspiel or "not known",
    }
    table = Table("", "", title=tree.rules.name, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.columns[1].overflow = "fold"
    for fact, text in facts.items():
        table.add_row(fact, text)
    Console().print(table)
