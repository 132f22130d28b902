"""Solving games: the loop is the core's steps folded, it stops where it should, and goes on bit for bit."""

import functools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspiel
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_spiel.python.algorithms import exploitability as openspiel
from torch.utils import _pytree as pytree

from armfold.core import games, random
from armfold.core.check import ShapeError
from armfold.core.games import sample
from armfold.core.games import solve as core
from armfold.shell import Solution, read_policy, solve, write_policy
from armfold.shell.games import find_game
from armfold.shell.run import solve as runner
from armfold.shell.run.solve import curve_iterations
from armfold.shell.run.solvers import SOLVERS
from armfold.shell.store import checkpoint
from tests.purity import same_bits
from tests.shell import helpers
from tests.shell.helpers import files

KUHN = games.compile_game(games.kuhn())
PAGE = Path(__file__).parents[2] / "docs" / "games.md"
QUIET = {"compile": "off", "progress": False}


def kuhn(**options: Any) -> Solution:
    """Kuhn poker, solved eagerly and silently."""
    return solve(KUHN, **{"iterations": 30, "points": 4, **QUIET, **options})


def same(x: Solution, y: Solution) -> bool:
    """Whether two solutions are the same bit for bit, but for the seconds they took."""
    pairs = zip(*(pytree.tree_leaves(s._replace(tree=None, seconds=0.0)) for s in (x, y)), strict=True)
    return all(same_bits(a, b) for a, b in pairs)


# What it computes


@pytest.mark.parametrize("algo", SOLVERS)
def test_it_is_the_steps_of_the_core_one_after_the_other(algo: str) -> None:
    told = {"seed": 5, "traversals": 6} if algo == "mccfr" else {}
    found, module, average, last = kuhn(algo=algo, **told), sample if told else core, [], []
    rng, paths = random.split(random.split(random.key(5), 1)[0], 6), sample.paths(KUHN)
    state: Any = module.init(KUHN)
    for t in range(30):
        if told:
            state = sample.step(KUHN, paths, state, random.jump(rng, t))
        else:
            state = core.step(KUHN, state, variant=algo)
        if t + 1 in found.curve_t.tolist():
            average.append(games.exploitability(KUHN, module.average_policy(KUHN, state)))
            last.append(games.exploitability(KUHN, module.last_policy(KUHN, state)))
    assert same_bits(found.policy, module.average_policy(KUHN, state))
    assert same_bits(found.last, module.last_policy(KUHN, state))
    torch.testing.assert_close(found.curve, torch.stack(average), rtol=0, atol=1e-15)
    torch.testing.assert_close(found.curve_last, torch.stack(last), rtol=0, atol=1e-15)
    assert same_bits(found.value, games.expected_value(KUHN, found.policy))
    assert same_bits(found.exploitability, found.curve[-1])
    assert (found.iterations, found.converged, found.compiled) == (30, False, False)
    assert found.seconds > 0


def test_it_equals_openspiel() -> None:
    game = pyspiel.load_game("kuhn_poker")
    solver = pyspiel.CFRPlusSolver(game)
    for _ in range(30):
        solver.evaluate_and_update_policy()
    theirs = pyspiel.exploitability(game, solver.average_policy())
    assert kuhn().exploitability.item() == pytest.approx(theirs, abs=1e-12)
    assert openspiel.exploitability(game, solver.average_policy()) == pytest.approx(theirs)


def test_the_inspection_game_of_the_documentation_has_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Dresher 1962. Nobody's average falls short of the value by more than both best responses win together."""
    (block,) = re.findall(r"^```python\n((?:(?!```).)*def inspection.*?)^```", PAGE.read_text(), re.M | re.S)
    example: dict[str, Any] = {"__name__": "example"}
    exec(compile(block, "example", "exec"), example)
    assert "0.2727" in capsys.readouterr().out
    for nights, searches in ((2, 1), (3, 1), (4, 3)):
        found = solve(example["inspection"](nights, searches), algo="pcfr_plus", tolerance=1e-3, **QUIET)
        value = math.comb(nights - 1, searches) / sum(math.comb(nights, i) for i in range(searches + 1))
        assert abs(found.value.item() - value) <= 2 * found.exploitability.item() + 1e-12
        assert found.exploitability.item() <= 1e-3


def test_a_game_by_its_name_its_rules_or_its_tree() -> None:
    first, *others = (solve(game, iterations=5, **QUIET) for game in (KUHN, "kuhn", games.kuhn()))
    assert all(same(first, other) for other in others)
    assert first.tree is not None
    assert first.tree.names == KUHN.names


def test_every_lane_of_a_batch_is_a_solver_of_its_own() -> None:
    alpha = torch.tensor([[0.5, 1.5], [2.0, 3.0]], dtype=torch.float64)
    together = kuhn(algo=core.VARIANTS["dcfr"]._replace(alpha=alpha), batch=(2, 2))
    assert together.policy.shape == (12, 2, 2, 2)
    assert together.curve.shape == (len(together.curve_t), 2, 2)
    for i in range(2):
        for j in range(2):
            alone = kuhn(algo=core.VARIANTS["dcfr"]._replace(alpha=alpha[i, j].item()))
            torch.testing.assert_close(together.policy[..., i, j], alone.policy, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(together.curve[:, i, j], alone.curve, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(together.value[i, j], alone.value, rtol=1e-9, atol=1e-12)
    assert len(together.exploitability.unique()) == 4


def test_every_lane_draws_for_itself() -> None:
    together, alone = kuhn(algo="mccfr", batch=(3,), traversals=4), kuhn(algo="mccfr", traversals=4)
    torch.testing.assert_close(together.policy[..., 0], alone.policy, rtol=1e-9, atol=1e-12)
    assert len(together.exploitability.unique()) == 3
    assert same(kuhn(algo="mccfr", traversals=4), alone)
    assert not same(kuhn(algo="mccfr", traversals=4, seed=1), alone)
    assert kuhn(algo="mccfr", iterations=25).exploitability < 0.06  # 6400 traversals for each player


def test_single_precision_is_measured_in_double() -> None:
    rough, fine = kuhn(dtype=torch.float32), kuhn()
    assert rough.policy.dtype == rough.last.dtype == torch.float32
    assert rough.curve.dtype == rough.value.dtype == torch.float64
    torch.testing.assert_close(rough.curve, fine.curve, rtol=0, atol=1e-6)
    assert same_bits(rough.exploitability, games.exploitability(rough.tree, rough.policy.double()))


def test_those_who_watch_are_told_the_exploitability(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @contextmanager
    def track(label: str, total: int, *, enabled: bool) -> Iterator[Callable[[int, str], None]]:
        yield lambda done, note: seen.append((label, total, enabled, done, note))

    monkeypatch.setattr(runner, "track", track)
    found = kuhn(progress=True, label="mine")
    assert seen[-1] == ("mine", 30, True, 30, f"exploitability {found.exploitability:.2e}")
    assert [done for *_, done, _ in seen] == found.curve_t.tolist()


# Where it stops


@given(st.integers(1, 10**7), st.integers(1, 50))
def test_points_of_the_curve(iterations: int, points: int) -> None:
    marks = curve_iterations(iterations, points)
    assert marks == sorted(set(marks))
    assert (marks[0], marks[-1]) == (1, iterations)
    assert len(marks) <= points * math.log10(iterations) + 2
    assert {10**i for i in range(8) if 10**i <= iterations} <= set(marks)
    assert curve_iterations(10**7, points)[: len(marks) - 1] == marks[:-1]  # a longer run measures there too


def test_it_stops_at_the_first_point_within_the_tolerance() -> None:
    whole = kuhn(iterations=100)
    tolerance = 0.02
    stop = int((whole.curve <= tolerance).int().argmax())
    assert 0 < stop < len(whole.curve) - 1
    stopped = kuhn(iterations=100, tolerance=tolerance)
    assert stopped.converged
    assert stopped.iterations == whole.curve_t[stop] < 100
    for name in ("curve_t", "curve", "curve_last"):
        assert same_bits(getattr(stopped, name), getattr(whole, name)[: stop + 1])
    assert same_bits(stopped.policy, kuhn(iterations=stopped.iterations).policy)


def test_it_stops_when_the_last_lane_is_within_the_tolerance() -> None:
    gamma = torch.tensor([0.0, 3.0], dtype=torch.float64)
    variant = core.Variant(floor=True, gamma=gamma)
    found = kuhn(algo=variant, batch=(2,), iterations=1000, tolerance=0.01)
    alone = [kuhn(algo=variant._replace(gamma=x.item()), iterations=1000, tolerance=0.01) for x in gamma]
    assert found.converged
    assert found.iterations == max(one.iterations for one in alone) > min(one.iterations for one in alone)


def test_a_tolerance_out_of_reach_is_not_reached() -> None:
    assert not kuhn(tolerance=1e-9).converged
    assert kuhn(tolerance=1e-9).iterations == 30


# Checkpoints


interrupt_run = functools.partial(helpers.interrupt_run, go=kuhn)


@pytest.mark.parametrize("algo", ["dcfr", "mccfr"])
def test_a_run_goes_on_bit_for_bit_wherever_it_is_stopped(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {"algo": algo, "iterations": 12, "points": 2}
    whole = kuhn(**told)
    for after in range(1, len(whole.curve_t) + 2):  # a checkpoint a point, and the result
        folder = tmp_path / str(after)
        interrupt_run(monkeypatch, folder, after, **told)
        assert same(kuhn(**told, checkpoint=folder, resume=True), whole)
    often = tmp_path / "often"
    for _ in range(3):
        interrupt_run(monkeypatch, often, 1, **told, resume=True)
    assert same(kuhn(**told, checkpoint=often, resume=True), whole)


def test_a_batch_with_a_tolerance_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gamma = torch.tensor([0.0, 2.0, 5.0], dtype=torch.float64)
    algo = core.Variant(floor=True, gamma=gamma)
    told: dict[str, Any] = {"algo": algo, "batch": (3,), "tolerance": 0.03, "dtype": torch.float32}
    interrupt_run(monkeypatch, tmp_path, 6, **told)
    assert same(kuhn(**told, checkpoint=tmp_path, resume=True), kuhn(**told))


def test_a_run_that_has_ended_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kuhn(checkpoint=tmp_path)
    before = files(tmp_path)
    monkeypatch.setattr(core, "average_policy", None)  # nothing may be computed
    again = Solution.load(tmp_path, KUHN)
    assert same(again, whole)
    assert again.seconds == whole.seconds
    monkeypatch.undo()
    assert same(kuhn(checkpoint=tmp_path, resume=True), whole)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "pattern"),
    [
        ({"algo": "dcfr"}, "algo"),
        ({"algo": core.Variant(floor=True, gamma=1.5)}, "algo"),
        ({"iterations": 31}, "iterations"),
        ({"points": 5}, "points"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"batch": (2,)}, "batch"),
        ({"dtype": torch.float32}, "dtype"),
    ],
    ids=str,
)
def test_another_run_is_not_resumed(
    changed: dict[str, Any], pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_run(monkeypatch, tmp_path, 3)
    before = files(tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match=rf"is of another run: {pattern} differ"):
        kuhn(**changed, checkpoint=tmp_path, resume=True)
    with pytest.raises(checkpoint.CheckpointError, match="pass resume=True"):
        kuhn(checkpoint=tmp_path)
    assert files(tmp_path) == before


def test_a_game_of_other_rules_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(monkeypatch, tmp_path / "half", 3)
    kuhn().save(tmp_path / "whole")
    mean = games.kuhn()._replace(payoffs=lambda state: tuple(2 * x for x in games.kuhn().payoffs(state)))
    with pytest.raises(checkpoint.CheckpointError, match="is of another run: rules differ"):
        solve(mean, iterations=30, points=4, checkpoint=tmp_path / "half", resume=True, **QUIET)
    with pytest.raises(checkpoint.CheckpointError, match="is of another game than kuhn, or of other rules"):
        Solution.load(tmp_path / "whole", games.compile_game(mean))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(monkeypatch, tmp_path, 3)
    with pytest.raises(checkpoint.CheckpointError, match="holds a run that has not ended"):
        Solution.load(tmp_path, KUHN)
    tensors, facts = checkpoint.load(tmp_path)
    del tensors["average"]
    checkpoint.save(tmp_path, tensors, {key: facts[key] for key in ("identity", "progress")})
    with pytest.raises(checkpoint.CheckpointError, match="a part of the run is missing"):
        kuhn(checkpoint=tmp_path, resume=True)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"):
        kuhn(checkpoint=tmp_path, resume=True)
    solved = kuhn()
    checkpoint.save(tmp_path, {"policy": solved.policy}, {"result": solved.facts()})
    with pytest.raises(checkpoint.CheckpointError, match=r"lacks a part of the result: missing .*'last'"):
        Solution.load(tmp_path, KUHN)


# Compiled


def test_what_is_drawn_is_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(monkeypatch, tmp_path, 3, algo="mccfr", traversals=4)
    for changed in ({"seed": 1}, {"traversals": 5}):
        with pytest.raises(checkpoint.CheckpointError, match=rf"is of another run: {next(iter(changed))} differ"):
            kuhn(**{"algo": "mccfr", "traversals": 4, **changed}, checkpoint=tmp_path, resume=True)


@pytest.mark.slow
def test_compiled_iterations_agree_and_are_chosen_where_they_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {"algo": "dcfr", "iterations": 20_000, "points": 2, "compile": "auto"}
    found = kuhn(**told)
    assert found.compiled
    assert not kuhn(iterations=1000, compile="auto").compiled
    eager = kuhn(**{**told, "compile": "off"})
    torch.testing.assert_close(found.curve[:5], eager.curve[:5], rtol=1e-6, atol=1e-12)  # 100 iterations
    assert found.exploitability < 1e-4
    interrupt_run(monkeypatch, tmp_path, 4, **told)
    assert same(kuhn(**told, checkpoint=tmp_path, resume=True), found)


@pytest.mark.slow
def test_compiled_traversals_draw_the_same() -> None:
    compiled, eager = (kuhn(algo="mccfr", iterations=200, traversals=8, compile=mode) for mode in ("on", "off"))
    assert compiled.compiled
    torch.testing.assert_close(compiled.curve, eager.curve, rtol=1e-6, atol=1e-12)


# Bad input


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"algo": "cfr_pluss"}, r"unknown algorithm 'cfr_pluss': did you mean 'cfr_plus'"),
        ({"algo": 3}, r"algo must be a name or a Variant, got 3"),
        ({"algo": core.Variant(gamma=math.nan)}, r"gamma must be finite.*nan"),
        ({"algo": core.Variant(alpha="wide")}, r"alpha must be a number.*'wide'"),
        ({"algo": core.Variant(alpha=torch.ones(3)), "batch": (2,)}, r"alpha .*shape of batch, \(2,\), got \(3,\)"),
        ({"algo": core.Variant(gamma=None)}, r"gamma must be a number.* got None"),
        ({"algo": core.Variant(gamma=math.inf)}, r"gamma must be finite.* got inf"),
        ({"algo": core.Variant(beta=True)}, r"beta must be a number.* got True"),
        ({"algo": core.Variant(floor="yes")}, r"floor must be True or False, got 'yes'"),
        (
            {"algo": core.Variant(alpha=torch.tensor([1.5, math.nan])), "batch": (2,)},
            r"alpha must be numbers in every lane, got nan",
        ),
        (
            {"algo": core.Variant(gamma=torch.tensor([1.0, math.inf])), "batch": (2,)},
            r"gamma must be finite in every lane, got inf",
        ),
        ({"iterations": 0}, r"iterations must be an integer >= 1, got 0"),
        ({"iterations": 1.5}, r"iterations .*1\.5"),
        ({"points": 0}, r"points .*0"),
        ({"threads": 0}, r"threads .*0"),
        ({"traversals": 0}, r"traversals .*0"),
        ({"seed": 2**64}, r"seed must be an integer in"),
        ({"batch": (2, 0)}, r"batch must be an integer >= 1, got 0"),
        ({"batch": 5}, r"batch must be a tuple of integers, such as \(8,\), got 5"),
        ({"max_histories": 0}, r"max_histories must be an integer >= 1, got 0"),
        ({"tolerance": -1.0}, r"tolerance .*-1"),
        ({"tolerance": "a"}, r"tolerance must be a number or None, got 'a'"),
        ({"tolerance": math.nan}, r"tolerance .*nan"),
        ({"checkpoint_every": -1}, r"checkpoint_every .*-1"),
        ({"dtype": torch.int64}, r"dtype must be torch\.float32 or torch\.float64, got torch\.int64"),
        ({"compile": "maybe"}, r"compile .*'maybe'"),
        ({"device": "nonsense"}, r"device 'nonsense'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options: dict[str, Any], pattern: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=pattern):
        kuhn(**options, checkpoint=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_no_game_is_refused() -> None:
    with pytest.raises(ValueError, match="game must be a name, Rules or a Tree, got int"):
        solve(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_histories 57 is too few for kuhn"):
        solve("kuhn", max_histories=57)


def test_powers_that_fade_may_be_infinite() -> None:
    variant = core.Variant(alpha=math.inf, gamma=1.0)
    together = kuhn(algo=variant._replace(beta=torch.tensor([-math.inf, math.inf])), batch=(2,))
    for lane, beta in enumerate((-math.inf, math.inf)):
        torch.testing.assert_close(together.curve[:, lane], kuhn(algo=variant._replace(beta=beta)).curve)


def test_numbers_beyond_their_range_are_said() -> None:
    with pytest.raises(ValueError, match=r"exploitability is nan after 6 iterations: .* the range of torch\.float32"):
        kuhn(algo=core.Variant(gamma=50.0), dtype=torch.float32)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kuhn", "kuhn"),
        ("kuhn()", "kuhn"),
        ("liars_dice(4)", "liars_dice(4, 1)"),
        ("liars_dice(sides=4, dice=2)", "liars_dice(4, 2)"),
        (" goofspiel (5) ", "goofspiel(5)"),
        ("openspiel:kuhn_poker(players=2)", "kuhn_poker(players=2)"),
        ("armfold.core.games:goofspiel(3)", "goofspiel(3)"),
    ],
)
def test_games_by_name(text: str, name: str) -> None:
    assert find_game(text).name == name


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("ledc", r"unknown game 'ledc': did you mean 'leduc'"),
        ("", r"unknown game ''"),
        ("goofspiel(1)", r"game goofspiel\(1\): cards must be an integer >= 2, got 1"),
        ("goofspiel(cards=3, cards=4)", r"a name is there twice in '\(cards=3, cards=4\)'"),
        ("goofspiel(**{'cards': 3})", r"plain values in brackets"),
        ("goofspiel(suits=4)", r"unexpected keyword argument 'suits'"),
        ("goofspiel(4", r"plain values in brackets, such as \(6, 1\), got '\(4'"),
        ("goofspiel(4)(4)", r"plain values in brackets"),
        ("goofspiel(__import__('os'))", r"plain values in brackets"),
        ("nobody:game", r"cannot import 'nobody:game' as game: No module named 'nobody'"),
        (":", r"game must be package\.module:function, got ':'"),
        ("mine:", r"game must be package\.module:function, got 'mine:'"),
        ("math:sqrt(4)", r"must return Rules, returned float"),
        ("openspiel:kuhn_pocker", r"unknown game of OpenSpiel 'kuhn_pocker': did you mean 'kuhn_poker'"),
    ],
)
def test_names_of_no_game(text: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        find_game(text)


# Policies in files


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("policy") / "policy.csv"
    write_policy(path, KUHN, kuhn().policy)
    return path.read_text()


def test_a_policy_is_read_as_it_was_written(tmp_path: Path) -> None:
    for rules in (games.kuhn(), games.leduc()):
        tree = games.compile_game(rules)
        policy = torch.rand(tree.legal.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        policy = policy * tree.legal
        policy /= policy.sum(1, keepdim=True)
        write_policy(tmp_path / "policy.csv", tree, policy)
        assert same_bits(read_policy(tmp_path / "policy.csv", tree), policy)


def test_rows_and_columns_may_come_in_any_order(table: str, tmp_path: Path) -> None:
    rows = [line.split(",") for line in table.splitlines()]
    mixed = [rows[0], *reversed(rows[1:])]
    text = "\r\n".join(",".join([row[3], row[0], "note", row[2], row[1]]) for row in mixed)
    (tmp_path / "policy.csv").write_text(text.replace("note", "why", 1))
    assert same_bits(read_policy(tmp_path / "policy.csv", KUHN), kuhn().policy)


@pytest.mark.parametrize(
    ("old", "new", "pattern"),
    [
        (r"^Q,0,.*$", "Q,0,0.5,0.6", r"row 3: probabilities at 'Q' sum to 1\.1, not to 1"),
        (r"^Q,0,.*$", "Q,0,0.5,", r"row 3, column 'bet': '' is not a number"),
        (r"^Q,0,.*$", "Q,0,0.5,half", r"row 3, column 'bet': 'half' is not a number"),
        (r"^Q,0,.*$", "Q,0,nan,0.5", r"row 3, column 'pass'.*not finite"),
        (r"^Q,0,.*$", "Q,0,-0.5,1.5", r"row 3, column 'pass': -0\.5 is no probability"),
        (r"^Q,0,.*$", "Q,0,2,-1", r"row 3, column 'pass': 2 is no probability"),
        (r"^Q,0,", "Q,1,", r"row 3, column 'player': 0 moves at 'Q', not '1'"),
        (r"^Q,", "A,", r"row 3: kuhn has no infoset 'A'"),
        (r"^Q,", "J,", r"row 3: infoset 'J' is there twice"),
        (r"^Q,.*\n", "", r"no row for infoset 'Q'$"),
        (r"^[QK],.*\n", "", r"no row for infoset 'Q', nor for 1 others"),
        (r",bet$", ",call", r"no column 'bet'; kuhn has infoset, player, pass, bet"),
        (r"^Q,0,.*$", "Q,0,1", r"row 3 has 3 fields"),
    ],
)
def test_a_policy_that_is_none_is_refused(old: str, new: str, pattern: str, table: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.csv"
    path.write_text(re.sub(old, new, table, flags=re.MULTILINE))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{pattern}"):
        read_policy(path, KUHN)


def test_an_illegal_action_has_no_probability(tmp_path: Path) -> None:
    tree, path = games.compile_game(games.leduc()), tmp_path / "policy.csv"
    write_policy(path, tree, games.uniform(tree))
    text = path.read_text()
    assert "\nJs ,0,,0.5,0.5\n" in text
    path.write_text(text.replace("\nJs ,0,,0.5,0.5\n", "\nJs ,0,0.0,0.5,0.5\n"))
    assert same_bits(read_policy(path, tree), games.uniform(tree))
    path.write_text(text.replace("\nJs ,0,,0.5,0.5\n", "\nJs ,0,0.2,0.4,0.4\n"))
    with pytest.raises(ValueError, match=r"row 2, column 'fold': fold is illegal at 'Js ', and has 0\.2"):
        read_policy(path, tree)
    with pytest.raises(ShapeError, match=r"policy must have shape \(12, 2\), got \(936, 3\)"):
        write_policy(path, KUHN, games.uniform(tree))


def test_names_of_several_lines_are_rows_of_one(tmp_path: Path) -> None:
    tree, path = games.compile_game(games.kuhn()), tmp_path / "policy.csv"
    tree = tree._replace(names=tuple(f"a board\nfor {name}" for name in tree.names))
    write_policy(path, tree, games.uniform(tree))
    assert same_bits(read_policy(path, tree), games.uniform(tree))
    path.write_text(path.read_text().replace('for Q",0,0.5', 'for Q",0,0.25'))
    with pytest.raises(ValueError, match=r"row 3: probabilities at 'a board\\nfor Q' sum to 0\.75"):
        read_policy(path, tree)


def test_what_is_no_policy_is_not_written(tmp_path: Path) -> None:
    path, policy = tmp_path / "policy.csv", games.uniform(KUHN)
    for wrong, message in (
        (policy * 3, r"policy must sum to 1, got 3\.0"),
        (policy * math.nan, "got nan of the action"),
    ):
        with pytest.raises(ValueError, match=message):
            write_policy(path, KUHN, wrong)
    assert not path.exists()
    rough = policy.float() * (1 + 5e-7)  # as near as the one who reads demands
    write_policy(path, KUHN, rough)
    assert same_bits(read_policy(path, KUHN), rough.double())


def test_a_folder_is_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", tmp_path):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(folder))}: cannot be read \(Is a directory\)"):
            read_policy(folder, KUHN)
        with pytest.raises(ValueError, match=rf"^path {re.escape(str(folder))} is not a file"):
            write_policy(folder, KUHN, games.uniform(KUHN))
