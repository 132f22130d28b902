"""Computing a recorded run again and comparing: the first difference, and where it is."""

import json
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from armfold.core.check import check_number
from armfold.shell.choose import import_function, suggest
from armfold.shell.replay.record import ReplayError, ReplayFile, find_versions
from armfold.shell.replay.values import dumps, loads
from armfold.shell.view.progress import track

Recompute = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]  # from the facts of a header to records


class Kind(NamedTuple):
    """A kind of run that can be computed again."""

    recompute: Recompute | str  # or its package.module:function, imported where it is needed
    unit: str  # what a record is of, for messages


_KINDS = {
    "armac": Kind("armfold.shell.replay.armac:recompute", "epoch"),
    "bandit": Kind("armfold.shell.replay.bandit:recompute", "step"),
}


def register(kind: str, recompute: Recompute | str, *, unit: str = "record") -> None:
    """Make a kind of run known to `verify`.

    recompute(facts) yields the fields of each record that a `Recorder` of this kind, with these facts, was given; it
    may be named as "package.module:function". unit: what a record is of, such as step or episode, for messages.
    """
    _KINDS[kind] = Kind(recompute, unit)


class Difference(NamedTuple):
    """Where a file and its recomputation part."""

    line: int  # of the file, from 1
    place: str  # such as "step 17, reward[3]"
    file: str  # what the file has there
    recomputed: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.place}: file {self.file}, recomputed {self.recomputed}"


class Verdict(NamedTuple):
    """What came of verifying a replay file."""

    records: int  # that agree with their recomputation
    difference: Difference | None  # the first beyond the tolerance; what follows it was not compared
    altered: int | None  # the first line met that is not as it was written
    versions: dict[str, str]  # of what it was recorded with, where here are others

    @property
    def agrees(self) -> bool:
        """Whether the file is as it was recorded, and all of it was recomputed the same."""
        return self.difference is None and self.altered is None

    def __str__(self) -> str:
        if self.altered == 1:
            return "line 1 is not as it was written, so that nothing can be computed from it"
        said = f"{self.records} records agree" if self.difference is None else str(self.difference)
        if self.altered is not None:
            return f"{said}; line {self.altered} is not as it was written"
        if self.difference is None or not self.versions:
            return said
        return f"{said}; it was recorded with {', '.join(f'{name} {v}' for name, v in self.versions.items())}"


def verify(path: str | Path, *, tolerance: float = 1e-6, progress: bool = True) -> Verdict:
    """Compute the run in a replay file again and compare it record by record, up to the first difference.

    Floats may differ by tolerance * max(1, |recomputed|), everything else not at all. Where the first line is not as
    it was written, nothing is computed from it. Raises ReplayError for a file that cannot be used: none of ours, of an
    unknown kind or a newer format, not JSON, cut short, or of a run that cannot be computed here; it says how many
    records agree before that.
    """
    check_number("tolerance", tolerance, low=0)
    agreed, difference = 0, None
    with ReplayFile(path) as file:
        if file.altered is None:
            size, label = file.path.stat().st_size, f"verifying {file.path.name}"
            with track(label, size, enabled=progress) as moved:
                try:
                    for text, want in zip_longest(file, _recompute(file)):
                        difference = _compare(file, text, want, tolerance)
                        if difference is not None:
                            break
                        agreed += 1
                        moved(file.position)
                except ReplayError as error:
                    raise ReplayError(f"{error}{_so_far(agreed, file.altered)}") from error
        here = find_versions()
        versions = {name: there for name, there in file.header.versions.items() if here.get(name) != there}
        return Verdict(agreed, difference, file.altered, versions)


def _so_far(agreed: int, altered: int | None) -> str:
    but = "" if altered is None else f", but line {altered} is not as it was written"
    return (f"; the {agreed} records before agree" if agreed else "") + but


def _find(file: ReplayFile) -> Kind:
    if file.header.kind not in _KINDS:
        raise ReplayError(f"{file.path}: {suggest('kind of replay', file.header.kind, _KINDS)}")
    return _KINDS[file.header.kind]


def _recompute(file: ReplayFile) -> Iterator[bytes]:
    recompute = _find(file).recompute
    try:
        function = import_function("recompute", recompute) if isinstance(recompute, str) else recompute
        for fields in function(file.header.facts):
            yield dumps(fields)
    except (ValueError, OSError, OverflowError, RuntimeError) as error:  # torch's, where numbers are too large for it
        raise ReplayError(f"{file.path}: its run cannot be computed again: {error}") from error


def _compare(file: ReplayFile, text: bytes | None, want: bytes | None, tolerance: float) -> Difference | None:
    """Where the record in the line just read and its recomputation part; None for either where it has ended."""
    if text == want:
        return None
    unit = _find(file).unit
    if text is None:
        return Difference(file.number, f"{unit} {file.records + 1}", "nothing", "a record")
    if want is None:
        return Difference(file.number, f"{unit} {file.records}", "a record", "nothing")
    parted = _part(file.parse(text), loads(want), tolerance)
    if parted is None:
        return None
    where, *values = parted
    there, here = ("nothing" if value is _NOTHING else json.dumps(value)[:80] for value in values)
    return Difference(file.number, f"{unit} {file.records}, {where.replace('][', ', ')}", there, here)


_NOTHING: Any = object()


def _part(there: Any, here: Any, tolerance: float, where: str = "") -> tuple[str, Any, Any] | None:
    """Where two JSON values part first, and what each has there."""
    if isinstance(there, dict) and isinstance(here, dict):
        fields = [(_within(where, name, here), name) for name in here | there]
        steps = [(place, there.get(name, _NOTHING), here.get(name, _NOTHING)) for place, name in fields]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        steps = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(there, here))]
    else:
        return None if _agree(there, here, tolerance) else (where, there, here)
    return next((found for place, x, y in steps if (found := _part(x, y, tolerance, place))), None)


def _within(where: str, name: str, of: dict[str, Any]) -> str:
    """The place of a field; a tensor's values are at the tensor's own."""
    return where if name == "values" and "tensor" in of else f"{where}.{name}".lstrip(".")


def _agree(there: Any, here: Any, tolerance: float) -> bool:
    if isinstance(there, float) and isinstance(here, float):
        return abs(there - here) <= tolerance * max(1.0, abs(here))
    return type(there) is type(here) and bool(there == here)
