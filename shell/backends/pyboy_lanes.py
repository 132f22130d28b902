"""Some PyBoys in one process, and a process that holds some for another one."""

import contextlib
import io
import signal
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from armfold.shell.backends.gameboy.boot import boot_stub
from armfold.shell.backends.gameboy.machine import BUTTONS

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_ILLEGAL = frozenset((0xD3, 0xDB, 0xDD, 0xE3, 0xE4, 0xEB, 0xEC, 0xED, 0xF4, 0xFC, 0xFD))
_SHADES = (0x000000, 0x010000, 0x020000, 0x030000)  # colours whose red is the shade
_SILENT = 5  # above INFO, which is the highest of its levels, and is printed to stdout
_LOOK = 0.05  # seconds between two looks at whether an emulator has stopped
_GRACE = 5.0  # seconds that a worker may take to end
_PARKING = {0xFF80: 0x18, 0xFF81: 0xFE, 0xFFFF: 0}  # a jump to itself, and no interrupts


class Settings(NamedTuple):
    """What all lanes have in common."""

    rom: bytes
    frames: int  # in a step
    release_after: int  # frames after which the buttons are let go
    draw: str  # "half", "full" or "none"


def find_pyboy() -> Any:
    """The module. Raises ValueError where PyBoy is not installed."""
    if (known := sys.modules.get("pyboy")) is not None:
        return known  # each change of the filters makes Python tell again of what it has warned of
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # where the windows of PyBoy come from, which stay closed
            import pyboy
    except ImportError as error:
        raise ValueError("PyBoy is not installed: pip install 'armfold[pyboy]'") from error
    return pyboy


def make_pyboy(rom: bytes) -> Any:
    """One PyBoy that plays `rom` from our boot stub on, silent, unseen, as fast as it can; it writes no file."""
    with tempfile.TemporaryDirectory() as folder:
        stub = Path(folder) / "boot.bin"  # PyBoy reads it once, by name
        stub.write_bytes(boot_stub())
        boy = find_pyboy().PyBoy(
            io.BytesIO(rom),
            window="null",
            bootrom=str(stub),
            cgb=False,
            sound_emulated=False,
            no_input=True,
            log_level=_SILENT,
            color_palette=_SHADES,
        )
    boy.set_emulation_speed(0)
    return boy


class _Watch:
    """Ends ticks that would never end: at an illegal opcode PyBoy stands still inside of `tick`.

    A thread looks now and then whether the clock of an emulator stands at an illegal opcode, and if so sends it to wait
    in HRAM for the end of its frames. When it looks makes no difference, as nothing moves by itself there.
    """

    def __init__(self) -> None:
        self._tick = 0  # counts them
        self._boy: Any = None  # the emulator in a tick
        self._saved: list[int] = []  # what was in the places of _PARKING, and PC, when it was sent to wait
        self._closed = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def tick(self, boy: Any, frames: int, render: bool) -> bool:
        """So many frames. Whether an illegal opcode has stopped it; the emulator then is as it stopped."""
        self._saved.clear()
        self._tick += 1
        self._boy = boy
        try:
            boy.tick(frames, render, False)
        finally:
            self._boy = None
        if not self._saved:
            return _at_illegal(boy)
        for address, value in zip(_PARKING, self._saved):
            boy.memory[address] = value
        boy.register_file.PC = self._saved[-1]
        return True

    def _look(self) -> None:
        before: tuple[int, ...] = ()
        while not self._closed.wait(_LOOK):
            boy, number = self._boy, self._tick
            if boy is None:
                continue
            after = (number, boy._cycles())
            if after == before and not self._saved and _at_illegal(boy):
                self._park(boy)
            before = after

    def _park(self, boy: Any) -> None:
        self._saved.extend([*(boy.memory[address] for address in _PARKING), boy.register_file.PC])
        for address, value in _PARKING.items():
            boy.memory[address] = value
        boy.register_file.PC = next(iter(_PARKING))

    def close(self) -> None:
        """End the thread."""
        self._closed.set()


def _at_illegal(boy: Any) -> bool:
    """Whether the next opcode is none. Ports are not looked at: looking could change them."""
    pc = boy.register_file.PC
    return not 0xFF00 <= pc < 0xFF80 and boy.memory[pc] in _ILLEGAL


class Lanes:
    """PyBoys that are stepped one after the other."""

    def __init__(self, settings: Settings, screens: Bytes, faults: Bools) -> None:
        """One for each row of screens, [n, H, W], where pictures go; faults [n]: which have met an illegal opcode."""
        self._settings, self._screens, self._faults = settings, screens, faults
        event = find_pyboy().utils.WindowEvent
        self._press = [getattr(event, f"PRESS_{_event(name)}") for name in BUTTONS]
        self._release = [getattr(event, f"RELEASE_{_event(name)}") for name in BUTTONS]
        self._watch = _Watch()
        weakref.finalize(self, self._watch.close)  # its thread would outlast who forgets to close them
        self.boys = [make_pyboy(settings.rom) for _ in faults]

    def step(self, buttons: Bytes) -> None:
        """Play the frames of a step with these buttons, a byte a lane."""
        for lane, held in enumerate(buttons.tolist()):
            if not self._faults[lane]:
                self._faults[lane] = self._play(self.boys[lane], held)
                self._show(lane)

    def _play(self, boy: Any, held: int) -> bool:
        _, frames, first, draw = self._settings
        self._hold(boy, held)
        if first < frames:
            if self._watch.tick(boy, first, False):
                return True
            self._hold(boy, 0)
        return self._watch.tick(boy, frames - first if first < frames else frames, draw != "none")

    def _hold(self, boy: Any, held: int) -> None:
        """The buttons for the frames that follow. To press what is pressed, or release what is not, does nothing."""
        for bit, (press, release) in enumerate(zip(self._press, self._release)):
            boy.send_input(press if held >> bit & 1 else release)

    def _show(self, lane: int) -> None:
        if self._faults[lane]:
            self._screens[lane] = 0
        elif self._settings.draw != "none":
            stride = 2 if self._settings.draw == "half" else 1
            np.copyto(self._screens[lane], self.boys[lane].screen.ndarray[::stride, ::stride, 0])

    def save(self, lane: int) -> bytes:
        """PyBoy's own state of a lane."""
        file = io.BytesIO()
        self.boys[lane].save_state(file)
        return file.getvalue()

    def load(self, lane: int, state: bytes, fault: bool) -> None:
        """Go on from what `save` gave; the screen is the caller's affair."""
        self.boys[lane].load_state(io.BytesIO(state))
        self._faults[lane] = fault

    def each(self, lanes: Sequence[int], method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """A method of these lanes, one after the other."""
        return [getattr(self, method)(lane, *given) for lane, given in zip(lanes, arguments, strict=True)]

    def read(self, address: int, length: int) -> Bytes:
        """Memory of all lanes, [n, length]."""
        rows = [boy.memory[address : address + length] for boy in self.boys]
        return np.array(rows, dtype=np.uint8).reshape(len(self.boys), length)

    def register(self, name: str) -> list[int]:
        """A register of all lanes: pc, sp, a, f, b, c, d, e, h or l."""
        files = [boy.register_file for boy in self.boys]
        if name in ("h", "l"):
            return [file.HL >> 8 if name == "h" else file.HL & 0xFF for file in files]
        return [getattr(file, name.upper()) for file in files]

    def close(self) -> None:
        """Stop them; nothing is saved."""
        self._watch.close()
        for boy in self.boys:
            boy.stop(save=False)


def _event(name: str) -> str:
    return f"ARROW_{name.upper()}" if name in ("up", "down", "left", "right") else f"BUTTON_{name.upper()}"


def serve(pipe: Connection, settings: Settings, screens: Any, faults: Any, buttons: Any, rows: slice) -> None:
    """Be a worker: hold the lanes `rows` of shared tensors, take (method of Lanes, arguments), answer what it gives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its owner's
    lanes = Lanes(settings, screens.numpy()[rows], faults.numpy()[rows])
    held, answer = buttons.numpy()[rows], None
    while True:
        try:
            pipe.send(answer)
            method, arguments = pipe.recv()
        except (EOFError, OSError):  # the owner has ended
            break
        if method == "close":
            break
        answer = getattr(lanes, method)(*((held,) if method == "step" else arguments))
    lanes.close()


class Worker(NamedTuple):
    """What its owner holds of a worker. All but `close` raise RuntimeError where it has died."""

    number: int
    process: Any
    pipe: Connection

    def ask(self, method: str, *arguments: Any) -> None:
        """Let it begin; it must have been asked for its last answer."""
        try:
            self.pipe.send((method, arguments))
        except (OSError, ValueError) as error:
            raise self._dead() from error

    def answer(self) -> Any:
        """Wait for what it answers."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._dead() from error

    def _dead(self) -> RuntimeError:
        return RuntimeError(f"worker {self.number} of the PyBoys has died; what it printed says why")

    def close(self) -> None:
        """End it; no harm where it has ended."""
        with contextlib.suppress(OSError):  # it has ended
            self.pipe.send(("close", ()))
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
        self.pipe.close()
