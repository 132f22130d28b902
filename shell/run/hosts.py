"""Hosts of environments behind one face: actions go out, observations and rewards come back, batch by batch."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch

from armfold.core.episodes import Totals
from armfold.core.types import BanditEnv
from armfold.shell.compiled import Mode

HostName = Literal["core", "gymnasium", "pufferlib"]
VectorName = Literal["serial", "mp"]
Array = np.ndarray[Any, Any]


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
        obs, _ = self.env.reset(seed=seed)
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

    def __init__(
        self,
        env: BanditEnv,
        lanes: int,
        *,
        report: Sequence[int],
        compile: Mode,
        vector: VectorName,
        num_workers: int,
        batch_size: int | None,
    ) -> None:
        from armfold.shell.envs import pufferlib

        self.vec = pufferlib.make_vector(
            env, lanes=lanes, backend=vector, num_workers=num_workers, batch_size=batch_size, compile=compile,
            report=report,
        )  # fmt: skip
        self.unpack = pufferlib.unpack
        self.batches = num_workers // (batch_size or num_workers)

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


def check_host(
    name: HostName, lanes: int, *, vector: VectorName | None, num_workers: int | None, batch_size: int | None
) -> None:
    """Raise ValueError unless `lanes` lanes can be stepped so; the core steps them itself."""
    if name == "pufferlib":
        from armfold.shell.envs import pufferlib

        pufferlib.check_vector(lanes, vector or "serial", 1 if num_workers is None else num_workers, batch_size)
        return
    if name not in get_args(HostName):
        raise ValueError(f"host must be one of {get_args(HostName)}, got {name!r}")
    for argument, value in {"vector": vector, "num_workers": num_workers, "batch_size": batch_size}.items():
        if value not in (None, "serial"):
            raise ValueError(f"{argument} is for host 'pufferlib', got {value!r} with host {name!r}")


def make_host(
    name: HostName,
    env: BanditEnv,
    lanes: int,
    *,
    vector: VectorName | None = None,
    num_workers: int | None = None,
    batch_size: int | None = None,
    report: Sequence[int] = (),
    compile: Mode = "off",
) -> Host:
    """The host of that name, which is not the core. `report`: steps at which it tells the lanes' totals. Raises
    ValueError for what it does not have."""
    check_host(name, lanes, vector=vector, num_workers=num_workers, batch_size=batch_size)
    if name == "gymnasium":
        return GymnasiumHost(env, lanes, report=report, compile=compile)
    if name == "pufferlib":
        return PufferHost(
            env, lanes, report=report, compile=compile, vector=vector or "serial", num_workers=num_workers or 1,
            batch_size=batch_size,
        )  # fmt: skip
    raise ValueError("host 'core' steps environments with the learner: that is `simulate`")
