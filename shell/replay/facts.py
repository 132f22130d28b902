"""Facts in a replay file: whoever wrote it, each is of its type before anything is made from it."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor

from armfold.shell.choose import convert, suggest

T = TypeVar("T")


def read_facts(kind: type[T], facts: Any, *, name: str = "facts") -> T:
    """A NamedTuple of that kind, from its fields as a file has them, or as they are in Python; those with
    a default may be missing.

    name: of all of them, in errors. Raises ValueError that names a field which is not known, is missing, or is of
    another type, with its value.
    """
    if not isinstance(facts, Mapping):
        raise ValueError(f"{name} must be values by their names, got {facts!r}")
    hints = get_type_hints(kind)
    for field in facts:
        if field not in hints:
            raise suggest(f"name in {name}", field, hints)
    fields = {field: _read(field, hints[field], value) for field, value in facts.items()}
    missing = hints.keys() - kind._field_defaults.keys() - facts.keys()  # type: ignore[attr-defined]
    if missing:
        raise ValueError(f"{name} must have {', '.join(sorted(missing))}, got {', '.join(facts) or 'none'}")
    return kind(**fields)


def _read(name: str, kind: Any, value: Any) -> Any:
    members = get_args(kind)
    if NoneType in members:
        return None if value is None else _read(name, members[0], value)
    if hasattr(kind, "_fields"):
        return read_facts(kind, value, name=name)
    if kind is not Tensor and get_origin(kind) is not Mapping:
        return convert(name, kind, list(value) if isinstance(value, tuple) else value)
    if not isinstance(value, get_origin(kind) or kind):
        raise ValueError(f"{name} must be {'a tensor' if kind is Tensor else 'values by their names'}, got {value!r}")
    return value
