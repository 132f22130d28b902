"""simulate(): what it returns, what decides it, what it refuses."""

import dataclasses
import functools
import io
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core import simulate as core
from armfold.core.bandits import ALGORITHMS, beta_ts, epsilon_greedy, gaussian_ts, ucb1
from armfold.core.envs import bernoulli, drifting, gaussian
from armfold.core.types import Bandit, BanditEnv
from armfold.shell import Result, simulate
from armfold.shell.buffers import Layout
from armfold.shell.run.result import curve_steps
from armfold.shell.store.checkpoint import CheckpointError
from tests.purity import same_bits
from tests.shell.helpers import ARMS, SMALLEST, learner, listened, run, same_lanes, same_result, world
from tests.tiers import thinned

STEPS, RUNS, POINTS = 40, 200, 4


@pytest.fixture(scope="module")
def whole() -> Result:
    return run(steps=STEPS, runs=RUNS, points=POINTS)


@pytest.fixture(scope="module")
def cut() -> Result:
    return run(steps=STEPS, runs=RUNS, points=POINTS, max_memory=SMALLEST)


def test_a_result_has_its_fields(whole: Result) -> None:
    for name in ("regret", "reward", "optimal"):
        assert (getattr(whole, name).shape, getattr(whole, name).dtype) == ((RUNS,), torch.float64)
    for name in ("curve_mean", "curve_ci95"):
        assert (getattr(whole, name).shape, getattr(whole, name).dtype) == ((POINTS,), torch.float64)
    assert whole.curve_t.dtype == torch.int64
    assert whole.curve_t.tolist() == [10, 20, 30, 40]
    assert (whole.steps, whole.compiled, whole.layout) == (STEPS, False, Layout(lanes_last=True, block=256))
    assert math.isfinite(whole.seconds)
    assert whole.seconds > 0
    assert whole.reward_mean == pytest.approx(whole.reward.mean().item())
    assert whole.optimal_rate == pytest.approx(whole.optimal.mean().item())


def test_a_result_holds_rates_and_regret_that_grows(whole: Result) -> None:
    for rate in (whole.reward, whole.optimal):
        assert ((rate >= 0) & (rate <= 1)).all()
        assert rate.unique().numel() > 5
        assert torch.equal((rate * STEPS).round() / STEPS, rate)
    assert (whole.regret >= 0).all()
    assert (whole.curve_mean.diff() > 0).all()
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.steps = 3  # type: ignore[misc]


def test_the_curve_ends_where_the_lanes_do(whole: Result, cut: Result) -> None:
    for result in (whole, cut):
        assert result.curve_mean[-1].item() == pytest.approx(result.regret.mean().item(), rel=1e-12)
        half_width = 1.959964 * result.regret.std() / math.sqrt(RUNS)
        assert result.curve_ci95[-1].item() == pytest.approx(half_width.item(), rel=1e-12)


def test_many_blocks_give_the_curve_of_one(whole: Result, cut: Result) -> None:
    assert cut.layout.block == 64  # so that there are four of them
    assert same_lanes(cut, whole)
    torch.testing.assert_close(cut.curve_mean, whole.curve_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(cut.curve_ci95, whole.curve_ci95, rtol=1e-12, atol=0)


def test_every_point_of_the_curve_is_a_shorter_run(cut: Result) -> None:
    for point, steps in enumerate(cut.curve_t.tolist()[:-1]):
        regret = run(steps=steps, runs=RUNS, points=1).regret
        assert cut.curve_mean[point].item() == pytest.approx(regret.mean().item(), rel=1e-12)
        half_width = 1.959964 * regret.std(correction=1) / math.sqrt(RUNS)
        assert cut.curve_ci95[point].item() == pytest.approx(half_width.item(), rel=1e-12)


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_points_are_spread_evenly_and_end_at_the_last_step(steps: int, points: int) -> None:
    marks = curve_steps(steps, points)
    gaps = [after - before for before, after in zip([0, *marks], marks)]
    assert len(marks) == min(points, steps)
    assert marks[-1] == steps
    assert 1 <= min(gaps) <= max(gaps) <= min(gaps) + 1


@pytest.mark.parametrize("runs", [1, 2])
def test_few_runs_are_enough(runs: int) -> None:
    result = run(steps=5, runs=runs)
    assert result.regret.shape == (runs,)
    assert result.curve_mean[-1].item() == pytest.approx(result.regret.mean().item())


def test_agent_seed_falls_back_to_seed() -> None:
    plain = run(beta_ts(arms=ARMS), steps=10, seed=3)
    assert same_result(plain, run(beta_ts(arms=ARMS), steps=10, seed=3, agent_seed=3))
    assert not same_result(plain, run(beta_ts(arms=ARMS), steps=10, seed=3, agent_seed=0))


def test_another_agent_seed_acts_otherwise_in_the_same_environment() -> None:
    plays = {}
    for seed, agent_seed in [(1, 1), (1, 2), (2, 2)]:
        env, plays[seed, agent_seed] = listened(gaussian(arms=ARMS))
        run(epsilon_greedy(arms=ARMS, epsilon=1.0), env, steps=6, seed=seed, agent_seed=agent_seed, reward_range=None)
    for one, other in zip(plays[1, 1], plays[1, 2], strict=True):
        assert torch.equal(one.rng, other.rng)
        assert torch.equal(one.means, other.means)
        alike = one.action == other.action
        assert 0 < alike.sum() < alike.numel()
        assert torch.equal(one.reward[alike], other.reward[alike])  # the noise is paired too
    assert not torch.equal(plays[1, 1][0].means, plays[2, 2][0].means)


def by_hand(
    bandit: Bandit, env: BanditEnv, layout: Layout, *, steps: int, seeds: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Lanes 3 to 66 of a run, folded step by step: regret, reward and optimal as `simulate` reports them."""
    rng, agent_rng = (random.fold_in(random.key(seed).expand(64, 2), torch.arange(3, 67)) for seed in seeds)
    carry = core.init(bandit, env, rng, agent_rng=agent_rng)
    sums = [torch.zeros(64, dtype=torch.float64) for _ in range(3)]
    for _ in range(steps):
        carry, trace = core.step(bandit, env, pytree.tree_map(layout.lay, carry))
        sums = [total + part for total, part in zip(sums, (trace.regret, trace.reward, trace.optimal))]
    return sums[0], sums[1] / steps, sums[2] / steps


def folded(name: str) -> tuple[Bandit, dict[str, Any]]:
    """An algorithm with tunables that float32 holds exactly, and the settings of a short run."""
    tunables = {key: 64.0 if key == "horizon" else 0.5 for key in ALGORITHMS[name].tunables}
    settings = {"steps": 12, "runs": 64, "seed": 5, "agent_seed": 6, "first_run": 3}
    return learner(name, **tunables), settings


@functools.cache
def with_numbers(name: str) -> Result:
    """A run of an algorithm whose tunables are numbers."""
    bandit, settings = folded(name)
    return run(bandit, world(name), **settings)


@pytest.mark.parametrize("name", thinned(ALGORITHMS))
def test_a_run_is_a_fold_of_step(name: str) -> None:
    result = with_numbers(name)
    regret, reward, optimal = by_hand(folded(name)[0], world(name), result.layout, steps=12, seeds=(5, 6))
    assert same_bits(result.regret, regret)
    assert same_bits(result.reward, reward)
    assert same_bits(result.optimal, optimal)


@pytest.mark.parametrize(
    "env", [drifting(arms=ARMS, sigma=0.25), gaussian(arms=ARMS, std=0.5)], ids=["drift", "normal"]
)
def test_a_run_in_another_environment_is_a_fold_of_step(env: BanditEnv) -> None:
    bandit, settings = folded("gaussian_ts")
    result = run(bandit, env, reward_range=None, **settings)
    assert same_bits(result.regret, by_hand(bandit, env, result.layout, steps=12, seeds=(5, 6))[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", thinned(name for name, algorithm in ALGORITHMS.items() if algorithm.tunables))
def test_tunables_may_be_numbers_or_tensors(name: str, dtype: torch.dtype) -> None:
    tunables = {key: 64.0 if key == "horizon" else 0.5 for key in ALGORITHMS[name].tunables}
    tensors = learner(name, **{key: torch.tensor(value, dtype=dtype) for key, value in tunables.items()})
    assert same_result(run(tensors, world(name), **folded(name)[1]), with_numbers(name))


def test_tunables_matter() -> None:
    wide, narrow = (run(ucb1(arms=ARMS, c=c)) for c in (2.0, 0.125))
    assert not same_lanes(wide, narrow)


class Terminal(io.StringIO):
    """Text that passes for a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_and_label_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(steps=10)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert same_result(run(steps=10, progress=True, label="a name to show"), plain)
    assert "a name to show" in screen.getvalue()


def test_no_progress_is_drawn_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, progress in ((Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        run(steps=3, progress=progress)
        assert stream.getvalue() == ""


def test_profile_changes_nothing() -> None:
    assert same_result(run(steps=10, profile=True), run(steps=10))


def test_nothing_global_is_left_changed() -> None:
    torch_state, threads, grad = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    run(steps=3, threads=threads + 1)
    with pytest.raises(ValueError, match="reward"):
        run(steps=3, env=gaussian(arms=ARMS, std=100.0), threads=threads + 1)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    assert torch.equal(torch.get_rng_state(), torch_state)


# Rewards


def test_rewards_outside_the_range_are_refused_with_the_values_met() -> None:
    env, plays = listened(gaussian(arms=ARMS))
    with pytest.raises(ValueError, match="reward_range") as caught:
        run(env=env, steps=10, runs=64, points=1)
    rewards = torch.stack([play.reward for play in plays])
    met = re.search(r"from (\S+) to ([^\s;]+)", str(caught.value))
    assert met is not None
    assert float(met[1]) == pytest.approx(rewards.min().item(), rel=1e-5)
    assert float(met[2]) == pytest.approx(rewards.max().item(), rel=1e-5)


def scaled(env: BanditEnv, low: float, high: float) -> BanditEnv:
    """`env` in units in which `low` is 0 and `high` is 1."""

    def pull(state: Any, rng: Tensor, action: Tensor) -> tuple[Any, Tensor]:
        moved, reward = env.pull(state, rng, action)
        return moved, (reward - low) / (high - low)

    return env._replace(means=lambda state: (env.means(state) - low) / (high - low), pull=pull)


def test_a_range_is_rescaled_for_the_learner_alone() -> None:
    in_units, units = listened(gaussian(arms=ARMS))
    in_shares, shares = listened(scaled(gaussian(arms=ARMS), -8.0, 8.0))
    result = run(env=in_units, reward_range=(-8, 8))
    reference = run(env=in_shares)
    assert all(torch.equal(a.action, b.action) for a, b in zip(units, shares, strict=True))
    assert same_bits(result.optimal, reference.optimal)
    torch.testing.assert_close(result.regret, 16 * reference.regret, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.reward, 16 * reference.reward - 8, rtol=1e-5, atol=1e-5)


def test_no_range_passes_rewards_on_as_they_are() -> None:
    heard = []
    bandit = gaussian_ts(arms=ARMS)
    env, plays = listened(gaussian(arms=ARMS, std=5.0))

    def update(state: Any, rng: Tensor, obs: None, action: Tensor, reward: Tensor, **options: Any) -> Any:
        heard.append(reward.clone())
        return bandit.update(state, rng, obs, action, reward, **options)

    result = run(bandit._replace(update=update), env, runs=64, steps=10, reward_range=None)
    assert all(torch.equal(reward, play.reward) for reward, play in zip(heard, plays, strict=True))
    mean = torch.stack([play.reward for play in plays]).to(torch.float64).mean().item()
    assert result.reward_mean == pytest.approx(mean, rel=1e-9)
    assert max(reward.abs().max() for reward in heard) > 8


def test_the_default_range_may_be_written_in_integers() -> None:
    assert same_result(run(steps=5, reward_range=(0, 1)), run(steps=5))


@pytest.mark.parametrize(
    "wrong", [(1.0, 0.0), (0.0, 0.0), (math.nan, 1.0), (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0, 2.0)], ids=str
)
def test_a_range_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="reward_range"):
        run(steps=3, reward_range=wrong)


def paying(values: Callable[[Tensor], Tensor]) -> BanditEnv:
    """An environment that pays by the place of a lane in its block, which a user's own might do."""
    env = bernoulli(arms=ARMS)

    def pull(state: Any, rng: Tensor, action: Tensor) -> tuple[Any, Tensor]:
        return state, values(torch.arange(action.numel()))

    return env._replace(pull=pull)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)], ids=["any", "unit"])
def test_rewards_that_are_not_finite_are_refused(value: float, reward_range: Any) -> None:
    env = paying(lambda lane: torch.where(lane == 7, value, 0.5))
    with pytest.raises(ValueError, match=r"reward was not finite in 1 lane"):
        run(env=env, runs=64, steps=3, reward_range=reward_range)


@pytest.mark.parametrize("value", [math.nan, 7.0], ids=["not finite", "out of range"])
def test_lanes_that_only_fill_a_block_are_not_held_against_a_run(value: float) -> None:
    env = paying(lambda lane: torch.where(lane == 50, value, 0.5))
    with pytest.raises(ValueError, match="reward"):
        run(env=env, runs=51, steps=3)
    assert run(env=env, runs=50, steps=3).reward_mean == 0.5


# Results on disk


def test_a_result_can_be_saved_and_loaded(whole: Result, tmp_path: Path) -> None:
    whole.save(tmp_path / "kept")
    loaded = Result.load(str(tmp_path / "kept"))
    assert same_result(loaded, whole)
    assert loaded.seconds == whole.seconds
    assert isinstance(loaded.layout, Layout)


def test_what_is_no_result_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        Result.load(tmp_path / "nothing")


# Bad arguments


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.0),
        ("steps", True),
        ("runs", -1),
        ("runs", "many"),
        ("seed", 1.5),
        ("seed", 2**64),
        ("agent_seed", 1.5),
        ("first_run", -1),
        ("device", "cuda:7"),
        ("device", "nonsense"),
        ("device", None),
        ("compile", "maybe"),
        ("compile", None),
        ("threads", 0),
        ("points", 0),
        ("max_memory", -1),
        ("max_memory", "1GiB"),
        ("checkpoint_every", -1.0),
        ("checkpoint_every", math.nan),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b") as caught:
        run(**{"steps": 3, "runs": 3, "checkpoint": tmp_path / "run", name: value})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arms", [ARMS - 1, ARMS + 1])
def test_a_learner_of_other_arms_is_refused(arms: int) -> None:
    with pytest.raises(ValueError, match="arms"):
        run(ucb1(arms=arms), steps=10)


def test_a_learner_that_needs_contexts_is_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="obs"):
        run(learner("lin_ucb"), bernoulli(arms=ARMS), steps=3)


def test_tunables_may_differ_from_lane_to_lane() -> None:
    c, env = torch.linspace(0.0, 4.0, 150), bernoulli(arms=3)
    settings = {"steps": 20, "compile": "off", "progress": False}
    result = simulate(ucb1(arms=3, c=c), env, runs=150, max_memory=1, **settings)  # three blocks
    assert result.layout.block == 64
    for lane in (0, 63, 64, 149):
        alone = simulate(ucb1(arms=3, c=c[lane].item()), env, runs=1, first_run=lane, **settings)
        assert torch.equal(alone.regret, result.regret[lane : lane + 1])
    with pytest.raises(ValueError, match=r"tunables .* 151 runs, got shape \(150,\)"):
        simulate(ucb1(arms=3, c=c), env, runs=151, **settings)


def test_a_checkpoint_that_cannot_be_a_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ValueError, match=r"checkpoint .*taken cannot be a folder"):
        simulate(ucb1(arms=3), bernoulli(arms=3), steps=1, runs=1, checkpoint=tmp_path / "taken", progress=False)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("device", ["meta", "mps"])
def test_devices_that_cannot_run_are_named(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        simulate(ucb1(arms=3), bernoulli(arms=3), steps=1, runs=1, device=device, progress=False)


def test_one_run_has_no_interval() -> None:
    result = simulate(ucb1(arms=3), bernoulli(arms=3), steps=5, runs=1, compile="off", progress=False)
    assert result.curve_ci95.isnan().all()
