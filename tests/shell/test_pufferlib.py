"""Bandit environments in PufferLib: the core's lanes bit for bit, its buffers, its infos, and workers that die."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pufferlib.emulation
import pufferlib.vector
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import envs, episodes, random
from armfold.core.bandits import ucb1
from armfold.core.envs import logistic
from armfold.core.types import BanditEnv
from armfold.shell.buffers import LANES
from armfold.shell.envs.gymnasium import BanditGym, BanditVectorEnv
from armfold.shell.envs.pufferlib import BanditPufferEnv, Received, lane_keys, make_vector, unpack
from armfold.shell.envs.vector import VectorEnv
from tests.purity import same_bits
from tests.shell.helpers import ARMS, FEATURES, heed_signals, labelled, run

ROOT = Path(__file__).parents[2]
N = 70  # lanes: no multiple of what fills a vector


def known_rewards() -> BanditEnv:
    x = random.normal(random.key(8), (20, ARMS, FEATURES))
    return envs.dataset(x=x, p=random.uniform(random.key(7), (20, ARMS)))


WORLDS: dict[str, Callable[[], BanditEnv]] = {
    "bernoulli": partial(envs.bernoulli, arms=ARMS),
    "drifting": partial(envs.drifting, arms=ARMS),
    "contextual": partial(envs.contextual, arms=ARMS, features=FEATURES),
    "classification": labelled,
    "dataset": known_rewards,
}
BROKEN = "the broken arm was pulled"


class Seen(NamedTuple):
    """A step of an environment, in copies."""

    obs: Tensor | None  # [N, K, d] before the action
    means: Tensor  # [N, K] before the action
    logits: Tensor  # [N, K] of a logistic environment before the action
    reward: Tensor  # [N]


def logits_of(state: Any) -> Tensor:
    return logistic.logits(state) if isinstance(state, logistic.State) else torch.zeros(0)


def arms(step: int, lanes: int = N) -> np.ndarray:
    return (np.arange(lanes) * 7 + step) % ARMS


def in_core(env: BanditEnv, *, seed: int = 5, steps: int = 6) -> list[Seen]:
    """The core alone, fed the same arms."""
    filled = -(-N // LANES) * LANES
    lanes, seen = episodes.init(env, random.split(random.key(seed), filled)), []
    for step in range(steps):
        obs, means, logits = env.observe(lanes.env), env.means(lanes.env), logits_of(lanes.env)
        lanes, outcome = episodes.step(env, lanes, torch.from_numpy(arms(step, filled)))
        seen.append(Seen(None if obs is None else obs[:N], means[:N], logits[:N], outcome.reward[:N]))
    return seen


def in_face(env: BanditEnv, *, seed: int = 5, steps: int = 6) -> list[Seen]:
    face, seen = VectorEnv(env, N), []
    obs, _ = face.reset(random.split(random.key(seed), N))
    for step in range(steps):
        before = None if obs is None else obs.clone(), face.means(), logits_of(face.state).clone()
        obs, reward, *_ = face.step(torch.from_numpy(arms(step)))
        seen.append(Seen(*before, reward.clone()))
    return seen


def in_puffer(env: BanditEnv, vec: Any, *, seed: int = 5, steps: int = 6) -> list[Seen]:
    """Any vector of PufferLib; what its workers hold can only be seen where they are in this process."""
    here = getattr(vec, "envs", [])
    obs, seen = torch.from_numpy(vec.reset(seed=seed)[0].copy()), []
    for step in range(steps):
        means = [each.face.means() for each in here]
        logits = [logits_of(each.face.state).clone() for each in here]
        after, reward, *_ = vec.step(arms(step))
        state = [torch.cat(x) if x else torch.zeros(0) for x in (means, logits)]
        seen.append(Seen(obs if obs.ndim == 3 else None, *state, torch.from_numpy(reward.copy())))
        obs = torch.from_numpy(after.copy())
    vec.close()
    return seen


def in_gymnasium(env: BanditEnv, *, seed: int = 5, steps: int = 6) -> list[Seen]:
    vec, seen = BanditVectorEnv(env, N), []
    obs, _ = vec.reset(seed=seed)
    for step in range(steps):
        means, logits = torch.from_numpy(vec.means().copy()), logits_of(vec.state).clone()
        after, reward, *_ = vec.step(arms(step))
        seen.append(Seen(torch.from_numpy(obs) if obs.ndim == 3 else None, means, logits, torch.from_numpy(reward)))
        obs = after
    vec.close()
    return seen


def assert_same(got: list[Seen], expected: list[Seen], *, only: tuple[str, ...] = Seen._fields) -> None:
    assert len(got) == len(expected)
    for step, (x, y) in enumerate(zip(got, expected, strict=True)):
        for name in only:
            assert same_bits(getattr(x, name), getattr(y, name)), f"{name} of step {step}"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture
def watched() -> Iterator[None]:
    """A wait without end fails, and so does a process that is left."""

    def stop(*_: Any) -> None:
        raise TimeoutError("a minute has gone by")

    before, handler = children(), signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    assert children() == before


@pytest.mark.parametrize("name", WORLDS)
def test_every_host_gives_what_the_core_gives(name: str) -> None:
    env = WORLDS[name]()
    expected = in_core(env)
    assert len({x.reward.sum().item() for x in expected}) > 1, "rewards that never differ would show nothing"
    assert_same(in_face(env), expected)
    for workers in (1, 2, 7):
        assert_same(in_puffer(env, make_vector(env, lanes=N, num_workers=workers)), expected)
    assert_same(in_gymnasium(env), expected)


@pytest.mark.parametrize("name", ["bernoulli", "contextual"])
def test_workers_give_what_the_core_gives(name: str, watched: None) -> None:
    env = WORLDS[name]()
    vec = make_vector(env, lanes=N, backend="mp", num_workers=2)
    assert_same(in_puffer(env, vec), in_core(env), only=("obs", "reward"))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_workers_give_what_the_core_gives_everywhere(name: str, watched: None) -> None:
    env = WORLDS[name]()
    vec = make_vector(env, lanes=N, backend="mp", num_workers=2)
    assert_same(in_puffer(env, vec, seed=8, steps=30), in_core(env, seed=8, steps=30), only=("obs", "reward"))


def test_contextual_logits_are_not_all_zero() -> None:
    """Else the comparisons above would compare nothing."""
    assert in_core(WORLDS["contextual"]())[0].logits.abs().min() > 0


def test_one_lane_is_a_single_environment() -> None:
    env = WORLDS["contextual"]()
    single, native = BanditGym(env), BanditPufferEnv(env, 1)
    obs, _ = single.reset(seed=3)
    seen, _ = native.reset(seed=3)
    assert np.array_equal(obs, seen[0])
    for step in range(20):
        obs, reward, *_ = single.step(arms(step, 1)[0])
        seen, rewards, *_ = native.step(arms(step, 1))
        assert np.array_equal(obs, seen[0])
        assert reward == rewards[0]


@given(seed=st.integers(0, 2**64 - 8), workers=st.integers(1, 6), lanes=st.integers(1, 40))
def test_keys_are_those_of_the_core_and_no_two_are_equal(seed: int, workers: int, lanes: int) -> None:
    def keys(seed: int) -> Tensor:
        return torch.cat([lane_keys(seed + i, lanes, i) for i in range(workers)])

    assert torch.equal(keys(seed), random.split(random.key(seed), workers * lanes))
    both = torch.cat((keys(seed), keys(seed + 1)))
    assert len(both.unique(dim=0)) == 2 * workers * lanes


def test_reports_are_the_results_of_simulate() -> None:
    """A learner that pulls the arms in turn, run by the shell, and the same arms through PufferLib."""
    env, steps = WORLDS["drifting"](), [1, 4, 9]
    turn = ucb1(arms=ARMS)._replace(
        init=lambda rng: torch.zeros(rng.shape[:-1], dtype=torch.int64),
        select=lambda state, rng, obs, available=None: state % ARMS,
        update=lambda state, rng, obs, action, reward, **_: state + 1,
        policy=lambda state, rng, obs, samples, available=None: torch.full((*state.shape, ARMS), 1 / ARMS),
    )
    vec, reports = make_vector(env, lanes=N, num_workers=2, report=steps), []
    vec.reset(seed=11)
    for step in range(9):
        *_, infos = vec.step(np.full(N, step % ARMS))
        reports += [info["report"] for info in infos]
    assert [report["step"] for report in reports] == [1, 1, 4, 4, 9, 9]
    assert [report["first"] for report in reports] == [0, N // 2] * 3
    for step in steps:
        result = run(turn, env, steps=step, runs=N, seed=11)
        here = [report for report in reports if report["step"] == step]
        regret, reward, optimal = (
            torch.from_numpy(np.concatenate([report[name] for report in here]))
            for name in ("regret", "reward", "optimal")
        )
        assert same_bits(regret, result.regret)
        assert same_bits(reward / step, result.reward)
        assert optimal.dtype == torch.int64
        assert same_bits(optimal / step, result.optimal.float())


def test_episodes_end_by_truncation_and_are_told_of() -> None:
    env = WORLDS["contextual"]()
    native, face = BanditPufferEnv(env, N, max_steps=4), VectorEnv(env, N, max_steps=4)
    native.reset(seed=2)
    face.reset(lane_keys(2, N))
    total = regret = best = 0.0
    for step in range(1, 13):
        before = face.totals.optimal.sum().item()
        obs, reward, terminated, truncated, infos = native.step(arms(step))
        seen, *_, info = face.step(torch.from_numpy(arms(step)))
        assert np.array_equal(obs, seen.numpy())
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step % 4 == 0)
        total, regret = total + reward.mean(), regret + info.regret.mean().item()
        best += (face.totals.optimal.sum().item() - before) / N
        assert len(infos) == (step % 4 == 0)
        for told in infos:
            assert told["episode_return"] == pytest.approx(total)
            assert told["episode_regret"] == pytest.approx(regret, abs=1e-5)
            assert told["episode_optimal"] == pytest.approx(best / 4)
            assert told["episode_length"] == 4
            total = regret = best = 0.0
    assert truncated.all()
    native.reset(seed=2)
    assert not truncated.any()
    assert not native.rewards.any()


def test_a_report_stays_what_it_was() -> None:
    native = BanditPufferEnv(WORLDS["bernoulli"](), 4, report=[1])
    native.reset(seed=0)
    *_, infos = native.step(np.zeros(4, np.int32))
    kept = {name: value.copy() for name, value in infos[0]["report"].items() if isinstance(value, np.ndarray)}
    for _ in range(10):
        native.step(np.ones(4, np.int32))
    assert native.face.totals.reward.sum() > 0
    for name, value in kept.items():
        assert np.array_equal(infos[0]["report"][name], value)


def test_a_step_writes_into_the_buffers_of_the_vector() -> None:
    vec = make_vector(WORLDS["contextual"](), lanes=N, num_workers=2)
    vec.reset(seed=0)
    before = vec.observations.copy()
    vec.step(arms(0))
    for each in vec.envs:
        assert np.shares_memory(each.observations, vec.observations)
        assert np.shares_memory(each.face._outputs[0].obs.numpy(), vec.observations)
        assert np.shares_memory(each.face._outputs[0].reward.numpy(), vec.rewards)
    assert not (before == vec.observations).any()


def test_pufferlibs_own_make_takes_the_environment() -> None:
    env = WORLDS["bernoulli"]()
    vec = pufferlib.vector.make(
        BanditPufferEnv, env_args=[env, N], env_kwargs={"max_steps": 9}, backend=pufferlib.vector.Serial, num_envs=1
    )
    assert vec.single_observation_space.shape == (1,)
    assert vec.single_action_space.n == ARMS
    assert_same(in_puffer(env, vec), in_core(env))


def test_without_a_seed_it_is_that_of_the_constructor() -> None:
    env = WORLDS["contextual"]()
    first, second = BanditPufferEnv(env, N, seed=6), BanditPufferEnv(env, N)
    assert np.array_equal(first.reset()[0], second.reset(seed=6)[0])
    assert not np.array_equal(second.reset()[0], first.observations)


def test_emulated_single_environments() -> None:
    """PufferLib's emulation of Gymnasium, three environments, over the ends of their episodes."""
    env = WORLDS["contextual"]()

    def emulated(buf: Any = None, seed: int = 0) -> Any:
        return pufferlib.emulation.GymnasiumPufferEnv(env=BanditGym(env, max_steps=4), buf=buf, seed=seed)

    vec = pufferlib.vector.make([emulated] * 3, env_args=[[]] * 3, env_kwargs=[{}] * 3, backend="Serial", num_envs=3)
    singles = [BanditGym(env, max_steps=4) for _ in range(3)]
    vec.reset(seed=1)
    for i, single in enumerate(singles):
        single.reset(seed=1 + i)
    ended, paid = False, 0.0
    for step in range(14):
        obs, reward, _, truncated, _ = vec.step(arms(step, 3))
        if ended:  # PufferLib spends a step on the reset of emulated environments
            expected = [single.reset()[0] for single in singles]
        else:
            outcomes = [single.step(arm) for single, arm in zip(singles, arms(step, 3), strict=True)]
            expected = [outcome[0] for outcome in outcomes]
            assert reward.tolist() == [outcome[1] for outcome in outcomes]
            assert truncated.tolist() == [outcome[3] for outcome in outcomes]
            paid += reward.sum()
        assert np.array_equal(obs, np.stack(expected))
        ended = not ended and bool(truncated.all())
    assert paid > 0
    vec.close()


def test_what_recv_gives_has_names() -> None:
    vec = make_vector(WORLDS["bernoulli"](), lanes=4)
    vec.async_reset(3)
    seven = vec.recv()
    received = unpack(seven)
    assert received == Received(*seven)
    assert received.env_ids.tolist() == [0, 1, 2, 3]
    assert received.masks.all()
    eight = (*seven[:4], "the teacher's actions", *seven[4:])
    assert unpack(eight) == received
    with pytest.raises(ValueError, match="recv gave 6 items"):
        unpack(seven[:6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lanes": 0}, "lanes must be an integer >= 1, got 0"),
        ({"lanes": 10, "num_workers": 4}, r"lanes must be a multiple of num_workers \(4\), got 10; take 8 or 12"),
        ({"lanes": 3, "num_workers": 4}, r"got 3; take 4$"),
        ({"lanes": 4, "num_workers": 0}, "num_workers must be an integer >= 1, got 0"),
        ({"lanes": 4, "backend": "ray"}, "backend must be 'serial' or 'mp', got 'ray'"),
        ({"lanes": 4, "backend": "mp", "num_workers": 2, "batch_size": 3}, r"divide num_workers \(2\), got 3"),
        ({"lanes": 4, "num_workers": 2, "batch_size": 1}, "batch_size must be None or num_workers"),
        ({"lanes": 4, "max_steps": 0}, "max_steps must be an integer >= 1, got 0"),
        ({"lanes": 4, "report": [0]}, "report must be an integer >= 1, got 0"),
        ({"lanes": 4, "compile": "yes"}, "compile must be 'auto', 'on' or 'off'"),
    ],
)
def test_bad_vectors_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_vector(WORLDS["bernoulli"](), **arguments)


def test_more_workers_than_cores(watched: None) -> None:
    many = psutil.cpu_count(logical=False) + 1
    with pytest.raises(ValueError, match=f"num_workers is {many}, but there are {many - 1} cores.*overwork"):
        make_vector(WORLDS["bernoulli"](), lanes=many, backend="mp", num_workers=many)
    env = WORLDS["bernoulli"]()
    vec = make_vector(env, lanes=2 * many, backend="mp", num_workers=many, overwork=True)
    vec.reset(seed=0)
    vec.close()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(4), r"integers of shape \(4,\), got float64"),
        (np.zeros(3, int), r"integers of shape \(4,\), got int64 \(3,\)"),
        (np.array([0, 1, ARMS, 0]), rf"actions must lie in \[0, {ARMS}\), got {ARMS}"),
        (np.array([0, 2**32, 0, 0]), "got 4294967296"),
        (np.array([0, -1, 0, 0]), "got -1"),
    ],
)
def test_bad_actions_are_refused(actions: np.ndarray, message: str) -> None:
    native = BanditPufferEnv(WORLDS["bernoulli"](), 4)
    vec = make_vector(WORLDS["bernoulli"](), lanes=4, num_workers=2)
    native.reset(seed=0)
    vec.reset(seed=0)
    for host in (native, vec):
        with pytest.raises(ValueError, match=message):
            host.step(actions)
        host.step(np.arange(4)[::-1] % ARMS)  # and nothing is broken by it


def test_calls_out_of_turn_are_refused() -> None:
    vec = make_vector(WORLDS["bernoulli"](), lanes=4)
    with pytest.raises(ValueError, match="send comes after"):
        vec.send(np.zeros(4, int))
    with pytest.raises(ValueError, match="recv comes after"):
        vec.recv()
    with pytest.raises(ValueError, match="seed must be an integer"):
        vec.reset(seed=None)
    with pytest.raises(ValueError, match="env must be a BanditEnv, got int"):
        BanditPufferEnv(3, 4)  # type: ignore[arg-type]


def breaking(how: Callable[[], None]) -> BanditEnv:
    """An environment whose last arm ends the worker that pulls it."""
    env = WORLDS["bernoulli"]()

    def pull(state: Any, rng: Tensor, action: Tensor) -> tuple[Any, Tensor]:
        if multiprocessing.parent_process() is not None and int(action[0]) == ARMS - 1:
            how()
        return env.pull(state, rng, action)

    return env._replace(pull=pull)


def fail() -> None:
    raise ArithmeticError(BROKEN)


def test_a_worker_at_a_time_and_resets_in_between(watched: None) -> None:
    """A reset after infos, on which PufferLib waits for ever; and workers that are received alone."""
    env, paid = WORLDS["bernoulli"](), np.zeros((6, 4), np.float32)
    vec = make_vector(env, lanes=4, backend="mp", num_workers=2, batch_size=1, report=[1, 2], max_steps=2)
    vec.async_reset(9)
    vec.recv()
    vec.async_reset(3)
    for turn in range(2 * 7):
        received = unpack(vec.recv())
        if turn >= 2:
            paid[turn // 2 - 1, received.env_ids] = received.rewards
            assert len(received.infos) == {1: 1, 2: 2, 4: 1, 6: 1}.get(turn // 2, 0)
        if turn < 2 * 7 - 1:
            vec.send(arms(turn // 2, 4)[received.env_ids])
    assert received.infos
    vec.async_reset(0)
    vec.recv()
    vec.close()
    vec.close()
    with pytest.raises(ValueError, match="closed"):
        vec.reset(seed=0)
    serial = make_vector(env, lanes=4, num_workers=2, max_steps=2)
    serial.reset(seed=3)
    assert np.array_equal(paid, np.stack([serial.step(arms(step, 4))[1].copy() for step in range(6)]))


@pytest.mark.parametrize("how", [fail, lambda: os.kill(os.getpid(), signal.SIGKILL)], ids=["an error", "killed"])
def test_a_worker_that_dies_is_told_of(
    how: Callable[[], None], watched: None, capfd: pytest.CaptureFixture[str]
) -> None:
    vec = make_vector(breaking(how), lanes=4, backend="mp", num_workers=2)
    vec.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"worker 1 of 2 has died \(exit status (1|-9)\)"):
        vec.step(np.array([0, 0, ARMS - 1, 0]))
    assert (BROKEN in capfd.readouterr().err) == (how is fail)
    with pytest.raises(ValueError, match="the vector is closed"):
        vec.reset(seed=0)


def test_workers_that_have_died_before_a_reset(watched: None) -> None:
    vec = make_vector(WORLDS["bernoulli"](), lanes=4, backend="mp", num_workers=2)
    for process in vec.processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.raises(RuntimeError, match="worker 0 of 2 has died"):
        vec.reset(seed=0)


def narrow(duplex: bool = True) -> tuple[Connection, Connection]:
    """A pipe that holds a few kilobytes, whatever a machine's pipes hold by default."""
    ends = multiprocessing.connection.Pipe(duplex)
    for end in ends:
        with socket.socket(fileno=os.dup(end.fileno())) as view:
            view.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the system's least
    return ends


def test_a_worker_that_dies_while_it_reports(watched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of its report is in the pipe, whose other end the other worker holds too."""
    monkeypatch.setattr(multiprocessing, "Pipe", narrow)
    vec = make_vector(WORLDS["bernoulli"](), lanes=20_000, backend="mp", num_workers=2, report=[1])
    vec.reset(seed=0)
    vec.send(np.zeros(20_000, np.int64))
    while (vec.buf["semaphores"] != pufferlib.vector.INFO).any():
        time.sleep(0.01)
    os.kill(vec.processes[1].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker 1 of 2 has died"):
        vec.recv()


def script(text: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own. A minute without an end is a failure."""
    start = "import numpy as np, torch\nfrom armfold.core import envs\nfrom armfold.shell.envs.pufferlib import *\n"
    command = [sys.executable, "-c", first + start + text]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_workers_do_not_outlive_a_program_that_is_killed(how: signal.Signals) -> None:
    """Ctrl-C goes to all of its processes, and is the program's own affair."""
    text = (
        "import numpy as np\n"
        "from armfold.core import envs\n"
        "from armfold.shell.envs.pufferlib import make_vector\n"
        "vec = make_vector(envs.bernoulli(arms=3), lanes=4, backend='mp', num_workers=2)\n"
        "vec.reset(seed=0)\n"
        "print(*(process.pid for process in vec.processes), flush=True)\n"
        "while True:\n"
        "    vec.step(np.zeros(4, np.int32))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=heed_signals,
    ) as process:  # fmt: skip
        workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]  # type: ignore[union-attr]
        assert len(workers) == 2
        (os.killpg if how is signal.SIGINT else os.kill)(process.pid, how)
        _, alive = psutil.wait_procs(workers, timeout=20)
        for worker in alive:
            worker.kill()
        err = process.communicate(timeout=20)[1]
    assert not alive
    assert process.returncode in (-how, 1 if how is signal.SIGINT else -how)
    assert err.count("Traceback") == (how is signal.SIGINT)  # its own, not its workers'


@pytest.mark.slow
def test_threads_of_the_parent_do_not_hang_its_workers() -> None:
    """Large enough that torch wants its threads, which a fork does not have."""
    done = script(
        "import pufferlib.vector as v\n"
        "torch.set_num_threads(2)\n"
        "torch.sigmoid(torch.randn(10**6))\n"
        "env = envs.contextual(arms=10, features=8)\n"
        "ours = make_vector(env, lanes=8192, backend='mp', num_workers=2)\n"
        "theirs = v.make(BanditPufferEnv, env_args=[env, 4096], backend=v.Multiprocessing, num_envs=2, num_workers=2)\n"
        "for vec in (ours, theirs):\n"
        "    vec.reset(seed=0)\n"
        "    print(vec.step(np.zeros(8192, np.int64))[1].mean() > 0, flush=True)\n"
        "    vec.close()\n"
    )
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr


@pytest.mark.slow
def test_a_program_that_closes_nothing_ends() -> None:
    done = script(
        "vec = make_vector(envs.bernoulli(arms=3), lanes=4, backend='mp', num_workers=2)\n"
        "vec.reset(seed=0)\n"
        "vec.async_reset(1)\n"
        "print(*(process.pid for process in vec.processes))\n"
        "raise SystemExit(3)\n",
        first="import weakref\nweakref.finalize(type, int)\n",  # now weakref's exit comes after multiprocessing's
    )
    assert done.returncode == 3, done.stderr
    assert not any(psutil.pid_exists(int(pid)) for pid in done.stdout.split())


@pytest.mark.slow
def test_workers_inherit_the_compiled_step(watched: None) -> None:
    env, steps = envs.contextual(arms=ARMS, features=FEATURES), 40
    BanditPufferEnv(env, N // 2, compile="on", max_steps=16)
    with torch.compiler.set_stance("fail_on_recompile"):  # which processes forked inside of it inherit
        vec = make_vector(env, lanes=N, backend="mp", num_workers=2, compile="on", max_steps=16, report=[steps])
        vec.reset(seed=4)
    eager = make_vector(env, lanes=N, max_steps=16)
    eager.reset(seed=4)
    for step in range(steps):
        obs, reward, _, truncated, infos = vec.step(arms(step))
        expected = eager.step(arms(step))
        np.testing.assert_allclose(obs, expected[0], rtol=1e-5, atol=1e-6)
        assert np.array_equal(reward, expected[1])
        assert np.array_equal(truncated, expected[3])
    regret = np.concatenate([info["report"]["regret"] for info in infos if "report" in info])
    np.testing.assert_allclose(regret, eager.envs[0].face.totals.regret.numpy(), rtol=1e-4)
    vec.close()


@pytest.mark.slow
def test_waiting_for_a_slow_worker_is_no_death(watched: None) -> None:
    vec = make_vector(breaking(lambda: time.sleep(1.5)), lanes=4, backend="mp", num_workers=2)
    vec.reset(seed=0)
    _, reward, *_ = vec.step(np.full(4, ARMS - 1))
    serial = make_vector(WORLDS["bernoulli"](), lanes=4)
    serial.reset(seed=0)
    assert np.array_equal(reward, serial.step(np.full(4, ARMS - 1))[1])
    vec.close()
