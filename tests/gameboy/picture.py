"""What a picture must look like, a line at a time, written down from Pan Docs alone ("Rendering", "OAM", "LCDC")."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def _pixel(vram: bytes, tile_at: int, x: int, y: int) -> int:
    """The colour number, 0 to 3, of one pixel of the tile at an offset of VRAM."""
    low, high = vram[tile_at + 2 * y], vram[tile_at + 2 * y + 1]
    return (low >> (7 - x) & 1) | (high >> (7 - x) & 1) << 1


def _map_pixel(vram: bytes, lcdc: int, high_map: bool, x: int, y: int) -> int:
    """The colour number at (x, y) of a map of 256 x 256 pixels."""
    number = vram[(0x1C00 if high_map else 0x1800) + (y & 255) // 8 * 32 + (x & 255) // 8]
    signed = number - 256 if number > 127 else number
    tile_at = 16 * number if lcdc & 0x10 else 0x1000 + 16 * signed
    return _pixel(vram, tile_at, x & 7, y & 7)


def _objects(oam: bytes, height: int, line: int) -> list[tuple[int, int, int, int]]:
    """(x, row, tile, attributes) of at most ten objects of a line, the one in front first."""
    found = []
    for i in range(40):
        y, x, tile, attributes = oam[4 * i : 4 * i + 4]
        row = line + 16 - y
        if 0 <= row < height and len(found) < 10:
            row = height - 1 - row if attributes & 0x40 else row
            found.append((x, i, row, tile & 0xFE if height == 16 else tile, attributes))
    return [(x, row, tile, attributes) for x, _, row, tile, attributes in sorted(found)]


def _object_pixel(vram: bytes, objects: Sequence[tuple[int, int, int, int]], x: int) -> tuple[int, int]:
    """(colour number, attributes) of the object in front at this column; 0 where there is none."""
    for left, row, tile, attributes in objects:
        column = x + 8 - left
        if 0 <= column < 8:
            colour = _pixel(vram, 16 * tile, 7 - column if attributes & 0x20 else column, row)
            if colour:
                return colour, attributes
    return 0, 0


def _line(vram: bytes, oam: bytes, port: Mapping[str, int], line: int, window: int | None) -> list[int]:
    """The 160 shades of a line; `window`: which line of the window it shows, if any."""
    lcdc, shades = port["LCDC"], []
    objects = _objects(oam, 16 if lcdc & 4 else 8, line) if lcdc & 2 else []
    for x in range(160):
        colour = 0
        if lcdc & 1:
            if window is not None and x >= port["WX"] - 7:
                colour = _map_pixel(vram, lcdc, bool(lcdc & 0x40), x - port["WX"] + 7, window)
            else:
                colour = _map_pixel(vram, lcdc, bool(lcdc & 0x08), x + port["SCX"], line + port["SCY"])
        front, attributes = _object_pixel(vram, objects, x)
        palette = port["BGP"]
        if front and not (attributes & 0x80 and colour):
            colour, palette = front, port["OBP1" if attributes & 0x10 else "OBP0"]
        shades.append(palette >> 2 * colour & 3)
    return shades


def picture(vram: bytes, oam: bytes, ports: Sequence[Mapping[str, int]]) -> Bytes:
    """The shades [144, 160] of a frame; ports: the registers as each line finds them."""
    lines, hit, window = [], False, 0
    for line, port in enumerate(ports):
        hit = hit or port["WY"] == line
        shown = hit and port["LCDC"] & 0x21 == 0x21 and port["WX"] <= 166
        lines.append(_line(vram, oam, port, line, window if shown else None))
        window += shown
    return np.array(lines, dtype=np.uint8)
