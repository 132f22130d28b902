"""CUDA sources to machine code for one kind of GPU: by NVRTC, NVIDIA's compiler as a library, else by nvcc.

NVRTC reads no files: the headers are handed to it by name, stand-ins for the system's among them. Its functions are
those of the NVRTC reference.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from armfold.shell.backends.gameboy import build

_STAND_INS = {
    "stdint.h": """#pragma once
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
""",
    "stddef.h": "#pragma once\n",  # size_t, bool, memcpy and memset are built in
    "stdbool.h": "#pragma once\n",
    "string.h": "#pragma once\n",
}


def compile_cubin(source: Path, architecture: str, *, defines: Mapping[str, str | int] | None = None) -> Path:
    """The cubin of a .cu file for an architecture such as "sm_90", compiled first where the cache lacks it.

    Headers are the *.h beside the source. `defines` are preprocessor macros. Raises NoCompilerError where there is
    neither NVRTC nor nvcc, and BuildError with the compiler's messages where it fails.
    """
    compiler: Nvrtc | Nvcc | None = find_nvrtc() or find_nvcc()
    if compiler is None:
        raise build.NoCompilerError(
            "no CUDA compiler found: looked for NVRTC (it comes with a torch for CUDA, or `pip install "
            "nvidia-cuda-nvrtc`) and for nvcc (of NVIDIA's CUDA toolkit); try device='cpu'"
        )
    options = [f"-arch={architecture}", "--std=c++17", *build.define_flags(defines)]
    read = [path.read_bytes() for path in [source, *build.headers([source])]]
    made_from: list[str | bytes] = [compiler.identity, *options, *read]
    return build.cached(source.stem, ".cubin", made_from, lambda path: compiler.compile(source, options, path))


class Nvcc:
    """The nvcc program at a path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.identity = build.identify((path,))

    def compile(self, source: Path, options: list[str], out: Path) -> None:
        """Write the cubin of a source. Raises BuildError with the compiler's messages where it fails."""
        build.run_compiler([self._path, "-cubin", *options, "-o", str(out), str(source)])


class Nvrtc:
    """The NVRTC library at a path. Raises OSError where it cannot be loaded, BuildError where it does not work."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.identity = f"NVRTC {major.value}.{minor.value} at {path}"

    def compile(self, source: Path, options: list[str], out: Path) -> None:
        """Write the cubin of a source. Raises BuildError with the compiler's messages where it fails."""
        named = {**_STAND_INS, **{path.name: path.read_text() for path in build.headers([source])}}
        names, texts = _strings(named), _strings(named.values())
        program = ctypes.c_void_p()
        text, name = source.read_bytes(), source.name.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, name, len(named), texts, names)
        try:
            if self._library.nvrtcCompileProgram(program, len(options), _strings(options)) != 0:
                log = build.first_errors(self._read(program, "ProgramLog").decode(errors="replace"))
                raise build.BuildError(
                    f"compiling failed: {log}\nthe compiler was {self.identity}, {' '.join(options)}"
                )
            out.write_bytes(self._read(program, "CUBIN"))
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise build.BuildError(f"{name} failed: {self._library.nvrtcGetErrorString(status).decode()}")


def _strings(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


@functools.cache
def find_nvrtc() -> Nvrtc | None:
    """The NVRTC of torch's wheels, of the environment or of a CUDA toolkit; of torch's own CUDA version first."""
    wanted = f".so.{(torch.version.cuda or '').split('.')[0]}"
    for path in sorted(_libraries(), key=lambda path: wanted not in path):
        try:
            return Nvrtc(path)
        except OSError:
            continue  # a library for another machine, or one that lacks its companion
    return None


def _libraries() -> Iterator[str]:
    wheels = importlib.util.find_spec("nvidia")
    for folder in (wheels.submodule_search_locations if wheels else None) or []:
        yield from _newest_first(Path(folder).glob("*/lib/libnvrtc.so.*"))
    for home in _toolkits():
        yield from _newest_first(path for lib in ("lib64", "lib") for path in (home / lib).glob("libnvrtc.so.*"))
    if name := ctypes.util.find_library("nvrtc"):
        yield name


def _newest_first(paths: Iterable[Path]) -> list[str]:
    plain = [path for path in paths if re.fullmatch(r"libnvrtc\.so(\.\d+)+", path.name)]
    return sorted(map(str, plain), key=lambda path: [int(n) for n in re.findall(r"\d+", path)], reverse=True)


def _toolkits() -> list[Path]:
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX") if os.environ.get(name)]
    return [*map(Path, named), Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]


@functools.cache
def find_nvcc() -> Nvcc | None:
    """The CUDA toolkit's compiler: on the path, else in a toolkit's usual place."""
    usual = [path for home in _toolkits() if (path := home / "bin" / "nvcc").is_file()]
    found = shutil.which("nvcc") or next(map(str, usual), None)
    return Nvcc(found) if found else None
