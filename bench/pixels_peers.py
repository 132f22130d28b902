"""PyBoy as anybody would use it, one emulator in a loop of Python; and whether it plays what ours does."""

import numpy as np
import torch

from armfold.core import random
from armfold.shell.backends.gameboy import ACTIONS, GameBoy, find_rom
from armfold.shell.backends.pyboy import PyBoyBackend
from armfold.shell.backends.pyboy_lanes import find_pyboy, make_pyboy
from armfold.shell.run.pixels_player import Settings, draw_actions, lead_actions
from bench.record import CannotRunError

_COMPARED = 30  # steps
_REGISTERS = ("pc", "sp", "a", "f", "b", "c", "d", "e", "h", "l")


def require_pyboy() -> None:
    """Raise CannotRunError where PyBoy is not installed."""
    try:
        find_pyboy()
    except ValueError as error:
        raise CannotRunError(str(error)) from error


class PlainPyBoy:
    """One PyBoy, silent and unseen, that presses what a lane of ours presses, after the same lead."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.boy = settings, make_pyboy(find_rom(settings.rom).data)
        self.screen = np.zeros((72, 80), np.uint8)
        self.pressed = [ACTIONS[action] for action in draw_actions(settings, 1)[:, 0].tolist()]
        self.count = 0
        for action in lead_actions(settings).tolist():
            self.step(ACTIONS[action])

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

    def close(self) -> None:
        """End it; nothing is saved."""
        self.boy.stop(save=False)


def same_play(rom: str) -> bool:
    """Whether PyBoy and ours show the same screens and registers after each of some steps of random play."""
    ours, theirs = GameBoy(rom, 1, threads=1), PyBoyBackend(rom, 1)
    same = True
    for action in random.randint(random.key(1), (_COMPARED, 1), high=len(ACTIONS)):
        ours.step(action)
        theirs.step(action)
        same &= torch.equal(ours.screen, theirs.screen)
        same &= all(torch.equal(ours.register(name), theirs.register(name)) for name in _REGISTERS)
    theirs.close()
    return same
