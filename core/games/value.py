"""Exact values of policies [I, A, *B], by one pass over the sequence form."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.games import sequence
from armfold.core.games.tree import Tree


def _plan(tree: Tree, policy: Tensor, player: int) -> Tensor:
    own = sequence.bounds(tree)[player]
    return sequence.plan(tree.sides[player], sequence.from_table(tree, policy)[own])


def expected_value(tree: Tree, policy: Tensor) -> Tensor:
    """What the first player wins on average where both follow `policy` [I, A, *B]: [*B], in the game's unit. Values of
    the policy are not checked, see `check_policy_values`."""
    table = sequence.from_table(tree, policy)
    return sequence.values(tree.sides[0], table[sequence.bounds(tree)[0]], _plan(tree, policy, 1)).root


def exploitability(tree: Tree, policy: Tensor) -> Tensor:
    """What a best response wins on average over both seats against `policy` [I, A, *B]: [*B], NashConv / 2. 0 in
    equilibrium, where nobody gains by playing otherwise. Values of the policy are not checked, see
    `check_policy_values`."""
    best = [sequence.values(tree.sides[player], None, _plan(tree, policy, 1 - player)).root for player in (0, 1)]
    return (best[0] + best[1]) / 2


class Response(NamedTuple):
    """A best response to a policy, and what it is worth."""

    value: Tensor  # [*B] float, what the responder wins on average
    policy: Tensor  # [I, A, *B] float, the policy but for the responder's infosets; pure, the first of ties


def best_response(tree: Tree, policy: Tensor, player: int) -> Response:
    """The best response of `player`, 0 or 1, to the other one's part of `policy` [I, A, *B].

    Values of the policy are not checked, see `check_policy_values`. Raises ValueError for another player and ShapeError
    for another shape.
    """
    if player not in (0, 1):
        raise ValueError(f"player must be 0 or 1, got {player!r}")
    side, own = tree.sides[player], sequence.bounds(tree)[player]
    found = sequence.values(side, None, _plan(tree, policy, 1 - player))
    worth = torch.full((len(tree.slot), *policy.shape[2:]), -torch.inf, dtype=policy.dtype, device=policy.device)
    worth = torch.cat([worth[: own.start], found.sequence, worth[own.stop :]])
    best = sequence.to_table(tree, worth, fill=-torch.inf).argmax(1, keepdim=True)
    actions = torch.arange(tree.legal.shape[1], device=policy.device).reshape(1, -1, *(1,) * (policy.ndim - 2))
    mine = (tree.player == player).reshape(-1, *(1,) * (policy.ndim - 1))
    return Response(found.root, torch.where(mine, (actions == best).to(policy.dtype), policy))


def uniform(tree: Tree, batch: tuple[int, ...] = (), *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The policy [I, A, *B] that plays every legal action as often as any other."""
    legal = tree.legal.to(dtype)
    table = legal / legal.sum(1, keepdim=True)
    return table.reshape(*table.shape, *(1,) * len(batch)).expand(*table.shape, *batch).clone()
