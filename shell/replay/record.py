"""Replay files: writing and reading them. One JSON object a line, each sealed with a digest of all that is before it.

The first line says what is recorded, a line follows for each record, the last counts them. Lines are appended as they
come, so that a run that is killed leaves what it had recorded, without the last line.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import torch

import armfold
from armfold.shell.replay.values import dumps, from_json, loads
from armfold.shell.store.files import check_writable

FORMAT = 1
_START, _END = b'{"replay": ', b'{"end": '
_SEAL = re.compile(rb', "sha256": "([0-9a-f]{16})"\}\n\Z')


class ReplayError(ValueError):
    """A replay file cannot be used; the message says why and where."""


class Header(NamedTuple):
    """What the first line says."""

    kind: str  # of run: names the function that computes it again
    facts: dict[str, Any]  # everything that the run depends on
    versions: dict[str, str]  # of what it was recorded with


def find_versions() -> dict[str, str]:
    """What the last digits of a computation may depend on, here and now."""
    cpu = torch.backends.cpu.get_cpu_capability()
    return {"armfold": armfold.__version__, "torch": torch.__version__, "cpu": cpu}


class Recorder:
    """Writes a replay file, as a context manager: what is written inside is recorded, the end is when it is left.

    kind: of run, and facts: everything that it depends on, tensors included; the function registered for the kind
    (`verify.register`) computes the records again from them. after: go on with the file there behind that many of its
    records, for a run that is resumed; the others are cut off. Without it, a file there is replaced. Left by an
    exception, the file has no last line.
    Raises ValueError where `path` cannot be written, ReplayError where it holds no such records of this run.
    """

    def __init__(self, path: str | Path, kind: str, facts: dict[str, Any], *, after: int = 0) -> None:
        self.path, self.records = Path(path), after
        first = dumps({"replay": FORMAT, "kind": kind, "versions": find_versions(), "facts": facts})
        check_writable("replay", self.path)
        self._digest = hashlib.sha256()
        end = self._find(first, after) if after else 0
        self._file: BinaryIO = self.path.open("r+b" if after else "wb")
        self._file.truncate(end)
        self._file.seek(end)
        if not after:
            self._append(first)

    def _find(self, first: bytes, after: int) -> int:
        """Where the file's record `after` ends."""
        with ReplayFile(self.path) as there:
            if there.first != first:
                raise ReplayError(f"{self.path} holds another run: its first line differs")
            for _ in zip(range(after), there, strict=False):
                pass
            if there.altered is not None or there.records < after:
                raise ReplayError(f"{self.path} does not hold {after} records to go on from, as they were written")
            self._digest = there.digest
            return there.position

    def _append(self, text: bytes) -> None:
        body = text[:-1]
        self._digest.update(body)
        seal = f', "sha256": "{self._digest.hexdigest()[:16]}"}}\n'.encode()
        self._digest.update(seal)
        self._file.write(body + seal)
        self._file.flush()  # to the system, which keeps it though this process be killed

    def write(self, **fields: Any) -> None:
        """Append a record: tensors, JSON values, or NamedTuples, dicts and lists of them."""
        if not fields or {"end", "sha256"} & fields.keys():
            raise ValueError(f"a record needs fields, none named end or sha256, got {sorted(fields)}")
        self._append(dumps(fields))
        self.records += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            if error[0] is None:
                self._file.write(_last(self.records, self._digest.hexdigest()))
                self._file.flush()
                os.fsync(self._file.fileno())


def _last(records: int, digest: str) -> bytes:
    return f'{{"end": {records}, "sha256": "{digest}"}}\n'.encode()


class ReplayFile:
    """A replay file that is read line by line, as a context manager; iterates over its records' JSON, without seals.

    header: of its first line. altered: the first line met so far that is not as it was written. records: how many were
    read; number: of the line last read; position: where it ends; digest: of everything up to there.
    Raises ReplayError for a file that is none, has a newer format, or ends before its last line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ReplayError(f"{path} is not a file" if self.path.exists() else f"{path}: there is no such file")
        self.altered: int | None = None
        self.records = self.number = self.position = 0
        self.digest = hashlib.sha256()
        self._file = self.path.open("rb")
        try:
            self.first = self._read_first()
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_first(self) -> bytes:
        start = self._file.read(len(_START))  # a file of something else may have one line of gigabytes
        if start != _START:
            reason = f"it does not begin with {_START.decode()}" if start else "it is empty"
            raise ReplayError(f"{self.path} is not a replay file: {reason}")
        return self._open(start + self._file.readline())

    def _open(self, line: bytes) -> bytes:
        """The line's text without its seal, which is checked."""
        self.number += 1
        if not line.endswith(b"\n"):
            raise ReplayError(f"{self.path} is cut short in line {self.number}, after record {self.records}")
        seal = _SEAL.search(line)
        body = line[: seal.start()] if seal else line
        self.digest.update(body)
        intact = seal is not None and seal[1].decode() == self.digest.hexdigest()[:16]
        self.digest.update(line[len(body) :])
        self.position += len(line)
        self._check(intact)
        return body + b"}" if seal else line

    def _check(self, intact: bool) -> None:
        if not intact and self.altered is None:
            self.altered = self.number

    def _read_header(self) -> Header:
        values = self.parse(self.first)
        version, kind, facts, versions = (values.get(name) for name in ("replay", "kind", "facts", "versions"))
        if version != FORMAT:
            altered = "; line 1 is not as it was written" if self.altered else ""
            raise ReplayError(f"{self.path} has format {version!r}, this version of armfold reads {FORMAT}{altered}")
        if not (isinstance(kind, str) and isinstance(facts, dict) and isinstance(versions, dict)):
            raise ReplayError(f"{self.path}: line 1 does not say what is recorded")
        return Header(kind, self.value(facts), versions)

    def parse(self, text: bytes) -> dict[str, Any]:
        """The object that the line just read holds, in JSON's terms."""
        try:
            return loads(text)
        except ValueError as error:
            raise ReplayError(f"{self.path}: line {self.number} is not JSON ({error})") from error

    def value(self, parsed: dict[str, Any]) -> dict[str, Any]:
        """What JSON's terms in the line just read stand for."""
        try:
            return {name: from_json(inner) for name, inner in parsed.items()}
        except (ValueError, RecursionError) as error:
            raise ReplayError(f"{self.path}: line {self.number}: {error}") from error

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline():
            if line.startswith(_END) and line.endswith(b"\n"):
                self.number += 1
                self._check(line == _last(self.records, self.digest.hexdigest()))
                if self._file.read(1):
                    self.number += 1
                    self._check(False)
                return
            text = self._open(line)
            self.records += 1
            yield text
        raise ReplayError(f"{self.path} is cut short after record {self.records}: it has no last line")


def read_replay(path: str | Path) -> tuple[Header, Iterator[dict[str, Any]]]:
    """What a replay file records, and its records as they are read: tensors, JSON values, dicts and lists of them.

    Raises ReplayError for a file that cannot be read, is cut short, or is not as it was written; where it says so, it
    may come after records.
    """
    with ReplayFile(path) as file:
        _refuse_altered(file)
        header = file.header
    return header, _records(path)


def _records(path: str | Path) -> Iterator[dict[str, Any]]:
    with ReplayFile(path) as file:
        for text in file:
            _refuse_altered(file)
            yield file.value(file.parse(text))
        _refuse_altered(file)


def check_whole(path: str | Path, kind: str, facts: dict[str, Any]) -> None:
    """Raise ReplayError unless a replay file holds a run of that kind with these facts, to its end and as it was
    written; with whatever versions."""
    with ReplayFile(path) as file:
        _refuse_altered(file)
        if (file.header.kind, dumps(file.header.facts)) != (kind, dumps(facts)):
            raise ReplayError(f"{path} holds another run: its kind or its facts differ")
        for _ in file:
            _refuse_altered(file)
        _refuse_altered(file)


def _refuse_altered(file: ReplayFile) -> None:
    if file.altered is not None:
        raise ReplayError(f"{file.path}: line {file.altered} is not as it was written")
