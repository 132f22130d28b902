"""What a constructor's docstring and annotations say of it, for the registries."""

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from torch import Tensor


def summary(make: Callable[..., Any]) -> str:
    """The first line of its docstring."""
    return inspect.cleandoc(make.__doc__ or "").splitlines()[0]


def source(make: Callable[..., Any]) -> str:
    """The papers that its docstring names after "Source:"."""
    return " ".join((make.__doc__ or "").partition("Source:")[2].split()).rstrip(".")


def hints(make: Callable[..., Any]) -> dict[str, Any]:
    """The types that its parameters are annotated with; none where they cannot be resolved."""
    try:
        return get_type_hints(make)
    except (AttributeError, NameError, TypeError):  # of names that only a type checker sees, of a partial
        return {}


def scalars(make: Callable[..., Any]) -> dict[str, float | None]:
    """Its float tunables that may be tensors [*B], and their defaults: parameters annotated `Scalar` that default to a
    number, or `Scalar | None` that default to None."""
    known = hints(make)
    found = {}
    for p in inspect.signature(make).parameters.values():
        number = isinstance(p.default, float | int) and not isinstance(p.default, bool)
        if {float, Tensor} <= set(get_args(known.get(p.name))) and (number or p.default is None):
            found[p.name] = float(p.default) if number else None
    return found
