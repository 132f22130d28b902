"""Lane i takes the same path bit for bit alone, in a shard, in blocks, after an interruption, on any threads."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from armfold.core.bandits import ALGORITHMS
from armfold.core.types import Bandit, BanditEnv
from armfold.shell import Result
from tests.purity import same_bits
from tests.shell.helpers import (
    ARMS,
    FEATURES,
    SMALLEST,
    interrupt_run,
    labelled,
    learner,
    run,
    same_lanes,
    same_result,
    world,
)
from tests.tiers import thinned

CASES = [*ALGORITHMS, "lin_ucb on labels", "lin_ts on labels in blocks"]
RUNS, STEPS, ALONE, SHARD = 130, 9, 97, slice(60, 80)


def case(name: str) -> tuple[Bandit, BanditEnv]:
    """A learner and an environment by the name of a case."""
    algorithm, _, data = name.partition(" on ")
    if data == "labels in blocks":
        return learner(algorithm, features=ARMS * FEATURES), labelled("blocks")
    return learner(algorithm), labelled() if data else world(algorithm)


def few(names: Iterable[str]) -> list[Any]:
    """Every fourth of them; the others are marked slow."""
    return [name if i % 4 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(names)]


@functools.cache
def whole(name: str) -> Result:
    """The run whose lanes the others are compared with: one block that is not full."""
    result = run(*case(name), steps=STEPS, runs=RUNS)
    assert result.layout.block == 192
    return result


@pytest.mark.parametrize("name", thinned(CASES, keep=2))
def test_a_lane_alone(name: str) -> None:
    alone = run(*case(name), steps=STEPS, runs=1, first_run=ALONE)
    assert same_lanes(alone, whole(name), of_y=slice(ALONE, ALONE + 1))


@pytest.mark.parametrize("name", thinned(CASES))
def test_a_shard(name: str) -> None:
    shard = run(*case(name), steps=STEPS, runs=SHARD.stop - SHARD.start, first_run=SHARD.start)
    assert same_lanes(shard, whole(name), of_y=SHARD)


@pytest.mark.parametrize("name", few(CASES))
def test_blocks_and_an_interruption(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"steps": STEPS, "runs": RUNS, "max_memory": SMALLEST, "points": 3}
    blocks = run(*case(name), **settings)
    assert blocks.layout.block == 64
    assert same_lanes(blocks, whole(name))
    interrupt_run(monkeypatch, tmp_path, 5, *case(name), **settings)  # in the second of three blocks
    assert same_result(run(*case(name), checkpoint=tmp_path, resume=True, **settings), blocks)


def test_lanes_differ() -> None:
    name = "beta_ts"
    assert whole(name).regret.unique().numel() > RUNS / 2  # or the tests above would compare nothing
    assert not same_bits(whole(name).regret, run(*case(name), steps=STEPS, runs=RUNS, first_run=1).regret)


def test_a_lane_does_not_know_how_many_points_are_drawn() -> None:
    assert same_lanes(run(*case("kl_ucb"), steps=STEPS, runs=RUNS, points=1), whole("kl_ucb"))


# Compiled


class Size(NamedTuple):
    """A run long and wide enough for compiled code to go astray in."""

    runs: int = 8192
    steps: int = 200
    arms: int = 10
    features: int = 4


SIZE = Size()
COMPILED = ["ucb1", "kl_ucb", "beta_ts", "gaussian_ts", "lin_ucb", "lin_ts", "bayes_ucb", "imed"]


def compiled(name: str, **options: Any) -> Result:
    """A compiled run of `SIZE`, but for `options`."""
    structure = {"arms": SIZE.arms, "features": SIZE.features}
    settings = {"steps": SIZE.steps, "runs": SIZE.runs, "points": 5, "compile": "on", **options}
    result = run(learner(name, **structure), world(name, **structure), **settings)
    assert result.compiled is (settings["compile"] == "on")
    return result


@functools.cache
def compiled_whole(name: str) -> Result:
    """All lanes, compiled."""
    return compiled(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_lanes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compiled_whole(name)
    assert whole.regret.unique().numel() > SIZE.runs / 2
    for lane in (0, 4097, 8191):
        alone = compiled(name, runs=1, first_run=lane)
        assert same_lanes(alone, whole, of_y=slice(lane, lane + 1)), f"lane {lane} alone"
    shards = [slice(1000, 1064)] + [slice(4000, 4300)] * (name in ("ucb1", "lin_ucb"))  # a block of 320 to compile
    for shard in shards:
        part = compiled(name, runs=shard.stop - shard.start, first_run=shard.start)
        assert same_lanes(part, whole, of_y=shard), f"shard {shard}"
    blocks = compiled(name, runs=300, max_memory=SMALLEST)
    assert blocks.layout.block == 64
    assert same_lanes(blocks, whole, of_y=slice(300)), "blocks"
    settings: dict[str, Any] = {"steps": SIZE.steps, "points": 5, "runs": SIZE.runs, "compile": "on"}
    structure = {"arms": SIZE.arms, "features": SIZE.features}
    both = learner(name, **structure), world(name, **structure)
    interrupt_run(monkeypatch, tmp_path, 3, *both, **settings)
    assert same_result(compiled(name, checkpoint=tmp_path, resume=True), whole), "resumed"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["on", "off"])
@pytest.mark.parametrize("name", ["kl_ucb", "gaussian_ts", "lin_ucb"])
def test_lanes_do_not_know_the_number_of_threads(name: str, mode: str) -> None:
    steps = SIZE.steps if mode == "on" else 60
    one, two = (compiled(name, threads=threads, compile=mode, steps=steps) for threads in (1, 2))
    assert same_result(one, two)


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", ["on", "off"])
@pytest.mark.parametrize("name", COMPILED)
def test_lanes_on_a_gpu(name: str, mode: str) -> None:
    settings: dict[str, Any] = {"device": "cuda", "compile": mode, "steps": 50}
    whole = compiled(name, **settings)
    alone = compiled(name, runs=1, first_run=4097, **settings)
    assert same_lanes(alone, whole, of_y=slice(4097, 4098)), "alone"
    blocks = compiled(name, runs=300, max_memory=SMALLEST, **settings)
    assert same_lanes(blocks, whole, of_y=slice(300)), "blocks"
