"""Lanes that begin again from one of S kept starts."""

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core.check import ShapeError, check_size
from armfold.core.pixels.frames import check_mask, check_places, choose, over

Tree = TypeVar("Tree")  # a NamedTuple, tuple or dictionary of tensors, of any depth


def choose_start(rng: Tensor, starts: int) -> Tensor:
    """Which of S = starts >= 1 starts each lane takes: int64 [*B] in [0, S), uniform. It consumes the keys rng [*B, 2].
    Raises ShapeError and ValueError."""
    check_size("starts", starts)
    return random.randint(rng, high=starts)


def masked_reset(state: Tree, start: Tree, choice: Tensor, mask: Tensor) -> Tree:
    """`state` with the lanes of mask, bool [*B], replaced by start number choice, int64 [*B]; the others as they are.

    Tensors of `state` are [*B, ...]; those of `start`, a tree of the same structure, are [S, ...], S >= 1, with the
    same rest and dtype. A choice outside [0, S) reads the nearest start; choices of lanes that are not in the mask are
    not used. Raises ShapeError.
    """
    check_mask("mask", mask, mask.shape)
    check_places("choice", choice, mask.shape)
    leaves, spec = pytree.tree_flatten(state)
    fresh, spec_fresh = pytree.tree_flatten(start)
    if spec != spec_fresh:
        raise ShapeError(f"start must have the structure of state, {spec}, got {spec_fresh}")
    for i, (x, y) in enumerate(zip(leaves, fresh, strict=True)):
        _check_leaf(f"leaf {i}", x, y, mask.shape)
    chosen = [_choose(x, y, choice, mask) for x, y in zip(leaves, fresh, strict=True)]
    return pytree.tree_unflatten(chosen, spec)  # type: ignore[no-any-return]


def _check_leaf(name: str, state: object, start: object, batch: Sequence[int]) -> None:
    if not isinstance(state, Tensor) or not isinstance(start, Tensor):
        raise ShapeError(f"state and start must hold tensors, got {name}: {type(state)}, {type(start)}")
    if tuple(state.shape[: len(batch)]) != tuple(batch):
        raise ShapeError(f"state, {name}, must have shape {(*batch, '...')}, got {tuple(state.shape)}")
    rest = state.shape[len(batch) :]
    if start.dtype != state.dtype or start.ndim == 0 or start.shape[0] == 0 or start.shape[1:] != rest:
        raise ShapeError(
            f"start, {name}, must be {state.dtype} of shape {('S', *rest)} with S >= 1, "
            f"got {start.dtype} {tuple(start.shape)}"
        )


def _choose(state: Tensor, start: Tensor, choice: Tensor, mask: Tensor) -> Tensor:
    # A dimension of its own keeps the choice from being 0-dim, which would be read on the host.
    place = choice.clamp(0, start.shape[0] - 1).unsqueeze(-1)
    return choose(over(mask, state.ndim - mask.ndim), start[place].squeeze(choice.ndim), state)
