"""What a compiled step does at every call beside its work, taken away: allocations, guards, repeated expressions.

Inductor's programs ask `empty_strided_cpu` for their temporaries at every call, and buffers of this size come from the
system each time, pages and all; on CUDA it is `empty_strided_cuda` and PyTorch's pool. A program that returns nothing
hands none of them out, so it may have the same ones again. Dynamo checks its guards at every call; where the arguments
are always the same objects, there is nothing to check: `Reusing.bind`. And a learner's `update` often computes again
what `select` has computed: equal expressions of a graph are merged before it is compiled. docs/design.md says what each
is worth.

This leans on names inside torch (`PyCodeCache.modules`, `empty_strided_cpu` and `_cuda`, `fx_graph_cse`); without them
programs allocate as they always did, and tests/shell/test_buffers.py fails (on CUDA, tests/shell/test_pixels_faces.py).
"""

import functools
import itertools
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]
_ALLOCATE = {"cpu": "empty_strided_cpu", "cuda": "empty_strided_cuda"}  # for temporaries on these devices


class Scratch(threading.local):
    """Stands in for what a program allocates with: gives the i-th request of every call the same tensor."""

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


class _Ran(threading.local):
    """The program that this thread ran last, with its tensors."""

    program: Callable[[], object] | None = None


class Reusing:
    """A function without results, compiled whole, whose programs keep their temporaries."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=self._compile)
        self.scratches: list[Scratch] = []
        self._ran = _Ran()

    def __call__(self, *arguments: Any) -> None:
        """Call the function."""
        self.compiled(*arguments)
        self._ran.program = None

    def bind(self, *arguments: Any) -> Callable[[], object]:
        """The function of these very objects: from its second call on, it runs the program of the first one."""
        program: Callable[[], object] | None = None

        def call() -> None:
            nonlocal program
            if program is not None:
                program()
                return
            self.compiled(*arguments)
            program, self._ran.program = self._ran.program, None

        return call

    def _compile(self, graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx  # two seconds to import: here, where it is needed

        devices = {x.device.type for x in inputs}
        if devices == {"cpu"}:
            _warn_without_vectors()
        known = len(_programs())
        run: Callable[..., Any] = compile_fx(  # type: ignore[assignment]
            graph, inputs, inner_compile=_compile_without_repeats, config_patches={"size_asserts": False}
        )
        new = itertools.product(_programs()[known:], devices & _ALLOCATE.keys())
        scratches = [scratch for program, device in new if (scratch := _adopt(program, device)) is not None]
        self.scratches += scratches

        def call(*tensors: Tensor) -> Any:
            for scratch in scratches:
                scratch.given = 0
            return run(*tensors)

        def first_call(*tensors: Tensor) -> Any:
            self._ran.program = partial(call, *tensors)
            return call(*tensors)

        return first_call


@functools.cache
def _warn_without_vectors() -> None:
    """Inductor tries its vector instructions in a process of its own; where that fails it says nothing of it."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    if not pick_vec_isa():
        warnings.warn(
            "the compiler can use no vector instructions: compiled steps will be some ten times slower "
            "(does a file beside the script have the name of a module of Python's own?)",
            stacklevel=2,
        )


def _compile_without_repeats(graph: torch.fx.GraphModule, inputs: Sequence[Tensor], **settings: Any) -> Any:
    from torch._functorch.compile_utils import fx_graph_cse
    from torch._inductor.compile_fx import compile_fx_inner

    graph.graph = fx_graph_cse(graph.graph)
    graph.recompile()
    return compile_fx_inner(graph, inputs, **settings)


def _adopt(program: ModuleType, device: str) -> Scratch | None:
    """Let a program that returns nothing keep its temporaries on `device`."""
    # On CUDA too a call may have those of the call before: both lie in one stream, and outputs are in place anyway.
    allocate = getattr(program, _ALLOCATE[device], None)
    returns_nothing = program.__file__ is not None and "return ()" in Path(program.__file__).read_text()
    if allocate is None or not returns_nothing or isinstance(allocate, Scratch):
        return None
    scratch = Scratch(allocate)
    setattr(program, _ALLOCATE[device], scratch)
    return scratch


def _programs() -> list[ModuleType]:
    """Inductor's programs so far, oldest first."""
    try:
        from torch._inductor.codecache import PyCodeCache
    except ImportError:
        return []
    return getattr(PyCodeCache, "modules", [])
