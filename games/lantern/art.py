"""Pictures into Game Boy tiles: Scale2x, the two full screens, and tables of tiles without repeats."""

import math
from pathlib import Path

Picture = list[list[int]]  # rows of colours 0..3
COLOURS = {".": 0, ":": 1, "o": 2, "#": 3}
WHITE = 4  # in a part that is pasted, where 0 is clear
SPRITE_COLOURS = {"_": 0, ".": 1, "o": 2, "#": 3}
LETTER_COLOURS = {"_": 0, "#": WHITE}


def read_art(path: Path) -> dict[str, Picture]:
    """The pictures of an art file by name, at half scale."""
    pictures: dict[str, Picture] = {}
    name = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            name = line[1:-1]
            pictures[name] = []
        elif name and line:
            kind = name.split(":")[0]
            colours = {"sprite": SPRITE_COLOURS, "digit": LETTER_COLOURS, "letter": LETTER_COLOURS}.get(kind, COLOURS)
            pictures[name].append([colours[c] for c in line])
    return pictures


def scale2x(picture: Picture) -> Picture:
    """Twice the size, with corners rounded where two neighbours agree (the Scale2x rule)."""
    height, width = len(picture), len(picture[0])
    big = [[0] * (2 * width) for _ in range(2 * height)]
    for y, row in enumerate(picture):
        for x, here in enumerate(row):
            up, down = picture[max(y - 1, 0)][x], picture[min(y + 1, height - 1)][x]
            left, right = row[max(x - 1, 0)], row[min(x + 1, width - 1)]
            smooth = up != down and left != right
            big[2 * y][2 * x] = left if smooth and left == up else here
            big[2 * y][2 * x + 1] = right if smooth and right == up else here
            big[2 * y + 1][2 * x] = left if smooth and left == down else here
            big[2 * y + 1][2 * x + 1] = right if smooth and right == down else here
    return big


def tile(picture: Picture, x: int, y: int) -> bytes:
    """The 16 bytes of the 8 x 8 pixels at (x, y)."""
    rows = [picture[y + i][x : x + 8] for i in range(8)]
    return bytes(
        sum(((colour >> bit) & 1) << (7 - i) for i, colour in enumerate(row)) for row in rows for bit in (0, 1)
    )


class Tiles:
    """A table of at most 256 tiles in which each stands once."""

    def __init__(self) -> None:
        self.index: dict[bytes, int] = {}

    def add(self, data: bytes) -> int:
        """The index of a tile, put in if it is new."""
        return self.index.setdefault(data, len(self.index))

    def data(self) -> bytes:
        """All tiles, in order."""
        if len(self.index) > 256:
            raise SystemExit(f"{len(self.index)} different tiles, and there is room for 256")
        return b"".join(self.index)


def paste(picture: Picture, part: Picture, x: int, y: int) -> None:
    """Draw `part` at (x, y): 0 is clear there, and WHITE white."""
    for j, row in enumerate(part):
        for i, colour in enumerate(row):
            if colour:
                picture[y + j][x + i] = colour % WHITE


def write(picture: Picture, art: dict[str, Picture], text: str, y: int, scale: int) -> None:
    """Centred white text; `scale` times the letters' 5 x 7 pixels (2 or 4)."""
    letters = [art[f"letter:{c}"] if c != " " else [[0] * 3] for c in text]
    width = sum(len(letter[0]) * scale + 2 for letter in letters) - 2
    x = (160 - width) // 4 * 2
    for letter in letters:
        framed = [[0] * (len(letter[0]) + 2), *([0, *row, 0] for row in letter), [0] * (len(letter[0]) + 2)]
        big = scale2x(framed) if scale == 2 else scale2x(scale2x(framed))
        paste(picture, [row[scale:-scale] for row in big[scale:-scale]], x, y)
        x += len(letter[0]) * scale + 2


def big_lantern(flame: int, glass: int) -> Picture:
    """A lantern of 40 x 56 pixels, clear around it."""
    picture = [[0] * 40 for _ in range(56)]
    for y in range(56):
        for x in range(40):
            r = math.hypot(x - 19.5, y - 11.5)
            if 7 <= r < 11 and y < 12:
                picture[y][x] = 3
            if 10 <= y < 20 and abs(x - 19.5) < 6 + (y - 10):
                picture[y][x] = 3
            if 20 <= y < 46 and abs(x - 19.5) < 14:
                picture[y][x] = 3 if abs(x - 19.5) > 10 else glass
            if 46 <= y < 56 and abs(x - 19.5) < (18 if y >= 50 else 16):
                picture[y][x] = 3
            if math.hypot((x - 19.5) * 1.6, y - 35.5) < 9 or (24 <= y < 36 and abs(x - 19.5) * 3 < y - 23):
                picture[y][x] = flame
    return picture


def title(art: dict[str, Picture]) -> Picture:
    """The title: night, a small glow, the lantern dark."""
    picture = [[3] * 160 for _ in range(144)]
    for y in range(144):
        for x in range(160):
            far = math.hypot(x - 79.5, y - 83.5)
            picture[y][x] = 1 if far < 30 else 2 if far < 44 else 3
    paste(picture, big_lantern(WHITE, 2), 60, 54)
    write(picture, art, "LANTERN", 8, 4)
    write(picture, art, "PRESS START", 126, 2)
    return picture


def win(art: dict[str, Picture]) -> Picture:
    """The end: the lantern on a hill, rays of light, and who brought it."""
    picture = [[0] * 160 for _ in range(144)]
    for y in range(144):
        for x in range(160):
            angle = math.atan2(y - 59.5, x - 79.5) / math.tau * 16
            far = math.hypot(x - 79.5, y - 59.5) > 46
            picture[y][x] = 1 if far and math.floor(angle) % 2 else 0
            if y > 88 + (x - 79.5) ** 2 / 400:
                picture[y][x] = 2 if y < 94 + (x - 79.5) ** 2 / 400 else 3
    paste(picture, big_lantern(WHITE, 1), 60, 34)
    hero = scale2x(scale2x(art["sprite:side"]))
    paste(picture, [[WHITE if c == 1 else c for c in row] for row in hero], 16, 66)
    write(picture, art, "YOU WIN", 116, 2)
    return picture


def screen(picture: Picture) -> tuple[bytes, bytes]:
    """Tiles and map (20 x 18) of a full screen."""
    tiles = Tiles()
    cells = bytes(tiles.add(tile(picture, x, y)) for y in range(0, 144, 8) for x in range(0, 160, 8))
    return tiles.data(), cells
