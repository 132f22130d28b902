"""Contexts with labels or rewards, for environments: scikit-learn's digits, a CSV or an NPZ file."""

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from armfold.shell.store.tables import LARGEST, number, read_table

_MOST_CLASSES = 1000  # that a small data set may name


class Labelled(NamedTuple):
    """A data set whose labels are classes."""

    x: Tensor  # [R, d] float32
    y: Tensor  # [R] int64, in [0, len(classes))
    classes: list[str]


class Rewarded(NamedTuple):
    """A data set that knows the expected reward of every arm."""

    x: Tensor  # [R, d], or [R, K, d] with features of each arm, float32
    p: Tensor  # [R, K] float32, in [0, 1]


def load_digits() -> Labelled:
    """The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn, scaled to [0, 1]."""
    from sklearn.datasets import load_digits as load

    x, y = load(return_X_y=True)
    return _labelled("digits", x / 16, y.astype(np.int64), [str(digit) for digit in range(10)])


def load_csv(path: Path, label: str | None = None) -> Labelled | Rewarded:
    """A CSV file with a header: numeric columns, and a label column: `label`, or else "y", "label" or the last.

    Where no column is named so, but there are p0, p1, ..., these are the expected rewards of the arms.
    Raises ValueError that names the row and the column of a field that is missing, not a number, or not finite.
    """
    header, rows = read_table(path)
    rewards = [] if label is not None or {"y", "label"} & set(header) else _reward_columns(path, header)
    labels = [] if rewards else [_label_column(path, header, label)]
    names, numbers = [], np.zeros((len(rows), len(header)), dtype=np.float64)
    for i, row in enumerate(rows):
        for j, field in enumerate(row):
            if j not in labels:
                numbers[i, j] = number(path, i + 2, header[j], field)
            elif field.strip().lower() in ("", "nan"):
                raise ValueError(f"{path}: row {i + 2}, column {header[j]!r}: the label is missing")
            else:
                names.append(field.strip())
    x = np.delete(numbers, rewards + labels, axis=1)
    if rewards:
        return _rewarded(str(path), x, numbers[:, rewards])
    classes = sorted(set(names), key=lambda name: (not name.lstrip("-").isdigit(), len(name), name))
    position = {name: k for k, name in enumerate(classes)}
    return _labelled(str(path), x, np.array([position[name] for name in names]), classes)


def load_npz(path: Path) -> Labelled | Rewarded:
    """An NPZ file with X (or x), and y or P (any case). Pickled arrays are refused.

    X and y: floating [R, d] and whole numbers [R] from 0 on, the classes. X and P: floating [R, d], or [R, K, d] with
    features of each arm, and the expected rewards [R, K] in [0, 1].
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not several by name")
            arrays = {name.lower(): file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an NPZ file of plain arrays ({error})") from error
    if "x" not in arrays or ("y" in arrays) == ("p" in arrays):
        raise ValueError(f"{path}: needs arrays X and y, or X and P, has {sorted(arrays)}")
    for name in ("x", "p"):
        if name in arrays and arrays[name].dtype.kind not in "fiub":
            raise ValueError(f"{path}: {name.upper()} must hold real numbers, got {arrays[name].dtype}")
    if "p" in arrays:
        return _rewarded(str(path), arrays["x"], arrays["p"])
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"{path}: X must be [R, d] and y [R], got {x.shape} and {y.shape}")
    if y.dtype.kind not in "iu" or y.min(initial=0) < 0:
        raise ValueError(f"{path}: y must hold whole numbers from 0 on, got {y.dtype}: {y[:3].tolist()} ...")
    if y.max(initial=0) >= max(_MOST_CLASSES, len(y)):
        raise ValueError(f"{path}: y has a label {y.max()}, which is more classes than rows")
    return _labelled(str(path), x, y, [str(k) for k in range(int(y.max(initial=0)) + 1)])


def _reward_columns(path: Path, header: list[str]) -> list[int]:
    """Where p0, p1, ... are; none where there are fewer than two of them."""
    found = {name for name in header if re.fullmatch(r"p\d+", name)}
    if len(found) < 2:
        return []
    wanted = [f"p{k}" for k in range(len(found))]
    if found != set(wanted):
        raise ValueError(f"{path}: columns of rewards must be {wanted[0]} to {wanted[-1]}, got {header}")
    return [header.index(name) for name in wanted]


def _label_column(path: Path, header: list[str], label: str | None) -> int:
    if label is not None:
        if label not in header:
            raise ValueError(f"{path}: no column {label!r} for label; columns are {header}")
        return header.index(label)
    return next((header.index(name) for name in ("y", "label") if name in header), len(header) - 1)


def _check_features(source: str, x: "np.ndarray[Any, Any]") -> None:
    if 0 in x.shape:
        raise ValueError(f"{source}: needs at least one row and one feature, got X {x.shape}")
    wrong = np.argwhere(~(np.abs(x) <= LARGEST))
    if len(wrong):
        row, *place = wrong[0]
        where = f"column {place[0]}" if len(place) == 1 else f"arm {place[0]}, feature {place[1]}"
        raise ValueError(f"{source}: row {row}, {where} of X is not finite in float32")


def _labelled(source: str, x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]", classes: list[str]) -> Labelled:
    _check_features(source, x)
    if len(classes) < 2:
        raise ValueError(f"{source}: needs at least two classes, has {classes}")
    return Labelled(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.int64)), classes)


def _rewarded(source: str, x: "np.ndarray[Any, Any]", p: "np.ndarray[Any, Any]") -> Rewarded:
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(f"{source}: P must be [R, K] with two arms or more, got {p.shape}")
    if x.ndim not in (2, 3) or x.shape[:-1] not in (p.shape[:1], p.shape):
        raise ValueError(f"{source}: X must be [R, d] or [R, K, d] where P is [R, K], got {x.shape} and {p.shape}")
    _check_features(source, x)
    wrong = np.argwhere(~((p >= 0) & (p <= 1)))
    if len(wrong):
        row, arm = wrong[0]
        raise ValueError(f"{source}: row {row}, arm {arm} of P is not in [0, 1]: {p[row, arm]}")
    return Rewarded(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(p.astype(np.float32)))
