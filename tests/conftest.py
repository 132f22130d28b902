"""Shared set-up: one torch thread, a repeatable hypothesis profile, and the `variants` fixture."""

import itertools
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compiler processes

import hypothesis
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

pytest.register_assert_rewrite("tests.shell.commands")  # whose checks then say what they compared
torch.set_num_threads(1)
hypothesis.settings.register_profile("armfold", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("armfold")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for the one that torch 2.13 itself causes when Inductor is imported."""
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


def _agree(how: str, got: Any, want: Any, exact: bool, atol: float | None) -> None:
    """Assert that two trees of tensors agree: other than floats exactly, floats within the tolerance."""
    got_leaves, got_spec = pytree.tree_flatten(got)
    want_leaves, want_spec = pytree.tree_flatten(want)
    assert got_spec == want_spec, f"{how}: {got_spec} is not {want_spec}"
    for i, (x, y) in enumerate(zip(got_leaves, want_leaves, strict=True)):
        if not isinstance(y, Tensor):
            assert x == y, f"{how}, leaf {i}: {x!r} is not {y!r}"
            continue
        assert (x.dtype, x.shape) == (y.dtype, y.shape), f"{how}, leaf {i}: {x.dtype} {x.shape}, {y.dtype} {y.shape}"
        rtol = 0.0 if exact or not y.is_floating_point() else 8 * torch.finfo(y.dtype).eps
        error = 0.0 if rtol == 0 else rtol if atol is None else atol
        where = f"{how}, leaf {i}: "
        torch.testing.assert_close(x, y, rtol=rtol, atol=error, equal_nan=True, msg=where.__add__)


def _stack(shape: tuple[int, ...]) -> Callable[..., Any]:
    def stack(*lanes: Any) -> Any:
        same = lanes[0]
        return torch.stack(lanes).reshape(*shape, *same.shape) if isinstance(same, Tensor) else same

    return stack


def _variants(
    f: Callable[..., Any],
    *args: Any,
    batch: int = 1,
    exact: bool = False,
    atol: float | None = None,
    traced: bool = True,
    compiled: bool = False,
) -> Any:
    """f(*args), having asserted that every way to run f agrees with it.

    f is a pure function of trees (NamedTuples, tuples) whose tensors all have the same `batch` leading lane
    dimensions; leaves that are not tensors are passed on as they are. The ways: traced (torch.compile with
    fullgraph=True, backend="aot_eager"), vmapped over the lanes, each lane alone with an empty batch shape, and
    with `compiled=True` Inductor. Integers and bools must be equal; floats too with `exact=True`, otherwise within
    8 machine epsilons, relative, plus `atol` (by default also 8 epsilons).
    """
    want = f(*args)
    for backend in ["aot_eager"] * traced + ["inductor"] * compiled:
        torch._dynamo.reset()  # else one test after another would run into the recompile limit
        got = torch.compile(f, fullgraph=True, dynamic=False, backend=backend)(*args)
        _agree(backend, got, want, exact, atol)
    if batch == 0:
        return want
    leaves = [x for x in pytree.tree_leaves(args) if isinstance(x, Tensor)]
    shape = tuple(leaves[0].shape[:batch])
    assert all(x.shape[:batch] == shape for x in leaves), "every tensor must have the same leading lane dimensions"
    mapped, dims = f, pytree.tree_map(lambda x: 0 if isinstance(x, Tensor) else None, args)
    for _ in range(batch):
        mapped = torch.func.vmap(mapped, in_dims=dims)
    _agree("vmapped", mapped(*args), want, exact, atol)
    lanes = [
        f(*pytree.tree_map(lambda x, i=i: x[i] if isinstance(x, Tensor) else x, args))
        for i in itertools.product(*map(range, shape))
    ]
    _agree("single lane", pytree.tree_map(_stack(shape), *lanes), want, exact, atol)
    return want


@pytest.fixture(scope="session")  # so that hypothesis tests may use it too
def variants() -> Callable[..., Any]:
    """`variants(f, *args)` runs a pure function in every way and asserts that all agree. See `_variants`."""
    return _variants
