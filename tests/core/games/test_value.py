"""Values, best responses and exploitability: by trying everything on small games, and OpenSpiel's on others."""

import math
from functools import partial

import pyspiel
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.core.games import (
    Tree,
    best_response,
    compile_game,
    expected_value,
    exploitability,
    uniform,
)
from armfold.shell.openspiel import to_tabular_policy
from tests.core.games.plain import best_value, compiled, grow, random_policy, random_rules, table_law, value
from tests.purity import check_pure

SEEDS = st.integers(0, 99)


def some_tree(seed: int) -> Tree:
    return compile_game(random_rules(seed, depth=4, branches=2))


# ---------------------------------------------------------------- against everything there is


@settings(max_examples=20)
@given(SEEDS)
def test_the_expected_value_is_the_average_over_histories(seed: int) -> None:
    tree = some_tree(seed)
    for policy in (uniform(tree), random_policy(tree, seed=seed)):
        want = value(grow(tree), table_law(tree, policy))
        assert float(expected_value(tree, policy)) == pytest.approx(want, abs=1e-12)


@settings(max_examples=20)
@given(SEEDS)
def test_a_best_response_beats_every_pure_strategy(seed: int) -> None:
    tree = some_tree(seed)
    policy = random_policy(tree, seed=seed)
    best = [best_value(tree, policy, player) for player in (0, 1)]
    assert float(exploitability(tree, policy)) == pytest.approx(sum(best) / 2, abs=1e-12)
    for player in (0, 1):
        response = best_response(tree, policy, player)
        assert float(response.value) == pytest.approx(best[player], abs=1e-12)
        won = float(expected_value(tree, response.policy))  # it is worth what it says
        assert (won if player == 0 else -won) == pytest.approx(best[player], abs=1e-12)
        mine = tree.player == player
        assert torch.equal(response.policy[~mine], policy[~mine])
        assert set(response.policy[mine].flatten().tolist()) <= {0.0, 1.0}
        assert torch.equal(response.policy[mine].sum(1), torch.ones(int(mine.sum()), dtype=torch.float64))
        assert not response.policy[~tree.legal].any()


def test_of_equal_actions_a_best_response_takes_the_first() -> None:
    tree = compiled("kuhn")
    free = tree.names.index("K")  # against a player who always folds, both of the king's actions win one
    policy = uniform(tree)
    policy[tree.player == 1] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert best_response(tree, policy, 0).policy[free].tolist() == [1.0, 0.0]
    policy[tree.player == 0] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert best_response(tree, policy, 1).policy[tree.names.index("Kp")].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["kuhn", "leduc", "goofspiel 4"])
def test_exploitability_is_that_of_openspiel(name: str) -> None:
    tree = compiled(name)
    game = pyspiel.load_game(tree.rules.openspiel)
    for policy in (uniform(tree), random_policy(tree)):
        table = to_tabular_policy(tree, policy)
        theirs = {key: list(enumerate(table.action_probability_array[row])) for key, row in table.state_lookup.items()}
        assert float(exploitability(tree, policy)) == pytest.approx(pyspiel.exploitability(game, theirs), abs=1e-12)
        won = pyspiel.expected_returns(game.new_initial_state(), pyspiel.TabularPolicy(theirs), -1, True)
        assert float(expected_value(tree, policy)) == pytest.approx(won[0], abs=1e-12)


# ---------------------------------------------------------------- known values


@pytest.mark.parametrize(("name", "want"), [("kuhn", 11 / 24), ("leduc", 2.373611)])
def test_exploitability_of_uniform_play(name: str, want: float) -> None:
    tree = compiled(name)
    assert float(exploitability(tree, uniform(tree))) == pytest.approx(want, abs=5e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1 / 3])
def test_the_equilibria_of_kuhn_poker(alpha: float) -> None:
    """Kuhn 1950: the first player bluffs with the jack at any rate up to 1/3, bets the king three times as often, and
    calls with the queen 1/3 more often than he bluffs; the second bluffs and calls one time in three."""
    bets = {
        "J": alpha,
        "Q": 0,
        "K": 3 * alpha,
        "Jpb": 0,
        "Qpb": alpha + 1 / 3,
        "Kpb": 1,
        "Jp": 1 / 3,
        "Qp": 0,
        "Kp": 1,
        "Jb": 0,
        "Qb": 1 / 3,
        "Kb": 1,
    }
    tree = compiled("kuhn")
    bet = torch.tensor([bets[name] for name in tree.names], dtype=torch.float64)
    policy = torch.stack((1 - bet, bet), 1)
    assert float(expected_value(tree, policy)) == pytest.approx(-1 / 18, abs=1e-15)
    assert float(exploitability(tree, policy)) == pytest.approx(0, abs=1e-15)
    assert [float(best_response(tree, policy, i).value) for i in (0, 1)] == pytest.approx([-1 / 18, 1 / 18], abs=1e-15)


# ---------------------------------------------------------------- lanes, dtypes, shapes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(0,), (3,), (2, 3)])
def test_lanes_are_what_each_would_be_alone(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    tree = compiled("goofspiel 3")
    policy = random_policy(tree, *batch, dtype=dtype)
    values, exploits = expected_value(tree, policy), exploitability(tree, policy)
    responses = [best_response(tree, policy, player) for player in (0, 1)]
    assert values.shape == exploits.shape == responses[0].value.shape == batch
    assert responses[0].policy.shape == policy.shape
    for x in (values, exploits, responses[0].value, responses[1].policy):
        assert x.dtype == dtype
    lanes = policy.flatten(2)
    for i in range(math.prod(batch)):
        alone = lanes[..., i]
        assert torch.equal(values.flatten()[i], expected_value(tree, alone))
        assert torch.equal(exploits.flatten()[i], exploitability(tree, alone))
        for player in (0, 1):
            got, want = responses[player], best_response(tree, alone, player)
            assert torch.equal(got.value.flatten()[i], want.value)
            assert torch.equal(got.policy.flatten(2)[..., i], want.policy)


def lanes_first(name: str, tree: Tree, policy: Tensor) -> Tensor:
    """A function with lanes in front, as `variants` has them, of a policy [B, I, A] or [I, A]."""
    lanes = policy.movedim(0, -1) if policy.ndim == 3 else policy
    if name == "best_response":
        response = best_response(tree, lanes, 1).policy
        return response.movedim(-1, 0) if policy.ndim == 3 else response
    return {"expected_value": expected_value, "exploitability": exploitability}[name](tree, lanes)


@pytest.mark.parametrize("name", ["expected_value", "exploitability", "best_response"])
def test_they_agree_in_every_variant(name: str, variants) -> None:
    variants(
        partial(lanes_first, name, compiled("kuhn")), random_policy(compiled("kuhn"), 3).movedim(-1, 0), traced=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["expected_value", "exploitability", "best_response"])
def test_they_agree_when_compiled(name: str, variants) -> None:
    variants(
        partial(lanes_first, name, compiled("kuhn")), random_policy(compiled("kuhn"), 3).movedim(-1, 0), compiled=True
    )


def test_they_map_over_the_last_dimension() -> None:
    tree = compiled("kuhn")
    policy = random_policy(tree, 4)
    for f in (expected_value, exploitability):
        mapped = torch.func.vmap(lambda p, f=f: f(tree, p), in_dims=-1, out_dims=-1)(policy)
        assert torch.equal(mapped, f(tree, policy))
    mapped = torch.func.vmap(lambda p: best_response(tree, p, 0), in_dims=-1, out_dims=-1)(policy)
    assert torch.equal(mapped.policy, best_response(tree, policy, 0).policy)


def test_they_are_pure() -> None:
    tree = compiled("kuhn")
    policy = random_policy(tree, 2)
    check_pure(lambda p: expected_value(tree, p), policy)
    check_pure(lambda p: exploitability(tree, p), policy)
    check_pure(lambda p: best_response(tree, p, 0), policy)


def test_gradients_reach_the_policy() -> None:
    tree = compiled("kuhn")
    policy = uniform(tree).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: expected_value(tree, p), policy)
    assert torch.autograd.grad(expected_value(tree, policy), policy)[0].count_nonzero() > 12


@pytest.mark.parametrize("batch", [(), (3,), (2, 0)])
def test_uniform_policies(batch: tuple[int, ...]) -> None:
    tree = compiled("leduc")
    policy = uniform(tree, batch, dtype=torch.float32)
    assert policy.shape == (936, 3, *batch)
    assert policy.dtype == torch.float32
    flat = policy.reshape(936, 3, -1) if policy.numel() else policy.flatten(2)
    for lane in flat.unbind(2):
        assert torch.equal(lane > 0, tree.legal)
        torch.testing.assert_close(lane.sum(1), torch.ones(936))


@pytest.mark.parametrize("f", [expected_value, exploitability, lambda tree, policy: best_response(tree, policy, 0)])
def test_policies_of_another_shape_are_refused(f) -> None:
    tree = compiled("kuhn")
    with pytest.raises(ShapeError, match=r"policy must be floating of shape \(12, 2, '\*B'\), got .* \(12, 3\)"):
        f(tree, torch.ones(12, 3))
    with pytest.raises(ShapeError, match=r"policy must be floating .*, got torch.int64 \(12, 2\)"):
        f(tree, torch.ones(12, 2, dtype=torch.int64))


def test_a_third_player_is_refused() -> None:
    with pytest.raises(ValueError, match="player must be 0 or 1, got 2"):
        best_response(compiled("kuhn"), uniform(compiled("kuhn")), 2)
