"""What a person looks at of trained seeds: a table, and curves of exploitability and lambda."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from rich.console import Console

from armfold.shell.run.training import Trained, row_seconds, tabulate
from armfold.shell.store.files import write_whole
from armfold.shell.view.table import fit_columns, make_table

_COLUMNS = {
    "seed": "seed", "epochs": "epochs", "exploitability": "exploitability", "last": "of last", "value": "value",
    "lam": "lambda", "spread": "± over infosets", "seconds": "CPU sec",
}  # fmt: skip
_DISPENSABLE = ("spread", "value", "epochs", "lam", "seconds", "last")  # the first to go comes first
_CURVES = {  # what is drawn of exploitability: of which policy, how thick, how dashed
    "exploitability": ("average policy", 2.2, "-"),
    "exploitability_last": ("last policy", 1.4, "--"),
    "exploitability_actor": ("its actor", 1.2, "-."),
    "exploitability_regret": ("its regret policy", 1.2, ":"),
}


def print_training(trained: Mapping[int, Trained], *, title: str) -> None:
    """Print a row for each seed and one of their means. In a terminal that is too narrow, columns are left out."""
    seconds, console = row_seconds(trained), Console()
    cells = [_cells(row, seconds[row["seed"]]) for row in tabulate(trained)]
    columns = fit_columns(_COLUMNS, cells, dispensable=_DISPENSABLE, width=console.width)
    console.print(make_table(columns, cells, title=title, caption=None))


def _cells(row: Mapping[str, Any], seconds: float) -> dict[str, str]:
    numbers = (f"{row['exploitability']:.4f}", f"{row['exploitability_last']:.4f}", f"{row['value'] + 0.0:+.4f}")
    lam = (f"{row['mixing_lam_mean']:.3f}", f"{row['mixing_lam_std']:.3f}")
    return dict(zip(_COLUMNS, (row["seed"], str(row["epochs"]), *numbers, *lam, f"{seconds:.1f}"), strict=True))


def draw_training(trained: Mapping[int, Trained], path: Path, *, uniform: float, title: str) -> None:
    """Write a picture: above, exploitability over epochs, where `uniform` is that of uniform play; below, lambda.

    Thick lines are means over seeds, thin ones the seeds.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    found = list(trained.values())
    for i, (name, (label, width, dash)) in enumerate(_CURVES.items()):
        style = {"linewidth": width, "linestyle": dash, "color": mpl.colormaps["viridis"](0.27 * i)}
        _draw(upper, found, name, label=label, **style)
    upper.axhline(uniform, color="0.6", linewidth=0.8)
    upper.annotate("uniform play", (1, uniform), (-4, 3), xycoords=upper.get_yaxis_transform(), color="0.4",
                   textcoords="offset points", ha="right", fontsize="small")  # fmt: skip
    upper.set(yscale="log", ylabel="exploitability", title=title)
    upper.yaxis.set_major_formatter(_plain)
    upper.yaxis.set_minor_formatter(_Minor(minor_thresholds=(2, 0.5)))
    lam, spread = (
        torch.stack([one.measure(f"mixing_lam_{name}") for one in found]).mean(0) for name in ("mean", "std")
    )
    low, high = (lam - spread).clamp(min=0), (lam + spread).clamp(max=1)
    lower.fill_between(found[0].curve_epoch, low, high, color="0.5", alpha=0.2, linewidth=0, label="± its std")
    _draw(lower, found, "mixing_lam_mean", label="mean over infosets", color="black", linewidth=1.6)
    lower.set(xlabel="epoch", ylabel="lambda, the actor's share", ylim=(-0.03, 1.03))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small", loc="best", handlelength=4)
    if len(found) > 1:
        upper.get_legend().set_title("means, and thin each seed", prop={"size": "small"})
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))


def _plain(x: float, _: int) -> str:
    return f"{x:g}"


class _Minor(LogFormatter):
    """Numbers as `_plain` writes them, where a log axis spans so little that it has room for some between tens."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _draw(axes: Any, found: Sequence[Trained], name: str, *, color: Any, **style: Any) -> None:
    curves = [one.measure(name) for one in found]
    axes.plot(found[0].curve_epoch, torch.stack(curves).mean(0), color=color, **style)
    for curve in curves if len(curves) > 1 else ():
        axes.plot(found[0].curve_epoch, curve, color=color, linewidth=0.6, alpha=0.4)
