"""What the tests of the shell share: short eager runs, comparison bit for bit, broken runs, listening wrappers."""

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from armfold.core import random
from armfold.core.bandits import ALGORITHMS, ucb1
from armfold.core.envs import bernoulli, classification, contextual
from armfold.core.types import Bandit, BanditEnv
from armfold.shell import Result, simulate
from armfold.shell.store import checkpoint
from tests.purity import same_bits

ARMS, FEATURES = 3, 2
PER_LANE = ("regret", "reward", "optimal")
SMALLEST = 1  # bytes for a block: fewer than any needs, so blocks are of 64 lanes


def run(bandit: Bandit | None = None, env: BanditEnv | None = None, **options: Any) -> Result:
    """`simulate`, eager, small and silent where nothing else is said."""
    settings = {"steps": 40, "runs": 70, "compile": "off", "progress": False, **options}
    return simulate(bandit or ucb1(arms=ARMS), env or bernoulli(arms=ARMS), **settings)


def learner(name: str, *, arms: int = ARMS, features: int = FEATURES, **tunables: Any) -> Bandit:
    """An algorithm of the registry."""
    structure = {"arms": arms, "features": features} if ALGORITHMS[name].contextual else {"arms": arms}
    return ALGORITHMS[name].make(**structure, **tunables)


def world(name: str, *, arms: int = ARMS, features: int = FEATURES) -> BanditEnv:
    """An environment for the algorithm of that name."""
    return contextual(arms=arms, features=features) if ALGORITHMS[name].contextual else bernoulli(arms=arms)


def labelled(context: str = "shared") -> BanditEnv:
    """A small data set of three classes."""
    x = random.normal(random.key(9), (20, FEATURES))
    return classification(x=x, y=torch.arange(20) % ARMS, arms=ARMS, context=context)


def same_lanes(x: Result, y: Result, *, of_y: slice = slice(None)) -> bool:
    """Whether every lane of x is, bit for bit, a lane of y."""
    return all(same_bits(getattr(x, name), getattr(y, name)[of_y]) for name in PER_LANE)


def same_result(x: Result, y: Result) -> bool:
    """Whether two results are the same bit for bit, but for the seconds they took."""
    first, second = ({**vars(result), "seconds": 0.0} for result in (x, y))
    return first.keys() == second.keys() and all(same_bits(first[name], second[name]) for name in first)


def heed_signals() -> None:
    """For `preexec_fn` of a process that is to be sent one: whoever starts the tests in the background has SIGINT
    ignored, or with nohup SIGHUP, and so would it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Interruption(BaseException):
    """What stops a run on purpose: like KeyboardInterrupt, nothing that is there to handle errors may swallow it."""


@contextlib.contextmanager
def stopped_after(monkeypatch: pytest.MonkeyPatch, saves: int, error: BaseException) -> Iterator[None]:
    """Within it, whoever has written so many checkpoints is stopped by `error`."""
    saved, save = 0, checkpoint.save

    def save_and_stop(*args: Any, **kwargs: Any) -> None:
        nonlocal saved
        save(*args, **kwargs)
        saved += 1
        if saved == saves:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        yield


def interrupt_run(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    after: int,
    *arguments: Any,
    go: Callable[..., object] = run,
    **options: Any,
) -> None:
    """A run of `go` into `folder` that checkpoints wherever it can and stops when it has saved `after` times."""
    with stopped_after(monkeypatch, after, Interruption()), pytest.raises(Interruption):
        go(*arguments, checkpoint=folder, checkpoint_every=1e-9, **options)


def files(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(folder: Path) -> dict[str, bytes]:
    """The files of a sweep that do not tell how long something took."""
    return {name: data for name, data in files(folder).items() if not name.startswith("shards")}


def allocations(work: Any, folder: Path) -> list[int]:
    """Bytes of every allocation on the CPU while `work` runs, those soon freed included.

    The profiler's `self_cpu_memory_usage` will not do: it is net, and a temporary that a compiled program takes and
    gives back adds up to nothing.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    record.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    return [event["args"]["Bytes"] for event in events if event["name"] == "[memory]" and event["args"]["Bytes"] > 0]


class Play(NamedTuple):
    """What an environment was asked and answered."""

    rng: Tensor  # [N, 2]
    means: Tensor  # [N, K]
    action: Tensor  # [N]
    reward: Tensor  # [N]


def listened(env: BanditEnv) -> tuple[BanditEnv, list[Play]]:
    """`env`, and a list that receives every play of an eager run."""
    plays: list[Play] = []

    def pull(state: Any, rng: Tensor, action: Tensor) -> tuple[Any, Tensor]:
        means = env.means(state).clone()
        moved, reward = env.pull(state, rng, action)
        plays.append(Play(*(x.clone() for x in (rng, means, action, reward))))
        return moved, reward

    return env._replace(pull=pull), plays
