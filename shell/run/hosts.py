"""Hosts of environments behind one face: actions go out, observations and rewards come back, batch by batch."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch

from armfold.core.check import check_size
from armfold.core.episodes import Totals
from armfold.core.types import BanditEnv
from armfold.shell.compiled import Mode, tensor_tunables
from armfold.shell.run.side import Array

HostName = Literal["core", "gymnasium", "pufferlib"]
VectorName = Literal["serial", "mp"]


class Hosting(NamedTuple):
    """Who steps the environment, and how."""

    host: HostName
    vector: VectorName | None = None  # of pufferlib, as all that follow; None: serial
    num_workers: int | None = None  # None: 1
    batch_size: int | None = None  # None: all workers
    overwork: bool = False  # more workers than cores are allowed


class Batch(NamedTuple):
    """What a host hands over: always of the lanes that it took actions for the longest ago."""

    obs: Array  # [n, ...] float32, what its lanes see now
    reward: Array  # [n] float32, reward unit; before the first action nothing that means anything
    reports: list[tuple[int, int, Totals]]  # step, the first lane, and totals of it and those that follow, on the CPU


class Host(Protocol):
    """Environments of `lanes` lanes in `batches` batches of the same size, which come in turn."""

    batches: int

    def reset(self, seed: int) -> None:
        """Start the lanes of `simulate(seed=seed)`; each batch can then be received."""

    def receive(self) -> Batch:
        """Wait for the next batch."""

    def send(self, actions: Array) -> None:
        """Take actions [n] in the batch received last."""

    def close(self) -> None:
        """End its processes."""


class GymnasiumHost:
    """One `BanditVectorEnv` of all lanes."""

    batches = 1

    def __init__(self, env: BanditEnv, lanes: int, *, report: Sequence[int], compile: Mode) -> None:
        from armfold.shell.envs.gymnasium import BanditVectorEnv

        self.env = BanditVectorEnv(env, lanes, max_steps=None, compile=compile, copy=False)
        self.report = frozenset(report)

    def reset(self, seed: int) -> None:
        """Start the lanes."""
        obs, _ = self.env.reset(seed=seed % 2**64)  # Gymnasium takes none below 0; these are the same bits
        self.step = 0
        self.batch = Batch(obs, np.zeros(self.env.num_envs, np.float32), [])

    def receive(self) -> Batch:
        """What `send` brought."""
        return self.batch

    def send(self, actions: Array) -> None:
        """Take a step."""
        obs, reward, *_ = self.env.step(actions)
        self.step += 1
        reports = []
        if self.step in self.report:
            reports.append((self.step, 0, Totals(*(total.clone() for total in self.env.face.totals))))
        self.batch = Batch(obs, reward, reports)

    def close(self) -> None:
        """Let go of the environment."""
        self.env.close()


class PufferHost:
    """Native PufferLib environments, one a worker."""

    def __init__(self, env: BanditEnv, lanes: int, *, hosting: Hosting, report: Sequence[int], compile: Mode) -> None:
        from armfold.shell.envs import pufferlib

        workers = hosting.num_workers or 1
        self.vec = pufferlib.make_vector(
            env, lanes=lanes, backend=hosting.vector or "serial", num_workers=workers, batch_size=hosting.batch_size,
            overwork=hosting.overwork, compile=compile, report=report,
        )  # fmt: skip
        self.unpack = pufferlib.unpack
        self.batches = workers // (hosting.batch_size or workers)

    def reset(self, seed: int) -> None:
        """Start the lanes."""
        self.vec.async_reset(seed)

    def receive(self) -> Batch:
        """Wait for the workers whose turn it is."""
        received = self.unpack(self.vec.recv())
        told = [info["report"] for info in received.infos if "report" in info]
        sums = [Totals(*(torch.from_numpy(report[name]) for name in Totals._fields)) for report in told]
        reports = [(report["step"], report["first"], totals) for report, totals in zip(told, sums, strict=True)]
        return Batch(received.obs, received.rewards, reports)

    def send(self, actions: Array) -> None:
        """Let the workers received last take a step."""
        self.vec.send(actions)

    def close(self) -> None:
        """End the workers."""
        self.vec.close()


def check_host(hosting: Hosting, runs: int) -> None:
    """Raise ValueError unless `runs` lanes can be stepped so."""
    name, vector, workers, batch_size, overwork = hosting
    if name not in get_args(HostName):
        raise ValueError(f"host must be one of {get_args(HostName)}, got {name!r}")
    if name != "pufferlib":
        for argument, value in hosting._asdict().items():
            if argument != "host" and value not in (None, False):
                raise ValueError(f"{argument} is for host 'pufferlib', got {value!r} with host {name!r}")
        return
    from armfold.shell.envs import pufferlib

    workers = 1 if workers is None else workers
    check_size("num_workers", workers)
    if runs % workers:
        near = " or ".join(str(n) for n in (runs - runs % workers, runs - runs % workers + workers) if n)
        raise ValueError(f"runs must be a multiple of num_workers ({workers}), got {runs}; take {near}")
    pufferlib.check_vector(runs, vector or "serial", workers, batch_size, overwork)


def make_host(
    hosting: Hosting, env: BanditEnv, lanes: int, *, report: Sequence[int] = (), compile: Mode = "off"
) -> Host:
    """The host, which is not the core, with `lanes` lanes of `env`. report: steps at which it tells the lanes' totals.
    Raises ValueError for what it does not have."""
    check_host(hosting, lanes)
    env = tensor_tunables(env, torch.device("cpu"))  # where hosts are
    if hosting.host == "gymnasium":
        return GymnasiumHost(env, lanes, report=report, compile=compile)
    if hosting.host == "pufferlib":
        return PufferHost(env, lanes, hosting=hosting, report=report, compile=compile)
    raise ValueError("host 'core' steps environments with the learner: that is `simulate`")
