"""Plots, written as PNG files. Lines differ in dash and marker as well as in colour: they print in black and white."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from armfold.shell.run.result import Result
from armfold.shell.store.files import write_whole

_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
_MARKERS = "osD^vP*X<>hd"
_LABEL_GAP = 0.045  # of the height of the axes


def _spread(heights: list[float], gap: float) -> list[float]:
    """Heights moved apart, up from the lowest, so that neighbours are at least `gap` from each other."""
    placed = dict.fromkeys(range(len(heights)), 0.0)
    last = -float("inf")
    for i in sorted(placed, key=heights.__getitem__):
        last = placed[i] = max(heights[i], last + gap)
    return list(placed.values())


def draw_regret(results: Mapping[str, Result], path: Path, *, title: str) -> None:
    """Mean cumulative pseudo-regret over time with 95% bands, one line for each result, labelled at its end."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    order = sorted(results, key=lambda name: -results[name].curve_mean[-1].item())
    colours = mpl.colormaps["viridis"]  # to 0.8 of it: its yellow end is faint in print
    for i, name in enumerate(order):
        result = results[name]
        t, mean, ci95 = result.curve_t.numpy(), result.curve_mean.numpy(), result.curve_ci95.numpy()
        colour = colours(0.8 * i / max(len(order) - 1, 1))
        every = max(1, len(t) // 8)
        style: dict[str, Any] = {"linestyle": _DASHES[i % len(_DASHES)], "marker": _MARKERS[i % len(_MARKERS)]}
        axes.plot(t, mean, color=colour, markersize=5, markevery=(i * every // len(order), every), label=name, **style)
        axes.fill_between(t, mean - ci95, mean + ci95, color=colour, alpha=0.25, linewidth=0)
    axes.set(xlabel="step", ylabel="mean cumulative pseudo-regret (95% band)", title=title)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    ends = [results[name].curve_mean[-1].item() for name in order]
    heights = _spread(ends, _LABEL_GAP * axes.get_ylim()[1])
    for name, end, height in zip(order, ends, heights, strict=True):
        axes.annotate(
            name, (results[name].steps, end), (1.03, height), textcoords=axes.get_yaxis_transform(), va="center",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.5, "color": "grey"},
            annotation_clip=False,
        )  # fmt: skip
    axes.legend(frameon=False, loc="upper left", fontsize="small", handlelength=4)
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))
