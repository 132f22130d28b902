"""PyBoy with the face of GameBoy: what plays where there is no compiler, and the oracle of GameBoy's tests.

PyBoy is its authors' (github.com/Baekalfen/PyBoy) and optional: pip install 'armfold[pyboy]'. Each lane is an emulator
of its own, so steps, snapshots and resets cost time in proportion to the lanes: about 15 ms for each that is saved or
loaded. A lane that meets an illegal opcode costs a tenth of a second, once. The clock of an MBC3 is wrong after a state
has been loaded: PyBoy adds the host's time and the age of the machine to it. Where PyBoy differs from the hardware that
GameBoy follows, docs/pixels.md says how.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from torch import Tensor

from armfold.core.check import ShapeError, check_size
from armfold.shell.backends.gameboy.machine import ACTIONS, Draw, action_buttons, as_actions
from armfold.shell.backends.gameboy.rom import Rom, find_rom
from armfold.shell.backends.gameboy.state import SHAPES
from armfold.shell.backends.pyboy_lanes import Lanes, Settings, Worker, find_pyboy, serve
from armfold.shell.choose import suggest
from armfold.shell.store.files import write_whole

_FORMAT, _VERSION = "armfold PyBoy state", 1
REGISTERS = ("pc", "sp", "a", "f", "b", "c", "d", "e", "h", "l")


class State(NamedTuple):
    """What N PyBoys are."""

    data: Tensor  # [N, L] uint8: PyBoy's own state, L bytes for this cartridge
    screen: Tensor  # [N, H, W] uint8, shades 0 (white) to 3 of the last frame drawn
    faults: Tensor  # [N] bool: stopped by an illegal opcode


class _Here:
    """All lanes in this process."""

    def __init__(self, settings: Settings, screens: Tensor, faults: Tensor, buttons: Tensor) -> None:
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
    """Lanes shared out to processes, in blocks."""

    def __init__(self, settings: Settings, screens: Tensor, faults: Tensor, buttons: Tensor, count: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        shared = [tensor.share_memory_() for tensor in (screens, faults, buttons)]  # type: ignore[no-untyped-call]
        self._blocks = [slice(len(faults) * i // count, len(faults) * (i + 1) // count) for i in range(count)]
        self._workers: list[Worker] = []
        for block in self._blocks:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, settings, *shared, block), daemon=True)
            process.start()
            theirs.close()
            self._workers.append(Worker(len(self._workers), process, ours))
        for worker in self._workers:
            worker.answer()

    def step(self) -> None:
        self.together("step")

    def each(self, lanes: Sequence[int], method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One message for each worker, with its part of the lanes."""
        parts = [[k for k, lane in enumerate(lanes) if block.start <= lane < block.stop] for block in self._blocks]
        for worker, block, part in zip(self._workers, self._blocks, parts):
            worker.ask("each", [lanes[k] - block.start for k in part], method, [arguments[k] for k in part])
        answers = [worker.answer() for worker in self._workers]
        by_place = {k: value for part, answer in zip(parts, answers) for k, value in zip(part, answer, strict=True)}
        return [by_place[k] for k in range(len(lanes))]

    def together(self, method: str, *arguments: Any) -> list[Any]:
        for worker in self._workers:
            worker.ask(method, *arguments)
        return [worker.answer() for worker in self._workers]

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


class PyBoyBackend:
    """N PyBoys that play one cartridge, stepped one after the other, or by workers.

    screen: what the last frame of a step showed, uint8 [N, 72, 80] ([N, 144, 160] for draw="full"), shades 0 (white) to
    3. A lane that meets an illegal opcode stands still until it is reset (`faults`).
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
        share the lanes; None: this one plays them all. Raises ValueError; also where PyBoy is not installed."""
        check_size("num_envs", num_envs)
        check_size("frames_per_step", frames_per_step)
        check_size("release_after_frames", release_after_frames)
        if torch.device(device).type != "cpu":
            raise ValueError(f"device must be 'cpu' for PyBoy, got {str(device)!r}")
        if draw not in SHAPES:
            raise suggest("draw", draw, SHAPES)
        if workers is not None:
            check_size("workers", workers)
            workers = min(workers, num_envs)
        find_pyboy()
        self.rom, self.num_envs, self.device = (
            rom if isinstance(rom, Rom) else find_rom(rom),
            num_envs,
            torch.device("cpu"),
        )
        self.actions, self.draw = as_actions(actions), draw
        self.frames_per_step, self.release_after_frames = frames_per_step, release_after_frames
        self._choices = torch.tensor([action_buttons(name) for name in self.actions], dtype=torch.uint8)
        if not self.actions:
            raise ValueError("actions must name at least one action, got none")
        self.screen = torch.zeros(num_envs, *SHAPES[draw], dtype=torch.uint8)
        self.faults = torch.zeros(num_envs, dtype=torch.bool)
        self._buttons = torch.zeros(num_envs, dtype=torch.uint8)
        settings = Settings(self.rom.data, frames_per_step, release_after_frames, draw)
        buffers = (self.screen, self.faults, self._buttons)
        self._boys = _Here(settings, *buffers) if workers is None else _Workers(settings, *buffers, workers)
        self._power_on = self.snapshot([0])

    @property
    def state(self) -> State:
        """All lanes, as `snapshot` copies them: PyBoy's own memory cannot be shared."""
        return self.snapshot()

    def render(self) -> Tensor:
        """`screen`. Raises ValueError where nothing is drawn."""
        if self.draw == "none":
            raise ValueError("nothing is drawn with draw='none'; make the machines with draw='half' or 'full'")
        return self.screen

    def step(self, actions: Tensor) -> None:
        """`frames_per_step` frames with `actions` [N], of any integer dtype: indices of the action names.

        Raises ShapeError for another shape or dtype, ValueError for what is no action.
        """
        self._check_integers("actions", actions)
        low, high = int(actions.min()), int(actions.max())
        if low < 0 or high >= len(self.actions):
            raise ValueError(f"actions must lie in [0, {len(self.actions)}), got {low if low < 0 else high}")
        torch.index_select(self._choices, 0, actions.long(), out=self._buttons)
        self._boys.step()

    def step_buttons(self, buttons: Tensor) -> None:
        """The same with the buttons themselves, uint8 [N]: bit i is button i of BUTTONS. Raises ShapeError."""
        if buttons.dtype != torch.uint8:
            raise ShapeError(f"buttons must have dtype torch.uint8, got {buttons.dtype}")
        self._check_integers("buttons", buttons)
        self._buttons.copy_(buttons)
        self._boys.step()

    def _check_integers(self, name: str, value: Tensor) -> None:
        if value.shape != (self.num_envs,) or value.is_floating_point() or value.dtype == torch.bool:
            raise ShapeError(
                f"{name} must be integers of shape ({self.num_envs},), got {value.dtype} {tuple(value.shape)}"
            )

    def reset(self, mask: Tensor | None = None, start: State | None = None, choice: Tensor | None = None) -> None:
        """Begin again: the lanes of mask, bool [N], or all.

        start: where, a State of S lanes; None: switched on anew. choice: int64 [N] in [0, S), the start of each lane;
        None: the first. Raises ShapeError, and ValueError for a choice that there is not.
        """
        mask = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask
        choice = torch.zeros(self.num_envs, dtype=torch.int64) if choice is None else choice
        for name, value, dtype in (("mask", mask, torch.bool), ("choice", choice, torch.int64)):
            if value.shape != (self.num_envs,) or value.dtype != dtype:
                raise ShapeError(
                    f"{name} must be {dtype} of shape ({self.num_envs},), got {value.dtype} {tuple(value.shape)}"
                )
        start = self._power_on if start is None else start
        self._check_state("start", start, None)
        lanes = torch.nonzero(mask).reshape(-1).tolist()
        chosen = choice[mask]
        if bool(((chosen < 0) | (chosen >= len(start.data))).any()):
            raise ValueError(f"choice must lie in [0, {len(start.data)}), got {chosen.tolist()}")
        self._load(lanes, start, chosen.tolist())

    def _load(self, lanes: list[int], start: State, chosen: list[int]) -> None:
        given = [(start.data[k].numpy().tobytes(), bool(start.faults[k])) for k in chosen]
        self._boys.each(lanes, "load", given)
        for lane, k in zip(lanes, chosen):
            self.screen[lane] = start.screen[k]

    def _check_state(self, name: str, state: State, lanes: int | None) -> None:
        if not isinstance(state, State):
            raise ShapeError(f"{name} must be a State of PyBoys, got {type(state).__name__}")
        count = len(state.faults) if lanes is None else lanes
        length = self._power_on.data.shape[1]
        wanted = {"data": (count, length), "screen": (count, *SHAPES[self.draw]), "faults": (count,)}
        for field, value in state._asdict().items():
            if tuple(value.shape) != wanted[field]:
                raise ShapeError(f"{name}.{field} must have shape {wanted[field]}, got {tuple(value.shape)}")

    def snapshot(self, lanes: Tensor | Sequence[int] | None = None) -> State:
        """A copy of all lanes, or of some: tensors, which any checkpoint can hold. Raises ValueError for no lane."""
        chosen = torch.arange(self.num_envs) if lanes is None else torch.as_tensor(lanes, dtype=torch.int64).reshape(-1)
        if not len(chosen) or bool(((chosen < 0) | (chosen >= self.num_envs)).any()):
            raise ValueError(f"lanes must be some of [0, {self.num_envs}), got {chosen.tolist()}")
        saved = self._boys.each(chosen.tolist(), "save", [()] * len(chosen))
        data = torch.stack([torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in saved])
        return State(data, self.screen[chosen], self.faults[chosen])

    def restore(self, state: State) -> None:
        """Go on from what `snapshot` gave. Raises ShapeError for another number of lanes, cartridge or screen."""
        self._check_state("state", state, self.num_envs)
        self._load(list(range(self.num_envs)), state, list(range(self.num_envs)))

    def save_state(self, path: str | Path, lane: int = 0) -> None:
        """Write one lane to a file (safetensors). Raises ValueError for a lane that there is not."""
        facts = {"format": _FORMAT, "version": str(_VERSION), "rom": self.rom.sha256, "title": self.rom.title}
        tensors = {name: value.contiguous() for name, value in self.snapshot([lane])._asdict().items()}
        write_whole(Path(path), lambda temporary: save_file(tensors, temporary, metadata=facts))

    def read_state(self, path: str | Path) -> State:
        """The State of one lane that `save_state` wrote. Raises ValueError for a file of another kind, cartridge or
        version, ShapeError for one whose picture is of another size."""
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"state {str(path)!r} is not a file")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
            tensors = load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"state {str(path)!r} cannot be read ({error})") from error
        for name, wanted in (("format", _FORMAT), ("version", str(_VERSION)), ("rom", self.rom.sha256)):
            if facts.get(name) != wanted:
                raise ValueError(f"state {str(path)!r} is of another {name}: {facts.get(name)!r}, not {wanted!r}")
        state = State(**tensors)
        self._check_state(f"state {str(path)!r}", state, 1)
        return state

    def load_state(self, path: str | Path, lanes: Tensor | Sequence[int] | None = None) -> None:
        """Put what `save_state` wrote into all lanes, or into some. Raises ValueError, as `read_state` does."""
        start = self.read_state(path)
        chosen = list(range(self.num_envs)) if lanes is None else torch.as_tensor(lanes).reshape(-1).tolist()
        self._load(chosen, start, [0] * len(chosen))

    def read_memory(self, address: int, length: int = 1, *, out: Tensor | None = None) -> Tensor:
        """`length` bytes from `address` on, uint8 [N, length], as the processors would read them.

        out: a buffer to fill. Raises ValueError for addresses that there are not, ShapeError for the buffer.
        """
        check_size("length", length)
        if isinstance(address, bool) or not isinstance(address, int) or not 0 <= address <= 0x10000 - length:
            raise ValueError(f"address must be in [0, {0x10000 - length:#x}] for {length} bytes, got {address!r}")
        read = torch.cat([torch.from_numpy(rows) for rows in self._boys.together("read", address, length)])
        if out is None:
            return read
        if out.shape != read.shape or out.dtype != torch.uint8:
            raise ShapeError(f"out must be uint8 of shape {tuple(read.shape)}, got {out.dtype} {tuple(out.shape)}")
        return out.copy_(read)

    def register(self, name: str) -> Tensor:
        """A register of each lane by its name in REGISTERS, int32 [N]: a copy."""
        if name not in REGISTERS:
            raise suggest("register", name, REGISTERS)
        values = itertools.chain.from_iterable(self._boys.together("register", name))
        return torch.tensor(list(values), dtype=torch.int32)

    def close(self) -> None:
        """Stop the emulators and their processes; nothing is saved."""
        self._boys.close()
