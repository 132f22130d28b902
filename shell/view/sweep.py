"""What a person looks at of a sweep: its best points as a table, and a picture for each parameter."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from armfold.shell.run.result import mean_ci95
from armfold.shell.run.space import Value
from armfold.shell.run.sweep import Row, Sweep
from armfold.shell.view.plot import Line, draw_sweep

_BEST = 12  # rows of the table, or a few more: each learner is shown in each environment
_MOST_WORLDS = 12  # environments of the table
_MOST_LINES = 6  # values of another parameter that get a line of their own
_MOST_TICKS = 7  # values that are written at a logarithmic axis, in place of powers of ten
_DECADE = 10.0  # least ratio of values that logarithmic axes are for


def print_best(sweep: Sweep, *, title: str) -> None:
    """Print the best points of each algorithm in each environment that was swept, least regret first; what several
    seeds gave is put together."""
    points: dict[tuple[str, tuple[Value | None, ...]], list[int]] = {}
    for i, row in enumerate(sweep.rows):
        key = (row.algorithm, tuple(row.tunables.get(name) for name in sweep.parameters))
        points.setdefault(key, []).append(i)
    shown = _best(sweep, points.values())
    caption = f"the best {len(shown)} of {len(points)} points; sweep.csv has them all"
    table = Table(
        title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("learner", no_wrap=True)
    for name in (*sweep.parameters, "regret", "± 95%", "optimal", "reward"):
        table.add_column(name, justify="right", no_wrap=True)
    for rows in shown:
        tunables = sweep.rows[rows[0]].tunables
        mean, ci95 = mean_ci95(sweep.regret[rows].flatten())
        optimal, reward = sweep.optimal[rows].mean().item(), sweep.reward[rows].mean().item()
        cells = (_text(tunables[name]) if name in tunables else "" for name in sweep.parameters)
        numbers = (f"{mean:.3f}", f"{ci95:.3f}", f"{100 * optimal:.1f}%", f"{reward:.4f}")
        table.add_row(sweep.rows[rows[0]].algorithm, *cells, *numbers)
    Console().print(table)


def _best(sweep: Sweep, points: Iterable[list[int]]) -> list[list[int]]:
    """Of points, as rows that differ in the seed alone, the best of each algorithm in each environment, which are in
    the order of the sweep: regrets in different environments do not compare."""
    worlds: dict[tuple[Value, ...], list[list[int]]] = {}
    for rows in points:
        row = sweep.rows[rows[0]]
        world = tuple(value for name, value in row.tunables.items() if not _owns(row.algorithm, name))
        worlds.setdefault(world, []).append(rows)
    algorithms = {row.algorithm for row in sweep.rows}
    share = max(1, _BEST // (len(algorithms) * min(len(worlds), _MOST_WORLDS)))
    found = []
    for members in list(worlds.values())[:_MOST_WORLDS]:
        left = dict.fromkeys(algorithms, share)
        for rows in sorted(members, key=lambda rows: sweep.regret[rows].mean().item()):
            left[sweep.rows[rows[0]].algorithm] -= 1
            if left[sweep.rows[rows[0]].algorithm] >= 0:
                found.append(rows)
    return found


def _owns(algorithm: str, parameter: str) -> bool:
    """Whether a parameter is the algorithm's own, not the environment's."""
    return parameter.startswith(f"{algorithm}.")


def _text(value: Value, *, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def draw_parameters(sweep: Sweep, folder: Path, *, title: str) -> list[Path]:
    """Write sweep-<parameter>.png for each parameter of two values or more; returns the paths."""
    paths = []
    for name in sweep.parameters:
        values = _values(sweep.rows, name)
        if len(values) < 2:
            continue
        lines, note = _lines(sweep, name, values)
        path = folder / f"sweep-{name.replace(':', '-')}.png"
        numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
        scale = choose_scale(numbers) if len(numbers) == len(values) else "linear"
        ticks = len(numbers) < len(values) or (scale != "linear" and len(values) <= _MOST_TICKS)
        draw_sweep(
            lines,
            path,
            parameter=name,
            title=f"{title}\n{note}" if note else title,
            scale=scale,
            least=min((x for x in numbers if x > 0), default=1.0),
            ticks={place: _text(value, digits=3) for place, value in zip(_places(values), values)} if ticks else {},
            dots=name in sweep.drawn,
        )
        paths.append(path)
    return paths


def choose_scale(values: Sequence[float]) -> Literal["linear", "log", "symlog"]:
    """The axis for values that are spaced so: "symlog" for those that lie on "log" but for a 0."""
    positive = sorted(value for value in values if value > 0)
    if min(values) < 0 or len(positive) < 3 or positive[-1] < _DECADE * positive[0]:
        return "linear"
    low, middle, high = positive[0], statistics.median(positive), positive[-1]
    if math.log((low + high) / 2 / middle) < abs(math.log(middle / math.sqrt(low * high))):
        return "linear"
    return "symlog" if min(values) == 0 else "log"


def _values(rows: Iterable[Row], name: str) -> list[Value]:
    """The values of a parameter: numbers in order, others as they come."""
    values = list(dict.fromkeys(row.tunables[name] for row in rows if name in row.tunables))
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else values


def _places(values: list[Value]) -> list[float]:
    """Where values lie on the axis: numbers where they are, others side by side."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return numbers if len(numbers) == len(values) else [float(i) for i in range(len(values))]


def _lines(sweep: Sweep, name: str, values: list[Value]) -> tuple[list[Line], str]:
    """A line for each algorithm, or for each value of the only other parameter; and what becomes of others.

    Algorithms that the parameter does not concern are level, and left out where options of their own are swept.
    """
    several = [other for other in sweep.parameters if other != name and len(_values(sweep.rows, other)) > 1]
    concerned = {row.algorithm for row in sweep.rows if name in row.tunables}
    rows = [
        (i, row)
        for i, row in enumerate(sweep.rows)
        if row.algorithm in concerned or not any(_owns(row.algorithm, other) for other in several)
    ]
    others = [other for other in several if any(other in row.tunables for _, row in rows)]
    split = others if len(others) == 1 and others[0] not in sweep.drawn else []
    if split and len(_values(sweep.rows, split[0])) > _MOST_LINES:
        split = []
    groups: dict[str, list[tuple[int, Row]]] = {}
    for i, row in rows:
        groups.setdefault(_label(row, split), []).append((i, row))
    lines = [_line(sweep, label, name, values, members) for label, members in groups.items()]
    drawn = [other for other in others if other in sweep.drawn and name in sweep.drawn]
    averaged = [other for other in others if other not in (*split, *drawn)]
    said = [f"averaged over {', '.join(averaged)}"] * bool(averaged) + [f"{', '.join(drawn)} drawn too"] * bool(drawn)
    return lines, "; ".join(said)


def _label(row: Row, split: list[str]) -> str:
    shown = {other: row.tunables[other] for other in split if other in row.tunables}
    said = [f"{other.removeprefix(f'{row.algorithm}.')} = {_text(value)}" for other, value in shown.items()]
    return ", ".join([row.algorithm, *said])


def _line(sweep: Sweep, label: str, name: str, values: list[Value], members: list[tuple[int, Row]]) -> Line:
    places = _places(values)
    if name not in members[0][1].tunables:
        mean, ci95 = _mean(sweep, members)
        return Line(label, [places[0], places[-1]], [mean] * 2, [ci95] * 2)
    by_value: dict[Value, list[tuple[int, Row]]] = {}
    for i, row in members:
        by_value.setdefault(row.tunables[name], []).append((i, row))
    points = [(place, *_mean(sweep, by_value[value])) for place, value in zip(places, values) if value in by_value]
    return Line(label, *zip(*points))


def _mean(sweep: Sweep, members: list[tuple[int, Row]]) -> tuple[float, float]:
    """The mean regret of some rows, and the half-width of its interval. Rows of one seed are averaged run by run:
    they met the same rewards, and are not independent."""
    seeds: dict[int, list[int]] = {}
    for i, row in members:
        seeds.setdefault(row.seed, []).append(i)
    return mean_ci95(torch.cat([sweep.regret[rows].mean(0) for rows in seeds.values()]))
