"""The table of an evaluation."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from armfold.shell.run.evaluate import Evaluation, Line


def print_evaluation(evaluation: Evaluation) -> None:
    """Print every estimate with its intervals; the logging policy's own mean reward comes last, to compare with."""
    methods = list(evaluation.logged.intervals)
    caption = (
        f"effective sample size {evaluation.effective_sample_size:.1f} of {evaluation.rows} rows "
        f"({100 * evaluation.ess_share:.1f}%), largest weight {evaluation.largest_weight:.3g}"
    )
    if any(line.estimator == "dm" for line in evaluation.lines):
        caption += "\nintervals of dm leave out the error of its model"
    table = Table(
        title=f"{evaluation.policy}: reward a step, {100 * evaluation.level:g}% intervals",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("estimator", no_wrap=True)
    for name in ("value", *methods):
        table.add_column(name, justify="right", no_wrap=True)
    for line in (*evaluation.lines, evaluation.logged):
        table.add_row(line.estimator, f"{line.value:.4f}", *(_ends(line, method) for method in methods))
    Console().print(table)


def _ends(line: Line, method: str) -> str:
    ends = line.intervals[method]
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"
