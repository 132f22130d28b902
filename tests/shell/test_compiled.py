"""Compiling: tunables as inputs of one graph, the choice of mode, temporaries that are kept."""

import functools
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch._dynamo.utils import counters
from torch._functorch.compile_utils import fx_graph_cse
from torch._inductor import cpu_vec_isa
from torch.utils import _pytree as pytree

from armfold.core import bandits, envs, random, simulate
from armfold.shell import compiled, describe, scratch
from armfold.shell.buffers import choose_layout
from armfold.shell.scratch import Reusing, Scratch
from tests.tiers import thinned

CPU = torch.device("cpu")


def steps(bandit: object, env: object, count: int = 15) -> list[torch.Tensor]:
    carry = simulate.init(bandit, env, random.split(random.key(3), 32))
    for _ in range(count):
        carry, trace = simulate.step(bandit, env, carry)
    return pytree.tree_leaves((carry, trace))


@pytest.mark.parametrize("name", thinned(bandits.ALGORITHMS))
def test_tunables_as_tensors_change_neither_bits_nor_dtypes(name: str) -> None:
    algorithm = bandits.ALGORITHMS[name]
    sizes = {"arms": 4, "features": 3} if algorithm.contextual else {"arms": 4}
    bandit = algorithm.make(**sizes)
    env = envs.contextual(arms=4, features=3) if algorithm.contextual else envs.drifting(arms=4)
    plain = steps(bandit, env)
    tensors = steps(compiled.tensor_tunables(bandit, CPU), compiled.tensor_tunables(env, CPU))
    for a, b in zip(plain, tensors, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_tensor_tunables_reach_nested_partials_and_leave_infinity() -> None:
    inner = functools.partial(print, sep=0.5, end=float("inf"))
    outer = compiled.tensor_tunables(functools.partial(map, index=inner), CPU)
    assert outer.keywords["index"].keywords["sep"].dtype == torch.float64
    assert outer.keywords["index"].keywords["end"] == float("inf")


def test_mode_is_chosen_by_the_number_of_calls() -> None:
    assert compiled.choose(compiled.advance, "off", device=CPU, calls=1e9) == (compiled.advance, False)
    assert compiled.choose(compiled.advance, "auto", device=CPU, calls=10) == (compiled.advance, False)
    assert compiled.choose(compiled.advance, "on", device=CPU, calls=1)[1]
    with pytest.raises(ValueError, match=r"compile must be .* got 'sometimes'"):
        compiled.choose(compiled.advance, "sometimes", device=CPU, calls=1)  # type: ignore[arg-type]


def test_without_a_compiler_auto_warns_once_and_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    monkeypatch.delenv("TORCH_INDUCTOR_INSTALL_GXX", raising=False)
    compiled._compiler_found.cache_clear()
    compiled._warn_of_eager.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no compiler found"):
            assert compiled.choose(compiled.advance, "auto", device=CPU, calls=1e9) == (compiled.advance, False)
        assert compiled.choose(compiled.advance, "auto", device=CPU, calls=1e9) == (compiled.advance, False)
    finally:
        compiled._compiler_found.cache_clear()


@pytest.mark.parametrize(("cxx", "found"), [(None, False), ("clang++", True), ("icpx", False)])
def test_on_needs_the_compiler_that_inductor_takes(
    monkeypatch: pytest.MonkeyPatch, cxx: str | None, found: bool
) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name if name == "clang++" else None)
    monkeypatch.setattr(compiled.sys, "platform", "linux")
    monkeypatch.delenv("TORCH_INDUCTOR_INSTALL_GXX", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    if cxx is not None:
        monkeypatch.setenv("CXX", cxx)
    compiled._compiler_found.cache_clear()
    try:
        if found:
            assert compiled.choose(compiled.advance, "on", device=CPU, calls=1)[1]
        else:
            with pytest.raises(ValueError, match=r"compile='on' needs a C\+\+ compiler \(g\+\+"):
                compiled.choose(compiled.advance, "on", device=CPU, calls=1)
    finally:
        compiled._compiler_found.cache_clear()


def test_scratch_gives_the_same_tensors_call_after_call() -> None:
    kept = Scratch(lambda size, stride, dtype: torch.empty_strided(size, stride, dtype=dtype))
    asked = [((2, 3), (3, 1), torch.float32), ((4,), (1,), torch.int64)]
    first = [kept(*request) for request in asked]
    kept.given = 0
    assert all(a is b for a, b in zip(first, [kept(*request) for request in asked], strict=True))
    assert [tuple(tensor.shape) for tensor in first] == [(2, 3), (4,)]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_program_that_returns_nothing_keeps_its_temporaries(device: str, tmp_path: Path) -> None:
    """Those on its device, under the names that Inductor gives what allocates them."""
    from torch._inductor.codegen import wrapper

    name = f"empty_strided_{device}"
    assert f"{name} = torch._C._dynamo.guards._{name}" in Path(wrapper.__file__).read_text()
    for last, kept in (("return ()", True), ("return (buf0, )", False)):
        program = ModuleType("program")
        program.__file__ = str(tmp_path / "program.py")
        Path(program.__file__).write_text(
            f"def call(args):\n    buf0 = {name}((3, ), (1, ), torch.float32)\n    {last}\n"
        )
        setattr(program, name, lambda size, stride, dtype: torch.empty_strided(size, stride, dtype=dtype))
        assert (scratch._adopt(program, device) is not None) == kept
        assert isinstance(getattr(program, name), Scratch) == kept
        assert scratch._adopt(program, device) is None, "once is enough"


@pytest.mark.slow
def test_one_program_serves_every_value_of_a_tunable() -> None:
    torch._dynamo.reset()
    advance = Reusing(compiled.advance)
    counters.clear()
    for c in (0.0, 1.0, 3.0):
        bandit = compiled.tensor_tunables(bandits.ucb1(arms=3, c=c), CPU)
        env = compiled.tensor_tunables(envs.bernoulli(arms=3), CPU)
        carry = simulate.init(bandit, env, random.split(random.key(0), 64))
        layout = choose_layout(carry, carry.bandit, runs=64)
        carry, tally = pytree.tree_map(layout.lay, carry), compiled.init_tally(64, CPU)
        expected = steps_of(bandit, env, 5)
        for _ in range(5):
            advance(bandit, env, carry, tally)
        assert torch.equal(carry.bandit.pulls, expected.bandit.pulls)
    assert counters["stats"]["unique_graphs"] == 1
    assert len(advance.scratches) == 1


def steps_of(bandit: object, env: object, count: int) -> simulate.Carry:
    carry = simulate.init(bandit, env, random.split(random.key(0), 64))
    for _ in range(count):
        carry, _ = simulate.step(bandit, env, carry)
    return carry


def test_scalar_code_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_vec_isa, "pick_vec_isa", lambda: None)
    scratch._warn_without_vectors.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no vector instructions"):
            scratch._warn_without_vectors()
        scratch._warn_without_vectors()
    finally:
        scratch._warn_without_vectors.cache_clear()


@pytest.mark.slow
def test_results_of_a_program_that_returns_something_are_never_reused() -> None:
    program = Reusing(lambda x: torch.sin(x) + x.sum())
    program(torch.ones(5))
    assert program.scratches == []


def _add(x: torch.Tensor, y: torch.Tensor) -> None:
    x.copy_(x + torch.exp(y) * torch.exp(y))


@pytest.mark.slow
def test_bound_objects_run_their_own_program() -> None:
    torch._dynamo.reset()
    add = Reusing(_add)
    x, y, other = torch.zeros(64), torch.zeros(64), torch.full((64,), 10.0)
    with torch.no_grad():
        ours, theirs = add.bind(x, y), add.bind(other, y)
        counters.clear()
        for _ in range(3):
            ours()
        theirs()
        add(x, y)
        y.fill_(1)  # the same object with other values
        ours()
    torch.testing.assert_close(x, torch.full((64,), 4 + torch.e**2))
    torch.testing.assert_close(other, torch.full((64,), 11.0))


def test_equal_expressions_are_computed_once() -> None:
    graph = torch.fx.symbolic_trace(lambda x: torch.exp(x) + torch.exp(x))
    exported = torch.export.export(graph, (torch.ones(3),)).module()
    assert isinstance(exported, torch.fx.GraphModule)
    merged = fx_graph_cse(exported.graph)
    assert sum(node.target is torch.ops.aten.exp.default for node in merged.nodes) == 1


def test_describe_names_functions_tunables_and_tensors() -> None:
    told = describe.describe(bandits.ucb1(arms=3, c=1.5))
    assert told["select"]["index"] == {
        "function": "armfold.core.bandits.ucb.ucb1_index",
        "c": 1.5,
        "dtype": "torch.float32",
    }
    assert told["init"]["arms"] == 3
    one, other = (describe.describe(envs.bernoulli(p=p)) for p in ((0.1, 0.2), (0.1, 0.3)))
    assert one["init"]["p"]["shape"] == [2]
    assert one != other
