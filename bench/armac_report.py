"""What the experiment on lambda leaves behind: its record, the tables of docs/armac.md, and a picture."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy import stats

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RECORD, PAGE, PICTURE = (
    ROOT / name for name in ("bench/results/armac_lambda.json", "docs/armac.md", "docs/armac_lambda.png")
)
BEGIN, END = "<!-- bench.armac_lambda -->", "<!-- end -->"
TRIALS = {"meta": "tab:red", "learned": "tab:blue"}


def summary(curves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of the log exploitabilities [2, points, seeds] of each lambda: every seed's endpoints, and the mean curve."""
    return {name: _summary(curve) for name, curve in curves.items()}


def _summary(curve: np.ndarray) -> dict[str, Any]:
    seeds = curve.shape[-1]
    half = np.zeros(curve.shape[:-1])  # of the 95% interval of the mean
    if seeds > 1:
        half = stats.t.ppf(0.975, seeds - 1) * curve.std(-1, ddof=1) / math.sqrt(seeds)
    return {
        "average": _digits(np.exp(curve[0, -1])),
        "last": _digits(np.exp(curve[1, -1])),
        "area": _digits(np.exp(curve[0].mean(0))),
        "curve": _digits(np.exp(curve[0].mean(-1))),
        "curve_last": _digits(np.exp(curve[1].mean(-1))),
        "factor": _digits(np.exp(half[0])),  # the 95% interval of the mean curve, as a factor
    }


def _digits(x: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in x]


def _mean(values: Iterable[float]) -> float:
    """The geometric mean."""
    return math.exp(np.log(list(values)).mean())


def _table(heading: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def means(cells: Mapping[str, Any], endpoint: str) -> str:
    """A table of an endpoint's geometric means over seeds: a row for each lambda, the best of a column in bold."""
    at = {where: {name: _mean(found[endpoint]) for name, found in cell.items()} for where, cell in cells.items()}
    best = {where: min(cell.values()) for where, cell in at.items()}

    def shown(where: str, name: str) -> str:
        text = f"{at[where][name]:.2g}"
        return f"**{text}**" if at[where][name] == best[where] else text

    names = next(iter(cells.values()))
    return _table(["", *cells], ([name, *(shown(where, name) for where in cells)] for name in names))


def ratios(tests: list[dict[str, Any]], trial: str) -> str:
    """A table of a trial's endpoint over each rival's: below 1 it is the better one; in bold where that is proven."""
    own = [row for row in tests if row["trial"] == trial]
    places = list(dict.fromkeys((row["game"], row["setting"]) for row in own))
    rivals = list(dict.fromkeys(row["rival"] for row in own))
    cell = {(row["game"], row["setting"], row["rival"]): row for row in own}

    def shown(row: dict[str, Any]) -> str:
        text = f"{row['ratio']:.2f}"
        return f"**{text}**" if row["significant"] else text

    return _table(
        [f"{trial} against", *(f"{game}, {setting}" for game, setting in places)],
        ([rival, *(shown(cell[(*place, rival)]) for place in places)] for rival in rivals),
    )


def score(tests: list[dict[str, Any]]) -> str:
    """How often each trial is better, worse, or neither, by the corrected tests."""
    rows = []
    for trial in TRIALS:
        own = [row for row in tests if row["trial"] == trial]
        better = sum(row["significant"] and row["ratio"] < 1 for row in own)
        worse = sum(row["significant"] and row["ratio"] > 1 for row in own)
        rows.append([trial, *map(str, (len(own), better, worse, len(own) - better - worse))])
    return _table(["", "comparisons", "better", "worse", "undecided"], rows)


def section(body: Mapping[str, Any]) -> str:
    """The results, as docs/armac.md shows them."""
    (first, cells), (second, others) = body["bases"].items()
    plan, tests = body["plan"], body["tests"]
    minutes = sum(body["seconds"].values()) / 60
    size = f"{plan['iterations']} iterations, {plan['seeds']} seeds"
    tuned = "; ".join(
        f"{where} {x['start']:g} to {x['end']:g} at {x['rate']:g}" for where, x in body["schedules"].items()
    )
    return f"""
{size}, {minutes:.0f} minutes of one core; every seed's endpoints are in `bench/results/armac_lambda.json`.

Schedules, tuned: {tuned}.

![Exploitability of the average policy over iterations](armac_lambda.png)

**Primary endpoint**: exploitability of the average policy, geometric means over seeds; the best of a column in bold.

{means(cells, "average")}

Ratios to each rival, below 1 where the one on trial is less exploitable; in bold where Holm's correction over all
{len(tests)} comparisons leaves p < 0.05.

{ratios(tests, "meta")}

{ratios(tests, "learned")}

{score(tests)}

**Secondary**: exploitability of the last policy.

{means(cells, "last")}

**Secondary**: the area under the curve, as the geometric mean of the average policy's exploitability.

{means(cells, "area")}

**Second base**, {second} in place of {first}, {plan["second_seeds"]} seeds: exploitability of the average policy.

{means(others, "average")}
"""


def picture(body: Mapping[str, Any], path: Path) -> None:
    """Curves of the average policy with their 95% intervals, a panel for each game and setting."""
    cells = next(iter(body["bases"].values()))
    games = list(dict.fromkeys(where.split(", ")[0] for where in cells))
    columns = len(cells) // len(games)
    figure, axes = plt.subplots(len(games), columns, figsize=(3.4 * columns, 2.9 * len(games)), squeeze=False)
    for axis, (where, cell) in zip(axes.flat, cells.items(), strict=True):
        fixed = [name for name in cell if name.startswith("fixed")]
        for i, name in enumerate(fixed):
            axis.plot(body["points"], cell[name]["curve"], color=str(0.2 + 0.14 * i), linewidth=0.9, label=name)
        for name, style in (("random", ":"), ("tuned schedule", "--"), ("two regret learners", "-.")):
            axis.plot(body["points"], cell[name]["curve"], style, color="tab:green", linewidth=1, label=name)
        for name, colour in TRIALS.items():
            curve, factor = np.array(cell[name]["curve"]), np.array(cell[name]["factor"])
            axis.plot(body["points"], curve, color=colour, linewidth=1.6, label=name)
            axis.fill_between(body["points"], curve / factor, curve * factor, color=colour, alpha=0.2, linewidth=0)
        axis.set(xscale="log", yscale="log", title=where)
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    for axis in axes[:, 0]:
        axis.set_ylabel("exploitability")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(body: Mapping[str, Any]) -> None:
    """Write the record, the picture and the tables; what stands outside the markers of the page is left."""
    RECORD.write_text(json.dumps(body) + "\n", encoding="utf-8")
    picture(body, PICTURE)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{section(body)}{END}{rest.split(END)[1]}", encoding="utf-8")
