"""Lambda between ARMAC's two policies: how it is said, and how what says it learns."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, nn, random
from armfold.core.games import play
from armfold.core.games.agent import Nets, Settings, State, bins, optimisers
from armfold.core.games.decisions import Decisions
from armfold.core.games.keys import infoset_keys
from armfold.core.games.tree import Tree
from armfold.core.regret import cluster, meta, mix, output, scheduler, utility
from armfold.core.regret.match import regret_match


def state_keys(tree: Tree, points: Decisions, state: State, settings: Settings) -> Tensor:
    """The key [I] under which the meta-learner knows each infoset."""
    cluster_of = cluster.kmeans_assign(state.clusters, points.known) if settings.level == 2 else None
    return infoset_keys(tree, settings.level, cluster_of)


def temperature(state: State, settings: Settings) -> Tensor:
    """The temperature [] at which bins are mixed now."""
    step = state.epoch * settings.scheduler_steps
    if settings.tau_rate is not None:
        return scheduler.anneal_by_rate(step, start=settings.tau_start, end=settings.tau_end, rate=settings.tau_rate)
    return scheduler.anneal(step, start=settings.tau_start, end=settings.tau_end, steps=settings.tau_steps)


class Played(NamedTuple):
    """The policy of an epoch, and what it is made of."""

    policy: Tensor  # [I, A]
    actor: Tensor  # [I, A]
    regret: Tensor  # [I, A]
    lam: Tensor  # [I]


def actor_policy(tree: Tree, points: Decisions, nets: Nets) -> Tensor:
    """The actor's policy [I, A]."""
    return masked.softmax(nn.mlp(nets.actor, points.known), tree.legal)


def _lambda(state: State, points: Decisions, key: Tensor, rng: Tensor, settings: Settings) -> output.Output:
    """What says lambda at every infoset."""
    size = len(points.known)
    if settings.lam == "learned":
        step = state.epoch * settings.scheduler_steps
        return scheduler.scheduler_apply(
            state.nets.scheduler,
            points.known,
            step,
            bins=bins(settings),
            warmup=settings.warmup,
            init_lambda=settings.init_lambda,
            eps=settings.clamp,
        )
    if settings.lam == "meta":
        law = meta.meta_regret_probs(state.meta, key, smoothing_factor=settings.smoothing_factor)
        lam = output.expected_lambda(law, settings.bins)
    elif settings.lam == "random":
        lam = random.uniform(rng, (size,))
    else:
        lam = torch.full((size,), settings.fixed, device=rng.device)
    return output.Continuous(lam.unsqueeze(-1))


def behaviour(tree: Tree, points: Decisions, state: State, key: Tensor, rng: Tensor, settings: Settings) -> Played:
    """The policy that is played next: actor and regret policy, mixed."""
    actor = actor_policy(tree, points, state.nets)
    regret = regret_match(nn.mlp(state.nets.regret, points.known), tree.legal)
    said = _lambda(state, points, key, random.fold_in(rng, 0), settings)
    tau = temperature(state, settings)
    if settings.mode == "gumbel" and isinstance(said, output.Discrete):
        said = said._replace(logits=said.logits / tau)  # a draw does not depend on tau, which only smooths its gradient
    mixed = mix.mix_policies(
        said,
        actor,
        regret,
        legal=tree.legal,
        bins=bins(settings),
        tau=tau,
        mode=settings.mode,
        rng=random.split(random.fold_in(rng, 1), len(points.known)),
    )
    return Played(mixed.policy, actor, regret, mixed.lam)


def learn_lambda(
    points: Decisions, state: State, key: Tensor, games: play.Trajectory, played: Played, q: Tensor, settings: Settings
) -> tuple[State, Tensor]:
    """The meta-learner after some games, and the scheduler after it; and its KL to the meta-learner."""
    state = _learn_bins(points, state, key, games, played, q, settings)
    if settings.lam != "learned":
        return state, torch.zeros((), device=q.device)
    target = meta.meta_regret_probs(state.meta, key, smoothing_factor=settings.smoothing_factor)
    if settings.continuous:
        target = output.expected_lambda(target, settings.bins)
    net, opt, kl = state.nets.scheduler, state.optimisers.scheduler, torch.zeros((), device=q.device)
    for _ in range(settings.scheduler_steps):
        net, opt, stats = scheduler.scheduler_step(
            net,
            opt,
            points.known,
            target,
            optimiser=optimisers(settings).scheduler,
            bins=bins(settings),
            beta_l2=settings.beta_l2,
            beta_ent=settings.beta_ent,
        )
        kl = stats.kl
    nets, opts = state.nets._replace(scheduler=net), state.optimisers._replace(scheduler=opt)
    return state._replace(nets=nets, optimisers=opts), kl


def _learn_bins(
    points: Decisions, state: State, key: Tensor, games: play.Trajectory, played: Played, q: Tensor, settings: Settings
) -> State:
    """The meta-learner after what the bins were worth in some games."""
    some = play.Trajectory(*(x[..., : settings.meta_games] for x in games))
    d = points.number[some.history[:-1]].T.flatten()  # game after game
    acts, at = d >= 0, d.clamp(min=0)
    own = key[points.infoset[at]]
    mine = acts & (own == state.keys.unsqueeze(1))  # [M, n]
    rows = _moves(points, some, at, played, q, settings)
    # Every key has windows of its own, so that no state's values are averaged with another's.
    wide = {name: x.expand(len(mine), *x.shape) for name, x in rows._asdict().items() if x is not None}
    each = utility.Moves(**wide)._replace(valid=mine)
    kinds = {"advantage": utility.advantage, "immediate": utility.immediate, "hybrid": utility.hybrid}
    options = {} if settings.utility == "advantage" else {"min_samples": settings.min_samples}
    seen, worth = kinds[settings.utility](state.utility, each, bins=settings.bins, **options)
    worth, learner = torch.where(mine.unsqueeze(-1), worth, 0).sum(0), state.meta
    for part in torch.arange(len(own), device=own.device).chunk(settings.meta_steps):
        learner = meta.meta_regret_step(
            learner,
            own[part],
            worth[part],
            valid=acts[part],
            decay=settings.decay,
            util_clip=settings.util_clip,
            regret_clip=settings.regret_clip,
            regret_min=settings.regret_min,
            initial_regret=settings.initial_regret,
            smoothing_factor=settings.smoothing_factor,
            evict=settings.lru_evict_batch,
        )
    return state._replace(utility=seen, meta=learner)


def _moves(
    points: Decisions, games: play.Trajectory, at: Tensor, played: Played, q: Tensor, settings: Settings
) -> utility.Moves:
    """The steps of games, game after game, as the mover sees them: decision `at` [n], any where nobody moves."""
    infoset, sign = points.infoset[at], (1 - 2 * points.player[at]).to(q.dtype)
    ends = torch.arange(len(games.player), device=at.device).unsqueeze(1) == games.length - 1
    reward = torch.where(ends, games.payoff, 0).to(q.dtype).T
    returns = utility.discounted_returns(reward, gamma=settings.gamma).flatten() * sign
    return utility.Moves(
        actor=played.actor[infoset],
        regret=played.regret[infoset],
        legal=points.legal[at],
        action=games.action.T.flatten().clamp(min=0, max=q.shape[1] - 1),
        propensity=games.probability.T.flatten(),
        returns=returns,
        values=q[at] * sign.unsqueeze(1),
    )
