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
    columns = fit_columns(_COMPARISON, cells, dispensable=_DISPENSABLE, width=console.width)
    paired = f"vs first: regret less that of {reference}, paired run by run" if "difference" in columns else None
    console.print(make_table(columns, cells, title=title, caption=paired))


def fit_columns(
    headings: Mapping[str, str], cells: Sequence[Mapping[str, str]], *, dispensable: Sequence[str], width: int
) -> dict[str, str]:
    """The headings of the columns that there is room for, by name: of `dispensable` ones, the first go first."""
    fitting = dict(headings)
    for name in dispensable:
        if sum(3 + max(len(fitting[key]), *(len(cell[key]) for cell in cells)) for key in fitting) > width:
            del fitting[name]
    return fitting


def make_table(
    headings: Mapping[str, str], cells: Sequence[Mapping[str, str]], *, title: str, caption: str | None
) -> Table:
    """A table with these columns of the cells: the first to the left, numbers to the right."""
    layout = {"title_justify": "left", "caption_justify": "left", "box": SIMPLE_HEAD, "pad_edge": False}
    table = Table(title=title, caption=caption, **layout)  # type: ignore[arg-type]
    for i, heading in enumerate(headings.values()):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for cell in cells:
        table.add_row(*(cell[name] for name in headings))
    return table


def _cells(row: Row, seconds: float, *, paired: bool) -> dict[str, str]:
    difference = (f"{row.difference:+.3f}", f"{row.difference_ci95:.3f}") if paired else ("", "")
    regret = (f"{row.regret_mean:.3f}", f"{row.regret_ci95:.3f}")
    rates = (f"{100 * row.optimal_rate:.1f}%", f"{row.reward_mean:.4f}", f"{seconds:.1f}")
    return dict(zip(_COMPARISON, (row.algorithm, *regret, *difference, *rates), strict=True))


def print_catalogue(title: str, entries: Sequence[tuple[str, str, str]]) -> None:
    """Print names with a line and a source each."""
    table = Table(title=title, title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", ratio=3)
    table.add_column("source", ratio=2)
    for entry in entries:
        table.add_row(*entry)
    Console().print(table)
