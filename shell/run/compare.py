"""Comparing learners in one environment, with everything that is found written to a run folder."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

import armfold
from armfold.shell.run.result import Result, tabulate
from armfold.shell.store import checkpoint
from armfold.shell.store.files import write_text
from armfold.shell.view.plot import draw_regret


def open_folder(folder: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Make the run folder and write config.json; or, with `resume`, check that the one there is of this run."""
    path = folder / "config.json"
    if resume and path.is_file():
        before = read_config(folder)
        changed = sorted(key for key in config.keys() | before.keys() if config.get(key) != before.get(key))
        if changed:
            raise ValueError(f"out {folder} holds another run: {', '.join(changed)} differ from its config.json")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out {folder} is not empty: give another folder, or resume the run in it")
    try:
        write_text(path, json.dumps(config, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"out {folder} cannot be written ({error})") from error


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json in the folder of a run or a sweep says. Raises ValueError where it cannot be read."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no config.json")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "algos" in config:
            return config
        raise ValueError("it names no algos")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error


def save(folder: Path, results: dict[str, Result], config: dict[str, Any], *, csv: Path | None = None) -> list[Path]:
    """Write summary.csv, also to `csv` where that is given, records.jsonl and regret.png. Returns their paths."""
    rows = tabulate(results)
    metrics = [
        {"algorithm": name, "step": t, "regret_mean": mean, "regret_ci95": ci95}
        for name, result in results.items()
        for t, mean, ci95 in zip(
            result.curve_t.tolist(), result.curve_mean.tolist(), result.curve_ci95.tolist(), strict=True
        )
    ]
    seconds = {name: result.seconds for name, result in results.items()}
    paths = write_tables(folder, rows, metrics, config, seconds, csv=csv)
    picture = folder / "regret.png"
    draw_regret(results, picture, title=f"{config['env']}: {rows[0].runs} runs")
    return [*paths, picture]


def write_tables(
    folder: Path,
    rows: Sequence[Any],
    metrics: Sequence[dict[str, Any]],
    config: dict[str, Any],
    seconds: dict[str, float],
    *,
    csv: Path | None = None,
) -> list[Path]:
    """Write summary.csv, also to `csv` where that is given, and records.jsonl. Returns the paths of both in `folder`.

    rows: NamedTuples or dicts, of which the first field is a name, such as that of an algorithm. metrics: the points of
    their curves. seconds: that each of the names took.
    """
    table: list[dict[str, Any]] = [row if isinstance(row, dict) else row._asdict() for row in rows]
    lines = [",".join(table[0]), *(",".join(map(_field, row.values())) for row in table)]
    summary, records = folder / "summary.csv", folder / "records.jsonl"
    for path in (summary, csv):
        if path is not None:
            write_text(path, "\n".join(lines) + "\n")
    told: dict[str, Any] = {"kind": "summary"}
    for row in table:
        name, *numbers = row.values()
        told |= {f"{name}.{key}": value for key, value in zip([*row][1:], numbers)}
        told[f"{name}.seconds"] = seconds[name]
    said = [{"kind": "run", **_versions(), **config}, *({"kind": "metrics", **point} for point in metrics), told]
    write_text(records, "".join(json.dumps(_plain(record)) + "\n" for record in said))
    return [summary, records]


def _versions() -> dict[str, str]:
    return {
        "armfold": armfold.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": sys.version.split()[0],
    }


def _field(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record with flat keys, and null for what is not a number."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": deep for inner, deep in _plain(value).items()}
        else:
            flat[key] = None if isinstance(value, float) and not math.isfinite(value) else value
    return flat


def load(folder: Path) -> tuple[dict[str, Result], dict[str, Any]]:
    """The results of a run folder in the order in which they were asked for, and its configuration."""
    config, folders = ended(folder)
    return {name: Result.load(path) for name, path in folders.items()}, config


def ended(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """The configuration of a run folder, and where each algorithm's result is. Raises ValueError where one is not."""
    config = read_config(folder)
    folders = {name: result_folder(folder, name) for name in config["algos"]}
    missing = [name for name, path in folders.items() if not checkpoint.exists(path)]
    if missing:
        raise ValueError(f"the run in {folder} has not ended ({', '.join(missing)} missing): resume it first")
    return config, folders


def result_folder(folder: Path, algorithm: str) -> Path:
    """Where a run folder keeps an algorithm's checkpoint and, in the end, its result."""
    return folder / "checkpoint" / file_name(algorithm)


def file_name(algorithm: str) -> str:
    """The algorithm's name as part of the name of a file."""
    return algorithm.replace(":", "-").replace(".", "-")
