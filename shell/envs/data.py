"""Labelled data for the classification environment: scikit-learn's digits, a CSV or an NPZ file."""

import csv
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_LARGEST = float(np.finfo(np.float32).max)


_MOST_CLASSES = 1000  # that a small data set may name


class Labelled(NamedTuple):
    """A data set whose labels are classes."""

    x: Tensor  # [R, d] float32
    y: Tensor  # [R] int64, in [0, len(classes))
    classes: list[str]


def load_digits() -> Labelled:
    """The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn, scaled to [0, 1]."""
    from sklearn.datasets import load_digits as load

    x, y = load(return_X_y=True)
    return _checked("digits", x / 16, y.astype(np.int64), [str(digit) for digit in range(10)])


def load_csv(path: Path, label: str | None = None) -> Labelled:
    """A CSV file with a header: numeric columns, and a label column (`label`, or else "y", "label" or the last).

    Raises ValueError that names the row and the column of a field that is missing, not a number, or not finite.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    while rows and not rows[-1]:
        rows.pop()  # blank lines at the end
    if len(rows) < 2:
        raise ValueError(f"{path}: needs a header and at least one row, has {len(rows)} lines")
    header = rows[0]
    at = _label_column(path, header, label)
    names, x = [], np.empty((len(rows) - 1, len(header) - 1), dtype=np.float64)
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {i + 2} has {len(row)} fields, the header has {len(header)}")
        x[i] = [_number(path, i + 2, header[j], field) for j, field in enumerate(row) if j != at]
        names.append(row[at].strip())
        if not names[-1] or names[-1].lower() == "nan":
            raise ValueError(f"{path}: row {i + 2}, column {header[at]!r}: the label is missing")
    classes = sorted(set(names), key=lambda name: (not name.lstrip("-").isdigit(), len(name), name))
    number = {name: k for k, name in enumerate(classes)}
    return _checked(str(path), x, np.array([number[name] for name in names]), classes)


def load_npz(path: Path) -> Labelled:
    """An NPZ file with X (or x), floating [R, d], and y, whole numbers [R] from 0 on. Pickled arrays are refused."""
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not several by name")
            arrays = {name.lower(): file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an NPZ file of plain arrays ({error})") from error
    if not {"x", "y"} <= arrays.keys():
        raise ValueError(f"{path}: needs arrays X and y, has {sorted(arrays)}")
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"{path}: X must be [R, d] and y [R], got {x.shape} and {y.shape}")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{path}: X must hold real numbers, got {x.dtype}")
    if y.dtype.kind not in "iu" or y.min(initial=0) < 0:
        raise ValueError(f"{path}: y must hold whole numbers from 0 on, got {y.dtype}: {y[:3].tolist()} ...")
    if y.max(initial=0) >= max(_MOST_CLASSES, len(y)):
        raise ValueError(f"{path}: y has a label {y.max()}, which is more classes than rows")
    return _checked(str(path), x, y, [str(k) for k in range(int(y.max(initial=0)) + 1)])


def _label_column(path: Path, header: list[str], label: str | None) -> int:
    if label is not None:
        if label not in header:
            raise ValueError(f"{path}: no column {label!r} for label; columns are {header}")
        return header.index(label)
    return next((header.index(name) for name in ("y", "label") if name in header), len(header) - 1)


def _number(path: Path, row: int, column: str, field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        raise ValueError(f"{path}: row {row}, column {column!r}: {field!r} is not a number") from None
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{path}: row {row}, column {column!r}: {field!r} is not finite in float32")
    return value


def _checked(source: str, x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]", classes: list[str]) -> Labelled:
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"{source}: needs at least one row and one feature, got {x.shape}")
    wrong = np.argwhere(~(np.abs(x) <= _LARGEST))
    if len(wrong):
        raise ValueError(f"{source}: row {wrong[0][0]}, column {wrong[0][1]} of X is not finite in float32")
    if len(classes) < 2:
        raise ValueError(f"{source}: needs at least two classes, has {classes}")
    return Labelled(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.int64)), classes)
