"""What solving a game gave, how solutions compare, and the run folder that they are written to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from armfold.core.games import Tree
from armfold.shell.games import find_again, fingerprint
from armfold.shell.run.compare import ended, write_tables
from armfold.shell.store import checkpoint as store


class Solution(NamedTuple):
    """What solving a game gave. Tensors lie on the CPU."""

    tree: Tree
    policy: Tensor  # [I, A, *B] float, the average policy, which converges
    last: Tensor  # [I, A, *B] float, the one that would be played next
    curve_t: Tensor  # [points] int64, iterations
    curve: Tensor  # [points, *B] float64, the game's unit, exploitability of the average policy
    curve_last: Tensor  # [points, *B] float64, the game's unit, that of the last one
    value: Tensor  # [*B] float64, the game's unit, what the first player wins on average under `policy`
    iterations: int
    converged: bool  # whether every lane has come within the tolerance
    seconds: float  # wall time, compiling and measuring included, earlier parts of a resumed run included
    compiled: bool

    @property
    def exploitability(self) -> Tensor:
        """That of the average policy at the end: [*B] float64."""
        return self.curve[-1]

    def means(self) -> tuple[list[float], list[float]]:
        """Both curves, averaged over lanes: of the average policy, and of the last one."""
        average, last = (x.reshape(len(x), -1).mean(1).tolist() for x in (self.curve, self.curve_last))
        return average, last

    def save(self, folder: str | Path) -> None:
        """Write it to `folder`, as a safetensors file and a JSON manifest; `Solution.load` reads it."""
        store.save(Path(folder), self.tensors(), {"result": self.facts()})

    @classmethod
    def load(cls, folder: str | Path, tree: Tree) -> "Solution":
        """What `save` wrote of that game. Raises CheckpointError where the files are damaged, missing or of another."""

        def make(*, game: str, **fields: Any) -> Solution:
            if game != fingerprint(tree):
                raise store.CheckpointError(f"{folder} is of another game than {tree.rules.name}, or of other rules")
            return cls(tree=tree, **fields)

        return store.load_result(Path(folder), make)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}

    def facts(self) -> dict[str, Any]:
        """The rest of it, by name, as JSON; of the tree, its fingerprint."""
        rest = {name: value for name, value in self._asdict().items() if isinstance(value, bool | int | float)}
        return {**rest, "game": fingerprint(self.tree)}


class Row(NamedTuple):
    """A line of the comparison. Numbers are means over lanes."""

    algorithm: str
    iterations: int
    exploitability: float  # the game's unit, of the average policy at the end
    exploitability_last: float  # that of the last policy
    value: float  # the game's unit, what the first player wins on average under the average policy
    converged: bool


def tabulate(solutions: Mapping[str, Solution]) -> list[Row]:
    """A row for each solution, least exploitable first."""
    rows = [
        Row(
            algorithm=name,
            iterations=found.iterations,
            exploitability=found.exploitability.mean().item(),
            exploitability_last=found.curve_last[-1].mean().item(),
            value=found.value.mean().item(),
            converged=found.converged,
        )
        for name, found in solutions.items()
    ]
    return sorted(rows, key=lambda row: row.exploitability)


def save(
    folder: Path, solutions: Mapping[str, Solution], config: dict[str, Any], *, csv: Path | None = None
) -> list[Path]:
    """Write summary.csv, also to `csv` where that is given, and records.jsonl. Returns the paths of both."""
    points = [
        {"algorithm": name, "iteration": t, "exploitability": average, "exploitability_last": last}
        for name, found in solutions.items()
        for t, average, last in zip(found.curve_t.tolist(), *found.means(), strict=True)
    ]
    seconds = {name: found.seconds for name, found in solutions.items()}
    return write_tables(folder, tabulate(solutions), points, config, seconds, csv=csv)


def load(folder: Path) -> tuple[dict[str, Solution], dict[str, Any]]:
    """The solutions of a run folder in the order in which they were asked for, and its configuration. The game is
    unfolded again."""
    config, folders = ended(folder)
    tree = find_again(config["game"], config["rules"])
    return {name: Solution.load(path, tree) for name, path in folders.items()}, config
