"""A toy with the face of a Game Boy: a bar on a screen that buttons make longer and shorter. It emulates nothing; it is
here so that what environments do around a machine can be tested in milliseconds."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import ShapeError, check_shape

LEFT, RIGHT, REST, BREAK = range(4)
FIRST, LAST = 2, 16  # places: where the power-on leaves the bar, and its greatest length


class State(NamedTuple):
    """What a lane of the toy is."""

    place: Tensor  # [N] int64, how long the bar is, in fifths of 80 pixels
    steps: Tensor  # [N] int64
    stopped: Tensor  # [N] bool
    screen: Tensor  # [N, H, W] uint8


def bar(place: int) -> Tensor:
    """The screen with a bar of that length, [72, 80]."""
    return torch.where(torch.arange(80) // 5 < place, 3, 0).to(torch.uint8).repeat(72, 1)


class Toy:
    """The face of `GameBoy`. Actions: left, right, rest, and one that stops the lane as an illegal opcode would."""

    actions = ("left", "right", "noop", "select")
    frames_per_step, release_after_frames = 24, 8

    def __init__(self, rom: str = "toy", num_envs: int = 1, draw: str = "half") -> None:
        self.rom = SimpleNamespace(title=rom, sha256=hashlib.sha256(rom.encode()).hexdigest())
        self.num_envs, self.draw, self.device = num_envs, draw, torch.device("cpu")
        self.closed, self.resets = False, 0
        width = {"half": 80, "full": 160}[draw]
        self._columns = (torch.arange(width) // (width // 16)).expand(num_envs, width * 9 // 10, width).clone()
        self._moves, self._breaking = torch.tensor([-1, 1, 0, 0]), torch.tensor([False, False, False, True])
        self._one, self._black, self._white = torch.tensor(1), *torch.tensor([3, 0], dtype=torch.uint8)
        self._move, self._breaks = torch.zeros(num_envs, dtype=torch.int64), torch.zeros(num_envs, dtype=torch.bool)
        self._bars = torch.zeros_like(self._columns, dtype=torch.bool)
        count = torch.zeros(num_envs, dtype=torch.int64)
        screen = torch.zeros(self._columns.shape, dtype=torch.uint8)
        self.state = State(count + FIRST, count, self._breaks.clone(), screen)
        self._initial = pytree.tree_map(lambda x: x[:1].clone(), self.state)
        self._first = torch.zeros(num_envs, dtype=torch.int64)
        self._all = torch.ones(num_envs, dtype=torch.bool)
        self._chosen = pytree.tree_map(torch.clone, self.state)

    @property
    def screen(self) -> Tensor:
        return self.state.screen

    @property
    def faults(self) -> Tensor:
        return self.state.stopped

    def step(self, actions: Tensor) -> None:
        """Without an allocation, as a real one."""
        state = self.state
        torch.index_select(self._moves, 0, actions, out=self._move)
        torch.index_select(self._breaking, 0, actions, out=self._breaks)
        state.stopped.logical_or_(self._breaks)
        self._move.masked_fill_(state.stopped, 0)
        state.place.add_(self._move).clamp_(0, LAST)
        state.steps.add_(self._one)
        torch.lt(self._columns, state.place[:, None, None], out=self._bars)
        torch.where(self._bars, self._black, self._white, out=state.screen)

    def render(self) -> Tensor:
        return self.screen

    def reset(self, mask: Tensor | None = None, start: Any = None, choice: Tensor | None = None) -> None:
        self.resets += 1
        mask = self._all if mask is None else mask
        for x, y, chosen in zip(self.state, self._initial if start is None else start, self._chosen, strict=True):
            torch.index_select(y, 0, self._first if choice is None else choice, out=chosen)
            torch.where(mask.view(-1, *(1,) * (x.ndim - 1)), chosen, x, out=x)

    def snapshot(self, lanes: Sequence[int] | Tensor | None = None) -> State:
        picked = list(range(self.num_envs)) if lanes is None else lanes
        return State(*(x[picked].clone() for x in self.state))

    def restore(self, state: State) -> None:
        check_shape("state.place", state.place, (self.num_envs,))
        for x, y in zip(self.state, state, strict=True):
            x.copy_(y)

    def save_state(self, path: str | Path, lane: int = 0) -> None:
        save_file(self.snapshot([lane])._asdict(), path, {"rom": self.rom.sha256})

    def read_state(self, path: str | Path) -> State:
        return State(**load_file(path))

    def read_memory(self, address: int, length: int = 1, *, out: Tensor | None = None) -> Tensor:
        """Bytes 0 to 7: the place, low byte first; bytes 8 to 15: steps taken. There are no more."""
        if not 0 <= address < address + length <= 16:
            raise ValueError(f"address must be in 0..15, got {address} and {length}")
        out = torch.zeros(self.num_envs, length, dtype=torch.uint8) if out is None else out
        if out.shape != (self.num_envs, length):
            raise ShapeError(f"out must have shape {(self.num_envs, length)}, got {tuple(out.shape)}")
        for i, byte in enumerate(range(address, address + length)):
            out[:, i].copy_(self.state[byte // 8].view(torch.uint8).view(-1, 8)[:, byte % 8])
        return out

    def close(self) -> None:
        self.closed = True
