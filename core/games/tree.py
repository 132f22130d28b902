"""From rules to tensors: the sequence form of a game, level by level (von Stengel 1996), and all of its histories.

A *sequence* of a player is what he has done on the way to a point of the game: his last infoset and the action there,
or nothing yet. Sequences are numbered player by player, each player's empty one first, then by level (how many actions
it has), then by infoset; infosets likewise. Tables over infosets are [I, A, *B], over sequences [S, *B]: in this
domain lanes come last, so that every gather moves whole rows of lanes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.games.rules import Rules
from armfold.core.games.sums import Rows


class Level(NamedTuple):
    """What one player decides after a number of own actions: I_l infosets, S_l sequences. All numbers count within."""

    parent: Tensor  # [S_l] int64, which sequence of the level before each one goes on from
    infoset: Tensor  # [S_l] int64, which of this level's infosets each sequence acts at
    actions: Rows  # I_l rows of this level's sequences
    children: Rows  # S_l rows of the next level's infosets
    uniform: Tensor  # [S_l] float64, one over the number of actions


class Side(NamedTuple):
    """One player's S_i sequences and I_i infosets, numbered within."""

    payoff: Rows  # S_i rows of the other player's sequences: chance times what this player wins
    infoset: Tensor  # [S_i] int64, where each sequence acts; 0 for the empty one
    levels: tuple[Level, ...]
    first: Rows  # one row: the infosets of the first level


class Histories(NamedTuple):
    """All H points of the game, breadth first; the children of a point follow one another."""

    parent: Tensor  # [H] int64; -1 at the start
    action: Tensor  # [H] int64, the action or outcome that led here; -1 at the start
    player: Tensor  # [H] int64: 0 or 1, CHANCE or END
    infoset: Tensor  # [H] int64 in [0, I); -1 where no player moves
    first: Tensor  # [H] int64, the first child; 0 at the end of a game
    branches: Tensor  # [H] int64, how many children
    probability: Tensor  # [H] float64, of the outcome that led here; 1 after a player's action
    reach: Tensor  # [H] float64, product of the probabilities of chance on the way
    payoff: Tensor  # [H] float64, what the first player has won; 0 before the end
    sequence: Tensor  # [H, 2] int64 in [0, S), what each player has done on the way


class Tree(NamedTuple):
    """A game as tensors. I infosets, A actions, S sequences, H histories."""

    rules: Rules
    names: tuple[str, ...]  # of the I infosets
    legal: Tensor  # [I, A] bool
    player: Tensor  # [I] int64, who moves there
    summary: Tensor  # [I, 4] int64: round, position, pot, stack, for coarse keys, as the rules tell; see `compile_game`
    sequence: Tensor  # [I, A] int64 in [0, S), what an action leads to; 0 where it is illegal
    slot: Tensor  # [S] int64 in [0, I * A), the infoset and action of a sequence; 0 for the empty ones
    sides: tuple[Side, Side]
    histories: Histories
    depths: tuple[int, ...]  # the first history of each depth, and H
    widths: tuple[int, ...]  # the most branches of any history of each depth


def move(tree: Tree, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tree:
    """The tree on another device, or with its floats in another dtype."""

    def moved(x: object) -> object:
        if not isinstance(x, Tensor):
            return x
        return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

    fields = {name: pytree.tree_map(moved, getattr(tree, name)) for name in Tree._fields[2:]}
    return Tree(tree.rules, tree.names, **fields)
