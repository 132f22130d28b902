"""The CUDA entry against the CPU entry: on a driver that pretends, and on a GPU; and compiled for one."""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from armfold.shell.backends.gameboy import GameBoy, State, build, cuda, machine
from tests.gameboy import roms_cpu, roms_interrupts, roms_memory, roms_ppu  # noqa: F401  they fill MICRO
from tests.gameboy.assembler import rom
from tests.gameboy.fake_cuda import fake_driver
from tests.gameboy.micro import MICRO
from tests.gameboy.test_states import assert_missing_lanes_stay

PLAIN = [*range(0xC0), 0xC6, 0xCE, 0xD6, 0xDE, 0xE6, 0xEE, 0xF6, 0xFE, 0xE2, 0xF2, 0xEA, 0xFA, 0xF3, 0xF8]
OFTEN = [0xE0, 0xF0, 0xCB, 0xFB] * 6  # the ports, shifts and bits, EI
LOST = {0x10, 0x18, 0x31, 0x33, 0x3B}  # STOP, JR, and what moves the stack
SET_PORTS = [0x06, 0x07, 0x0F, 0x26, 0x41, 0x42, 0x43, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0xFF]


def random_rom(seed: int) -> bytes:
    """An endless loop of 15 KiB of random code that sets ports, reads them and has its handlers of interrupts. Read
    from any byte on it is code, too, and it never leaves the loop but through a stack that was written over."""
    draw = random.Random(seed)
    code = draw.choices([opcode for opcode in PLAIN if opcode not in LOST] + OFTEN, k=0x3E00)
    for at in range(0, len(code) - 8, 24):  # LD A, n; LDH (port), A
        code[at : at + 4] = [0x3E, draw.randrange(256), 0xE0, draw.choice(SET_PORTS)]
    for at in range(12, len(code) - 8, 24 * 20):
        code[at : at + 4] = [0x3E, draw.randrange(256) | 0x80, 0xE0, 0x40]
    again = bytes([0xC3, 0x50, 0x01])
    handlers = {at: bytes([0xF5, 0x34, 0xF1, 0xD9]) for at in range(0x40, 0x68, 8)}  # PUSH AF; INC (HL); POP AF; RETI
    data = {0: again, **dict.fromkeys(range(8, 64, 8), again), **handlers, 0x160: bytes(code), 0x3FFD: again}
    return rom("ld sp, 0xdff0", mapper=5, rom_banks=4, ram=0x2000, data={**data, 0x4000: draw.randbytes(0xC000)})


def scatter(boy: GameBoy, seed: int) -> None:
    """Every lane somewhere else in the loop, with random registers and memory, interrupts and the LCD on."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: torch.Tensor, low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high, like.shape, generator=generator, dtype=like.dtype).to(like.device)

    for words in (boy.state.vram, boy.state.wram, boy.state.oam, boy.state.cart_ram):
        words.copy_(draw(words, -(2**31), 2**31 - 1))
    for name in ("a", "b", "c", "d", "e", "h", "l", "scx", "scy", "wx", "wy", "bgp"):
        boy.register(name).copy_(draw(boy.register(name), 0, 256))
    boy.register("pc").copy_(draw(boy.register("pc"), 0x160, 0x3F00))
    for name, value in {"sp": 0xDFF0, "irq_enable": 1, "ime": 1, "boot": 0, "ram_on": 1}.items():
        boy.register(name).fill_(value)


def assert_equal_states(got: State, want: State, when: str) -> None:
    for field, x, y in zip(State._fields, got, want, strict=True):
        differ = (x.cpu() != y).flatten(1).any(1)
        assert not differ.any(), f"{when}: {field} of lanes {differ.nonzero().flatten().tolist()} differs"


def assert_in_lockstep(cpu: GameBoy, gpu: GameBoy, steps: int, every: int = 1) -> None:
    """Random actions and resets of both; their states compared every so many steps."""
    generator = torch.Generator().manual_seed(7)
    starts, device = cpu.snapshot(), gpu.device
    gpu_starts = State(*(x.to(device) for x in starts))
    for step in range(1, steps + 1):
        actions = torch.randint(len(cpu.actions), (cpu.num_envs,), generator=generator)
        cpu.step(actions)
        gpu.step(actions.to(device))
        if step % every == 0:
            assert_equal_states(gpu.state, cpu.state, f"after step {step}")
            assert torch.equal(gpu.read_memory(0xFF00, 0x80).cpu(), cpu.read_memory(0xFF00, 0x80))
            assert torch.equal(gpu.faults.cpu(), cpu.faults)
        mask = cpu.faults | (torch.rand(cpu.num_envs, generator=generator) < 0.05)
        choice = torch.randint(cpu.num_envs, (cpu.num_envs,), generator=generator)
        cpu.reset(mask, starts, choice)
        gpu.reset(mask.to(device), gpu_starts, choice.to(device))
    assert_equal_states(gpu.state, cpu.state, "at the end")


@pytest.fixture
def pretended(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines on the CPU are run by the CUDA entry, through the driver that pretends."""
    folder = tmp_path_factory.getbasetemp()

    def load(
        source: Path, kernels: Sequence[str], *, device: torch.device, defines: Mapping[str, str | int]
    ) -> cuda.Module:
        driver = cuda.Driver(fake_driver(folder, source, kernels, defines))
        return cuda.Module(b"an image", kernels, device=device, driver=driver)

    monkeypatch.setattr(cuda, "load_module", load)
    monkeypatch.setattr(machine, "_Host", machine._Cuda)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
@pytest.mark.parametrize(("lanes_per_warp", "draw"), [(32, "half"), (4, "full")])
def test_the_cuda_entry_does_what_the_cpu_entry_does(
    layout: machine.MemoryLayout, lanes_per_warp: int, draw: machine.Draw, request: pytest.FixtureRequest
) -> None:
    image, seed = random_rom(1), 2

    def make() -> GameBoy:
        options = {"frames_per_step": 3, "release_after_frames": 2, "lanes_per_warp": lanes_per_warp}
        boy = GameBoy(image, 37, layout=layout, draw=draw, **options)
        scatter(boy, seed)
        return boy

    cpu = make()
    request.getfixturevalue("pretended")
    pretending = make()
    assert type(pretending.machine._program) is machine._Cuda
    assert_in_lockstep(cpu, pretending, 60)
    assert len(cpu.register("pc").unique()) > 20, "the lanes do the same"
    assert len(cpu.screen.unique(dim=0)) > 5, "the lanes show the same"


@pytest.mark.slow
def test_the_cuda_entry_runs_every_micro_rom_as_the_cpu_entry_does(request: pytest.FixtureRequest) -> None:
    def make(image: bytes) -> GameBoy:
        return GameBoy(image, 3, frames_per_step=6, release_after_frames=3)

    made = {name: micro() for name, micro in MICRO.items()}
    cpus = {name: make(micro.image) for name, micro in made.items()}
    request.getfixturevalue("pretended")
    generator = torch.Generator().manual_seed(11)
    assert len(made) > 50
    for name, micro in made.items():
        pretending = make(micro.image)
        for step in range(min(micro.frames, 120) // 6 + 1):
            actions = torch.randint(len(pretending.actions), (3,), generator=generator)
            cpus[name].step(actions)
            pretending.step(actions)
            assert_equal_states(pretending.state, cpus[name].state, f"{name}, step {step}")


@pytest.mark.slow
def test_the_cuda_entry_copies_no_lane_that_there_is_not(pretended: None) -> None:
    assert_missing_lanes_stay(GameBoy("lantern", 1, layout="interleaved", draw="full").machine)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
def test_the_cuda_entry_compiles_for_sm_90_without_spills(
    layout: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    defines = {"GB_UNIFORM": 1, **({"GB_INTERLEAVED": 1} if layout == "interleaved" else {})}
    words = ["nvcc", "-cubin", "-arch=sm_90", "--std=c++17", "-Werror=all-warnings", "--resource-usage"]
    words += [*build.define_flags(defines), "-o", str(tmp_path / "cubin"), str(machine.FOLDER / "cuda.cu")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    use = {}
    for kernel, text in re.findall(r"entry function '(\w+)'(.*?)Compile time", done.stdout + done.stderr, re.DOTALL):
        numbers = re.findall(r"(\d+) (registers|bytes stack frame|bytes spill stores)", text)
        use[kernel] = {what: int(number) for number, what in numbers}
    record_property("resources", use)
    print(layout, use)
    assert set(use) == {"gb_step", "gb_read", "gb_copy"}
    assert use["gb_step"]["bytes spill stores"] == 0
    assert use["gb_step"]["registers"] <= 128  # or an SM would hold fewer than 512 threads


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
def test_a_gpu_does_what_the_cpu_does_over_ten_thousand_frames(layout: machine.MemoryLayout) -> None:
    both = [GameBoy(random_rom(3), 24, device, layout=layout) for device in ("cpu", "cuda")]
    for boy in both:
        scatter(boy, 4)
    assert_in_lockstep(*both, steps=10_000 // both[0].frames_per_step + 1, every=16)
