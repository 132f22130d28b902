"""Which infosets of a game are one state to a meta-learner."""

import torch
from torch import Tensor

from armfold.core.games.tree import Tree
from armfold.core.regret.keys import bucket, state_key


def infoset_keys(tree: Tree, level: int, cluster: Tensor | None = None) -> Tensor:
    """The key [I] of each infoset, as `regret.state_key` makes it: at level 0 and 1 of what `tree.summary` says of it,
    at level 2 of the cluster [I] that its view falls into. Raises ValueError for another level, or no cluster at 2."""
    if level == 2:
        if cluster is None:
            raise ValueError("cluster must be given for level 2, got None")
        return state_key(2, cluster)
    round_, position, pot, stack = tree.summary.unbind(1)
    more = (bucket(pot), bucket(stack)) if level == 1 else ()
    return state_key(level, round_, tree.player, position, *more)


def known_keys(tree: Tree, level: int, clusters: int) -> Tensor:
    """Every key [M] that an infoset may have, ascending: at level 2, of that many clusters."""
    keys: Tensor = torch.unique(infoset_keys(tree, level, torch.arange(clusters, device=tree.player.device)))
    return keys
