"""Where the time of a step of a pixel environment goes."""

import functools
import time
from collections.abc import Callable
from typing import Any

from armfold.shell.device import synchronize
from armfold.shell.run.pixels_player import Player

PARTS = ("machine", "stack", "task", "reset")


def time_parts(player: Player, steps: int) -> dict[str, float]:
    """Milliseconds a step of each part, and of the `step` as a whole, over `steps` steps of a player that is warm:
    the machine; the screens read and stacked, with all that is in no other part; rewards, ends and info; the lanes that
    start again, restored, read and stacked anew. On CUDA every part is waited for, which makes it longer."""
    seconds = dict.fromkeys(PARTS, 0.0)
    env: Any = player.env

    def watched(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def watching(*arguments: Any) -> Any:
            synchronize(player.device)
            began = time.perf_counter()
            result = work(*arguments)
            synchronize(player.device)
            seconds[part] += time.perf_counter() - began
            return result

        return watching

    kept = env.backend.step, env._advances, env.cache.restore, env._begin_again
    env.backend.step, env._advances = watched("machine", kept[0]), [watched("task", call) for call in kept[1]]
    env.cache.restore, env._begin_again = (watched("reset", call) for call in kept[2:])
    try:
        began = time.perf_counter()
        player.play(steps)
        whole = time.perf_counter() - began
    finally:
        env.backend.step, env._advances, env.cache.restore, env._begin_again = kept
    seconds["stack"] = whole - sum(seconds.values())
    return {**{part: 1e3 * taken / steps for part, taken in seconds.items()}, "step": 1e3 * whole / steps}
