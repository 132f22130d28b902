"""The family of counterfactual regret minimisation, on whole trees at once, lanes of solvers in lockstep.

Zinkevich et al. 2007 (CFR), Tammelin 2014 (CFR+), Brown and Sandholm 2019 (linear and discounted CFR), Farina et al.
2021 (predictive CFR+). Players are updated one after the other, as in OpenSpiel's solvers. In exact arithmetic these
have the same iterates; in floats, for as long as rounding does not grow (docs/design.md, "Games").
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core.games import sequence
from armfold.core.games.tree import Side, Tree
from armfold.core.types import Scalar, per_lane


class Variant(NamedTuple):
    """How regrets are kept and policies averaged. Numbers may be tensors [*B], one for each lane."""

    floor: bool = False  # keep no regret below 0: regret matching+
    predictive: bool = False  # expect the last regret again
    alpha: Scalar | None = None  # positive regrets times t^alpha / (t^alpha + 1); None: kept whole
    beta: Scalar | None = None  # negative ones likewise
    gamma: Scalar = 0.0  # iteration t weighs t^gamma in the average


VARIANTS = {
    "cfr": Variant(),
    "cfr_plus": Variant(floor=True, gamma=1.0),
    "linear_cfr": Variant(alpha=1.0, beta=1.0, gamma=1.0),
    "dcfr": Variant(alpha=1.5, beta=0.0, gamma=2.0),
    "pcfr_plus": Variant(floor=True, predictive=True, gamma=2.0),
}


class State(NamedTuple):
    """Solvers between two iterations. All are over sequences; those of the empty ones never change."""

    regret: Tensor  # [S, *B] float, payoff: cumulative counterfactual regret
    average: Tensor  # [S, *B] float: weighted sum of realisation plans
    policy: Tensor  # [S, *B] float: what is played next, at each infoset
    plan: Tensor  # [S, *B] float: its realisation plan
    iteration: Tensor  # [] int64: iterations done


def init(tree: Tree, batch: Sequence[int] = (), *, dtype: torch.dtype = torch.float64) -> State:
    """`batch` solvers that have seen nothing and play uniformly."""
    zeros = torch.zeros((len(tree.slot), *batch), dtype=dtype, device=tree.slot.device)
    policy = sequence.match_both(tree, zeros)
    iteration = torch.zeros((), dtype=torch.int64, device=zeros.device)
    return State(zeros, zeros.clone(), policy, _plans(tree, policy), iteration)


def _plans(tree: Tree, policy: Tensor) -> Tensor:
    return torch.cat([sequence.plan(side, policy[own]) for side, own in zip(tree.sides, sequence.bounds(tree))])


def _scale(t: Tensor, power: Scalar | None) -> Tensor | float:
    """t^power / (t^power + 1), which has a limit for powers of +-inf."""
    return 1.0 if power is None else 1 / (1 + t ** -per_lane(power, t.dtype, 0))


def _update(
    side: Side, regret: Tensor, policy: Tensor, other: Tensor, t: Tensor, variant: Variant
) -> tuple[Tensor, Tensor]:
    """One player's regrets and policy after an iteration against the plan `other`."""
    gain = sequence.regrets(side, sequence.values(side, policy, other))
    kept = regret + gain
    if variant.floor:
        kept = kept.clamp(min=0)
    if variant.alpha is not None or variant.beta is not None:
        kept = kept * torch.where(kept > 0, _scale(t, variant.alpha), _scale(t, variant.beta))
    weight = kept + gain if variant.predictive else kept
    return kept, sequence.match(side, weight.clamp(min=0))


def step(tree: Tree, state: State, *, variant: str | Variant = "cfr_plus") -> State:
    """One iteration of every solver: regrets and policy of the first player, then of the second against it.

    Raises ValueError for the name of no variant.
    """
    if isinstance(variant, str) and variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: known are {', '.join(VARIANTS)}")
    chosen = VARIANTS[variant] if isinstance(variant, str) else variant
    t = (state.iteration + 1).to(state.regret.dtype)
    first, second = sequence.bounds(tree)
    average = state.average + t ** per_lane(chosen.gamma, t.dtype, 0) * state.plan
    regret0, policy0 = _update(tree.sides[0], state.regret[first], state.policy[first], state.plan[second], t, chosen)
    plan0 = sequence.plan(tree.sides[0], policy0)
    regret1, policy1 = _update(tree.sides[1], state.regret[second], state.policy[second], plan0, t, chosen)
    plan1 = sequence.plan(tree.sides[1], policy1)
    return State(
        torch.cat([regret0, regret1]),
        average,
        torch.cat([policy0, policy1]),
        torch.cat([plan0, plan1]),
        state.iteration + 1,
    )


def average_policy(tree: Tree, state: State) -> Tensor:
    """The average policy [I, A, *B], which converges; uniform where it never comes."""
    return sequence.to_table(tree, sequence.match_both(tree, state.average))


def last_policy(tree: Tree, state: State) -> Tensor:
    """The policy [I, A, *B] that is played next."""
    return sequence.to_table(tree, state.policy)
