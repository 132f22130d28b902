"""The checkpoint of a run: restored, kept every few seconds, and replaced by the result in the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from armfold.shell.buffers import Layout, write
from armfold.shell.store import checkpoint as store


def open_checkpoint(checkpoint: str | Path | None, *, resume: bool) -> Path | None:
    """The folder of a checkpoint. Raises CheckpointError where it holds one and `resume` is not asked for."""
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None and store.exists(folder) and not resume:
        raise store.CheckpointError(f"checkpoint {folder} exists: pass resume=True to go on, or another folder")
    return folder


def kept_layout(folder: Path | None) -> Layout | None:
    """The layout of the run in a checkpoint, which goes on with it whatever memory there is now; None where it is not
    known."""
    if folder is None or not store.exists(folder):
        return None
    kept = store.load(folder)[1].get("identity", {}).get("layout")
    return kept and Layout(*kept)


class Gathering:
    """What a run has gathered so far and where it is: all that a checkpoint holds beside what is being stepped."""

    def __init__(self) -> None:
        self.seconds = 0.0  # that the run has taken

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def place(self) -> dict[str, Any]:
        """The rest of it, by name, as JSON."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, Tensor)}


class Run(Protocol):
    """What a run that can be kept has."""

    @property
    def gathered(self) -> Gathering:
        """What it has gathered so far."""

    def live(self) -> dict[str, Tensor]:
        """The buffers that it is stepping, by name."""


class Outcome(Protocol):
    """What a run gave, as it is kept."""

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""

    def facts(self) -> dict[str, Any]:
        """The rest of it, by name, as JSON."""


R = TypeVar("R", bound=Outcome)


class Keeper(Generic[R]):
    """The checkpoint of a run: restores it, keeps it every few seconds, and leaves the result in its place, which
    `load` reads."""

    def __init__(self, folder: Path | None, identity: dict[str, Any], every: float, load: Callable[[Path], R]) -> None:
        self.folder, self.identity, self.every, self.load = folder, identity, every, load
        self.saved = 0.0  # seconds into the run
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise store.CheckpointError(f"checkpoint {folder} cannot be a folder ({error})") from error

    def ended(self) -> R | None:
        """The result of the run, where it had ended. Raises CheckpointError for the checkpoint of another run."""
        if self.folder is None or not store.exists(self.folder):
            return None
        facts = store.load(self.folder)[1]
        before = facts.get("identity", {})
        names = self.identity.keys() | before.keys()
        changed = sorted(name for name in names if self.identity.get(name) != before.get(name))
        if changed:
            raise store.CheckpointError(
                f"checkpoint {self.folder} is of another run: {', '.join(changed)} differ; "
                "give another folder, or do not resume"
            )
        return self.load(self.folder) if "result" in facts else None

    def restore(self, run: Run) -> R | None:
        """Set `run` back to the checkpoint, where there is one; the result, where it had ended."""
        ended = self.ended()
        if ended is not None or self.folder is None or not store.exists(self.folder):
            return ended
        tensors, facts = store.load(self.folder)
        gathered, live, place = run.gathered, run.live(), facts.get("progress", {})
        sums = gathered.tensors().keys()
        if place.keys() != gathered.place().keys() or not (sums | live.keys()) <= tensors.keys():
            raise store.CheckpointError(
                f"checkpoint {self.folder}: a part of the run is missing from it; delete it, or do not resume"
            )
        vars(gathered).update({name: tensors[name] for name in sums}, **place)
        write(list(live.values()), [tensors[name] for name in live])
        self.saved = gathered.seconds
        return None

    def keep(self, run: Run, seconds: float) -> None:
        """Write a checkpoint if the last one is old enough; `seconds` is the time that the run has taken."""
        if self.folder is not None and seconds - self.saved >= self.every:
            self.saved = run.gathered.seconds = seconds
            facts = {"identity": self.identity, "progress": run.gathered.place()}
            store.save(self.folder, {**run.gathered.tensors(), **run.live()}, facts)

    def finish(self, result: R) -> R:
        """Write the result in place of the checkpoint."""
        if self.folder is not None:
            store.save(self.folder, result.tensors(), {"identity": self.identity, "result": result.facts()})
        return result
