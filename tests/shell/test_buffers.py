"""How lanes lie in memory, and that a compiled step asks for no memory."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random, simulate
from armfold.core.bandits import ALGORITHMS, beta_ts, gaussian_ts, kl_ucb, lin_ts, lin_ucb, ucb1
from armfold.core.envs import bernoulli, contextual
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.buffers import LANES, Layout, choose_layout, write
from armfold.shell.compiled import advance, bind, choose, init_tally, tensor_tunables
from armfold.shell.scratch import Reusing
from tests.purity import same_bits
from tests.shell.helpers import allocations, labelled, learner, world

SHAPES = [(64,), (128, 2), (64, 3, 2), (64, 3, 2, 2), (64, 0), (1, 3)]
CACHE = 4 * 2**20  # bytes, the rule of docs/design.md
MOST = 8192  # lanes


def numbers(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lanes_last", [True, False])
def test_laying_keeps_shape_and_values(shape: tuple[int, ...], lanes_last: bool) -> None:
    layout = Layout(lanes_last, 64)
    for x in (numbers(shape), Layout(not lanes_last, 64).lay(numbers(shape)), numbers((1, *shape[1:])).expand(shape)):
        before = x.contiguous().clone()
        laid = layout.lay(x)
        assert same_bits(laid, before)
        assert same_bits(x.contiguous(), before)
        assert laid.untyped_storage()._cdata != x.untyped_storage()._cdata
        assert laid.untyped_storage().nbytes() == x.numel() * x.element_size()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strides_are_as_the_layout_says(shape: tuple[int, ...]) -> None:
    x = numbers(shape)
    assert Layout(False, 64).lay(Layout(True, 64).lay(x)).stride() == x.stride()
    last = Layout(True, 64).lay(x)
    assert last.movedim(0, -1).is_contiguous()
    assert last.shape[0] == 1 or last.stride(0) == 1


def few(bandit: Bandit, env: BanditEnv, lanes: int = 2) -> simulate.Carry:
    """The start of a few lanes."""
    return simulate.init(bandit, env, random.split(random.key(0), lanes))


def bytes_of(carry: simulate.Carry) -> int:
    """Bytes of one lane."""
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(carry)) // carry.time.numel()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_vectors_lie_lanes_last_and_matrices_do_not(name: str) -> None:
    carry = few(learner(name), world(name))
    matrices = (ALGORITHMS[name].contextual and name != "exp4") or name == "glr_kl_ucb"
    assert choose_layout(carry, carry.bandit, runs=10_000).lanes_last is not matrices


def test_the_environment_has_no_say_in_the_layout() -> None:
    carry = few(ucb1(arms=3), contextual(arms=3))
    assert choose_layout(carry, carry.bandit, runs=10).lanes_last


CARRIES = {
    "small": few(ucb1(arms=3), bernoulli(arms=3)),
    "vectors": few(beta_ts(arms=100), bernoulli(arms=100)),
    "matrices": few(lin_ucb(arms=10, features=16), contextual(arms=10, features=16)),
    "more than a cache": few(lin_ucb(arms=64, features=64), contextual(arms=64, features=64)),
    "rows": few(ucb1(arms=3), labelled()),
}


@given(st.sampled_from(sorted(CARRIES)), st.integers(1, 100_000), st.none() | st.integers(1, 2**28))
def test_a_block_keeps_the_rules(name: str, runs: int, max_memory: int | None) -> None:
    carry = CARRIES[name]
    block = choose_layout(carry, carry.bandit, runs=runs, max_memory=max_memory).block
    assert block % LANES == 0
    assert LANES <= block <= MOST
    assert block == LANES or block * bytes_of(carry) <= CACHE
    assert max_memory is None or block == LANES or block * bytes_of(carry) <= max_memory
    assert block < runs + LANES  # no more filling than it takes
    blocks = math.ceil(runs / block)
    assert (block - LANES) * blocks < runs  # nor with the blocks there are


def test_block_sizes_that_the_design_names() -> None:
    def block(name: str, runs: int, **options: int) -> int:
        return choose_layout(CARRIES[name], CARRIES[name].bandit, runs=runs, **options).block

    assert [block("small", runs) for runs in (1, 64, 65, 8192, 8193, 100_000)] == [64, 64, 128, 8192, 4160, 7744]
    lane = bytes_of(CARRIES["matrices"])
    assert block("matrices", 2**20) == 2 ** int(math.log2(CACHE / lane))
    assert block("more than a cache", 10_000) == 64
    sizes = [block("vectors", 10_000, max_memory=memory) for memory in (2**30, 2**22, 2**20, 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert sizes[-1] == 64


def test_a_layout_depends_on_shapes_alone() -> None:
    for name, carry in CARRIES.items():
        more = pytree.tree_map(lambda x: torch.cat((x, x + 1)), carry)
        assert choose_layout(more, more.bandit, runs=999) == choose_layout(carry, carry.bandit, runs=999), name


def test_writing_keeps_the_buffers() -> None:
    layout = Layout(True, 64)
    carry = few(lin_ts(arms=3, features=2), contextual(arms=3, features=2), 64)
    buffers = pytree.tree_map(layout.lay, carry)
    places = [(x.data_ptr(), x.stride()) for x in pytree.tree_leaves(buffers)]
    moved = pytree.tree_map(lambda x: x + 1, carry)
    write(buffers, moved)
    assert [(x.data_ptr(), x.stride()) for x in pytree.tree_leaves(buffers)] == places
    for got, want in zip(pytree.tree_leaves(buffers), pytree.tree_leaves(moved), strict=True):
        assert same_bits(got, want)
        assert got.untyped_storage()._cdata != want.untyped_storage()._cdata
    write(buffers, buffers)  # a buffer into itself
    for got, want in zip(pytree.tree_leaves(buffers), pytree.tree_leaves(moved), strict=True):
        assert same_bits(got, want)


def test_writing_refuses_another_structure() -> None:
    with pytest.raises(ValueError, match="zip"):
        write((torch.zeros(2), torch.zeros(2)), (torch.ones(2),))


# No allocation


def compiled_step(bandit: Bandit, env: BanditEnv, *, lanes: int, device: str = "cpu") -> Any:
    """A function that takes one compiled step, as `simulate` does, past its first calls."""
    place = torch.device(device)
    bandit, env = tensor_tunables(bandit, place), tensor_tunables(env, place)
    rng = random.fold_in(random.key(0, device=place).expand(lanes, 2), torch.arange(lanes, device=place))
    start = simulate.init(bandit, env, rng)
    layout = choose_layout(start, start.bandit, runs=lanes)
    assert layout.block == lanes
    carry, tally = pytree.tree_map(layout.lay, start), init_tally(lanes, place)
    function, compiled = choose(advance, "on", device=place, calls=1)
    assert compiled
    bound = bind(function, bandit, env, carry, tally)

    def step() -> None:
        with torch.no_grad():
            bound()

    for _ in range(5):
        step()
    assert carry.time.unique().tolist() == [5]
    return step


def test_allocations_are_seen(tmp_path: Path) -> None:
    assert allocations(lambda: torch.ones(1000), tmp_path) == [4000]
    assert sorted(allocations(lambda: (torch.ones(1000) * 2).sum().sin(), tmp_path))[-2:] == [4000, 4000]
    assert allocations(lambda: None, tmp_path) == []


VECTORS = {"ucb1": ucb1, "kl_ucb": kl_ucb, "gaussian_ts": gaussian_ts, "beta_ts": beta_ts}


@pytest.mark.slow
def test_temporaries_of_compiled_code_are_seen(tmp_path: Path) -> None:
    out = torch.empty(300, 300)
    square = torch.compile(lambda x: out.copy_((x @ x) @ x))
    x = torch.ones(300, 300)
    square(x)
    assert 360_000 in allocations(lambda: square(x), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_a_compiled_step_of_vectors_allocates_nothing(name: str, tmp_path: Path) -> None:
    step = compiled_step(VECTORS[name](arms=10), bernoulli(arms=10), lanes=8192)
    assert allocations(lambda: [step() for _ in range(5)], tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("make", [lin_ucb, lin_ts])
def test_temporaries_of_matrices_are_the_same_in_every_step(make: Any, tmp_path: Path, capsys: Any) -> None:
    step = compiled_step(make(arms=10, features=8), contextual(arms=10, features=8), lanes=1024)
    steps = [sorted(allocations(step, tmp_path)) for _ in range(5)]
    with capsys.disabled():
        print(f"\n{make.__name__}, 1024 lanes: {len(steps[0])} temporaries, {sum(steps[0])} bytes a step")
    assert all(taken == steps[0] for taken in steps)


def _double(x: Tensor, y: Tensor) -> None:
    y.copy_(2 * x)


@pytest.mark.slow
def test_threads_that_take_their_first_steps_together_keep_their_own_programs() -> None:
    """The second thread's first call is over before the first one has taken over the program that it ran."""
    reusing = Reusing(_double)
    pairs = [(torch.full((8,), value), torch.zeros(8)) for value in (1.0, 2.0)]
    reusing(pairs[0][0], pairs[0][1].clone())  # compiled, before anybody looks at the order
    calls, compiled = [reusing.bind(*pair) for pair in pairs], reusing.compiled
    ran, over = [threading.Event() for _ in pairs], threading.Event()

    def run(x: Tensor, y: Tensor) -> None:
        second = x is pairs[1][0]
        assert not second or ran[0].wait(60)
        compiled(x, y)
        ran[second].set()
        assert (over if second else ran[1]).wait(60)

    def work(index: int) -> None:
        calls[index]()
        over.set()

    reusing.compiled = run
    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reusing.compiled = None  # type: ignore[assignment]  # from now on each has its program
    for (x, y), call in zip(pairs, calls, strict=True):
        for _, other in pairs:
            other.zero_()
        call()
        assert torch.equal(y, 2 * x)


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["ucb1", "kl_ucb", "lin_ucb"])
def test_a_compiled_step_on_a_gpu_allocates_nothing(name: str) -> None:
    step = compiled_step(learner(name, arms=10), world(name, arms=10), lanes=8192, device="cuda")
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(20):
        step()
    torch.cuda.synchronize()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
