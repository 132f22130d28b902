"""Environments and learners from what a user types: every knob of every environment, and rewards that come late."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core.bandits import ALGORITHMS, arms, ucb1
from armfold.core.bandits.delay import Delayed
from armfold.core.bandits.registry import Algorithm
from armfold.core.envs import ENVIRONMENTS, abrupt, delayed
from armfold.core.types import Bandit
from armfold.shell import config
from armfold.shell.choose import find_algorithm, find_environment, import_function, make_bandit, make_env
from armfold.shell.describe import describe
from armfold.shell.run.bandit import simulate
from tests.purity import same_bits
from tests.shell.helpers import ARMS, FEATURES, interrupt_run, run, same_result

SIZES: dict[str, Any] = {"arms": ARMS, "features": FEATURES, "dtype": torch.float32}


def test_every_knob_of_every_environment_is_an_option() -> None:
    defaults = config.parse([])
    for name, environment in ENVIRONMENTS.items():
        if name in ("classification", "dataset"):  # which come from files
            continue
        for knob, parameter in inspect.signature(environment.make).parameters.items():
            if knob == "theta":  # a tensor, for programs
                continue
            assert hasattr(defaults, knob), f"{name}: {knob}"
            if knob not in ("arms", "p", "mean", "features"):  # which have no default, as others may say
                assert getattr(defaults, knob) == parameter.default, f"{name}: {knob}"


@pytest.mark.parametrize("name", ["classification", "dataset"])
def test_environments_of_files_have_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown environment '{name}'"):
        make_env(name, {})


def test_probabilities_of_abrupt_arms_are_cut_into_phases() -> None:
    given = make_env("abrupt", {"p": (0.1, 0.9, 0.8, 0.2), "arms": 2, "period": 5, "hazard": None})
    assert describe(given) == describe(abrupt(p=((0.1, 0.9), (0.8, 0.2)), period=5))
    with pytest.raises(ValueError, match=r"p .*2 numbers a phase.*got 3"):
        make_env("abrupt", {"p": (0.1, 0.9, 0.8), "arms": 2})
    with pytest.raises(ValueError, match=r"arms .*0"):
        make_env("abrupt", {"p": (0.1, 0.9, 0.8), "arms": 0})


# The user's own


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, on a path of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return tmp_path


def test_a_module_in_the_current_folder_is_found(own: Path) -> None:
    (own / "armfold_here.py").write_text("def make(): return 3")
    (own / "json.py").write_text("def dumps(x): return 3")  # which must not come before Python's own
    before = sys.path[:]
    assert import_function("env", "armfold_here:make")() == 3
    assert import_function("env", "json:dumps")([]) == "[]"
    assert sys.path == [*before, str(own)]
    del sys.modules["armfold_here"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (":", "algorithm must be package.module:function, got ':'"),
        ("armfold_there:", "algorithm must be package.module:function, got 'armfold_there:'"),
        (":make", "algorithm must be package.module:function, got ':make'"),
        (".there:make", "algorithm must be package.module:function, got '.there:make'"),
        ("armfold_none:make", "cannot import 'armfold_none:make' as algorithm: No module named 'armfold_none'"),
        ("math:make", "cannot import 'math:make' as algorithm: module 'math' has no attribute 'make'"),
        ("armfold_bad:make", "cannot import 'armfold_bad:make' as algorithm: invalid syntax (armfold_bad.py, line 1)"),
        ("math:pi", "algorithm 'math:pi' is not a function but float"),
    ],
)
def test_what_cannot_be_imported_is_named(path: str, message: str, own: Path) -> None:
    (own / "armfold_bad.py").write_text("three = = 3")
    with pytest.raises(ValueError, match=re.escape(message)):
        find_algorithm(path)
    with pytest.raises(ValueError, match=re.escape(message.replace("algorithm", "env"))):
        find_environment(path)


# Late rewards


def weighing_update(
    state: arms.State,
    rng: Tensor,
    obs: Tensor | None,
    action: Tensor,
    reward: Tensor,
    *,
    propensity: Tensor | None = None,
    available: Tensor | None = None,
) -> arms.State:
    """The reward over its propensity."""
    weight = 1.0 if propensity is None else 1 / propensity
    return arms.update(state, rng, obs, action, reward * weight, available=available)


def weighing(*, arms: int) -> Bandit:
    """A learner that weighs by propensities, as a user may write one."""
    return ucb1(arms=arms)._replace(update=weighing_update)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_can_wait_for_its_rewards(name: str) -> None:
    features = FEATURES if ALGORITHMS[name].contextual else None
    sizes, rng = {**SIZES, "features": features}, random.key(0)
    plain, late = (make_bandit(ALGORITHMS[name], {}, delay=delay, **sizes) for delay in (0, 2))
    obs = None if features is None else random.normal(random.key(1), (ARMS, FEATURES))
    alone, state = plain.init(rng), late.init(rng)
    assert isinstance(state, Delayed)
    assert state.steps.keys() - {"propensity"} == {"played_arm"} | ({"obs"} if features else set())
    for _ in range(2):
        state = late.update(state, rng, obs, torch.tensor(1), torch.tensor(0.5))
        assert all(map(same_bits, pytree.tree_leaves(state.learner), pytree.tree_leaves(alone)))
    state = late.update(state, rng, obs, torch.tensor(1), torch.tensor(0.5))
    assert not all(map(same_bits, pytree.tree_leaves(state.learner), pytree.tree_leaves(alone)))
    assert 0 <= late.select(state, rng, obs) < ARMS


def test_propensities_are_kept_for_those_that_weigh_by_them() -> None:
    weighs = {"exp3": True, "exp3_ix": True, "tsallis_inf": True, "ucb1": False, "beta_ts": False, "lin_ucb": False}
    kinds = {name: ALGORITHMS[name] for name in weighs} | {"mine": Algorithm("mine", weighing, "unit")}
    for name, algorithm in kinds.items():
        late = make_bandit(algorithm, {}, delay=4, **SIZES)
        assert ("propensity" in late.init(random.key(0)).steps) is weighs.get(name, True), name


def test_a_run_with_late_rewards_goes_on_from_its_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    late = make_bandit(Algorithm("mine", weighing, "unit"), {}, delay=7, **{**SIZES, "features": None})
    env = delayed(arms=ARMS, delay=7)
    whole = run(late, env)
    interrupt_run(monkeypatch, tmp_path, 20, late, env)
    assert same_result(run(late, env, checkpoint=tmp_path, resume=True), whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["abrupt", "adversarial", "delayed"])
def test_compiled_runs_agree_with_eager_ones(name: str) -> None:
    options = {"arms": ARMS, "period": 7, "hazard": None, "gap": 0.25, "growth": 1.6, "delay": 7}
    env, late = make_env(name, options), make_bandit(ALGORITHMS["ucb1"], {}, delay=7, **{**SIZES, "features": None})
    learner = late if name == "delayed" else ucb1(arms=ARMS)
    eager, compiled = (
        simulate(learner, env, steps=60, runs=64, progress=False, compile=mode) for mode in ("off", "on")
    )
    assert torch.equal(eager.optimal, compiled.optimal)
    torch.testing.assert_close(eager.regret, compiled.regret)
