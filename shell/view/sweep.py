"""What a person looks at of a sweep: its best points as a table, and a picture for each parameter."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeGuard

import torch
from rich.console import Console

from armfold.shell.run.result import mean_ci95
from armfold.shell.run.space import Value
from armfold.shell.run.sweep import Row, Sweep
from armfold.shell.view.plot import Line, draw_sweep
from armfold.shell.view.table import fit_columns, make_table

_NUMBERS = {"regret": "regret", "ci95": "± 95%", "optimal": "optimal", "reward": "reward"}
_BEST = 12  # rows of the table, or a few more: each learner is shown in each environment
_MOST_WORLDS = 12  # environments of the table
_MOST_LINES = 6  # values of another parameter that get a line of their own
_MOST_TICKS = 7  # values that are written at a logarithmic axis, in place of powers of ten
_DECADE = 10.0  # least ratio of values that logarithmic axes are for


def print_best(sweep: Sweep, *, title: str) -> None:
    """Print the best points of each algorithm in each environment that was swept, least regret first; what several
    seeds gave is put together. In a terminal that is too narrow, columns are left out."""
    points: dict[tuple[str, tuple[Value | None, ...]], list[int]] = {}
    for i, row in enumerate(sweep.rows):
        key = (row.algorithm, tuple(row.tunables.get(name) for name in sweep.parameters))
        points.setdefault(key, []).append(i)
    worlds = _worlds(sweep, points.values())
    algorithms = {row.algorithm for row in sweep.rows}
    share = max(1, _BEST // (len(algorithms) * min(len(worlds), _MOST_WORLDS)))
    shown = [rows for members in worlds[:_MOST_WORLDS] for rows in _best(sweep, members, share)]
    cells = [_cells(sweep, rows) for rows in shown]
    alone = f"{algorithms.pop()}." if len(algorithms) == 1 else ""
    parameters = {f"={name}": name.removeprefix(alone) for name in sweep.parameters}  # whatever they are called
    headings = {"learner": "learner", **parameters, **_NUMBERS}
    console = Console()
    columns = fit_columns(
        headings, cells, dispensable=("reward", "optimal", "ci95", *reversed(parameters)), width=console.width
    )
    where = f" in the first {_MOST_WORLDS} of {len(worlds)} environments" if len(worlds) > _MOST_WORLDS else ""
    rest = "all points and columns are in sweep.csv" if len(columns) < len(headings) else "all are in sweep.csv"
    caption = f"the best of each learner{where}: {len(shown)} of {len(points)} points; {rest}"
    console.print(make_table(columns, cells, title=title, caption=caption))


def _worlds(sweep: Sweep, points: Iterable[list[int]]) -> list[list[list[int]]]:
    """Points, as rows that differ in the seed alone, by environment, in the order of the sweep."""
    worlds: dict[tuple[Value, ...], list[list[int]]] = {}
    for rows in points:
        row = sweep.rows[rows[0]]
        world = tuple(value for name, value in row.tunables.items() if not _owns(row.algorithm, name))
        worlds.setdefault(world, []).append(rows)
    return list(worlds.values())


def _best(sweep: Sweep, points: list[list[int]], share: int) -> list[list[int]]:
    """Of the points of one environment, the `share` best of each algorithm: across environments regret means little."""
    means = {rows[0]: sweep.regret[rows].mean().item() for rows in points}
    left = dict.fromkeys((row.algorithm for row in sweep.rows), share)
    found = []
    for rows in sorted(points, key=lambda rows: (math.isnan(means[rows[0]]), means[rows[0]])):
        left[sweep.rows[rows[0]].algorithm] -= 1
        if left[sweep.rows[rows[0]].algorithm] >= 0:
            found.append(rows)
    return found


def _cells(sweep: Sweep, rows: list[int]) -> dict[str, str]:
    """A line of the table: what the rows of a point have together."""
    first = sweep.rows[rows[0]]
    mean, ci95 = mean_ci95(sweep.regret[rows].flatten())
    optimal, reward = sweep.optimal[rows].mean().item(), sweep.reward[rows].mean().item()
    values = {f"={name}": _text(first.tunables[name]) if name in first.tunables else "" for name in sweep.parameters}
    numbers = (f"{mean:.3f}", f"{ci95:.3f}", f"{100 * optimal:.1f}%", f"{reward:.4f}")
    return {"learner": first.algorithm, **values, **dict(zip(_NUMBERS, numbers, strict=True))}


def _owns(algorithm: str, parameter: str) -> bool:
    """Whether a parameter is the algorithm's own, not the environment's."""
    return parameter.startswith(f"{algorithm}.")


def _text(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _tick(value: Value) -> str:
    """A value at an axis: four digits."""
    return _text(float(f"{value:.4g}") if isinstance(value, float) else value)


def draw_parameters(sweep: Sweep, folder: Path, *, title: str) -> list[Path]:
    """Write sweep-<parameter>.png for each parameter of two values or more; returns the paths."""
    paths = []
    for name in sweep.parameters:
        values = _values(sweep.rows, name)
        if len(values) < 2:
            continue
        lines, note = _lines(sweep, name, values)
        path = folder / f"sweep-{name.replace(':', '-')}.png"
        numbers = [value for value in values if _is_number(value)]
        scale = choose_scale(numbers) if len(numbers) == len(values) else "linear"
        ticks = len(numbers) < len(values) or (scale != "linear" and len(values) <= _MOST_TICKS)
        draw_sweep(
            lines,
            path,
            parameter=name,
            title=f"{title}\n{note}" if note else title,
            scale=scale,
            least=min((x for x in numbers if x > 0), default=1.0),
            ticks={place: _tick(value) for place, value in zip(_places(values), values)} if ticks else {},
            dots=name in sweep.drawn or any(isinstance(value, str | bool) for value in values),
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


def _is_number(value: Value) -> TypeGuard[float]:
    """Whether a value has a place of its own on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _values(rows: Iterable[Row], name: str) -> list[Value]:
    """The values of a parameter: numbers in order, others as they come."""
    values = list(dict.fromkeys(row.tunables[name] for row in rows if name in row.tunables))
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else values


def _places(values: list[Value]) -> list[float]:
    """Where values lie on the axis: numbers where they are, others side by side."""
    numbers = [float(value) for value in values if _is_number(value)]
    return numbers if len(numbers) == len(values) else [float(i) for i in range(len(values))]


def _lines(sweep: Sweep, name: str, values: list[Value]) -> tuple[list[Line], str]:
    """A line for each algorithm, or for each value of the only other parameter; and what becomes of others.

    Algorithms that the parameter does not concern are level; and left out where options of their own are swept, or
    where each value has an environment of its own, which was drawn with it.
    """
    several = [other for other in sweep.parameters if other != name and len(_values(sweep.rows, other)) > 1]
    concerned = {row.algorithm for row in sweep.rows if name in row.tunables}
    rows = [
        (i, row)
        for i, row in enumerate(sweep.rows)
        if row.algorithm in concerned or _is_level(sweep, row, name, several)
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


def _is_level(sweep: Sweep, row: Row, name: str, several: list[str]) -> bool:
    """Whether a row that a parameter does not concern compares with all its values."""
    if name in sweep.drawn and any(other in sweep.drawn for other in row.tunables):
        return False
    return not any(_owns(row.algorithm, other) for other in several)


def _label(row: Row, split: list[str]) -> str:
    shown = {other: row.tunables[other] for other in split if other in row.tunables}
    said = [f"{other.removeprefix(f'{row.algorithm}.')} = {_text(value)}" for other, value in shown.items()]
    return ", ".join([row.algorithm, *said])


def _line(sweep: Sweep, label: str, name: str, values: list[Value], members: list[tuple[int, Row]]) -> Line:
    places = _places(values)
    if name not in members[0][1].tunables:
        mean, ci95 = _mean(sweep, members)
        return Line(label, [places[0], places[-1]], [mean] * 2, [ci95] * 2, level=True)
    by_value: dict[Value, list[tuple[int, Row]]] = {}
    for i, row in members:
        by_value.setdefault(row.tunables[name], []).append((i, row))
    points = [(place, *_mean(sweep, by_value[value])) for place, value in zip(places, values) if value in by_value]
    columns: list[list[float]] = [list(column) for column in zip(*points)]
    return Line(label, columns[0], columns[1], columns[2])


def _mean(sweep: Sweep, members: list[tuple[int, Row]]) -> tuple[float, float]:
    """The mean regret of some rows, and the half-width of its interval. Rows of one seed are averaged run by run:
    they met the same rewards, and are not independent."""
    seeds: dict[int, list[int]] = {}
    for i, row in members:
        seeds.setdefault(row.seed, []).append(i)
    return mean_ci95(torch.cat([sweep.regret[rows].mean(0) for rows in seeds.values()]))
