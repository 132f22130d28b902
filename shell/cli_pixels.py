"""The `armfold pixels` command."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any, NoReturn

from armfold.shell.choose import suggest
from armfold.shell.cli_pixels_bench import bench
from armfold.shell.cli_pixels_play import play
from armfold.shell.cli_pixels_record import goal, record
from armfold.shell.cli_pixels_smoke import smoke


def pixels(argv: list[str]) -> int:
    """Play on Game Boys, record pictures, capture goals, try and measure the pixel environments.

    Returns the exit status.
    """
    actions: dict[str, Callable[[list[str]], int | None]] = {
        "play": play,
        "record": record,
        "goal": goal,
        "smoke": smoke,
        "bench": bench,
    }
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:10}{(function.__doc__ or '').splitlines()[0]}" for name, function in actions.items()]
        last = "armfold pixels ACTION --help lists its options."
        print("\n".join(["usage: armfold pixels ACTION [OPTIONS]", "", *lines, "", last]))
        return 0 if argv else 2
    if argv[0] not in actions:
        raise suggest("action of pixels", argv[0], actions)
    with _leaving_by_signals():
        return actions[argv[0]](argv[1:]) or 0


@contextmanager
def _leaving_by_signals() -> Iterator[None]:
    """Within it, signals that would end the process at once leave by an exception: a terminal is put right, no file is
    left half written. Those that are ignored, as under nohup, stay so."""

    def leave(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    ending = (signal.SIGTERM, signal.SIGHUP) if current_thread() is main_thread() else ()
    mine = [one for one in ending if signal.getsignal(one) is signal.SIG_DFL]
    for one in mine:
        signal.signal(one, leave)
    try:
        yield
    finally:
        for one in mine:
            signal.signal(one, signal.SIG_DFL)
