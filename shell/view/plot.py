"""Plots, written as PNG files. Lines differ in dash and marker as well as in colour: they print in black and white."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from armfold.shell.run.result import Result
from armfold.shell.store.files import write_whole

_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
_MARKERS = "osD^vP*X<>hd"
_LABEL_GAP = 0.045  # of the height of the axes


def _spread(heights: list[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved apart within [low, high], so that neighbours are at least `gap` from each other, or as far as there
    is room: up from the lowest, then down from the top."""
    order, placed = sorted(range(len(heights)), key=heights.__getitem__), list(heights)
    gap = min(gap, (high - low) / max(len(heights) - 1, 1))
    last = low - gap
    for i in order:
        last = placed[i] = max(placed[i], last + gap)
    last = high + gap
    for i in reversed(order):
        last = placed[i] = min(placed[i], last - gap)
    return placed


class Line(NamedTuple):
    """What is drawn for one name: a mean with a 95% band over x."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    ci95: Sequence[float]  # half-widths
    level: bool = False  # one number, the same at all x
    beside: Sequence[float] = ()  # drawn thin, in the same colour


def draw_regret(results: Mapping[str, Result], path: Path, *, title: str) -> None:
    """Mean cumulative pseudo-regret over time with 95% bands, one line for each result, labelled at its end."""
    lines = [
        Line(name, result.curve_t.tolist(), result.curve_mean.tolist(), result.curve_ci95.tolist())
        for name, result in results.items()
    ]
    figure, axes = _start(xlabel="step", ylabel="mean cumulative pseudo-regret (95% band)", title=title)
    _draw(axes, lines)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="upper left", fontsize="small", handlelength=4)
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))


def draw_sweep(
    lines: Sequence[Line],
    path: Path,
    *,
    parameter: str,
    title: str,
    scale: Literal["linear", "log", "symlog"] = "linear",
    least: float = 1.0,
    ticks: Mapping[float, str] = MappingProxyType({}),
    dots: bool = False,
) -> None:
    """Regret over the values of a parameter with 95% bands, one line for each label.

    scale: of the parameter; "symlog" is linear below `least`. ticks: what to write at which values, where not left to
    the scale. dots: values drawn at random, and choices, which no line joins.
    """
    extent = "interval" if dots else "band"
    figure, axes = _start(xlabel=parameter, ylabel=f"mean pseudo-regret at the end (95% {extent})", title=title)
    axes.set_xscale(scale, **({"linthresh": least} if scale == "symlog" else {}))
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xticks([], minor=True)
    means = [mean for line in lines for mean in line.mean if math.isfinite(mean)]
    _draw(axes, lines, dots=dots, from_zero=bool(means) and min(means) < max(means) / 2)
    if dots and len(lines) > 1:
        axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))


def draw_exploitability(lines: Sequence[Line], path: Path, *, title: str) -> None:
    """Exploitability over iterations on logarithmic axes, one line for each label: of the average policy, labelled at
    its end, and thin beside it that of the last one."""
    figure, axes = _start(xlabel="iteration", ylabel="exploitability", title=title)
    axes.set(xscale="log", yscale="log")
    axes.grid(which="major", linewidth=0.4, color="0.88")
    axes.set_axisbelow(True)
    _draw(axes, lines, from_zero=False)
    average = axes.plot([], [], color="0.3", marker="o", markersize=5, label="average policy")
    last = axes.plot([], [], color="0.3", linewidth=0.8, alpha=0.7, label="last policy")
    axes.legend(handles=[*average, *last], frameon=False, loc="lower left", fontsize="small", handlelength=3)
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=150))


def _start(*, xlabel: str, ylabel: str, title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw(axes: Any, lines: Sequence[Line], *, dots: bool = False, from_zero: bool = True) -> None:
    """The lines, highest end first, each labelled at its end; as dots, none is."""
    order = sorted(lines, key=lambda line: -line.mean[-1])
    colours = mpl.colormaps["viridis"]  # to 0.8 of it: its yellow end is faint in print
    for i, (label, x, mean, ci95, level, beside) in enumerate(order):
        colour = colours(0.8 * i / max(len(order) - 1, 1))
        every = max(1, len(x) // 8)
        style: dict[str, Any] = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 5, "color": colour}
        if dots and not level:
            axes.errorbar(x, mean, yerr=ci95, label=label, linestyle="", elinewidth=0.8, **style)
            continue
        style |= {"linestyle": _DASHES[i % len(_DASHES)], "markevery": (i * every // len(order), every)}
        axes.plot(x, mean, label=label, **style)
        low, high = ([m + sign * c for m, c in zip(mean, ci95)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
        if beside:
            axes.plot(x, beside, color=colour, linewidth=0.8, alpha=0.7, zorder=1)
    if from_zero:
        axes.set_ylim(bottom=0)
    if not dots:
        _label_ends(axes, order)


def _label_ends(axes: Any, lines: Sequence[Line]) -> None:
    lines = [line for line in lines if math.isfinite(line.mean[-1])]
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    ends = [line.mean[-1] for line in lines]
    heights = _spread(scale.transform(ends).tolist(), _LABEL_GAP * (high - low), low, high)
    for (label, x, *_), end, height in zip(lines, ends, scale.inverted().transform(heights), strict=True):
        axes.annotate(
            label, (x[-1], end), (1.03, height), textcoords=axes.get_yaxis_transform(), va="center",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.5, "color": "grey"},
            annotation_clip=False,
        )  # fmt: skip
