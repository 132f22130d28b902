"""Our iterates and OpenSpiel's: how far they agree, and why no further.

Iterates that are equal in exact arithmetic drift apart in floating point, in some games by a factor of e every few
iterations. `plain.Solver` adds the same numbers as OpenSpiel in the same order, and equals it bit for bit for ever; in
decimals it tells what exact arithmetic gives. Ours adds them in another order. So it is compared with OpenSpiel after
so many iterations, and from OpenSpiel's own state at each of a thousand.
"""

from collections.abc import Callable
from decimal import Decimal, getcontext
from typing import Any

import pyspiel
import pytest
import torch
from open_spiel.python.algorithms import discounted_cfr
from torch import Tensor

from armfold.core.games import Tree, exploitability, sequence
from armfold.core.games.solve import VARIANTS, State, average_policy, init, last_policy, step
from armfold.core.games.sums import Rows, Stage
from armfold.shell.openspiel import from_policy, lockstep
from tests.core.games.plain import Solver, compiled, run

THEIRS = {"cfr": pyspiel.CFRSolver, "cfr_plus": pyspiel.CFRPlusSolver}
OPTIONS: dict[str, dict[str, Any]] = {name: variant._asdict() for name, variant in VARIANTS.items()}


def their_solver(tree: Tree, variant: str, iterations: int = 0) -> Any:
    solver = THEIRS[variant](pyspiel.load_game(tree.rules.openspiel))
    for _ in range(iterations):
        solver.evaluate_and_update_policy()
    return solver


# ---------------------------------------------------------------- after so many iterations


def check_equals_openspiel(name: str, variant: str, iterations: int) -> None:
    tree = compiled(name)
    solver = their_solver(tree, variant, iterations)  # which must outlive its policies
    theirs = from_policy(tree, solver.average_policy())
    ours = average_policy(tree, run(tree, variant, iterations))
    assert float(exploitability(tree, ours)) == pytest.approx(float(exploitability(tree, theirs)), rel=0, abs=1e-9)


@pytest.mark.parametrize("variant", THEIRS)
@pytest.mark.parametrize(("name", "iterations"), [("kuhn", 10), ("kuhn", 100), ("goofspiel 4", 100), ("leduc", 10)])
def test_policies_are_those_of_openspiel(name: str, iterations: int, variant: str) -> None:
    tree = compiled(name)
    solver, state = their_solver(tree, variant, iterations), run(tree, variant, iterations)
    for theirs, ours in (
        (solver.average_policy(), average_policy(tree, state)),
        (solver.current_policy(), last_policy(tree, state)),
    ):
        torch.testing.assert_close(ours, from_policy(tree, theirs), rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("variant", THEIRS)
@pytest.mark.parametrize("iterations", [10, 100])
@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 4", "goofspiel 4"])
def test_exploitability_is_that_of_openspiel(name: str, iterations: int, variant: str) -> None:
    check_equals_openspiel(name, variant, iterations)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("kuhn", "cfr"),
        ("kuhn", "cfr_plus"),
        ("liars_dice 4", "cfr"),
        ("liars_dice 4", "cfr_plus"),
        ("goofspiel 4", "cfr_plus"),
    ],
)
def test_exploitability_is_that_of_openspiel_after_1000_iterations(name: str, variant: str) -> None:
    check_equals_openspiel(name, variant, 1000)


def their_state(tree: Tree, solver: Any, keys: list[str], histories: list[int]) -> State:
    """OpenSpiel's cumulative regrets and policies as a state of ours, from what its solver writes of itself."""
    text = solver.__getstate__()
    iteration = int(text.split("[SolverSpecificState]\n")[1].split("\n")[0])
    words = text.split("[SolverValuesTable]\n")[1].split("<~>")
    fields = dict(zip(words[0::2], words[1::2]))
    table = torch.zeros(3, *tree.legal.shape, dtype=torch.float64)
    for i, key in enumerate(keys):
        actions, *numbers = (part.split(",") for part in fields[key].split(";"))
        for row, values in zip(table[:, i], numbers):
            row[list(map(int, actions))] = torch.tensor(list(map(float.fromhex, values)), dtype=torch.float64)
    table[1] /= torch.tensor(histories, dtype=torch.float64).unsqueeze(1)  # it adds the same at every history
    regret, average, policy = table.flatten(1).index_select(1, tree.slot)
    starts = [own.start for own in sequence.bounds(tree)]
    regret[starts], average[starts], policy[starts] = 0.0, 0.0, 1.0
    plan = torch.cat([sequence.plan(side, policy[own]) for side, own in zip(tree.sides, sequence.bounds(tree))])
    return State(regret, average, policy, plan, torch.tensor(iteration))


def check_steps(name: str, variant: str, iterations: int, every: int = 1) -> None:
    """From OpenSpiel's state, one step of ours gives its next one: regrets, averages and policies."""
    tree = compiled(name)
    infoset = tree.histories.infoset
    keys = [""] * len(tree.names)
    for h, state in lockstep(tree):
        if infoset[h] >= 0:
            keys[infoset[h]] = state.information_state_string()
    histories = torch.bincount(infoset[infoset >= 0]).tolist()
    solver = their_solver(tree, variant)
    for t in range(1, iterations + 1):
        before = their_state(tree, solver, keys, histories) if t > 1 and (t - 1) % every == 0 else None
        solver.evaluate_and_update_policy()
        if before is not None:
            after, ours = their_state(tree, solver, keys, histories), step(tree, before, variant=variant)
            assert int(ours.iteration) == int(after.iteration) == t
            error = 1e-12 * max(1.0, float(after.regret.abs().max()), float(after.average.max()))
            torch.testing.assert_close(ours.regret, after.regret, rtol=0, atol=error)
            reached = tree.sequence[tree.legal]  # all but the empty sequences
            torch.testing.assert_close(ours.average[reached], after.average[reached], rtol=0, atol=error)
            torch.testing.assert_close(ours.policy, after.policy, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant", THEIRS)
@pytest.mark.parametrize("name", ["kuhn", "goofspiel 3"])
def test_a_step_from_each_state_of_openspiel_is_its_next_one(name: str, variant: str) -> None:
    check_steps(name, variant, 30)


@pytest.mark.slow
@pytest.mark.parametrize("variant", THEIRS)
@pytest.mark.parametrize("name", ["kuhn", "leduc", "liars_dice 4", "goofspiel 4"])
def test_a_step_from_every_tenth_state_of_openspiel_is_its_next_one(name: str, variant: str) -> None:
    check_steps(name, variant, 1001, every=10)


@pytest.mark.parametrize("variant", ["linear_cfr", "dcfr"])
@pytest.mark.parametrize(("name", "iterations"), [("kuhn", 40), ("goofspiel 3", 20)])
def test_discounted_policies_are_those_of_openspiel(name: str, iterations: int, variant: str) -> None:
    check_discounted(name, iterations, variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["linear_cfr", "dcfr"])
def test_discounted_policies_of_leduc_are_those_of_openspiel(variant: str) -> None:
    check_discounted("leduc", 20, variant)


def check_discounted(name: str, iterations: int, variant: str) -> None:
    tree = compiled(name)
    game = pyspiel.load_game(tree.rules.openspiel)
    solver = {"linear_cfr": discounted_cfr.LCFRSolver, "dcfr": discounted_cfr.DCFRSolver}[variant](game)
    for _ in range(iterations):
        solver.evaluate_and_update_policy()
    state = run(tree, variant, iterations)
    torch.testing.assert_close(
        average_policy(tree, state), from_policy(tree, solver.average_policy()), rtol=0, atol=1e-11
    )
    torch.testing.assert_close(last_policy(tree, state), from_policy(tree, solver.current_policy()), rtol=0, atol=1e-11)


# ---------------------------------------------------------------- the plain recursion


@pytest.mark.parametrize("variant", THEIRS)
@pytest.mark.parametrize(("name", "iterations"), [("kuhn", 200), ("goofspiel 3", 200)])
def test_the_plain_recursion_is_openspiel_bit_for_bit(name: str, iterations: int, variant: str) -> None:
    check_plain(name, iterations, variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", THEIRS)
@pytest.mark.parametrize("name", ["leduc", "goofspiel 4"])
def test_the_plain_recursion_is_openspiel_bit_for_bit_after_1000_iterations(name: str, variant: str) -> None:
    check_plain(name, 1000, variant)


def check_plain(name: str, iterations: int, variant: str) -> None:
    tree = compiled(name)
    plain, theirs = Solver(tree, **OPTIONS[variant]), their_solver(tree, variant, iterations)
    for _ in range(iterations):
        plain.step()
    assert torch.equal(plain.average_policy(), from_policy(tree, theirs.average_policy()))
    assert torch.equal(plain.table(plain.policy), from_policy(tree, theirs.current_policy()))


# ---------------------------------------------------------------- what rounding does


def with_rows(tree: Tree, change: Callable[[Stage], Stage]) -> Tree:
    """The tree with its rows of payoffs changed."""
    sides = (side._replace(payoff=Rows(tuple(map(change, side.payoff.stages)))) for side in tree.sides)
    return tree._replace(sides=tuple(sides))


def attempts(tree: Tree) -> dict[str, Tree]:
    """Trees that give the same iterates in exact arithmetic, but for a factor in all regrets."""
    return {
        "ours": tree,
        "rows backwards": with_rows(tree, lambda stage: Stage(stage.entry.flip(0), stage.weight.flip(0))),
        "integer payoffs": with_rows(tree, lambda stage: stage._replace(weight=(stage.weight * 120).round())),
        "tiny regrets dropped": tree,
    }


def drop_tiny(side: Any, weight: Tensor, match: Any = sequence.match) -> Tensor:
    return match(side, torch.where(weight > 1e-12 * weight.amax(), weight, 0))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant", "iterations"), [("leduc", "cfr_plus", 150), ("goofspiel 4", "cfr", 500)])
def test_openspiel_is_no_nearer_to_exact_arithmetic_than_we_are(
    name: str, variant: str, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where iterates are chaotic, all that add in floating point lose them, to one as good. -rP shows the figures."""
    tree = compiled(name)
    getcontext().prec = 80
    exact, theirs = Solver(tree, Decimal, **OPTIONS[variant]), their_solver(tree, variant)
    trees = attempts(tree)
    states = {attempt: init(tree) for attempt in trees}
    for t in range(1, iterations + 1):
        exact.step()
        theirs.evaluate_and_update_policy()
        for attempt, state in states.items():
            with monkeypatch.context() as patch:
                if attempt == "tiny regrets dropped":
                    patch.setattr(sequence, "match", drop_tiny)
                states[attempt] = step(trees[attempt], state, variant=variant)
        if t in (10, 50, 100, iterations):
            policies = {"OpenSpiel": from_policy(tree, theirs.average_policy())}
            policies |= {attempt: average_policy(tree, state) for attempt, state in states.items()}
            truth = float(exploitability(tree, exact.average_policy()))
            errors = {who: float(exploitability(tree, policy)) - truth for who, policy in policies.items()}
            print(f"{name}, {variant}, {t}: exact {truth:.9f}", *(f"{who} {e:+.0e}" for who, e in errors.items()))
            least, most = (0, 1e-10) if t <= 100 else (1e-6, truth / 20)
            assert all(least <= abs(error) <= most for error in errors.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_suits_of_leduc_stay_alike(variant: str) -> None:
    """Rows add the suits of every rank in one order: as with OpenSpiel, no rounding breaks their symmetry."""
    tree = compiled("leduc")
    number = {name: i for i, name in enumerate(tree.names)}
    policy = last_policy(tree, run(tree, variant, 40))
    for rank in "JQK":
        swapped = [name.replace(f"{rank}s", "?").replace(f"{rank}h", f"{rank}s") for name in tree.names]
        twins = [number[name.replace("?", f"{rank}h")] for name in swapped]
        assert twins != list(range(len(twins)))
        assert torch.equal(policy, policy[twins])
