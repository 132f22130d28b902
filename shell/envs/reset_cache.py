"""Snapshots that lanes start from: of play or of files, chosen by a lane, restored under a mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import ShapeError
from armfold.shell.buffers import write
from armfold.shell.envs.backend import Backend


class ResetCache:
    """Where the lanes of a backend start: `count` snapshots on its device, or power-on, which counts as one.

    A restore is one call of `backend.reset`, in which lanes outside of the mask return at once and the host does not
    wait. With skip_if_empty the host looks first whether there is any lane to restore: nothing is called where there is
    none, but on CUDA the host then waits for the device (docs/pixels.md has what either costs).
    """

    def __init__(self, backend: Backend, starts: Any = None, *, skip_if_empty: bool = False) -> None:
        """starts: a State of the backend with S >= 1 lanes, as `backend.snapshot(lanes)` or `load_starts` gives it;
        None: power-on. Raises ShapeError for one of another machine."""
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


def load_starts(backend: Backend, paths: str | Path | Sequence[str | Path]) -> Any:
    """A file of `save_state`, or several in their order, as a State [S] to start from.

    Raises ValueError for no files, and for a file that is of another ROM or not there at all.
    """
    listed = [paths] if isinstance(paths, str | Path) else paths
    if not listed:
        raise ValueError("paths must name at least one file, got none")
    return join_starts([backend.read_state(path) for path in listed])


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


def check_alike(name: str, state: Any, wanted: Any, *, same_lanes: bool = False) -> None:
    """Raise ShapeError unless two trees of tensors [N, ...] differ in nothing but their values and, where these need
    not be the same, their numbers of lanes."""
    leaves, spec = pytree.tree_flatten(state)
    wanted_leaves, wanted_spec = pytree.tree_flatten(wanted)
    if spec != wanted_spec:
        raise ShapeError(f"{name} must be a {type(wanted).__name__} of this backend, got {type(state).__name__}")
    for i, (x, y) in enumerate(zip(leaves, wanted_leaves, strict=True)):
        has, wants = (_describe(tensor, same_lanes) for tensor in (x, y))
        if has != wants:
            field = wanted._fields[i] if len(leaves) == len(getattr(wanted, "_fields", ())) else f"tensor {i}"
            raise ShapeError(f"{name} must have {wants} as its {field}, got {has}")


def _describe(x: Any, lanes: bool) -> str:
    """The dtype and shape of a tensor, with or without its number of lanes."""
    if not isinstance(x, Tensor):
        return repr(x)
    return f"{x.dtype} {tuple(x.shape) if lanes or not x.ndim else ('N', *x.shape[1:])}"
