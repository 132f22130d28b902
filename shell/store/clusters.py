"""Clusters of views as safetensors files."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch

from armfold.core.regret import KMeans
from armfold.shell.store.files import write_whole


def write_clusters(path: str | Path, clusters: KMeans) -> None:
    """Write clusters to a file; `read_clusters` reads the same numbers."""
    data = safetensors.torch.save({name: x.contiguous().cpu() for name, x in clusters._asdict().items()})
    write_whole(Path(path), lambda temporary: temporary.write_bytes(data))


def read_clusters(path: str | Path) -> KMeans:
    """The clusters in a file. Raises ValueError for a file that is damaged, or of something else."""
    try:
        clusters = KMeans(**safetensors.torch.load(Path(path).read_bytes()))
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as clusters ({error})") from error
    centre, weight = clusters
    if centre.ndim != 2 or weight.dtype != torch.float64 or weight.shape != centre.shape[:1]:
        raise ValueError(
            f"{path} must hold centres [M, F] and as many float64 weights, has {tuple(centre.shape)} and "
            f"{weight.dtype} {tuple(weight.shape)}"
        )
    return clusters
