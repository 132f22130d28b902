"""Checkpoints: whole or not there, refused where damaged, and runs that go on from them bit for bit."""

import functools
import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from armfold.core.bandits import beta_ts, kl_ucb, ucb1
from armfold.core.envs import bernoulli, drifting
from armfold.shell import Result
from armfold.shell.run import bandit as runner
from armfold.shell.store import checkpoint
from armfold.shell.store.checkpoint import CheckpointError
from tests.purity import same_bits
from tests.shell.helpers import (
    ARMS,
    SMALLEST,
    Interruption,
    files,
    interrupt_run,
    learner,
    run,
    same_result,
    world,
)

TENSORS = {
    "floats": torch.tensor([[0.1, -0.0, float("nan")], [float("inf"), 1e-40, 2.0]]),
    "doubles": torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7,
    "lanes last": torch.arange(6, dtype=torch.float32).reshape(3, 2).t(),
    "integers": torch.tensor([2**63 - 1, -(2**63)]),
    "small integers": torch.tensor([1, 2], dtype=torch.int32),
    "flags": torch.tensor([True, False]),
    "scalar": torch.tensor(0.1, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
}
FACTS: dict[str, Any] = {"step": 3, "nested": {"list": [1, 2.5, None], "text": "ü"}, "seconds": 0.1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint."""
    checkpoint.save(tmp_path / "run", TENSORS, FACTS)
    return tmp_path / "run"


def check_holds(folder: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    loaded, manifest = checkpoint.load(folder)
    assert loaded.keys() == tensors.keys()
    assert all(same_bits(loaded[name], tensors[name].contiguous()) for name in tensors)
    assert {key: manifest[key] for key in facts} == facts


def test_what_is_saved_is_loaded(folder: Path, tmp_path: Path) -> None:
    assert checkpoint.exists(folder)
    assert not checkpoint.exists(tmp_path)
    check_holds(folder, TENSORS, FACTS)
    assert len(files(folder)) == 2


def test_a_checkpoint_replaces_the_one_before(folder: Path) -> None:
    newer = {"floats": torch.ones(3)}
    for _ in range(2):  # the second time with the same content
        checkpoint.save(folder, newer, {"step": 4})
        check_holds(folder, newer, {"step": 4})
        assert len(files(folder)) == 2


def tensors_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def truncate(folder: Path) -> None:
    path = tensors_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder: Path) -> None:
    tensors_file(folder).write_bytes(b"")


def flip(where: Callable[[int], int], folder: Path) -> None:
    data = bytearray(tensors_file(folder).read_bytes())
    data[where(len(data))] ^= 1
    tensors_file(folder).write_bytes(data)


def lose_tensors(folder: Path) -> None:
    tensors_file(folder).unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def write_manifest(data: bytes, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(data)


def edit(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def halve_manifest(folder: Path) -> None:
    data = (folder / "manifest.json").read_bytes()
    write_manifest(data[: len(data) // 2], folder)


DAMAGE = {
    "tensors truncated": truncate,
    "tensors empty": empty,
    "first byte flipped": functools.partial(flip, lambda size: 0),
    "middle byte flipped": functools.partial(flip, lambda size: size // 2),
    "last byte flipped": functools.partial(flip, lambda size: size - 1),
    "tensors missing": lose_tensors,
    "manifest missing": lose_manifest,
    "manifest truncated": halve_manifest,
    "manifest empty": functools.partial(write_manifest, b""),
    "manifest not JSON": functools.partial(write_manifest, b"step: 3"),
    "manifest not text": functools.partial(write_manifest, b"\xff\xfe\x00"),
    "manifest a list": functools.partial(write_manifest, b"[]"),
    "manifest a number": functools.partial(write_manifest, b"3"),
    "no format": functools.partial(edit, lambda manifest: manifest.pop("format")),
    "no checksum": functools.partial(edit, lambda manifest: manifest.pop("sha256")),
    "tensors not named": functools.partial(edit, lambda manifest: manifest.pop("tensors")),
    "tensors misnamed": functools.partial(edit, lambda manifest: manifest.update(tensors=3)),
    "a fact altered": functools.partial(edit, lambda manifest: manifest.update(step=7)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name(damage: Callable[[Path], None], folder: Path) -> None:
    damage(folder)
    before = files(folder)
    with pytest.raises(CheckpointError, match=re.escape(str(folder))) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)
    assert files(folder) == before


def test_another_format_is_refused_before_anything_else(folder: Path) -> None:
    write_manifest(json.dumps({"format": 99, "blobs": []}).encode(), folder)
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(folder))}.* format 99.* {checkpoint.FORMAT}"):
        checkpoint.load(folder)


def test_a_pickle_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    data = pickle.dumps({"floats": Payload()})
    tensors_file(folder).write_bytes(data)
    edit(lambda manifest: manifest.update(sha256=hashlib.sha256(data).hexdigest()), folder)
    with pytest.raises(CheckpointError, match=re.escape(str(folder))):
        checkpoint.load(folder)
    assert not (tmp_path / "ran").exists()


def failing(real: Callable[..., Any], call: int) -> Callable[..., Any]:
    """`real`, but for one call, which fails as on a full disk."""
    calls = 0

    def function(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    return function


def half_written(path: Path, data: bytes) -> int:
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    raise OSError(28, "No space left on device")


FAILURES = {
    "serialising": (safetensors.torch, "save", failing(safetensors.torch.save, 1)),
    "writing half of the tensors": (Path, "write_bytes", half_written),
    "writing the manifest": (Path, "write_text", failing(Path.write_text, 1)),
    "syncing the tensors": (os, "fsync", failing(os.fsync, 1)),
    "syncing the manifest": (os, "fsync", failing(os.fsync, 3)),
    "renaming the tensors": (Path, "replace", failing(Path.replace, 1)),
    "renaming the manifest": (Path, "replace", failing(Path.replace, 2)),
}


@pytest.mark.parametrize(("owner", "name", "substitute"), FAILURES.values(), ids=FAILURES)
def test_a_write_that_fails_leaves_the_checkpoint_before(
    owner: Any, name: str, substitute: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = {"floats": torch.ones(3)}
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, substitute)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(folder, newer, {"step": 4})
    check_holds(folder, TENSORS, FACTS)
    assert not [path for path in folder.iterdir() if "partial" in path.name]
    checkpoint.save(folder, newer, {"step": 5})
    check_holds(folder, newer, {"step": 5})
    assert len(files(folder)) == 2  # what the failure left is gone


# Resuming


SETTINGS: dict[str, Any] = {"steps": 8, "runs": 130, "points": 4, "max_memory": SMALLEST, "seed": 3}  # three blocks
SAVES = 12  # four of each block


@functools.cache
def unbroken() -> Result:
    return run(**SETTINGS)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a run that stopped in its second block."""
    interrupt_run(monkeypatch, tmp_path / "run", 6, **SETTINGS)
    return tmp_path / "run"


@pytest.mark.parametrize("after", [1, 4, 7, SAVES])
def test_a_run_goes_on_bit_for_bit(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(monkeypatch, tmp_path, after, **SETTINGS)
    assert same_result(run(checkpoint=tmp_path, resume=True, **SETTINGS), unbroken())
    assert same_result(Result.load(tmp_path), unbroken())


def test_a_run_goes_on_as_often_as_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(SAVES):
        interrupt_run(monkeypatch, tmp_path, 1, resume=True, **SETTINGS)
    assert same_result(run(checkpoint=tmp_path, resume=True, **SETTINGS), unbroken())


def test_a_run_stopped_between_checkpoints_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @contextmanager
    def track(label: str, total: int, *, enabled: bool) -> Iterator[Callable[[int], None]]:
        def moved(done: int) -> None:
            seen.append((done, total))
            if len(seen) == 6:
                raise KeyboardInterrupt

        yield moved

    with monkeypatch.context() as patch:
        patch.setattr(runner, "track", track)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint=tmp_path, checkpoint_every=1e-9, **SETTINGS)
    assert checkpoint.exists(tmp_path)
    assert same_result(run(checkpoint=tmp_path, resume=True, **SETTINGS), unbroken())
    assert [total for _, total in seen] == [8 * 130] * 6
    assert [done for done, _ in seen] == [2 * 64, 4 * 64, 6 * 64, 8 * 64, 10 * 64, 12 * 64]


LEARNERS = {
    "matrices": (learner("lin_ts"), world("lin_ts")),
    "a drifting environment": (kl_ucb(arms=ARMS), drifting(arms=ARMS)),
}


@pytest.mark.parametrize(("bandit", "env"), LEARNERS.values(), ids=LEARNERS)
def test_any_state_goes_on_bit_for_bit(bandit: Any, env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(bandit, env, **SETTINGS)
    interrupt_run(monkeypatch, tmp_path, 6, bandit, env, **SETTINGS)
    assert same_result(run(bandit, env, checkpoint=tmp_path, resume=True, **SETTINGS), whole)


def test_seconds_add_up_over_parts(broken: Path) -> None:
    _, facts = checkpoint.load(broken)
    assert facts["progress"]["seconds"] > 0
    assert run(checkpoint=broken, resume=True, **SETTINGS).seconds > facts["progress"]["seconds"]


def test_resuming_where_nothing_is_starts_afresh(tmp_path: Path) -> None:
    assert same_result(run(checkpoint=tmp_path / "run", resume=True, **SETTINGS), unbroken())


def test_what_does_not_matter_to_the_result_may_change(broken: Path) -> None:
    other = {"threads": 2, "label": "other", "checkpoint_every": 3600.0, "progress": True, "profile": True}
    assert same_result(run(checkpoint=broken, resume=True, **{**SETTINGS, **other}), unbroken())


@pytest.mark.parametrize("max_memory", [None, 10**6])
def test_a_run_keeps_its_blocks_whatever_memory_there_is(max_memory: int | None, broken: Path) -> None:
    assert unbroken().layout.block != run(**{**SETTINGS, "max_memory": max_memory}).layout.block
    assert same_result(run(checkpoint=broken, resume=True, **{**SETTINGS, "max_memory": max_memory}), unbroken())


def test_a_run_that_has_ended_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run(checkpoint=tmp_path, **SETTINGS)
    before = files(tmp_path)

    def stop(*arguments: Any) -> None:
        raise Interruption

    monkeypatch.setattr(runner, "choose", lambda *arguments, **options: (stop, False))
    again = run(checkpoint=tmp_path, resume=True, **SETTINGS)
    assert same_result(again, ended)
    assert again.seconds == ended.seconds
    assert files(tmp_path) == before
    with pytest.raises(Interruption):  # so that the assertion above could fail
        run(**SETTINGS)


OTHERS: dict[str, dict[str, Any]] = {
    "steps": {"steps": 24},
    "runs": {"runs": 131},
    "seed": {"seed": 4},
    "agent_seed": {"agent_seed": 4},
    "first_run": {"first_run": 1},
    "points": {"points": 3},
    "reward_range": {"reward_range": (0.0, 2.0)},
    "env": {"env": bernoulli(p=[0.1, 0.2, 0.3])},
    "bandit": {"bandit": beta_ts(arms=ARMS)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_of_another_run_is_refused(name: str, broken: Path) -> None:
    before = files(broken)
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(broken))}.*another run.*\b{name}\b"):
        run(checkpoint=broken, resume=True, **{**SETTINGS, **OTHERS[name]})
    assert files(broken) == before


def test_another_tunable_makes_another_run(broken: Path) -> None:
    with pytest.raises(CheckpointError, match=r"another run.*\bbandit\b"):
        run(ucb1(arms=ARMS, c=2.5), checkpoint=broken, resume=True, **SETTINGS)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "broken"])
def test_a_checkpoint_is_not_overwritten_unasked(ended: bool, broken: Path) -> None:
    if ended:
        run(checkpoint=broken, resume=True, **SETTINGS)
    before = files(broken)
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(broken))}.*resume"):
        run(checkpoint=broken, **SETTINGS)
    assert files(broken) == before


def rewrite(change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object], folder: Path) -> None:
    """Change a checkpoint and save it as it should be saved, checksum and all."""
    tensors, facts = checkpoint.load(folder)
    facts = {name: value for name, value in facts.items() if name not in ("format", "tensors", "sha256")}
    change(tensors, facts)
    checkpoint.save(folder, tensors, facts)


LOSSES: dict[str, Callable[[Path], None]] = {
    "tensors truncated": truncate,
    "tensors missing": lose_tensors,
    "manifest truncated": halve_manifest,
    "no progress": functools.partial(rewrite, lambda tensors, facts: facts.pop("progress")),
    "no step": functools.partial(rewrite, lambda tensors, facts: facts["progress"].pop("step")),
    "no identity": functools.partial(rewrite, lambda tensors, facts: facts.pop("identity")),
    "no regret": functools.partial(rewrite, lambda tensors, facts: tensors.pop("regret")),
    "no state": functools.partial(rewrite, lambda tensors, facts: tensors.pop("live.0")),
}


def test_rewriting_alone_does_no_harm(broken: Path) -> None:
    rewrite(lambda tensors, facts: None, broken)
    assert same_result(run(checkpoint=broken, resume=True, **SETTINGS), unbroken())


@pytest.mark.parametrize("damage", LOSSES.values(), ids=LOSSES)
def test_a_damaged_run_is_refused_and_left_as_it_is(damage: Callable[[Path], None], broken: Path) -> None:
    damage(broken)
    before = files(broken)
    with pytest.raises(CheckpointError, match=re.escape(str(broken))):
        run(checkpoint=broken, resume=True, **SETTINGS)
    assert files(broken) == before


def test_a_run_that_has_not_ended_is_no_result(broken: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(broken))}.*not ended"):
        Result.load(broken)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, facts: facts["result"].pop("steps"),
        lambda tensors, facts: facts["result"].pop("layout"),
        lambda tensors, facts: facts["result"].update(colour="red"),
        lambda tensors, facts: tensors.pop("regret"),
    ],
    ids=["no steps", "no layout", "a field too many", "no regret"],
)
def test_a_result_of_other_fields_is_refused(change: Any, tmp_path: Path) -> None:
    unbroken().save(tmp_path)
    rewrite(change, tmp_path)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        Result.load(tmp_path)
