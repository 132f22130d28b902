"""The game that ships with the package: its header, the file about it, and that it can be won."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from armfold.shell.backends.gameboy.boot import boot_stub

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "games" / "lantern"
ROM = (ROOT / "shell" / "roms" / "lantern.gb").read_bytes()
ABOUT = json.loads((ROOT / "shell" / "roms" / "lantern.json").read_text())
SDCC = shutil.which("sdcc")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the game's rooms."""
    monkeypatch.syspath_prepend(SOURCE)
    yield importlib.import_module("world")
    sys.modules.pop("world")


class Player:
    """PyBoy with Lantern, played in steps of 24 frames with the button down for 8."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            from pyboy import PyBoy
        (folder / "lantern.gb").write_bytes(ROM)
        (folder / "boot.bin").write_bytes(boot_stub())
        names = str(folder / "lantern.gb"), str(folder / "boot.bin")
        self.pyboy = PyBoy(names[0], bootrom=names[1], window="null", cgb=False, sound_emulated=False)

    def step(self, action: str) -> None:
        if action != "noop":
            self.pyboy.button_press(action)
        self.pyboy.tick(8, False)
        if action != "noop":
            self.pyboy.button_release(action)
        self.pyboy.tick(16, True)

    def state(self) -> dict[str, int]:
        memory = self.pyboy.memory
        return {name: int.from_bytes(bytes(memory[a : a + n]), "little") for name, (a, n) in ABOUT["memory"].items()}

    def shades(self) -> list[int]:
        """The screen at half size as shades of red, row by row."""
        return [int(shade) for shade in self.pyboy.screen.ndarray[::2, ::2, 0].ravel()]


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    player = Player(tmp_path)
    yield player
    player.pyboy.stop(save=False)


def test_header() -> None:
    assert len(ROM) == 0x8000
    assert ROM[0x104:0x134] == bytes(0x30)  # no logo
    assert ROM[0x134:0x144].rstrip(b"\0").decode() == ABOUT["title"] == "LANTERN"
    assert ROM[0x147:0x14A] == bytes(3)  # no mapper, 32 KiB, no RAM
    assert ROM[0x14D] == -sum(byte + 1 for byte in ROM[0x134:0x14D]) & 0xFF
    assert int.from_bytes(ROM[0x14E:0x150], "big") == (sum(ROM) - ROM[0x14E] - ROM[0x14F]) & 0xFFFF


def test_memory_map_is_that_of_the_source() -> None:
    text = (SOURCE / "source" / "memory.s").read_text()
    addresses = {name: int(value, 16) for name, value in re.findall(r"^_(\w+)\s+==\s+(0x\w+)", text, re.M)}
    assert {name: address for name, (address, _) in ABOUT["memory"].items()}.items() <= addresses.items()
    taken = [address + i for address, length in ABOUT["memory"].values() for i in range(length)]
    assert len(set(taken)) == len(taken)
    table = (SOURCE / "README.md").read_text().split("## State")[1].split("##")[0]
    for name, (address, _) in ABOUT["memory"].items():
        assert re.search(rf"`{name}`.*\b{address:04X}\b", table), name


def test_solution_is_the_shortest_safe_way(world: Any) -> None:
    rooms = world.read_world(SOURCE / "rooms.txt")
    assert ABOUT["solution"] == world.solve(rooms)
    assert 25 <= len(ABOUT["solution"]) <= 60


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#..K.~~~.#", "#..K.~~~.", "room 5 is not 10 x 8 cells"),
        ("##########\n##T#", "####.#####\n##T#", r"room 0: the gap at \(4, 0\) leads up into a wall"),
        ("##T####T##\n#.b....b.#", "###..###T#\n#.b....b.#", r"room 6: the gap at \(3, 0\) leads up into a wall"),
        ("bat 3 5 8 6", "bat 3 5 9 6", "room 5: a bat's box .* reaches into the walls"),
    ],
)
def test_rooms_that_cannot_be(world: Any, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (SOURCE / "rooms.txt").read_text()
    assert text.count(old) == 1
    (tmp_path / "rooms.txt").write_text(text.replace(old, new))
    with pytest.raises(SystemExit, match=message):
        world.read_world(tmp_path / "rooms.txt")


@pytest.mark.slow
@pytest.mark.parametrize("waiting", [0, 1, 7, 30])  # other seeds of the bats
def test_solution_wins(player: Player, waiting: int) -> None:
    for _ in range(waiting):
        player.step("noop")
    for i, action in enumerate(ABOUT["solution"]):
        before = player.state()
        player.step(action)
        after = player.state()
        assert after["busy"] == after["hits"] == 0, i
        assert after["won"] == (i == len(ABOUT["solution"]) - 1), i
        assert after["steps"] + after["door_open"] == i, i  # one cell an action, but for the door's
        moved = (before["room"], before["x"], before["y"]) != (after["room"], after["x"], after["y"])
        assert moved == (after["steps"] != before["steps"] or action == "start"), i
    assert player.state()["mode"] == 2
    picture = player.shades()
    for action in ("noop", "a", "left", "down"):
        player.step(action)
        far = sum(abs(a - b) for a, b in zip(picture, player.shades(), strict=True))
        assert far / 255 / len(picture) < 0.02  # it stays, but for a few sparks
    player.step("start")
    after = player.state()
    assert (after["mode"], after["won"], after["has_key"], after["steps"]) == (1, 0, 0, 0)


@pytest.mark.slow
def test_buttons(player: Player) -> None:
    for action in ("noop", "a", "b", "up", "left"):
        player.step(action)
    assert player.state()["mode"] == 0
    player.step("start")
    picture = player.shades()
    player.step("b")
    assert player.state()["lamp"] == 0
    assert sum(player.shades()) < sum(picture)
    player.step("b")
    player.step("a")
    state = player.state()
    assert (state["lamp"], state["mode"], state["steps"]) == (1, 1, 0)
    assert 96 - 24 <= state["bell"] <= 96


@pytest.mark.slow
def test_a_bat_sends_back(player: Player) -> None:
    player.step("start")
    for _ in range(6):
        player.step("right")
    for action in ("right", "right", "right", "down", "down", "down"):  # into the box of the bat of room 5
        player.step(action)
    for _ in range(200):
        if player.state()["hits"]:
            break
        player.step("noop")
    state = player.state()
    assert (state["hits"], state["room"], state["x"], state["y"]) == (1, 5, 0, 3)


@pytest.mark.slow
@pytest.mark.skipif(SDCC is None, reason="needs sdcc")
def test_build_gives_the_shipped_bytes(tmp_path: Path) -> None:
    version = subprocess.run([str(SDCC), "-v"], capture_output=True, text=True, check=True).stdout
    if " 4.2.0 " not in version:
        pytest.skip("other versions of sdcc make other code")
    subprocess.run([sys.executable, SOURCE / "build.py", "--out", tmp_path], check=True, capture_output=True)
    assert (tmp_path / "lantern.gb").read_bytes() == ROM
    assert json.loads((tmp_path / "lantern.json").read_text()) == ABOUT


@pytest.mark.slow
def test_build_without_a_compiler_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, SOURCE / "build.py"], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sdcc is missing: install SDCC 4.2 (on Debian: apt-get install sdcc)" in done.stderr
