"""Where the shards of a sweep run: one after another in this process, or side by side in Ray's workers."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from armfold.core.check import check_size
from armfold.shell.run.result import Result
from armfold.shell.run.shard import Running, Shard, play

Name = Literal["local", "ray"]
Moved = Callable[[int], None]  # told how many run-steps are done
Job = tuple[Shard, Path | None]  # what runs, and the folder that keeps it
Ended = Generator[tuple[Shard, Result]]
Engine = Callable[[Sequence[Job], Moved], Ended]  # to be closed where not all is taken

_PATIENCE = 10.0  # seconds in which a Ray cluster must answer
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextmanager
def open_engine(
    name: Name, running: Running, *, num_workers: int | None = None, address: str | None = None
) -> Iterator[Engine]:
    """The engine of that name, ready to run shards; results come as they are finished.

    Raises ValueError where there is no Ray, where it cannot be reached, or has fewer cores than `num_workers`.
    """
    if name not in ("local", "ray"):
        raise ValueError(f"engine must be 'local' or 'ray', got {name!r}")
    if name == "local":
        for option, value in {"num_workers": num_workers, "ray_address": address}.items():
            if value is not None:
                raise ValueError(f"{option} is for engine 'ray', got {value!r} for engine 'local'")
        yield partial(_run_here, running=running)
        return
    if num_workers is not None:
        check_size("num_workers", num_workers)
    if running.threads != 1:
        raise ValueError(f"threads is for engine 'local', got {running.threads}: Ray's workers take one each")
    with _ray(num_workers, address) as (ray, workers):
        yield partial(_run_on_ray, running=running, ray=ray, workers=workers)


def _run_here(jobs: Sequence[Job], moved: Moved, *, running: Running) -> Ended:
    done = 0
    for shard, folder in jobs:

        def watch(glimpse: Any, before: int = done) -> None:
            moved(before + glimpse.done)

        result = play(shard, folder=folder, running=running, watch=watch)
        done += shard.lanes * result.steps
        moved(done)
        yield shard, result


@contextmanager
def _ray(num_workers: int | None, address: str | None) -> Iterator[tuple[Any, int]]:
    """Ray, started here where no address is given, and the number of workers to use."""
    try:
        for key, value in _QUIET.items():
            os.environ.setdefault(key, value)
        import ray
    except ImportError as error:
        raise ValueError("engine 'ray' needs Ray: pip install 'armfold[ray]', or use engine 'local'") from error
    if ray.is_initialized():  # by whoever called us: theirs to shut down
        if address is not None:
            raise ValueError(f"ray_address {address!r} cannot be used: this process uses another Ray already")
        yield ray, _count_workers(num_workers, _cores(ray), "the Ray in use")
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = None if address else _count_workers(num_workers, cores, "this machine")
    try:
        _connect(ray, workers, address)
        yield ray, workers or _count_workers(num_workers, _cores(ray), f"Ray at {address}")
    finally:
        ray.shutdown()


def _cores(ray: Any) -> int:
    return int(ray.cluster_resources().get("CPU", 0))


def _count_workers(wanted: int | None, cores: int, where: str) -> int:
    if (wanted or 1) > cores:
        raise ValueError(
            f"num_workers must be at most {cores}, the cores of {where}, got {wanted or 1}: "
            "ask for fewer, or give the ray_address of a cluster with more"
        )
    return wanted or cores


def _connect(ray: Any, workers: int | None, address: str | None) -> None:
    settings = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **settings)
        return
    _check_address(address)
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(f"ray_address {address!r} cannot be used ({_first_line(error)})") from error


def _check_address(address: str) -> None:
    """Raise ValueError where no Ray answers: `ray.init` would wait for minutes, and then end the process."""
    if address == "auto":
        return
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(command, timeout=_PATIENCE, check=True, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise ValueError(
            f"ray_address {address!r} does not answer: give the HOST:PORT of a cluster that `ray start --head` has "
            "started, 'auto' for the one on this machine, or none to start one for this sweep"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _play_remotely(shard: Shard, folder: Path | None, running: Running) -> Result:
    """A shard in a worker; without a checkpoint where the sweep's folder is on another machine's disk."""
    here = folder is not None and folder.parent.parent.is_dir()
    return play(shard, folder=folder if here else None, running=running)


def _run_on_ray(jobs: Sequence[Job], moved: Moved, *, running: Running, ray: Any, workers: int) -> Ended:
    own = [str(Path(path).absolute()) for path in sys.path if not _installed(path)]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(own)}}
    task = ray.remote(_play_remotely).options(num_cpus=1, max_retries=3, runtime_env=environment)
    waiting, done = list(reversed(jobs)), 0
    active: dict[Any, Shard] = {}
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                shard, folder = waiting.pop()
                active[task.remote(shard, folder and folder.absolute(), running)] = shard
            for reference in ray.wait(list(active))[0]:
                shard = active.pop(reference)
                result = _take(ray, reference, shard)
                done += shard.lanes * result.steps
                moved(done)
                yield shard, result
    finally:
        for reference in active:  # Ray may be another's, and would go on with them
            ray.cancel(reference, force=True)


def _installed(path: str) -> bool:
    """Whether a place on the path is of Python or its packages, which workers have of their own."""
    places = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return any(Path(path).absolute().is_relative_to(place) for place in places)


def _take(ray: Any, reference: Any, shard: Shard) -> Result:
    """A task's result. What it raised is raised; Ray itself has tried again where its worker died."""
    try:
        result: Result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise ValueError(
            f"shard {shard.name} was lost again and again ({_first_line(error)}): resume to go on"
        ) from error
    return result
