"""torch.compile around core functions, writing into buffers; and what they are given."""

import functools
import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from armfold.core import simulate
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.buffers import write
from armfold.shell.scratch import Reusing

Mode = Literal["auto", "on", "off"]
_WORTH_COMPILING = 5000  # calls: an eager step takes milliseconds of overhead, compiling 10 to 30 seconds


class Tally(NamedTuple):
    """Sums over time, one a lane."""

    regret: Tensor  # [N] float64, reward unit, cumulative pseudo-regret
    reward: Tensor  # [N] float64, reward unit
    optimal: Tensor  # [N] int64, steps on which a best arm was played
    lowest: Tensor  # [N] float, least reward met
    highest: Tensor  # [N] float, largest reward met


def init_tally(lanes: int, device: torch.device) -> Tally:
    """Nothing counted yet, in `lanes` lanes."""
    return Tally(
        torch.zeros(lanes, dtype=torch.float64, device=device),
        torch.zeros(lanes, dtype=torch.float64, device=device),
        torch.zeros(lanes, dtype=torch.int64, device=device),
        torch.full((lanes,), torch.inf, device=device),
        torch.full((lanes,), -torch.inf, device=device),
    )


def advance(bandit: Bandit, env: BanditEnv, carry: simulate.Carry, tally: Tally) -> None:
    """One step of every lane, written into `carry` and `tally`."""
    moved, trace = simulate.step(bandit, env, carry)
    write(carry, moved)
    write(
        tally,
        Tally(
            tally.regret + trace.regret,
            tally.reward + trace.reward,
            tally.optimal + trace.optimal,
            torch.minimum(tally.lowest, trace.reward),
            torch.maximum(tally.highest, trace.reward),
        ),
    )


@functools.cache
def _compiled(function: Callable[..., None]) -> Reusing:
    # One compiled function for all learners and environments: it specialises on the functions in their tuples and on
    # structure, while float tunables are tensors and share a graph.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 256)
    return Reusing(function)


@functools.cache
def _compiler_found(device: str) -> bool:
    """Whether Inductor will find what it compiles with; it looks for no other C++ compiler than this one."""
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return bool(shutil.which(os.environ.get("CXX", usual)) or os.environ.get("TORCH_INDUCTOR_INSTALL_GXX"))


@functools.cache
def _warn_of_eager() -> None:
    warnings.warn(
        "no compiler found: running eagerly, some ten times slower (install g++, or triton on CUDA)", stacklevel=2
    )


def choose(
    function: Callable[..., None], mode: Mode, *, device: torch.device, calls: float
) -> tuple[Callable[..., None], bool]:
    """`function`, a module's own, and whether it is compiled: always for "on", never for "off", for "auto" where as
    many calls pay for it. Raises ValueError for another mode, and for "on" without a compiler."""
    if mode not in ("auto", "on", "off"):
        raise ValueError(f"compile must be 'auto', 'on' or 'off', got {mode!r}")
    wanted = mode == "on" or (mode == "auto" and calls >= _WORTH_COMPILING)
    if wanted and not _compiler_found(device.type):
        if mode == "on":
            needed = "triton on CUDA" if device.type == "cuda" else "a C++ compiler (g++, or the one that $CXX names)"
            raise ValueError(f"compile='on' needs {needed}, and none is found; 'auto' and 'off' run without")
        _warn_of_eager()
        wanted = False
    return (_compiled(function), True) if wanted else (function, False)


def bind(function: Callable[..., None], *arguments: Any) -> Callable[[], object]:
    """`function` of these very objects, to be called again and again as they change in place."""
    return function.bind(*arguments) if isinstance(function, Reusing) else functools.partial(function, *arguments)


def tensor_tunables(function: Any, device: torch.device) -> Any:
    """A tuple of functions, or a partial, with its finite float keywords as 0-dim tensors: values the compiled graph
    reads, not constants it is built around. Tensors are moved to `device`."""
    if hasattr(function, "_fields"):
        return type(function)(*(tensor_tunables(f, device) for f in function))
    if isinstance(function, functools.partial):
        keywords = {name: tensor_tunables(value, device) for name, value in function.keywords.items()}
        return functools.partial(function.func, *function.args, **keywords)
    if isinstance(function, float) and function not in (torch.inf, -torch.inf):
        return torch.tensor(function, dtype=torch.float64, device=device)
    return function.to(device) if isinstance(function, Tensor) else function


def lane_tunables(function: Any, lanes: Tensor, runs: int) -> Any:
    """A tuple of functions, or a partial, with its tunables [runs] read at `lanes`. Raises ValueError for others."""
    if hasattr(function, "_fields"):
        return type(function)(*(lane_tunables(f, lanes, runs) for f in function))
    if isinstance(function, functools.partial):
        keywords = {name: lane_tunables(value, lanes, runs) for name, value in function.keywords.items()}
        return functools.partial(function.func, *function.args, **keywords)
    if not isinstance(function, Tensor) or function.ndim == 0:
        return function
    if function.shape != (runs,):
        raise ValueError(f"tunables must be numbers or tensors of {runs} runs, got shape {tuple(function.shape)}")
    return function[lanes.clamp(max=runs - 1)]
