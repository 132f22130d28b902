"""Snapshots that lanes start from: of play or of files, chosen by a lane, restored under a mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.shell.buffers import Layout
from armfold.shell.check import check_state
from armfold.shell.envs.backend import Backend


class ResetCache:
    """Where the lanes of a backend start: `count` snapshots on its device, or power-on, which counts as one.

    A restore is one call of `backend.reset`, in which lanes outside of the mask return at once and the host does not
    wait. With skip_if_empty the host looks first whether there is any lane to restore: nothing is called where there is
    none, but on CUDA the host then waits for the device (docs/pixels.md has what either costs).
    """

    def __init__(self, backend: Backend, starts: Any = None, *, skip_if_empty: bool = False) -> None:
        """starts: what `load_starts` takes; None: power-on. Raises as that does."""
        self.backend, self.skip_if_empty = backend, skip_if_empty
        self.starts = None if starts is None else load_starts(backend, starts)
        self.count = 1 if starts is None else len(pytree.tree_leaves(self.starts)[0])

    def restore(self, mask: Tensor, choice: Tensor, any_lane: Tensor | None = None) -> bool:
        """Lanes of mask, bool [N], to the snapshots choice, int64 [N] in [0, count): whether the backend was called.

        any_lane: whether mask has any lane, bool, 0-dim, where it is known already; only skip_if_empty asks.
        """
        if self.skip_if_empty and not bool(mask.any() if any_lane is None else any_lane):
            return False
        self.backend.reset(mask, self.starts, None if self.starts is None else choice)
        return True


def load_starts(backend: Backend, starts: Any) -> Any:
    """A State of the backend with S >= 1 lanes, a file of `save_state`, or several of these in their order, as one
    State to start from: a copy on the backend's device, in its layout.

    Raises ValueError for none, and for a file that is of another ROM or not there at all; ShapeError for a State of
    another machine; TypeError for what is neither.
    """
    several = isinstance(starts, Sequence) and not isinstance(starts, str) and not hasattr(starts, "_fields")
    listed = starts if several else [starts]  # a State is a tuple too
    if not listed:
        raise ValueError("starts must hold at least one State or file, got none")
    like, states = backend.snapshot([0]), []
    for i, one in enumerate(listed):
        name = f"starts[{i}]" if several else "starts"
        state = backend.read_state(one) if isinstance(one, str | Path) else one
        if not isinstance(state, tuple):
            wanted = "a State of this backend or a file" + ("" if several else ", or several of these")
            raise TypeError(f"{name} must be {wanted}, got {type(state).__name__}")
        states.append(pytree.tree_map_only(Tensor, lambda x: x.to(backend.device), state))
        check_state(name, states[-1], like)
    return pytree.tree_map(_lay, like, *states)


def _lay(like: Tensor, *parts: Tensor) -> Tensor:
    """Tensors [S_i, ...] as one [sum S_i, ...], with lanes fastest in memory where they are so in `like`, [1, ...]."""
    return Layout(like.stride(0) == 1, sum(map(len, parts))).lay(torch.cat(parts))
