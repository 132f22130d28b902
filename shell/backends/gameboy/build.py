"""C compiled on first use, by the machine's own compiler, into a cache of the user's.

A program's file name holds a digest of all it was made from, so that a changed source, flag, compiler or machine makes
another file, and a file that is there is right. The cache can be deleted at any time.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from armfold.shell.store.files import sweep

# No -march=native: a cache in a home folder is shared by machines, and the emulator gains nothing from wider vectors.
#
# -O1: beyond it, gcc threads jumps through an interpreter's switch until its registers no longer fit; the Game Boy then
# runs at less than half the speed (docs/design.md).
FLAGS = ("-O1", "-std=c11", "-fPIC", "-shared", "-pthread", "-fno-strict-aliasing")
_INSTALL = {"darwin": "`xcode-select --install` brings one"}
_ERROR_LINES = 8
_ROOT = 0


class BuildError(RuntimeError):
    """A program cannot be compiled or loaded here; the message says why, and what to do about it."""


class NoCompilerError(BuildError):
    """There is no compiler for a program that has to be compiled here; the message says what to install."""


def compile_library(
    name: str, sources: Sequence[Path], *, defines: Mapping[str, str | int] | None = None
) -> ctypes.CDLL:
    """The shared library of these C sources, loaded; compiled first where the cache lacks it.

    Headers are the *.h in the folders of the sources. `defines` are preprocessor macros. The compiler is $CC, else the
    first of cc, gcc and clang on the path; `cache_folder` says where libraries are kept. Any number of processes may
    ask for the same library at once. Raises NoCompilerError without a compiler and on Windows, and BuildError where it
    fails, the cache cannot be used or the library cannot be loaded.
    """
    compiler = find_compiler()
    flags = [*FLAGS, *define_flags(defines)]
    read = [path.read_bytes() for path in [*sources, *headers(sources)]]
    made_from: list[str | bytes] = [identify(tuple(compiler)), *flags, *(path.name for path in sources), *read]

    def make(path: Path) -> None:
        folders = dict.fromkeys(f"-I{source.parent}" for source in sources)
        run_compiler([*compiler, *flags, *folders, "-o", str(path), *map(str, sources)])

    path = cached(name, ".so", made_from, make)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # a cache on a disk mounted noexec, most likely
        raise BuildError(f"{path} cannot be loaded ({error}); set ARMFOLD_CACHE to another folder") from error


def cache_folder() -> Path:
    """Where compiled programs are kept: $ARMFOLD_CACHE, else `armfold` in $XDG_CACHE_HOME, else in the platform's
    folder for caches: ~/Library/Caches on macOS, ~/.cache elsewhere."""
    if chosen := os.environ.get("ARMFOLD_CACHE"):
        return Path(chosen).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser().absolute() / "armfold"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "armfold"


def cached(name: str, suffix: str, made_from: Iterable[str | bytes], make: Callable[[Path], None]) -> Path:
    """The file of the cache that `make` makes from these texts; `make` is called where there is none yet.

    `make` writes the path that it is given, which is then renamed, so that no reader meets half a file. Raises
    BuildError where the cache cannot be written, or where somebody else may have written it.
    """
    folder = cache_folder()
    path = folder / f"{name}-{digest(made_from)}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_ours(folder)
        if path.exists():
            _check_ours(path)
            return path
        sweep(folder, f".{name}.*")
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as scratch:
            made = Path(scratch) / path.name
            make(made)
            made.chmod(made.stat().st_mode & ~0o022)  # whatever the umask is
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.replace(path)
    except OSError as error:
        raise BuildError(f"cannot write the cache {folder} ({error}); set ARMFOLD_CACHE to another folder") from error
    return path


def _check_ours(path: Path) -> None:
    """Raise BuildError where anybody else may have written what lies here: it is run. A group is trusted, as the usual
    umask of some systems lets it write; so is root."""
    if not hasattr(os, "geteuid"):
        return
    facts = path.stat()
    if facts.st_uid not in (os.geteuid(), _ROOT):
        fault = f"belongs to another user, of number {facts.st_uid}"
    elif facts.st_mode & stat.S_IWOTH:
        fault = "can be written by anybody"
    else:
        return
    raise BuildError(f"{path} {fault}, and what lies in the cache is run: set ARMFOLD_CACHE to a folder of your own")


def digest(parts: Iterable[str | bytes]) -> str:
    """A hexadecimal name for a sequence of texts: other texts, or the same ones cut elsewhere, have another."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:32]


def headers(sources: Iterable[Path]) -> list[Path]:
    """The *.h in the folders of these sources, by name."""
    return sorted({header for source in sources for header in source.parent.glob("*.h")})


def define_flags(defines: Mapping[str, str | int] | None) -> list[str]:
    """The preprocessor macros as options of a compiler, in a fixed order."""
    return [f"-D{name}={value}" for name, value in sorted((defines or {}).items())]


def find_compiler() -> list[str]:
    """The C compiler as the first words of a command. Raises NoCompilerError where there is none."""
    if sys.platform == "win32":
        raise NoCompilerError("the compiled Game Boy runs on Linux and macOS, not on Windows: use WSL, or PyBoy")
    if chosen := shlex.split(os.environ.get("CC", "")):
        if not shutil.which(chosen[0]):
            raise NoCompilerError(f"CC is {os.environ['CC']!r}, but there is no such program; {_install()}")
        return chosen
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise NoCompilerError(f"no C compiler found: looked for $CC, cc, gcc and clang; {_install()}")


def _install() -> str:
    return _INSTALL.get(sys.platform, "`apt install build-essential`, or your system's like, brings one")


@functools.cache
def identify(compiler: tuple[str, ...]) -> str:
    """Path and version of a compiler, and the machine that it compiles for. Raises NoCompilerError if it cannot run."""
    done = _run([*compiler, "--version"])
    if done.returncode != 0:  # as macOS's cc does where the tools behind it are not installed
        raise NoCompilerError(f"the compiler {shlex.join(compiler)} does not run: {_first_errors(done)}; {_install()}")
    where = shutil.which(compiler[0]) or compiler[0]
    return "\n".join([shlex.join(compiler), where, done.stdout, sys.platform, platform.machine()])


def run_compiler(command: Sequence[str]) -> None:
    """Run a compiler. Raises BuildError with its first errors and the command where it fails."""
    done = _run(command)
    if done.returncode != 0:
        raise BuildError(f"compiling failed: {_first_errors(done)}\nthe command was: {shlex.join(command)}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return subprocess.CompletedProcess(list(command), 127, "", str(error))


def _first_errors(done: subprocess.CompletedProcess[str]) -> str:
    return first_errors(done.stderr + done.stdout) or f"it ended with status {done.returncode} and said nothing"


def first_errors(messages: str) -> str:
    """The first lines of a compiler's messages that tell of errors; of all its lines where none does."""
    lines = [line for line in messages.splitlines() if line.strip()]
    return "\n".join(([line for line in lines if "error" in line.lower()] or lines)[:_ERROR_LINES])
