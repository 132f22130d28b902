"""Compiling C on first use: the cache, its keys, what happens where there is no compiler or it fails."""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from armfold.shell.backends.gameboy import build
from armfold.shell.backends.gameboy.build import NoCompilerError
from tests.shell.commands import armfold_command

SOURCE = '#include "answer.h"\n#ifndef SCALE\n#define SCALE 1\n#endif\nint answer(void) { return ANSWER * SCALE; }\n'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A C file with a header, and a cache of its own."""
    monkeypatch.setenv("ARMFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "answer.h").write_text("#define ANSWER 6\n")
    (folder / "answer.c").write_text(SOURCE)
    return folder / "answer.c"


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_library_is_compiled_once_for_each_source_header_and_macro(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = source.parent / "log"
    compiler = program(source.parent / "counting", f'echo "$1" >>{log}; exec cc "$@"')
    monkeypatch.setenv("CC", f"{compiler} -DUNUSED=1")

    def answer(**defines: int) -> int:
        return int(build.compile_library("answer", [source], defines=defines).answer())

    assert [answer(), answer(), answer(SCALE=7), answer(SCALE=7)] == [6, 6, 42, 42]
    assert log.read_text().split() == ["-DUNUSED=1"] * 3  # once for its version, once for each library
    (source.parent / "answer.h").write_text("#define ANSWER 5\n")
    assert answer() == 5
    source.write_text(SOURCE.replace("ANSWER", "-ANSWER"))
    assert answer() == -5
    names = [path.name for path in build.cache_folder().iterdir()]
    assert len(names) == 4
    assert all(name.startswith("answer-") and name.endswith(".so") for name in names)


def test_another_compiler_makes_another_library(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.compile_library("answer", [source])
    monkeypatch.setenv("CC", str(program(source.parent / "other", 'exec cc "$@"')))
    build.compile_library("answer", [source])
    assert len(list(build.cache_folder().iterdir())) == 2


@pytest.mark.slow
def test_four_processes_may_compile_the_same_library_at_once(source: Path) -> None:
    log = source.parent / "log"
    compiler = program(source.parent / "slow", f'case "$1" in -O*) echo >>{log}; sleep 0.5;; esac; exec cc "$@"')
    code = (
        "import importlib.util as u, pathlib, sys\n"
        f"spec = u.spec_from_file_location('build', {build.__file__!r})\n"
        "build = u.module_from_spec(spec); spec.loader.exec_module(build)\n"
        f"print(build.compile_library('answer', [pathlib.Path({str(source)!r})]).answer())\n"
    )
    environ = {**os.environ, "CC": str(compiler)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == ["6\n"] * 4
    assert len(log.read_text()) > 1, "they did not meet"
    assert len(list(build.cache_folder().iterdir())) == 1, "something is left over"


def test_a_failed_compile_shows_the_error_and_the_command_and_leaves_nothing(source: Path) -> None:
    source.write_text("int answer(void) { return 1 }\nint other(void) { return mistake; }\n")
    with pytest.raises(
        RuntimeError, match=r"answer\.c:1:\d+: error: [^$]*mistake[^$]*the command was: .*cc -O1 "
    ) as caught:
        build.compile_library("answer", [source])
    assert not isinstance(caught.value, NoCompilerError)
    assert list(build.cache_folder().iterdir()) == []


def test_without_a_compiler_it_is_said_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(source.parent))
    with pytest.raises(NoCompilerError, match=r"looked for \$CC, cc, gcc and clang; .*(apt install|xcode-select)"):
        build.compile_library("answer", [source])
    monkeypatch.setenv("CC", "no-such-cc -m64")
    with pytest.raises(NoCompilerError, match="CC is 'no-such-cc -m64', but there is no such program"):
        build.compile_library("answer", [source])
    stub = program(source.parent / "stub", "echo 'error: no developer tools were found' >&2; exit 1")
    monkeypatch.setenv("CC", str(stub))
    with pytest.raises(NoCompilerError, match="stub does not run: error: no developer tools"):
        build.compile_library("answer", [source])


def test_windows_is_said_to_be_left_out(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NoCompilerError, match="not on Windows: use WSL, or PyBoy"):
        build.compile_library("answer", [source])


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({"ARMFOLD_CACHE": "~/mine", "XDG_CACHE_HOME": "/xdg"}, "linux", "/home/me/mine"),
        ({"XDG_CACHE_HOME": "/xdg"}, "linux", "/xdg/armfold"),
        ({}, "linux", "/home/me/.cache/armfold"),
        ({}, "darwin", "/home/me/Library/Caches/armfold"),
    ],
)
def test_where_the_cache_is(
    environ: dict[str, str], platform: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ARMFOLD_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert build.cache_folder() == Path(folder)


def test_a_cache_that_cannot_be_used_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def garble(command: Sequence[str]) -> None:
        Path(command[command.index("-o") + 1]).write_bytes(b"no library")

    monkeypatch.setattr(build, "run_compiler", garble)
    with pytest.raises(RuntimeError, match=r"cannot be loaded .*set ARMFOLD_CACHE to another folder"):
        build.compile_library("answer", [source])
    monkeypatch.setenv("ARMFOLD_CACHE", str(source / "cache"))
    with pytest.raises(RuntimeError, match=r"cannot write the cache .*answer\.c.*set ARMFOLD_CACHE"):
        build.compile_library("answer", [source])


def test_the_cache_is_private(source: Path) -> None:
    umask = os.umask(0)
    try:
        assert isinstance(build.compile_library("answer", [source]), ctypes.CDLL)
    finally:
        os.umask(umask)
    assert build.cache_folder().stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o022 for path in build.cache_folder().iterdir()] == [0]


def test_what_others_may_have_written_is_not_run(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.compile_library("answer", [source])
    folder = build.cache_folder()
    (library,) = folder.iterdir()
    for path in (library, folder):
        path.chmod(0o777)
        with pytest.raises(
            build.BuildError, match=rf"{path} can be written by anybody, .* set ARMFOLD_CACHE to a folder"
        ):
            build.compile_library("answer", [source])
        path.chmod(0o755)
    build.compile_library("answer", [source])
    other = folder.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    monkeypatch.setattr(build, "_ROOT", -1)
    with pytest.raises(build.BuildError, match=rf"{folder} belongs to another user, of number {other - 1}"):
        build.compile_library("answer", [source])


def test_what_a_killed_compiler_left_is_swept_away_after_a_day(source: Path) -> None:
    left = [build.cache_folder() / name for name in (".answer.old", ".answer.new", ".other.old")]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "half.so").touch()
        if folder.suffix == ".old":
            os.utime(folder, (0, 0))
    build.compile_library("answer", [source])
    assert [folder.exists() for folder in left] == [False, True, True]


def test_the_command_says_in_a_line_that_it_cannot_be_compiled(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = program(source.parent / "stub", '[ "$1" = --version ] && exit; echo "cpu.c:1: error: no header" >&2; exit 1')
    monkeypatch.setenv("CC", str(stub))
    assert armfold_command("pixels", "smoke", "--backend", "gameboy") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"armfold: error: compiling failed: cpu.c:1: error: no header the command was: .*\n", err)


def test_a_digest_tells_where_its_parts_end() -> None:
    every = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], []]
    assert len({build.digest(parts) for parts in every}) == len(every)
    assert build.digest(["ab"]) == build.digest([b"ab"])
