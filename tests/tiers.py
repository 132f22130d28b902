"""Which values of a parameter belong to the fast tier."""

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(values: Iterable[Any], *, keep: int = 3) -> list[Any]:
    """Every `keep`-th value, or tuple of values; the others are slow. For what they hardly differ in."""
    every = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=[] if i % keep == 0 else pytest.mark.slow) for i, value in enumerate(every)]
