"""Reading tables of numbers from CSV files, with errors that name the row (the header is row 1) and the column."""

import csv
from pathlib import Path

import numpy as np

LARGEST = float(np.finfo(np.float32).max)


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV file in UTF-8 and its rows, one at least, all as long as the header. Raises ValueError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    while rows and not rows[-1]:
        rows.pop()  # blank lines at the end
    if len(rows) < 2:
        raise ValueError(f"{path}: needs a header and at least one row, has {len(rows)} lines")
    header = [name.strip() for name in rows[0]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: column {twice[0]!r} is there twice")
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {i + 2} has {len(row)} fields, the header has {len(header)}")
    return header, rows[1:]


def number(path: Path, row: int, column: str, field: str) -> float:
    """The number in a field. Raises ValueError for one that is none, or not finite in float32."""
    try:
        value = float(field)
    except ValueError:
        raise ValueError(f"{path}: row {row}, column {column!r}: {field!r} is not a number") from None
    if not abs(value) <= LARGEST:
        raise ValueError(f"{path}: row {row}, column {column!r}: {field!r} is not finite in float32")
    return value
