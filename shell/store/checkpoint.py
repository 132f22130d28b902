"""Checkpoints: tensors in a safetensors file, everything else in a JSON manifest that names it. Never a pickle.

The manifest is renamed into place last, so that a kill at any moment leaves the checkpoint before or the one after.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from torch import Tensor

from armfold.shell.store.files import write_text, write_whole

T = TypeVar("T")
FORMAT = 1
_MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


def save(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write `tensors` and JSON-able `facts` as the checkpoint in `folder`, replacing the one there."""
    data = safetensors.torch.save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})
    path = folder / f"tensors-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    write_whole(path, lambda temporary: temporary.write_bytes(data))
    manifest = {"format": FORMAT, "tensors": path.name, **facts}
    manifest["sha256"] = _digest(data, manifest)
    write_text(folder / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    for old in folder.glob("tensors-*.safetensors"):
        if old != path:
            old.unlink()


def _digest(data: bytes, manifest: dict[str, Any]) -> str:
    return hashlib.sha256(data + json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def exists(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint."""
    return (folder / _MANIFEST).is_file()


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of the checkpoint in `folder`. Raises CheckpointError where it is damaged."""
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"checkpoint {folder} has format {manifest['format']}, this version reads {FORMAT}")
        data = (folder / manifest["tensors"]).read_bytes()
        if manifest.pop("sha256") != _digest(data, manifest):
            raise CheckpointError(f"checkpoint {folder} is damaged: its checksum is wrong; delete it, or do not resume")
        return safetensors.torch.load(data), manifest
    except CheckpointError:
        raise
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {folder} cannot be read ({error}): delete it, or start afresh without resume"
        ) from error


def load_result(folder: Path, make: Callable[..., T]) -> T:
    """What `make` makes of the checkpoint of a run that has ended: of its tensors, and of the facts that are its
    result, by their names. Raises CheckpointError where it is damaged, has not ended, or lacks what `make` needs."""
    tensors, facts = load(folder)
    if "result" not in facts:
        raise CheckpointError(f"{folder} holds a run that has not ended, not its result")
    try:
        return make(**tensors, **facts["result"])
    except (KeyError, TypeError) as error:
        *_, reason = str(error).partition("() ")  # without the name of a function of Python's
        raise CheckpointError(f"{folder} lacks a part of the result: {reason or error}") from error
