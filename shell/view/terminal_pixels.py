"""Screens in a terminal: two pixels a character, and the keys that are pressed meanwhile."""

import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

_HALF = "▀"
_WHITE, _GREYS = 255, 23  # the lightest grey of 256 colours, and steps from there to the darkest
_PLAIN = " .:-=+*#%@"  # from white to black, for what is no terminal
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
_SEQUENCES = {"A": "up", "B": "down", "C": "right", "D": "left"}  # after ESC [ or ESC O
_LETTERS = {"w": "up", "s": "down", "d": "right", "a": "left", "z": "A", "j": "A", "x": "B", "k": "B"}
_LETTERS |= {"\r": "start", "\n": "start", "\x7f": "select", "\b": "select", "v": "save", "g": "goal"}
_LETTERS |= dict.fromkeys("q\x03\x04", "quit")  # and Ctrl-C and Ctrl-D, where they are no signals


def fit(screen: Tensor, columns: int, rows: int) -> Tensor:
    """A screen uint8 [H, W] of shades 0 to 3 as large as fits into so many characters, two pixels each, one above the
    other: float32 [H', W'], H' even. Pixels are averaged where there is no room, and repeated where there is more."""
    height, width = screen.shape
    factor = max(min(columns / width, 2 * rows / height), 1 / width)
    factor = float(int(factor)) if factor >= 1 else factor
    shape = (max(2 * int(height * factor / 2), 2), max(int(width * factor), 1))
    return adaptive_avg_pool2d(screen.to(torch.float32)[None], shape)[0]


def colour_rows(shades: Tensor) -> list[str]:
    """What shows shades [2 R, C] in R rows of a terminal with 256 colours."""
    greys = (_WHITE - (shades * (_GREYS / 3)).round().to(torch.int64)).tolist()
    rows = []
    for above, below in zip(greys[::2], greys[1::2]):
        last, parts = None, []
        for pair in zip(above, below):
            colour = "" if pair == last else "\x1b[38;5;{};48;5;{}m".format(*pair)
            parts.append(colour + _HALF)
            last = pair
        rows.append("".join(parts) + "\x1b[0m")
    return rows


def picture_rows(screen: Tensor, line: str, size: os.terminal_size) -> list[str]:
    """What shows a screen uint8 [H, W] and a line below it in a terminal of that size."""
    return [*colour_rows(fit(screen, size.columns, size.lines - 1)), line[: size.columns - 1]]


def plain_rows(shades: Tensor) -> list[str]:
    """The same in ASCII without colours: a character is the mean of its two pixels."""
    mean = (shades[::2] + shades[1::2]) / 2
    levels = (mean * ((len(_PLAIN) - 1) / 3)).round().to(torch.int64).tolist()
    return ["".join(_PLAIN[level] for level in row) for row in levels]


def read_keys(data: str) -> list[str]:
    """What the characters that a terminal sent mean: directions, A, B, start, select, quit, save, goal."""
    keys, at = [], 0
    while at < len(data):
        if data[at] == "\x1b" and data[at + 1 : at + 2] in ("[", "O"):
            at += 2
            while at < len(data) - 1 and not data[at].isalpha() and data[at] != "~":
                at += 1  # numbers between
            keys.append(_SEQUENCES.get(data[at : at + 1], ""))
        else:
            keys.append(_LETTERS.get(data[at].lower(), ""))
        at += 1
    return [key for key in keys if key]


class Terminal:
    """The terminal of this process: screens at its top left, a line below them."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._size = (0, 0)

    def show(self, screen: Tensor, line: str) -> None:
        """A screen uint8 [H, W], and a line; only rows that have changed are sent."""
        size = shutil.get_terminal_size()
        rows = picture_rows(screen, line, size)
        parts = []
        if size != self._size:
            self._size, self._shown = size, []
            parts.append("\x1b[2J")
        for at, row in enumerate(rows):
            if at >= len(self._shown) or row != self._shown[at]:
                parts.append(f"\x1b[{at + 1};1H{row}\x1b[K")
        self._shown = rows
        sys.stdout.write("".join(parts))
        sys.stdout.flush()

    def keys(self, seconds: float) -> list[str]:
        """The keys pressed until now, after waiting so long for them."""
        descriptor = sys.stdin.fileno()
        if not select.select([descriptor], [], [], max(seconds, 0.0))[0]:
            return []
        data = os.read(descriptor, 1024)
        return read_keys(data.decode("ascii", "replace")) if data else ["quit"]


@contextmanager
def open_terminal() -> Iterator[Terminal]:
    """A terminal that shows nothing but pictures, and hands on each key at once. However one leaves, by an error too,
    it is afterwards as it was. Raises ValueError where there is none."""
    _require_terminal()
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write(_ENTER)
        yield Terminal()
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _require_terminal() -> None:
    otherwise = "`armfold pixels play --agent NAME --frames` prints pictures without one, `record` writes them to files"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError(f"play needs a terminal for its keys and pictures: {otherwise}")
    if sys.platform == "win32":
        raise ValueError(f"play knows no terminals of Windows: {otherwise}")
    try:
        _HALF.encode(sys.stdout.encoding)
    except UnicodeEncodeError as error:
        raise ValueError(f"play needs a terminal that shows {_HALF!a}, not {sys.stdout.encoding}") from error
