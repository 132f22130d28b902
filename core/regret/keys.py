"""Keys of states for the meta-learner: int64 numbers that say how much of a game's state is told apart.

A key is a perfect hash. Its level lies above bit 60, and below it the level's fields side by side, the first one
highest: so no two states of any level share a key, keys sort as their fields do, a key can be read back, and it is the
same in every process and on every device.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_shape

# What each level tells apart, as its keys are written out. `bucket` makes buckets, `cluster.kmeans_assign` clusters.
FIELDS = (
    ("round", "player", "pos"),
    ("round", "player", "pos", "potBucket", "stackBucket"),
    ("cluster",),
)
EDGES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # antes: pots and stacks that double fall one bucket apart
_BITS = 60  # of a key, shared evenly by its fields


def _names(level: int) -> tuple[str, ...]:
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < len(FIELDS):
        known = "; ".join(f"{i} ({', '.join(names)})" for i, names in enumerate(FIELDS))
        raise ValueError(f"level must be one of {known}; got {level!r}")
    return FIELDS[level]


def state_key(level: int, *fields: Tensor) -> Tensor:
    """Keys int64 [*B] of states at a level: 0 coarse, 1 medium, 2 fine. -1, which names no state, for a field < 0 or
    too large.

    fields: int64 [*B] each, those that `FIELDS` names: at level 0 round, player and position, each below 2**20; at
    level 1 also the buckets of pot and stack (`bucket`), all below 2**12; at level 2 the cluster of an embedding
    (`cluster.kmeans_assign`). Raises ValueError for another level or number of fields, ShapeError for other tensors.
    """
    names = _names(level)
    if len(fields) != len(names):
        raise ValueError(f"fields of level {level} must be {len(names)}: {', '.join(names)}; got {len(fields)}")
    width = _BITS // len(names)
    key = torch.full_like(fields[0], level)
    known = torch.ones_like(key, dtype=torch.bool)
    for name, field in zip(names, fields, strict=True):
        if field.dtype != torch.int64:
            raise ShapeError(f"{name} must have dtype torch.int64, got {field.dtype}")
        check_shape(name, field, fields[0].shape)
        key = key << width | field
        known = known & (field >> width == 0)
    return torch.where(known, key, -1)


def bucket(value: Tensor, edges: Sequence[float] = EDGES) -> Tensor:
    """The bucket of each value [*B], in the unit of `edges`: int64, how many of the edges are at most the value; -1
    for NaN. Raises ValueError for edges that do not ascend."""
    if not edges or not all(low < high for low, high in itertools.pairwise(edges)):
        raise ValueError(f"edges must ascend, each above the one before, got {tuple(edges)}")
    ascending = torch.tensor(edges, dtype=torch.float64, device=value.device)
    passed = (value.unsqueeze(-1) >= ascending).sum(-1)
    return torch.where(value == value, passed, -1)


def describe_key(key: int) -> str:
    """The fields of a key, written "round_player_pos_potBucket_stackBucket" as far as its level has them.

    Raises ValueError for a number that is no key of `state_key`.
    """
    if not 0 <= key < len(FIELDS) << _BITS:
        raise ValueError(f"key must be one that state_key gives, in [0, 3 * 2**{_BITS}), got {key}")
    names = FIELDS[key >> _BITS]
    width = _BITS // len(names)
    return "_".join(str(key >> width * i & (1 << width) - 1) for i in reversed(range(len(names))))
