"""One player's information sets as tables [I_i, A, *B], for learners that act at each of them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.games import sequence
from armfold.core.games.keys import infoset_keys
from armfold.core.games.sample import Paths, paths
from armfold.core.games.sums import Rows, make_rows
from armfold.core.games.tree import Side, Tree, move
from armfold.core.games.views import views


class Infosets(NamedTuple):
    """The I_i infosets of one player, with S_i sequences of his own and S_j of the other player."""

    side: Side
    legal: Tensor  # [I_i, A] bool
    sequence: Tensor  # [I_i, A] int64 in [0, S_i), what an action leads to; 0 where it is illegal
    slot: Tensor  # [S_i] int64 in [0, I_i * A), the infoset and action of a sequence; 0 for the empty one
    reach: Rows  # I_i rows of the other player's sequences: the chance that nature and they lead there
    key: Tensor  # [I_i] int64 in [0, M_i): infosets with the same one share a meta-learner
    members: Rows  # M_i rows of infosets: those with each key
    features: Tensor  # [I_i, F] float64, what the player knows there


class Tables(NamedTuple):
    """What tabular learners read of a game."""

    tree: Tree
    players: tuple[Infosets, Infosets]
    paths: Paths  # of sampled traversals


def tables(tree: Tree, *, level: int | None = None) -> Tables:
    """The tables of a game, on the tree's device.

    level: what tells keys apart, as in `regret.keys.state_key`: 0 (round, player and position), or 1 (pot and stack
    too); None: every infoset has a key of its own. Features are the player, `tree.summary`, each number divided
    by its largest, and their `view` where they have one. Raises ValueError for another level, and as `views` does.
    """
    here, device = move(tree, device="cpu"), tree.slot.device
    key, features = _keys(here, level), _features(here)

    def there(player: int) -> Infosets:
        own = _player(here, player, key, features)
        moved: Infosets = pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, own)
        return moved

    return Tables(tree, (there(0), there(1)), paths(tree))


def _keys(tree: Tree, level: int | None) -> Tensor:
    if level is None:
        return torch.arange(len(tree.player))
    if level not in (0, 1):
        raise ValueError(f"level must be 0, 1 or None, got {level!r}")
    return infoset_keys(tree, level)


def _features(tree: Tree) -> Tensor:
    summary = tree.summary.to(torch.float64)
    parts = [tree.player.to(torch.float64).unsqueeze(1), summary / summary.amax(0).clamp(min=1)]
    if tree.rules.view is not None:
        first: dict[int, int] = {}  # of the histories of each infoset
        for h, i in enumerate(tree.histories.infoset.tolist()):
            first.setdefault(i, h)
        points = [(first[i], player) for i, player in enumerate(tree.player.tolist())]
        parts.append(views(tree, tree.rules.view, points))
    return torch.cat(parts, 1)


def _player(tree: Tree, player: int, key: Tensor, features: Tensor) -> Infosets:
    own, width = tree.player == player, tree.legal.shape[1]
    first, sequences = int(own.to(torch.int64).argmax()), sequence.bounds(tree)[player]
    known, mine = torch.unique(key[own], return_inverse=True)
    members: list[list[tuple[int, float]]] = [[] for _ in known]
    for i, m in enumerate(mine.tolist()):
        members[m].append((i, 1.0))
    return Infosets(
        tree.sides[player],
        tree.legal[own],
        (tree.sequence[own] - sequences.start).clamp(min=0),
        (tree.slot[sequences] - first * width).clamp(min=0),
        _reach(tree, player, first, int(own.sum())),
        mine,
        make_rows(members),
        features[own],
    )


def _reach(tree: Tree, player: int, first: int, number: int) -> Rows:
    rows: list[dict[int, float]] = [{} for _ in range(number)]
    histories, start = tree.histories, sequence.bounds(tree)[1 - player].start
    mine = histories.player == player
    at, others = histories.infoset[mine] - first, histories.sequence[mine, 1 - player] - start
    for i, s, chance in zip(at.tolist(), others.tolist(), histories.reach[mine].tolist()):
        rows[i][s] = rows[i].get(s, 0.0) + chance
    return make_rows([list(row.items()) for row in rows])


def to_sequences(own: Infosets, policy: Tensor) -> Tensor:
    """A policy [I_i, A, *B] over the player's sequences: [S_i, *B]; 1 for the empty one."""
    chosen = policy.flatten(0, 1).index_select(0, own.slot[1:])
    return torch.cat([policy.new_ones((1, *policy.shape[2:])), chosen])


def to_table(own: Infosets, values: Tensor) -> Tensor:
    """Values over the player's sequences [S_i, *B] as a table [I_i, A, *B]; 0 where an action is illegal."""
    table = values.index_select(0, own.sequence.flatten()).reshape(*own.legal.shape, *values.shape[1:])
    return torch.where(trailing(own.legal, table), table, 0)


def trailing(table: Tensor, like: Tensor) -> Tensor:
    """A table [I_i, A] ready to meet one with lanes, [I_i, A, *B]."""
    return table.reshape(*table.shape, *(1,) * (like.ndim - table.ndim))
