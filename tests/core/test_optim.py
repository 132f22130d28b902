"""Optimisers: against torch.optim step for step, over lanes, and where gradients are not finite."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import nn, optim, random
from armfold.core.check import ShapeError
from armfold.core.optim import Optimiser
from tests.purity import check_pure, same_bits

DOUBLE = torch.float64
INF, NAN = math.inf, math.nan


class Params(NamedTuple):
    layers: dict[str, tuple[Tensor, Tensor]]
    scalar: Tensor  # [*B]: no dimension but the lanes


def tree(*batch: int, seed: int, dtype: torch.dtype = DOUBLE) -> Params:
    """Random values in a tree of every kind of node."""
    rng = random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)
    draws = [
        random.normal(random.fold_in(rng, i), shape, dtype=dtype) for i, shape in enumerate([(4, 3), (3,), (3, 2), ()])
    ]
    return Params({"b": (draws[0], draws[1]), "a": (draws[2], draws[3])}, draws[3] + 1)


def leaves(values: Any) -> list[Tensor]:
    return pytree.tree_leaves(values)


def lane_of(values: Any, *lane: int) -> Any:
    return pytree.tree_map(lambda x: x[lane], values)


def same(x: Any, y: Any) -> bool:
    return all(same_bits(a.contiguous(), b.contiguous()) for a, b in zip(leaves(x), leaves(y), strict=True))


def close(x: Any, y: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(leaves(x), leaves(y), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- the references

Made = Callable[[list[Tensor]], torch.optim.Optimizer]
EQUAL: dict[str, tuple[Callable[..., Optimiser], Made]] = {
    "sgd": (lambda **k: optim.sgd(0.1, **k), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (lambda **k: optim.sgd(0.1, momentum=0.9, **k), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (
        lambda **k: optim.sgd(0.1, momentum=0.9, nesterov=True, **k),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    ),
    "adam": (
        lambda **k: optim.adam(0.1, b1=0.8, b2=0.95, eps=1e-3, **k),
        lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.95), 1e-3),
    ),
    "adam by default": (lambda **k: optim.adam(1e-3, **k), lambda p: torch.optim.Adam(p)),
    "adam without means": (lambda **k: optim.adam(0.1, b1=0.0, **k), lambda p: torch.optim.Adam(p, 0.1, (0.0, 0.999))),
    "adamw": (
        lambda **k: optim.adam(0.1, weight_decay=0.3, **k),
        lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.3),
    ),
    "rmsprop": (
        lambda **k: optim.rmsprop(0.1, decay=0.9, eps=1e-3, **k),
        lambda p: torch.optim.RMSprop(p, 0.1, 0.9, 1e-3),
    ),
    "rmsprop by default": (lambda **k: optim.rmsprop(0.01, **k), lambda p: torch.optim.RMSprop(p)),
    "rmsprop with momentum": (
        lambda **k: optim.rmsprop(0.1, momentum=0.9, **k),
        lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9),
    ),
}
MAKE = {name: make for name, (make, _) in EQUAL.items()} | {
    "clipped adamw": lambda **k: optim.chain(
        optim.clip_by_global_norm(1.0, **k), optim.adam(0.1, weight_decay=0.3, **k)
    )
}


def walk(optimiser: Optimiser, params: Any, grads: list[Any]) -> tuple[Any, Any]:
    """The parameters after a step along each of the gradients, and the optimiser's state."""
    state = optimiser.init(params)
    for g in grads:
        updates, state = optimiser.update(g, state, params)
        params = optim.apply_updates(params, updates)
    return params, state


def run(optimiser: Optimiser, params: Params, steps: int) -> tuple[Params, Any]:
    """`walk` along random gradients."""
    return walk(optimiser, params, [tree(*params.scalar.shape, seed=10 + i) for i in range(steps)])


@pytest.mark.parametrize(
    ("name", "clip"), [(name, None) for name in EQUAL] + [("momentum", 1.0), ("adamw", 1.0), ("adamw", 100.0)]
)
def test_every_step_is_that_of_torch(name: str, clip: float | None) -> None:
    make, peer = EQUAL[name]
    optimiser = make() if clip is None else optim.chain(optim.clip_by_global_norm(clip), make())
    params = tree(seed=0)
    theirs = [x.clone().requires_grad_() for x in leaves(params)]
    their, state = peer(theirs), optimiser.init(params)
    for i in range(8):
        grads = tree(seed=10 + i)
        for x, g in zip(theirs, leaves(grads), strict=True):
            x.grad = g.clone()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(theirs, clip)
        their.step()
        updates, state = optimiser.update(grads, state, params)
        params = optim.apply_updates(params, updates)
        # torch scales by clip / (norm + 1e-6)
        close(params, [x.detach() for x in theirs], 1e-12 if clip is None else 1e-5)


def test_a_schedule_is_that_of_torch() -> None:
    params, theirs = tree(seed=0), [x.requires_grad_() for x in leaves(tree(seed=0))]
    their = torch.optim.Adam(theirs, 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(their, lambda step: 0.1 / (1 + step))
    for i in range(5):
        for x, g in zip(theirs, leaves(tree(seed=10 + i)), strict=True):
            x.grad = g
        their.step()
        schedule.step()
    got, state = run(optim.adam(lambda steps: 0.1 / (1 + steps.to(DOUBLE))), params, 5)
    close(got, [x.detach() for x in theirs])
    assert int(state.steps) == 5


# ---------------------------------------------------------------- lanes


def stepper(name: str) -> Callable[[Params, Any, Params], tuple[Params, Any]]:
    def step(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        updates, state = MAKE[name](lanes=params.scalar.ndim).update(grads, state, params)
        return optim.apply_updates(params, updates), state

    return step


@pytest.mark.parametrize(
    ("name", "batch"), [(name, (3,)) for name in MAKE] + [("clipped adamw", ()), ("clipped adamw", (2, 3))]
)
def test_updates_agree_in_every_variant(name: str, batch: tuple[int, ...], variants) -> None:
    params, state = run(MAKE[name](lanes=len(batch)), tree(*batch, seed=0), 2)
    traced = batch == (3,) and name == "clipped adamw"
    variants(stepper(name), tree(*batch, seed=20), state, params, batch=len(batch), traced=traced)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_updates_agree_when_traced(name: str, variants) -> None:
    params, state = run(MAKE[name](lanes=1), tree(3, seed=0), 2)
    variants(stepper(name), tree(3, seed=20), state, params, batch=0)


@pytest.mark.parametrize("name", MAKE)
def test_init_agrees_in_every_variant(name: str, variants) -> None:
    variants(lambda p: MAKE[name](lanes=p.scalar.ndim).init(p), tree(2, 3, seed=0), batch=2, traced=False)


TUNABLE: dict[str, tuple[Callable[..., Optimiser], list[str]]] = {
    "sgd": (lambda rate, momentum, **k: optim.sgd(rate, momentum=momentum, **k), ["rate", "momentum"]),
    "nesterov": (lambda momentum, **k: optim.sgd(0.1, momentum=momentum, nesterov=True, **k), ["momentum"]),
    "adam": (
        lambda rate, b1, b2, eps, weight_decay, **k: optim.adam(
            rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, **k
        ),
        ["rate", "b1", "b2", "eps", "weight_decay"],
    ),
    "rmsprop": (
        lambda rate, decay, eps, momentum, **k: optim.rmsprop(rate, decay=decay, eps=eps, momentum=momentum, **k),
        ["rate", "decay", "eps", "momentum"],
    ),
    "clip": (
        lambda norm, **k: optim.chain(optim.clip_by_global_norm(norm, **k), optim.sgd(0.1, **k)),
        ["norm"],
    ),
}


@pytest.mark.parametrize("name", TUNABLE)
def test_tunables_of_each_lane_are_those_of_the_lane_alone(name: str) -> None:
    make, tunables = TUNABLE[name]
    values = {t: 0.1 + 0.8 * random.uniform(random.fold_in(random.key(5), i), (3,)) for i, t in enumerate(tunables)}
    grads = [tree(3, seed=10 + i, dtype=torch.float32) for i in range(4)]
    params = tree(3, seed=0, dtype=torch.float32)
    together = walk(make(**values, lanes=1), params, grads)[0]
    assert not torch.allclose(together.scalar[0] - params.scalar[0], together.scalar[1] - params.scalar[1])
    for lane in range(3):
        for kind in (float, Tensor.clone):  # numbers, 0-dim tensors
            one = make(**{t: kind(v[lane]) for t, v in values.items()})
            alone = walk(one, lane_of(params, lane), [lane_of(g, lane) for g in grads])[0]
            close(lane_of(together, lane), alone, 1e-5)


def test_a_schedule_may_give_each_lane_its_own_rate() -> None:
    rates = torch.tensor([0.1, 0.2, 0.4], dtype=DOUBLE)
    got, _ = run(optim.sgd(lambda steps: rates / (1 + steps), lanes=1), tree(3, seed=0), 2)
    want = tree(3, seed=0).scalar - rates * (tree(3, seed=10).scalar + tree(3, seed=11).scalar / 2)
    close(got.scalar, want)


@pytest.mark.parametrize("name", MAKE)
def test_functions_are_pure(name: str) -> None:
    optimiser = MAKE[name](lanes=1)
    params, state = run(optimiser, tree(3, seed=0), 1)
    check_pure(optimiser.init, params)
    updates, _ = check_pure(optimiser.update, tree(3, seed=9), state, params)
    check_pure(optim.apply_updates, params, updates)
    check_pure(lambda p: optim.global_norm(p, lanes=1), params)


# ---------------------------------------------------------------- clipping

VALUES = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=6, max_size=6)


@given(VALUES, st.floats(1e-3, 1e3))
def test_clipping_keeps_the_direction_and_exceeds_no_norm(values: list[float], norm: float) -> None:
    grads = {"x": torch.tensor(values[:4]).reshape(2, 2), "y": torch.tensor(values[4:])}
    clipped, _ = optim.clip_by_global_norm(norm).update(grads, (), grads)
    before, after = optim.global_norm(grads), optim.global_norm(clipped)
    assert float(before) == pytest.approx(math.hypot(*values), rel=1e-12)
    if before <= norm:
        assert same(clipped, grads)
    else:
        assert float(after) == pytest.approx(norm, rel=1e-6)
        exact = pytree.tree_map(lambda x: x.to(DOUBLE) * norm / before, grads)
        torch.testing.assert_close(clipped, exact, rtol=1e-6, atol=1e-37, check_dtype=False)


def test_lanes_are_clipped_alone() -> None:
    grads = {"x": torch.tensor([[3.0], [0.3], [30.0], [0.0]]), "y": torch.tensor([4.0, 0.4, 40.0, 0.0])}
    clipped, _ = optim.clip_by_global_norm(1.0, lanes=1).update(grads, (), grads)
    assert optim.global_norm(grads, lanes=1).tolist() == pytest.approx([5, 0.5, 50, 0])
    assert optim.global_norm(clipped, lanes=1).tolist() == pytest.approx([1, 0.5, 1, 0])
    close(clipped, {"x": torch.tensor([[0.6], [0.3], [0.6], [0.0]]), "y": torch.tensor([0.8, 0.4, 0.8, 0.0])}, 1e-6)


def test_norms_of_empty_tensors_and_no_lanes() -> None:
    assert float(optim.global_norm([torch.zeros(0), torch.ones(4)])) == 2
    assert optim.global_norm([torch.zeros(0, 3)], lanes=1).shape == (0,)


# ---------------------------------------------------------------- what is not finite


@pytest.mark.parametrize(
    ("name", "bad"), [(name, NAN) for name in MAKE] + [("adam", INF), ("clipped adamw", INF), ("adam", -1e200)]
)
def test_a_lane_that_is_not_finite_takes_no_step(name: str, bad: float) -> None:
    optimiser = MAKE[name](lanes=1)
    params, before = run(optimiser, tree(3, seed=0), 2)
    good = tree(3, seed=20)
    spoilt = good._replace(scalar=good.scalar * torch.tensor([1.0, bad, 1.0]))
    updates, state = optimiser.update(spoilt, before, params)
    wanted, after = optimiser.update(good, before, params)
    for lane in (0, 2):
        assert same(lane_of(updates, lane), lane_of(wanted, lane))
        assert same(lane_of(state, lane), lane_of(after, lane))
    assert all((x[1] == 0).all() for x in leaves(updates))
    last, old = (x[-1] if name.startswith("clipped") else x for x in (state, before))
    assert last.steps.tolist() == [3, 2, 3]
    assert last.skipped.tolist() == [0, 1, 0]
    assert same(lane_of(last.moments, 1), lane_of(old.moments, 1))


def test_a_lane_that_skipped_goes_on_as_if_nothing_had_been() -> None:
    optimiser = optim.adam(lambda steps: 0.1 / (1 + steps.to(DOUBLE)))
    params, state = run(optimiser, tree(seed=0), 2)
    bad = pytree.tree_map(lambda x: x * NAN, params)
    updates, skipped = optimiser.update(bad, state, params)
    params_after = optim.apply_updates(params, updates)
    assert same(params_after, params)
    grads = tree(seed=20)
    want, _ = optimiser.update(grads, state, params)
    got, _ = optimiser.update(grads, skipped, params_after)
    assert same(got, want)


def test_clipping_marks_a_whole_lane_that_is_not_finite() -> None:
    grads = {"x": torch.tensor([[1.0, INF], [1.0, 2.0]], dtype=DOUBLE), "y": torch.tensor([1.0, 1e200], dtype=DOUBLE)}
    clipped, _ = optim.clip_by_global_norm(1.0, lanes=1).update(grads, (), grads)
    assert all(torch.isnan(x).all() for x in leaves(clipped))  # squares of 1e200 are too large for the norm as well


def test_gradients_whose_squares_overflow_are_clipped_not_skipped() -> None:
    params = {"x": torch.zeros(2)}
    grads = {"x": torch.tensor([3e30, 4e30])}
    optimiser = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(1.0))
    updates, (_, state) = optimiser.update(grads, optimiser.init(params), params)
    close(updates, {"x": torch.tensor([-0.6, -0.8])}, 1e-6)
    assert int(state.skipped) == 0


def test_gradients_whose_squares_overflow_leave_the_moments_alone() -> None:
    params = {"x": torch.ones(2, 1)}
    optimiser = optim.adam(0.1, lanes=1)
    start = optimiser.init(params)
    _, state = optimiser.update({"x": torch.tensor([[1e19], [1e20]])}, start, params)
    updates, state = optimiser.update(params, state, params)
    assert state.skipped.tolist() == [0, 1]
    assert all(torch.isfinite(x).all() for x in leaves((updates, state)))
    assert float(updates["x"][1]) == pytest.approx(-0.1, rel=1e-6)  # as a first step is


def test_adam_stays_finite_for_ever() -> None:
    params = {"x": torch.ones(3)}
    optimiser = optim.adam(0.1)
    state = optimiser.init(params)._replace(steps=torch.tensor(2**62))
    updates, _ = optimiser.update({"x": torch.tensor([1.0, 0.0, -1e-20])}, state, params)
    assert torch.isfinite(updates["x"]).all()


# ---------------------------------------------------------------- learning


def test_lanes_of_networks_learn() -> None:
    """32 networks learn exclusive or, each with a rate of its own; with rate 0 one stays as it was."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).expand(32, 4, 2)
    y = torch.tensor([0.0, 1.0, 1.0, 0.0])
    optimiser = optim.chain(optim.clip_by_global_norm(1.0, lanes=1), optim.adam(torch.linspace(0, 0.1, 32), lanes=1))

    def losses(params: nn.Mlp) -> Tensor:
        return (nn.mlp(params, x, activation=torch.tanh).squeeze(-1) - y).square().mean(-1)

    start = params = nn.mlp_init(random.split(random.key(0), 32), (2, 8, 1))
    state = optimiser.init(params)
    for _ in range(150):
        updates, state = optimiser.update(torch.func.grad(lambda p: losses(p).sum())(params), state, params)
        params = optim.apply_updates(params, updates)
    assert losses(start).min() > 0.1
    assert losses(params)[16:].median() < 1e-3
    assert same(lane_of(params, 0), lane_of(start, 0))


@pytest.mark.slow
def test_training_agrees_when_compiled(variants) -> None:
    def train(params: nn.Mlp, state: Any, x: Tensor, rate: Tensor) -> tuple[nn.Mlp, Any]:
        lanes = rate.ndim
        optimiser = optim.chain(
            optim.clip_by_global_norm(0.5, lanes=lanes), optim.adam(rate, weight_decay=0.1, lanes=lanes)
        )
        grads = torch.func.grad(lambda p: nn.mlp(p, x).square().sum())(params)
        updates, state = optimiser.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    params = nn.mlp_init(random.split(random.key(0), 3), (4, 8, 2), dtype=DOUBLE)
    x = random.normal(random.split(random.key(1), 3), (5, 4), dtype=DOUBLE)
    optimiser = optim.chain(optim.clip_by_global_norm(0.5, lanes=1), optim.adam(0.1, lanes=1))
    rate = torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE)
    params, state = train(params, optimiser.init(params), x, rate)
    variants(train, params, state, x, rate, compiled=True, atol=1e-12)


# ---------------------------------------------------------------- trees and bad input


def test_dicts_may_come_in_any_order_and_types_stay() -> None:
    params = {"x": torch.ones(2), "y": torch.ones(3, dtype=DOUBLE)}
    grads = {"y": torch.full((3,), 2.0, dtype=DOUBLE), "x": torch.zeros(2)}
    optimiser = optim.sgd(0.5, momentum=0.1)
    updates, _ = optimiser.update(grads, optimiser.init(params), params)
    after = optim.apply_updates(params, dict(reversed(updates.items())))
    assert [after["x"].tolist(), after["y"].tolist()] == [[1, 1], [0, 0, 0]]
    assert [after["x"].dtype, after["y"].dtype] == [torch.float32, DOUBLE]
    assert list(updates) == list(after) == ["x", "y"]


@pytest.mark.parametrize("name", MAKE)
def test_dtypes_of_all_leaves_stay(name: str) -> None:
    """Those with no dimension too, which would take up that of tunables and norms."""
    params, optimiser = tree(seed=0, dtype=torch.float32), MAKE[name]()
    before = optimiser.init(params)
    updates, state = optimiser.update(tree(seed=1, dtype=torch.float32), before, params)
    assert [x.dtype for x in leaves(updates)] == [torch.float32] * len(leaves(params))
    assert [x.dtype for x in leaves(state)] == [x.dtype for x in leaves(before)]


def test_dtypes_stay_with_tunables_of_another() -> None:
    params, half = {"w": torch.ones(3), "s": torch.ones(())}, torch.tensor(0.5, dtype=DOUBLE)
    optimiser = optim.chain(
        optim.clip_by_global_norm(half), optim.sgd(half, momentum=half), optim.adam(half, b1=half, weight_decay=half)
    )
    before = optimiser.init(params)
    updates, state = optimiser.update(params, before, params)
    assert {x.dtype for x in leaves(updates)} == {torch.float32}
    assert [x.dtype for x in leaves(state)] == [x.dtype for x in leaves(before)]


PLAIN = {"x": torch.ones(3, 2), "y": torch.ones(3)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: o.init({}), r"^params must be a tree of floating tensors, got leaves \[\]$"),
        (lambda o: o.init([torch.ones(3, dtype=torch.int64)]), r"^params must .* got leaves \['torch.int64 \(3,\)'\]$"),
        (lambda o: o.init([None, torch.ones(3)]), r"^params must .* \['NoneType', 'torch.float32 \(3,\)'\]$"),
        (lambda o: o.init([torch.ones(())]), r"^params must share 1 lane dimensions, got \[\(\)\]$"),
        (lambda o: o.init([torch.ones(3), torch.ones(2)]), r"^params must share 1 lane .* \[\(3,\), \(2,\)\]$"),
        (
            lambda o: o.update(PLAIN | {"y": torch.ones(4)}, o.init(PLAIN), PLAIN),
            r"^grads must be a tree like params, with \(3,\) in it, got torch.float32 \(4,\)$",
        ),
        (
            lambda o: o.update(PLAIN | {"y": None}, o.init(PLAIN), PLAIN),
            r"^grads must be a tree like params, with \(3,\) in it, got NoneType$",
        ),
        (lambda o: o.update({"x": PLAIN["x"]}, o.init(PLAIN), PLAIN), r"^grads must be a tree like params: .*arity"),
        (lambda o: optim.apply_updates(PLAIN, list(PLAIN.values())), r"^updates must be a tree like params: .*type"),
        (lambda o: optim.global_norm([torch.ones(3), torch.ones(2)], lanes=1), r"^tree must share 1 lane"),
    ],
)
def test_other_trees_are_refused_by_name(call: Callable[[Optimiser], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call(optim.adam(0.1, lanes=1))


@pytest.mark.parametrize("name", TUNABLE)
def test_tunables_of_other_lanes_are_refused_by_name(name: str) -> None:
    make, tunables = TUNABLE[name]
    for wrong in tunables:
        values = {t: torch.full((2 if t == wrong else 3,), 0.5) for t in tunables}
        optimiser = make(**values, lanes=1)
        with pytest.raises(ShapeError, match=rf"^{wrong} must have shape \(3,\), got \(2,\)"):
            optimiser.update(PLAIN, optimiser.init(PLAIN), PLAIN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.sgd(-0.1), r"rate must be finite and in \[0.0, inf\), got -0.1"),
        (lambda: optim.sgd(NAN), "rate must be finite"),
        (lambda: optim.sgd("fast"), "rate must be a number or a tensor, got 'fast'"),  # type: ignore[arg-type]
        (lambda: optim.sgd(0.1, momentum=-1), "momentum must be finite"),
        (lambda: optim.sgd(0.1, nesterov=True), "momentum must be above 0 for nesterov=True, got 0.0"),
        (lambda: optim.sgd(0.1, lanes=-1), "lanes must be an integer >= 0, got -1"),
        (lambda: optim.adam(0.1, b1=1.0), "b1 must be below 1, got 1.0"),
        (lambda: optim.adam(0.1, b2=1.5), r"b2 must be finite and in \[0.0, 1.0\], got 1.5"),
        (lambda: optim.adam(0.1, eps=0.0), r"eps must be finite and in \(0.0, inf\), got 0.0"),
        (lambda: optim.adam(0.1, weight_decay=-1), "weight_decay must be finite"),
        (lambda: optim.rmsprop(0.1, decay=1), "decay must be below 1, got 1"),
        (lambda: optim.rmsprop(0.1, eps=INF), "eps must be finite"),
        (lambda: optim.rmsprop(0.1, momentum=NAN), "momentum must be finite"),
        (lambda: optim.clip_by_global_norm(0.0), r"norm must be finite and in \(0.0, inf\), got 0.0"),
        (lambda: optim.clip_by_global_norm(1.0, lanes=-1), "lanes must be an integer >= 0, got -1"),
    ],
)
def test_bad_tunables_are_named(make: Callable[[], Optimiser], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
