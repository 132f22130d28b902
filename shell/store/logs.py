"""Logs of decisions in CSV files, as `armfold bandit --log-decisions` or anyone else writes them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from armfold.core.check import check_size
from armfold.core.types import Logged
from armfold.shell.store.tables import number, read_table

_MOST_ARMS = 100_000


def read_log(
    path: str | Path,
    *,
    action: str = "action",
    reward: str = "reward",
    propensity: str = "propensity",
    context: Sequence[str] = (),
    arms: int | None = None,
) -> tuple[Logged, int]:
    """The log in a CSV file with a header, and its number of arms.

    action, reward, propensity: names of columns; actions are whole numbers from 0 on. context: columns of numbers that
    all arms share; where not given, columns x0, x1, ... are that, or columns x<arm>_<feature> are the context of each
    arm. Other columns are passed over. arms: K, where the log does not show them all. Raises ValueError that names the
    row (a line of the file) and the column of a field that is missing or cannot be so.
    """
    if arms is not None:
        check_size("arms", arms, low=2)
    path = Path(path)
    header, rows = read_table(path)
    names, per_arm = _context_columns(path, header, list(context))
    needed = [action, reward, propensity, *names]
    for name in needed:
        if name not in header:
            raise ValueError(f"{path}: no column {name!r}; columns are {', '.join(header)}")
    values = _numbers(path, header, rows, needed)
    _refuse(path, action, values[:, 0], (values[:, 0] >= 0) & (values[:, 0] % 1 == 0), "is not a whole number >= 0")
    _refuse(path, propensity, values[:, 2], (values[:, 2] > 0) & (values[:, 2] <= 1), "is not in (0, 1]")
    known = min(per_arm or _MOST_ARMS, arms or _MOST_ARMS)
    _refuse(path, action, values[:, 0], values[:, 0] < known, f"is not one of {known} arms")
    arms = arms or per_arm or max(int(values[:, 0].max()) + 1, 2)
    if per_arm not in (0, arms):
        raise ValueError(f"{path}: has contexts of {per_arm} arms, but arms is {arms}")
    obs = None
    if names:
        x = torch.from_numpy(values[:, 3:].astype(np.float32))
        obs = x.reshape(len(x), per_arm, -1) if per_arm else x.unsqueeze(1).expand(-1, arms, -1)
    decided, paid, chance = (torch.from_numpy(values[:, i].copy()) for i in range(3))
    return Logged(obs, decided.to(torch.int64), paid, chance), arms


def _context_columns(path: Path, header: list[str], named: list[str]) -> tuple[list[str], int]:
    """The columns of the context, and how many arms have their own (0: all share it)."""
    if named:
        return named, 0
    shared = sorted((name for name in header if re.fullmatch(r"x\d+", name)), key=lambda name: int(name[1:]))
    places = {name: tuple(map(int, name[1:].split("_"))) for name in header if re.fullmatch(r"x\d+_\d+", name)}
    if shared and places:
        raise ValueError(f"{path}: has both {shared[0]!r} and {next(iter(places))!r}: choose columns by context")
    if not places:
        return shared, 0
    arms, features = (max(place[i] for place in places.values()) + 1 for i in (0, 1))
    grid = [f"x{arm}_{feature}" for arm in range(arms) for feature in range(features)]
    missing = [name for name in grid if name not in places]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r} for a context of {arms} arms and {features} features")
    return grid, arms


def _numbers(path: Path, header: list[str], rows: list[list[str]], columns: list[str]) -> "np.ndarray[Any, Any]":
    at = [(header.index(name), name) for name in columns]
    return np.array([[number(path, i + 2, name, row[j]) for j, name in at] for i, row in enumerate(rows)])


def _refuse(
    path: Path, column: str, values: "np.ndarray[Any, Any]", right: "np.ndarray[Any, Any]", complaint: str
) -> None:
    wrong = np.flatnonzero(~right)
    if len(wrong):
        value = values[wrong[0]]
        raise ValueError(f"{path}: row {wrong[0] + 2}, column {column!r}: {value:g} {complaint}")
