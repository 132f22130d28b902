"""Solvers by name, each a tuple of pure functions over a state of its own."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_number
from armfold.core.games import sample, solve
from armfold.core.games.solve import VARIANTS, Variant
from armfold.core.games.tree import Tree
from armfold.shell.choose import suggest


class Solver(NamedTuple):
    """A way to solve games.

    init(tree, batch, *, dtype) -> state
    step(tree, state) -> state                  one iteration of every lane
    average(tree, state) -> [I, A, *B]          the policy that converges
    last(tree, state) -> [I, A, *B]             the one that is played next
    """

    init: Callable[..., Any]
    step: Callable[[Tree, Any], Any]
    average: Callable[[Tree, Any], Tensor]
    last: Callable[[Tree, Any], Tensor]


class Entry(NamedTuple):
    """What the catalogue says of a solver."""

    summary: str
    source: str


SAMPLED = "mccfr"  # the one that draws
SOLVERS = {
    "cfr": Entry(
        "Counterfactual regret minimisation: regret matching at every infoset, and the plain average of all iterations",
        "Zinkevich, Johanson, Bowling and Piccione 2007",
    ),
    "cfr_plus": Entry("CFR+: regrets never fall below 0, iteration t weighs t in the average", "Tammelin 2014"),
    "linear_cfr": Entry("Linear CFR: iteration t weighs t, in regrets and in the average", "Brown and Sandholm 2019"),
    "dcfr": Entry(
        "Discounted CFR: positive regrets fade by t^1.5 / (t^1.5 + 1), negative ones by half; t weighs t^2",
        "Brown and Sandholm 2019",
    ),
    "pcfr_plus": Entry(
        "Predictive CFR+: CFR+ that expects the last regret again; t weighs t^2",
        "Farina, Kroer and Sandholm 2021",
    ),
    SAMPLED: Entry(
        "External-sampling Monte Carlo CFR: traversals that try all actions of one player and draw the rest",
        "Lanctot, Waugh, Zinkevich and Bowling 2009",
    ),
}


def make_solver(algo: str | Variant, tree: Tree, batch: Sequence[int], *, seed: int, traversals: int) -> Solver:
    """The solver of that name, or of that variant, for a tree and `batch` lanes on its device. Raises ValueError."""
    if algo == SAMPLED:
        lanes = random.split(random.key(seed, device=tree.slot.device), math.prod(batch))
        rng = random.split(lanes, traversals).reshape(traversals, *batch, 2)
        step = partial(_sample, paths=sample.paths(tree), rng=rng)
        return Solver(sample.init, step, sample.average_policy, sample.last_policy)
    if isinstance(algo, str):
        if algo not in SOLVERS:
            raise suggest("algorithm", algo, SOLVERS)
        variant = VARIANTS[algo]
    elif isinstance(algo, Variant):
        device = tree.slot.device
        variant = Variant(*(_fit(name, value, batch, device) for name, value in algo._asdict().items()))
    else:
        raise ValueError(f"algo must be a name or a Variant, got {algo!r}")
    return Solver(solve.init, partial(solve.step, variant=variant), solve.average_policy, solve.last_policy)


def _sample(tree: Tree, state: sample.State, *, paths: sample.Paths, rng: Tensor) -> sample.State:
    return sample.step(tree, paths, state, random.jump(rng, state.iteration))


def _fit(name: str, value: Any, batch: Sequence[int], device: torch.device) -> Any:
    """A field of a variant, checked; tensors on `device`."""
    if name in ("floor", "predictive"):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")
        return value
    fades = name in ("alpha", "beta")  # by a power that may be infinite
    if isinstance(value, Tensor):
        if value.ndim and tuple(value.shape) != tuple(batch):
            raise ValueError(f"{name} must have the shape of batch, {tuple(batch)}, got {tuple(value.shape)}")
        wrong = value.isnan() if fades else ~value.isfinite()
        if bool(wrong.any()):
            wanted = "numbers" if fades else "finite"
            raise ValueError(f"{name} must be {wanted} in every lane, got {value[wrong][0].item()}")
        return value.to(device)
    if not (fades and value in (None, math.inf, -math.inf)):
        check_number(name, value)
    return value
