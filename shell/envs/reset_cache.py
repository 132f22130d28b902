"""Snapshots that lanes start from: captured from play or read from files, chosen by a lane, restored under a mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import ShapeError, check_size
from armfold.shell.buffers import write
from armfold.shell.envs.backend import Backend


class ResetCache:
    """Where the lanes of a backend start: `count` snapshots on its device, or power-on, which counts as one.

    A restore is one call of `backend.reset`, in which lanes outside of the mask return at once and the host does not
    wait. With skip_if_empty the host looks first whether there is any lane to restore: nothing is called where there is
    none, but on CUDA the host then waits for the device (docs/pixels.md has what either costs).
    """

    def __init__(self, backend: Backend, starts: Any = None, *, skip_if_empty: bool = False) -> None:
        """starts: a State of the backend with S >= 1 lanes; None: power-on. Raises ShapeError for one of another
        machine."""
        self.backend, self.skip_if_empty = backend, skip_if_empty
        self.starts = None if starts is None else _lay(backend, starts)
        self.count = 1 if starts is None else len(pytree.tree_leaves(self.starts)[0])

    def restore(self, mask: Tensor, choice: Tensor, any_lane: Tensor | None = None) -> bool:
        """Lanes of mask, bool [N], to the snapshots choice, int64 [N] in [0, count): whether the backend was called.

        any_lane: whether mask has any lane, bool, 0-dim, where it is known already; only skip_if_empty asks.
        """
        if self.skip_if_empty and not bool(mask.any() if any_lane is None else any_lane):
            return False
        self.backend.reset(mask, self.starts, None if self.starts is None else choice)
        return True


def capture(backend: Backend, lanes: int | Sequence[int] = 0) -> Any:
    """What a lane is now, or several are, as a State [S] to start from. Raises ValueError for a lane there is not."""
    picked = [lanes] if isinstance(lanes, int) else list(lanes)
    for lane in picked:
        check_size("lanes", lane, low=0)
        if lane >= backend.num_envs:
            raise ValueError(f"lanes must lie in [0, {backend.num_envs}), got {lane}")
    if not picked:
        raise ValueError("lanes must name at least one lane, got none")
    return backend.snapshot(picked)


def load_starts(backend: Backend, paths: Sequence[str | Path]) -> Any:
    """Files of `save_state`, in their order, as a State [S] to start from. The backend is left as it was.

    Raises ValueError for no files, and for a file that is of another ROM or not there at all.
    """
    if not paths:
        raise ValueError("paths must name at least one file, got none")
    lane = torch.zeros(1, dtype=torch.int64)
    before, loaded = backend.snapshot(lane), []
    try:
        for path in paths:
            backend.load_state(path, lane)
            loaded.append(backend.snapshot(lane))
    finally:
        backend.reset(torch.arange(backend.num_envs, device=backend.device) == 0, before)
    return join_starts(loaded)


def join_starts(states: Sequence[Any]) -> Any:
    """States [S_i] of one machine as one State [sum S_i]. Raises ValueError for none, ShapeError for others."""
    if not states:
        raise ValueError("states must hold at least one State, got none")
    for state in states[1:]:
        check_alike("states", state, states[0])
    return pytree.tree_map(lambda *parts: torch.cat(parts), *states)


def _lay(backend: Backend, starts: Any) -> Any:
    """`starts` on the backend's device, in its layout."""
    check_alike("starts", starts, backend.snapshot([0]))
    lanes = {len(leaf) for leaf in pytree.tree_leaves(starts)}
    if len(lanes) != 1 or lanes == {0}:
        raise ShapeError(f"starts must have the same number of lanes, at least 1, in every field, got {sorted(lanes)}")
    laid = backend.snapshot([0] * lanes.pop())
    write(laid, starts)
    return laid


def check_alike(name: str, state: Any, wanted: Any) -> None:
    """Raise ShapeError unless two trees of tensors [N, ...] differ in nothing but their numbers of lanes."""
    leaves, spec = pytree.tree_flatten(state)
    wanted_leaves, wanted_spec = pytree.tree_flatten(wanted)
    if spec != wanted_spec:
        raise ShapeError(f"{name} must be a {type(wanted).__name__} of this backend, got {type(state).__name__}")
    for i, (x, y) in enumerate(zip(leaves, wanted_leaves, strict=True)):
        if _describe(x) != _describe(y):
            field = wanted._fields[i] if len(leaves) == len(getattr(wanted, "_fields", ())) else f"tensor {i}"
            raise ShapeError(f"{name} must have {_describe(y)} as its {field}, as this backend has, got {_describe(x)}")


def _describe(x: Any) -> str:
    return f"{x.dtype} {('N', *x.shape[1:])}" if isinstance(x, Tensor) else repr(x)
