"""Bandit environments in PufferLib: lanes as the agents of a native environment, alone or one to a worker.

PufferLib gives environment i of a vector the seed s + i. Environment i takes its number off again: its lane j is lane
i N + j of `armfold.shell.simulate(seed=s)`, however many workers there are. No two share a key.
"""

import multiprocessing
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from pufferlib import PufferEnv
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_size
from armfold.core.episodes import Totals
from armfold.core.types import BanditEnv
from armfold.shell.compiled import Mode
from armfold.shell.device import cpu_threads
from armfold.shell.envs import workers
from armfold.shell.envs.spaces import bandit_spaces, check_actions
from armfold.shell.envs.vector import Info, Outputs, VectorEnv


def lane_keys(seed: int, lanes: int, index: int = 0) -> Tensor:
    """The keys [lanes, 2] of environment `index` of a vector, which PufferLib gives its seed plus `index`."""
    number = torch.arange(index * lanes, (index + 1) * lanes)
    return random.fold_in(random.key(seed - index).expand(lanes, 2), number)


class BanditPufferEnv(PufferEnv):  # type: ignore[misc]
    """N lanes of a bandit environment as a native environment of N agents; `face` is the `VectorEnv` beneath.

    A step writes straight into PufferLib's buffers: observations [N, K, d] float32 ([N, 1] of zeros where there is no
    context), rewards float32, terminals (never), truncations (after `max_steps`, with the first observation of the next
    episode). Infos, one or two dicts at a time:

    - at the end of an episode, means over its lanes: episode_return, episode_regret (pseudo-regret), both in reward
      units, episode_optimal (share of steps on which a best arm was played) and episode_length;
    - at the steps of `report`, counted from `reset`, under "report": step, first (the number of lane 0), and
      what each lane has summed since `reset`: regret and reward [N] float64, optimal [N] int64.
    """

    def __init__(
        self,
        env: BanditEnv,
        lanes: int,
        *,
        index: int = 0,
        max_steps: int | None = None,
        compile: Mode = "off",
        report: Collection[int] = (),
        buf: dict[str, Any] | None = None,
        seed: int | None = 0,
    ) -> None:
        """`lanes` lanes of `env`, which are lanes index * lanes and on of a larger run.

        compile: "on" compiles the step here (5 to 20 seconds), so that processes forked later need not.
        buf, seed: what PufferLib hands over; the seed is for a `reset` that is given none. Raises ValueError for what
        cannot be.
        """
        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)  # the threads of a parent are gone in its fork, which would wait for them for ever
        if not isinstance(env, BanditEnv):
            raise ValueError(f"env must be a BanditEnv, got {type(env).__name__}")
        check_size("lanes", lanes)
        check_size("index", index, low=0)
        for step in report:
            check_size("report", step)
        self.single_observation_space, self.single_action_space = bandit_spaces(env)
        self.num_agents = lanes
        super().__init__(buf)
        self.index, self.max_steps, self.report = index, max_steps, frozenset(report)
        self._seed = index if seed is None else seed
        self.face = VectorEnv(env, lanes, max_steps=max_steps, compile=compile, outputs=[self._outputs(env)])
        self._time = 0
        if self.face.compiled:
            self.reset()
            self.step(np.zeros(lanes, np.int32))
            self.close()

    def _outputs(self, env: BanditEnv) -> Outputs:
        """PufferLib's buffers as tensors on the same memory."""
        seen = env.observe(env.init(random.key(0))) is not None
        obs, reward, terminated, truncated = map(
            torch.from_numpy, (self.observations, self.rewards, self.terminals, self.truncations)
        )
        info = Info(final_obs=None, legal=None, regret=torch.zeros(self.num_agents))
        return Outputs(obs if seen else None, reward, terminated, truncated, info)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """First episodes of lanes index * N and on of seed - index: observations, and no infos."""
        seed = self._seed if seed is None else seed
        for buffer in (self.observations, self.rewards, self.terminals, self.truncations):
            buffer[:] = 0
        self.face.reset(lane_keys(seed, self.num_agents, self.index))
        self._time, self._before = 0, self._totals()
        return self.observations, []

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Pull the arms `actions`, integers [N]: observations, rewards, terminals, truncations, infos.

        Raises ValueError for actions of another dtype or shape, or outside [0, K).
        """
        self.face.step(check_actions(actions, self.num_agents, int(self.single_action_space.n)))
        self._time += 1
        return self.observations, self.rewards, self.terminals, self.truncations, self._infos()

    def _infos(self) -> list[dict[str, Any]]:
        infos: list[dict[str, Any]] = []
        if self.max_steps is not None and self._time % self.max_steps == 0:
            now = self._totals()
            regret, reward, optimal = (
                float((end - start).double().mean()) for end, start in zip(now, self._before, strict=True)
            )
            self._before = now
            infos.append(
                {
                    "episode_return": reward,
                    "episode_regret": regret,
                    "episode_optimal": optimal / self.max_steps,
                    "episode_length": self.max_steps,
                }
            )
        if self._time in self.report:
            place = {"step": self._time, "first": self.index * self.num_agents}
            sums = {name: total.numpy() for name, total in self._totals()._asdict().items()}
            infos.append({"report": place | sums})
        return infos

    def _totals(self) -> Totals:
        return Totals(*(total.clone() for total in self.face.totals))

    def close(self) -> None:
        """Let go of the environment's own buffers. It can be reset again."""
        self.face.close()


class Received(NamedTuple):
    """What `recv` of a vector returns, in any version of PufferLib."""

    obs: np.ndarray  # [N, ...]
    rewards: np.ndarray  # [N] float32
    terminals: np.ndarray  # [N] bool
    truncations: np.ndarray  # [N] bool
    infos: list[dict[str, Any]]
    env_ids: np.ndarray  # [N] numbers of the agents
    masks: np.ndarray  # [N] bool


def unpack(received: Sequence[Any]) -> Received:
    """What a vector's `recv` gave, by name: 7 items, or 8 from PufferLib 3.0.17 on, whose fifth nothing here fills."""
    if len(received) not in (7, 8):
        raise ValueError(f"recv gave {len(received)} items, where 7 or 8 were expected")
    return Received(*received[:4], *received[-3:])


def make_vector(
    env: BanditEnv,
    *,
    lanes: int,
    backend: Literal["serial", "mp"] = "serial",
    num_workers: int = 1,
    batch_size: int | None = None,
    overwork: bool = False,
    max_steps: int | None = None,
    compile: Mode = "off",
    report: Collection[int] = (),
) -> Any:
    """A vector of PufferLib, `Serial` or `Multiprocessing`, with `lanes` lanes of `env` in `num_workers` environments.

    backend: "serial" steps all in this process, "mp" each in a process of its own; the results are the same, bit for
    bit (eager). batch_size: workers that one `recv` waits for; None: all. overwork: allow more workers than cores.
    max_steps, compile, report: of `BanditPufferEnv`. Compiled once, in this process.

    Raises ValueError for what cannot be, for actions that are no arms, and where `send` and `recv` do not take turns;
    RuntimeError where a worker has died, within seconds.
    """
    check_vector(lanes, backend, num_workers, batch_size, overwork)
    options = {"max_steps": max_steps, "compile": compile, "report": report}
    creators, arguments = [BanditPufferEnv] * num_workers, [[env, lanes // num_workers]] * num_workers
    settings = [{"index": i, **options} for i in range(num_workers)]
    if backend == "serial":
        return workers.Serial(creators, arguments, settings, num_workers)
    with cpu_threads(1, torch.device("cpu")):  # as in the workers: for another number the step would compile again
        return workers.Multiprocessing(
            creators, arguments, settings, num_workers, num_workers, batch_size=batch_size, overwork=overwork
        )


def check_vector(
    lanes: int, backend: str, num_workers: int = 1, batch_size: int | None = None, overwork: bool = False
) -> None:
    """Raise ValueError unless `make_vector` can make a vector of these."""
    check_size("num_workers", num_workers)  # first: `make_puffer_vector` has no other number
    check_size("lanes", lanes)
    if backend not in ("serial", "mp"):
        raise ValueError(f"backend must be 'serial' or 'mp', got {backend!r}")
    if lanes % num_workers:
        below = lanes // num_workers * num_workers
        near = " or ".join(str(n) for n in (below, below + num_workers) if n)
        raise ValueError(f"lanes must be a multiple of num_workers ({num_workers}), got {lanes}; take {near}")
    if batch_size is not None:
        check_size("batch_size", batch_size)
        if num_workers % batch_size or (backend == "serial" and batch_size != num_workers):
            wanted = (
                "divide num_workers" if backend == "mp" else "be None or num_workers, as 'serial' steps all at once"
            )
            raise ValueError(f"batch_size must {wanted} ({num_workers}), got {batch_size}")
    if backend == "mp":
        cores = psutil.cpu_count(logical=False)
        if cores is None:
            raise ValueError("PufferLib cannot count the cores of this machine: take backend='serial'")
        if num_workers > cores and not overwork:
            raise ValueError(
                f"num_workers is {num_workers}, but there are {cores} cores, and workers never rest: take {cores} or "
                "fewer, or allow it by overwork"
            )
