"""The SM83 opcode map as a table built from its own structure, and a disassembler over it.

An opcode is x y z (2, 3 and 3 bits), y = p q (2 and 1 bits). Source: Pan Docs, "CPU Instruction Set". Capitals in an
operand are numbers: N a byte, NN a word, E a relative jump, S a signed byte, H a byte in page 0xFF, behind the opcode;
B a bit number and T a restart vector, inside it.
"""

from collections.abc import Iterator
from typing import NamedTuple

R = ("b", "c", "d", "e", "h", "l", "(hl)", "a")
PAIRS = ("bc", "de", "hl", "sp")
STACKED = ("bc", "de", "hl", "af")
FLAGS = ("nz", "z", "nc", "c")
ALU = ("add a,", "adc a,", "sub ", "sbc a,", "and ", "xor ", "or ", "cp ")
ROTATE = ("rlca", "rrca", "rla", "rra", "daa", "cpl", "scf", "ccf")
SHIFT = ("rlc", "rrc", "rl", "rr", "sla", "sra", "swap", "srl")
ILLEGAL = (0xD3, 0xDB, 0xDD, 0xE3, 0xE4, 0xEB, 0xEC, 0xED, 0xF4, 0xFC, 0xFD)
KINDS = {"N": 1, "NN": 2, "E": 1, "S": 1, "H": 1, "B": 0, "T": 0}  # bytes behind the opcode


class Form(NamedTuple):
    """One instruction as written, "ld a,(NN)" say, and its opcode."""

    name: str
    operands: tuple[str, ...]
    code: bytes

    @property
    def kind(self) -> str:
        """The capitals of the operand that is a number, "" where none is: no instruction has two but BIT's kin."""
        return next((kind for text in self.operands if (kind := text.strip("()").removeprefix("sp+")) in KINDS), "")

    @property
    def length(self) -> int:
        """Bytes of the whole instruction."""
        return len(self.code) + KINDS.get(self.kind, 0)


def _low(y: int) -> Iterator[tuple[int, str]]:
    """Opcodes 00-3F: (z, text) for this y."""
    p, q = y >> 1, y & 1
    yield 0, ("nop", "ld (NN),sp", "stop", "jr E", *(f"jr {flag},E" for flag in FLAGS))[y]
    yield 1, f"add hl,{PAIRS[p]}" if q else f"ld {PAIRS[p]},NN"
    place = ("(bc)", "(de)", "(hl+)", "(hl-)")[p]
    yield 2, f"ld a,{place}" if q else f"ld {place},a"
    yield 3, f"dec {PAIRS[p]}" if q else f"inc {PAIRS[p]}"
    yield 4, f"inc {R[y]}"
    yield 5, f"dec {R[y]}"
    yield 6, f"ld {R[y]},N"
    yield 7, ROTATE[y]


def _high(y: int) -> Iterator[tuple[int, str]]:
    """Opcodes C0-FF: (z, text) for this y; "" where there is none."""
    p, q, flag = y >> 1, y & 1, FLAGS[y & 3]
    yield 0, f"ret {flag}" if y < 4 else ("ldh (H),a", "add sp,S", "ldh a,(H)", "ld hl,sp+S")[y - 4]
    yield 1, ("ret", "reti", "jp hl", "ld sp,hl")[p] if q else f"pop {STACKED[p]}"
    yield 2, f"jp {flag},NN" if y < 4 else ("ldh (c),a", "ld (NN),a", "ldh a,(c)", "ld a,(NN)")[y - 4]
    yield 3, ("jp NN", "", "", "", "", "", "di", "ei")[y]
    yield 4, f"call {flag},NN" if y < 4 else ""
    yield 5, ("call NN" if p == 0 else "") if q else f"push {STACKED[p]}"
    yield 6, f"{ALU[y]}N"
    yield 7, "rst T"


def _texts() -> Iterator[tuple[bytes, str]]:
    for y in range(8):
        yield from ((bytes([y << 3 | z]), text) for z, text in _low(y))
        yield from ((bytes([0x40 | y << 3 | z]), f"ld {R[y]},{R[z]}" if (y, z) != (6, 6) else "halt") for z in range(8))
        yield from ((bytes([0x80 | y << 3 | z]), ALU[y] + R[z]) for z in range(8))
        yield from ((bytes([0xC0 | y << 3 | z]), text) for z, text in _high(y) if text)
        yield from ((bytes([0xCB, y << 3 | z]), f"{SHIFT[y]} {R[z]}") for z in range(8))
        for x, name in enumerate(("bit", "res", "set"), start=1):
            yield from ((bytes([0xCB, x << 6 | y << 3 | z]), f"{name} B,{R[z]}") for z in range(8))


def _form(code: bytes, text: str) -> Form:
    name, _, operands = text.partition(" ")
    return Form(name, tuple(operands.split(",")) if operands else (), code)


FORMS = {form.code: form for form in (_form(code, text) for code, text in _texts())}  # opcode bytes -> Form
LEGAL = tuple(opcode for opcode in range(256) if opcode not in ILLEGAL)


def _number(form: Form, value: int, address: int) -> str:
    """The operand as the assembler reads it back."""
    match form.kind:
        case "B":
            return str(form.code[-1] >> 3 & 7)
        case "T":
            return f"0x{form.code[-1] & 0x38:02x}"
        case "E":
            return f"0x{(address + form.length + (value ^ 0x80) - 0x80) & 0xFFFF:04x}"
        case "S":
            return str((value ^ 0x80) - 0x80)
        case "H":
            return f"0xff{value:02x}"
    return f"0x{value:0{2 * KINDS[form.kind]}x}"


def disassemble(data: bytes, address: int = 0) -> tuple[str, int]:
    """The first instruction of `data`, which lies at `address`, and its length. What is none is "db N", length 1."""
    form = FORMS.get(data[: 2 if data[0] == 0xCB else 1])
    if form is None or len(data) < form.length:
        return f"db 0x{data[0]:02x}", 1
    value = int.from_bytes(data[len(form.code) : form.length], "little")
    written = [x.replace(form.kind, _number(form, value, address)) if form.kind else x for x in form.operands]
    return f"{form.name} {', '.join(written)}".strip(), form.length
