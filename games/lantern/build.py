"""Build Lantern: art and rooms into C tables, sdcc, a cartridge image with its header, and the file about it.

python3 build.py [--out FOLDER]     writes lantern.gb and lantern.json, by default into shell/roms
"""

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

import art
import world

HERE = Path(__file__).parent
BUILD = HERE / "build"
SOURCES = ("main", "screen", "room", "player", "bats", "hud")
SIZE = 0x8000
PLAYER = ("down", "down_walk", "up", "up_walk", "side", "side_walk")
ANIMATED = ("torch", "water")
STATE = {
    "mode": 1, "room": 1, "x": 1, "y": 1, "has_key": 1, "door_open": 1, "won": 1, "lamp": 1, "steps": 2, "hits": 1,
    "visited": 2, "busy": 1, "facing": 1, "bell": 1, "frames": 2, "random": 2, "ticks": 1, "pixel_x": 1, "pixel_y": 1,
}  # fmt: skip


class Tables:
    """data.h and data.c as they grow."""

    def __init__(self) -> None:
        self.header = ["#ifndef DATA_H", "#define DATA_H", "#include <stdint.h>"]
        self.source = ['#include "data.h"']

    def define(self, name: str, value: int) -> None:
        """A number known to the compiler."""
        self.header.append(f"#define {name} {value}")

    def table(self, name: str, values: bytes | list[int], kind: str = "uint8_t") -> None:
        """A table in ROM."""
        self.header.append(f"extern const {kind} {name}[{len(values)}];")
        self.source.append(f"const {kind} {name}[{len(values)}] = {{{','.join(map(str, values))}}};")

    def write(self, folder: Path) -> None:
        """Both files."""
        (folder / "data.h").write_text("\n".join([*self.header, "#endif", ""]))
        (folder / "data.c").write_text("\n".join([*self.source, ""]))


def block_tiles(tiles: art.Tiles, picture: art.Picture) -> list[int]:
    """The four tiles of a picture of 16 x 16 pixels."""
    return [tiles.add(art.tile(picture, x, y)) for y in (0, 8) for x in (0, 8)]


def map_picture(room: int) -> art.Picture:
    """The small map of the bar: nine squares, the room's own white."""
    picture = [[3] * 8 for _ in range(8)]
    for other in range(9):
        for dy in range(2):
            for dx in range(2):
                picture[other // 3 * 3 + dy][other % 3 * 3 + dx] = 0 if other == room else 2
    return [[colour for colour in row for _ in range(2)] for row in picture for _ in range(2)]


def digit_tiles(tiles: art.Tiles, pictures: dict[str, art.Picture]) -> list[int]:
    """Upper and lower tile of each digit, white on black."""
    indices = []
    for i in range(10):
        picture = [[3] * 8 for _ in range(16)]
        art.paste(picture, art.scale2x([[0, *row] for row in pictures[f"digit:{i}"]]), 0, 4)
        indices += [tiles.add(art.tile(picture, 0, y)) for y in (0, 8)]
    return indices


def animations(tiles: art.Tiles, pictures: dict[str, art.Picture]) -> dict[int, bytes]:
    """The two pictures of every tile that moves, by its index."""
    moving: dict[int, bytes] = {}
    for name in ANIMATED:
        first, second = art.scale2x(pictures[name]), art.scale2x(pictures[f"{name}_1"])
        for x, y in ((0, 0), (8, 0), (0, 8), (8, 8)):
            still, moved = art.tile(first, x, y), art.tile(second, x, y)
            if still != moved:
                moving[tiles.add(still)] = still + moved
    return moving


def tabulate_play(out: Tables, pictures: dict[str, art.Picture]) -> dict[str, int]:
    """Tiles, blocks, digits and animations of the rooms; the index of each block."""
    tiles = art.Tiles()
    drawn = {name: art.scale2x(p) for name, p in pictures.items() if ":" not in name and not name.endswith("_1")}
    drawn |= {f"map_{i}": map_picture(i) for i in range(9)}
    blocks = {name: block_tiles(tiles, picture) for name, picture in drawn.items()}
    out.table("digit_tiles", digit_tiles(tiles, pictures))
    moving = animations(tiles, pictures)
    out.table("play_tiles", tiles.data())
    out.define("PLAY_TILES", len(tiles.index))
    out.table("blocks", [index for four in blocks.values() for index in four])
    out.table("block_open", [int(name in world.OPEN) for name in blocks])
    out.table("animated_tile", list(moving))
    out.table("animated_tiles", b"".join(moving.values()))
    out.define("ANIMATED", len(moving))
    numbers = {name: i for i, name in enumerate(blocks)}
    for name in ("door", "door_open", *(n for n in blocks if n.startswith("hud_"))):
        out.define(f"BLOCK_{name.upper()}", numbers[name])
    out.define("BLOCK_MAP", numbers["map_0"])
    return numbers


def tabulate_sprites(out: Tables, pictures: dict[str, art.Picture]) -> None:
    """Sprite tiles, four to a picture: the left pair, then the right one."""
    names = [*PLAYER, "bat", "bat_flap", "key", "spark"]
    data = b""
    for i, name in enumerate(names):
        big = art.scale2x(pictures[f"sprite:{name}"])
        data += b"".join(art.tile(big, x, y) for x in (0, 8) for y in (0, 8))
        out.define(f"SPRITE_{name.upper()}", 4 * i)
    out.table("sprite_tiles", data)
    out.define("SPRITE_TILES", 4 * len(names))
    out.table("player_picture", [4 * names.index(name) for name in ("side", "side", "up", "down")])


def tabulate_world(out: Tables, rooms: world.World, numbers: dict[str, int]) -> None:
    """Rooms, bats and places."""
    out.table("rooms", [numbers[block] for room in rooms.rooms for row in room for block in row])
    out.table("room_bit", [1 << i for i in range(9)], "uint16_t")
    out.table("room_delta", [1, 255, 253, 3])
    out.table("step_x", [1, 255, 0, 0])
    out.table("step_y", [0, 0, 255, 1])
    out.table("bats", [number for bat in rooms.bats for number in bat] + [255])
    for name, place in (("START", rooms.start), ("KEY", rooms.key), ("DOOR", rooms.door), ("LANTERN", rooms.lantern)):
        for part, value in zip(("ROOM", "X", "Y"), place):
            out.define(f"{name}_{part}", value)


def tabulate(pictures: dict[str, art.Picture], rooms: world.World) -> Tables:
    """All tables of the game."""
    out = Tables()
    numbers = tabulate_play(out, pictures)
    tabulate_sprites(out, pictures)
    tabulate_world(out, rooms, numbers)
    for name, picture in (("title", art.title(pictures)), ("win", art.win(pictures))):
        tiles, cells = art.screen(picture)
        out.table(f"{name}_tiles", tiles)
        out.table(f"{name}_map", cells)
        out.define(f"{name.upper()}_TILES", len(tiles) // 16)
    return out


def compile_game() -> bytearray:
    """The linked program as a ROM image without a header."""

    def run(*command: str) -> None:
        subprocess.run(command, cwd=BUILD, check=True)

    flags = ("-msm83", "--opt-code-speed", "-I.", "-I../source")
    run("sdasgb", "-I../source", "-o", "crt0.rel", "../source/crt0.s")
    for name in SOURCES:
        run("sdcc", *flags, "-c", f"../source/{name}.c", "-o", f"{name}.rel")
    run("sdcc", *flags, "-c", "data.c", "-o", "data.rel")
    objects = [f"{name}.rel" for name in ("crt0", *SOURCES, "data")]
    where = ("--code-loc", "0x0150", "--data-loc", "0xC150")
    run("sdcc", "-msm83", "--no-std-crt0", *where, *objects, "-o", "lantern.ihx")
    return image((BUILD / "lantern.ihx").read_text())


def image(ihx: str) -> bytearray:
    """The bytes of an Intel HEX file."""
    rom = bytearray(SIZE)
    for line in ihx.split():
        record = bytes.fromhex(line[1:])
        start = int.from_bytes(record[1:3], "big")
        if record[3] == 0:
            if start + record[0] > SIZE:
                raise SystemExit(f"the program reaches {start + record[0]:#x}, past the cartridge's {SIZE:#x}")
            rom[start : start + record[0]] = record[4:-1]
    return rom


def with_header(rom: bytearray) -> bytes:
    """The image with title and checksums; no logo, cartridge type 0 (32 KiB, no mapper)."""
    rom[0x134:0x150] = bytes(0x1C)
    rom[0x134 : 0x134 + 7] = b"LANTERN"
    rom[0x14A] = 1
    check = 0
    for byte in rom[0x134:0x14D]:
        check = (check - byte - 1) & 0xFF
    rom[0x14D] = check
    rom[0x14E:0x150] = (sum(rom) & 0xFFFF).to_bytes(2, "big")
    return bytes(rom)


def about(rooms: world.World) -> dict[str, object]:
    """Title, the addresses of the state, and a solution."""
    source = (HERE / "source" / "memory.s").read_text()
    address = {name: int(value, 16) for name, value in re.findall(r"^_(\w+)\s+==\s+(0x\w+)", source, re.M)}
    return {
        "title": "LANTERN",
        "memory": {name: [address[name], length] for name, length in STATE.items()},
        "solution": world.solve(rooms),
    }


def main() -> None:
    """Build, and write what was built."""
    parser = argparse.ArgumentParser(description="Build Lantern.")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "shell" / "roms", help="folder to write to")
    out = parser.parse_args().out
    for tool in ("sdcc", "sdasgb"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing: install SDCC 4.2 (on Debian: apt-get install sdcc)")
    BUILD.mkdir(exist_ok=True)
    rooms = world.read_world(HERE / "rooms.txt")
    tabulate(art.read_art(HERE / "art.txt"), rooms).write(BUILD)
    rom = with_header(compile_game())
    (out / "lantern.gb").write_bytes(rom)
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in about(rooms).items())
    (out / "lantern.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{out / 'lantern.gb'}: {SIZE - rom.count(0)} bytes other than 0, {len(world.solve(rooms))} actions to win")


if __name__ == "__main__":
    main()
