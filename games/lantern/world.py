"""The rooms: read, checked, and solved."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 10, 8
MOVES = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
BLOCKS = {".": "floor", "#": "wall", "T": "torch", "~": "water", "o": "urn", "b": "bush", "D": "door", "L": "lantern"}
OPEN = {"floor", "door_open", "lantern"}  # what can be walked on
Place = tuple[int, int, int]  # room, x, y
Situation = tuple[Place, bool, bool]  # where, with the key, the door open
Trail = dict[Situation, tuple[Situation, str] | None]  # how each situation was reached


@dataclass(frozen=True)
class World:
    """Nine rooms by name of block, the bats' boxes (room, x0, y0, x1, y1) and the places that matter."""

    rooms: list[list[list[str]]]
    bats: list[tuple[int, int, int, int, int]]
    start: Place
    key: Place
    door: Place
    lantern: Place


def read_world(path: Path) -> World:
    """The world of a rooms file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("# ") and line != "#"]
    rooms: list[list[list[str]]] = []
    bats: list[tuple[int, int, int, int, int]] = []
    places: dict[str, Place] = {}
    for line in lines:
        if line.startswith("room "):
            rooms.append([])
        elif line.startswith("bat "):
            x0, y0, x1, y1 = (int(word) for word in line.split()[1:])
            bats.append((len(rooms) - 1, x0, y0, x1, y1))
        else:
            places |= {c: (len(rooms) - 1, x, len(rooms[-1])) for x, c in enumerate(line) if c in "SKDL"}
            rooms[-1].append([BLOCKS["." if c in "SK" else c] for c in line])
    world = World(rooms, bats, places["S"], places["K"], places["D"], places["L"])
    check(world)
    return world


def check(world: World) -> None:
    """Rooms of the right size, gaps that are open on both sides and stay on the map, boxes within the walls."""
    for n, room in enumerate(world.rooms):
        if [len(row) for row in room] != [WIDTH] * HEIGHT:
            raise SystemExit(f"room {n} is not {WIDTH} x {HEIGHT} cells")
        for y, row in enumerate(room):
            for x, block in enumerate(row):
                if block in OPEN:
                    check_cell(world, (n, x, y))
    for n, x0, y0, x1, y1 in world.bats:
        if not (1 <= x0 <= x1 <= WIDTH - 2 and 1 <= y0 <= y1 <= HEIGHT - 2):
            raise SystemExit(f"room {n}: a bat's box ({x0}, {y0}) to ({x1}, {y1}) reaches into the walls")


def check_cell(world: World, place: Place) -> None:
    """A cell that can be walked on leads to no room's wall and not out of the map."""
    for name in MOVES:
        there = move(place, name)
        beyond = there[0] != place[0] and world.rooms[there[0]][there[2]][there[1]] not in OPEN
        if there == place or beyond:
            raise SystemExit(f"room {place[0]}: the gap at {place[1:]} leads {name} into a wall")


def move(place: Place, name: str) -> Place:
    """The cell one step away, in the next room past an edge; the same place past the edge of the map."""
    room, x, y = place
    dx, dy = MOVES[name]
    column, row = room % 3 * WIDTH + x + dx, room // 3 * HEIGHT + y + dy
    if not (0 <= column < 3 * WIDTH and 0 <= row < 3 * HEIGHT):
        return place
    return row // HEIGHT * 3 + column // WIDTH, column % WIDTH, row % HEIGHT


def solve(world: World) -> list[str]:
    """The shortest way from the title to the lantern that never enters a bat's box, as actions."""
    first = (world.start, False, False)
    trail: Trail = {first: None}
    todo = deque([first])
    while todo:
        situation = todo.popleft()
        if situation[0] == world.lantern:
            return ["start", *actions(trail, situation)]
        for name in MOVES:
            after = act(world, situation, name)
            if after not in trail and not in_box(world, after[0]):
                trail[after] = (situation, name)
                todo.append(after)
    raise SystemExit("the lantern cannot be reached")


def act(world: World, situation: Situation, name: str) -> Situation:
    """What one action makes of a situation: a closed door takes one to open, and another to walk through."""
    place, key, opened = situation
    there = move(place, name)
    if there == world.door and not opened:
        return place, key, key
    if world.rooms[there[0]][there[2]][there[1]] not in OPEN and there != world.door:
        return situation
    return there, key or there == world.key, opened


def in_box(world: World, place: Place) -> bool:
    """Whether a bat may come to this cell."""
    room, x, y = place
    return any(r == room and x0 <= x <= x1 and y0 <= y <= y1 for r, x0, y0, x1, y1 in world.bats)


def actions(trail: Trail, situation: Situation) -> list[str]:
    """The actions that led to a situation."""
    names: list[str] = []
    while (step := trail[situation]) is not None:
        situation, name = step
        names.append(name)
    return names[::-1]
