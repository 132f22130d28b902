"""Writing files whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def check_writable(name: str, path: Path) -> None:
    """Make the folder of `path`. Raises ValueError where no file can be written there: it names the option at fault."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{name} {path} is not a file: give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{name} {path} cannot be written ({error.strerror})") from error


def find_place(name: str, path: Path | None) -> Path | None:
    """Where a file of the user's goes, if anywhere: what a link links to, as the file would replace the link. Makes its
    folder. Raises ValueError as `check_writable` does."""
    if path is None:
        return None
    place = path.resolve()
    check_writable(name, place)
    return place


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then fsync it and rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text in UTF-8."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
