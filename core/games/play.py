"""Games by the thousand, in lockstep: gathers on a compiled tree. One lane is one game, which begins at history 0.

Games are [*B] and, over the T steps of the longest one, [T, *B]; keys are [*B, 2], and so is what else is given to each
game: T is len(tree.widths) - 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import ShapeError, check_key, check_shape
from armfold.core.games.rules import CHANCE, END
from armfold.core.games.sequence import check_policy
from armfold.core.games.tree import Tree

NEAR = 1e-6  # how far from 1 a law may sum: further than those of float32 do


class Trajectory(NamedTuple):
    """Games from their beginning to their end. What comes after the end has action -1, branch -1, probability 1."""

    history: Tensor  # [T + 1, *B] int64, before each step and after the last; the end of a game stays
    player: Tensor  # [T, *B] int64, whose turn it is: 0 or 1, CHANCE or END
    infoset: Tensor  # [T, *B] int64; -1 where no player moves. Legal there: tree.legal[infoset.clamp(min=0)]
    action: Tensor  # [T, *B] int64, the action, or the outcome of chance
    branch: Tensor  # [T, *B] int64, which child of the history that is
    probability: Tensor  # [T, *B] float, of what was done: of chance, or under the policy that was followed
    payoff: Tensor  # [*B] float, what the first player has won; NaN where the game did not come to its end
    length: Tensor  # [*B] int64, steps until the end, those of chance included


def _at(table: Tensor, *at: Tensor) -> Tensor:
    """table[at], where indices may be 0-dim tensors: as such, they would be read on the host."""
    return table[tuple(i.unsqueeze(-1) for i in at)].squeeze(-1)


def _law(tree: Tree, policy: Tensor, which: Tensor | None, infoset: Tensor, child: Tensor) -> Tensor:
    """The probability of going on to `child` [..., *B] from a history of `infoset` [*B], -1 where chance moves."""
    own = infoset.clamp(min=0)
    action = _at(tree.histories.action, child).clamp(0, policy.shape[-1] - 1)  # outcomes of chance may go beyond
    if which is None:
        played = _at(policy, own, action)
    else:
        followed = torch.where(_at(tree.player, own) == 0, which[..., 0], which[..., 1])
        played = _at(policy, followed, own, action)
    return torch.where(infoset >= 0, played, _at(tree.histories.probability, child))


def _children(tree: Tree, history: Tensor, depth: int | None) -> tuple[Tensor, Tensor]:
    """The children [K, *B] of each history, and whether there are as many; others are history 0."""
    width = max(tree.widths) if depth is None else max(tree.widths[depth], 1)
    branch = torch.arange(width, device=history.device).reshape(-1, *(1,) * history.ndim)
    there = branch < _at(tree.histories.branches, history)
    return torch.where(there, _at(tree.histories.first, history) + branch, 0), there


def _check_followed(tree: Tree, policy: Tensor, which: Tensor | None, batch: tuple[int, ...]) -> None:
    """Raise ShapeError unless `policy` is [I, A], or [P, I, A] with `which` int64 [*B, 2]."""
    if which is None:
        check_policy(tree, policy)
        check_shape("policy", policy, tree.legal.shape)
        return
    if policy.ndim != 3 or not policy.is_floating_point() or policy.shape[1:] != tree.legal.shape:
        wanted = ("P", *tree.legal.shape)
        raise ShapeError(f"policy must be floating of shape {wanted}, got {policy.dtype} {tuple(policy.shape)}")
    if which.dtype != torch.int64:
        raise ShapeError(f"which must have dtype torch.int64, got {which.dtype}")
    check_shape("which", which, (*batch, 2))


def advance(
    tree: Tree, history: Tensor, rng: Tensor, policy: Tensor, which: Tensor | None = None, *, depth: int | None = None
) -> Tensor:
    """The histories [*B] that follow `history` int64 [*B] after one step of chance or a player; ends stay as they are.

    All follow `policy` [I, A]; or, where `which` int64 [*B, 2] is given, in each game each player one of `policy`
    [P, I, A], by its number in [0, P). A game stops where its policy has nothing to draw from: a sum of 0 or NaN.
    One uniform per game, and a running sum over the branches. depth: that of all histories, where it is known, saves
    reading more branches than there are.
    """
    check_key(rng, history.shape)
    _check_followed(tree, policy, which, tuple(history.shape))
    child, there = _children(tree, history, depth)
    infoset = _at(tree.histories.infoset, history)
    weight = torch.where(there, _law(tree, policy, which, infoset, child), 0)
    branch = masked.draw(rng, weight.movedim(0, -1))
    return torch.where(branch >= 0, _at(tree.histories.first, history) + branch, history)


def record(tree: Tree, history: Tensor, policy: Tensor, which: Tensor | None = None) -> Trajectory:
    """What happened in games that went through `history` int64 [T + 1, *B], with probabilities under `policy` (and
    `which`), as `advance` takes them: those that were followed, or others."""
    check_shape("history", history, (len(tree.widths), *history.shape[1:]))
    _check_followed(tree, policy, which, tuple(history.shape[1:]))
    points, before, after = tree.histories, history[:-1], history[1:]
    moved = after > before  # a child's number is above its parent's
    infoset = _at(points.infoset, before)
    ended = _at(points.player, history[-1]) == END
    return Trajectory(
        history=history,
        player=_at(points.player, before),
        infoset=infoset,
        action=torch.where(moved, _at(points.action, after), -1),
        branch=torch.where(moved, after - _at(points.first, before), -1),
        probability=torch.where(moved, _law(tree, policy, which, infoset, after), 1),
        payoff=torch.where(ended, _at(points.payoff, history[-1]), torch.nan),
        length=moved.sum(0),
    )


def play(tree: Tree, policy: Tensor, rng: Tensor, which: Tensor | None = None) -> Trajectory:
    """A game for each key in rng [*B, 2]: all follow `policy` [I, A], or each player of each game the one of `policy`
    [P, I, A] that `which` int64 [*B, 2] names.

    A game depends on its key alone: step t takes the key `random.jump(rng, t)`. Policies are not checked, see
    `check_policy_values`; a game stops where its policy has nothing to draw from. A policy with lanes, [I, A, P], is
    the stack policy.movedim(-1, 0).
    """
    check_key(rng)
    history = torch.zeros(rng.shape[:-1], dtype=torch.int64, device=rng.device)
    histories = [history]
    for depth in range(len(tree.widths) - 1):
        history = advance(tree, history, random.jump(rng, depth), policy, which, depth=depth)
        histories.append(history)
    return record(tree, torch.stack(histories), policy, which)


def replay(tree: Tree, action: Tensor) -> Tensor:
    """The histories [T + 1, *B] that `action` int64 [T, *B], outcomes of chance included, leads through; -1 after an
    action that is illegal. Where a game is over the action must be -1. For `record`."""
    if action.dtype != torch.int64:
        raise ShapeError(f"action must have dtype torch.int64, got {action.dtype}")
    check_shape("action", action, (len(tree.widths) - 1, *action.shape[1:]))
    points = tree.histories
    history = torch.zeros(action.shape[1:], dtype=torch.int64, device=action.device)
    histories = [history]
    for depth, done in enumerate(action.unbind()):
        known = history.clamp(min=0)
        child, there = _children(tree, known, depth)
        reached = torch.where(there & (_at(points.action, child) == done), child, -1).amax(0)
        over = (_at(points.player, known) == END) & (done == -1)
        history = torch.where(history < 0, -1, torch.where(over, known, reached))
        histories.append(history)
    return torch.stack(histories)


def returns(trajectory: Trajectory) -> Tensor:
    """What the player of each step has won in the end, [T, *B]; 0 where no player moved."""
    sign = (trajectory.player == 0).to(trajectory.payoff.dtype) - (trajectory.player == 1).to(trajectory.payoff.dtype)
    return torch.where(sign != 0, sign * trajectory.payoff, 0)


def _named(tree: Tree, infoset: int) -> str:
    return repr(tree.names[infoset]) if tree.names else f"number {infoset}"


def check_policy_values(tree: Tree, policy: Tensor) -> None:
    """Raise ValueError, naming the infoset, unless `policy` [I, A, *B] has probabilities >= 0 that sum to 1 (to 1e-6)
    over the legal actions of each, and none elsewhere. It reads the tensor: for where policies are taken in."""
    check_policy(tree, policy)
    legal = tree.legal.reshape(*tree.legal.shape, *(1,) * (policy.ndim - 2))
    wrong = torch.where(legal, ~(policy >= 0), policy != 0)
    if bool(wrong.any()):
        i, a, *lane = wrong.nonzero()[0].tolist()
        kind, value = "" if bool(tree.legal[i, a]) else "illegal ", float(policy[i, a, *lane])
        raise ValueError(
            f"policy must have probabilities >= 0 of legal actions and 0 of others, got {value} of the {kind}action "
            f"{a} at infoset {_named(tree, i)}"
        )
    total = policy.sum(1, dtype=torch.float64)
    wrong = ~((total - 1).abs() <= NEAR)
    if bool(wrong.any()):
        i, *lane = wrong.nonzero()[0].tolist()
        raise ValueError(f"policy must sum to 1, got {float(total[i, *lane])} at infoset {_named(tree, i)}")


def _check_legal(tree: Tree, history: Tensor, action: Tensor) -> None:
    """Raise ValueError where `history`, from `replay` of `action`, became -1."""
    illegal = history[1:] < 0
    if not bool(illegal.any()):
        return
    points = tree.histories
    step, *game = illegal.nonzero()[0].tolist()
    h = int(history[step, *game])
    children = range(int(points.first[h]), int(points.first[h] + points.branches[h]))
    legal = [int(points.action[child]) for child in children] or [-1]
    known = {CHANCE: "a turn of chance", END: "its end"}
    where = known.get(int(points.player[h])) or f"infoset {_named(tree, int(points.infoset[h]))}"
    raise ValueError(
        f"action {int(action[step, *game])} of game {game} at step {step} is illegal at {where}: it must be in {legal}"
    )


def check_trajectory(tree: Tree, trajectory: Trajectory) -> None:
    """Raise ValueError, naming game, step and infoset, where an action of `trajectory` is illegal, and naming the field
    where one does not say what its actions lead to. Of probabilities, which policies tell, only that they are in
    [0, 1]. It reads the tensors: for where games are taken in."""
    history = replay(tree, trajectory.action)
    _check_legal(tree, history, trajectory.action)
    policy = torch.zeros(tree.legal.shape, dtype=trajectory.probability.dtype, device=history.device)
    wanted = record(tree, history, policy)
    for name, got, want in zip(Trajectory._fields, trajectory, wanted):
        check_shape(f"trajectory.{name}", got, want.shape)
        wrong = got != want if name != "probability" else ~((got >= 0) & (got <= 1))
        if bool(wrong.any()):
            at = wrong.nonzero()[0].tolist()
            raise ValueError(f"trajectory.{name} is {got[tuple(at)].item()} at {at}, which its actions do not lead to")
