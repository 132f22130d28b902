"""Random programs, in lockstep with PyBoy. A failing seed says all: `Fuzz(seed).build()` makes the program again."""

import pytest

from tests.gameboy.fuzz import Fuzz
from tests.gameboy.lockstep import Lockstep

BATCH = 100


def _run(seed: int, *, frames_per_step: int = 1, every: int = 2) -> None:
    rom = Fuzz(seed).build()
    pair = Lockstep(rom.image, frames_per_step=frames_per_step)
    difference = pair.run(14 // frames_per_step, every=every)
    assert difference is None, f"seed {seed}: {difference}"
    assert not pair.ours.faults.any(), f"seed {seed}: an illegal opcode, so the program wandered off"


@pytest.mark.parametrize("seed", range(8))
def test_some_programs(seed: int) -> None:
    _run(seed, every=14)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(30))
def test_programs(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        _run(seed, every=3)


@pytest.mark.slow
def test_programs_are_not_all_alike() -> None:
    ends, interrupted = set(), 0
    for seed in range(40):
        pair = Lockstep(Fuzz(seed).build().image)
        pair.run(14, every=14)
        ends.add(bytes(pair.ours.read_memory(0xC000, 0x2000)[0].tolist()))
        interrupted += bool(pair.ours.read_memory(0xDF00, 5).any())
    assert len(ends) == 40
    assert interrupted >= 30
