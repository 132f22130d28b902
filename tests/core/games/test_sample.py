"""External sampling: what traversals come to, that their means are exact, and that averages find the equilibrium.

Statistical tests reject with probability 1e-6 each (fewer than 200, fixed keys).
"""

import math
from functools import partial
from typing import NamedTuple

import pyspiel
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.games import END, Tree, compile_game, exploitability, move, sample, sequence, uniform
from armfold.shell.openspiel import from_policy
from tests.core.games.plain import compiled, random_policy, random_rules
from tests.core.games.test_play import wheel
from tests.purity import check_pure, same_bits

SEEDS = st.integers(0, 99)


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def run(tree: Tree, state: sample.State, iterations: int, traversals: int, *, seed: int = 0) -> sample.State:
    paths, rng = sample.paths(tree), keys(traversals, *state.regret.shape[1:], seed=seed)
    for _ in range(iterations):
        state = sample.step(tree, paths, state, random.jump(rng, state.iteration))
    return state


def exact(tree: Tree, policy: Tensor, player: int) -> sequence.Values:
    """What `player` can expect of `policy` [S] against the other's."""
    own, other = sequence.bounds(tree)[player], sequence.bounds(tree)[1 - player]
    plan = sequence.plan(tree.sides[1 - player], policy[other])
    return sequence.values(tree.sides[player], policy[own], plan)


def same(x: sample.State, y: sample.State) -> bool:
    return all(same_bits(a, b) for a, b in zip(x, y, strict=True))


# ---------------------------------------------------------------- one traversal


class Textbook(NamedTuple):
    """What a traversal told."""

    regrets: dict[int, float]  # of each of the player's sequences that it tried
    met: dict[int, int]  # how often it came to each of the other's infosets


def textbook(tree: Tree, policy: list[float], visited: set[int], player: int) -> Textbook:
    """A traversal of `player`, by plain recursion over the histories that it came to."""
    _, _, turn, infoset, first, branches, _, _, payoff, done = (x.tolist() for x in tree.histories)
    regrets: dict[int, float] = {}
    met: dict[int, int] = {}

    def value(h: int) -> float:
        followed = [child for child in range(first[h], first[h] + branches[h]) if child in visited]
        assert len(followed) == (branches[h] if turn[h] == player else min(branches[h], 1))
        if turn[h] == END:
            return payoff[h] * (1 if player == 0 else -1)
        values = [value(child) for child in followed]
        if turn[h] != player:
            if turn[h] == 1 - player:
                met[infoset[h]] = met.get(infoset[h], 0) + 1
            return values[0]
        reached = [done[child][player] for child in followed]
        mean = sum(policy[s] * v for s, v in zip(reached, values))
        for s, v in zip(reached, values):
            assert s not in regrets, "an infoset of his own was met twice"
            regrets[s] = v - mean
        return mean

    value(0)
    return Textbook(regrets, met)


def check_traversals(tree: Tree, policy: Tensor, traversals: int, seed: int) -> None:
    table, bounds = sequence.from_table(tree, policy), sequence.bounds(tree)
    plan = torch.cat([sequence.plan(side, table[own]) for side, own in zip(tree.sides, bounds)])
    for player, depths in enumerate(sample.paths(tree)):
        rng = keys(traversals, seed=seed)
        visited = torch.cat(sample.traverse(tree, depths, table, rng, player=player))
        drawn = tree.histories.sequence[visited[visited >= 0], 1 - player]
        assert (plan[drawn] > 0).all()  # nothing that is never played
        for n in range(traversals):
            came = visited[:, n][visited[:, n] >= 0].tolist()
            assert len(set(came)) == len(came)
            want = textbook(tree, table.tolist(), set(came), player)
            value, visits = sample.estimate(tree, depths, table, rng[n : n + 1], player=player)
            regrets = sequence.regrets(tree.sides[player], value).tolist()
            sequences = range(bounds[player].start, bounds[player].stop)
            assert regrets == pytest.approx([want.regrets.get(s, 0.0) for s in sequences], abs=1e-12)
            assert visits.tolist() == [want.met.get(i, 0) for i in range(len(visits))]


@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 4", "goofspiel 3"])
def test_a_traversal_is_the_one_of_the_textbook(name: str) -> None:
    check_traversals(compiled(name), random_policy(compiled(name)), traversals=3, seed=0)


@settings(max_examples=10)
@given(SEEDS)
def test_traversals_of_games_of_any_shape_are_those_of_the_textbook(seed: int) -> None:
    tree = compile_game(random_rules(seed))
    check_traversals(tree, random_policy(tree, seed=seed), traversals=3, seed=seed)


@pytest.mark.parametrize("name", ["kuhn", "leduc", "goofspiel 3", "random"])
def test_means_of_sampled_regrets_are_exact(name: str) -> None:
    tree = compile_game(random_rules(3)) if name == "random" else compiled(name)
    lanes = 1000
    policy = sequence.from_table(tree, random_policy(tree))
    signs = 2.0 * random.bernoulli(random.key(5), 0.5, (9, len(policy))) - 1
    for player, depths in enumerate(sample.paths(tree)):
        side, own = tree.sides[player], sequence.bounds(tree)[player]
        table = policy.unsqueeze(1).expand(-1, lanes)
        value, visits = sample.estimate(tree, depths, table, keys(1, lanes, seed=player), player=player)
        want = exact(tree, policy, player)
        # Sums of regrets with random signs: of many terms, so that means of them are normal.
        view = signs[:, own].double()
        got = torch.cat([value.root.unsqueeze(0), view @ sequence.regrets(side, value)])
        known = torch.cat([want.root.unsqueeze(0), view @ sequence.regrets(side, want)])
        error = (got.mean(1) - known).abs() / (got.std(1) / math.sqrt(lanes)).clamp(min=1e-12)
        assert (error < stats.norm.isf(0.5e-6)).all()
        assert visits[tree.player == player].count_nonzero() == 0
        if name == "leduc":
            assert float(got.std(1).min()) > 0


def test_sums_over_traversals_are_sums_of_single_ones() -> None:
    tree = compiled("leduc")
    policy = sequence.from_table(tree, random_policy(tree))
    depths = sample.paths(tree)[1]
    together, visits = sample.estimate(tree, depths, policy, keys(20), player=1)
    alone, seen = sample.estimate(tree, depths, policy.unsqueeze(1).expand(-1, 20), keys(1, 20), player=1)
    assert torch.equal(visits, seen.sum(1))
    for x, y in zip(together, alone, strict=True):
        torch.testing.assert_close(x, y.sum(-1))


@pytest.mark.parametrize("outcomes", [32, 33, 34, 100])
def test_a_wide_turn_of_chance_is_drawn_by_its_probabilities(outcomes: int) -> None:
    tree = compile_game(wheel(outcomes))
    policy, depths = sequence.from_table(tree, uniform(tree)), sample.paths(tree)[1]
    drawn = tree.histories.action[sample.traverse(tree, depths, policy, keys(5000), player=1)[1]]
    counts = torch.bincount(drawn.flatten(), minlength=outcomes)
    assert stats.chisquare(counts.numpy(), (5000 * tree.histories.probability[1 : outcomes + 1]).numpy()).pvalue > 1e-6


# ---------------------------------------------------------------- iterations


def test_one_iteration_of_one_traversal_by_hand() -> None:
    """The first player's traversal adds his regrets, and what the second plays where it came; then the second's."""
    tree = compiled("kuhn")
    state = sample.step(tree, sample.paths(tree), sample.init(tree), keys(1))
    policy = sequence.from_table(tree, uniform(tree))
    value, visits = sample.estimate(tree, sample.paths(tree)[0], policy, keys(1), player=0)
    first, second = sequence.bounds(tree)
    assert torch.equal(state.regret[first], sequence.regrets(tree.sides[0], value))
    seen = visits[tree.slot[second][1:] // 2]
    assert torch.equal(state.average[second][1:], seen * 0.5)
    assert (state.average[first.start], state.average[second.start], int(state.iteration)) == (0, 0, 1)
    assert int(visits.sum()) == 2  # after a pass and after a bet
    assert int(seen.count_nonzero()) == 4


def test_players_may_take_turns() -> None:
    tree, paths = compiled("leduc"), sample.paths(compiled("leduc"))
    start = run(tree, sample.init(tree), 3, 16)
    both = sample.step(tree, paths, start, keys(16, seed=9))
    first = sample.step(tree, paths, start, keys(16, seed=9), players=[0])
    second = sample.step(tree, paths, first, keys(16, seed=9), players=[1])
    assert same(second._replace(iteration=both.iteration), both)
    assert torch.equal(first.regret[sequence.bounds(tree)[1]], start.regret[sequence.bounds(tree)[1]])


def test_a_run_that_is_split_goes_on_bit_for_bit() -> None:
    tree = compiled("leduc")
    whole = run(tree, sample.init(tree), 10, 16)
    half = sample.State(*(x.clone() for x in run(tree, sample.init(tree), 4, 16)))
    assert same(run(tree, half, 6, 16), whole)
    assert not same(run(tree, sample.init(tree), 10, 16, seed=1), whole)


@pytest.mark.parametrize("batch", [(3,), (2, 2), (1,)])
def test_solvers_in_lockstep_are_solvers_alone(batch: tuple[int, ...]) -> None:
    tree, paths = compiled("kuhn"), sample.paths(compiled("kuhn"))
    rng = keys(8, *batch)
    state = sample.init(tree, batch)
    alone = [sample.init(tree) for _ in range(math.prod(batch))]
    for t in range(5):
        state = sample.step(tree, paths, state, random.jump(rng, t))
        own = random.jump(rng, t).reshape(8, -1, 2)
        alone = [sample.step(tree, paths, one, own[:, i]) for i, one in enumerate(alone)]
    for i, one in enumerate(alone):
        for name in ("regret", "average"):
            lane = getattr(state, name).reshape(len(tree.slot), -1)[:, i].contiguous()
            assert same_bits(lane, getattr(one, name))
    policy = sample.average_policy(tree, state)
    assert policy.shape == (*tree.legal.shape, *batch)
    torch.testing.assert_close(policy.reshape(*tree.legal.shape, -1)[..., 0], sample.average_policy(tree, alone[0]))


def test_step_agrees_with_vmap_of_itself() -> None:
    tree, paths = compiled("kuhn"), sample.paths(compiled("kuhn"))
    state = sample.step(tree, paths, sample.init(tree, (3,)), keys(8, 3))

    def step(regret: Tensor, average: Tensor, rng: Tensor) -> tuple[Tensor, Tensor]:
        after = sample.step(tree, paths, sample.State(regret, average, state.iteration), rng)
        return after.regret, after.average

    rng = keys(8, 3, seed=4)
    mapped = torch.func.vmap(step, in_dims=(-1, -1, 1), out_dims=-1)(state.regret, state.average, rng)
    for got, want in zip(mapped, sample.step(tree, paths, state, rng)):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


def test_no_traversals_and_no_solvers_change_nothing() -> None:
    tree, paths = compiled("kuhn"), sample.paths(compiled("kuhn"))
    state = run(tree, sample.init(tree), 2, 8)
    after = sample.step(tree, paths, state, keys(0))
    assert same(after._replace(iteration=state.iteration), state)
    none = sample.step(tree, paths, sample.init(tree, (0,)), torch.zeros(8, 0, 2, dtype=torch.int64))
    assert none.regret.shape == (len(tree.slot), 0)


def test_float32_states_stay_float32() -> None:
    tree = compiled("kuhn")
    for game in (tree, move(tree, dtype=torch.float32)):
        state = run(game, sample.init(game, dtype=torch.float32), 3, 8)
        assert (state.regret.dtype, state.average.dtype) == (torch.float32, torch.float32)
        assert sample.average_policy(game, state).dtype == torch.float32


def test_policies_are_laws() -> None:
    tree = compiled("leduc")
    state = run(tree, sample.init(tree), 3, 16)
    for policy in (sample.average_policy(tree, state), sample.last_policy(tree, state)):
        torch.testing.assert_close(policy.sum(1), torch.ones(len(policy), dtype=torch.float64))
        assert not policy[~tree.legal].any()
    torch.testing.assert_close(sample.average_policy(tree, sample.init(tree)), uniform(tree))


def test_functions_are_pure() -> None:
    tree, paths = compiled("leduc"), sample.paths(compiled("leduc"))
    state = check_pure(partial(sample.step, tree, paths), sample.init(tree), keys(8))
    check_pure(partial(sample.step, tree, paths), state, keys(8, seed=1))
    policy = sequence.from_table(tree, uniform(tree))
    check_pure(partial(sample.traverse, tree, paths[0], player=0), policy, keys(8))
    check_pure(partial(sample.estimate, tree, paths[1], player=1), policy, keys(8))
    check_pure(partial(sample.average_policy, tree), state)
    check_pure(partial(sample.last_policy, tree), state)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_step_agrees_when_compiled(backend: str) -> None:
    tree, paths = compiled("leduc"), sample.paths(compiled("leduc"))
    torch._dynamo.reset()
    bare = tree._replace(rules=None, names=())
    fast = torch.compile(sample.step, fullgraph=True, dynamic=False, backend=backend)
    state = run(tree, sample.init(tree, (2,)), 3, 16)
    got, want = fast(bare, paths, state, keys(16, 2)), sample.step(tree, paths, state, keys(16, 2))
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- equilibria


def test_averages_approach_an_equilibrium() -> None:
    tree = compiled("kuhn")
    found = exploitability(tree, sample.average_policy(tree, run(tree, sample.init(tree, (5,)), 150, 8)))
    assert float(found.mean()) < 0.06
    assert float(exploitability(tree, uniform(tree))) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published"), [("kuhn", [0.026, 0.0138, 0.0026]), ("leduc", [1.12, 0.27, 0.065])], ids=["kuhn", "leduc"]
)
def test_exploitability_falls_as_that_of_the_textbook(name: str, published: list[float]) -> None:
    """To within a half of what one run of OpenSpiel has after 1000, 10,000 and 100,000 iterations of one traversal for
    each player; runs of it differ by as much on Kuhn poker. Means of 6 solvers."""
    tree = compiled(name)
    state, found = sample.init(tree, (6,)), []
    for iterations in (50, 450, 4500):  # of 20 traversals
        state = run(tree, state, iterations, 20)
        found.append(float(exploitability(tree, sample.average_policy(tree, state)).mean()))
    assert found == [pytest.approx(value, rel=0.5) for value in published]


@pytest.mark.slow
def test_exploitability_is_that_of_openspiel() -> None:
    """After 4000 iterations of one traversal for each player. Means of 5 solvers, whose deviation is a twentieth."""
    tree = compiled("leduc")
    ours = exploitability(tree, sample.average_policy(tree, run(tree, sample.init(tree, (5,)), 200, 20)))
    theirs = []
    for seed in range(5):
        solver = pyspiel.ExternalSamplingMCCFRSolver(pyspiel.load_game("leduc_poker"), seed)
        for _ in range(4000):
            solver.run_iteration()
        theirs.append(float(exploitability(tree, from_policy(tree, solver.average_policy()))))
    assert float(ours.mean()) == pytest.approx(sum(theirs) / 5, rel=0.15)


# ---------------------------------------------------------------- bad input


def test_bad_input_is_named() -> None:
    tree, paths = compiled("kuhn"), sample.paths(compiled("kuhn"))
    state = sample.init(tree, (3,))
    for rng in (keys(8), keys(8, 4), keys(3), keys(8, 3, 1)):
        with pytest.raises(ShapeError, match=r"rng must have shape \('N', 3, 2\), got"):
            sample.step(tree, paths, state, rng)
    with pytest.raises(ShapeError, match=r"rng must have shape \('N', 2\), got \(2,\)"):
        sample.step(tree, paths, sample.init(tree), random.key(0))
    with pytest.raises(ShapeError, match=r"rng must be an int64 key"):
        sample.step(tree, paths, state, torch.zeros(8, 3, 2))
    with pytest.raises(ValueError, match=r"players must be of 0 and 1, got \[0, 2\]"):
        sample.step(tree, paths, state, keys(8, 3), players=[0, 2])
