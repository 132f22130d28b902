"""Advantage regret-matching actor-critic (Gruslys et al. 2020, arXiv 2008.12234), with lambda between two policies.

At every infoset pi = lambda * actor + (1 - lambda) * regret policy. The regret policy matches the regrets W that a
network has learned from games against past policies, valued by past critics; the actor climbs the present critic's
advantages; lambda is fixed, drawn, chosen by a regret learner over bins, or said by a scheduler that learns from it.
Networks are run over all infosets, or all histories, at once: of a game that fits in memory, that is the cheaper way.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, nn, random
from armfold.core.games import play
from armfold.core.games.agent import Lambda, Nets, Settings, State, init, optimisers
from armfold.core.games.decisions import Decisions
from armfold.core.games.fit import cross_entropy, fit, squares
from armfold.core.games.mixture import Played, actor_policy, behaviour, learn_lambda, state_keys, temperature
from armfold.core.games.retrospect import Retrospect, Targets, critic_targets, retrospect
from armfold.core.games.tree import Tree
from armfold.core.regret import cluster

__all__ = [
    "Info",
    "Lambda",
    "Nets",
    "Played",
    "Settings",
    "State",
    "actor_policy",
    "average_policy",
    "behaviour",
    "epoch",
    "init",
    "state_keys",
    "temperature",
]


class Info(NamedTuple):
    """What an epoch did, for the records."""

    policy: Tensor  # [I, A], what was played
    actor: Tensor  # [I, A]
    regret_policy: Tensor  # [I, A]
    lam: Tensor  # [I]
    q: Tensor  # [D, A], the critic of it
    tau: Tensor  # []
    critic_loss: Tensor  # [] mean square, payoff squared
    regret_loss: Tensor  # []
    average_loss: Tensor  # [] nats
    scheduler_kl: Tensor  # [] nats; 0 where none learns
    games: play.Trajectory  # under the policy, explored: those that the critic and the meta-learner saw


def average_policy(tree: Tree, points: Decisions, nets: Nets) -> Tensor:
    """The average policy [I, A] as its network says it: what is to be played in the end."""
    return masked.softmax(nn.mlp(nets.average, points.known), tree.legal)


def _explored(tree: Tree, policy: Tensor, share: float) -> Tensor:
    legal = tree.legal.to(policy.dtype)
    return (1 - share) * policy + share * legal / legal.sum(1, keepdim=True)


def _store(state: State, policy: Tensor, q: Tensor, rng: Tensor, settings: Settings) -> State:
    """The policy and its critic among the stored ones: each epoch's is there with the same chance (Vitter 1985)."""
    drawn = random.randint(rng, low=0, high=state.epoch + 1)
    slot = torch.where(state.epoch < settings.stored, state.epoch, drawn)
    here = torch.arange(settings.stored, device=rng.device) == slot
    rows = here.reshape(-1, 1, 1)
    return state._replace(
        since=torch.where(here, state.epoch + 1, state.since),
        policies=torch.where(rows, policy, state.policies),
        critics=torch.where(rows, q, state.critics),
    )


def _seats(games: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Who learns in each game [N], one after the other, and whether a seat [N, 2] is his."""
    learner = torch.arange(games, device=device) % 2
    return learner, torch.arange(2, device=device) == learner.unsqueeze(1)


def _against(
    tree: Tree, points: Decisions, policy: Tensor, q: Tensor, mu: Tensor, rng: Tensor, settings: Settings
) -> Targets:
    """The regrets of the present policy: what `retrospect` says of games against it alone."""
    learner, own = _seats(settings.critic_games, rng.device)
    games = play.play(tree, torch.stack([policy, mu]), random.split(rng, settings.critic_games), torch.where(own, 1, 0))
    return retrospect(points, games, learner, torch.zeros_like(learner), policy.unsqueeze(0), q.unsqueeze(0)).regret


def _retrospective(
    tree: Tree, points: Decisions, state: State, mu: Tensor, choice: Tensor, rng: Tensor, settings: Settings
) -> Retrospect:
    """What games against past policies say, chosen among the stored ones as they weigh."""
    passed = _weights(state, settings).cumsum(0)
    point = random.uniform(choice, (settings.games,), dtype=passed.dtype) * passed[-1]
    past = torch.searchsorted(passed, point, right=True)
    learner, own = _seats(settings.games, past.device)
    which = torch.where(own, settings.stored, past.unsqueeze(1))
    stack = torch.cat([state.policies, mu.unsqueeze(0)])
    games = play.play(tree, stack, random.split(rng, settings.games), which)
    return retrospect(points, games, learner, past, state.policies, state.critics)


def _weights(state: State, settings: Settings) -> Tensor:
    """How much each stored policy counts, [P] float64; 0 where nothing is stored."""
    since = state.since.to(torch.float64)
    return torch.where(since > 0, since**settings.weighting, 0)


def _follow(before: Tensor, now: Targets, past: Targets, share: Tensor, settings: Settings) -> Targets:
    """Targets of mean regrets: what they were, moved by the present ones, corrected by those of past policies.

    The mean moves by the present epoch's `share` [] of it towards the present regrets, times how much more often the
    present policy comes to an infoset than past ones do. Following that costs no delay, under which regret matching
    would swing, and leaves the retrospective mean, which is noisy, to correct what was not followed well.
    """
    often = (now.seen * settings.games) / (past.seen * settings.critic_games).clamp(min=1)
    moved = before + (often * share).clamp(max=1) * (now.mean - before)
    return Targets(moved + share.clamp(min=settings.correction) * (past.mean - moved), past.seen)


def _share(state: State, settings: Settings) -> Tensor:
    """What the present epoch counts of all, []: of those stored, and of those that are no more."""
    kept = (settings.stored / (state.epoch + 1)).clamp(max=1)
    weights = _weights(state, settings)
    return ((state.epoch + 1).to(weights.dtype) ** settings.weighting * kept / weights.sum()).to(torch.float32)


def _climb(
    tree: Tree, points: Decisions, net: nn.Mlp, opt: Any, now: Targets, settings: Settings
) -> tuple[nn.Mlp, Any, Tensor]:
    """The actor after a step along the advantages of the present policy: logits + eta * advantage, within a bound."""
    logits = nn.mlp(net, points.known) + settings.eta * now.mean
    legal = tree.legal.to(logits.dtype)
    middle = (logits * legal).sum(1, keepdim=True) / legal.sum(1, keepdim=True)
    wanted = Targets(((logits - middle) * legal).clamp(-settings.bound, settings.bound), now.seen)
    return fit(optimisers(settings).actor, net, opt, partial(squares, points.known, wanted), settings.actor_steps)


def epoch(tree: Tree, points: Decisions, state: State, settings: Settings) -> tuple[State, Info]:
    """One epoch: a policy, its critic, games against past policies, and what every network learns from them."""
    rng = random.jump(random.fold_in(state.rng, 2), state.epoch)
    keys_ = random.split(rng, 7)
    nets, opts, adam = state.nets, state.optimisers, optimisers(settings)
    if settings.level == 2 and settings.update_clusters:
        state = state._replace(clusters=cluster.kmeans_step(state.clusters, keys_[6], points.known))
    key = state_keys(tree, points, state, settings)
    played = behaviour(tree, points, state, key, keys_[0], settings)
    pi = played.policy

    games = play.play(tree, _explored(tree, pi, settings.explore), random.split(keys_[1], settings.critic_games))
    targets = critic_targets(points, games, pi, nn.mlp(nets.critic, points.seen))
    critic, critic_opt, critic_loss = fit(
        adam.critic, nets.critic, opts.critic, partial(squares, points.seen, targets), settings.critic_steps
    )
    q = torch.where(points.legal, nn.mlp(critic, points.seen), 0)
    state = _store(state, pi, q, keys_[2], settings)

    mu = _explored(tree, pi, settings.explore)
    now = _against(tree, points, played.policy, q, mu, keys_[5], settings)
    said = _retrospective(tree, points, state, mu, keys_[3], keys_[4], settings)
    wanted = _follow(nn.mlp(nets.regret, points.known), now, said.regret, _share(state, settings), settings)
    regret, regret_opt, regret_loss = fit(
        adam.regret, nets.regret, opts.regret, partial(squares, points.known, wanted), settings.regret_steps
    )
    average, average_opt, average_loss = fit(
        adam.average,
        nets.average,
        opts.average,
        partial(cross_entropy, points.known, tree.legal, said.average),
        settings.average_steps,
    )

    actor, actor_opt, _ = _climb(tree, points, nets.actor, opts.actor, now, settings)
    state = state._replace(
        nets=Nets(regret, average, actor, critic, nets.scheduler),
        optimisers=Nets(regret_opt, average_opt, actor_opt, critic_opt, opts.scheduler),
    )
    state, kl = learn_lambda(points, state, key, games, played, q, settings)
    info = Info(
        *(pi, played.actor, played.regret, played.lam, q, temperature(state, settings)),
        *(critic_loss, regret_loss, average_loss, kl, games),
    )
    return state._replace(epoch=state.epoch + 1), info
