"""Two learners at every infoset of one player, and a third one that learns how much each of them should count.

An actor and a regret learner are mixed, pi = lambda * actor + (1 - lambda) * regret, and all that they learn from is
the counterfactual value of each action. The regret learner matches regrets (Zinkevich et al. 2007, equation 8); the
actor is Hedge, which is what the policy gradient of NeuRD is on tables with all actions (Hennes et al. 2020), with a
step that scales itself to the values (Orabona and Pal 2018). A meta-learner matches regrets over values of lambda, from
the utility of each of them at once. Each learner keeps the regret of its own play, whatever is played. So, with 0 and 1
among the bins, the regret of the mixture is at most lambda's plus the smaller one of the two learners', however
iterations are weighted. With even weights (`gamma` 0) each learner's mean regret falls as one over the root of time.
With linear ones (`gamma` 1) that is known only of regrets that are floored at 0 (Tammelin et al. 2015): by default the
regret learner's and the meta-learner's are, which is enough where the latter chooses lambda; the actor's never are.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core.check import check_number, check_shape, check_size
from armfold.core.games.infosets import Infosets, trailing
from armfold.core.games.sums import row_sum
from armfold.core.regret.match import regret_match
from armfold.core.regret.mix import mix_policies
from armfold.core.regret.output import Continuous
from armfold.core.types import Scalar, per_lane


class Variant(NamedTuple):
    """How lambda is chosen, how the learners learn, and from what. Numbers may be tensors [*B], one for each lane.

    After t iterations lambda is 1 - random - meta - learned times end + (start - end) / (1 + rate * t), plus `random`
    times a uniform draw, plus `meta` times the meta-learner's mean bin, plus `learned` times the scheduler's.
    """

    start: Scalar = 0.5  # in [0, 1]
    end: Scalar = 0.0  # in [0, 1]
    rate: Scalar = 0.0  # >= 0, 1/iteration; 0: lambda stays at `start`
    random: Scalar = 0.0  # in [0, 1]; with `meta` and `learned` 1 at most
    meta: Scalar = 0.0  # in [0, 1]
    learned: Scalar = 0.0  # in [0, 1]
    actor: Literal["hedge", "regret"] = "hedge"  # "regret": a second one that matches regrets, without a floor
    eta: Scalar = 2.0  # > 0, of Hedge: softmax(eta * regrets / root of the sum of the squared ranges of values)
    floor: Scalar = 0.0  # <= 0, payoff: no regret is kept below; 0: regret matching+, -inf: regret matching
    meta_floor: Scalar = 0.0  # <= 0, payoff: likewise, of the meta-learner
    gamma: Scalar = 1.0  # >= 0: iteration t weighs t^gamma in the average
    noise: Scalar = 0.0  # >= 0, payoff: standard deviation of what is added to the value of each action
    traversals: int = 0  # of the game, sampled, that values are the mean of; 0: exact values


VARIANTS = {
    "fixed": Variant(),
    "random": Variant(random=1.0),
    "meta": Variant(meta=1.0),
    "learned": Variant(learned=1.0),
}


class Learners(NamedTuple):
    """What one player's learners know, and what is played next."""

    actor_regret: Tensor  # [I_i, A, *B] float, payoff: cumulative counterfactual regret of the actor's play
    spread: Tensor  # [I_i, *B] float, payoff^2: sum of the squared ranges of the values
    regret: Tensor  # [I_i, A, *B] float, payoff: cumulative counterfactual regret of the regret learner's play
    meta: Tensor  # [M_i, K, *B] float, payoff: cumulative regret of not having used each bin of lambda
    actor: Tensor  # [I_i, A, *B] float, probabilities
    matched: Tensor  # [I_i, A, *B] float, probabilities: the regret learner's
    said: Tensor  # [M_i, *B] float in [0, 1]: the meta-learner's mean bin
    lam: Tensor  # [I_i, *B] float in [0, 1]: lambda, the actor's share
    policy: Tensor  # [I_i, A, *B] float, probabilities: the mixture, which is played


def check_variant(v: Variant, batch: tuple[int, ...]) -> None:
    """Raise ValueError for numbers out of range, ShapeError for a tensor that is neither [] nor `batch`."""
    for name in ("start", "end", "random", "meta", "learned"):
        check_number(name, getattr(v, name), low=0.0, high=1.0)
    shares = v.random, v.meta, v.learned
    if sum(x for x in shares if not isinstance(x, Tensor)) > 1 + 1e-9:  # a sum of 1 may be rounded up
        raise ValueError(f"random, meta and learned must sum to 1 at most, got {', '.join(map(str, shares))}")
    for name in ("rate", "gamma", "noise"):
        check_number(name, getattr(v, name), low=0.0)
    check_number("eta", v.eta, low=0.0, open_low=True)
    for name in ("floor", "meta_floor"):
        least = getattr(v, name)
        if isinstance(least, Tensor) or least != -math.inf:
            check_number(name, least, high=0.0)
    check_size("traversals", v.traversals, low=0)
    if v.actor not in ("hedge", "regret"):
        raise ValueError(f'actor must be "hedge" or "regret", got {v.actor!r}')
    for name, tunable in v._asdict().items():
        if isinstance(tunable, Tensor) and tunable.ndim:
            check_shape(name, tunable, batch)


def fresh(own: Infosets, batch: tuple[int, ...], bins: Tensor) -> Learners:
    """Learners who have seen nothing and play uniformly, in the dtype of bins [K]."""

    def zeros(*first: int) -> Tensor:
        return torch.zeros((*first, *batch), dtype=bins.dtype, device=bins.device)

    (count, actions), keys = own.legal.shape, own.members.stages[-1].entry.shape[1]
    even, meta = _match(zeros(count, actions), own.legal), zeros(keys, len(bins))
    said = _mean_bin(meta, bins)
    return Learners(
        actor_regret=zeros(count, actions),
        spread=zeros(count),
        regret=zeros(count, actions),
        meta=meta,
        actor=even,
        matched=even.clone(),
        said=said,
        lam=said.index_select(0, own.key),
        policy=even.clone(),
    )


def _match(weight: Tensor, legal: Tensor) -> Tensor:
    """Regret matching of weights [I_i, A, *B] along their second dimension."""
    rows = weight.movedim(1, -1)
    return regret_match(rows, trailing(legal, weight).movedim(1, -1).expand(rows.shape)).movedim(-1, 1)


def _mean_bin(meta: Tensor, bins: Tensor) -> Tensor:
    """The mean of the bins [M_i, *B] as regret matching weighs them."""
    positive, shares = meta.clamp(min=0), _shares(bins, meta)
    total = positive.sum(1)
    return torch.where(total > 0, (shares * positive).sum(1) / torch.where(total > 0, total, 1), shares.mean())


def _shares(bins: Tensor, meta: Tensor) -> Tensor:
    """The bins [K] ready to meet regrets [M_i, K, *B]."""
    return bins.reshape(-1, *(1,) * (meta.ndim - 2))


def advantage(before: Learners, value: Tensor) -> Tensor:
    """What the actor would have earned more than the regret learner, [I_i, *B], from values [I_i, A, *B]."""
    return ((before.actor - before.matched) * value).sum(1)


def learn(own: Infosets, before: Learners, value: Tensor, v: Variant, bins: Tensor) -> Learners:
    """What the learners know and would each play after counterfactual values [I_i, A, *B]; lambda is left to `mix`."""
    legal, dtype = trailing(own.legal, value), value.dtype

    def gain(policy: Tensor) -> Tensor:
        return torch.where(legal, value - (policy * value).sum(1, keepdim=True), 0)

    regret = (before.regret + gain(before.matched)).clamp(min=per_lane(v.floor, dtype, 0))
    actor_regret = before.actor_regret + gain(before.actor)
    high, low = torch.where(legal, value, -torch.inf).amax(1), torch.where(legal, value, torch.inf).amin(1)
    spread = before.spread + (high - low) ** 2
    # Utilities are linear in lambda: less what a bin earns beyond lambda 0, all of them earn the same.
    pooled = row_sum(own.members, advantage(before, value))
    beyond = _shares(bins, before.meta) - before.said.unsqueeze(1)
    meta = (before.meta + beyond * pooled.unsqueeze(1)).clamp(min=per_lane(v.meta_floor, dtype, 0))
    return before._replace(
        actor_regret=actor_regret,
        spread=spread,
        regret=regret,
        meta=meta,
        actor=_match(_actor_weight(actor_regret, spread, legal, v), own.legal),
        matched=_match(regret, own.legal),
        said=_mean_bin(meta, bins),
    )


def _actor_weight(regret: Tensor, spread: Tensor, legal: Tensor, v: Variant) -> Tensor:
    """What the actor plays in proportion to, [I_i, A, *B]."""
    if v.actor == "regret":
        return regret
    best = torch.where(legal, regret, -torch.inf).amax(1, keepdim=True)
    scale = per_lane(v.eta, regret.dtype, 0) * torch.where(spread > 0, spread, torch.inf).rsqrt()
    return torch.exp(scale.unsqueeze(1) * (regret - best))


def target(own: Infosets, after: Learners) -> Tensor:
    """The meta-learner's probabilities of the bins at each infoset, [I_i, *B, K]: what a scheduler learns from."""
    return regret_match(after.meta.movedim(1, -1)).index_select(0, own.key)


def mix(own: Infosets, after: Learners, lam: Tensor) -> Learners:
    """The learners with lambda [I_i, *B] in [0, 1], and the mixture that it makes of what they play."""
    actor, matched = after.actor.movedim(1, -1), after.matched.movedim(1, -1)
    legal = trailing(own.legal, after.actor).movedim(1, -1).expand(actor.shape)
    policy = mix_policies(Continuous(lam.unsqueeze(-1)), actor, matched, legal=legal).policy
    return after._replace(lam=lam, policy=policy.movedim(-1, 1))
