"""A small SM83 assembler and a builder of cartridge images. Two passes over text, one statement a line:

    name:                   a label; it may stand before a statement
    name = expression       a constant
    ld a, (name + 1)        an instruction, spelt as in `tests.gameboy.opcodes`
    db 1, "text"; dw x      bytes, words           ds 4, 0xFF      so many bytes of a value (0)
    org 0x150; bank 2       where the next byte goes; `bank k` is address 0x4000 of ROM bank k
    ; a comment

Expressions are Python's over integers, names, `here` (the address of the statement), low(x) and high(x). A program may
use a name before it is defined, except in `org`, `bank`, `ds` and constants.
"""

import ast
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tests.gameboy.opcodes import FORMS, KINDS, Form

_RESERVED = {*"abcdehl", "bc", "de", "hl", "hl+", "hl-", "sp", "af", "nz", "z", "nc", "here", "low", "high"}
_BINARY: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_UNARY: dict[type, Callable[[int], int]] = {ast.USub: operator.neg, ast.Invert: operator.invert, ast.UAdd: operator.pos}
_CALLS: dict[str, Callable[[int], int]] = {"low": lambda x: x & 0xFF, "high": lambda x: x >> 8 & 0xFF}
_FORMS_OF: dict[str, list[Form]] = {}
for _form in sorted(FORMS.values(), key=lambda form: form.kind):  # the plain ones first
    _FORMS_OF.setdefault(_form.name, []).append(_form)


class AssemblyError(ValueError):
    """A line that cannot be assembled. The message gives its number and its text."""


class Program(NamedTuple):
    """What an assembly gave."""

    chunks: list[tuple[int, bytes]]  # offset in the image, bytes
    symbols: dict[str, int]

    @property
    def code(self) -> bytes:
        """The bytes in one piece, from the first to the last, gaps filled with 0."""
        start = min((offset for offset, data in self.chunks if data), default=0)
        image = bytearray(max((offset + len(data) for offset, data in self.chunks), default=0) - start)
        for offset, data in self.chunks:
            image[offset - start : offset - start + len(data)] = data
        return bytes(image)


@functools.cache
def _parse(text: str) -> ast.Expression:
    return ast.parse(text, mode="eval")


def evaluate(text: str, names: dict[str, int]) -> int:
    """The value of an expression. Raises ValueError where it has none."""

    def walk(node: ast.AST) -> int:
        match node:
            case ast.Expression():
                return walk(node.body)
            case ast.Constant() if type(node.value) is int:
                return node.value
            case ast.Name():
                if node.id not in names:
                    raise ValueError(f"unknown name {node.id!r}")
                return names[node.id]
            case ast.BinOp() if type(node.op) in _BINARY:
                return _BINARY[type(node.op)](walk(node.left), walk(node.right))
            case ast.UnaryOp() if type(node.op) in _UNARY:
                return _UNARY[type(node.op)](walk(node.operand))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _CALLS:
                return _CALLS[name](walk(argument))
        raise ValueError(f"no expression: {text!r}")

    try:
        return walk(_parse(text.strip()))
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"no expression: {text!r}") from error


@functools.cache
def _split(text: str) -> tuple[str, ...]:
    """Operands at the top level: commas inside strings and brackets do not count."""
    parts, depth, quoted = [""], 0, False
    for char in text:
        quoted ^= char == '"'
        depth += 0 if quoted else (char == "(") - (char == ")")
        if char == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += char
    return tuple(part.strip() for part in parts) if text.strip() else ()


def _fits(pattern: str, text: str) -> str | None:
    """The expression inside `text` where it has the form of `pattern`; "" where that is a plain register."""
    plain = text.lower().replace(" ", "")
    if not any(char.isupper() for char in pattern):
        return "" if plain == pattern else None
    bracketed = plain.startswith("(") and plain.endswith(")") and len(_split(text[1:-1])) == 1 and _closed(text[1:-1])
    if pattern.startswith("("):
        inner = text[1:-1].strip()
        return inner if bracketed and inner.lower() not in _RESERVED - {"here"} else None
    if pattern.startswith("sp+"):
        return text[text.lower().index("sp") + 2 :].strip().removeprefix("+") if plain[:3] in ("sp+", "sp-") else None
    return text if not bracketed and plain not in _RESERVED - {"here"} and plain[:3] not in ("sp+", "sp-") else None


def _closed(text: str) -> bool:
    """Whether every bracket is closed after it was opened, so that the outer pair belongs together."""
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            return False
    return depth == 0


def _ranged(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
    return value


def _encode(form: Form, value: int, address: int) -> bytes:
    """The instruction with its number in place."""
    match form.kind:
        case "E":
            jump = _ranged("jump", value - address - form.length, -128, 127)
            return form.code + bytes([jump & 0xFF])
        case "S":
            return form.code + bytes([_ranged("displacement", value, -128, 127) & 0xFF])
        case "H":
            return form.code + bytes([_ranged("port", value, 0xFF00, 0xFFFF) & 0xFF])
    size = KINDS[form.kind]
    return form.code + (_ranged("number", value, -(1 << 8 * size - 1), (1 << 8 * size) - 1) % (1 << 8 * size)).to_bytes(
        size, "little"
    )


def _inside(form: Form, value: int) -> bool:
    """Whether a bit number or a restart vector is the one of this form."""
    return value == (form.code[-1] & 0x38 if form.kind == "T" else form.code[-1] >> 3 & 7)


@functools.cache
def _candidates(name: str, operands: tuple[str, ...]) -> list[tuple[Form, str]]:
    """The forms that an instruction may have as it is written, each with the expression inside."""
    found = []
    for form in _FORMS_OF.get(name, []):
        inner = [_fits(pattern, text) for pattern, text in zip(form.operands, operands)]
        if len(form.operands) == len(operands) and None not in inner:
            found.append((form, next((x for x in inner if x), "")))
    return found


def _instruction(name: str, operands: tuple[str, ...], names: dict[str, int], sizing: bool) -> bytes:
    """One instruction; while sizing, zeros of its length. Raises ValueError where there is none like it."""
    if name not in _FORMS_OF:
        raise ValueError(f"unknown instruction {name!r}")
    for form, expression in _candidates(name, operands):
        if not form.kind:
            return form.code
        if form.kind not in "BT":
            return bytes(form.length) if sizing else _encode(form, evaluate(expression, names), names["here"])
        if _inside(form, evaluate(expression, names)):
            return form.code
    raise ValueError(f"no such form of {name!r}: {', '.join(operands) or 'no operands'}")


def _data(name: str, operands: tuple[str, ...], names: dict[str, int], sizing: bool) -> bytes:
    """The bytes of db, dw or ds."""
    if name == "ds":
        count = _ranged("ds", evaluate(operands[0], names), 0, 1 << 23)
        return bytes([evaluate(operands[1], names) & 0xFF if len(operands) > 1 else 0]) * count
    out, size = b"", 1 if name == "db" else 2
    for text in operands:
        if text.startswith('"') and text.endswith('"') and size == 1:
            out += ast.literal_eval(text).encode("latin-1")
        else:
            value = 0 if sizing else evaluate(text, names)
            out += (_ranged(name, value, -(1 << 8 * size - 1), (1 << 8 * size) - 1) % (1 << 8 * size)).to_bytes(
                size, "little"
            )
    return out


class _Pass:
    """One pass over the text: `sizing` finds the labels, the second pass the bytes."""

    def __init__(self, symbols: dict[str, int], origin: int, sizing: bool) -> None:
        self.names, self.sizing, self.bank, self.here = dict(symbols), sizing, 0, origin
        self.chunks: list[tuple[int, bytes]] = []

    def define(self, name: str, value: int) -> None:
        if name.lower() in _RESERVED or not name.isidentifier():
            raise ValueError(f"no name for a label: {name!r}")
        if self.sizing and name in self.names:
            raise ValueError(f"{name!r} is defined twice")
        self.names[name] = value

    def statement(self, text: str) -> None:
        self.names["here"] = self.here
        if match := re.fullmatch(r"(\w+)\s*=(?!=)\s*(.+)", text):
            return self.define(match[1], evaluate(match[2], self.names))
        name, _, rest = text.partition(" ")
        name, operands = name.lower(), _split(rest)
        if name == "org":
            self.here, self.bank = evaluate(rest, self.names), 0
        elif name == "bank":
            self.bank, self.here = _ranged("bank", evaluate(rest, self.names), 1, 511), 0x4000
        else:
            make = _data if name in ("db", "dw", "ds") else _instruction
            data = make(name, operands, self.names, self.sizing)
            offset = self.here if self.bank == 0 else self.bank * 0x4000 + self.here - 0x4000
            self.chunks.append((offset, data))
            self.here += len(data)
        return None


def _statements(source: str) -> Iterator[tuple[int, str, str | None, str]]:
    """(line number, line, its label, its statement) of every line with something on it."""
    for number, line in enumerate(source.splitlines(), start=1):
        text = re.sub(r';(?=(?:[^"]*"[^"]*")*[^"]*$).*', "", line).strip()
        match = re.match(r"(\w+):", text)
        if text:
            yield number, line.strip(), match[1] if match else None, text[match.end() :].strip() if match else text


def assemble(source: str, origin: int = 0, **symbols: int) -> Program:
    """The program of that text, its first byte at `origin`. Raises AssemblyError, which names the line."""
    known = dict(symbols)
    for sizing in (True, False):
        run = _Pass(known, origin, sizing)
        for number, line, label, text in _statements(source):
            try:
                if label:
                    run.define(label, run.here)
                if text:
                    run.statement(text)
            except (ValueError, IndexError) as error:
                raise AssemblyError(f"line {number}: {error}: {line}") from error
        known = {name: value for name, value in run.names.items() if name != "here"}
    return Program(run.chunks, known)


MAPPERS = {0: 0x00, 1: 0x01, 2: 0x05, 3: 0x11, 5: 0x19}  # cartridge type without RAM, Pan Docs "The Cartridge Header"
WITH_RAM = {0: 0x08, 1: 0x02, 2: 0x05, 3: 0x12, 5: 0x1A}
RAM_CODES = {0: 0, 0x800: 1, 0x2000: 2, 0x8000: 3, 0x20000: 4, 0x10000: 5}


def finish(image: bytearray) -> bytes:
    """The image with both checksums of its header set. Source: Pan Docs, "The Cartridge Header"."""
    check = 0
    for byte in image[0x134:0x14D]:
        check = (check - byte - 1) & 0xFF
    image[0x14D] = check
    image[0x14E:0x150] = b"\0\0"
    image[0x14E:0x150] = (sum(image) & 0xFFFF).to_bytes(2, "big")
    return bytes(image)


def rom(
    source: str,
    *,
    mapper: int = 0,
    clock: bool = False,
    rom_banks: int = 2,
    ram: int = 0,
    title: str = "MICRO",
    data: Mapping[int, bytes] | None = None,
) -> bytes:
    """A cartridge image: `source` is assembled from 0x150, where the entry point jumps.

    mapper: 0 (none), 1, 2, 3 or 5; `clock`: MBC3 with its clock; rom_banks: 2 .. 512, a power of two; ram: bytes;
    `data`: bytes at offsets of the image. The logo area is left empty. Raises AssemblyError for the text, ValueError
    for the rest.
    """
    if rom_banks not in [2 << i for i in range(9)]:
        raise ValueError(f"rom_banks must be a power of two in [2, 512], got {rom_banks}")
    if mapper not in MAPPERS or ram not in RAM_CODES or (clock and mapper != 3):
        raise ValueError(f"no such cartridge: mapper={mapper}, ram={ram}, clock={clock}")
    image = bytearray(rom_banks * 0x4000)
    for offset, chunk in [*assemble(source, 0x150).chunks, *(data or {}).items()]:
        if offset + len(chunk) > len(image):
            raise ValueError(
                f"rom_banks={rom_banks} are {len(image)} bytes, too few for byte {offset + len(chunk) - 1}"
            )
        image[offset : offset + len(chunk)] = chunk
    image[0x100:0x104] = b"\0" + assemble("jp 0x150").code
    image[0x134:0x144] = title.encode("ascii")[:15].ljust(16, b"\0")
    image[0x147] = (0x10 if ram else 0x0F) if clock else (WITH_RAM if ram else MAPPERS)[mapper]
    image[0x148], image[0x149] = rom_banks.bit_length() - 2, RAM_CODES[ram]
    return finish(image)
