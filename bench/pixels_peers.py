"""PyBoy as anybody would use it, one emulator in a loop of Python; and whether it plays what ours does."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from armfold.shell.backends.gameboy import find_rom
from armfold.shell.backends.pyboy import REGISTERS
from armfold.shell.backends.pyboy_lanes import find_pyboy, make_pyboy
from armfold.shell.run.pixels import action_names
from armfold.shell.run.pixels_player import Player, Settings, draw_actions, lead_actions
from bench.record import CannotRunError

_COMPARED = 30  # steps


def require_pyboy() -> None:
    """Raise CannotRunError where PyBoy is not installed."""
    try:
        find_pyboy()
    except ValueError as error:
        raise CannotRunError(str(error)) from error


class PlainPyBoy:
    """One PyBoy, silent and unseen, that presses what our first lane presses, after the same lead."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.boy = settings, make_pyboy(find_rom(settings.rom).data)
        self.screen = np.zeros((72, 80), np.uint8)
        names = action_names(settings)
        self.pressed = [names[action] for action in draw_actions(settings, 1)[:, 0].tolist()]
        self.count = 0
        for action in lead_actions(settings).tolist():
            self.step(names[action])

    def step(self, name: str) -> None:
        """Play the frames of a step, and copy every second pixel of its last frame, where that is drawn."""
        frames, held, draws = self.settings.frames_per_step, self.settings.release_after_frames, self.settings.draw
        if name != "noop":
            self.boy.button_press(name)
            if held < frames:
                self.boy.tick(held, False, False)
                frames -= held
                self.boy.button_release(name)
        self.boy.tick(frames, draws != "none", False)
        if name != "noop" and held >= self.settings.frames_per_step:
            self.boy.button_release(name)
        if draws != "none":
            np.copyto(self.screen, self.boy.screen.ndarray[::2, ::2, 0])

    def play(self, steps: int) -> None:
        """Some steps."""
        for _ in range(steps):
            self.step(self.pressed[self.count % len(self.pressed)])
            self.count += 1

    def registers(self) -> list[int]:
        """What is in each of REGISTERS."""
        file = self.boy.register_file
        halves = {"h": file.HL >> 8, "l": file.HL & 0xFF}
        return [halves[name] if name in halves else getattr(file, name.upper()) for name in REGISTERS]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.boy.stop(save=False)


def same_play(boy: PlainPyBoy, players: Sequence[Player]) -> bool:
    """Whether the first lane of every player shows the same registers as PyBoy, and the same screen where one is drawn,
    after each of the first steps of all of them."""
    same = True
    for _ in range(_COMPARED):
        boy.play(1)
        for player in players:
            player.play(1)
            backend = player.backend
            same &= boy.registers() == [int(backend.register(name)[0]) for name in REGISTERS]
            if player.settings.draw != "none":
                same &= np.array_equal(boy.screen, backend.screen[0].cpu().numpy())
    return same
