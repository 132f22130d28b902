"""What pixel environments ask of the machine beneath them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor


class Backend(Protocol):
    """N machines stepped at once: `GameBoy`, `PyBoyBackend`, or anything with their face.

    `screen` and `faults` lie where they are for as long as the backend lives: environments bind them once. So does
    what `state` holds, where the machines are the backend's own; a PyBoy keeps its memory to itself, and `state` is a
    fresh copy at each access.
    """

    num_envs: int
    device: torch.device
    actions: tuple[str, ...]  # names; an action is an index into them
    frames_per_step: int
    release_after_frames: int

    @property
    def draw(self) -> str:
        """What screens are: "half" for 72 x 80 pixels, "full" for 144 x 160, "none" for nothing."""

    @property
    def state(self) -> Any:
        """All that the machines are, a tuple of tensors [N, ...]: the live buffers, or a copy of them."""

    @property
    def screen(self) -> Tensor:
        """The live screen, uint8 [N, H, W], shades 0 to 3."""

    @property
    def faults(self) -> Tensor:
        """Lanes that an illegal opcode has stopped, bool [N]."""

    def step(self, actions: Tensor) -> None:
        """Every lane by one step, with actions [N]."""

    def reset(self, mask: Tensor | None = None, start: Any = None, choice: Tensor | None = None) -> None:
        """Lanes of mask, bool [N], to power-on or to lane choice, int64 [N], of `start`. The host does not wait."""

    def snapshot(self, lanes: Sequence[int] | Tensor | None = None) -> Any:
        """A copy of `state`, of all lanes or of some. Raises ValueError for a lane there is not, or none at all."""

    def restore(self, state: Any) -> None:
        """All lanes as in a snapshot of all of them. Raises ShapeError for another one, before anything is written."""

    def read_state(self, path: str | Path) -> Any:
        """A file of `save_state` as a State of one lane. Raises ValueError for what is none, or of another ROM."""

    def read_memory(self, address: int, length: int = 1, *, out: Tensor | None = None) -> Tensor:
        """Bytes as the machine would read them, uint8 [N, length]."""

    def close(self) -> None:
        """Let go of everything."""
