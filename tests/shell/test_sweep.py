"""Sweeps: every point is a plain run of its own, whatever it shares a program, a shard or a worker with."""

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from scipy import stats

from armfold.core import catalogue
from armfold.core.bandits import ALGORITHMS
from armfold.core.envs import ENVIRONMENTS
from armfold.core.types import Scalar
from armfold.shell import Sweep, sweep
from armfold.shell.choose import make_env, option_kinds
from armfold.shell.run import plan as planning
from armfold.shell.run import sweep as sweeping
from armfold.shell.run.engines import Job, Moved
from armfold.shell.run.shard import Running, play
from armfold.shell.run.space import Parameter, draw_values, read_values
from armfold.shell.run.sweep import load
from armfold.shell.store import checkpoint
from armfold.shell.view import sweep as view
from armfold.shell.view.plot import Line, _spread
from armfold.shell.view.sweep import choose_scale, draw_parameters, print_best
from tests.purity import same_bits
from tests.shell.helpers import ARMS, FEATURES, SMALLEST, Interruption, files, learner, results, run

STEPS, RUNS = 8, 20


def small(algos: str | list[str] = "kl_ucb", env: str = "bernoulli", **options: Any) -> Sweep:
    """`sweep`, eager, tiny and silent where nothing else is said."""
    settings = {"steps": STEPS, "runs": RUNS, "compile": "off", "progress": False, "options": {"arms": ARMS}, **options}
    return sweep(algos, env, **settings)


def same_sweep(x: Sweep, y: Sweep) -> bool:
    """Whether two sweeps are the same bit for bit."""
    return x.to_csv() == y.to_csv() and all(
        same_bits(getattr(x, name), getattr(y, name)) for name in ("regret", "reward", "optimal")
    )


def table(found: Sweep) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found.to_csv())))


# Points


def of_lanes(lane: torch.Tensor, *, make: Callable[..., Any], **tunables: float) -> Any:
    """An environment whose tunables are tensors, one value a lane."""
    return make(**{name: torch.full(lane.shape, value, dtype=torch.float64) for name, value in tunables.items()})


WORLDS = [
    ("kl_ucb", "c", (0.0, 3.0), "drifting", "sigma", (0.05, 0.2)),
    ("gaussian_ts", "prior_precision", (0.5, 2.0), "gaussian", "std", (0.5, 2.0)),
    ("lin_ucb", "alpha", (0.1, 1.0), "contextual", "scale", (0.5, 2.0)),
    ("exp3", "gamma", (0.05, 0.3), "adversarial", "gap", (0.1, 0.4)),
    ("ucb1", "c", (0.5, 2.0), "abrupt", "hazard", (0.1, 0.5)),
]


@pytest.mark.parametrize(("algorithm", "option", "values", "env", "name", "levels"), WORLDS, ids=str)
def test_a_point_is_a_run_of_its_own(
    algorithm: str, option: str, values: tuple[float, ...], env: str, name: str, levels: tuple[float, ...]
) -> None:
    sizes = {"arms": ARMS, "features": FEATURES} if env == "contextual" else {"arms": ARMS}
    found = small(algorithm, env, grid={option: values, name: levels}, seeds=(7,), options=sizes)
    assert [(row.tunables[f"{algorithm}.{option}"], row.tunables[name], row.seed) for row in found.rows] == [
        (value, level, 7) for value in values for level in levels
    ]
    reward_range = (0.0, 1.0) if ALGORITHMS[algorithm].rewards == "unit" else None
    for i, row in enumerate(found.rows):
        value, level = row.tunables[f"{algorithm}.{option}"], row.tunables[name]
        settings: dict[str, Any] = {"steps": STEPS, "runs": RUNS, "seed": row.seed, "reward_range": reward_range}
        bandit = learner(algorithm, **{option: torch.full((RUNS,), value, dtype=torch.float64)})
        make = partial(ENVIRONMENTS[env].make, **sizes)
        alone = run(bandit, partial(of_lanes, make=make, **{name: level}), **settings)
        plain = run(learner(algorithm, **{option: value}), make(**{name: level}), **settings)
        for what in ("regret", "reward", "optimal"):
            lanes = getattr(found, what)[i]
            assert same_bits(lanes, getattr(alone, what)), (what, row)
            near = torch.isclose(lanes, getattr(plain, what), rtol=1e-4, atol=1e-6)
            assert near.double().mean() > 0.8, (what, row)  # but where rounding has turned a choice
        assert row.regret_mean == pytest.approx(alone.regret.mean().item())
        assert row.regret_ci95 == pytest.approx(1.96 * alone.regret.std().item() / math.sqrt(RUNS), rel=1e-4)
        assert row.optimal_rate == pytest.approx(alone.optimal_rate)
        assert row.reward_mean == pytest.approx(alone.reward_mean)


def test_points_of_one_seed_meet_the_same_arms() -> None:
    # In the first K steps every index learner plays each arm once: the regret is that of the arms alone.
    found = small(["ucb1", "kl_ucb"], grid={"ucb1.c": [1, 2], "kl_ucb.c": [0, 3]}, seeds=(3, 4), steps=ARMS)
    by_seed = {seed: [i for i, row in enumerate(found.rows) if row.seed == seed] for seed in (3, 4)}
    for rows in by_seed.values():
        assert len(rows) == 4
        torch.testing.assert_close(found.regret[rows], found.regret[rows[:1]].expand(4, RUNS))
    assert not torch.isclose(found.regret[by_seed[3][0]], found.regret[by_seed[4][0]]).any()
    assert found.regret[0].unique().numel() == RUNS


def test_shards_do_not_show() -> None:
    settings: dict[str, Any] = {"grid": {"c": [0, 1, 3], "sigma": [0.1, 0.2]}, "seeds": (0, 1)}
    whole = small(env="drifting", **settings)
    assert same_sweep(small(env="drifting", shard=64, **settings), whole)  # 240 lanes; points lie across shards
    assert same_sweep(small(env="drifting", shard=100, **settings), whole)


def test_structure_makes_groups_and_lanes_do_not(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"grid": {"window": [2, 500], "xi": [0.1, 1], "arms": [2, 4]}}
    found = small("sw_ucb", "drifting", options={}, out=tmp_path / "out", **settings)
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 4  # of two windows and two numbers of arms
    assert len(found.rows) == 8
    for i, row in enumerate(found.rows):
        window, xi, arms = row.tunables.values()
        bandit = ALGORITHMS["sw_ucb"].make(arms=arms, window=window, xi=torch.full((RUNS,), xi, dtype=torch.float64))
        env = ENVIRONMENTS["drifting"].make(arms=arms)
        assert same_bits(found.regret[i], run(bandit, env, steps=STEPS, runs=RUNS).regret), row


@pytest.mark.slow
def test_compiled_points_are_compiled_runs_of_their_own() -> None:
    settings: dict[str, Any] = {"grid": {"c": [0, 3], "sigma": [0.1, 0.2]}, "compile": "on", "steps": 50, "shard": 64}
    found = small(env="drifting", **settings)
    assert same_sweep(small(env="drifting", **{**settings, "shard": 128}), found)
    for i, row in enumerate(found.rows):
        c, sigma = row.tunables.values()
        bandit = learner("kl_ucb", c=torch.full((RUNS,), c, dtype=torch.float64))
        env = partial(of_lanes, make=partial(ENVIRONMENTS["drifting"].make, arms=ARMS), sigma=sigma)
        alone = run(bandit, env, steps=50, runs=RUNS, compile="on")
        assert alone.compiled
        assert same_bits(found.regret[i], alone.regret), row


def test_infinity_is_a_value() -> None:
    found = small("moss", grid={"horizon": "inf,50,100"})
    assert [row["moss.horizon"] for row in table(found)] == ["inf", "50.0", "100.0"]
    assert same_bits(found.regret[0], run(learner("moss"), steps=STEPS, runs=RUNS).regret)


def test_late_rewards_are_told_to_learners_whose_tunables_are_lanes() -> None:
    found = small("exp3", "delayed", grid={"gamma": [0.1, 0.5], "delay": [0, 3]})
    for i, row in enumerate(found.rows):
        alone = small("exp3", "delayed", grid={"gamma": [row.tunables["exp3.gamma"]], "delay": [row.tunables["delay"]]})
        assert same_bits(found.regret[i], alone.regret[0])
    assert not same_bits(found.regret[0], found.regret[1])


def test_fixed_options_hold_at_every_point() -> None:
    settings: dict[str, Any] = {"arms": ARMS, "ucb1.c": 0.5, "p": [0.1, 0.5, 0.9]}
    found = small(["ucb1", "kl_ucb"], grid={"kl_ucb.c": [0]}, options=settings)
    assert same_sweep(
        small(["ucb1", "kl_ucb"], grid={"kl_ucb.c": [0]}, options={**settings, "p": np.array(settings["p"])}), found
    )
    env = ENVIRONMENTS["bernoulli"].make(p=settings["p"])
    assert found.parameters == ["kl_ucb.c"]
    plain = run(learner("ucb1", c=0.5), env, steps=STEPS, runs=RUNS).regret
    assert same_bits(found.regret[[row.algorithm for row in found.rows].index("ucb1")], plain)


OWN = """
from functools import partial

import torch

from armfold.core.bandits import arms as plain
from armfold.core.types import Scalar, per_lane


def index(state, *, width):
    n = plain.plays(state, torch.float32)
    mean = plain.mean(state, torch.float32)
    return plain.unplayed_first(state, mean + per_lane(width, torch.float32) / torch.sqrt(n))


def softened(*, arms, width: Scalar = 0.5):
    return plain.index_bandit(partial(index, width=width), arms=arms)


def unannotated(*, arms, width=0.5):
    if isinstance(width, torch.Tensor):
        raise TypeError("nobody said that this may be a tensor")
    return plain.index_bandit(partial(index, width=width), arms=arms)
"""


def test_learners_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_learners.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    settings: dict[str, Any] = {"grid": {"width": [0.1, 2]}, "out": tmp_path / "out"}
    found = small("own_learners:softened", **settings)
    assert found.parameters == ["own_learners:softened.width"]
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 1  # lanes of one program
    alone = small("own_learners:unannotated", **{**settings, "out": tmp_path / "alone"})
    assert len(list((tmp_path / "alone" / "shards").iterdir())) == 2
    torch.testing.assert_close(found.regret, alone.regret, rtol=1e-4, atol=1e-6)
    assert not same_bits(found.regret[0], found.regret[1])
    draw_parameters(found, tmp_path, title="own")
    assert (tmp_path / "sweep-own_learners-softened.width.png").is_file()


def test_data_sets_are_swept_too(tmp_path: Path) -> None:
    rows = "\n".join(f"{x % 7 / 7},{x % 3 / 3},{'abc'[x % 3]}" for x in range(30))
    (tmp_path / "data.csv").write_text(f"u,v,label\n{rows}\n")
    found = small("lin_ucb", str(tmp_path / "data.csv"), grid={"alpha": [0.1, 1]}, options={})
    assert len(found.rows) == 2
    with pytest.raises(ValueError, match="tunable 'arms'"):
        small("lin_ucb", str(tmp_path / "data.csv"), grid={"arms": [3]}, options={})


def test_what_else_simulate_is_told_arrives() -> None:
    settings: dict[str, Any] = {"agent_seed": 5, "reward_range": (-20.0, 20.0)}
    bandit, env = learner("exp3", dtype=torch.float64), ENVIRONMENTS["gaussian"].make(arms=ARMS)
    want = run(bandit, env, steps=STEPS, runs=RUNS, **settings).regret
    settings["dtype"] = "float64"
    assert same_bits(small("exp3", "gaussian", **settings).regret[0], want)
    for name, other in {"agent_seed": None, "reward_range": [-30, 20], "dtype": "float32"}.items():
        assert not same_bits(small("exp3", "gaussian", **{**settings, name: other}).regret[0], want), name


WIDE = """
from armfold.core.bandits import lin_ucb


def wide(*, arms, features):
    if (arms, features) != (3, 9):  # of the right label column, in blocks
        raise ValueError(f"{arms} arms, {features} features")
    return lin_ucb(arms=arms, features=features)
"""


def test_how_a_data_set_is_read_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "\n".join(f"{x % 7 / 7},{x % 3 / 3},{'abc'[x % 3]},{x % 2}" for x in range(30))
    path, made = tmp_path / "data.csv", {"context": "blocks", "label": "kind"}
    path.write_text(f"u,v,kind,label\n{rows}\n")
    (tmp_path / "own_wide.py").write_text(WIDE)
    monkeypatch.syspath_prepend(tmp_path)
    env = make_env(str(path), {}, context="blocks", label="kind")
    want = run(learner("lin_ucb", arms=3, features=9), env, steps=STEPS, runs=RUNS).regret
    assert same_bits(small("own_wide:wide", str(path), options={}, reward_range=(0.0, 1.0), **made).regret[0], want)


def test_numpy_gives_seeds_and_sizes() -> None:
    numbers: dict[str, Any] = {"seeds": np.arange(2), "runs": np.int64(RUNS), "agent_seed": np.int64(5)}
    plain: dict[str, Any] = {"seeds": [0, 1], "runs": RUNS, "agent_seed": 5}
    limits = np.array([0.0, 2.0])
    assert same_sweep(small(**numbers, reward_range=limits), small(**plain, reward_range=(0.0, 2.0)))
    assert same_sweep(small(**{**plain, "seeds": (np.int32(0), np.uint8(1))}), small(**plain))


def test_whether_to_compile_is_decided_for_all_shards(tmp_path: Path) -> None:
    small(compile="auto", grid={"c": [0, 1, 2, 3]}, shard=64, out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["compiled"] == [False]
    on = planning.make_plan({**config, "compiled": [True]})
    assert [shard.group.settings["compile"] for shard in on.shards] == ["on", "on"]
    off = planning.make_plan({name: value for name, value in config.items() if name != "compiled"})
    assert [shard.group.settings["compile"] for shard in off.shards] == ["off", "off"]


# Names


def optional(*, arms: int, heat: Scalar = 1, cold: Scalar | None = None, warm: float = 0.5, p: Any = None) -> None:
    """Options of many kinds."""


def unresolved(*, arms, heat: "Missing" = 1.0, mode="soft", deep=False):  # type: ignore[no-untyped-def]  # noqa: F821
    """Options whose annotations cannot be read."""


def test_scalars_are_what_is_annotated_so() -> None:
    assert catalogue.scalars(optional) == {"heat": 1.0, "cold": None}
    assert catalogue.scalars(unresolved) == {}
    assert catalogue.scalars(partial(optional, heat=2)) == {}
    assert option_kinds(optional) == {"arms": int, "heat": float, "cold": float, "warm": float}
    assert option_kinds(unresolved) == {"arms": int, "heat": float, "mode": str, "deep": bool}


def test_tunables_of_the_registries() -> None:
    assert {name: entry.tunables for name, entry in ENVIRONMENTS.items() if entry.tunables} == {
        "gaussian": {"std": 1.0},
        "drifting": {"sigma": 0.1},
        "abrupt": {"hazard": None},
        "adversarial": {"gap": 0.125, "growth": 1.6},
        "contextual": {"scale": 1.0},
    }
    for algorithm in ALGORITHMS.values():  # every float tunable may become lanes
        assert catalogue.scalars(algorithm.make) == algorithm.tunables


def test_a_name_alone_means_the_only_one() -> None:
    full = small(["kl_ucb", "moss"], "drifting", grid={"kl_ucb.c": [1], "moss.horizon": [9], "env.sigma": [0.2]})
    assert full.parameters == ["kl_ucb.c", "moss.horizon", "sigma"]
    assert same_sweep(small(["kl_ucb", "moss"], "drifting", grid={"c": [1], "horizon": [9], "sigma": [0.2]}), full)


def test_names_that_two_have_keep_their_prefix(tmp_path: Path) -> None:
    sizes = {"arms": ARMS, "features": FEATURES}
    grid = {"lin_ts.scale": [0.1, 1], "env.scale": [0.5, 2]}
    found = small("lin_ts", "contextual", grid=grid, options=sizes, out=tmp_path, steps=2)
    assert found.parameters == [*grid]
    assert same_sweep(load(tmp_path)[0], found)  # the names of config.json are read as they were meant


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"algos": ["ucb1", "kl_ucb"], "grid": {"c": [1]}}, r"'c' could be ucb1\.c or kl_ucb\.c"),
        ({"grid": {"kl_ucb.d": [1]}}, r"tunable 'kl_ucb\.d': did you mean 'kl_ucb\.c'"),
        ({"env": "drifting", "grid": {"sigm": [1]}}, r"tunable 'sigm': did you mean 'sigma'"),
        ({"grid": {"ucb1.c": [1]}}, r"ucb1\.c .*ucb1 .*not among the algorithms"),
        ({"grid": {"sigma": [1]}}, r"tunable 'sigma'"),
        ({"grid": {"c": [1], "kl_ucb.c": [2]}}, r"kl_ucb\.c is given twice"),
        ({"grid": {"c": [1]}, "random": {"c": "uniform:0:1"}, "draws": 2}, r"kl_ucb\.c is given twice"),
        ({"grid": {"c": []}}, r"kl_ucb\.c has no values"),
        ({"grid": {"c": [1, 2, 1]}}, r"kl_ucb\.c has the value 1\.0 twice"),
        ({"grid": {"c": ["wide"]}}, r"kl_ucb\.c must be a number, got 'wide'"),
        ({"grid": {"c": [1, -1]}}, r"kl_ucb: c must .*, got -1"),
        ({"grid": {"c": [math.nan]}}, r"kl_ucb: c must .*, got nan"),
        ({"grid": {"p": [0.5]}}, r"\bp cannot be swept"),
        ({"algos": "sw_ucb", "grid": {"window": [2.5]}}, r"sw_ucb\.window must be of type int, got 2\.5"),
        ({"algos": "sw_ucb", "grid": {"window": [0]}}, r"sw_ucb: window must .*, got 0"),
        ({"algos": "glr_kl_ucb", "grid": {"restart": ["locl"]}}, r"glr_kl_ucb\.restart must be one of .*'locl'"),
        ({"env": "drifting", "grid": {"sigma": [0.1, -0.1]}}, r"sigma must .*, got -0\.1"),
        ({"env": "gaussian", "grid": {"std": [1]}}, r"reward outside \[0, 1\]"),
        ({"algos": "lin_ucb", "grid": {"alpha": [1]}}, r"lin_ucb needs contexts"),
        ({"grid": {"arms": [2, 3]}, "options": {"p": [0.1, 0.9]}}, r"arms cannot be swept where p"),
        ({"options": {}}, r"give either p or arms"),
        ({"options": {"arms": 2, "p": len}}, r"\bp must be numbers"),
        ({"options": {"arms": [2, 3]}}, r"\barms must be of type int, got \[2, 3\]"),
        (
            {"env": "abrupt", "grid": {"hazard": [0.1, 0.2], "period": [50, 60]}},
            r"period and hazard exclude each other",
        ),
        (
            {"env": "abrupt", "grid": {"hazard": [0.1]}, "options": {"arms": 2, "period": 9}},
            r"period and hazard exclude",
        ),
        ({"grid": {"c": [0, 1]}, "options": {"arms": 2, "kl_ucb.c": 5}}, r"kl_ucb\.c is swept"),
        ({"algos": []}, r"\balgos\b"),
        ({"algos": 3}, r"\balgos must be a sequence.*got 3"),
        ({"algos": ["kl_ucb", 3]}, r"\balgos must name.*'kl_ucb', 3"),
        ({"seeds": 3}, r"\bseeds must be a sequence.*got 3"),
        ({"reward_range": (0, 1, 2)}, r"\breward_range must be LOW and HIGH"),
        ({"random": {"c": [0, 1]}, "draws": 2}, r"kl_ucb\.c=\[0, 1\] cannot be read"),
        ({"resume": True, "out": None}, r"\bresume needs out"),
        ({"engine": "ray", "threads": 4}, r"threads is for engine 'local', got 4"),
        ({"algos": "kl_ucbb"}, r"algorithm 'kl_ucbb'.*'kl_ucb'"),
        ({"env": "bernouli"}, r"environment 'bernouli'.*'bernoulli'"),
        ({"seeds": []}, r"\bseeds\b"),
        ({"seeds": [1, 1]}, r"\bseeds\b"),
        ({"seeds": [2**64]}, r"\bseeds\b"),
        ({"agent_seed": -(2**63) - 1}, r"\bagent_seed\b"),
        ({"steps": 0}, r"\bsteps\b"),
        ({"runs": 0}, r"\bruns\b"),
        ({"shard": 0}, r"\bshard\b"),
        ({"dtype": "float16"}, r"\bdtype\b"),
        ({"compile": "maybe"}, r"\bcompile\b"),
        ({"device": "tpu"}, r"device 'tpu'"),
        ({"threads": 0}, r"\bthreads\b"),
        ({"checkpoint_every": -1}, r"\bcheckpoint_every\b"),
        ({"engine": "dask"}, r"\bengine\b.*'dask'"),
        ({"num_workers": 2}, r"\bnum_workers\b"),
        ({"ray_address": "auto"}, r"\bray_address\b"),
        ({"draws": 3}, r"\brandom is missing"),
        ({"random": {"c": "uniform:0:1"}}, r"\bdraws is missing"),
        ({"random": {"c": "uniform:0:1"}, "draws": 0}, r"\bdraws\b"),
        ({"random": {"c": "normal:0:1"}, "draws": 2}, r"kl_ucb\.c=normal:0:1"),
        ({"random": {"c": "uniform:1:0"}, "draws": 2}, r"kl_ucb\.c=uniform:1:0.*below"),
        ({"random": {"c": "loguniform:0:1"}, "draws": 2}, r"loguniform:0:1.*above 0"),
        ({"random": {"c": "uniform:a:1"}, "draws": 2}, r"kl_ucb\.c: 'a:1' must be finite numbers"),
        ({"algos": "sw_ucb", "random": {"window": "uniform:1:9"}, "draws": 2}, r"sw_ucb\.window.*randint"),
        ({"algos": "sw_ucb", "random": {"window": "randint:1:9.5"}, "draws": 2}, r"whole numbers"),
    ],
    ids=str,
)
def test_bad_input_is_named_and_nothing_is_written(options: dict[str, Any], pattern: str, tmp_path: Path) -> None:
    settings = {"algos": "kl_ucb", "env": "bernoulli", "out": tmp_path / "out", **options}
    with pytest.raises(ValueError, match=pattern):
        small(**settings)
    assert not (tmp_path / "out").exists()


# Values

NUMBER = Parameter("kl_ucb.c", "kl_ucb", "c", float, True)
WHOLE = Parameter("sw_ucb.window", "sw_ucb", "window", int, False)


def test_values_are_read() -> None:
    assert read_values(NUMBER, "0, 0.5,1e2") == [0.0, 0.5, 100.0]
    assert read_values(NUMBER, "lin:0.01:0.2:5") == [0.01, 0.0575, 0.105, 0.1525, 0.2]
    assert read_values(NUMBER, "log:0.001:10:5") == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert read_values(NUMBER, "lin:3:9:1") == [3.0]
    assert read_values(NUMBER, np.linspace(0, 1, 3)) == [0.0, 0.5, 1.0]
    assert read_values(NUMBER, torch.tensor([1, 2])) == [1.0, 2.0]
    assert read_values(NUMBER, 3) == [3.0]
    assert read_values(WHOLE, "10,20") == [10, 20]
    assert read_values(WHOLE, "log:1:1000:4") == [1, 10, 100, 1000]
    assert read_values(WHOLE, "lin:1:3:9") == [1, 2, 3]  # rounded, and each once
    assert all(type(value) is int for value in read_values(WHOLE, "log:1:1000:4"))


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,,2", "lin:1:2", "lin:1:2:0", "lin:1:2:-1", "lin:1:2:2.5", "lin:2:1:3", "log:0:1:3", "log:-1:1:3"]
    + ["lin:a:1:3", "geo:1:2:3", "1:2", "lin:1:inf:3"],
)
def test_values_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"\bc\b"):
        read_values(NUMBER, text)


def test_draws_follow_their_laws() -> None:
    n = 2000
    units = {
        "uniform:-1:3": lambda x: (x + 1) / 4,
        "loguniform:0.01:100": lambda x: (math.log10(x) + 2) / 4,
    }
    for law, to_unit in units.items():
        drawn = draw_values(NUMBER, law, n, 0)
        low, high = (float(word) for word in law.split(":")[1:])
        assert all(low <= x <= high for x in drawn)
        # The seed is fixed; another one would fail with probability 1e-3.
        assert stats.kstest([to_unit(x) for x in drawn], "uniform").pvalue > 1e-3
    counts = np.bincount(draw_values(WHOLE, "randint:2:6", n, 0), minlength=7)
    assert counts[:2].sum() == 0
    assert stats.chisquare(counts[2:]).pvalue > 1e-3  # both ends are among them, as often as the others


def test_draws_depend_on_the_seed_and_the_name_alone() -> None:
    first = draw_values(NUMBER, "uniform:0:1", 5, 0)
    assert draw_values(NUMBER, "uniform:0:1", 9, 0)[:5] == first
    assert draw_values(NUMBER, "uniform:0:1", 5, 1) != first
    assert draw_values(NUMBER._replace(name="c"), "uniform:0:1", 5, 0) == first
    assert draw_values(NUMBER._replace(algorithm="ucb1"), "uniform:0:1", 5, 0) != first
    assert draw_values(NUMBER._replace(algorithm=None), "uniform:0:1", 5, 0) != first
    found = small(["kl_ucb", "ucb1"], random={"kl_ucb.c": "uniform:0:1", "ucb1.c": "uniform:0:1"}, draws=5)
    assert [row.tunables["kl_ucb.c"] for row in found.rows[:5]] == first


def test_draws_are_drawn_together_and_meet_the_whole_grid() -> None:
    laws = {"sigma": "uniform:0:0.3", "kl_ucb.c": "loguniform:0.1:3"}
    found = small(["kl_ucb", "ucb1"], "drifting", grid={"arms": [2, 3]}, random=laws, draws=4, options={}, steps=2)
    assert len(found.rows) == 2 * 4 + 2 * 4
    pairs = [(row.tunables["sigma"], row.tunables.get("kl_ucb.c")) for row in found.rows]
    assert pairs[:4] == pairs[4:8]
    assert len(set(pairs[:4])) == 4
    assert [pair[0] for pair in pairs[:4]] == [pair[0] for pair in pairs[8:12]]
    assert found.drawn == ["sigma", "kl_ucb.c"]


# Files


def test_the_table_is_tidy(tmp_path: Path) -> None:
    found = small(["kl_ucb", "ucb1"], "drifting", grid={"kl_ucb.c": [0, 1], "sigma": [0.1]}, seeds=(5,), out=tmp_path)
    text = (tmp_path / "sweep.csv").read_text()
    assert text == found.to_csv()
    assert text.splitlines()[0] == (
        "algorithm,kl_ucb.c,sigma,seed,runs,steps,regret_mean,regret_ci95,optimal_rate,reward_mean"
    )
    assert [line.split(",")[:6] for line in text.splitlines()[1:]] == [
        ["kl_ucb", "0.0", "0.1", "5", "20", "8"],
        ["kl_ucb", "1.0", "0.1", "5", "20", "8"],
        ["ucb1", "", "0.1", "5", "20", "8"],
    ]
    assert found.best.regret_mean == min(float(row["regret_mean"]) for row in table(found))


BROKEN: dict[str, Any] = {"grid": {"c": [0, 1, 2, 3]}, "seeds": (0, 1), "shard": 64}  # 160 lanes: three shards


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that was stopped when its first shard was finished and its second had begun."""
    saved, save = 0, checkpoint.save

    def save_and_stop(*arguments: Any, **options: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 3:  # a shard that has ended is saved twice: by its run, and with the mark of the sweep
            raise Interruption
        save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        with pytest.raises(Interruption):
            small(out=tmp_path / "broken", **BROKEN)
    return tmp_path / "broken"


HALF = {**BROKEN, "shard": 128}  # two shards, of more lanes than the smallest block


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that was stopped half-way in its first shard."""
    save = checkpoint.save

    def save_and_stop(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        patch.setattr("armfold.shell.run.bandit._STRIDE", STEPS // 2)
        with pytest.raises(Interruption):
            small(out=tmp_path / "half", checkpoint_every=0, **HALF)
    return tmp_path / "half"


def play_elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let shards run where the working directory is another, and where no checkpoint can be left."""

    @contextmanager
    def elsewhere(name: str, running: Running, **options: Any) -> Iterator[Any]:
        def run_there(jobs: Sequence[Job], moved: Moved) -> Iterator[Any]:
            for shard, _ in jobs:
                with monkeypatch.context() as patch:
                    patch.chdir(folder)
                    result = play(shard, running=running)
                yield shard, result

        yield run_there

    monkeypatch.setattr(sweeping, "open_engine", elsewhere)


def test_what_ran_on_another_disk_is_kept(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small(out=tmp_path / "whole", **HALF)
    assert checkpoint.exists(half / "shards" / "kl_ucb-0-0")
    play_elsewhere(monkeypatch, tmp_path)
    assert same_sweep(small(out=half, resume=True, **HALF), whole)
    assert same_sweep(load(half)[0], whole)
    assert results(half) == results(tmp_path / "whole")


def test_another_block_does_not_stop_a_sweep_from_going_on(half: Path) -> None:
    assert same_sweep(small(out=half, resume=True, max_memory=SMALLEST, **HALF), small(**HALF))


def test_a_sweep_is_shown_without_its_data_and_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "\n".join(f"{x % 7 / 7},{x % 3 / 3},{'abc'[x % 3]}" for x in range(30))
    (tmp_path / "data.csv").write_text(f"u,v,label\n{rows}\n")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    play_elsewhere(monkeypatch, tmp_path / "other")
    found = small("lin_ucb", "data.csv", grid={"alpha": [0.1, 1]}, options={}, out="out")
    (tmp_path / "data.csv").unlink()

    def no_device(name: str) -> torch.device:
        raise ValueError(f"there is no device {name!r}")

    monkeypatch.setattr(planning, "find_device", no_device)
    assert same_sweep(load(tmp_path / "out")[0], found)


def test_shards_of_another_sweep_are_refused(tmp_path: Path) -> None:
    small(out=tmp_path / "out", **BROKEN)
    first, second = (tmp_path / "out" / "shards" / f"kl_ucb-0-{i}" for i in range(2))
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    for name, other in {"steps": 2 * STEPS, "agent_seed": 3, "env": "drifting"}.items():
        path.write_text(json.dumps({**config, name: other}))
        with pytest.raises(ValueError, match=f"{first} is of another shard or sweep: delete it"):
            load(tmp_path / "out")
    path.write_text(json.dumps({name: value for name, value in config.items() if name != "steps"}))
    with pytest.raises(ValueError, match=r"config\.json cannot be read \(KeyError: 'steps'\)"):
        load(tmp_path / "out")
    path.write_text(json.dumps(config))
    shutil.move(first, tmp_path / "moved")
    shutil.move(second, first)
    shutil.move(tmp_path / "moved", second)
    with pytest.raises(ValueError, match=f"{first} is of another shard or sweep: delete it"):
        small(out=tmp_path / "out", resume=True, **BROKEN)


NAN = """
from functools import partial

from armfold.core import envs


def means(state, *, inner):
    return inner(state) * float("nan")


def maybe(*, arms, bad: float = 0.0):
    env = envs.bernoulli(arms=arms)
    return env._replace(means=partial(means, inner=env.means)) if bad else env
"""


def test_regret_that_is_no_number_is_in_the_table_and_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_nan.py").write_text(NAN)
    monkeypatch.syspath_prepend(tmp_path)
    for bad, c in ([1, 0], [0]), ([1], [0, 1]):
        out = tmp_path / f"out-{len(bad)}"
        found = small(["kl_ucb", "ucb1"], "own_nan:maybe", grid={"bad": bad, "kl_ucb.c": c}, out=out)
        assert len(load(out)[0].rows) == len(found.rows) == len(bad) * (len(c) + 1)
        assert [row["regret_mean"] == "nan" for row in table(found)] == [row.tunables["bad"] > 0 for row in found.rows]
        assert math.isnan(found.best.regret_mean) == (0 not in bad)
        draw_parameters(found, tmp_path, title="nan")
        print_best(found, title="nan")
        assert capsys.readouterr().out.count(" nan ") > 3  # means and widths of two rows at least


def test_a_table_holds_whole_points_and_resuming_completes_it(broken: Path, tmp_path: Path) -> None:
    whole = small(out=tmp_path / "whole", **BROKEN)
    lines = (tmp_path / "whole" / "sweep.csv").read_text().splitlines(keepends=True)
    assert (broken / "sweep.csv").read_text() == "".join(lines[:4])  # 64 lanes hold three points of 20
    with pytest.raises(ValueError, match=r"has not ended \(2 of 3 shards missing\): resume"):
        load(broken)
    (broken / "sweep.csv").write_text("".join(lines[:3]) + "kl_ucb,1.")  # half a row, and none of what follows
    assert same_sweep(small(out=broken, resume=True, **BROKEN), whole)
    assert results(broken) == results(tmp_path / "whole")
    assert same_sweep(load(broken)[0], whole)
    (broken / "sweep.csv").unlink()
    small(out=broken, resume=True, **BROKEN)  # nothing is left to run, and the table is written all the same
    assert results(broken) == results(tmp_path / "whole")


def test_another_sweep_is_not_resumed(broken: Path) -> None:
    before = files(broken)
    for changed, pattern in [
        ({"grid": {"c": [0, 1, 2]}}, r"\bgrid\b"),
        ({"shard": 128}, r"\bshard\b"),
        ({"runs": 21}, r"\bruns\b"),
        ({"env": "drifting"}, r"\benv\b"),
    ]:
        with pytest.raises(ValueError, match=f"holds another run: .*{pattern}"):
            small(out=broken, resume=True, **{**BROKEN, **changed})
    with pytest.raises(ValueError, match="is not empty"):
        small(out=broken, **BROKEN)
    assert files(broken) == before


@pytest.mark.parametrize("name", ["manifest.json", "*.safetensors"])
def test_a_damaged_shard_is_named(name: str, broken: Path) -> None:
    (path,) = (broken / "shards").rglob(name)
    path.write_bytes(path.read_bytes()[:-10])
    before = files(broken)
    with pytest.raises(ValueError, match=rf"{path.parent.name} .*delete it"):
        small(out=broken, resume=True, **BROKEN)
    assert files(broken) == before


# Pictures and the printed table


def test_axes_are_logarithmic_where_values_are() -> None:
    assert choose_scale([0.01, 0.1, 1, 10]) == "log"
    assert choose_scale([0, 0.01, 0.1, 1, 10]) == "symlog"
    assert choose_scale([0, 0.5, 1, 3]) == "linear"
    assert choose_scale(list(range(1, 40))) == "linear"
    assert choose_scale([-1, 1, 100]) == "linear"
    assert choose_scale([1, 100]) == "linear"


def test_a_picture_for_each_parameter_that_varies(tmp_path: Path) -> None:
    grid = {"restart": ["global", "local"], "alpha": [0.01, 0.1], "sigma": [0.1]}
    found = small(["glr_kl_ucb", "ucb1"], "drifting", grid=grid, steps=2)
    paths = draw_parameters(found, tmp_path, title="drifting")
    assert [path.name for path in paths] == ["sweep-glr_kl_ucb.restart.png", "sweep-glr_kl_ucb.alpha.png"]
    for path in paths:
        pixels = matplotlib.image.imread(path)[..., :3]
        assert 0.001 < (pixels.min(-1) < 0.9).mean() < 0.6  # drawn on, and not all over


def drawn_lines(found: Sweep, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The lines of each picture by their labels: x and y."""
    figures: list[Any] = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    monkeypatch.setattr("armfold.shell.view.plot.write_whole", lambda path, write: write(path))
    paths = draw_parameters(found, folder, title="")
    return {
        path.stem: {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
        for path, figure in zip(paths, figures, strict=True)
    }


def test_pictures_draw_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small(
        ["kl_ucb", "ucb1"], "drifting", grid={"kl_ucb.c": [0, 1, 3], "sigma": [0.1, 0.2]}, seeds=(0, 1), steps=2
    )
    lines = drawn_lines(found, tmp_path, monkeypatch)
    means: dict[tuple[str, Any, Any], float] = {}
    for row in found.rows:
        key = (row.algorithm, row.tunables.get("kl_ucb.c"), row.tunables["sigma"])
        means[key] = means.get(key, 0) + row.regret_mean / 2  # of two seeds
    assert lines.keys() == {"sweep-kl_ucb.c", "sweep-sigma"}
    assert lines["sweep-sigma"].keys() == {"ucb1", *(f"kl_ucb, c = {c}" for c in (0, 1, 3))}
    for c in (0, 1, 3):
        want = [[sigma, means["kl_ucb", c, sigma]] for sigma in (0.1, 0.2)]
        np.testing.assert_allclose(lines["sweep-sigma"][f"kl_ucb, c = {c}"], want)
    for sigma in (0.1, 0.2):
        want = [[c, means["kl_ucb", c, sigma]] for c in (0, 1, 3)]
        np.testing.assert_allclose(lines["sweep-kl_ucb.c"][f"kl_ucb, sigma = {sigma}"], want)
        level = lines["sweep-kl_ucb.c"][f"ucb1, sigma = {sigma}"]  # which has no such option
        np.testing.assert_allclose(level, [[c, means["ucb1", None, sigma]] for c in (0, 3)])


def test_the_best_of_each_learner_in_each_environment_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = small(
        ["kl_ucb", "ucb1"], grid={"kl_ucb.c": [0, 1, 2, 3], "arms": [2, 3, 4]}, options={}, seeds=(0, 1), steps=4
    )
    print_best(found, title="here")
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith((" kl_ucb", " ucb1"))]
    assert [row[0] for row in printed].count("ucb1") == 3
    assert len(printed) == 9  # of twelve there is room for two of each learner in each of three environments
    for arms in (2, 3, 4):
        means = {
            c: found.regret[[i for i, row in enumerate(found.rows) if row.tunables == {"kl_ucb.c": c, "arms": arms}]]
            for c in (0, 1, 2, 3)
        }
        best = sorted(means.values(), key=lambda regret: regret.mean().item())[:2]
        shown = [row for row in printed if row[0] == "kl_ucb" and row[2] == str(arms)]
        assert [row[3] for row in shown] == [f"{regret.mean().item():.3f}" for regret in best]


def test_widths_take_rows_of_one_seed_run_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"c": [0, 3], "sigma": [0.1, 0.2], "arms": [2, 3]}
    found = small("kl_ucb", "drifting", grid=grid, seeds=(0, 1), options={})
    drawn: dict[str, list[Line]] = {}
    monkeypatch.setattr(view, "draw_sweep", lambda lines, path, **_: drawn.update({path.stem: lines}))
    draw_parameters(found, tmp_path, title="")
    (line,) = drawn["sweep-kl_ucb.c"]
    for value, mean, width in zip(line.x, line.mean, line.ci95, strict=True):
        runs = []
        for seed in (0, 1):
            rows = [i for i, r in enumerate(found.rows) if (r.tunables["kl_ucb.c"], r.seed) == (value, seed)]
            runs += found.regret[rows].mean(0).tolist()  # over four environments, which share their rewards
        assert mean == pytest.approx(np.mean(runs))
        assert width == pytest.approx(1.96 * np.std(runs, ddof=1) / math.sqrt(len(runs)), rel=1e-4)


def test_what_does_not_compare_is_left_out_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, tuple[list[Line], dict[str, Any]]] = {}
    monkeypatch.setattr(view, "draw_sweep", lambda lines, path, **said: drawn.update({path.stem: (lines, said)}))
    laws = {"kl_ucb.c": "uniform:0:3", "sigma": "uniform:0:0.3"}
    found = small(["kl_ucb", "ucb1"], "drifting", grid={"boundary": "clip,reflect"}, random=laws, draws=2, steps=2)
    draw_parameters(found, tmp_path, title="")
    labels = {stem: {line.label.partition(",")[0] for line in lines} for stem, (lines, _) in drawn.items()}
    assert labels["sweep-kl_ucb.c"] == {"kl_ucb"}  # each value has a sigma of its own, which ucb1 met all of
    assert labels["sweep-sigma"] == labels["sweep-boundary"] == {"kl_ucb", "ucb1"}
    assert drawn["sweep-boundary"][1]["dots"]  # choices: nothing lies between them


def test_labels_stay_beside_the_axes() -> None:
    placed = _spread([0.99, 1.0, 0.98, 0.1, 0.97, 1.0], 0.05, 0.0, 1.0)
    assert placed[3] == 0.1
    np.testing.assert_allclose(sorted(placed), [0.1, 0.8, 0.85, 0.9, 0.95, 1.0])
    assert [placed[i] for i in (4, 2, 0)] == sorted(placed)[1:4]
    np.testing.assert_allclose(sorted(_spread([0.5] * 5, 0.5, 0.0, 1.0)), [0, 0.25, 0.5, 0.75, 1])


def test_ticks_are_plain_below_a_million() -> None:
    assert [view._tick(x) for x in (1000.0, 12345.6, 0.0575, 1e6, 3, "clip")] == [
        *("1000", "12350", "0.0575", "1e+06", "3", "clip")
    ]


def test_a_narrow_table_has_fewer_columns_and_whole_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = small("glr_kl_ucb", "drifting", grid={"alpha": [0.01, 0.1], "sigma": [0.1], "restart": ["global"]}, steps=2)
    means = {f"{row.regret_mean:.3f}" for row in found.rows}
    for width, columns in {200: 8, 60: 6, 30: 3}.items():
        monkeypatch.setenv("COLUMNS", str(width))
        print_best(found, title="")
        lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
        heading, *rows = (line.split() for line in lines if line.startswith(" ") and "─" not in line)
        assert heading[:2] == ["learner", "alpha"]  # there is one learner: no need to say whose
        assert len([word for word in heading if word not in ("±", "95%")]) + ("95%" in heading) == columns
        assert {word for row in rows for word in row} >= means
        assert "…" not in " ".join(lines)


def test_the_table_says_how_much_it_leaves_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = small("kl_ucb", "drifting", grid={"c": [0, 1]}, random={"sigma": "uniform:0:1"}, draws=14, steps=2)
    print_best(found, title="")
    said = "the best of each learner in the first 12 of 14 environments: 12 of 28 points; all are in sweep.csv"
    assert said in " ".join(capsys.readouterr().out.split())
