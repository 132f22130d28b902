"""Files and goals that several write at once: each is whole, and nothing is left beside them."""

import os
import threading
from pathlib import Path

import pytest
import torch

from armfold.shell.store.files import write_whole
from armfold.shell.store.goals import GOAL, PICTURE, START, Goal, load_goal, save_goal

HALF = 5000
GOOD = Goal(torch.zeros(72, 80, dtype=torch.uint8), 0.1, 3, "ab" * 32)


def test_of_two_writers_a_reader_sees_either_and_both_come_to_their_end(tmp_path: Path) -> None:
    """They meet where each has written half."""
    path, meet, errors = tmp_path / "out.bin", threading.Barrier(2), list[BaseException]()

    def write(temporary: Path, number: int) -> None:
        with temporary.open("wb", buffering=0) as file:
            for _ in range(2):
                file.write(bytes([number]) * HALF)
                meet.wait(10)

    def writer(number: int) -> None:
        try:
            for _ in range(5):
                write_whole(path, lambda temporary: write(temporary, number))
        except BaseException as error:
            errors.append(error)
            meet.abort()

    threads = [threading.Thread(target=writer, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    seen = set[bytes]()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.add(path.read_bytes())
    assert not errors
    assert seen | {path.read_bytes()} <= {bytes([number]) * 2 * HALF for number in (1, 2)}
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", lambda temporary: temporary.write_text("a"))
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_what_the_killed_left_is_swept_away_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    left = [
        tmp_path / f".{name}" for name in ("a[1].0.partial.txt", "b.0.partial.txt", "a[1].1.partial.txt", "a[1].old")
    ]
    left[:3] = [path.with_name(path.name.replace(".partial", "0" * 15 + ".partial")) for path in left[:3]]
    for path in left:
        path.write_text("half")
        if path is not left[2]:
            os.utime(path, (0, 0))
    write_whole(tmp_path / "a[1].txt", lambda temporary: temporary.write_text("a"))
    assert [path.exists() for path in left] == [False, True, True, True]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def stop(temporary: Path) -> None:
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        raise RuntimeError("stop")

    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(RuntimeError, match="stop"):
        write_whole(tmp_path / "a.txt", stop)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "before")]


def test_a_goal_is_whole_though_another_is_saved_meanwhile(tmp_path: Path) -> None:
    def draw(path: Path) -> None:
        path.write_text("d")

    def start(path: Path) -> None:
        save_goal(tmp_path / "win", GOOD._replace(k=1), start=draw, draw=draw)
        path.write_text("s")

    save_goal(tmp_path / "win", GOOD, start=start, draw=draw, replace=True)
    assert load_goal(tmp_path / "win").k == GOOD.k
    assert {path.name for path in (tmp_path / "win").iterdir()} == {GOAL, START, PICTURE}
    assert [*tmp_path.iterdir()] == [tmp_path / "win"]
