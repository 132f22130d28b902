"""PyBoy with the face of GameBoy: what plays where there is no compiler, and the oracle of GameBoy's tests.

PyBoy is its authors' (github.com/Baekalfen/PyBoy) and optional: pip install 'armfold[pyboy]'. Each lane is an emulator
of its own, so steps, snapshots and resets cost time in proportion to the lanes: about 15 ms for each that is saved or
loaded. A lane that meets an illegal opcode costs a tenth of a second, once. The clock of an MBC3 is wrong after a state
has been loaded: PyBoy adds the host's time and the age of the machine to it. Where PyBoy differs from the hardware that
GameBoy follows, docs/pixels.md says how.
"""

import contextlib
import itertools
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.multiprocessing
from torch import Tensor

from armfold.core.check import ShapeError, check_size
from armfold.shell.backends.gameboy.machine import ACTIONS, Draw, action_buttons, as_actions, check_name, check_step
from armfold.shell.backends.gameboy.rom import Rom, find_rom
from armfold.shell.backends.gameboy.saves import SAVED_BY, fit_screen
from armfold.shell.backends.gameboy.state import SHAPES
from armfold.shell.backends.pyboy_lanes import Lanes, Settings, Worker, find_pyboy, serve
from armfold.shell.check import (
    Closed,
    Integers,
    check_address,
    check_range,
    check_restart,
    check_state,
    lane_buttons,
    lane_indices,
    lane_integers,
)
from armfold.shell.store.files import read_tensors, write_tensors

_KIND, _VERSION = "armfold PyBoy state", "1"
REGISTERS = ("pc", "sp", "a", "f", "b", "c", "d", "e", "h", "l")


class State(NamedTuple):
    """What N PyBoys are."""

    data: Tensor  # [N, L] uint8: PyBoy's own state, L bytes for this cartridge
    screen: Tensor  # [N, H, W] uint8, shades 0 (white) to 3 of the last frame drawn
    faults: Tensor  # [N] bool: stopped by an illegal opcode


class _Here:
    """All lanes in this process."""

    def __init__(self, settings: Settings, screens: Tensor, faults: Tensor, buttons: Tensor) -> None:
        self.screens, self.faults = screens, faults
        self._lanes, self._buttons = Lanes(settings, screens.numpy(), faults.numpy()), buttons.numpy()

    def step(self) -> None:
        self._lanes.step(self._buttons)

    def each(self, lanes: Sequence[int], method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._lanes.each(lanes, method, arguments)

    def together(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(self._lanes, method)(*arguments)]

    def close(self) -> None:
        self._lanes.close()


class _Workers:
    """Lanes shared out to processes, in blocks.

    Whatever breaks a call off, a Ctrl-C or a worker that dies, ends them all: answers would be left in the pipes, and
    be taken for those of later calls.
    """

    def __init__(self, settings: Settings, screens: Tensor, faults: Tensor, buttons: Tensor, count: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.screens, self.faults = screens, faults
        shared = [tensor.share_memory_() for tensor in (screens, faults, buttons)]  # type: ignore[no-untyped-call]
        self._blocks = [slice(len(faults) * i // count, len(faults) * (i + 1) // count) for i in range(count)]
        self._workers: list[Worker] = []
        for block in self._blocks:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, settings, *shared, block), daemon=True)
            with _later_interrupts():
                process.start()
            theirs.close()
            self._workers.append(Worker(len(self._workers), process, ours))
        self._end = ""
        self._answers()

    def step(self) -> None:
        self.together("step")

    def each(self, lanes: Sequence[int], method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One message for each worker, with its part of the lanes."""
        parts = [[k for k, lane in enumerate(lanes) if block.start <= lane < block.stop] for block in self._blocks]
        questions = [
            ("each", [lanes[k] - block.start for k in part], method, [arguments[k] for k in part])
            for block, part in zip(self._blocks, parts)
        ]
        answers = self._answers(questions)
        by_place = {k: value for part, answer in zip(parts, answers) for k, value in zip(part, answer, strict=True)}
        return [by_place[k] for k in range(len(lanes))]

    def together(self, method: str, *arguments: Any) -> list[Any]:
        return self._answers([(method, *arguments)] * len(self._workers))

    def _answers(self, questions: Sequence[tuple[Any, ...]] = ()) -> list[Any]:
        """What the workers answer, to a question each."""
        if self._end:
            raise RuntimeError(f"these PyBoys have ended ({self._end}): make others")
        try:
            for worker, question in zip(self._workers, questions):
                worker.ask(*question)
            return [worker.answer() for worker in self._workers]
        except BaseException as error:
            self._end = str(error) or f"{type(error).__name__} in the middle of a call"
            for worker in self._workers:
                worker.process.kill()
            raise

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


@contextlib.contextmanager
def _later_interrupts() -> Iterator[None]:
    """A Ctrl-C waits for the end. A process that is begun inside never meets one, even while it still imports."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class PyBoyBackend:
    """N PyBoys that play one cartridge, stepped one after the other, or by workers.

    screen: what the last frame of a step showed, uint8 [N, 72, 80] ([N, 144, 160] for draw="full"), shades 0 (white) to
    3. A lane that meets an illegal opcode stands still until it is reset (`faults`), and shows white.
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
        workers: int | None = None,
    ) -> None:
        """`num_envs` machines, just switched on. The arguments are those of GameBoy, but for `workers`: processes that
        share the lanes; None: this one plays them all. Raises ValueError, also where PyBoy is not installed, and
        TypeError for what is no ROM at all."""
        check_size("num_envs", num_envs)
        self.actions, self.draw = as_actions(actions), draw
        check_step(frames_per_step, release_after_frames, self.actions, draw)
        if str(device).split(":")[0] != "cpu":
            raise ValueError(f"device must be 'cpu' for PyBoy, got {str(device)!r}")
        if workers is not None:
            check_size("workers", workers)
            workers = min(workers, num_envs)
        find_pyboy()
        self.rom, self.num_envs, self.device = find_rom(rom), num_envs, torch.device("cpu")
        self.frames_per_step, self.release_after_frames = frames_per_step, release_after_frames
        self._choices = torch.tensor([action_buttons(name) for name in self.actions], dtype=torch.uint8)
        self._actions = torch.zeros(num_envs, dtype=torch.int64)
        self._buttons = torch.zeros(num_envs, dtype=torch.uint8)
        settings = Settings(self.rom.data, frames_per_step, release_after_frames, draw)
        screens = torch.zeros(num_envs, *SHAPES[draw], dtype=torch.uint8)
        buffers = (screens, torch.zeros(num_envs, dtype=torch.bool), self._buttons)
        self._boys = _Here(settings, *buffers) if workers is None else _Workers(settings, *buffers, workers)
        self._power_on = self.snapshot([0])

    @property
    def screen(self) -> Tensor:
        """Shades of the last frame drawn, uint8 [N, H, W]: the buffer itself, which the next step changes."""
        return self._boys.screens

    @property
    def faults(self) -> Tensor:
        """Lanes that an illegal opcode has stopped, bool [N]: the buffer itself."""
        return self._boys.faults

    @property
    def state(self) -> State:
        """All lanes, as `snapshot` copies them: PyBoy's own memory cannot be shared."""
        return self.snapshot()

    def render(self) -> Tensor:
        """`screen`. Raises ValueError where nothing is drawn."""
        if self.draw == "none":
            raise ValueError("nothing is drawn with draw='none'; make the machines with draw='half' or 'full'")
        return self.screen

    def step(self, actions: Integers) -> None:
        """`frames_per_step` frames with `actions` [N], of any integer dtype: indices of the action names.

        Raises ShapeError for another shape or dtype, ValueError for what is no action.
        """
        self._actions.copy_(lane_integers("actions", actions, self.num_envs))
        check_range("actions", self._actions, len(self.actions))
        torch.index_select(self._choices, 0, self._actions, out=self._buttons)
        self._boys.step()

    def step_buttons(self, buttons: Tensor) -> None:
        """The same with the buttons themselves, uint8 [N]: bit i is button i of BUTTONS. Raises ShapeError."""
        self._buttons.copy_(lane_buttons(buttons, self.num_envs))
        self._boys.step()

    def reset(self, mask: Tensor | None = None, start: State | None = None, choice: Tensor | None = None) -> None:
        """Begin again: the lanes of mask, bool [N], or all.

        start: where, a State of S lanes; None: switched on anew. choice: int64 [N] in [0, S), the start of each lane;
        None: the first. Raises ShapeError, and ValueError for a choice that there is not.
        """
        mask = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask
        choice = torch.zeros(self.num_envs, dtype=torch.int64) if choice is None else choice
        check_restart(mask, choice, self.num_envs, self.device)
        start = self._power_on if start is None else start
        check_state("start", start, self._power_on)
        check_range("choice", choice, len(start.data))
        self._load(torch.nonzero(mask).reshape(-1).tolist(), start, choice[mask].tolist())

    def _load(self, lanes: list[int], start: State, chosen: list[int]) -> None:
        given = [(start.data[k].numpy().tobytes(), bool(start.faults[k])) for k in chosen]
        self._boys.each(lanes, "load", given)
        for lane, k in zip(lanes, chosen):
            self.screen[lane] = start.screen[k]

    def snapshot(self, lanes: Integers | None = None) -> State:
        """A copy of all lanes, or of some: tensors, which any checkpoint can hold. Raises ValueError for no lane, and
        ShapeError for what are no indices, such as a mask."""
        chosen = torch.arange(self.num_envs) if lanes is None else lane_indices(lanes, self.num_envs)
        saved = self._boys.each(chosen.tolist(), "save", [()] * len(chosen))
        data = torch.stack([torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in saved])
        return State(data, self.screen[chosen], self.faults[chosen])

    def restore(self, state: State) -> None:
        """Go on from what `snapshot` gave. Raises ShapeError for another number of lanes, size of PyBoy's state, which
        goes with the cartridge's RAM and mapper, or screen. Other cartridges are not told apart."""
        check_state("state", state, self._power_on, self.num_envs)
        self._load(list(range(self.num_envs)), state, list(range(self.num_envs)))

    def save_state(self, path: str | Path, lane: int = 0) -> None:
        """Write one lane to a file (safetensors). Raises ValueError for a lane that there is not, and where no file can
        be written."""
        facts = {"format": _KIND, "version": _VERSION, "rom": self.rom.sha256, "title": self.rom.title}
        write_tensors("state", Path(path), self.snapshot([lane])._asdict(), facts)

    def read_state(self, path: str | Path) -> State:
        """The State of one lane that `save_state` wrote. Raises ValueError for a file of another kind, cartridge or
        version, and for one without a picture where one is wanted."""
        name = f"state {str(path)!r}"
        facts = {"kind": _KIND, "version": _VERSION, "rom": self.rom.sha256}
        tensors, _ = read_tensors(name, Path(path), **facts, fields=State._fields, hints=SAVED_BY)
        tensors["screen"] = fit_screen(name, tensors["screen"], SHAPES[self.draw])
        state = State(**tensors)
        check_state(name, state, self._power_on, 1)
        return state

    def load_state(self, path: str | Path, lanes: Integers | None = None) -> None:
        """Put what `save_state` wrote into all lanes, or into some. Raises ValueError, as `read_state` does."""
        start = self.read_state(path)
        chosen = list(range(self.num_envs)) if lanes is None else lane_indices(lanes, self.num_envs).tolist()
        self._load(chosen, start, [0] * len(chosen))

    def read_memory(self, address: int, length: int = 1, *, out: Tensor | None = None) -> Tensor:
        """`length` bytes from `address` on, uint8 [N, length], as the processors would read them.

        out: a buffer to fill. Raises ValueError for addresses that there are not, ShapeError for the buffer.
        """
        address, length = check_address(address, length)
        read = torch.cat([torch.from_numpy(rows) for rows in self._boys.together("read", address, length)])
        if out is None:
            return read
        if out.shape != read.shape or out.dtype != torch.uint8:
            raise ShapeError(f"out must be uint8 of shape {tuple(read.shape)}, got {out.dtype} {tuple(out.shape)}")
        return out.copy_(read)

    def register(self, name: str) -> Tensor:
        """A register of each lane by its name in REGISTERS, int32 [N]: a copy."""
        check_name("register", name, REGISTERS)
        values = itertools.chain.from_iterable(self._boys.together("register", name))
        return torch.tensor(list(values), dtype=torch.int32)

    def close(self) -> None:
        """Stop the emulators and their processes; nothing is saved. What is asked of it later raises ValueError."""
        self._boys.close()
        self._boys = Closed("PyBoyBackend")  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
