"""External-sampling Monte Carlo counterfactual regret minimisation, traversals in lockstep (Lanctot et al. 2009).

A traversal tries every action of the player who learns, one drawn action of the other, one drawn outcome of chance. It
touches nothing but the histories that it comes to. They lie in *places*, which are known beforehand: two histories
share one only where no traversal can come to both, so that a depth takes a fixed number of them. Values are linear in
what is won at the ends; hence sums of that, by the learner's sequences and over all traversals, are all that has to be
backed up.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_key
from armfold.core.games import sequence
from armfold.core.games.rules import CHANCE, END
from armfold.core.games.tree import Tree

_UNROLLED = 32  # branches


class Depth(NamedTuple):
    """The W places of one depth: first those where something may have to be drawn, then those where only the player who
    learns can move, then those where nobody can."""

    parent: Tensor  # [W] int64, the place of the depth before that leads here
    branch: Tensor  # [W] int64, by which of the player's actions there; 0 where he does not move
    ends: Tensor  # [E] int64, places where the game can be over
    others: Tensor  # [O] int64, places where the other player can move
    drawn: int  # how many places are of the first kind
    live: int  # of the first and second
    width: int  # the most branches of a history where something is drawn


Paths = tuple[tuple[Depth, ...], tuple[Depth, ...]]  # of each player's traversals, by depth


class State(NamedTuple):
    """Solvers between two iterations. Tables are over sequences; entries of the empty ones stay 0."""

    regret: Tensor  # [S, *B] float, payoff: sum of sampled counterfactual regrets
    average: Tensor  # [S, *B] float: sum of what was played at the infosets that the other's traversals came to
    iteration: Tensor  # [] int64: iterations done


def paths(tree: Tree) -> Paths:
    """Where traversals of a tree can be; they are its own, whatever is learned. It reads the tree's tensors."""
    first, second = (_depths(tree, player) for player in (0, 1))
    return first, second


def _depths(tree: Tree, player: int) -> tuple[Depth, ...]:
    points, most = tree.histories, max(tree.widths)
    place = torch.zeros_like(points.player)  # of each history in its depth
    depths = []
    for begin, end in itertools.pairwise(tree.depths):
        own, parent, turn = slice(begin, end), points.parent[begin:end], points.player[begin:end]
        # Siblings after the player's own turn are apart, all others lie upon each other.
        chosen = torch.arange(begin, end, device=parent.device) - points.first[parent]
        key = place[parent] * most + torch.where(points.player[parent] == player, chosen, 0)
        known, which = torch.unique(key if begin else torch.zeros_like(key), return_inverse=True)
        drawn = (turn == CHANCE) | (turn == 1 - player)
        kind = torch.where(drawn, 0, torch.where(turn == player, 1, 2))
        kind = torch.full_like(known, 2).scatter_reduce(0, which, kind, "amin")
        order = kind.argsort(stable=True)
        place[own] = order.argsort()[which]
        depths.append(
            Depth(
                parent=known[order] // most,
                branch=known[order] % most,
                ends=torch.unique(place[own][turn == END]),
                others=torch.unique(place[own][turn == 1 - player]),
                drawn=int((kind == 0).sum()),
                live=int((kind < 2).sum()),
                width=int(torch.where(drawn, points.branches[own], 0).max()),
            )
        )
    return tuple(depths)


def init(tree: Tree, batch: Sequence[int] = (), *, dtype: torch.dtype = torch.float64) -> State:
    """`batch` solvers that have seen nothing."""
    regret = torch.zeros((len(tree.slot), *batch), dtype=dtype, device=tree.slot.device)
    return State(regret, regret.clone(), torch.zeros((), dtype=torch.int64, device=regret.device))


def _cells(rows: Tensor, batch: Sequence[int]) -> Tensor:
    """Where rows [..., *B] of a table [R, *B] lie in it, flat."""
    lanes = math.prod(batch)
    return rows * lanes + torch.arange(lanes, device=rows.device).reshape(batch)


def _children(tree: Tree, history: Tensor) -> tuple[Tensor, Tensor]:
    """The first child of each history, and how many there are; -1 has none."""
    known = history.clamp(min=0)
    return tree.histories.first[known], torch.where(history >= 0, tree.histories.branches[known], 0)


def _passed(point: Tensor, weight: Tensor) -> Tensor:
    """How many of the running sums of `weight` [K, ...] are not above `point` [...]."""
    if len(weight) > _UNROLLED:
        return (weight.cumsum(0) <= point).sum(0)
    sums = itertools.accumulate(weight.unbind())
    none = torch.zeros(weight.shape[1:], dtype=torch.int64, device=weight.device)
    return sum(((total <= point).to(torch.int64) for total in sums), none)


def _follow(tree: Tree, policy: Tensor, history: Tensor, point: Tensor, player: int, width: int) -> Sequence[Tensor]:
    """The first of the children [W, N, *B] that traversals go on to, and how many: all of them where it is the turn of
    `player`, otherwise the one on whose branch the uniform `point` [N, *B] falls."""
    points, turn = tree.histories, tree.histories.player[history.clamp(min=0)]
    first, count = _children(tree, history)
    branch = torch.arange(width - 1, device=history.device).reshape(-1, *(1,) * history.ndim)
    there = (branch < count - 1) & (turn != player)  # the last branch has what is left
    theirs = turn == 1 - player
    reached = torch.where(there & theirs, points.sequence[:, 1 - player][first] + branch, 0)
    played = policy.flatten()[_cells(reached, policy.shape[1:])]
    dealt = points.probability[torch.where(there, first + branch, 0)].to(policy.dtype)
    weight = torch.where(there, torch.where(theirs, played, dealt), 2)
    return first + _passed(point, weight), torch.where(turn == player, count, count.clamp(max=1))


def traverse(tree: Tree, depths: Sequence[Depth], policy: Tensor, rng: Tensor, *, player: int) -> list[Tensor]:
    """The histories that N traversals come to: for each depth, those in its places, int64 [W, N, *B]; -1 where none is.

    policy [S, *B], over sequences: of both players; rng [N, *B, 2]; depths: those of `paths` for `player`.
    """
    # Histories of one depth share a draw. On the way to each end draws are independent, which is all that means need.
    uniforms = random.uniform(rng, (len(depths) - 1,), dtype=policy.dtype).movedim(-1, 0)
    history = torch.zeros((1, *rng.shape[:-1]), dtype=torch.int64, device=rng.device)
    visited = [history]
    for here, below, point in zip(depths, depths[1:], uniforms):
        start, count = _children(tree, history[here.drawn : here.live])
        if here.drawn:
            first, few = _follow(tree, policy, history[: here.drawn], point, player, here.width)
            start, count = torch.cat([first, start]), torch.cat([few, count])
        branch = below.branch.reshape(-1, *(1,) * (rng.ndim - 1))
        there = branch < count.index_select(0, below.parent)
        history = torch.where(there, start.index_select(0, below.parent) + branch, -1)
        visited.append(history)
    return visited


def _sums(size: int, rows: Tensor, value: Tensor, batch: Sequence[int]) -> Tensor:
    """Sums [size, *B] of `value` [..., *B], by `rows` [..., *B]."""
    zeros = torch.zeros(size * math.prod(batch), dtype=value.dtype, device=value.device)
    return zeros.index_add(0, _cells(rows, batch).flatten(), value.flatten()).reshape(size, *batch)


def _pick(visited: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    return torch.cat([history.index_select(0, row) for history, row in zip(visited, rows)])


def estimate(
    tree: Tree, depths: Sequence[Depth], policy: Tensor, rng: Tensor, *, player: int
) -> tuple[sequence.Values, Tensor]:
    """Sums over N traversals of the counterfactual values that `player` sees, and of visits to the other's infosets.

    policy [S, *B]: of both; rng [N, *B, 2]; depths: the player's, of `paths`. The mean value of a traversal is exactly
    that of `sequence.values`. Visits are [I, *B]; 0 at the player's own infosets.
    """
    points, batch = tree.histories, policy.shape[1:]
    visited = traverse(tree, depths, policy, rng, player=player)
    ends = _pick(visited, [depth.ends for depth in depths]).clamp(min=0)  # history 0 has won nothing
    won = points.payoff[ends].to(policy.dtype) * (1 if player == 0 else -1)
    payoff = _sums(len(tree.slot), points.sequence[:, player][ends], won, batch)
    others = _pick(visited, [depth.others for depth in depths])
    known = others.clamp(min=0)
    there = ((points.player[known] == 1 - player) & (others >= 0)).to(policy.dtype)
    visits = _sums(len(tree.legal), points.infoset[known].clamp(min=0), there, batch)
    own = sequence.bounds(tree)[player]
    return sequence.backup(tree.sides[player], policy[own], payoff[own]), visits


def _check(tree: Tree, state: State, rng: Tensor, players: Sequence[int]) -> None:
    check_key(rng)
    if rng.ndim < 2 or rng.shape[1:-1] != state.regret.shape[1:]:
        wanted = ("N", *state.regret.shape[1:], 2)
        raise ShapeError(f"rng must have shape {wanted}, got {tuple(rng.shape)}")
    if any(player not in (0, 1) for player in players):
        raise ValueError(f"players must be of 0 and 1, got {players!r}")


def _add(tree: Tree, table: Tensor, player: int, gain: Tensor) -> Tensor:
    """A table [S, *B] with `gain` [S_i, *B] added to a player's part."""
    own = sequence.bounds(tree)[player]
    return torch.cat([table[: own.start], table[own] + gain, table[own.stop :]])


def step(tree: Tree, paths: Paths, state: State, rng: Tensor, *, players: Sequence[int] = (0, 1)) -> State:
    """One iteration: N traversals for each of `players`, one player after the other, by the policies of the moment.

    rng [N, *B, 2]: keys for each traversal of each solver, new ones at each iteration, such as
    `random.jump(keys, state.iteration)`. N = 1 is the algorithm of the paper, averaging as OpenSpiel's "simple" way is:
    what the other plays is added wherever a traversal comes to him. A step costs a pass over all sequences besides, so
    that hundreds of traversals are cheap; but regrets are matched once for all of them. Raises ValueError for players
    other than 0 and 1, and ShapeError for other keys.
    """
    _check(tree, state, rng, players)
    regret, average = state.regret, state.average
    depth = len(tree.widths) - 1  # uniforms of a traversal
    for player in players:
        policy = sequence.match_both(tree, regret.clamp(min=0))
        value, visits = estimate(tree, paths[player], policy, random.skip(rng, player * depth), player=player)
        regret = _add(tree, regret, player, sequence.regrets(tree.sides[player], value))
        other = sequence.bounds(tree)[1 - player]
        seen = visits.index_select(0, tree.slot[other][1:] // tree.legal.shape[1])
        gain = torch.cat([torch.zeros_like(seen[:1]), policy[other][1:] * seen])
        average = _add(tree, average, 1 - player, gain)
    return State(regret, average, state.iteration + 1)


def average_policy(tree: Tree, state: State) -> Tensor:
    """The average policy [I, A, *B], which converges; uniform where no traversal came."""
    return sequence.to_table(tree, sequence.match_both(tree, state.average))


def last_policy(tree: Tree, state: State) -> Tensor:
    """The policy [I, A, *B] that is played next."""
    return sequence.to_table(tree, sequence.match_both(tree, state.regret.clamp(min=0)))
