"""CUDA compiled on first use and launched through the driver, on torch's context and stream.

The functions are those of the CUDA Driver API reference. Launches may be captured in a CUDA graph.
"""

import ctypes
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from armfold.shell.backends.gameboy import nvrtc

DRIVER = "libcuda.so.1"
Size = int | tuple[int, int, int]


class Driver:
    """The CUDA driver's library: its calls with their errors raised. Raises RuntimeError where it is missing."""

    def __init__(self, path: str = DRIVER) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise RuntimeError(f"no CUDA driver: {path} cannot be loaded ({error}); try device='cpu'") from error
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver. Raises RuntimeError with CUDA's name for what went wrong."""
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} failed with {self._text('Name', status)}: {self._text('String', status)}")

    def _text(self, kind: str, status: int) -> str:
        text = ctypes.c_char_p()
        getattr(self._library, f"cuGetError{kind}")(status, ctypes.byref(text))
        return (text.value or f"error {status}".encode()).decode()


class Module:
    """Compiled kernels on one device, launched on torch's current stream there.

    `kernels` are looked up at once: CUDA loads a kernel when it is first looked up, which a graph capture forbids.
    Raises RuntimeError with CUDA's name of the error where the image does not fit the device or lacks a kernel.
    """

    def __init__(self, image: bytes, kernels: Sequence[str], *, device: torch.device, driver: Driver) -> None:
        self.device = device
        self._driver = driver
        self._context, self._module = ctypes.c_void_p(), ctypes.c_void_p()
        ordinal = ctypes.c_int()
        driver.call("cuDeviceGet", ctypes.byref(ordinal), ctypes.c_int(device.index or 0))
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), ordinal)  # the one that torch works in
        with self._current():
            driver.call("cuModuleLoadData", ctypes.byref(self._module), image)
            self._kernels = {name: self._find(name) for name in kernels}

    def launch(self, name: str, grid: Size, block: Size, *arguments: Any) -> None:
        """Start a kernel on `grid` blocks of `block` threads, each a number or (x, y, z).

        `arguments` are ctypes values, structures among them: the kernel's parameters, passed by value, with the types
        and in the order of its declaration. Does not wait for the kernel and allocates nothing on the device.
        """
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        sizes = [ctypes.c_uint(n) for n in (*_three("grid", grid), *_three("block", block))]
        stream = torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else 0
        with self._current():
            self._driver.call(
                "cuLaunchKernel",
                self._kernels[name],
                *sizes,
                ctypes.c_uint(0),
                ctypes.c_void_p(stream),
                addresses,
                None,
            )

    def _find(self, name: str) -> ctypes.c_void_p:
        kernel = ctypes.c_void_p()
        self._driver.call("cuModuleGetFunction", ctypes.byref(kernel), self._module, name.encode())
        return kernel

    @contextmanager
    def _current(self) -> Iterator[None]:
        """The context, current inside: a thread of Python's that torch has not used yet has none, or another."""
        self._driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._driver.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


def load_module(
    source: Path, kernels: Sequence[str], *, device: torch.device, defines: Mapping[str, str | int] | None = None
) -> Module:
    """The kernels of a .cu file, compiled for the device where the cache lacks them, and loaded once a process.

    Headers are the *.h beside the source; of the system's there are stdint.h, stddef.h, stdbool.h and string.h.
    Raises ValueError for a device that is not CUDA's, NoCompilerError where there is neither NVRTC nor nvcc,
    BuildError where compiling fails, and RuntimeError where loading does.
    """
    if device.type != "cuda":
        raise ValueError(f"device must be a CUDA device, got {str(device)!r}")
    index = torch.cuda.current_device() if device.index is None else device.index
    major, minor = torch.cuda.get_device_capability(index)
    path = nvrtc.compile_cubin(source, f"sm_{major}{minor}", defines=defines)
    return _load(path, tuple(kernels), index)


@functools.cache  # never unloaded: a program's few variants stay until it ends
def _load(path: Path, kernels: tuple[str, ...], index: int) -> Module:
    return Module(path.read_bytes(), kernels, device=torch.device("cuda", index), driver=_driver())


@functools.cache
def _driver() -> Driver:
    return Driver()


def _three(name: str, size: Size) -> tuple[int, int, int]:
    sizes = (size, 1, 1) if isinstance(size, int) else size
    if len(sizes) != 3 or min(sizes) < 1 or math.prod(sizes) >= 2**32:
        raise ValueError(f"{name} must be a number or three numbers, all at least 1, got {size!r}")
    return sizes
