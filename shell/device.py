"""The device that a run is on, and the threads it may use there."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


def find_device(name: str | torch.device) -> torch.device:
    """The device of that name. Raises ValueError where it is unknown or absent."""
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise TypeError("runs need float64 and compiled code: cpu or cuda")
        torch.empty(0, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0][:100]
        raise ValueError(f"device {str(name)!r} cannot be used here ({reason}); try device='cpu'") from error
    return device


def cpu_model() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextmanager
def cpu_threads(count: int, device: torch.device) -> Iterator[None]:
    """Let torch use `count` threads inside, where it runs on the CPU."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given, so that a clock read next is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
