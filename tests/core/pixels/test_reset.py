"""Lanes that begin again from kept starts, against one lane at a time; which start, by a chi-squared test."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import choose_start, masked_reset
from tests.purity import check_pure, same_bits

SEEDS = st.integers(0, 10**6)


class Part(NamedTuple):
    on: Tensor  # [*B] bool


class Machine(NamedTuple):
    memory: Tensor  # [*B, 5] uint8
    clock: Tensor  # [*B] int64
    level: Tensor  # [*B, 2, 3] float32
    part: Part


def machine(seed: int, *batch: int) -> Machine:
    k = random.split(random.key(seed), 4)
    return Machine(
        random.randint(k[0], (*batch, 5), high=256).to(torch.uint8),
        random.bits(k[1], batch),
        random.normal(k[2], (*batch, 2, 3)),
        Part(random.bernoulli(k[3], 0.5, batch)),
    )


def choices(seed: int, *batch: int, starts: int = 3) -> tuple[Tensor, Tensor]:
    return random.randint(random.key(seed), batch, high=starts), random.bernoulli(random.key(seed + 1), 0.5, batch)


def keys(n: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), n)


@given(st.sampled_from([(), (1,), (4,), (2, 2), (0,)]), st.integers(1, 4), SEEDS)
def test_lanes_are_replaced_one_by_one(batch: tuple[int, ...], starts: int, seed: int) -> None:
    state, start = machine(seed, *batch), machine(seed + 1, starts)
    choice, mask = choices(seed, *batch, starts=starts)
    got = masked_reset(state, start, choice, mask)
    assert type(got) is Machine
    want = tree_map(torch.clone, state)
    for lane in mask.nonzero().tolist():
        at = tuple(lane)
        for x, y in zip(tree_leaves(want), tree_leaves(start), strict=True):
            x[at] = y[int(choice[at])]
    assert all(same_bits(x, y) for x, y in zip(tree_leaves(got), tree_leaves(want), strict=True))


def test_choices_outside_read_the_nearest_start_and_only_where_the_mask_is() -> None:
    state, start = machine(0, 4), machine(1, 3)
    choice = torch.tensor([-7, 2**60, 10, 1])
    got = masked_reset(state, start, choice, torch.tensor([True, True, False, False]))
    assert torch.equal(got.memory[0], start.memory[0])
    assert torch.equal(got.memory[1], start.memory[2])
    assert torch.equal(got.memory[2:], state.memory[2:])


@pytest.mark.parametrize("starts", [1, 2, 7])
def test_starts_are_chosen_uniformly(starts: int) -> None:
    """Chi-squared over 7000 fixed keys; each of the two tests that can fail does so with probability 1e-4."""
    chosen = choose_start(keys(7000), starts)
    counts = torch.bincount(chosen, minlength=starts)
    assert (chosen.dtype, len(counts)) == (torch.int64, starts)
    assert starts == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_a_lane_chooses_by_its_key_alone() -> None:
    rng = keys(12).reshape(3, 4, 2)
    chosen = choose_start(rng, 5)
    assert chosen.shape == (3, 4)
    assert all(chosen[i, j] == choose_start(rng[i, j], 5) for i in range(3) for j in range(4))


@pytest.mark.parametrize(
    "batch", [(3,), pytest.param((), marks=pytest.mark.slow), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_functions_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    start, args = machine(7, 3), (machine(0, *batch), *choices(0, *batch))
    traced = batch == (3,)
    variants(lambda *args: masked_reset(args[0], start, *args[1:]), *args, batch=len(batch), traced=traced)
    rng = keys(torch.Size(batch).numel()).reshape(*batch, 2)
    variants(lambda rng: choose_start(rng, 3), rng, batch=len(batch), traced=False)


@pytest.mark.slow
def test_functions_agree_when_compiled(variants) -> None:
    start = machine(7, 3)
    variants(lambda *args: masked_reset(args[0], start, *args[1:]), machine(0, 3), *choices(0, 3), compiled=True)
    variants(lambda rng: choose_start(rng, 3), keys(3), compiled=True)


def test_functions_are_pure() -> None:
    check_pure(masked_reset, machine(0, 3), machine(1, 3), *choices(0, 3))
    check_pure(choose_start, keys(3), 4)


def test_wrong_arguments_are_named() -> None:
    state, start, (choice, mask) = machine(0, 2), machine(1, 3), choices(0, 2)
    for call, complaint in (
        (
            lambda: masked_reset(state, start, choice.int(), mask),
            r"choice must have dtype torch.int64, got",
        ),
        (lambda: masked_reset(state, start, choice[:1], mask), r"choice must have shape \(2,\), got \(1,\)"),
        (lambda: masked_reset(state, start, choice, mask.long()), r"mask must have dtype torch.bool, got torch.int64"),
        (
            lambda: masked_reset(state, machine(1, 0), choice, mask),
            r"start, leaf 0, must be .* S >= 1, got .*0, 5",
        ),
        (lambda: masked_reset(machine(0, 3), start, choice, mask), r"state, leaf 0, must have shape \(2, '...'\), got"),
        (
            lambda: masked_reset(state, start._replace(clock=start.clock.int()), choice, mask),
            r"start, leaf 1, must be torch.int64 of shape \('S',\) with S >= 1, got torch.int32 \(3,\)",
        ),
        (lambda: masked_reset(state, tuple(start), choice, mask), r"start must have the structure of state"),
        (lambda: masked_reset((None,), (None,), choice, mask), r"state and start must hold tensors, got leaf 0"),
        (lambda: choose_start(torch.zeros(2), 3), r"rng must be an int64 key of shape"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()
    with pytest.raises(ValueError, match="starts must be an integer >= 1, got 0"):
        choose_start(keys(2), 0)
