"""ARMAC on tables: against plain recursions, the theory of mixtures, what values are told, and every way to run."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.games import compile_game, expected_value, exploitability, sequence, solve, tabular, uniform
from armfold.core.games.infosets import Tables, tables
from armfold.core.games.learners import VARIANTS, Variant
from armfold.core.games.sums import row_sum
from armfold.core.games.tabular import State, average_policy, init, last_policy, step
from armfold.core.regret import BINS, meta, scheduler_init
from tests.core.games.plain import Solver, compiled, random_rules
from tests.purity import check_pure, same_bits

CFR = {"floor": -math.inf, "gamma": 0.0}


def keys(lanes: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), lanes)


def run(
    game: Tables, variant: str | Variant, iterations: int, state: State | None = None, rng: Tensor | None = None
) -> State:
    """Solvers after some iterations more, each with keys of its own."""
    state = init(game, rng.shape[:-1] if rng is not None else ()) if state is None else state
    for t in range(int(state.iteration), int(state.iteration) + iterations):
        state, _ = step(game, state, None if rng is None else random.jump(rng, t), variant=variant)
    return state


def copied(x: Any) -> Any:
    """A tensor by way of a file, as it were."""
    return torch.tensor(x.tolist(), dtype=x.dtype) if isinstance(x, Tensor) else x


def leaves(tree: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(tree) if x is not None]


def network(game: Tables, rng: Tensor) -> Any:
    return scheduler_init(rng, tabular.scheduler_features(game), hidden=(8,), bins=BINS)


# ---------------------------------------------------------------- against plain recursions


@pytest.mark.parametrize(("variant", "numbers"), [("cfr", CFR), ("cfr_plus", {})])
@pytest.mark.parametrize("name", ["kuhn", "goofspiel 3"])
def test_lambda_0_is_counterfactual_regret_minimisation(name: str, variant: str, numbers: dict[str, float]) -> None:
    tree = compiled(name)
    solver, state = solve.init(tree), run(tables(tree), Variant(start=0.0, **numbers), 12)
    for _ in range(12):
        solver = solve.step(tree, solver, variant=variant)
    torch.testing.assert_close(average_policy(tables(tree), state), solve.average_policy(tree, solver))
    torch.testing.assert_close(last_policy(state), solve.last_policy(tree, solver))


class Hedge(Solver):
    """The actor alone, in plain Python."""

    def _settle(self, name: str, gain: list[float]) -> None:
        spreads = self.__dict__.setdefault("spreads", dict.fromkeys(self.regret, 0.0))
        spreads[name] += (max(gain) - min(gain)) ** 2  # values lie as far apart as regrets
        regret, root = self.regret[name], math.sqrt(spreads[name]) or math.inf
        weight = [math.exp(2 * (r - max(regret)) / root) for r in regret]
        self.policy[name] = [w / sum(weight) for w in weight]


@pytest.mark.parametrize(("actor", "plain"), [("hedge", Hedge), ("regret", Solver)])
@pytest.mark.parametrize("name", ["kuhn", "goofspiel 3"])
def test_lambda_1_is_the_actor_alone(name: str, actor: Any, plain: type[Solver]) -> None:
    tree = compiled(name)
    reference, state = plain(tree, gamma=1.0), run(tables(tree), Variant(start=1.0, actor=actor), 15)
    for _ in range(15):
        reference.step()
    torch.testing.assert_close(average_policy(tables(tree), state), reference.average_policy(), rtol=0, atol=1e-9)
    torch.testing.assert_close(last_policy(state), reference.table(reference.policy), rtol=0, atol=1e-7)


@settings(max_examples=6)
@given(st.integers(0, 99))
def test_any_game_will_do(seed: int) -> None:
    tree = compile_game(random_rules(seed))
    solver, state = solve.init(tree), run(tables(tree), Variant(start=0.0), 5)
    for _ in range(5):
        solver = solve.step(tree, solver, variant="cfr_plus")
    torch.testing.assert_close(average_policy(tables(tree), state), solve.average_policy(tree, solver))
    mixed = last_policy(run(tables(tree), "meta", 5))
    torch.testing.assert_close(mixed.sum(1), torch.ones(len(mixed), dtype=torch.float64))
    assert not mixed[~tree.legal].any()


# ---------------------------------------------------------------- convergence


def test_every_lambda_converges_on_kuhn() -> None:
    """Lanes of one batch: fixed, random, meta and scheduled lambdas, with two regret learners as well."""
    game = tables(compiled("kuhn"))
    zero = torch.zeros(8, dtype=torch.float64)
    variant = Variant(
        start=torch.cat([torch.linspace(0, 1, 5), torch.tensor([0.0, 0.0, 1.0])]).double(),
        rate=zero + torch.tensor([0.0] * 7 + [0.1]),
        random=zero + torch.tensor([0.0] * 5 + [1.0, 0.0, 0.0]),
        meta=zero + torch.tensor([0.0] * 6 + [1.0, 0.0]),
    )
    for actor in ("hedge", "regret"):
        state = run(game, variant._replace(actor=actor), 100, rng=keys(8))
        average = average_policy(game, state)
        assert (exploitability(game.tree, average) < 0.01).all()
        torch.testing.assert_close(expected_value(game.tree, average), zero - 1 / 18, rtol=0, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leduc", "goofspiel 4"])
def test_meta_converges_on_larger_games(name: str) -> None:
    game = tables(compiled(name))
    state = run(game, "meta", 300)
    assert float(exploitability(game.tree, average_policy(game, state))) < 0.01


# ---------------------------------------------------------------- theory


def follow(game: Tables, variant: Variant, iterations: int, rng: Tensor) -> dict[str, Tensor]:
    """The largest regret at each infoset, [I, *B], of the mixture, both learners and lambda; and what bounds them."""
    state, lam = init(game, rng.shape[:-1]), torch.tensor(BINS, dtype=torch.float64)[:, None]
    legal = game.tree.legal.unsqueeze(-1)
    names = ("actor", "matched", "policy", "meta", "squares", "meta squares")
    totals = {name: torch.zeros((), dtype=torch.float64) for name in names}
    for t in range(iterations):
        before = {x: torch.cat([getattr(who, x) for who in state.learners]) for x in ("actor", "matched", "policy")}
        share = torch.cat([who.lam for who in state.learners])
        state, stats = step(game, state, random.jump(rng, t), variant=variant)
        for name, policy in before.items():
            gain = torch.where(legal, stats.value - (policy * stats.value).sum(1, keepdim=True), -torch.inf)
            totals[name] = totals[name] + gain
        gap = ((before["actor"] - before["matched"]) * stats.value).sum(1, keepdim=True)
        torch.testing.assert_close(gap.squeeze(1), stats.advantage, rtol=0, atol=1e-12)
        beyond = (lam - share.unsqueeze(1)) * gap
        gain = torch.where(legal, stats.value - (before["matched"] * stats.value).sum(1, keepdim=True), 0)
        added = {"meta": beyond, "squares": (gain**2).sum(1), "meta squares": (beyond**2).sum(1)}
        totals.update({name: totals[name] + x for name, x in added.items()})
    for name, kept in (("actor", "actor_regret"), *([("matched", "regret")] if variant.floor else [])):
        ours = torch.cat([getattr(who, kept) for who in state.learners])
        torch.testing.assert_close(ours, torch.where(legal, totals[name], 0))  # of its own play, and no other's
    return {name: total if "squares" in name else total.amax(1) for name, total in totals.items()}


@settings(max_examples=5)
@given(st.integers(0, 99), st.sampled_from(["hedge", "regret"]), st.booleans())
def test_regret_of_the_mixture_is_bounded_by_its_parts(seed: int, actor: Any, floored: bool) -> None:
    """Surely, at every infoset and for every lambda: regret(mixture) <= regret(lambda) + min(regrets of both learners),
    for the bins have both ends. The regret learner's stays below Blackwell's bound, the root of all squared gains; so
    does lambda's where the meta-learner chooses it, in the first lane: what is mixed so has no regret in the end."""
    game = tables(compiled("kuhn"))
    least = 0.0 if floored else -math.inf
    meta = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    variant = Variant(
        start=0.3, meta=meta, random=0.5 * (1 - meta), actor=actor, floor=least, meta_floor=least, noise=0.5
    )
    regret = follow(game, variant, 12, keys(3, seed))
    parts = regret["meta"] + torch.minimum(regret["actor"], regret["matched"])
    assert (regret["policy"] <= parts + 1e-12).all()
    assert (regret["matched"] <= regret["squares"].sqrt() + 1e-12).all()
    assert (regret["meta"] <= regret["meta squares"].sqrt() + 1e-12)[:, 0].all()
    assert regret["policy"].amax() > 0


def test_regret_with_linear_weights_is_bounded_where_it_is_floored() -> None:
    """Surely: that of the mixture is at most the time times what regret learner and meta-learner keep."""
    game, total = tables(compiled("kuhn")), torch.zeros((), dtype=torch.float64)
    state, rng, iterations = init(game, (3,)), keys(3), 12
    for t in range(iterations):
        policy = last_policy(state)
        state, stats = step(game, state, random.jump(rng, t), variant=Variant(meta=1.0, noise=0.5))
        total = total + (t + 1) * (stats.value - (policy * stats.value).sum(1, keepdim=True))
    regret = torch.where(game.tree.legal.unsqueeze(-1), total, -torch.inf).amax(1)
    kept = [who.regret.amax(1) + who.meta.amax(1)[own.key] for who, own in zip(state.learners, game.players)]
    assert (regret <= iterations * torch.cat(kept) + 1e-12).all()
    assert regret.amax() > 0


def test_utilities_tell_lambdas_apart() -> None:
    """Where actor and regret learner differ, so does what bins earn, and the meta-learner takes a side."""
    game = tables(compiled("kuhn"))
    state = run(game, Variant(meta=1.0, meta_floor=-math.inf), 20)
    for learners in state.learners:
        assert (learners.meta.abs().amax(1) > 1e-3).all()
        assert ((learners.said - 0.5).abs() > 0.1).any()


def test_meta_learner_is_that_of_stores_of_states() -> None:
    """`regret.meta` learns at the same infosets, one state each, with all that it smooths and clips turned off."""
    tree = compiled("kuhn")
    for level in (None, 0):
        game = tables(tree, level=level)
        state = init(game)
        own = game.players[0]
        count = int(own.key.max()) + 1
        store = meta.meta_regret_init(random.key(0), capacity=count, dtype=torch.float64)
        off = {"decay": 0.0, "util_clip": math.inf, "regret_clip": math.inf, "smoothing_factor": 0.0}
        for _ in range(10):
            state, stats = step(game, state, variant="meta")
            gap = torch.zeros(count, dtype=torch.float64).index_add(0, own.key, stats.advantage[: len(own.legal)])
            utility = gap[:, None] * torch.tensor(BINS, dtype=torch.float64)
            store = meta.meta_regret_step(store, torch.arange(count), utility, **off)
        torch.testing.assert_close(store.regret, state.learners[0].meta)
        probs = meta.meta_regret_probs(store, torch.arange(count), smoothing_factor=0.0)
        torch.testing.assert_close((probs * torch.tensor(BINS, dtype=torch.float64)).sum(-1), state.learners[0].said)


# ---------------------------------------------------------------- lambda


def test_lambda_follows_what_it_is_told() -> None:
    game = tables(compiled("kuhn"))
    variant = Variant(start=torch.tensor([0.25, 1.0]), end=torch.tensor([0.0, 0.5]), rate=torch.tensor([0.0, 2.0]))
    state = run(game, variant, 3, rng=keys(2))
    for learners in state.learners:
        assert (learners.lam[:, 0] == 0.25).all()
        torch.testing.assert_close(learners.lam[:, 1], torch.full((6,), 0.5 + 0.5 / 7, dtype=torch.float64))
        torch.testing.assert_close(
            learners.policy, learners.lam[:, None] * learners.actor + (1 - learners.lam[:, None]) * learners.matched
        )


@pytest.mark.parametrize("variant", [*VARIANTS.values(), Variant(meta=0.5, random=0.5), Variant(learned=0.3, meta=0.7)])
def test_lambda_stays_in_its_range(variant: Variant) -> None:
    game, rng = tables(compiled("kuhn")), keys(3)
    state = init(game, (3,), params=network(game, rng))
    state = run(game, variant._replace(noise=1.0), 10, state, rng)
    lam = torch.cat([learners.lam for learners in state.learners])
    assert ((lam >= 0) & (lam <= 1)).all()
    assert variant.random == 0 or len(lam.unique()) == lam.numel()  # drawn for each infoset and lane


def test_a_scheduler_comes_near_the_meta_learner() -> None:
    """It learns whether lambda is its own or not, and changes nothing where it is not."""
    game, rng = tables(compiled("kuhn")), keys(2)
    state = init(game, (2,), params=network(game, rng))
    losses = []
    for _ in range(50):
        state, stats = step(game, state, variant="meta")
        losses.append(stats.kl)
    assert (torch.stack(losses[-10:]).mean(0) < 0.8 * torch.stack(losses[:10]).mean(0)).all()
    alone = run(game, "meta", 50, init(game, (2,)))
    assert all(map(same_bits, pytree.tree_leaves(state.learners), pytree.tree_leaves(alone.learners)))


# ---------------------------------------------------------------- what values are told


def one_step(variant: Variant, lanes: int) -> tuple[Tables, State, Tensor]:
    """A game, a state that all lanes share, and the first player's values in its next step, [I_0, A, lanes]."""
    game = tables(compiled("kuhn"))
    state = run(game, "meta", 4)
    spread = pytree.tree_map(lambda x: x.unsqueeze(-1).expand(*x.shape, lanes), state.learners)
    shared = state._replace(learners=spread, average=state.average.unsqueeze(-1).expand(-1, lanes))
    value = step(game, shared, keys(lanes, 5), variant=variant)[1].value
    return game, state, value[: len(game.players[0].legal)]


def test_errors_have_the_deviation_that_was_asked_for() -> None:
    """Of 4000 lanes: means within 5 standard errors, variances within 5 of theirs; error rate below 2e-5."""
    game, state, value = one_step(Variant(meta=1.0, noise=2.0), 4000)
    exact = step(game, state)[1].value[: len(value)]
    other = game.players[1]
    plan = sequence.plan(other.side, sequence.from_table(game.tree, last_policy(state))[sequence.bounds(game.tree)[1]])
    deviation = 2.0 * row_sum(game.players[0].reach, plan).unsqueeze(1).expand(exact.shape)
    assert (deviation > 0).all()
    assert ((value.mean(-1) - exact).abs() <= 5 * deviation / math.sqrt(4000)).all()
    assert ((value.var(-1) / deviation**2 - 1).abs() <= 5 * math.sqrt(2 / 4000)).all()


def test_sampled_values_are_exact_on_average() -> None:
    """Of 4000 lanes with two traversals each: means within 5 standard errors; error rate below 1e-5."""
    game, state, value = one_step(Variant(meta=1.0, traversals=2), 4000)
    exact = step(game, state)[1].value[: len(value)]
    error = value.std(-1) / math.sqrt(4000)
    assert (error > 0).any()
    assert ((value.mean(-1) - exact).abs() <= 5 * error + 1e-12).all()


# ---------------------------------------------------------------- lanes, states, every way to run


DRAWN = Variant(meta=0.5, random=0.25, start=0.2, noise=0.5)


@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_solvers_begin_with_uniform_play(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    game = tables(compiled("kuhn"))
    state = init(game, batch, dtype=dtype)
    assert torch.equal(last_policy(state), uniform(game.tree, batch, dtype=dtype))
    assert torch.equal(average_policy(game, state), uniform(game.tree, batch, dtype=dtype))
    after, _ = step(game, state, torch.zeros((*batch, 2), dtype=torch.int64), variant=DRAWN)
    for before, x in zip(leaves(state), leaves(after), strict=True):
        assert (x.dtype, x.shape) == (before.dtype, before.shape)


@pytest.mark.parametrize("variant", [DRAWN, Variant(meta=1.0, traversals=3), Variant(learned=1.0, noise=1.0)])
def test_a_lane_is_what_it_would_be_alone(variant: Variant) -> None:
    game, rng = tables(compiled("kuhn")), keys(6).reshape(2, 3, 2)
    params = network(game, rng) if variant.learned else None
    together = run(game, variant, 4, init(game, (2, 3), params=params), rng)
    for i, j in ((0, 0), (1, 2)):
        single = None if params is None else pytree.tree_map(lambda x, i=i, j=j: x[i, j], params)
        alone = run(game, variant, 4, init(game, params=single), rng[i, j])
        for x, y in zip(pytree.tree_leaves(together.learners), pytree.tree_leaves(alone.learners), strict=True):
            torch.testing.assert_close(x[..., i, j], y, rtol=1e-12 if params is None else 1e-5, atol=1e-6)


def test_a_run_in_two_parts_is_bit_for_bit_the_run_in_one() -> None:
    game, rng = tables(compiled("kuhn")), keys(2)
    for variant, params in ((DRAWN, None), (Variant(learned=1.0, noise=1.0), network(game, rng))):
        start = init(game, (2,), params=params)
        half = run(game, variant, 3, start, rng)
        again = pytree.tree_map(copied, half)
        whole, parts = run(game, variant, 6, start, rng), run(game, variant, 3, again, rng)
        assert all(map(same_bits, leaves(whole), leaves(parts)))


def lanes_first(game: Tables, variant: Variant, *leaves: Tensor) -> Any:
    """Two steps from the beginning, with lanes in front or none, as the `variants` fixture has them."""
    rng, lead = leaves[0], leaves[0].ndim == 2
    params = pytree.tree_unflatten(list(leaves[1:]), pytree.tree_flatten(network(game, rng))[1]) if leaves[1:] else None
    state = init(game, rng.shape[:-1], params=params)
    for t in range(2):
        state, stats = step(game, state, random.jump(rng, t), variant=variant)
    kept = (*state.learners, state.average, stats.value, average_policy(game, state))
    return pytree.tree_map(lambda x: x.movedim(-1, 0) if lead else x, kept)


@pytest.mark.parametrize("variant", [DRAWN, Variant(actor="regret", meta=1.0, **CFR)])
def test_steps_agree_in_every_variant(variant: Variant, variants) -> None:
    variants(partial(lanes_first, tables(compiled("kuhn")), variant), keys(2), atol=1e-12, traced=False)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [DRAWN, Variant(learned=1.0, noise=1.0)])
def test_steps_agree_when_traced(variant: Variant, variants) -> None:
    game, rng = tables(compiled("kuhn")), keys(2)
    leaves = pytree.tree_leaves(network(game, rng)) if variant.learned else []
    variants(partial(lanes_first, game, variant), rng, *leaves, atol=1e-5 if leaves else 1e-12)


@pytest.mark.parametrize("variant", [DRAWN, Variant(learned=1.0, traversals=1)])
def test_steps_are_pure(variant: Variant) -> None:
    game, rng = tables(compiled("kuhn")), keys(2)
    state = run(game, variant, 2, init(game, (2,), params=network(game, rng) if variant.learned else None), rng)
    check_pure(lambda state, rng: step(game, state, rng, variant=variant), state, rng)
    check_pure(partial(average_policy, game), state)
    check_pure(last_policy, state)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("metta", "unknown variant 'metta': known are fixed, random, meta, learned"),
        (Variant(start=1.5), r"start must be finite and in \[0.0, 1.0\], got 1.5"),
        (Variant(random=1, meta=1), "random, meta and learned must sum to 1 at most, got 1, 1, 0.0"),
        (Variant(random=0.6, meta=0.5, learned=torch.ones(3)), r"must sum to 1 at most, got 0.6, 0.5, tensor"),
        (Variant(meta=-0.1), r"meta must be finite and in \[0.0, 1.0\], got -0.1"),
        (Variant(eta=0.0), r"eta must be finite and in \(0.0, inf\), got 0.0"),
        (Variant(floor=1.0), r"floor must be finite and in \(-inf, 0.0\], got 1.0"),
        (Variant(noise=math.nan), "noise must be finite"),
        (Variant(traversals=-1), "traversals must be an integer >= 0, got -1"),
        (Variant(actor="hedgehog"), 'actor must be "hedge" or "regret", got \'hedgehog\''),  # type: ignore[arg-type]
        (Variant(noise=torch.zeros(4)), r"noise must have shape \(3,\), got \(4,\)"),
        (Variant(noise=1.0), "rng must be keys"),
        ("random", "rng must be keys"),
        ("learned", "params of a scheduler must be given to init for a variant with learned, got None"),
    ],
)
def test_bad_variants_are_refused(variant: Any, message: str) -> None:
    game = tables(compiled("kuhn"))
    with pytest.raises(ValueError, match=message):
        step(game, init(game, (3,)), variant=variant)


def test_bins_are_those_of_init() -> None:
    game = tables(compiled("kuhn"))
    state = run(game, "meta", 10, init(game, bins=(0.25, 0.75)))
    for learners in state.learners:
        assert ((learners.said >= 0.25) & (learners.said <= 0.75)).all()
        assert ((learners.said - 0.5).abs() > 0.2).any()
    for bins in (torch.tensor([0.25, 0.75]), [0.25, 0.75]):
        again = run(game, "meta", 10, init(game, bins=bins))
        assert all(map(same_bits, leaves(again), leaves(state)))
    check_pure(lambda bins: init(game, bins=bins), torch.tensor([0.25, 0.75], dtype=torch.float64))


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        ((1.0, 0.0), "bins must be sorted"),
        ((0.9, 0.3, 0.2, 0.1, 5.0), r"bins must be numbers in \[0, 1\]"),
        (0.5, "bins must be numbers in .* got 0.5"),
        (torch.tensor(0.5), r"bins must have shape .* got \(\)"),
        (torch.tensor([[0.0, 1.0]] * 3), r"bins must have shape \(K,\), got \(3, 2\)"),
    ],
)
def test_other_bins_are_refused(bins: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        init(tables(compiled("kuhn")), (3,), bins=bins)


def test_keys_of_other_lanes_are_refused() -> None:
    game = tables(compiled("kuhn"))
    with pytest.raises(ShapeError, match="rng must have shape"):
        step(game, init(game, (3,)), keys(4))
