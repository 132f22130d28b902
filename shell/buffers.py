"""Device buffers: how lanes lie in memory, and the only code that writes state in place."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

LANES = 64  # blocks are multiples of this, so that every lane goes through the same vector code
_BLOCK_BYTES = 4 * 2**20  # a block's state should stay in a core's caches
_MOST_LANES = {"cpu": 8192, "cuda": 2**20}


class Layout(NamedTuple):
    """How a block of lanes lies in memory."""

    lanes_last: bool  # [N, K] stored with N fastest: vectors run over lanes
    block: int  # lanes in a block

    def lay(self, x: Tensor) -> Tensor:
        """`x` [N, ...] copied into this layout. The shape stays; the strides change."""
        if self.lanes_last:
            return x.movedim(0, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 0)
        return x.clone(memory_format=torch.contiguous_format)


def choose_layout(carry: Any, learner: Any, *, runs: int, max_memory: int | None = None) -> Layout:
    """The layout for `runs` lanes of a carry, from the shapes of a carry of few lanes.

    Vector states lie lanes last; states that hold matrices lie as they are, because there the compiler's vectors run
    over the matrix (docs/design.md has the measurements). The largest block is a rule over the bytes of one lane and
    never looks at the machine. Runs are then cut into equal blocks: a lane's path does not depend on how many there
    are. `max_memory` in bytes lowers the block further.
    """
    leaves = pytree.tree_leaves(carry)
    bytes_per_lane = sum(leaf[0].numel() * leaf.element_size() for leaf in leaves)
    device = leaves[0].device.type
    most = _MOST_LANES.get(device, _MOST_LANES["cpu"])
    if device == "cpu":
        most = min(most, 2 ** max(0, int(math.log2(_BLOCK_BYTES / bytes_per_lane))))
    if max_memory is not None:
        # The compiled step holds a few times the state: double buffers of matrices, words of random numbers.
        most = min(most, max_memory // (4 * bytes_per_lane))
    most = max(LANES, most // LANES * LANES)
    blocks = math.ceil(runs / most)
    block = math.ceil(runs / blocks / LANES) * LANES
    return Layout(all(leaf.ndim <= 2 for leaf in pytree.tree_leaves(learner)), block)


def write(buffers: Any, values: Any) -> None:
    """Copy every tensor of `values` into the buffer at its place. Compiled, this becomes stores in place."""
    for buffer, value in zip(pytree.tree_leaves(buffers), pytree.tree_leaves(values), strict=True):
        if buffer is not value:
            buffer.copy_(value)
