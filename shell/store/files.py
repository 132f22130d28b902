"""Writing files whole or not at all, and reading back tensors that say what they are."""

import contextlib
import glob
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

_DAY = 86400.0


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
    """Let `write` fill a temporary file beside `path`, then fsync it and rename it over `path`. Any number may write it
    at once: the last one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_name(path)
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


def partial_name(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has, with its suffix, for what is renamed to it once it is whole.
    Deletes what others of that path left behind."""
    sweep(path.parent, f".{glob.escape(path.stem)}.{'?' * 16}.partial{glob.escape(path.suffix)}")
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")


def sweep(folder: Path, pattern: str) -> None:
    """Delete the files and folders of this pattern that are older than a day: somebody was killed over them."""
    for left in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text in UTF-8."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_tensors(name: str, path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a safetensors file with the metadata `facts`, for `read_tensors`. Raises ValueError as `check_writable`."""
    check_writable(name, path)
    data = safetensors.torch.save({key: value.cpu().contiguous() for key, value in tensors.items()}, dict(facts))
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def read_tensors(
    name: str,
    path: Path,
    *,
    kind: str,
    version: str,
    rom: str | None = None,
    fields: Collection[str] | None = None,
    hints: Mapping[str, str] | None = None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata: strings, of which "format" and "version" must be these.

    rom: the sha256 that must be its "rom"; None: any, or none. fields: names of the tensors that it must hold; None:
    any. hints: what the error for a file of another kind ends with, by that kind. Nothing is unpickled. Raises
    ValueError, which begins with `name`, for what is no file, cannot be read, is of another kind, version or ROM, or
    holds other tensors.
    """
    if not path.is_file():
        raise ValueError(f"{name} is not a file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{name} cannot be read ({error})") from error
    if facts.get("format") != kind:
        other = facts.get("format", "something else")
        raise ValueError(f"{name} is not an {kind}, but {other!r}{(hints or {}).get(other, '')}")
    if facts.get("version") != version:
        raise ValueError(f"{name} is of another version of armfold (format {facts.get('version')}, here {version})")
    if rom is not None and facts.get("rom") != rom:
        theirs = f"{facts['title']!r}, sha256" if "title" in facts else "sha256"
        raise ValueError(f"{name} is of another ROM ({theirs} {facts.get('rom')}) than the one here ({rom})")
    if fields is not None and tensors.keys() != set(fields):
        raise ValueError(f"{name} must hold {', '.join(fields)}, and holds {', '.join(sorted(tensors)) or 'nothing'}")
    return tensors, facts
