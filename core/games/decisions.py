"""The histories at which players decide, for critics that see everything, and what they look like to networks."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.games.tree import Tree

_MOST_NAMED = 4096  # infosets that are told apart one by one where the rules have no view


class Decisions(NamedTuple):
    """D histories at which a player moves, of I infosets with A actions. On the tree's device."""

    history: Tensor  # [D] int64 in [0, H)
    number: Tensor  # [H] int64 in [0, D), which decision a history is; -1 where no player moves
    infoset: Tensor  # [D] int64 in [0, I)
    player: Tensor  # [D] int64, 0 or 1
    legal: Tensor  # [D, A] bool
    seen: Tensor  # [D, 2 F + 2] float32, what both players know there, and who moves
    known: Tensor  # [I, F] float32, what the player to move knows


def decisions(tree: Tree) -> Decisions:
    """All decisions of a game, as its rules' `view` shows them.

    Rules without a view have every infoset told apart by a feature of its own. Raises ValueError for these where there
    are more than 4096 infosets.
    """
    points = tree.histories
    at = (points.player >= 0).nonzero().squeeze(1)
    number = torch.full_like(points.player, -1)
    number[at] = torch.arange(len(at), device=at.device)
    infoset = points.infoset[at]
    views = _viewed(tree, at.tolist()) if tree.rules.view else _named(tree, at.tolist())
    both = torch.tensor(views, device=at.device)  # [D, 2, F]
    player = points.player[at]
    own = both[torch.arange(len(at), device=at.device), player]
    known = torch.zeros((len(tree.player), own.shape[1]), device=at.device)
    known[infoset] = own
    mover = torch.nn.functional.one_hot(player, 2).to(both.dtype)
    return Decisions(at, number, infoset, player, tree.legal[infoset], torch.cat([both.flatten(1), mover], 1), known)


def _viewed(tree: Tree, at: list[int]) -> list[list[list[float]]]:
    rules, parent, action = tree.rules, tree.histories.parent.tolist(), tree.histories.action.tolist()
    states = [rules.start]
    for h in range(1, len(parent)):  # breadth first: a parent comes before its children
        states.append(rules.follow(states[parent[h]], action[h]))
    view = rules.view
    return [] if view is None else [[list(map(float, view(states[h], player))) for player in (0, 1)] for h in at]


def _named(tree: Tree, at: list[int]) -> list[list[list[float]]]:
    """For each player, a feature for each infoset: where he is, or was last."""
    if len(tree.player) > _MOST_NAMED:
        raise ValueError(
            f"{tree.rules.name} has {len(tree.player)} infosets and no view: give its rules one, so that networks can "
            "tell what they have in common"
        )
    slot, width = tree.slot.tolist(), tree.legal.shape[1]
    points = tree.histories
    infoset, player, last = points.infoset.tolist(), points.player.tolist(), points.sequence.tolist()
    empty = [0, len(tree.sides[0].infoset)]
    views = []
    for h in at:
        two = []
        for who in (0, 1):
            features = [0.0] * (len(tree.player) + width)
            if player[h] == who:
                features[infoset[h]] = 1.0
            elif last[h][who] not in empty:
                i, a = divmod(slot[last[h][who]], width)
                features[i], features[len(tree.player) + a] = 1.0, 1.0
            two.append(features)
        views.append(two)
    return views
