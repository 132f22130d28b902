"""Advantage regret-matching actor-critic (Gruslys et al. 2020, arXiv 2008.12234), with lambda between two policies.

At every infoset pi = lambda * actor + (1 - lambda) * regret policy. The regret policy matches the regrets W that a
network has learned from games against past policies, valued by past critics; the actor climbs the present critic's
advantages; lambda is fixed, drawn, chosen by a regret learner over bins, or said by a scheduler that learns from it.
Networks are run over all infosets, or all histories, at once: of a game that fits in memory, that is the cheaper way.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import masked, nn, optim, random
from armfold.core.games import play
from armfold.core.games.decisions import Decisions
from armfold.core.games.retrospect import Retrospect, Targets, critic_targets, retrospect
from armfold.core.games.tree import Tree
from armfold.core.regret import cluster, keys, meta, mix, output, scheduler, utility
from armfold.core.regret.match import regret_match

Lambda = Literal["learned", "meta", "random", "fixed"]


class Settings(NamedTuple):
    """What does not change while ARMAC learns. Sizes are numbers of games, steps those of Adam in each epoch."""

    lam: Lambda = "learned"
    fixed: float = 0.5  # lambda of "fixed"
    hidden: tuple[int, ...] = (128, 128)  # of the networks for regrets, critic, actor and average policy
    rate: float = 3e-3  # of their Adam
    games: int = 65_536  # against past policies, in each epoch
    critic_games: int = 8192
    regret_steps: int = 60
    critic_steps: int = 20
    average_steps: int = 10
    actor_steps: int = 10
    stored: int = 512  # past policies and critics: all, then a random choice of them
    correction: float = 0.2  # of followed regrets towards retrospective ones, an epoch
    explore: float = 0.5  # the learner's share of uniform play
    eta: float = 0.1  # the actor's step along advantages, 1/payoff
    bound: float = 4.0  # the largest of its logits
    bins: tuple[float, ...] = output.BINS
    mode: output.Mode = "soft"  # how bins become lambda
    tau_start: float = 1.0
    tau_end: float = 0.1
    tau_steps: int = 50_000
    warmup: int = 1000  # steps of the scheduler at `init_lambda`
    init_lambda: float = 0.5
    clamp: float = 1e-3
    continuous: bool = False  # a scheduler that says lambda itself
    scheduler_hidden: tuple[int, ...] = (64, 32)
    scheduler_rate: float = 1e-4
    scheduler_steps: int = 20
    beta_l2: float = 1e-4
    beta_ent: float = 1e-3
    decay: float = 0.995  # of the meta-learner's utilities
    initial_regret: float = 0.0
    regret_min: float = 0.0
    smoothing_factor: float = 1e-6
    max_states: int = 10_000
    util_clip: float = 5.0
    regret_clip: float = 10.0
    lru_evict_batch: int = 100
    utility: Literal["immediate", "advantage", "hybrid"] = "advantage"
    baseline_window: int = 100
    advantage_window: int = 1  # decisions of many infosets share a lane, so that a longer one would blur them
    min_samples: int = 5
    gamma: float = 0.99  # a decision, of the returns of "immediate" and "hybrid"
    level: int = 1  # of state keys: 0 round, player, position; 1 pot and stack too; 2 clusters of views
    n_clusters: int = 100
    update_clusters: bool = True
    meta_games: int = 256  # whose decisions the meta-learner sees in each epoch


class Nets(NamedTuple):
    """The networks, or their optimisers' states."""

    regret: Any  # [F] -> [A], mean regret, payoff
    average: Any  # [F] -> [A], logits
    actor: Any  # [F] -> [A], logits
    critic: Any  # [2 F + 2] -> [A], the first player's expected win, payoff
    scheduler: Any  # [F] -> [K] logits of bins, or [1]


class State(NamedTuple):
    """ARMAC between two epochs. I infosets, A actions, D decisions, P stored policies."""

    rng: Tensor  # [2] int64, the run's key
    epoch: Tensor  # [] int64, epochs done
    nets: Nets
    optimisers: Nets
    policies: Tensor  # [P, I, A] float32, the first `stored` of them used
    critics: Tensor  # [P, D, A] float32
    clusters: cluster.KMeans  # of infosets' views, for fine keys
    meta: meta.MetaRegret
    utility: utility.UtilityState


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


_NAMES = Nets("regret", "average", "actor", "critic", "scheduler")


def _optimisers(settings: Settings) -> Nets:
    adam = optim.chain(optim.clip_by_global_norm(10.0), optim.adam(settings.rate))
    return Nets(adam, adam, adam, adam, scheduler.scheduler_optimiser(rate=settings.scheduler_rate))


def _bins(settings: Settings) -> tuple[float, ...] | None:
    return None if settings.continuous else settings.bins


def _clusters(points: Decisions, settings: Settings) -> int:
    return min(settings.n_clusters, len(points.known)) if settings.level == 2 else 1


def init(points: Decisions, rng: Tensor, settings: Settings) -> State:
    """A run that has seen nothing, for a key rng [2]. Its first policy is uniform but for the actor's first weights."""
    known, seen, actions = points.known.shape[1], points.seen.shape[1], points.legal.shape[1]
    keys = random.split(random.fold_in(rng, 0), len(_NAMES)).unbind()
    make = partial(nn.mlp_init, final_scale=0.0)
    nets = Nets(
        regret=make(keys[0], (known, *settings.hidden, actions)),
        average=make(keys[1], (known, *settings.hidden, actions)),
        actor=make(keys[2], (known, *settings.hidden, actions)),
        critic=make(keys[3], (seen, *settings.hidden, actions)),
        scheduler=scheduler.scheduler_init(keys[4], known, hidden=settings.scheduler_hidden, bins=_bins(settings)),
    )
    shape = (settings.stored, len(points.known), actions)
    return State(
        rng=rng,
        epoch=torch.zeros((), dtype=torch.int64, device=rng.device),
        nets=nets,
        optimisers=Nets(*(o.init(p) for o, p in zip(_optimisers(settings), nets, strict=True))),
        policies=torch.zeros(shape, device=rng.device),
        critics=torch.zeros((settings.stored, *points.legal.shape), device=rng.device),
        clusters=cluster.kmeans_init(random.fold_in(rng, 1), points.known, clusters=_clusters(points, settings)),
        meta=meta.meta_regret_init(rng, bins=len(settings.bins), capacity=settings.max_states),
        utility=utility.utility_init(
            rng,
            bins=len(settings.bins),
            baseline_window=settings.baseline_window,
            advantage_window=settings.advantage_window,
        ),
    )


def actor_policy(tree: Tree, points: Decisions, nets: Nets) -> Tensor:
    """The actor's policy [I, A]."""
    return masked.softmax(nn.mlp(nets.actor, points.known), tree.legal)


def average_policy(tree: Tree, points: Decisions, nets: Nets) -> Tensor:
    """The average policy [I, A] as its network says it: what is to be played in the end."""
    return masked.softmax(nn.mlp(nets.average, points.known), tree.legal)


def state_keys(tree: Tree, points: Decisions, state: State, settings: Settings) -> Tensor:
    """The key [I] under which the meta-learner knows each infoset."""
    if settings.level == 2:
        return keys.state_key(2, cluster.kmeans_assign(state.clusters, points.known))
    round_, position, pot, stack = tree.summary.unbind(1)
    more = (keys.bucket(pot), keys.bucket(stack)) if settings.level == 1 else ()
    return keys.state_key(settings.level, round_, tree.player, position, *more)


def _lambda(state: State, points: Decisions, key: Tensor, rng: Tensor, settings: Settings) -> output.Output:
    """What says lambda at every infoset."""
    size = len(points.known)
    if settings.lam == "learned":
        step = state.epoch * settings.scheduler_steps
        return scheduler.scheduler_apply(
            state.nets.scheduler,
            points.known,
            step,
            bins=_bins(settings),
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


def temperature(state: State, settings: Settings) -> Tensor:
    """The temperature [] at which bins are mixed now."""
    step = state.epoch * settings.scheduler_steps
    return scheduler.anneal(step, start=settings.tau_start, end=settings.tau_end, steps=settings.tau_steps)


class Played(NamedTuple):
    """The policy of an epoch, and what it is made of."""

    policy: Tensor  # [I, A]
    actor: Tensor  # [I, A]
    regret: Tensor  # [I, A]
    lam: Tensor  # [I]


def behaviour(tree: Tree, points: Decisions, state: State, key: Tensor, rng: Tensor, settings: Settings) -> Played:
    """The policy that is played next: actor and regret policy, mixed."""
    actor = actor_policy(tree, points, state.nets)
    regret = regret_match(nn.mlp(state.nets.regret, points.known), tree.legal)
    said = _lambda(state, points, key, random.fold_in(rng, 0), settings)
    mixed = mix.mix_policies(
        said,
        actor,
        regret,
        legal=tree.legal,
        bins=_bins(settings),
        tau=temperature(state, settings),
        mode=settings.mode,
        rng=random.split(random.fold_in(rng, 1), len(points.known)),
    )
    return Played(mixed.policy, actor, regret, mixed.lam)


def _fit(optimiser: optim.Optimiser, params: Any, opt: Any, loss: Any, steps: int) -> tuple[Any, Any, Tensor]:
    """`steps` steps down loss(params), and the last loss."""
    value = torch.zeros(())
    for _ in range(steps):
        grads, value = torch.func.grad_and_value(loss)(params)
        updates, opt = optimiser.update(grads, opt, params)
        params = optim.apply_updates(params, updates)
    return params, opt, value


def _squares(x: Tensor, targets: Targets, params: nn.Mlp) -> Tensor:
    """Mean square error over what was seen."""
    error = (nn.mlp(params, x) - targets.mean) ** 2
    return (error * targets.seen).sum() / targets.seen.sum().clamp(min=1)


def _cross_entropy(x: Tensor, legal: Tensor, targets: Targets, params: nn.Mlp) -> Tensor:
    """Mean cross entropy to the policies that were seen."""
    said = torch.where(legal, masked.log_softmax(nn.mlp(params, x), legal), 0)
    return -(targets.mean * said * targets.seen).sum() / targets.seen.sum().clamp(min=1)


def _explored(tree: Tree, policy: Tensor, share: float) -> Tensor:
    legal = tree.legal.to(policy.dtype)
    return (1 - share) * policy + share * legal / legal.sum(1, keepdim=True)


def _store(state: State, policy: Tensor, q: Tensor, rng: Tensor, settings: Settings) -> State:
    """The policy and its critic among the stored ones: each epoch's is there with the same chance (Vitter 1985)."""
    drawn = random.randint(rng, low=0, high=state.epoch + 1)
    slot = torch.where(state.epoch < settings.stored, state.epoch, drawn)
    here = (torch.arange(settings.stored, device=rng.device) == slot).reshape(-1, 1, 1)
    return state._replace(
        policies=torch.where(here, policy, state.policies), critics=torch.where(here, q, state.critics)
    )


def _learn_lambda(
    points: Decisions, state: State, key: Tensor, games: play.Trajectory, played: Played, q: Tensor, settings: Settings
) -> tuple[State, Tensor]:
    """The meta-learner after some games, and the scheduler after it; and its KL to the meta-learner."""
    some = play.Trajectory(*(x[..., : settings.meta_games] for x in games))
    d = points.number[some.history[:-1]].flatten()
    acts, at = d >= 0, d.clamp(min=0)
    infoset, sign = points.infoset[at], (1 - 2 * points.player[at]).to(q.dtype)
    reward = torch.where(
        torch.arange(len(some.player)) == (some.length - 1).unsqueeze(-1), some.payoff.unsqueeze(-1), 0
    )
    returns = utility.discounted_returns(reward.to(q.dtype), gamma=settings.gamma).T.flatten() * sign
    rows = utility.Decisions(
        actor=played.actor[infoset],
        regret=played.regret[infoset],
        legal=points.legal[at],
        valid=acts,
        action=some.action.flatten().clamp(min=0, max=q.shape[1] - 1),
        propensity=some.probability.flatten(),
        returns=returns,
        values=q[at] * sign.unsqueeze(1),
    )
    kinds = {"advantage": utility.advantage, "immediate": utility.immediate, "hybrid": utility.hybrid}
    seen, worth = kinds[settings.utility](state.utility, rows, bins=settings.bins)
    learner = meta.meta_regret_steps(
        state.meta,
        key[infoset],
        worth,
        valid=acts,
        decay=settings.decay,
        util_clip=settings.util_clip,
        regret_clip=settings.regret_clip,
        regret_min=settings.regret_min,
        initial_regret=settings.initial_regret,
        smoothing_factor=settings.smoothing_factor,
        evict=settings.lru_evict_batch,
    )
    state = state._replace(utility=seen, meta=learner)
    if settings.lam != "learned":
        return state, torch.zeros(())
    target = meta.meta_regret_probs(learner, key, smoothing_factor=settings.smoothing_factor)
    if settings.continuous:
        target = output.expected_lambda(target, settings.bins)
    net, opt, kl = state.nets.scheduler, state.optimisers.scheduler, torch.zeros(())
    for _ in range(settings.scheduler_steps):
        net, opt, stats = scheduler.scheduler_step(
            net,
            opt,
            points.known,
            target,
            optimiser=_optimisers(settings).scheduler,
            bins=_bins(settings),
            beta_l2=settings.beta_l2,
            beta_ent=settings.beta_ent,
        )
        kl = stats.kl
    nets, opts = state.nets._replace(scheduler=net), state.optimisers._replace(scheduler=opt)
    return state._replace(nets=nets, optimisers=opts), kl


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
    """What games against past policies say, each chosen with the same chance, the present one among them."""
    stored = (state.epoch + 1).clamp(max=settings.stored)
    past = random.randint(choice, (settings.games,), low=0, high=stored)
    learner, own = _seats(settings.games, past.device)
    which = torch.where(own, settings.stored, past.unsqueeze(1))
    stack = torch.cat([state.policies, mu.unsqueeze(0)])
    games = play.play(tree, stack, random.split(rng, settings.games), which)
    return retrospect(points, games, learner, past, state.policies, state.critics)


def _follow(before: Tensor, now: Targets, past: Targets, epoch: Tensor, settings: Settings) -> Targets:
    """Targets of mean regrets: what they were, moved by the present ones, corrected by those of past policies.

    The mean over n epochs moves by one n-th of the present regrets, times how much more often the present policy comes
    to an infoset than past ones do. Following that costs no delay, under which regret matching would swing, and leaves
    the retrospective mean, which is noisy, to correct what was not followed well.
    """
    size = (epoch + 1).to(before.dtype)
    often = (now.seen * settings.games) / (past.seen * settings.critic_games).clamp(min=1)
    share = (often / size).clamp(max=1)
    moved = before + share * (now.mean - before)
    weight = torch.maximum(torch.full_like(size, settings.correction), 1 / size)
    return Targets(moved + weight * (past.mean - moved), past.seen)


def epoch(tree: Tree, points: Decisions, state: State, settings: Settings) -> tuple[State, Info]:
    """One epoch: a policy, its critic, games against past policies, and what every network learns from them."""
    rng = random.jump(random.fold_in(state.rng, 2), state.epoch)
    keys_ = random.split(rng, 7)
    nets, opts, adam = state.nets, state.optimisers, _optimisers(settings)
    if settings.level == 2 and settings.update_clusters:
        state = state._replace(clusters=cluster.kmeans_step(state.clusters, keys_[6], points.known))
    key = state_keys(tree, points, state, settings)
    played = behaviour(tree, points, state, key, keys_[0], settings)
    pi = played.policy

    games = play.play(tree, _explored(tree, pi, settings.explore), random.split(keys_[1], settings.critic_games))
    targets = critic_targets(points, games, pi, nn.mlp(nets.critic, points.seen))
    critic, critic_opt, critic_loss = _fit(
        adam.critic, nets.critic, opts.critic, partial(_squares, points.seen, targets), settings.critic_steps
    )
    q = torch.where(points.legal, nn.mlp(critic, points.seen), 0)
    state = _store(state, pi, q, keys_[2], settings)

    mu = _explored(tree, pi, settings.explore)
    now = _against(tree, points, played.policy, q, mu, keys_[5], settings)
    said = _retrospective(tree, points, state, mu, keys_[3], keys_[4], settings)
    wanted = _follow(nn.mlp(nets.regret, points.known), now, said.regret, state.epoch, settings)
    regret, regret_opt, regret_loss = _fit(
        adam.regret, nets.regret, opts.regret, partial(_squares, points.known, wanted), settings.regret_steps
    )
    average, average_opt, average_loss = _fit(
        adam.average,
        nets.average,
        opts.average,
        partial(_cross_entropy, points.known, tree.legal, said.average),
        settings.average_steps,
    )

    actor, actor_opt, _ = _climb(tree, points, nets.actor, opts.actor, now, settings)
    state = state._replace(
        nets=Nets(regret, average, actor, critic, nets.scheduler),
        optimisers=Nets(regret_opt, average_opt, actor_opt, critic_opt, opts.scheduler),
    )
    state, kl = _learn_lambda(points, state, key, games, played, q, settings)
    info = Info(
        *(pi, played.actor, played.regret, played.lam, q, temperature(state, settings)),
        *(critic_loss, regret_loss, average_loss, kl, games),
    )
    return state._replace(epoch=state.epoch + 1), info


def _climb(
    tree: Tree, points: Decisions, net: nn.Mlp, opt: Any, now: Targets, settings: Settings
) -> tuple[nn.Mlp, Any, Tensor]:
    """The actor after a step along the advantages of the present policy: logits + eta * advantage, within a bound."""
    logits = nn.mlp(net, points.known) + settings.eta * now.mean
    legal = tree.legal.to(logits.dtype)
    middle = (logits * legal).sum(1, keepdim=True) / legal.sum(1, keepdim=True)
    wanted = Targets(((logits - middle) * legal).clamp(-settings.bound, settings.bound), now.seen)
    return _fit(_optimisers(settings).actor, net, opt, partial(_squares, points.known, wanted), settings.actor_steps)
