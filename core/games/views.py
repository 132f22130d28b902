"""What players see of a game, as numbers, read off its rules point by point."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from armfold.core.games.rules import describe_path
from armfold.core.games.tree import Tree


def views(tree: Tree, view: Callable[[Any, int], Sequence[float]], points: Sequence[tuple[int, int]]) -> Tensor:
    """What the rules' `view` shows at each of N `points`, a history and a player: [N, F] float64, on the CPU.

    Raises ValueError, with the actions that lead there, for views that are no numbers or not as many as elsewhere.
    """
    rules, parent, action = tree.rules, tree.histories.parent.tolist(), tree.histories.action.tolist()
    states = [rules.start]
    for h in range(1, len(parent)):  # breadth first: a parent comes before its children
        states.append(rules.follow(states[parent[h]], action[h]))
    rows: list[list[float]] = []
    for h, player in points:
        told = view(states[h], player)
        try:
            rows.append(list(map(float, told)))
        except (TypeError, ValueError):
            raise ValueError(f"view must give numbers, got {told!r} {describe_path(parent, action, h)}") from None
        if len(rows[-1]) != len(rows[0]):
            raise ValueError(
                f"view must give as many numbers everywhere, got {len(rows[-1])} {describe_path(parent, action, h)}, "
                f"{len(rows[0])} before"
            )
    return torch.tensor(rows, dtype=torch.float64)
