"""Solving games: iteration after iteration in buffers that stay, with the exploitability measured on the way."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import check_number, check_seed, check_size
from armfold.core.games import MAX_HISTORIES, Rules, Tree, expected_value, exploitability, move
from armfold.core.games.solve import Variant
from armfold.shell.buffers import write
from armfold.shell.compiled import Mode, bind, choose
from armfold.shell.describe import describe
from armfold.shell.device import cpu_threads, find_device, synchronize
from armfold.shell.games import find_tree, fingerprint
from armfold.shell.run.keeper import Gathering, Keeper, open_checkpoint
from armfold.shell.run.solution import Solution
from armfold.shell.run.solvers import SAMPLED, Solver, make_solver
from armfold.shell.view.progress import track

log = logging.getLogger("armfold")

_PATIENCE = 0.2  # seconds of iterations between two looks of the host
_TREES = 4  # how many times as long as a bandit's step a tree takes to compile, at least


def curve_iterations(iterations: int, points: int) -> list[int]:
    """Iterations of the points of a curve: about `points` in each power of ten, at equal ratios, and the last one."""
    powers = range(math.ceil(points * math.log10(iterations)) + 1)
    return sorted({min(round(10 ** (i / points)), iterations) for i in powers} | {iterations})


class _Curve(Gathering):
    """What has been measured so far."""

    def __init__(self, points: int, batch: Sequence[int]) -> None:
        super().__init__()
        self.iteration = 0
        self.points = 0  # measured
        self.average = torch.zeros((points, *batch), dtype=torch.float64)
        self.last = torch.zeros((points, *batch), dtype=torch.float64)


class _Run:
    """A game on its way to be solved."""

    def __init__(
        self,
        solver: Solver,
        tree: Tree,
        batch: Sequence[int],
        marks: list[int],
        tolerance: float | None,
        dtype: torch.dtype,
    ) -> None:
        self.solver, self.marks, self.tolerance = solver, marks, -math.inf if tolerance is None else tolerance
        self.exact, self.tree = tree, move(tree, dtype=dtype)
        self.state = solver.init(self.tree, batch, dtype=dtype)
        self.gathered = _Curve(len(marks), batch)

    @property
    def worst(self) -> float:
        """The exploitability last measured, of the lane where it is highest."""
        points = self.gathered.points
        return self.gathered.average[points - 1].max().item() if points else math.nan

    @property
    def converged(self) -> bool:
        """Whether that is within the tolerance."""
        return self.worst <= self.tolerance

    def go(self, advance: Callable[..., None]) -> Iterator[None]:
        """Iterate to the end or to the tolerance; yields now and then, where a checkpoint may be taken."""
        at, step = self.gathered, bind(advance, self.solver.step, _bare(self.tree), self.state)
        while at.points < len(self.marks) and not self.converged:
            stop, until = self.marks[at.points], time.perf_counter() + _PATIENCE
            while at.iteration < stop:
                step()
                at.iteration += 1
                if time.perf_counter() >= until:
                    break
            if at.iteration == stop:
                self._measure()
            yield

    def policies(self) -> tuple[Tensor, Tensor]:
        """The average policy and the last one."""
        return self.solver.average(self.tree, self.state), self.solver.last(self.tree, self.state)

    def _measure(self) -> None:
        both = torch.stack(self.policies(), 2).to(torch.float64)
        found, at = exploitability(self.exact, both).cpu(), self.gathered
        if not bool(found.isfinite().all()):
            raise ValueError(
                f"exploitability is {found[~found.isfinite()][0].item()} after {at.iteration} iterations: regrets or "
                f"weights are beyond the range of {self.state.regret.dtype}"
            )
        at.average[at.points], at.last[at.points] = found[0], found[1]
        at.points += 1

    def live(self) -> dict[str, Tensor]:
        """The solver's state, by name."""
        return {f"live.{i}": leaf for i, leaf in enumerate(pytree.tree_leaves(self.state))}

    def solution(self, tree: Tree, seconds: float, compiled: bool) -> Solution:
        """What the run gave, with its tree on the CPU."""
        at = self.gathered
        policy, last = (x.cpu() for x in self.policies())
        return Solution(
            tree=tree,
            policy=policy,
            last=last,
            curve_t=torch.tensor(self.marks[: at.points]),
            curve=at.average[: at.points],
            curve_last=at.last[: at.points],
            value=expected_value(tree, policy.to(torch.float64)),
            iterations=at.iteration,
            converged=self.converged,
            seconds=seconds,
            compiled=compiled,
        )


def _bare(tree: Tree) -> Tree:
    """The tree without what no program can be given."""
    return tree._replace(rules=None, names=())  # type: ignore[arg-type]


def advance(step: Callable[[Tree, Any], Any], tree: Tree, state: Any) -> None:
    """One iteration of every lane, written into `state`."""
    write(state, step(tree, state))


def solve(
    game: str | Rules | Tree,
    *,
    algo: str | Variant = "cfr_plus",
    iterations: int = 1000,
    tolerance: float | None = None,
    batch: Sequence[int] = (),
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    compile: Mode = "auto",
    threads: int = 1,
    points: int = 20,
    seed: int = 0,
    traversals: int = 256,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    resume: bool = False,
    progress: bool = True,
    max_histories: int = MAX_HISTORIES,
    label: str = "solve",
) -> Solution:
    """Solve a game of two players: iterate until its average policy is within `tolerance` of an equilibrium.

    game: its tree, its rules, or its name as `armfold solve --game` takes it. algo: a name of SOLVERS, or a Variant,
    whose numbers may be tensors [*batch], one for each of a batch of solvers in lockstep. iterations: at most.
    tolerance: stop at the first point of the curve at which no lane's exploitability is above it. points: of the curve
    in each power of ten, at equal ratios; the last iteration is one too. dtype: of the solver; exploitabilities are
    float64. device: where it runs. compile: "on", "off", or "auto", which compiles where the iterations are enough to
    pay for it. threads: of the CPU. seed, traversals: of "mccfr", which draws; an iteration is as many traversals for
    each player. checkpoint: a folder, written to every checkpoint_every seconds; resume goes on from it, bit for bit.
    max_histories: of a game that is not a tree yet; larger ones are refused. label names the progress bar.
    Raises ValueError (CheckpointError) that names the argument at fault.
    """
    for name, size in {
        "iterations": iterations,
        "points": points,
        "threads": threads,
        "traversals": traversals,
        "max_histories": max_histories,
    }.items():
        check_size(name, size)
    if not isinstance(batch, Sequence):
        raise ValueError(f"batch must be a tuple of integers, such as (8,), got {batch!r}")
    for size in batch:
        check_size("batch", size)
    check_seed("seed", seed)
    if tolerance is not None and (isinstance(tolerance, bool) or not isinstance(tolerance, int | float)):
        raise ValueError(f"tolerance must be a number or None, got {tolerance!r}")
    check_number("tolerance", tolerance or 0.0, low=0)
    check_number("checkpoint_every", checkpoint_every, low=0)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    where, folder = find_device(device), open_checkpoint(checkpoint, resume=resume)
    with cpu_threads(threads, where), torch.no_grad():
        tree = find_tree(game, max_histories=max_histories)
        here = move(tree, device=where)
        solver = make_solver(algo, here, batch, seed=seed, traversals=traversals)
        run = _Run(solver, here, batch, curve_iterations(iterations, points), tolerance, dtype)
        stepping, compiled = choose(advance, compile, device=where, calls=iterations / _TREES)
        identity = {
            "game": tree.rules.name, "rules": fingerprint(tree), "algo": describe(algo),
            "iterations": iterations, "tolerance": tolerance, "points": points, "batch": list(batch),
            "dtype": str(dtype), "device": str(where), "compiled": compiled, "torch": torch.__version__,
            **({"seed": seed, "traversals": traversals} if algo == SAMPLED else {}),
        }  # fmt: skip
        keeper = Keeper(folder, identity, checkpoint_every, partial(Solution.load, tree=tree))
        if resume and (ended := keeper.restore(run)) is not None:
            return ended
        log.info("%s: %s, %s, threads %d, compiled %s", label, tree.rules.name, dtype, threads, compiled)
        began = time.perf_counter() - run.gathered.seconds
        with track(label, iterations, enabled=progress) as moved:
            for _ in run.go(stepping):
                moved(run.gathered.iteration, f"exploitability {run.worst:.2e}")
                keeper.keep(run, time.perf_counter() - began)
        synchronize(where)
        solution = run.solution(tree, time.perf_counter() - began, compiled)
    return keeper.finish(solution)
