"""Screens as pictures: one or many side by side, as PNG and as GIF."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import torch
from PIL import GifImagePlugin, Image
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
_AS_BEFORE = 5  # where a picture of a GIF is transparent, as it packs better
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


def write_gif(path: Path, frames: Iterable[Tensor], palette: str, shown: Sequence[int]) -> int:
    """Write pictures of shades uint8 [H, W], shown so many ms each, as a GIF file that begins again at its end; equal
    ones that follow each other are one. Returns how many it has. They are written as they come: none is kept."""
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with temporary.open("wb") as file:
            for shades, corner, milliseconds in _changes(zip(frames, shown, strict=True)):
                image = picture(shades, palette)
                if not count:
                    file.writelines(GifImagePlugin.getheader(image, info={"loop": 0})[0])
                file.writelines(
                    GifImagePlugin.getdata(image, corner, duration=milliseconds, disposal=1, transparency=_AS_BEFORE)
                )
                count += 1
            file.write(b";")

    write_whole(path, write)
    return count


def _changes(frames: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, tuple[int, int], int]]:
    """What each picture changes of the one before: a rectangle of shades, 5 where they stay, its corner (x, y), and how
    long it lasts, ms."""
    before, part, corner, lasts = None, torch.zeros(0), (0, 0), 0
    for shades, milliseconds in frames:
        changed = torch.ones_like(shades, dtype=torch.bool) if before is None else shades != before
        rows, columns = changed.any(1).nonzero()[:, 0].tolist(), changed.any(0).nonzero()[:, 0].tolist()
        if rows:
            if before is not None:
                yield part, corner, lasts
            seen = torch.where(changed, shades, _AS_BEFORE)
            part, corner, lasts = seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], (columns[0], rows[0]), 0
        before, lasts = shades, lasts + milliseconds
    yield part, corner, lasts
