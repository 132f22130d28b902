"""The `armfold replay` command."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from torch import Tensor

from armfold.shell.choose import suggest
from armfold.shell.replay.record import ReplayError, read_replay
from armfold.shell.replay.verify import verify
from armfold.shell.words import read_words


@dataclasses.dataclass(frozen=True)
class _Show:
    """Show what replay files hold."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Replay files, such as `armfold bandit --log-replay` writes."""
    verbose: bool = False
    """Show where an error came from, and stop there."""


@dataclasses.dataclass(frozen=True)
class _Verify(_Show):
    """Compute recorded runs again and compare: what differs first, and where.

    The exit status is 0 where all agree, 1 where one differs or is not as it was written, 2 where one cannot be used;
    the other files are verified all the same.
    """

    tolerance: float = 1e-6
    """How far floats may be apart, in units of the recomputed number where that is above 1."""
    quiet: bool = False
    """Say nothing but errors."""


def replay(argv: list[str]) -> int:
    """Verify recorded runs: compute them again and compare, up to the first difference.

    Returns the exit status.
    """
    commands: dict[str, tuple[type[Any], Callable[[Any, Path], int]]] = {
        "verify": (_Verify, _verify),
        "show": (_Show, _show),
    }
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:10}{(kind.__doc__ or '').splitlines()[0]}" for name, (kind, _) in commands.items()]
        print("\n".join(["usage: armfold replay COMMAND FILE [FILE ...] [OPTIONS]", "", *lines]))
        return 0 if argv else 2
    if argv[0] not in commands:
        raise suggest("command of replay", argv[0], commands)
    kind, look = commands[argv[0]]
    about = inspect.cleandoc(kind.__doc__ or "")
    config = read_words(kind, args=argv[1:], prog=f"armfold replay {argv[0]}", description=about)
    if not config.files:
        raise ValueError(f"files must be one replay file at least: armfold replay {argv[0]} FILE")
    return _each(config, look)


def _each(config: _Show, look: Callable[[Any, Path], int]) -> int:
    """The highest status of the files, 2 for one that cannot be used: which keeps nobody from looking at the others."""
    status = 0
    for path in config.files:
        try:
            status = max(status, look(config, path))
        except (ReplayError, OSError) as error:
            if config.verbose:
                raise
            print(f"armfold: error: {' '.join(str(error).split())}", file=sys.stderr)
            status = 2
    return status


def _verify(config: _Verify, path: Path) -> int:
    verdict = verify(path, tolerance=config.tolerance, progress=not config.quiet)
    if not config.quiet:
        print(f"{path}: {verdict}")
    return int(not verdict.agrees)


def _show(_: _Show, path: Path) -> int:
    header, records = read_replay(path)
    print(f"{path}: {header.kind}, recorded with {_list(header.versions)}")
    print(f"  facts: {_list(header.facts)}")
    first = next(records, {})
    print(f"  fields: {_list({name: _shape(value) for name, value in first.items()})}")
    print(f"  records: {sum(1 for _ in records) + bool(first)}")
    return 0


def _list(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _shape(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
