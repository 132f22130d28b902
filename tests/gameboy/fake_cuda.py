"""A CUDA driver that pretends: fake_cuda.cpp with the kernels of a .cu file compiled into it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from armfold.shell.backends.gameboy import build

SOURCE = Path(__file__).with_suffix(".cpp")


def fake_driver(
    folder: Path, source: Path, kernels: Sequence[str], defines: Mapping[str, str | int] | None = None
) -> str:
    """The path of a driver that runs these kernels of a .cu file on the CPU."""
    named = {"SOURCE": f'"{source}"', "KERNELS": " ".join(f"KERNEL({name})" for name in kernels), **(defines or {})}
    out = folder / f"{source.stem}-{build.digest(build.define_flags(named))}.so"
    if out.exists():
        return str(out)
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror"]
    command = ["g++", *flags, *build.define_flags(named), f"-I{source.parent}", "-o", str(out), str(SOURCE)]
    build.run_compiler(command)
    return str(out)
