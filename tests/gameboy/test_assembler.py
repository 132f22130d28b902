"""The assembler against PyBoy's names of the opcodes, against its own disassembler and against sdasgb."""

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from tests.gameboy.assembler import AssemblyError, assemble, rom
from tests.gameboy.opcodes import FORMS, ILLEGAL, LEGAL, disassemble

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    from pyboy.core.opcodes import CPU_COMMANDS

SDASGB = shutil.which("sdasgb")
THEIRS = {"NN": "A16", "N": "D8", "E": "R8", "S": "R8"}


def _as_pyboy(code: bytes) -> str:
    """The instruction in the spelling of PyBoy's table."""
    form = FORMS[code]
    if form.name == "rst":
        return f"RST {code[0] & 0x38:02X}H"
    operands = ",".join(form.operands)
    if form.kind == "B":
        operands = operands.replace("B", str(code[1] >> 3 & 7))
    elif form.kind == "H":
        operands = operands.replace("H", "A8")
    elif form.kind:
        word = "D16" if form.kind == "NN" and form.name == "ld" and f"({form.kind})" not in operands else ""
        operands = operands.replace(form.kind, word or THEIRS[form.kind])
    name = "LD" if "(c)" in operands else form.name
    return f"{name} {operands}".strip().upper().replace("JP HL", "JP (HL)").replace("STOP", "STOP 0")


def test_table_against_pyboy() -> None:
    for code in FORMS:
        assert _as_pyboy(code) == CPU_COMMANDS[code[0] if len(code) == 1 else 0x100 + code[1]].upper(), code.hex()
    assert len(FORMS) == len(LEGAL) - 1 + 256
    assert all(CPU_COMMANDS[opcode] in ("", "Breakpoint/Illegal opcode") for opcode in ILLEGAL)


@pytest.mark.parametrize("behind", [b"\x12\x34", b"\xfe\xff"])
def test_round_trip(behind: bytes) -> None:
    for code in FORMS:
        text, length = disassemble(code + behind, 0x1234)
        assert assemble(text, 0x1234).code == (code + behind)[:length], text


@pytest.mark.parametrize(
    ("text", "want"),
    [  # encodings as printed in Pan Docs and in the GBZ80 reference of RGBDS
        ("ld a, (0xff00 + 0x44)", "fa44ff"),
        ("ldh a, (0xff44)", "f044"),
        ("ld hl, sp-2", "f8fe"),
        ("ld hl, sp + 2", "f802"),
        ("add sp, -2", "e8fe"),
        ("jr here", "18fe"),
        ("jr nz, here - 3", "20fb"),
        ("x: nop\n jp nc, x", "00d20000"),
        ("bit 7, (hl)", "cb7e"),
        ("set 0, a", "cbc7"),
        ("rst 0x28", "ef"),
        ("ld (hl+), a", "22"),
        ("ld (0xc000), sp", "0800c0"),
        ("k = 3 ; a constant\n ld b, k * 2", "0606"),
        ('db "a;b", 1, -1', "613b6201ff"),
        ("dw end\nend: ds 2, 7", "02000707"),
        ("x = 0x1234\n ld b, low(x)\n ld c, high(x)", "06340e12"),
        ("ld a, (2 + 1) * 2", "3e06"),
        ("org 2\n nop\n org 5\n halt", "00000076"),
    ],
)
def test_known_encodings(text: str, want: str) -> None:
    assert assemble(text).code.hex() == want


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nop\nfly a", "line 2: unknown instruction 'fly': fly a"),
        ("ld b, (0xc000)", "line 1: no such form of 'ld'"),
        ("ld a, 256", "number must be in [-128, 255], got 256"),
        ("ldh (0x40), a", "port must be in [65280, 65535], got 64"),
        ("ds 200\njr 0", "jump must be in [-128, 127], got -202"),
        ("bit 8, a", "no such form of 'bit'"),
        ("ld a, what", "unknown name 'what'"),
        ("a: nop", "no name for a label: 'a'"),
        ("x: nop\nx: nop", "line 2: 'x' is defined twice"),
        ("db __import__('os')", "no expression"),
        ("bank 0", "bank must be in [1, 511], got 0"),
    ],
)
def test_errors_name_the_line(text: str, said: str) -> None:
    with pytest.raises(AssemblyError, match=re.escape(said)):
        assemble(text)


def test_rom_header() -> None:
    image = rom("nop\nbank 3\ndb 0x77", mapper=5, rom_banks=4, ram=0x8000, title="HEAD")
    assert len(image) == 0x10000
    assert image[3 * 0x4000] == 0x77
    assert image[0x100:0x104] == bytes.fromhex("00c35001")
    assert image[0x134:0x139] == b"HEAD\0"
    assert tuple(image[0x147:0x14A]) == (0x1A, 1, 3)
    assert not any(image[0x104:0x134])  # no logo
    assert (sum(image[0x134:0x14D]) + 25 + image[0x14D]) % 256 == 0
    assert int.from_bytes(image[0x14E:0x150], "big") == (sum(image) - image[0x14E] - image[0x14F]) % 65536
    with pytest.raises(ValueError, match="too few"):
        rom("bank 2\nnop")
    with pytest.raises(ValueError, match="rom_banks"):
        rom("nop", rom_banks=3)
    with pytest.raises(ValueError, match="mapper=4"):
        rom("nop", mapper=4)


def _as_sdas(text: str) -> str:
    """One disassembled instruction in the syntax of sdasgb: its numbers carry a #, addresses do not."""
    text = re.sub(r"^ld hl, sp\+(.*)", r"ldhl sp, #\1", text).replace("jp hl", "jp (hl)")
    if text.startswith(("jr", "jp", "call", "rst", "bit", "res", "set")):
        return re.sub(r"^jr (.*?)0x\w+", r"jr \g<1>.", text)
    return re.sub(r"(?<![(\w#])-?(0x\w+|\d+)$", r"#\g<0>", text)


@pytest.mark.slow
@pytest.mark.skipif(SDASGB is None, reason="needs sdasgb, of sdcc")
def test_against_sdasgb(tmp_path: Path) -> None:
    ours, lines = [], []
    for code in FORMS:
        if code == b"\x10":  # sdasgb adds a byte
            continue
        text, _ = disassemble(code + (b"\xfe" if FORMS[code].kind == "E" else b"\x12") + b"\x34", 0)
        text = re.sub(r"0x0000$", "here", text) if FORMS[code].kind == "E" else text
        ours.append(assemble(text).code.hex().upper())
        lines.append("\t" + _as_sdas(text.replace("here", "0x0000")))
    (tmp_path / "all.asm").write_text("\t.area CODE\n" + "\n".join(lines) + "\n")
    assert SDASGB is not None
    subprocess.run([SDASGB, "-l", "-o", "all.rel", "all.asm"], cwd=tmp_path, check=True, capture_output=True)
    listing = (tmp_path / "all.lst").read_text()
    pattern = r"^\s+[0-9A-F]{6} ((?:[0-9A-Frs]{2} )+)\s.*?\d+ \t\S"
    theirs = [re.sub(r"[^0-9A-F]", "", match[1]) for match in re.finditer(pattern, listing, re.M)]
    assert theirs == ours
