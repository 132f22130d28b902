"""Optimisers as pairs of pure functions, for lanes of parameters that are stepped together.

Parameters are a tree (NamedTuples, tuples, lists, dicts) of floating tensors. The first `lanes` dimensions [*B] of each
are lanes: independent sets of parameters, each with steps, rates and a gradient norm of its own.

A lane takes no step where its gradients are not finite, or so large that the square of their norm is not: its updates
are 0 and its state stays, but for `skipped`, which counts them. Clipped gradients are never too large.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import ShapeError, check_number, check_shape, check_size
from armfold.core.types import Scalar, per_lane

Tree = Any  # of tensors
Rate = Scalar | Callable[[Tensor], Scalar]  # or a schedule: from the steps taken so far, int64 [*B], 0 at first
Moments = tuple[Tensor, ...]
Rule = Callable[..., tuple[Tensor, Moments]]  # (gradient, *moments, **tunables) -> (direction, moments)


class Optimiser(NamedTuple):
    """A way to step parameters by their gradients.

    init(params) -> state
    update(grads, state, params) -> (updates, state)  trees like `params`; `apply_updates` adds the updates to them
    """

    init: Callable[[Tree], Any]
    update: Callable[[Tree, Any, Tree], tuple[Tree, Any]]


class State(NamedTuple):
    """What `sgd`, `adam` and `rmsprop` keep."""

    steps: Tensor  # [*B] int64, steps taken
    skipped: Tensor  # [*B] int64, steps not taken, because gradients were not finite
    moments: tuple[Tree, ...]  # each like the parameters: sums or means of gradients, or of their squares


def _flatten(name: str, tree: Tree, lanes: int) -> tuple[list[Tensor], pytree.TreeSpec, torch.Size]:
    """A tree's tensors, its structure, and its lanes [*B]."""
    leaves, spec = pytree.tree_flatten(tree)
    if not leaves or not all(isinstance(x, Tensor) and x.is_floating_point() for x in leaves):
        raise ShapeError(f"{name} must be a tree of floating tensors, got leaves {[_kind(x) for x in leaves]}")
    batch = leaves[0].shape[:lanes]
    if len(batch) < lanes or any(x.shape[:lanes] != batch for x in leaves):
        raise ShapeError(f"{name} must share {lanes} lane dimensions, got {[tuple(x.shape) for x in leaves]}")
    return leaves, spec, batch


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype} {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else type(leaf).__name__


def _like(name: str, tree: Tree, params: list[Tensor], spec: pytree.TreeSpec) -> list[Tensor]:
    """The tensors of `tree` in the order of those of the parameters."""
    try:
        leaves = spec.flatten_up_to(tree)
    except ValueError as error:
        raise ShapeError(f"{name} must be a tree like params: {error}") from None
    for x, p in zip(leaves, params, strict=True):
        if not isinstance(x, Tensor) or x.shape != p.shape:
            raise ShapeError(f"{name} must be a tree like params, with {tuple(p.shape)} in it, got {_kind(x)}")
    return leaves


def _norm(leaves: list[Tensor], batch: torch.Size) -> Tensor:
    flat = [x.reshape(*batch, math.prod(x.shape[len(batch) :])) for x in leaves]
    # In float64, because the squares of exploding gradients overflow before they do.
    norms = [torch.linalg.vector_norm(x, dim=-1, dtype=torch.float64) for x in flat]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return total


def global_norm(tree: Tree, *, lanes: int = 0) -> Tensor:
    """The Euclidean norm over all of a lane's tensors, [*B] float64. Raises ShapeError unless they share the lanes."""
    leaves, _, batch = _flatten("tree", tree, lanes)
    return _norm(leaves, batch)


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """The parameters with the updates added. Raises ShapeError where the trees differ."""
    leaves, spec = pytree.tree_flatten(params)
    by = _like("updates", updates, leaves, spec)
    return pytree.tree_unflatten([(p + u).to(p.dtype) for p, u in zip(leaves, by, strict=True)], spec)


def _check_tunable(name: str, value: Scalar, batch: torch.Size) -> None:
    if isinstance(value, Tensor) and value.ndim:
        check_shape(name, value, batch)


def _init(params: Tree, *, moments: int, lanes: int) -> State:
    leaves, spec, batch = _flatten("params", params, lanes)
    steps, skipped = (torch.zeros(batch, dtype=torch.int64, device=leaves[0].device) for _ in range(2))
    zeros = (pytree.tree_unflatten([torch.zeros_like(x) for x in leaves], spec) for _ in range(moments))
    return State(steps, skipped, tuple(zeros))


def _step_tensor(
    rule: Rule, g: Tensor, param: Tensor, moments: Moments, finite: Tensor, tunables: dict[str, Scalar]
) -> tuple[Tensor, Moments]:
    """The update of one tensor, -rate (direction + weight_decay param), and its moments after it, in its dtype."""
    dims = g.ndim - finite.ndim
    at = {name: per_lane(value, g.dtype, dims) for name, value in tunables.items()}
    rate, weight_decay = at.pop("rate"), at.pop("weight_decay")
    direction, after = rule(g, *moments, **at)
    if isinstance(weight_decay, Tensor) or weight_decay:
        direction = direction + weight_decay * param
    kept = finite.reshape((*finite.shape, *(1,) * dims))
    update = torch.where(kept, -rate * direction, 0).to(param.dtype)  # 0-dim, it has the widest of all dtypes
    return update, tuple(torch.where(kept, new, old).to(old.dtype) for new, old in zip(after, moments, strict=True))


def _update(
    grads: Tree, state: State, params: Tree, *, rule: Rule, lanes: int, rate: Rate, **tunables: Scalar
) -> tuple[Tree, State]:
    """A step along the direction that `rule` makes of a tensor's gradient, its moments and the tunables."""
    leaves, spec, batch = _flatten("params", params, lanes)
    gradients = _like("grads", grads, leaves, spec)
    settings = {"weight_decay": 0.0, "rate": rate(state.steps) if callable(rate) else rate, **tunables}
    for name, value in settings.items():
        _check_tunable(name, value, batch)
    finite = _norm(gradients, batch) < min(math.sqrt(torch.finfo(g.dtype).max) for g in gradients)
    moments = [spec.flatten_up_to(moment) for moment in state.moments]
    stepped = [
        _step_tensor(rule, g, p, tuple(moment[i] for moment in moments), finite, settings)
        for i, (g, p) in enumerate(zip(gradients, leaves, strict=True))
    ]
    updates, after = zip(*stepped, strict=True)
    taken = finite.to(torch.int64)
    kept = tuple(pytree.tree_unflatten(moment, spec) for moment in zip(*after, strict=True))
    return pytree.tree_unflatten(updates, spec), State(state.steps + taken, state.skipped + (1 - taken), kept)


def _optimiser(update: Callable[..., Any], *, rate: Rate, lanes: int, moments: int, **tunables: Scalar) -> Optimiser:
    if not callable(rate):
        check_number("rate", rate, low=0.0)
    check_size("lanes", lanes, low=0)
    return Optimiser(partial(_init, moments=moments, lanes=lanes), partial(update, rate=rate, lanes=lanes, **tunables))


def _check_decay(name: str, value: Scalar) -> None:
    check_number(name, value, low=0.0, high=1.0)
    if not isinstance(value, Tensor) and value == 1:
        raise ValueError(f"{name} must be below 1, got {value}")


def _given(momentum: Scalar) -> bool:
    """Whether there is a velocity to keep."""
    check_number("momentum", momentum, low=0.0)
    return isinstance(momentum, Tensor) or momentum > 0


def _sgd(g: Tensor, *velocity: Tensor, momentum: Scalar, nesterov: bool) -> tuple[Tensor, Moments]:
    if not velocity:
        return g, ()
    v = momentum * velocity[0] + g
    return (momentum * v + g if nesterov else v), (v,)


def sgd(rate: Rate, *, momentum: Scalar = 0.0, nesterov: bool = False, lanes: int = 0) -> Optimiser:
    """Gradient descent. Moments: the velocity, v = momentum v + g, unless momentum is the number 0.

    rate >= 0: a number, a tensor [*B], or a schedule, a function of the steps taken so far (int64 [*B]). momentum >= 0:
    a number or a tensor [*B]. nesterov: steps along g + momentum v. Raises ValueError for values outside, and for
    nesterov without momentum. Source: Sutskever et al. 2013, section 2, with the rate outside the velocity.
    """
    kept = _given(momentum)
    if nesterov and not kept:
        raise ValueError(f"momentum must be above 0 for nesterov=True, got {momentum}")
    update = partial(_update, rule=partial(_sgd, nesterov=nesterov))
    return _optimiser(update, rate=rate, lanes=lanes, moments=int(kept), momentum=momentum)


def _total_weight(name: str, decay: Scalar, steps: Tensor) -> Tensor:
    """1 - decay**steps, [*B] float64: the sum of the weights in a running mean that began at 0."""
    _check_tunable(name, decay, steps.shape)
    if isinstance(decay, Tensor):
        log: Tensor | float = torch.log(decay.to(torch.float64))
    else:
        log = math.log(decay) if decay > 0 else -math.inf
    return -torch.expm1(steps.to(torch.float64) * log)


def _adam(
    g: Tensor, mean: Tensor, square: Tensor, *, b1: Scalar, b2: Scalar, w1: Tensor, w2: Tensor, eps: Scalar
) -> tuple[Tensor, Moments]:
    mean = mean + (1 - b1) * (g - mean)
    square = square + (1 - b2) * (g * g - square)
    return mean / w1 / (torch.sqrt(square / w2) + eps), (mean, square)


def _update_adam(grads: Tree, state: State, params: Tree, *, b1: Scalar, b2: Scalar, **rest: Any) -> tuple[Tree, State]:
    w1, w2 = _total_weight("b1", b1, state.steps + 1), _total_weight("b2", b2, state.steps + 1)
    return _update(grads, state, params, rule=_adam, b1=b1, b2=b2, w1=w1, w2=w2, **rest)


def adam(
    rate: Rate,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    lanes: int = 0,
) -> Optimiser:
    """Adam, or AdamW where weight_decay > 0. Moments: running means of the gradient and of its square.

    rate >= 0: a number, a tensor [*B], or a schedule, a function of the steps taken so far (int64 [*B]). b1 and b2 in
    [0, 1), eps > 0, weight_decay >= 0: each a number or a tensor [*B]. The decay is decoupled: it moves a parameter
    by -rate weight_decay times itself, and leaves the moments alone. Raises ValueError for values outside.
    Source: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
    """
    _check_decay("b1", b1)
    _check_decay("b2", b2)
    check_number("eps", eps, low=0.0, open_low=True)
    check_number("weight_decay", weight_decay, low=0.0)
    return _optimiser(_update_adam, rate=rate, lanes=lanes, moments=2, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


def _rmsprop(
    g: Tensor, square: Tensor, *velocity: Tensor, decay: Scalar, eps: Scalar, momentum: Scalar
) -> tuple[Tensor, Moments]:
    square = square + (1 - decay) * (g * g - square)
    scaled = g / (torch.sqrt(square) + eps)
    v, kept = _sgd(scaled, *velocity, momentum=momentum, nesterov=False)
    return v, (square, *kept)


def rmsprop(
    rate: Rate, *, decay: Scalar = 0.99, eps: Scalar = 1e-8, momentum: Scalar = 0.0, lanes: int = 0
) -> Optimiser:
    """RMSprop. Moments: the running mean of the squared gradient, and the velocity unless momentum is the number 0.

    rate >= 0: a number, a tensor [*B], or a schedule, a function of the steps taken so far (int64 [*B]). decay in
    [0, 1), eps > 0, momentum >= 0: each a number or a tensor [*B]. Raises ValueError for values outside.
    Source: Tieleman and Hinton 2012, lecture 6.5, with eps outside the root.
    """
    _check_decay("decay", decay)
    check_number("eps", eps, low=0.0, open_low=True)
    moments = 1 + _given(momentum)
    update = partial(_update, rule=_rmsprop)
    return _optimiser(update, rate=rate, lanes=lanes, moments=moments, decay=decay, eps=eps, momentum=momentum)


def _clip(grads: Tree, state: tuple[()], params: Tree, *, norm: Scalar, lanes: int) -> tuple[Tree, tuple[()]]:
    leaves, spec, batch = _flatten("grads", grads, lanes)
    _check_tunable("norm", norm, batch)
    total = _norm(leaves, batch)
    # NaN, where inf would give 0 and be taken for a gradient.
    scale = torch.where(total < torch.inf, norm / total.clamp(min=norm), torch.nan)
    clipped = [(x * per_lane(scale, x.dtype, x.ndim - lanes)).to(x.dtype) for x in leaves]
    return pytree.tree_unflatten(clipped, spec), state


def clip_by_global_norm(norm: Scalar, *, lanes: int = 0) -> Optimiser:
    """Gradients scaled down to a Euclidean norm of `norm` at most, over all of a lane's tensors; for use in a `chain`.

    norm > 0: a number or a tensor [*B]. A lane whose norm is not finite becomes NaN, and the optimiser after it skips
    it. Raises ValueError for values outside. Source: Pascanu, Mikolov and Bengio 2013, algorithm 1.
    """
    check_number("norm", norm, low=0.0, open_low=True)
    check_size("lanes", lanes, low=0)
    return Optimiser(lambda params: (), partial(_clip, norm=norm, lanes=lanes))


def _init_each(params: Tree, *, optimisers: tuple[Optimiser, ...]) -> tuple[Any, ...]:
    return tuple(each.init(params) for each in optimisers)


def _update_each(
    grads: Tree, state: tuple[Any, ...], params: Tree, *, optimisers: tuple[Optimiser, ...]
) -> tuple[Tree, tuple[Any, ...]]:
    after = []
    for each, before in zip(optimisers, state, strict=True):
        grads, new = each.update(grads, before, params)
        after.append(new)
    return grads, tuple(after)


def chain(*optimisers: Optimiser) -> Optimiser:
    """Optimisers one after another: each takes the updates of the one before for its gradients.

    chain(clip_by_global_norm(1.0), adam(1e-3)) clips and then steps. Its state is the tuple of theirs.
    """
    return Optimiser(partial(_init_each, optimisers=optimisers), partial(_update_each, optimisers=optimisers))
