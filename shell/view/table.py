"""Tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from armfold.shell.run.result import Row


def print_comparison(rows: Sequence[Row], seconds: Mapping[str, float], *, reference: str, title: str) -> None:
    """Print rows, least regret first, with the time that each learner took. `reference` came first."""
    caption = f"vs first: regret less that of {reference}, paired run by run"
    table = Table(
        title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("learner", no_wrap=True)
    for name in ("regret", "± 95%", "vs first", "± 95%", "optimal", "reward", "sec"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        paired = ("", "") if row.algorithm == reference else (f"{row.difference:+.3f}", f"{row.difference_ci95:.3f}")
        table.add_row(
            row.algorithm,
            f"{row.regret_mean:.3f}",
            f"{row.regret_ci95:.3f}",
            *paired,
            f"{100 * row.optimal_rate:.1f}%",
            f"{row.reward_mean:.4f}",
            f"{seconds[row.algorithm]:.1f}",
        )
    Console().print(table)


def print_catalogue(title: str, entries: Sequence[tuple[str, str, str]]) -> None:
    """Print names with a line and a source each."""
    table = Table(title=title, title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", ratio=3)
    table.add_column("source", ratio=2)
    for entry in entries:
        table.add_row(*entry)
    Console().print(table)
