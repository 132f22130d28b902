"""What ARMAC is made of: its settings, its networks, and all that it keeps between two epochs."""

from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import nn, optim, random
from armfold.core.games.decisions import Decisions
from armfold.core.games.keys import known_keys
from armfold.core.games.tree import Tree
from armfold.core.regret import cluster, meta, output, scheduler, utility

Lambda = Literal["learned", "meta", "random", "fixed"]


class Settings(NamedTuple):
    """What does not change while ARMAC learns. Sizes are numbers of games, steps those of Adam in each epoch."""

    lam: Lambda = "learned"
    fixed: float = 0.5  # lambda of "fixed"
    hidden: tuple[int, ...] = (128, 128)  # of the networks for regrets, critic, actor and average policy
    rate: float = 3e-3  # of their Adam
    games: int = 32_768  # against past policies, in each epoch
    critic_games: int = 32_768
    regret_steps: int = 60
    critic_steps: int = 30
    average_steps: int = 10
    actor_steps: int = 10
    stored: int = 512  # past policies and critics: all, then a random choice of them
    weighting: float = 1.0  # epoch t counts as t to this power: 0 is CFR's mean, 1 that of linear CFR
    correction: float = 0.05  # of followed regrets towards retrospective ones, an epoch
    explore: float = 0.5  # the learner's share of uniform play
    eta: float = 0.1  # the actor's step along advantages, 1/payoff
    bound: float = 4.0  # the largest of its logits
    bins: tuple[float, ...] = output.BINS
    mode: output.Mode = "soft"  # how bins become lambda
    tau_start: float = 1.0
    tau_end: float = 0.1
    tau_steps: int = 50_000  # of the scheduler
    tau_rate: float | None = None  # where given, the temperature falls by this factor a step, instead of in `tau_steps`
    warmup: int = 100  # steps of the scheduler at `init_lambda`
    init_lambda: float = 0.5
    clamp: float = 1e-3
    continuous: bool = False  # a scheduler that says lambda itself
    scheduler_hidden: tuple[int, ...] = (64, 32)
    scheduler_rate: float = 3e-3
    scheduler_steps: int = 20
    beta_l2: float = 1e-4
    beta_ent: float = 1e-3
    decay: float = 0.9  # of the meta-learner's utilities, a step: they are to forget within an epoch
    initial_regret: float = 0.0
    regret_min: float = 0.0
    smoothing_factor: float = 1e-6
    max_states: int = 10_000
    util_clip: float = 5.0
    regret_clip: float = 10.0
    lru_evict_batch: int = 100
    utility: Literal["immediate", "advantage", "hybrid"] = "advantage"
    baseline_window: int = 100
    advantage_window: int = 10
    min_samples: int = 5
    gamma: float = 0.99  # a step of the game, chance's too, of the returns of "immediate" and "hybrid"
    level: int = 1  # of state keys: 0 round, player, position; 1 pot and stack too; 2 clusters of views
    n_clusters: int = 100
    update_clusters: bool = True
    meta_games: int = 256  # whose decisions the meta-learner sees in each epoch
    meta_steps: int = 20  # of the meta-learner, each with its part of those decisions


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
    since: Tensor  # [P] int64, the epoch, from 1 on, of what is stored; 0: nothing
    policies: Tensor  # [P, I, A] float32
    critics: Tensor  # [P, D, A] float32
    clusters: cluster.KMeans  # of infosets' views, for fine keys
    meta: meta.MetaRegret
    keys: Tensor  # [M] int64, ascending, those under which the meta-learner may know an infoset
    utility: utility.UtilityState  # of each of them


def optimisers(settings: Settings) -> Nets:
    """The optimiser of each network."""
    adam = optim.chain(optim.clip_by_global_norm(10.0), optim.adam(settings.rate))
    return Nets(adam, adam, adam, adam, scheduler.scheduler_optimiser(rate=settings.scheduler_rate))


def bins(settings: Settings) -> tuple[float, ...] | None:
    """The bins of a scheduler that says bins; None for one that says lambda."""
    return None if settings.continuous else settings.bins


def _clusters(points: Decisions, settings: Settings) -> int:
    return min(settings.n_clusters, len(points.known)) if settings.level == 2 else 1


def init(tree: Tree, points: Decisions, rng: Tensor, settings: Settings) -> State:
    """A run that has seen nothing, for a key rng [2]. Its first policy is uniform."""
    known, seen, actions = points.known.shape[1], points.seen.shape[1], points.legal.shape[1]
    drawn = random.split(random.fold_in(rng, 0), len(Nets._fields)).unbind()
    make = partial(nn.mlp_init, final_scale=0.0)
    nets = Nets(
        regret=make(drawn[0], (known, *settings.hidden, actions)),
        average=make(drawn[1], (known, *settings.hidden, actions)),
        actor=make(drawn[2], (known, *settings.hidden, actions)),
        critic=make(drawn[3], (seen, *settings.hidden, actions)),
        scheduler=scheduler.scheduler_init(drawn[4], known, hidden=settings.scheduler_hidden, bins=bins(settings)),
    )
    shape = (settings.stored, len(points.known), actions)
    keys = known_keys(tree, settings.level, _clusters(points, settings))
    return State(
        rng=rng,
        epoch=torch.zeros((), dtype=torch.int64, device=rng.device),
        nets=nets,
        optimisers=Nets(*(o.init(p) for o, p in zip(optimisers(settings), nets, strict=True))),
        since=torch.zeros(settings.stored, dtype=torch.int64, device=rng.device),
        policies=torch.zeros(shape, device=rng.device),
        critics=torch.zeros((settings.stored, *points.legal.shape), device=rng.device),
        clusters=cluster.kmeans_init(random.fold_in(rng, 1), points.known, clusters=_clusters(points, settings)),
        meta=meta.meta_regret_init(rng, bins=len(settings.bins), capacity=settings.max_states),
        keys=keys,
        utility=utility.utility_init(
            rng.expand(len(keys), 2),
            bins=len(settings.bins),
            baseline_window=settings.baseline_window,
            advantage_window=settings.advantage_window,
        ),
    )
