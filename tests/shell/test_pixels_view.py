"""Screens as pictures and in a terminal, what its keys mean, and goals as files."""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safetensors.torch import save_file
from torch import Tensor

from armfold.core.check import ShapeError
from armfold.shell.store.goals import GOAL, Goal, check_folder, load_goal, save_goal
from armfold.shell.view import terminal_pixels
from armfold.shell.view.pixels import PALETTES, durations, tile, write_gif, write_png
from armfold.shell.view.terminal_pixels import colour_rows, fit, plain_rows, read_keys
from tests.purity import same_bits

RAMP = torch.arange(72 * 80).view(72, 80).remainder(4).to(torch.uint8)


def shades(image: Image.Image, palette: str = "grey") -> Tensor:
    """A picture as shades again."""
    colours = torch.from_numpy(np.array(image.convert("RGB")))
    known = (colours[..., None, :] == torch.tensor(PALETTES[palette], dtype=torch.uint8)).all(-1)
    assert known.any(-1).all()
    return known.to(torch.uint8).argmax(-1).to(torch.uint8)


# Pictures


def test_screens_lie_in_rows_with_gaps_between() -> None:
    screens = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 2, 3)
    laid = tile(screens, scale=2)  # two columns
    assert laid.shape == (2 * 4 + 4, 2 * 6 + 4)
    assert [int(laid[0, 0]), int(laid[3, 15]), int(laid[8, 5])] == [0, 1, 2]
    assert (laid[4:8] == 4).all()
    assert (laid[:, 6:10] == 4).all()
    assert (laid[8:, 10:] == 4).all()  # where no lane is
    assert tile(screens, columns=8).shape == (2, 3 * 3 + 2 * 4)
    assert torch.equal(tile(RAMP[None]), RAMP)
    assert torch.equal(tile(RAMP[None], scale=3)[1::3, 2::3], RAMP)


@pytest.mark.parametrize("palette", PALETTES)
def test_a_png_holds_every_pixel(palette: str, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", RAMP, palette)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert torch.equal(shades(image, palette), RAMP)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_gif_holds_every_frame_for_its_time(tmp_path: Path) -> None:
    frames = [RAMP.roll(i, 1) for i in range(3)]
    write_gif(tmp_path / "a.gif", iter(frames), "grey", [40, 50, 1000])
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        shown = [(shades(frame), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert [duration for _, duration in shown] == [40, 50, 1000]
    assert all(torch.equal(got, frame) for (got, _), frame in zip(shown, frames, strict=True))


def test_equal_pictures_of_a_gif_are_one(tmp_path: Path) -> None:
    corner = RAMP.clone()
    corner[-3:, -2:] ^= 1
    frames = [RAMP, RAMP, corner, corner, corner, RAMP]
    assert write_gif(tmp_path / "a.gif", iter(frames), "green", [20, 30, 40, 50, 60, 70]) == 3
    with Image.open(tmp_path / "a.gif") as image:
        shown = [(shades(frame, "green"), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert [duration for _, duration in shown] == [50, 150, 70]
    assert all(torch.equal(got, frame) for (got, _), frame in zip(shown, (RAMP, corner, RAMP), strict=True))


def test_a_gif_keeps_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Image.Image]] = []
    init = Image.Image.__init__
    monkeypatch.setattr(Image.Image, "__init__", lambda image: (made.append(weakref.ref(image)), init(image))[1])

    def frames() -> Iterator[Tensor]:
        for i in range(9):
            yield RAMP.roll(i, 1)
            assert sum(image() is not None for image in made) <= 3

    assert write_gif(tmp_path / "a.gif", frames(), "grey", [40] * 9) == 9
    assert len(made) >= 9


def test_a_gif_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        yield RAMP
        raise RuntimeError("stop")

    (tmp_path / "a.gif").write_text("before")
    with pytest.raises(RuntimeError, match="stop"):
        write_gif(tmp_path / "a.gif", broken(), "grey", [40, 40])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_pictures_last_as_long_as_the_play() -> None:
    shown = durations(60, 33.486, last=1000)  # every second frame
    assert {*shown[:-1]} == {30, 40}
    assert sum(shown) - 1000 == pytest.approx(60 * 33.486, abs=5)
    assert durations(1, 33.486, last=0) == [30]


# In a terminal


@pytest.mark.parametrize(
    ("columns", "rows", "shape"),
    [
        (80, 36, (72, 80)),
        (80, 23, (46, 51)),
        (40, 50, (36, 40)),
        (200, 100, (144, 160)),
        (3, 2, (2, 3)),
        (1, 1, (2, 1)),
    ],
)
def test_a_screen_fits(columns: int, rows: int, shape: tuple[int, int]) -> None:
    """Whole at its size, larger by whole factors, and averaged where it is smaller."""
    fitted = fit(RAMP, columns, rows)
    assert fitted.shape == shape
    assert fitted.shape[1] <= columns
    assert fitted.shape[0] <= 2 * rows
    assert fitted.mean().item() == pytest.approx(1.5, abs=0.3)
    if shape == (144, 160):
        assert torch.equal(fitted[::2, ::2], RAMP.to(torch.float32))


def test_a_character_is_two_pixels() -> None:
    screen = torch.tensor([[0, 0, 3], [0, 3, 0]])
    above, *rest = colour_rows(screen.to(torch.float32))
    white, black = 255, 232
    assert not rest
    assert above == (
        f"\x1b[38;5;{white};48;5;{white}m▀\x1b[38;5;{white};48;5;{black}m▀\x1b[38;5;{black};48;5;{white}m▀\x1b[0m"
    )
    assert plain_rows(torch.tensor([[0.0, 3.0, 0.0], [0.0, 3.0, 3.0]])) == [" @="]
    assert len(colour_rows(torch.zeros(4, 5))) == 2
    assert colour_rows(torch.zeros(2, 5))[0].count("\x1b[38") == 1  # a colour is said once


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("\x1b[A\x1b[B\x1bOC\x1b[D", ["up", "down", "right", "left"]),
        ("wasdWASD", ["up", "left", "down", "right"] * 2),
        ("zxjk", ["A", "B", "A", "B"]),
        ("\r\x7fvgq\x03", ["start", "select", "save", "goal", "quit", "quit"]),
        ("\x1b[1;5Cx", ["right", "B"]),
        ("\x1b[3~\x1b", []),
        ("\x1b[", []),
        ("?1é", []),
    ],
)
def test_keys(typed: str, keys: list[str]) -> None:
    assert read_keys(typed) == keys


def test_a_terminal_sends_what_has_changed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal_pixels.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 24)))
    terminal, screen = terminal_pixels.Terminal(), torch.zeros(72, 80, dtype=torch.uint8)
    terminal.show(screen, "x" * 100)
    first = capsys.readouterr().out
    assert first.startswith("\x1b[2J")
    assert all(f"\x1b[{row};1H" in first for row in range(1, 25))
    assert f"\x1b[24;1H{'x' * 79}\x1b[K" in first
    assert "\x1b[25;1H" not in first
    terminal.show(screen, "y")
    assert capsys.readouterr().out == "\x1b[24;1Hy\x1b[K"


# Goals

GOOD = Goal(RAMP, 0.1, 3, "ab" * 32)


def write(folder: Path, goal: Goal = GOOD, **options: Any) -> None:
    save_goal(folder, goal, start=lambda path: path.write_text("s"), draw=lambda path: path.write_text("d"), **options)


def test_a_goal_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "goals" / "win")
    for path in (tmp_path / "goals" / "win", tmp_path / "goals" / "win" / GOAL):
        goal = load_goal(path, rom=GOOD.rom)
        assert same_bits(goal.frame, GOOD.frame)
        assert goal[1:] == GOOD[1:]
    assert {path.name for path in (tmp_path / "goals" / "win").iterdir()} == {GOAL, "start.safetensors", "goal.png"}
    assert [path.name for path in (tmp_path / "goals").iterdir()] == ["win"]
    write(tmp_path / "goals" / "win", GOOD._replace(k=1), replace=True)
    assert load_goal(tmp_path / "goals" / "win").k == 1


def test_a_goal_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def stop(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        save_goal(tmp_path / "win", GOOD, start=stop, draw=stop)
    with pytest.raises(ShapeError, match=r"frame must have shape \(72, 80\), got \(36, 40\)"):
        write(tmp_path / "win", GOOD._replace(frame=RAMP[:36, :40]))
    with pytest.raises(ShapeError, match=r"frame must be uint8 .*int64"):
        write(tmp_path / "win", GOOD._replace(frame=RAMP.long()))
    for wrong, pattern in (
        ({"tau": 0.0}, "tau .*0"),
        ({"k": 0}, "k .*0"),
        ({"frame": RAMP + 1}, r"frame .*\[0, 3\], got 4"),
    ):
        with pytest.raises(ValueError, match=pattern):
            write(tmp_path / "win", GOOD._replace(**wrong))
    for wrong, pattern in (
        ({"tau": torch.tensor(0.1)}, r"tau must be a number, got tensor\(0.1000\)"),
        ({"rom": 3}, "rom must be a text, got 3"),
        ({"frame": RAMP.numpy()}, "frame must be a tensor, got ndarray"),
    ):
        with pytest.raises(TypeError, match=pattern):
            write(tmp_path / "win", GOOD._replace(**wrong))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("killed", [1, 2, None])
def test_a_goal_that_is_replaced_is_never_lost(
    killed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a rename fails, the old one is back; where somebody is killed then, it lies beside; and the next save is as
    any other."""
    folder, aside = tmp_path / "win", tmp_path / ".win.old"
    write(folder)
    moves, move = [], Path.replace

    def stop(path: Path, target: Path) -> Path:
        moves.extend([target] * path.is_dir())
        if path.is_dir() and len(moves) in (
            2,
            3 if killed else 2,
        ):  # the new one in, and what would put the old one back
            raise OSError("stop")
        return move(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop)
        with pytest.raises(OSError, match="stop"):
            write(folder, GOOD._replace(k=1), replace=True)
    assert moves == [aside, folder, folder]
    assert load_goal(aside if killed else folder).k == GOOD.k
    if killed == 2:  # after the new one was in
        write(folder, GOOD._replace(k=5))
    write(folder, GOOD._replace(k=2), replace=True)
    assert load_goal(folder).k == 2
    write(folder, GOOD._replace(tau=np.float64(0.25)), replace=True)
    assert load_goal(folder).tau == 0.25
    assert [*tmp_path.iterdir()] == [folder]


def test_a_folder_for_a_goal_is_new_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/new"):
        check_folder("out", tmp_path / name)
    write(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "file"):
        with pytest.raises(ValueError, match=rf"out .*{name} is not an empty folder"):
            check_folder("out", tmp_path / name)
    with pytest.raises(ValueError, match=r"out .*file/goal cannot be written"):
        check_folder("out", tmp_path / "file" / "goal")


FACTS = {"format": "armfold goal", "version": "1", "rom": GOOD.rom, "tau": "0.1", "k": "3"}


@pytest.mark.parametrize(
    ("facts", "tensors", "pattern"),
    [
        ({"format": "armfold Game Boy state"}, {}, "is not an armfold goal, but 'armfold Game Boy state'"),
        ({"version": "2"}, {}, "is of another version .*2, here 1"),
        ({"rom": "cd"}, {}, rf"is of another ROM \(sha256 cd\) than the one here \({GOOD.rom}\)"),
        ({}, {"frame": RAMP[:36]}, r"frame must have shape \(72, 80\), got \(36, 80\)"),
        ({}, {"frame": RAMP + 4}, r"frame must lie in \[0, 3\], got 4"),
        ({}, {"other": RAMP}, "lacks 'frame'"),
        ({"k": "many"}, {}, "many"),
        ({"tau": "nan"}, {}, "tau .*nan"),
    ],
)
def test_what_is_no_goal_is_refused(facts: Any, tensors: Any, pattern: str, tmp_path: Path) -> None:
    save_file({**({} if tensors else {"frame": RAMP}), **tensors}, tmp_path / "a", metadata={**FACTS, **facts})
    with pytest.raises(ValueError, match=pattern):
        load_goal(tmp_path / "a", rom=GOOD.rom)


def test_no_goal_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"goal .*win' is not there"):
        load_goal(tmp_path / "win")
    (tmp_path / "a").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"goal .*a' cannot be read"):
        load_goal(tmp_path / "a")
