"""Compiling CUDA and launching it: on a driver that pretends, with the compilers that are here, and on a GPU."""

import ctypes
import threading
from pathlib import Path

import pytest
import torch

from armfold.shell.backends.gameboy import build, cuda, nvrtc
from tests.gameboy.fake_cuda import fake_driver

HEADER = """
#include <stdint.h>
#include <string.h>
#ifdef __CUDACC__
#define FN static __device__ __forceinline__
#else
#define FN static inline
#endif
typedef struct { const uint8_t *from; int64_t *to; int64_t add; int32_t lanes, scale; } Work;
FN int64_t work(const Work *w, int32_t lane, uint16_t shift) {
    uint8_t byte;
    memcpy(&byte, w->from + lane, sizeof byte);
    return (byte * (int64_t)w->scale + w->add) << shift;
}
"""
KERNEL = """
#include <stdbool.h>
#include <stddef.h>
#include "work.h"
static_assert(sizeof(int8_t) == 1 && sizeof(int16_t) == 2 && sizeof(int32_t) == 4 && sizeof(int64_t) == 8, "signed");
static_assert(sizeof(uint8_t) == 1 && sizeof(uint16_t) == 2 && sizeof(uint32_t) == 4 && sizeof(uint64_t) == 8, "other");
static_assert((int8_t)-1 < 0 && (uint8_t)-1 > 0 && (uint64_t)-1 > 0 && sizeof(size_t) == sizeof(uintptr_t), "signs");
extern "C" __global__ void fill(Work w, uint16_t shift, double unused) {
    const uint32_t lane = blockIdx.x * blockDim.x + threadIdx.x;
    if (lane < (uint32_t)w.lanes) w.to[lane] = work(&w, lane, shift) + (unused != 0.5);
}
extern "C" __global__ void mark(int64_t *to) {
    const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    to[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1000 * block + thread;
}
"""


class Work(ctypes.Structure):
    _fields_ = (
        ("from_", ctypes.c_void_p),
        ("to", ctypes.c_void_p),
        ("add", ctypes.c_int64),
        ("lanes", ctypes.c_int32),
        ("scale", ctypes.c_int32),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "work.h").write_text(HEADER)
    (folder / "work.cu").write_text(KERNEL)
    return folder / "work.cu"


@pytest.fixture(scope="module")
def driver(source: Path) -> cuda.Driver:
    return cuda.Driver(fake_driver(source.parent, source, ("fill", "mark")))


@pytest.fixture
def module(driver: cuda.Driver) -> cuda.Module:
    return cuda.Module(b"an image", ("fill", "mark"), device=torch.device("cpu"), driver=driver)


def make_work(lanes: int, device: torch.device) -> tuple[Work, torch.Tensor, torch.Tensor]:
    """Arguments for `fill`, where it writes, and what it should write there with a shift of 3."""
    read = torch.arange(lanes, device=device).mul(7).to(torch.uint8)
    written = torch.full((lanes + 5,), -1, device=device)
    want = torch.cat([((read.long() * -3 + 2**40) << 3), written[lanes:]])
    work = Work(read.data_ptr(), written.data_ptr(), 2**40, lanes, -3)
    work.keep = read  # type: ignore[attr-defined]
    return work, written, want


def test_arguments_reach_a_kernel_by_value(module: cuda.Module) -> None:
    work, written, want = make_work(300, module.device)
    module.launch("fill", 5, 64, work, ctypes.c_uint16(3), ctypes.c_double(0.5))
    assert torch.equal(written, want)


def test_every_thread_of_a_grid_runs_once(module: cuda.Module) -> None:
    written = torch.zeros(2 * 3 * 4 * 30, dtype=torch.int64)
    module.launch("mark", (2, 3, 4), (5, 3, 2), ctypes.c_void_p(written.data_ptr()))
    blocks, threads = torch.arange(24)[:, None], torch.arange(30)
    assert torch.equal(written.view(24, 30), 1000 * blocks + threads)


def test_a_kernel_that_is_not_there_is_an_error_at_once(driver: cuda.Driver) -> None:
    with pytest.raises(RuntimeError, match=r"cuModuleGetFunction failed with CUDA_ERROR_NOT_FOUND: .*pretends"):
        cuda.Module(b"an image", ("fill", "fil"), device=torch.device("cpu"), driver=driver)


def test_errors_have_cudas_names(module: cuda.Module, driver: cuda.Driver) -> None:
    with pytest.raises(RuntimeError, match="cuLaunchKernel failed with CUDA_ERROR_INVALID_VALUE: of the driver that"):
        module.launch("mark", 1, 1025, ctypes.c_void_p(0))
    with pytest.raises(RuntimeError, match="cuDeviceGet failed with error 101"):
        driver.call("cuDeviceGet", ctypes.byref(ctypes.c_int()), ctypes.c_int(-1))


@pytest.mark.parametrize("size", [0, -1, (1, 2), (1, 1, 0), 2**32])
def test_sizes_that_cannot_be_are_refused(module: cuda.Module, size: cuda.Size) -> None:
    with pytest.raises(ValueError, match=r"grid must be .* at least 1"):
        module.launch("mark", size, 1, ctypes.c_void_p(0))
    with pytest.raises(ValueError, match=r"block must be .* at least 1"):
        module.launch("mark", 1, size, ctypes.c_void_p(0))


def test_without_a_driver_the_cpu_is_offered() -> None:
    with pytest.raises(RuntimeError, match=r"no CUDA driver: libno\.so cannot be loaded .*try device='cpu'"):
        cuda.Driver("libno.so")


def test_only_cuda_devices_have_modules(source: Path) -> None:
    with pytest.raises(ValueError, match="device must be a CUDA device, got 'cpu'"):
        cuda.load_module(source, ("fill",), device=torch.device("cpu"))


def test_without_a_cuda_compiler_it_is_said_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "find_nvrtc", lambda: None)
    monkeypatch.setattr(nvrtc, "find_nvcc", lambda: None)
    with pytest.raises(build.NoCompilerError, match=r"looked for NVRTC .*nvidia-cuda-nvrtc.* and for nvcc"):
        nvrtc.compile_cubin(source, "sm_90")


def test_nvrtc_of_torchs_own_version_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "stub.c"
    stub.write_text(
        "int nvrtcVersion(int *major, int *minor) { return *major = MAJOR, *minor = 9, 0; }\n"
        "const char *nvrtcGetErrorString(int status) { return status ? 0 : 0; }\n"
    )
    for major in (12, 13):
        lib = tmp_path / "nvidia" / f"cu{major}" / "lib"
        lib.mkdir(parents=True)
        named = [f"-DMAJOR={major}", "-o", str(lib / f"libnvrtc.so.{major}")]
        build.run_compiler([*build.find_compiler(), "-shared", "-fPIC", *named, str(stub)])
        (lib / f"libnvrtc.alt.so.{major}").write_bytes(b"")
        (lib / f"libnvrtc.so.{major}.99").write_bytes(b"of another machine")
    monkeypatch.syspath_prepend(tmp_path)
    for version, major in {"12.8": 12, "13.0": 13}.items():
        monkeypatch.setattr(torch.version, "cuda", version)
        found = nvrtc.find_nvrtc.__wrapped__()
        assert found is not None
        assert found.identity.startswith(f"NVRTC {major}.9 at {tmp_path}")


@pytest.fixture(params=["nvcc", "nvrtc"])
def compiler(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one CUDA compiler that is to be found, and an empty cache."""
    found = {"nvcc": nvrtc.find_nvcc, "nvrtc": nvrtc.find_nvrtc}[request.param]()
    if found is None:
        pytest.skip(f"there is no {request.param}")
    monkeypatch.setattr(nvrtc, "find_nvrtc", lambda: found)
    monkeypatch.setenv("ARMFOLD_CACHE", str(tmp_path))
    return str(request.param)


@pytest.mark.slow
def test_the_compilers_make_machine_code_and_keep_it(
    compiler: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nvrtc.compile_cubin(source, "sm_90")
    assert path.read_bytes().startswith(b"\x7fELF")
    assert path.read_bytes().find(b".text.mark") > 0
    monkeypatch.setattr(type(nvrtc.find_nvrtc()), "compile", None)
    assert nvrtc.compile_cubin(source, "sm_90") == path
    with pytest.raises(TypeError, match="not callable"):
        nvrtc.compile_cubin(source, "sm_90", defines={"OTHER": 1})


@pytest.mark.slow
def test_a_failed_compile_shows_the_error_and_the_compiler(compiler: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.cu"
    wrong.write_text('extern "C" __global__ void wrong() { mistake(); }\n')
    with pytest.raises(RuntimeError, match=rf"(?i)wrong\.cu\(1\): error: .*mistake[^$]*{compiler}") as caught:
        nvrtc.compile_cubin(wrong, "sm_90")
    assert "sm_90" in str(caught.value)
    assert not list(tmp_path.glob("*.cubin"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_runs_launches_from_any_thread_and_in_a_graph(source: Path) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    module = cuda.load_module(source, ("fill", "mark"), device=device)
    assert module is cuda.load_module(source, ("fill", "mark"), device=torch.device("cuda"))
    work, written, want = make_work(300, device)

    def fill() -> None:
        module.launch("fill", 5, 64, work, ctypes.c_uint16(3), ctypes.c_double(0.5))

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    torch.cuda.synchronize(device)
    assert torch.equal(written, want)
    written.fill_(-1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fill()
    assert (written == -1).all()
    asked = torch.cuda.memory_stats(device)["allocation.all.allocated"]
    graph.replay()
    fill()
    assert torch.cuda.memory_stats(device)["allocation.all.allocated"] == asked
    assert torch.equal(written, want)
