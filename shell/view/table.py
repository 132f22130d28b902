"""Tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from armfold.shell.run.result import Row

_COMPARISON = {
    "learner": "learner", "regret": "regret", "ci95": "± 95%", "difference": "vs first", "difference_ci95": "± 95%",
    "optimal": "optimal", "reward": "reward", "seconds": "sec",
}  # fmt: skip
_DISPENSABLE = ("seconds", "reward", "difference_ci95", "difference", "optimal", "ci95")  # the first to go comes first


def print_comparison(rows: Sequence[Row], seconds: Mapping[str, float], *, reference: str, title: str) -> None:
    """Print rows, least regret first, with the time that each learner took. `reference` came first. In a terminal that
    is too narrow, columns are left out."""
    console = Console()
    cells = [_cells(row, seconds[row.algorithm], paired=row.algorithm != reference) for row in rows]
    columns = list(_COMPARISON)
    for name in _DISPENSABLE:
        if sum(_width(column, cells) for column in columns) > console.width:
            columns.remove(name)
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    if "difference" in columns:
        table.caption = f"vs first: regret less that of {reference}, paired run by run"
    for name in columns:
        table.add_column(_COMPARISON[name], justify="left" if name == "learner" else "right", no_wrap=True)
    for cell in cells:
        table.add_row(*(cell[name] for name in columns))
    console.print(table)


def _cells(row: Row, seconds: float, *, paired: bool) -> dict[str, str]:
    difference = (f"{row.difference:+.3f}", f"{row.difference_ci95:.3f}") if paired else ("", "")
    regret = (f"{row.regret_mean:.3f}", f"{row.regret_ci95:.3f}")
    rates = (f"{100 * row.optimal_rate:.1f}%", f"{row.reward_mean:.4f}", f"{seconds:.1f}")
    return dict(zip(_COMPARISON, (row.algorithm, *regret, *difference, *rates), strict=True))


def _width(column: str, cells: Sequence[Mapping[str, str]]) -> int:
    return 3 + max(len(_COMPARISON[column]), *(len(cell[column]) for cell in cells))


def print_catalogue(title: str, entries: Sequence[tuple[str, str, str]]) -> None:
    """Print names with a line and a source each."""
    table = Table(title=title, title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", ratio=3)
    table.add_column("source", ratio=2)
    for entry in entries:
        table.add_row(*entry)
    Console().print(table)
