"""The temporaries of compiled CPU programs, kept from call to call: a step after the first allocates nothing.

Inductor's programs ask `empty_strided_cpu` for their temporaries at every call, and buffers of this size come from the
system each time, pages and all. A program that returns nothing hands none of them out, so it may have the same ones
again. This leans on two names inside torch (`PyCodeCache.modules` and `empty_strided_cpu`); where they are missing,
programs allocate as they always did, and tests/shell/test_buffers.py fails.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

Shape = tuple[int, ...]
_ALLOCATE = "empty_strided_cpu"


class Scratch(threading.local):
    """Stands in for a program's `empty_strided_cpu`: gives the i-th request of every call the same tensor."""

    def __init__(self, allocate: Callable[..., Tensor]) -> None:
        self.allocate = allocate
        self.tensors: list[Tensor] = []
        self.given = 0

    def __call__(self, size: Shape, stride: Shape, dtype: Any) -> Tensor:
        """The tensor kept for this request, made where there is none yet."""
        if self.given == len(self.tensors):
            self.tensors.append(self.allocate(size, stride, dtype))
        self.given += 1
        return self.tensors[self.given - 1]


class Reusing:
    """A compiled function without results, whose programs keep their temporaries."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self.scratches: list[Scratch] = []

    def __call__(self, *arguments: Any) -> None:
        """Call the function; where that compiled a program, adopt it."""
        for scratch in self.scratches:
            scratch.given = 0
        programs = _programs()
        known = len(programs)
        self.function(*arguments)
        if len(programs) > known:
            for program in programs[known:]:
                self._adopt(program)

    def _adopt(self, program: ModuleType) -> None:
        allocate = getattr(program, _ALLOCATE, None)
        returns_nothing = program.__file__ is not None and "return ()" in Path(program.__file__).read_text()
        if allocate is not None and returns_nothing and not isinstance(allocate, Scratch):
            scratch = Scratch(allocate)
            setattr(program, _ALLOCATE, scratch)
            self.scratches.append(scratch)


def _programs() -> list[ModuleType]:
    """Inductor's programs so far, oldest first."""
    try:
        from torch._inductor.codecache import PyCodeCache
    except ImportError:
        return []
    return getattr(PyCodeCache, "modules", [])
