"""What hosting an environment costs: the same learner and lanes fused with the core, and against each host.

Rows of a learner: run-steps per second of the whole loop (select, actions out, environment step, rewards in, update)
against selecting and updating alone, with whatever lies in the buffers. The first rows: env-steps per second of one
native PufferLib environment of 4096 lanes, without a learner, against 64 emulated single environments, ours and a
plain NumPy one. Workers of `mp` wait by looking, all the time, and share the cores with the learner: reported only.
"""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch

from armfold import shell
from armfold.core import bandits, envs, random
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.envs import gymnasium as gymnasium_face
from armfold.shell.envs import pufferlib as puffer_face
from armfold.shell.run import hosted, hosts
from armfold.shell.run.profile import Stopwatch
from armfold.shell.run.side import make_side
from bench import record

NATIVE_BAR = 50.0  # one native environment of 4096 lanes against 64 emulated ones
HOST_BAR = 0.5  # of the speed of selecting and updating alone
NATIVE_LANES, EMULATED = 4096, 64
SIZES = {"lanes": 8192, "arms": 10, "features": 8}  # of the bars; at other sizes ratios are only reported
LEARNERS = ("kl_ucb", "lin_ucb")
BARRED = ("gymnasium", "pufferlib serial")

Player = Callable[[int], object]


class PlainBandit(gymnasium.Env[np.ndarray[Any, Any], int]):
    """Bernoulli arms as anybody writes them: one object an environment, NumPy's generator."""

    def __init__(self, arms: int) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(arms)
        self.seen = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Draw the arms."""
        super().reset(seed=seed)
        self.p = self.np_random.random(self.action_space.n)
        return self.seen, {}

    def step(self, action: int) -> Any:
        """Toss a coin."""
        return self.seen, float(self.np_random.random() < self.p[action]), False, False, {}


def native(arms: int) -> Player:
    """One native environment in PufferLib's Serial."""
    vec = puffer_face.make_vector(envs.bernoulli(arms=arms), lanes=NATIVE_LANES, compile="on")
    return _stepped(vec, NATIVE_LANES, arms)


def emulated(make: Callable[[], Any], arms: int) -> Player:
    """Single environments, emulated by PufferLib, in its Serial."""
    import pufferlib.emulation
    import pufferlib.vector

    creator = partial(pufferlib.emulation.GymnasiumPufferEnv, env_creator=make)
    vec = pufferlib.vector.make(creator, num_envs=EMULATED, backend=pufferlib.vector.Serial)
    return _stepped(vec, EMULATED, arms)


def _stepped(vec: Any, lanes: int, arms: int) -> Player:
    vec.reset(0)
    actions = np.random.default_rng(0).integers(0, arms, (64, lanes), dtype=np.int32)

    def play(steps: int) -> None:
        for i in range(steps):
            vec.step(actions[i % 64])

    return play


def alone(bandit: Bandit, env: BanditEnv, lanes: int) -> Player:
    """Selecting and updating, and nothing else: the same contexts and rewards at every step."""
    side = make_side(bandit, env, lanes, compile="on")
    seen = env.observe(env.init(random.split(random.key(0), lanes)))
    if side.obs is not None and seen is not None:
        side.obs.fill(seen.numpy())

    def play(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                side.select()
                side.update()

    return play


def against(name: str, bandit: Bandit, env: BanditEnv, lanes: int, *, workers: int) -> Player:
    """The whole loop against a host."""
    host_name, _, vector = name.partition(" ")
    with other_cores() if workers else contextlib.nullcontext():
        hosting = hosts.Hosting(host_name, vector or None, num_workers=workers or None)
        host = hosts.make_host(hosting, env, lanes, compile="on")
    sides = [make_side(bandit, env, lanes // host.batches, compile="on") for _ in range(host.batches)]

    def play(steps: int) -> None:
        host.reset(0)
        with torch.no_grad():
            for _ in hosted.Exchange(host, sides, [steps], lanes).go(Stopwatch(torch.device("cpu"), exact=False)):
                pass

    return play


@contextlib.contextmanager
def other_cores() -> Iterator[None]:
    """What is started inside keeps off the core that the benchmark is bound to, where there is another."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - ours or ours)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def fused(bandit: Bandit, env: BanditEnv, lanes: int) -> Player:
    """The core host: learner and environment in one program."""
    simulate = partial(shell.simulate, bandit, env, compile="on", threads=1, points=1, progress=False)
    return lambda steps: simulate(steps=steps, runs=lanes)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = record.parser("hosts", (__doc__ or "").splitlines()[0])
    parser.add_argument("--lanes", type=record.positive, default=SIZES["lanes"], help="N, lanes of the learners")
    parser.add_argument("--arms", type=record.positive, default=SIZES["arms"], help="K")
    parser.add_argument("--features", type=record.positive, default=SIZES["features"], help="d, of the context")
    parser.add_argument("--workers", type=record.positive, default=1, help="processes of pufferlib mp")
    parser.add_argument("--seconds", type=float, default=1.5, help="about how long one repeat of one side lasts")
    return parser.parse_args(arguments)


def compare_native(options: argparse.Namespace) -> Iterator[record.Row]:
    """One native environment against emulated ones."""
    make = partial(gymnasium_face.BanditGym, envs.bernoulli(arms=options.arms), max_steps=None)
    players = {
        "native": native(options.arms),
        "ours, emulated": emulated(make, options.arms),
        "plain NumPy, emulated": emulated(partial(PlainBandit, options.arms), options.arms),
    }
    timings = record.race(players, repeats=options.repeats, seconds=options.seconds, first=20)
    ours = NATIVE_LANES * timings["native"].rate
    for peer in list(players)[1:]:
        detail = {"timings": {name: timings[name]._asdict() for name in ("native", peer)}}
        yield record.Row("env steps, native", peer, ours, EMULATED * timings[peer].rate, NATIVE_BAR, detail, True)


def compare_hosts(algorithm: str, options: argparse.Namespace) -> Iterator[record.Row]:
    """Each host's loop against selecting and updating alone."""
    entry = bandits.ALGORITHMS[algorithm]
    sizes = {"arms": options.arms, **({"features": options.features} if entry.contextual else {})}
    bandit, env = entry.make(**sizes), (envs.contextual if entry.contextual else envs.bernoulli)(**sizes)
    usual = all(getattr(options, name) == size for name, size in SIZES.items())
    fast = {name: partial(against, name, workers=0) for name in BARRED}
    # Workers that wait would disturb the others: they are there for their own race alone.
    for sides in ({"core": fused, **fast}, {"pufferlib mp": partial(against, "pufferlib mp", workers=options.workers)}):
        players = {name: make(bandit, env, options.lanes) for name, make in {"alone": alone, **sides}.items()}
        timings = record.race(players, repeats=options.repeats, seconds=options.seconds, first=20)
        for name in sides:
            bar = HOST_BAR if usual and name in BARRED else None
            detail = {"timings": {side: timings[side]._asdict() for side in ("alone", name)}}
            ours, theirs = (options.lanes * timings[side].rate for side in (name, "alone"))
            yield record.Row(f"{algorithm}, {name}", "alone", ours, theirs, bar, detail, True)


def measure(options: argparse.Namespace) -> list[record.Row]:
    """Every row."""
    rows = list(compare_native(options))
    for algorithm in LEARNERS:
        rows += compare_hosts(algorithm, options)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    return record.run("hosts", options, "steps of a lane per second", functools.partial(measure, options))


if __name__ == "__main__":
    sys.exit(main())
