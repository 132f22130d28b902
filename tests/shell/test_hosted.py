"""A learner against environments that a host steps: the same lanes, bit for bit, as in one program."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from armfold.core import bandits, envs, random
from armfold.core import simulate as core
from armfold.core.types import Bandit, BanditEnv
from armfold.shell import simulate_hosted
from armfold.shell.run import hosted
from armfold.shell.run.hosts import Hosting, make_host
from armfold.shell.run.profile import Stopwatch
from armfold.shell.run.side import make_side
from armfold.shell.store.checkpoint import CheckpointError
from armfold.shell.view.progress import Glimpse
from tests.purity import same_bits
from tests.shell.helpers import (
    ARMS,
    FEATURES,
    PER_LANE,
    Interruption,
    allocations,
    labelled,
    learner,
    run,
    same_lanes,
    same_result,
)

HOSTS: dict[str, dict[str, Any]] = {
    "gymnasium": {"host": "gymnasium"},
    "pufferlib": {"host": "pufferlib"},
    "two environments": {"host": "pufferlib", "num_workers": 2},
    "two workers": {"host": "pufferlib", "vector": "mp", "num_workers": 2},
    "a worker at a time": {"host": "pufferlib", "vector": "mp", "num_workers": 2, "batch_size": 1},
}
IN_PROCESS = ("gymnasium", "pufferlib")
PAIRS: dict[str, tuple[Bandit, BanditEnv]] = {
    "kl_ucb": (learner("kl_ucb"), envs.bernoulli(arms=ARMS)),
    "beta_ts, drifting": (learner("beta_ts"), envs.drifting(arms=ARMS)),
    "lin_ts, contextual": (learner("lin_ts"), envs.contextual(arms=ARMS, features=FEATURES)),
    "exp3, labels": (learner("exp3"), labelled()),
    "with delay": (bandits.with_delay(learner("ucb1"), delay=3, arms=ARMS), envs.delayed(arms=ARMS, delay=3)),
}
SETTINGS = {"steps": 20, "runs": 70, "points": 7, "seed": 4, "agent_seed": 9}


def against(name: str, bandit: Bandit | None = None, env: BanditEnv | None = None, **options: Any) -> Any:
    """`simulate_hosted`, eager, small and silent where nothing else is said."""
    settings = {"steps": 20, "runs": 70, "compile": "off", "progress": False, **HOSTS[name], **options}
    return simulate_hosted(bandit or learner("ucb1"), env or envs.bernoulli(arms=ARMS), **settings)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("host", IN_PROCESS)
def test_a_host_gives_the_lanes_of_the_core(host: str, pair: str) -> None:
    bandit, env = PAIRS[pair]
    expected, got = run(bandit, env, **SETTINGS), against(host, bandit, env, **SETTINGS)
    assert same_lanes(got, expected)
    assert same_bits(got.curve_mean, expected.curve_mean)
    assert same_bits(got.curve_ci95, expected.curve_ci95)
    assert same_bits(got.curve_t, expected.curve_t)


@pytest.mark.parametrize("host", ["two environments", "two workers", "a worker at a time"])
def test_environments_share_the_lanes(host: str) -> None:
    bandit, env = PAIRS["lin_ts, contextual"]
    expected, got = run(bandit, env, **SETTINGS), against(host, bandit, env, **SETTINGS)
    assert same_lanes(got, expected)
    torch.testing.assert_close(got.curve_mean, expected.curve_mean)
    torch.testing.assert_close(got.curve_ci95, expected.curve_ci95)


@pytest.mark.parametrize("runs", [1, 64, 65])
def test_any_number_of_runs(runs: int) -> None:
    for host in IN_PROCESS:
        assert same_lanes(against(host, runs=runs), run(runs=runs, steps=20))


def test_tunables_may_differ_from_lane_to_lane() -> None:
    c = torch.linspace(0.1, 3, 70)
    bandit = learner("ucb1", c=c)
    expected = run(bandit, steps=20)
    assert same_lanes(against("pufferlib", bandit), expected)
    assert same_lanes(against("two environments", bandit), expected)


def test_rewards_are_rescaled_and_refused_as_in_the_core() -> None:
    bandit, env = learner("ucb1"), envs.gaussian(mean=(0.0, 1.0, 2.0), std=0.5)
    options = {"reward_range": (-10.0, 10.0)}
    for host in IN_PROCESS:
        assert same_lanes(against(host, bandit, env, **options), run(bandit, env, steps=20, **options))
        with pytest.raises(ValueError, match="reward outside \\[0, 1\\]"):
            against(host, bandit, env)


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 - 1])
def test_every_seed_will_do(seed: int) -> None:
    expected = run(steps=20, seed=seed)
    for host in (*IN_PROCESS, "two workers"):
        assert same_lanes(against(host, seed=seed), expected)


def test_bad_numbers_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_workers"):
        against("pufferlib", num_workers=3, checkpoint=tmp_path / "kept")
    assert not list(tmp_path.iterdir())


def test_a_bad_reward_ends_the_workers() -> None:
    before = psutil.Process().children(recursive=True)
    with pytest.raises(ValueError, match="reward outside"):
        against("two workers", learner("ucb1"), envs.gaussian(arms=ARMS))
    assert psutil.Process().children(recursive=True) == before


def test_the_profile_names_every_phase_and_memory(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="armfold"):
        against("pufferlib", profile=True, label="ucb")
    (line,) = (record.message for record in caplog.records if "ms a step" in record.message)
    for phase in ("select", "actions_to_cpu", "env_step", "rewards_to_device", "update", "together", "memory"):
        assert phase in line
    assert line.startswith("ucb:")


def test_a_stopwatch_adds_up_what_follows_the_first_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 200.0, 300.0, 301.0, 303.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch(torch.device("cpu"), exact=True)
    watch.start()
    for _ in range(5):
        watch.lap("phase")
    assert watch.milliseconds(5) == {"phase": 1500.0}  # of the two laps that count


@pytest.mark.parametrize("host", ["gymnasium", "two environments"])
def test_watching_changes_nothing_and_ends_with_the_result(host: str) -> None:
    seen: list[Glimpse] = []
    watched = against(host, watch=seen.append)
    assert same_result(watched, against(host))
    assert (seen[-1].done, seen[-1].total, seen[-1].step) == (20 * 70, 20 * 70, 20)
    assert seen[-1].regret == pytest.approx(watched.regret.mean().item())
    assert seen[-1].optimal == pytest.approx(watched.optimal.mean().item())


# Buffers


def naive_steps(bandit: Bandit, env: BanditEnv, lanes: int, steps: int) -> Any:
    """The loop that one writes first: everything made anew at every step. Returns it as a function, past its start."""
    vec = make_host(Hosting("pufferlib"), env, lanes)
    vec.reset(0)
    rng = core.agent_key(random.split(random.key(0), lanes))
    state = bandit.init(random.fold_in(rng, 0))
    obs, time = torch.tensor(vec.receive().obs), torch.zeros(lanes, dtype=torch.int64)

    def go() -> None:
        nonlocal state, obs, time
        for _ in range(steps):
            time = time + 1
            action = core.choose(bandit, state, rng, time, obs)
            vec.send(action.numpy())
            batch = vec.receive()
            reward = torch.tensor(batch.reward, dtype=torch.float32)
            state = core.learn(bandit, state, rng, time, obs, action, reward)
            obs = torch.tensor(batch.obs)

    return go


def our_steps(bandit: Bandit, env: BanditEnv, lanes: int, steps: int, compile: str = "off") -> Any:
    """The loop of `simulate_hosted`, without its start."""
    host = make_host(Hosting("pufferlib"), env, lanes, compile=compile)
    side = make_side(bandit, env, lanes, compile=compile)
    host.reset(0)
    exchange = hosted.Exchange(host, [side], [10_000], lanes)
    going = exchange.go(Stopwatch(torch.device("cpu"), exact=False))

    def go() -> None:
        for _ in range(steps):
            next(going)

    return go


@pytest.mark.slow
def test_fewer_allocations_than_a_naive_loop(tmp_path: Path) -> None:
    bandit, env = PAIRS["lin_ts, contextual"]
    with torch.no_grad():
        naive, ours = (make(bandit, env, 128, 10) for make in (naive_steps, our_steps))
        naive(), ours()
        counts = [len(allocations(work, tmp_path)) for work in (naive, ours)]
    assert counts[1] <= counts[0] - 2 * 10  # a reward and a context fewer at every step, at the least


@pytest.mark.slow
def test_a_compiled_loop_allocates_nothing(tmp_path: Path) -> None:
    bandit, env = PAIRS["lin_ts, contextual"]
    with torch.no_grad():
        ours = our_steps(bandit, env, 128, 10, compile="on")
        ours()
        assert sum(allocations(ours, tmp_path)) == 0


@pytest.mark.slow
def test_compiled_hosts_agree_with_the_core() -> None:
    """Compiled code rounds otherwise than eager code, so that a lane may part ways: at most one in ten."""
    bandit, env = PAIRS["kl_ucb"]
    expected = run(bandit, env, steps=60, runs=256)
    for host in (*IN_PROCESS, "two workers"):
        got = against(host, bandit, env, steps=60, runs=256, compile="on")
        assert got.compiled
        apart = [(getattr(got, name) - getattr(expected, name)).abs() > 1e-5 for name in PER_LANE]
        assert torch.stack(apart).any(0).double().mean() < 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("host", ["gymnasium", "two workers", "a worker at a time"])
def test_a_learner_on_a_gpu_meets_the_same_environments(host: str) -> None:
    """Devices round otherwise, so that a lane may part ways: at most one in ten."""
    bandit, env = PAIRS["lin_ts, contextual"]
    here, there = (against(host, bandit, env, runs=256, device=device) for device in ("cpu", "cuda"))
    apart = [(getattr(here, name) - getattr(there, name)).abs() > 1e-4 for name in PER_LANE]
    assert torch.stack(apart).any(0).double().mean() < 0.1


# Checkpoints


def test_a_finished_run_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = against("gymnasium", checkpoint=tmp_path)
    monkeypatch.setattr(hosted, "make_host", None)  # nothing must be made
    assert same_result(against("gymnasium", checkpoint=tmp_path, resume=True), ended)
    with pytest.raises(CheckpointError, match="exists"):
        against("gymnasium", checkpoint=tmp_path)
    for changed in ({"seed": 1}, {"steps": 21}, {"host": "pufferlib"}, {"reward_range": None}):
        with pytest.raises(CheckpointError, match="another run"):
            against("gymnasium", checkpoint=tmp_path, resume=True, **changed)


def test_a_broken_run_begins_anew(tmp_path: Path) -> None:
    def stop(glimpse: Glimpse) -> None:
        raise Interruption

    with pytest.raises(Interruption):
        against("pufferlib", checkpoint=tmp_path, watch=stop)
    assert same_lanes(against("pufferlib", checkpoint=tmp_path, resume=True), against("pufferlib"))


# Bad input


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"host": "elsewhere"}, "host must be one of"),
        ({"host": "core"}, "host 'core'"),
        ({"host": "gymnasium", "num_workers": 2}, "num_workers is for host 'pufferlib', got 2"),
        ({"host": "gymnasium", "vector": "mp"}, "vector is for host 'pufferlib', got 'mp'"),
        ({"num_workers": 3}, r"runs must be a multiple of num_workers \(3\), got 70; take 69 or 72"),
        ({"host": "gymnasium", "vector": "serial"}, "vector is for host 'pufferlib', got 'serial'"),
        ({"host": "gymnasium", "overwork": True}, "overwork is for host 'pufferlib', got True"),
        ({"num_workers": 0}, "num_workers must be an integer >= 1, got 0"),
        ({"vector": "mp", "num_workers": 10_000, "runs": 10_000}, "num_workers is 10000, but there are"),
        ({"vector": "threads"}, "must be 'serial' or 'mp', got 'threads'"),
        ({"num_workers": 2, "batch_size": 3}, "batch_size.*got 3"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"runs": 0}, "runs must be an integer >= 1, got 0"),
        ({"seed": "x"}, "seed must be an integer"),
        ({"compile": "maybe"}, "compile must be"),
        ({"device": "tpu"}, "device 'tpu' cannot be used"),
        ({"bandit": learner("ucb1", arms=5)}, "bandit has 5 arms, but env has 3"),
        ({"reward_range": (1.0, 0.0)}, "reward_range must be finite"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        against("pufferlib", **options)


def test_numpy_is_handed_over_without_copies() -> None:
    side = make_side(learner("ucb1"), envs.bernoulli(arms=ARMS), 70)
    assert np.shares_memory(side.action.read(), side.action.there.numpy())
    side.reward.fill(np.ones(70, np.float32))
    assert side.reward.there[:70].tolist() == [1.0] * 70
    assert side.reward.there[70:].eq(0).all()  # lanes that only fill the last vector
