"""The family of counterfactual regret minimisation against a plain recursion, its theory, and itself in lockstep."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core.games import Tree, compile_game, exploitability, goofspiel, liars_dice, move, sequence, uniform
from armfold.core.games.solve import VARIANTS, State, Variant, average_policy, init, last_policy, step
from tests.core.games.plain import Solver, compiled, random_rules, run
from tests.purity import check_pure, same_bits

# ---------------------------------------------------------------- against a plain recursion


UNUSUAL = {
    "discounted and floored": Variant(floor=True, alpha=2.0, gamma=1.0),
    "predictive alone": Variant(predictive=True),
    "only negative regrets discounted": Variant(beta=-1.0, gamma=3.0),
    "only positive regrets discounted": Variant(alpha=0.5),
}


def check_against_plain(tree: Tree, variant: Variant, iterations: int) -> None:
    plain = Solver(tree, **variant._asdict())
    for _ in range(iterations):
        plain.step()
    state = run(tree, variant, iterations)
    torch.testing.assert_close(average_policy(tree, state), plain.average_policy(), rtol=0, atol=1e-9)
    torch.testing.assert_close(last_policy(tree, state), plain.table(plain.policy), rtol=0, atol=1e-7)


@pytest.mark.parametrize("variant", [*VARIANTS.values(), *UNUSUAL.values()], ids=[*VARIANTS, *UNUSUAL])
def test_variants_are_their_recursion(variant: Variant) -> None:
    check_against_plain(compiled("kuhn"), variant, 25)
    check_against_plain(compiled("goofspiel 3"), variant, 10)


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from(sorted(VARIANTS)))
def test_variants_are_their_recursion_on_any_game(seed: int, variant: str) -> None:
    check_against_plain(compile_game(random_rules(seed)), VARIANTS[variant], 5)


# ---------------------------------------------------------------- theory


@pytest.mark.parametrize("name", ["kuhn", "leduc", "goofspiel 4"])
def test_regrets_stay_below_their_bound(name: str) -> None:
    """Blackwell's bound holds surely at every infoset: squares of positive regrets sum to at most those of all gains.
    So does what follows: exploitability is at most the sum of all infosets' largest regrets over T, for each seat."""
    tree, iterations = compiled(name), 60
    state, squares = init(tree), torch.zeros(len(tree.slot), dtype=torch.float64)
    for _ in range(iterations):
        after = step(tree, state, variant="cfr")
        squares, state = squares + (after.regret - state.regret) ** 2, after
    regret = sequence.to_table(tree, state.regret.clamp(min=0))
    bound = sequence.to_table(tree, squares).sum(1)
    assert ((regret**2).sum(1) <= bound + 1e-12).all()
    assert regret.amax() > 0
    overall = float(regret.amax(1).sum()) / iterations / 2
    assert 0 < float(exploitability(tree, average_policy(tree, state))) <= overall


@pytest.mark.slow
def test_the_best_variants_reach_their_bars_in_1000_iterations() -> None:
    def reached(tree: Tree, variant: str) -> float:
        return float(exploitability(tree, average_policy(tree, run(tree, variant, 1000))))

    assert reached(compiled("kuhn"), "pcfr_plus") < 1e-7
    assert reached(compiled("leduc"), "dcfr") < 2e-4
    assert reached(compile_game(liars_dice(6)), "dcfr") < 2e-4


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 3)])
def test_solvers_begin_with_uniform_play(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    tree = compiled("leduc")
    state = init(tree, batch, dtype=dtype)
    assert torch.equal(last_policy(tree, state), uniform(tree, batch, dtype=dtype))
    assert torch.equal(average_policy(tree, state), uniform(tree, batch, dtype=dtype))
    assert (state.iteration, state.iteration.dtype) == (0, torch.int64)
    assert state.plan.shape == (len(tree.slot), *batch)
    after = step(tree, state)
    for before, x in zip(state, after):
        assert (x.dtype, x.shape) == (before.dtype, before.shape)


@pytest.mark.parametrize("variant", VARIANTS)
def test_policies_are_laws_over_legal_actions(variant: str) -> None:
    tree = compiled("goofspiel 3")
    state = run(tree, variant, 20)
    for policy in (average_policy(tree, state), last_policy(tree, state)):
        assert (policy >= 0).all()
        assert not policy[~tree.legal].any()
        torch.testing.assert_close(policy.sum(1), torch.ones(len(policy), dtype=torch.float64))
    starts = [0, len(tree.sides[0].infoset)]
    assert state.regret[starts].tolist() == [0, 0]
    assert state.policy[starts].tolist() == state.plan[starts].tolist() == [1, 1]


def scattered(tree: Tree, *batch: int, dtype: torch.dtype = torch.float64) -> State:
    """Solvers that have come to different places in three iterations, a fifth of their regrets at 0."""
    rng = torch.Generator().manual_seed(1)
    regret = torch.randn(len(tree.slot), *batch, generator=rng, dtype=dtype)
    regret = torch.where(torch.rand(regret.shape, generator=rng) < 0.2, 0, regret)
    fresh = init(tree, batch, dtype=dtype)
    policy = torch.cat(
        [sequence.match(side, regret[own].clamp(min=0)) for side, own in zip(tree.sides, sequence.bounds(tree))]
    )
    plan = torch.cat([sequence.plan(side, policy[own]) for side, own in zip(tree.sides, sequence.bounds(tree))])
    return State(regret, fresh.plan * 2, policy, plan, torch.tensor(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_lane_is_bit_for_bit_what_it_would_be_alone(variant: str, dtype: torch.dtype) -> None:
    tree = compiled("goofspiel 3")
    state = scattered(tree, 2, 3, dtype=dtype)
    together = run(tree, variant, 4, state)
    for i in range(2):
        for j in range(3):
            alone = run(tree, variant, 4, State(*(x[:, i, j] for x in state[:4]), state.iteration))
            for x, y in zip(together[:4], alone[:4]):
                assert same_bits(x[:, i, j].contiguous(), y)


def test_steps_map_over_the_last_dimension() -> None:
    tree = compiled("kuhn")
    state = scattered(tree, 3)
    dims = (-1, -1, -1, -1, None)
    for variant in VARIANTS:
        mapped = torch.func.vmap(lambda *x, v=variant: step(tree, State(*x), variant=v)[:4], in_dims=dims, out_dims=-1)
        assert all(map(torch.equal, mapped(*state), step(tree, state, variant=variant)[:4]))


def test_numbers_of_a_variant_may_differ_between_lanes() -> None:
    tree = compiled("kuhn")
    numbers = {"alpha": [0.5, 1.5, math.inf], "beta": [-math.inf, 0.0, 1.0], "gamma": [0.0, 1.0, 2.5]}
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()}
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        together = run(tree, Variant(**tensors), 10, init(tree, (3,), dtype=dtype))
        for lane in range(3):
            variant = Variant(**{name: values[lane] for name, values in numbers.items()})
            alone = run(tree, variant, 10, init(tree, dtype=dtype))
            for x, y in zip(together[:4], alone[:4]):
                torch.testing.assert_close(x[:, lane], y, rtol=tolerance, atol=tolerance)


def test_infinite_powers_are_the_limits_of_large_ones() -> None:
    """Positive regrets are kept whole from the second iteration on, and negative ones are forgotten."""
    tree = compiled("kuhn")
    limit, near = (run(tree, Variant(alpha=power, beta=-power), 10) for power in (math.inf, 1e3))
    torch.testing.assert_close(limit.regret, near.regret, rtol=1e-12, atol=1e-12)
    assert not run(tree, Variant(alpha=-math.inf, beta=math.inf), 10).policy.isnan().any()


def test_a_run_in_two_parts_is_bit_for_bit_the_run_in_one() -> None:
    tree = compiled("leduc")
    for variant in VARIANTS:
        whole = run(tree, variant, 6)
        half = run(tree, variant, 3)
        again = State(*(torch.tensor(x.tolist(), dtype=x.dtype) for x in half))  # by way of a file, as it were
        assert all(map(same_bits, run(tree, variant, 3, again), whole))


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_follows_float64(variant: str) -> None:
    tree = compiled("kuhn")
    single = init(move(tree, dtype=torch.float32), dtype=torch.float32)
    short = average_policy(tree, run(move(tree, dtype=torch.float32), variant, 40, single))
    assert short.dtype == torch.float32
    assert torch.equal(short, average_policy(tree, run(tree, variant, 40, init(tree, dtype=torch.float32))))
    torch.testing.assert_close(short.double(), average_policy(tree, run(tree, variant, 40)), rtol=0, atol=1e-3)


def test_a_name_of_no_variant_is_refused() -> None:
    tree = compiled("kuhn")
    with pytest.raises(ValueError, match="unknown variant 'cfr-plus': known are cfr, cfr_plus, linear_cfr, dcfr"):
        step(tree, init(tree), variant="cfr-plus")


# ---------------------------------------------------------------- every way to run


def lanes_first(tree: Tree, variant: str, *fields: Tensor) -> tuple[Tensor, ...]:
    """A step, with lanes in front, as the `variants` fixture has them, or none."""
    back = fields[0].ndim == 2
    state = State(*(x.movedim(0, -1) if back else x for x in fields), torch.tensor(3))
    after = step(tree, state, variant=variant)
    return tuple(x.movedim(-1, 0) if back else x for x in (*after[:4], average_policy(tree, after).flatten(0, 1)))


def fields(tree: Tree, *batch: int) -> tuple[Tensor, ...]:
    return tuple(x.movedim(-1, 0).contiguous() for x in scattered(tree, *batch)[:4])


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_agree_in_every_variant(variant: str, variants) -> None:
    tree = compiled("kuhn")
    variants(partial(lanes_first, tree, variant), *fields(tree, 3), traced=False)


@pytest.mark.slow
def test_a_step_can_be_traced(variants) -> None:
    tree = compile_game(goofspiel(2))  # of one level each: every level takes its time
    variants(partial(lanes_first, tree, "pcfr_plus"), *fields(tree, 3))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_agree_when_compiled(variant: str, variants) -> None:
    tree = compiled("kuhn")
    variants(partial(lanes_first, tree, variant), *fields(tree, 3), compiled=variant in ("dcfr", "pcfr_plus"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_are_pure(variant: str) -> None:
    tree = compiled("kuhn")
    check_pure(lambda *x: step(tree, State(*x), variant=variant), *scattered(tree, 2))
    check_pure(lambda *x: average_policy(tree, State(*x)), *scattered(tree, 2))
    check_pure(lambda *x: last_policy(tree, State(*x)), *scattered(tree, 2))
