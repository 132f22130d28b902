"""The histories at which players decide, for critics that see everything, and what they look like to networks."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.games.tree import Tree
from armfold.core.games.views import views

_MOST_NAMED = 4096  # decisions that are told apart one by one where the rules have no view


class Decisions(NamedTuple):
    """D histories at which a player moves, of I infosets with A actions. On the tree's device."""

    history: Tensor  # [D] int64 in [0, H)
    number: Tensor  # [H] int64 in [0, D), which decision a history is; -1 where no player moves
    infoset: Tensor  # [D] int64 in [0, I)
    player: Tensor  # [D] int64, 0 or 1
    legal: Tensor  # [D, A] bool
    seen: Tensor  # [D, F'] float32, what both players know there, and who moves
    known: Tensor  # [I, F] float32, what the player to move knows


def decisions(tree: Tree) -> Decisions:
    """All decisions of a game, as its rules' `view` shows them: F' is 2 F + 2.

    Without a view, every infoset and every decision has a feature of its own. Raises ValueError for rules without one
    where there are more than 4096 decisions, and as `views` does.
    """
    points = tree.histories
    at = (points.player >= 0).nonzero().squeeze(1)
    number = torch.full_like(points.player, -1)
    number[at] = torch.arange(len(at), device=at.device)
    infoset, player = points.infoset[at], points.player[at]
    if tree.rules.view is None:
        seen, known = _named(tree, len(at))
    else:
        shown = views(tree, tree.rules.view, [(h, player) for h in at.tolist() for player in (0, 1)])
        both = shown.to(at.device, torch.float32).reshape(len(at), 2, shown.shape[1])  # [D, 2, F]
        known = torch.zeros((len(tree.player), both.shape[-1]), device=at.device)
        known[infoset] = both[torch.arange(len(at), device=at.device), player]
        seen = torch.cat([both.flatten(1), torch.nn.functional.one_hot(player, 2).to(both.dtype)], 1)
    return Decisions(at, number, infoset, player, tree.legal[infoset], seen, known)


def _named(tree: Tree, number: int) -> tuple[Tensor, Tensor]:
    if number > _MOST_NAMED:
        raise ValueError(
            f"{tree.rules.name} has {number} decisions and no view: give its rules one, so that networks can tell what "
            "they have in common"
        )
    return torch.eye(number, device=tree.slot.device), torch.eye(len(tree.player), device=tree.slot.device)
