"""What a constructor's docstring says of it, for the registries."""

import inspect
from collections.abc import Callable
from typing import Any


def summary(make: Callable[..., Any]) -> str:
    """The first line of its docstring."""
    return inspect.cleandoc(make.__doc__ or "").splitlines()[0]


def source(make: Callable[..., Any]) -> str:
    """The papers that its docstring names after "Source:"."""
    return " ".join((make.__doc__ or "").partition("Source:")[2].split()).rstrip(".")
