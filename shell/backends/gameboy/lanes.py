"""N Game Boys and the buffers that they live in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_size
from armfold.shell.backends.gameboy.machine import (
    ACTIONS,
    Draw,
    Machine,
    MemoryLayout,
    Settings,
    as_actions,
    usable_cores,
)
from armfold.shell.backends.gameboy.rom import Rom
from armfold.shell.backends.gameboy.saves import read_state, write_state
from armfold.shell.backends.gameboy.state import State, register_index
from armfold.shell.check import (
    Closed,
    Integers,
    check_address,
    check_range,
    check_restart,
    check_state,
    lane_buttons,
    lane_indices,
)
from armfold.shell.device import find_device


class GameBoy:
    """N Game Boys that play one cartridge, stepped at once. Nothing is allocated by a step, nor waited for on a GPU.

    state: the live buffers, which `step` and `reset` change; screen: what the last frame of a step showed, uint8
    [N, 72, 80] ([N, 144, 160] for draw="full"), shades 0 (white) to 3. A lane that meets an illegal opcode stands still
    until it is reset (`faults`), and shows white.
    """

    def __init__(
        self,
        rom: str | Path | bytes | Rom,
        num_envs: int,
        device: str | torch.device = "cpu",
        *,
        frames_per_step: int = 24,
        release_after_frames: int = 8,
        actions: Sequence[str] = ACTIONS,
        draw: Draw = "half",
        threads: int | None = None,
        layout: MemoryLayout | None = None,
        lanes_per_warp: int = 32,
    ) -> None:
        """`num_envs` machines, just switched on.

        rom: a file, its bytes, or the name of a shipped game. frames_per_step: 59.7 a second. release_after_frames:
        after how many of them the buttons of an action are let go; they are held throughout where that is no fewer.
        actions: names of buttons, "noop", or several joined by "+". draw: what of the last frame of a step is kept:
        "half", every second pixel of every second line; "full"; "none". threads: on the CPU; None: one for each core.
        layout: of the memories: "contiguous" lane after lane, "interleaved" word by word of 4 bytes; None: the device's
        usual one. lanes_per_warp: on a GPU, lanes that share a warp. Raises ValueError, TypeError for what is no ROM at
        all, and BuildError where the machine cannot be compiled: NoCompilerError, where there is no compiler.
        """
        check_size("num_envs", num_envs)
        device = find_device(device)
        if layout is None:
            layout = "interleaved" if device.type == "cuda" else "contiguous"
        settings = Settings(
            frames_per_step,
            release_after_frames,
            as_actions(actions),
            draw,
            usable_cores() if threads is None else threads,
            layout,
            lanes_per_warp,
        )
        self.machine = Machine(rom, device, settings)
        self.rom, self.device, self.num_envs = self.machine.rom, self.machine.device, num_envs
        self.actions, self.draw = settings.actions, settings.draw
        self.frames_per_step, self.release_after_frames = settings.frames_per_step, settings.release_after_frames
        self.state = self.machine.init(num_envs)
        self._actions = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._buttons = torch.zeros(num_envs, dtype=torch.uint8, device=self.device)
        self._all = torch.ones(num_envs, dtype=torch.bool, device=self.device)
        self._first = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._faults = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._by_actions = self.machine.job(self.state, actions=self._actions)
        self._by_buttons = self.machine.job(self.state, buttons=self._buttons)
        self._power_on = self.machine.init(1)

    @property
    def screen(self) -> Tensor:
        """Shades of the last frame drawn, uint8 [N, H, W]: the buffer itself, which the next step changes."""
        return self.state.screen

    def render(self) -> Tensor:
        """`screen`. Raises ValueError where nothing is drawn."""
        if self.draw == "none":
            raise ValueError("nothing is drawn with draw='none'; make the machines with draw='half' or 'full'")
        return self.state.screen

    def step(self, actions: Integers) -> None:
        """`frames_per_step` frames with `actions` [N], of any integer dtype: indices of the action names.

        Raises ShapeError for another shape or dtype, and on the CPU ValueError for what is no action; on a GPU, where
        looking would wait, such a lane presses nothing.
        """
        self.machine.take(actions, self._actions)
        self.machine.advance(self._by_actions)

    def step_buttons(self, buttons: Tensor) -> None:
        """The same with the buttons themselves, uint8 [N]: bit i is button i of BUTTONS. Raises ShapeError."""
        self._buttons.copy_(lane_buttons(buttons, self.num_envs))
        self.machine.advance(self._by_buttons)

    def reset(self, mask: Tensor | None = None, start: State | None = None, choice: Tensor | None = None) -> None:
        """Begin again: the lanes of mask, bool [N], or all.

        start: where, a State of S lanes; None: switched on anew. choice: int64 [N] in [0, S), the start of each lane;
        None: the first. Lanes outside of the mask cost nothing. Raises ShapeError, as `restore` does; ValueError for
        the live state as `start`, and on the CPU for a choice that there is not; on a GPU, where looking would wait,
        such a lane stays as it is.
        """
        mask = self._all if mask is None else mask
        choice = self._first if choice is None else choice
        check_restart(mask, choice, self.num_envs, self.device)
        if start is None:
            start = self._power_on
        else:
            check_state("start", start, self.machine.like)
            if _storage(start) == _storage(self.state):
                raise ValueError("start must not be the live state, which the reset changes: take a snapshot")
            start = self.machine.lay(start)
        if self.device.type == "cpu" and choice is not self._first:
            check_range("choice", choice, len(start.registers))
        mask, choice = mask.contiguous(), choice.contiguous()
        self.machine.copy(self._by_actions, self.machine.job(start), mask, choice)

    def snapshot(self, lanes: Integers | None = None) -> State:
        """A copy of all lanes, or of some: tensors, which any checkpoint can hold. Raises ValueError for no lane, and
        ShapeError for what are no indices, such as a mask."""
        if lanes is None:
            return self.machine.clone(self.state)
        chosen = lane_indices(lanes, self.num_envs).to(self.device)
        return self.machine.clone(State(*(buffer[chosen] for buffer in self.state)))

    def restore(self, state: State) -> None:
        """Go on from what `snapshot` gave. Raises ShapeError for another number of lanes, or size of cartridge RAM or
        screen. Other cartridges are not told apart, as they are in files: their states do no harm, and mean nothing."""
        check_state("state", state, self.machine.like, self.num_envs)
        for buffer, value in zip(self.state, state):
            buffer.copy_(value)

    def save_state(self, path: str | Path, lane: int = 0) -> None:
        """Write one lane to a file (safetensors). Raises ValueError for a lane that there is not, and where no file can
        be written."""
        write_state(Path(path), self.snapshot([lane]), self.rom)

    def read_state(self, path: str | Path) -> State:
        """The State of one lane that `save_state` wrote, for `reset`. Raises ValueError for a file of another cartridge
        or version, or one whose picture is smaller than this machine's."""
        return read_state(Path(path), self.machine.like, self.rom)

    def load_state(self, path: str | Path, lanes: Integers | None = None) -> None:
        """Put what `save_state` wrote into all lanes, or into some. Raises ValueError, as `read_state` does."""
        start = self.read_state(path)
        mask = self._all
        if lanes is not None:
            mask = torch.zeros_like(self._all).index_fill_(0, lane_indices(lanes, self.num_envs).to(self.device), True)
        self.reset(mask, start)

    def read_memory(self, address: int, length: int = 1, *, out: Tensor | None = None) -> Tensor:
        """`length` bytes from `address` on, uint8 [N, length], as the processors would read them; nothing changes.

        out: a buffer to fill. Raises ValueError for addresses that there are not.
        """
        address, length = check_address(address, length)
        if out is None:
            out = torch.empty(self.num_envs, length, dtype=torch.uint8, device=self.device)
        fits = out.shape == (self.num_envs, length) and out.dtype == torch.uint8 and out.device == self.device
        if not fits or not out.is_contiguous():
            raise ShapeError(
                f"out must be uint8, contiguous, of shape {(self.num_envs, length)}, got {out.dtype} {tuple(out.shape)}"
            )
        self.machine.read(self._by_actions, address, out)
        return out

    def register(self, name: str) -> Tensor:
        """A number of each lane by its name in REGISTERS, int32 [N]: a view, which the next step changes."""
        return self.state.registers[:, register_index(name)]

    @property
    def faults(self) -> Tensor:
        """Lanes that an illegal opcode has stopped, bool [N]; valid until it is asked for again. They show white."""
        return self._faults.copy_(self.register("fault"))  # without a temporary, unlike a comparison

    def close(self) -> None:
        """Let go of the buffers. Whatever is asked of it afterwards raises ValueError."""
        self.machine = self.state = Closed("GameBoy")  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _storage(state: State) -> int:
    return state.registers.untyped_storage().data_ptr()
