"""Screens as pictures: one or many side by side, as PNG and as GIF."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from armfold.shell.store.files import write_whole

# Shades 0 (white) to 3, and what lies between screens.
PALETTES = MappingProxyType(
    {
        "grey": ((255, 255, 255), (170, 170, 170), (85, 85, 85), (0, 0, 0), (201, 214, 228)),
        "green": ((224, 240, 200), (150, 190, 112), (64, 108, 74), (16, 40, 32), (247, 250, 243)),
    }
)
_GAP = 4  # pixels between screens
_BETWEEN = 4  # their colour in a palette
SHORTEST = 20  # ms, of a picture in a GIF: viewers show those that are shorter for much longer


def tile(screens: Tensor, *, columns: int | None = None, scale: int = 1) -> Tensor:
    """Screens uint8 [L, H, W] beside each other in rows of `columns`, each pixel as scale x scale: uint8 [H', W'].

    columns None: as many as rows, or one more. What lies between them is 4.
    """
    count, height, width = screens.shape
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    cells = torch.full((rows * columns, height * scale + _GAP, width * scale + _GAP), _BETWEEN, dtype=torch.uint8)
    large = screens.cpu().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    cells[:count, : height * scale, : width * scale] = large
    grid = cells.view(rows, columns, *cells.shape[1:]).transpose(1, 2).flatten(0, 1).flatten(1)
    return grid[:-_GAP, :-_GAP].contiguous()


def picture(shades: Tensor, palette: str) -> Image.Image:
    """Shades uint8 [H, W] as a picture in the colours of PALETTES[palette]."""
    image = Image.fromarray(shades.numpy()).convert("L")
    image.putpalette(list(chain.from_iterable(PALETTES[palette])))
    return image


def write_png(path: Path, shades: Tensor, palette: str) -> None:
    """Write shades uint8 [H, W] as a PNG file."""
    write_whole(path, lambda temporary: picture(shades, palette).save(temporary, format="PNG", optimize=True))


def durations(count: int, each: float, *, last: float) -> list[int]:
    """How long each of `count` pictures of a GIF is shown, ms: `each` on average, in whole hundredths of a second, and
    the last one for `last` more."""
    ends = [10 * round(each * (i + 1) / 10) for i in range(count)]
    shown = [end - begin for begin, end in zip([0, *ends], ends)]
    return [*shown[:-1], shown[-1] + round(last)]


def write_gif(path: Path, frames: Iterable[Tensor], palette: str, shown: Sequence[int]) -> None:
    """Write pictures of shades uint8 [H, W], shown so many ms each, as a GIF file that begins again at its end."""

    def images() -> Iterator[Image.Image]:
        for shades, milliseconds in zip(frames, shown, strict=True):
            image = picture(shades, palette)
            image.info["duration"] = milliseconds
            yield image

    rest = images()
    first = next(rest)
    options: dict[str, Any] = {"save_all": True, "append_images": rest, "loop": 0, "disposal": 1}
    write_whole(path, lambda temporary: first.save(temporary, format="GIF", **options))
