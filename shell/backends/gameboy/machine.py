"""The machine without its state: a cartridge, the compiled program and its settings."""

import ctypes
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core.check import check_size
from armfold.shell.backends.gameboy import build, cuda
from armfold.shell.backends.gameboy.boot import boot_stub
from armfold.shell.backends.gameboy.rom import BANK, Rom, find_rom
from armfold.shell.backends.gameboy.state import FOLDER, SHAPES, Job, State, empty, register_index
from armfold.shell.check import Closed, Integers, check_range, check_state, lane_integers
from armfold.shell.choose import suggest
from armfold.shell.device import find_device

Draw = Literal["half", "full", "none"]
MemoryLayout = Literal["contiguous", "interleaved"]
BUTTONS = ("a", "b", "select", "start", "right", "left", "up", "down")  # bit i of a byte of buttons
ACTIONS = ("noop", "a", "b", "start", "up", "down", "left", "right")
_DRAW = {"none": 0, "half": 1, "full": 2}
_MAPPERS = {"none": 0, "MBC1": 1, "MBC1 multicart": 2, "MBC2": 3, "MBC3": 4, "MBC5": 5}
_POWER_ON = {"boot": 1, "rom_high": 1, "bank_1": 1, "lcd_target": 70224, "serial_end": 2**31 - 1, "sc": 0x7E}
_POWER_ON |= {"bgp": 0xFC, "obp0": 0xFF, "obp1": 0xFF}
_WARP, _BLOCK, _COPY_BLOCK = 32, 128, 256
_MOST_FRAMES = 2**31 - 1


class Settings(NamedTuple):
    """What a machine does in a step, and how it lies in memory."""

    frames_per_step: int
    release_after_frames: int
    actions: tuple[str, ...]
    draw: Draw
    threads: int
    layout: MemoryLayout
    lanes_per_warp: int


def action_buttons(name: str) -> int:
    """The byte of buttons of an action: "noop", a button, or several joined by "+". Raises ValueError."""
    if name == "noop":
        return 0
    if not isinstance(name, str):
        raise ValueError(f"actions must be names, got {name!r}")
    bits = 0
    for button in name.split("+"):
        if button not in BUTTONS:
            alone = button == name
            raise suggest("action" if alone else f"button in action {name!r},", button, ("noop",) * alone + BUTTONS)
        bits |= 1 << BUTTONS.index(button)
    return bits


def as_actions(actions: Sequence[str]) -> tuple[str, ...]:
    """Action names, as a tuple. Raises ValueError for no sequence, and for one string, which is a sequence as well."""
    if isinstance(actions, str) or not isinstance(actions, Iterable):
        kind = "the string " if isinstance(actions, str) else ""
        raise ValueError(f"actions must be a sequence of names, got {kind}{actions!r}")
    return tuple(actions)


def check_step(frames_per_step: int, release_after_frames: int, actions: tuple[str, ...], draw: Draw) -> None:
    """Raise ValueError for a step that cannot be. Names of actions are looked at by `action_buttons`."""
    for name, frames in (("frames_per_step", frames_per_step), ("release_after_frames", release_after_frames)):
        check_size(name, frames)
        if frames > _MOST_FRAMES:
            raise ValueError(f"{name} must be at most {_MOST_FRAMES}, got {frames}")
    if not actions:
        raise ValueError("actions must name at least one action, got none")
    check_name("draw", draw, SHAPES)


def check_settings(settings: Settings) -> None:
    """Raise ValueError for what cannot be."""
    check_step(settings.frames_per_step, settings.release_after_frames, settings.actions, settings.draw)
    check_name("layout", settings.layout, ("contiguous", "interleaved"))
    check_size("threads", settings.threads)
    if settings.lanes_per_warp not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"lanes_per_warp must be 1, 2, 4, 8, 16 or 32, got {settings.lanes_per_warp!r}")


def check_name(name: str, value: str, known: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of these names."""
    if not isinstance(value, str) or value not in known:
        raise suggest(name, str(value), known)


class Machine:
    """A cartridge and the program that runs it, without a state: `step` makes a new one, `advance` writes into one."""

    def __init__(self, rom: str | Path | bytes | Rom, device: str | torch.device, settings: Settings) -> None:
        """Compile the program, where that has not been done before. Raises ValueError, TypeError and BuildError."""
        self.rom = find_rom(rom)
        check_settings(settings)
        self.settings = settings
        self._rom = self.rom.tensor(find_device(device))
        self.device = self._rom.device  # with its number, as tensors have it
        self._looks = self.device.type == "cpu"
        self.choices = torch.tensor([action_buttons(name) for name in settings.actions], dtype=torch.uint8)
        self.choices = self.choices.to(self.device)
        stub = torch.frombuffer(bytearray(boot_stub()), dtype=torch.uint8).to(self.device)
        self._boot = torch.cat((stub, self._rom[len(stub) : BANK]))
        self.like = self._empty(1)  # what states of this machine are like
        self._program = (_Host if self.device.type == "cpu" else _Cuda)(settings, self.device)

    def init(self, num_envs: int) -> State:
        """`num_envs` machines that have just been switched on."""
        check_size("num_envs", num_envs)
        state = self._empty(num_envs)
        for name, value in _POWER_ON.items():
            state.registers[:, register_index(name)] = value
        state.registers[:, register_index("ram_on")] = int(self.rom.mapper == "none" and self.rom.ram_bytes > 0)
        return state

    def clone(self, state: State) -> State:
        """A copy that lies in memory as this machine wants it. Raises ShapeError for another size of cartridge RAM or
        screen."""
        check_state("state", state, self.like)
        copy = self._empty(len(state.registers))
        for buffer, value in zip(copy, state):
            buffer.copy_(value)
        return copy

    def lay(self, state: State) -> State:
        """`state` itself where it lies in memory as this machine wants it, else a copy that does."""
        interleaved = self.settings.layout == "interleaved"
        memories = state[1:6]
        laid = all((x.T if interleaved else x).is_contiguous() for x in memories)
        return state if laid and state.registers.is_contiguous() and state.screen.is_contiguous() else self.clone(state)

    def _empty(self, num_envs: int) -> State:
        settings = self.settings
        interleaved = settings.layout == "interleaved"
        return empty(num_envs, self.rom.ram_bytes, draw=settings.draw, interleaved=interleaved, device=self.device)

    def job(self, state: State, *, actions: Tensor | None = None, buttons: Tensor | None = None) -> Job:
        """The work of a step of `state`, whose tensors, and those of the actions, must outlive it."""
        settings, rom = self.settings, self.rom
        pointers = {name: tensor.data_ptr() for name, tensor in state._asdict().items()}
        pointers |= {"rom": self._rom.data_ptr(), "boot": self._boot.data_ptr(), "choices": self.choices.data_ptr()}
        for name, tensor in (("actions", actions), ("buttons", buttons)):
            pointers[name] = 0 if tensor is None else tensor.data_ptr()
        return Job(
            **pointers,
            lanes=len(state.registers),
            num_choices=len(self.choices),
            rom_banks=rom.banks,
            cart_bytes=rom.ram_bytes,
            mapper=_MAPPERS[rom.mapper],
            has_clock=rom.has_clock,
            frames=settings.frames_per_step,
            release_after=settings.release_after_frames,
            draw=_DRAW[settings.draw],
            lanes_per_warp=settings.lanes_per_warp,
        )

    def take(self, actions: Integers, out: Tensor) -> Tensor:
        """`out`, int64 [N] on the device, filled with `actions` [N] of any integer dtype.

        Raises ShapeError for another shape or dtype, and on the CPU ValueError for what is no action; on a GPU, where
        looking would wait, such a lane presses nothing.
        """
        out.copy_(lane_integers("actions", actions, len(out)))
        if self._looks:
            check_range("actions", out, len(self.settings.actions))
        return out

    def advance(self, job: Job) -> None:
        """One step of the state of a job, in place."""
        self._program.step(job)

    def read(self, job: Job, address: int, out: Tensor) -> None:
        """Fill out, uint8 [N, length], with memory from `address` on, as the processors would read it."""
        self._program.read(job, address, out)

    def copy(self, job: Job, source: Job, mask: Tensor, choice: Tensor) -> None:
        """The lanes of mask [N] become the lanes choice [N] int64 of `source`. Values of `choice` are not looked at."""
        self._program.copy(job, source, mask, choice)


def step(machine: Machine, state: State, actions: Integers) -> State:
    """The state after `actions` [N], of any integer dtype. `state` stays as it is. Raises as `GameBoy.step` does, and
    TypeError for a GameBoy itself: `machine` is its `game.machine`."""
    if not isinstance(machine, Machine | Closed):
        raise TypeError(f"machine must be a Machine, such as game.machine of a GameBoy, got {type(machine).__name__}")
    moved = machine.clone(state)
    taken = machine.take(actions, torch.empty(len(moved.registers), dtype=torch.int64, device=machine.device))
    machine.advance(machine.job(moved, actions=taken))  # whose tensors live until the step is given out
    return moved


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _defines(settings: Settings, **others: int) -> dict[str, int]:
    return {**({"GB_INTERLEAVED": 1} if settings.layout == "interleaved" else {}), **others}


class _Host:
    """The program on the CPU."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self._library = build.compile_library("gameboy", [FOLDER / "cpu.c"], defines=_defines(settings))
        self._threads = settings.threads
        bytes_there = self._library.gb_job_bytes()
        if bytes_there != ctypes.sizeof(Job):
            raise RuntimeError(f"the compiled Game Boy takes jobs of {bytes_there} bytes, not {ctypes.sizeof(Job)}")

    def step(self, job: Job) -> None:
        self._library.gb_step(ctypes.byref(job), min(self._threads, job.lanes))

    def read(self, job: Job, address: int, out: Tensor) -> None:
        self._library.gb_read(ctypes.byref(job), address, out.shape[1], ctypes.c_void_p(out.data_ptr()))

    def copy(self, job: Job, source: Job, mask: Tensor, choice: Tensor) -> None:
        pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (mask, choice))
        self._library.gb_copy(ctypes.byref(job), ctypes.byref(source), *pointers)


class _Cuda:
    """The program on a GPU. Nothing here waits for it."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        kernels = ("gb_step", "gb_read", "gb_copy")
        defines = _defines(settings, GB_UNIFORM=1)
        self._module = cuda.load_module(FOLDER / "cuda.cu", kernels, device=device, defines=defines)

    def step(self, job: Job) -> None:
        threads = -(-job.lanes // job.lanes_per_warp) * _WARP
        self._launch("gb_step", threads, job)

    def read(self, job: Job, address: int, out: Tensor) -> None:
        numbers = (ctypes.c_int32(address), ctypes.c_int32(out.shape[1]))
        self._launch("gb_read", job.lanes, job, *numbers, ctypes.c_void_p(out.data_ptr()))

    def copy(self, job: Job, source: Job, mask: Tensor, choice: Tensor) -> None:
        pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (mask, choice))
        self._module.launch("gb_copy", job.lanes, _COPY_BLOCK, job, source, *pointers)

    def _launch(self, name: str, threads: int, *arguments: Any) -> None:
        self._module.launch(name, -(-threads // _BLOCK), _BLOCK, *arguments)
