"""Micro-ROMs of the processor: arithmetic with its flags, every plain opcode, jumps, the stack, cycles."""

from collections.abc import Iterable

from tests.gameboy.micro import LCD_OFF, LOG, MicroRom, micro, program
from tests.gameboy.opcodes import ALU, FORMS, SHIFT, Form

Z, N, H, C = 0x80, 0x40, 0x20, 0x10

MIX = """
mix:                ; d and e sum up a and f, Fletcher's way
    push af
    pop hl
    ld a, d
    add a, h
    add a, l
    ld d, a
    add a, e
    ld e, a
    ret
"""


def fletcher(pairs: Iterable[tuple[int, int]]) -> bytes:
    """What `mix` leaves of these (a, f)."""
    d = e = 0
    for a, f in pairs:
        d = (d + a + f) & 0xFF
        e = (e + d) & 0xFF
    return bytes([d, e])


def alu(operation: int, a: int, b: int, carry: int) -> tuple[int, int]:
    """A and F after the y-th ALU operation. Source: the Game Boy CPU manual's flag tables, as in Pan Docs."""
    if operation in (0, 1):
        carry &= operation
        full, half = a + b + carry, (a & 15) + (b & 15) + carry
        return full & 0xFF, Z * (full & 0xFF == 0) | H * (half > 15) | C * (full > 255)
    if operation in (2, 3, 7):
        carry &= operation == 3
        full, half = a - b - carry, (a & 15) - (b & 15) - carry
        return a if operation == 7 else full & 0xFF, Z * (full & 0xFF == 0) | N | H * (half < 0) | C * (full < 0)
    result = (0, 0, 0, 0, a & b, a ^ b, a | b)[operation]
    return result, Z * (result == 0) | H * (operation == 4)


def shift(operation: int, a: int, carry: int) -> tuple[int, int]:
    """A and F after the y-th CB operation. Source: as above."""
    low, high = a & 1, a >> 7
    result = (
        a << 1 | high, a >> 1 | low << 7, a << 1 | carry, a >> 1 | carry << 7,
        a << 1, a >> 1 | a & 0x80, a << 4 | a >> 4, a >> 1,
    )[operation] & 0xFF  # fmt: skip
    out = (high, low, high, low, high, low, 0, low)[operation]
    return result, Z * (result == 0) | C * out


def daa(a: int, f: int) -> tuple[int, int]:
    """A and F after DAA. Source: Pan Docs, "CPU Instruction Set", and the BCD rules it states."""
    carry, adjust = bool(f & C), 0
    if f & H or (not f & N and a & 15 > 9):
        adjust |= 0x06
    if carry or (not f & N and a > 0x99):
        adjust, carry = adjust | 0x60, True
    a = (a - adjust if f & N else a + adjust) & 0xFF
    return a, Z * (a == 0) | f & N | C * carry


def _over_a(name: str, count: int, body: str) -> str:
    """`count` times (b from `operands`): for every a in c, with the carry off and on, run `body` and mix."""
    return f"""
    ld hl, operands
    ld a, {count & 0xFF}
    ldh (0xff80), a
{name}_operand:
    ld a, (hl+)
    ld b, a
    push hl
    ld c, 0
    ld de, 0
{name}_a:
    ld a, c
    or a
    {body}
    call mix
    ld a, c
    scf
    {body}
    call mix
    inc c
    jr nz, {name}_a
    ldh a, (0xff81)
    ld l, a
    ldh a, (0xff82)
    ld h, a
    ld a, d
    ld (hl+), a
    ld a, e
    ld (hl+), a
    ld a, l
    ldh (0xff81), a
    ld a, h
    ldh (0xff82), a
    pop hl
    ldh a, (0xff80)
    dec a
    ldh (0xff80), a
    jr nz, {name}_operand
"""


LOG_START = f"ld a, {LOG & 0xFF}\n ldh (0xff81), a\n ld a, {LOG >> 8}\n ldh (0xff82), a\n"


def _table(name: str, values: bytes) -> str:
    return f"{name}:\n" + "\n".join(f" db {', '.join(map(str, values[i : i + 16]))}" for i in range(0, len(values), 16))


def alu_rom(operands: bytes, frames: int) -> MicroRom:
    """All eight operations of every A with these operands, with and without carry; 2 bytes a pair at LOG."""
    body = LOG_START + "\n".join(_over_a(f"op{y}", len(operands), f"{ALU[y]}b") for y in range(8))
    image = program(f"{body}\n jp done\n{MIX}\n{_table('operands', operands)}")
    sums = b"".join(
        fletcher(alu(y, a, b, carry) for a in range(256) for carry in (0, 1)) for y in range(8) for b in operands
    )
    return MicroRom(image, frames, {LOG: sums})


@micro
def alu_some() -> MicroRom:
    """ADD ADC SUB SBC AND XOR OR CP: all A, 16 operands, both carries."""
    return alu_rom(bytes(range(0, 256, 17)), 110)


@micro
def alu_all() -> MicroRom:
    """The same over all 2^20 inputs."""
    return alu_rom(bytes(range(256)), 1800)


@micro
def shifts() -> MicroRom:
    """RLC RRC RL RR SLA SRA SWAP SRL and RLCA RRCA RLA RRA on A: all inputs, both carries."""
    bodies = [f"{name} a" for name in SHIFT] + ["rlca", "rrca", "rla", "rra"]
    body = LOG_START + "\n".join(_over_a(f"op{i}", 1, text) for i, text in enumerate(bodies))
    image = program(f"{body}\n jp done\n{MIX}\noperands: db 0")
    cases = [(a, carry) for a in range(256) for carry in (0, 1)]
    sums = [fletcher(shift(y, *case) for case in cases) for y in range(8)]
    sums += [fletcher((a, f & ~Z) for a, f in (shift(y, *case) for case in cases)) for y in range(4)]
    return MicroRom(image, 20, {LOG: b"".join(sums)})


@micro
def daa_all() -> MicroRom:
    """DAA, INC, DEC, CPL, SCF and CCF over all A and all flags, in full: A and F of each."""
    pieces, expect, names = [], {}, ("daa", "inc a", "dec a", "cpl", "scf", "ccf")
    for i, name in enumerate(names):
        page = LOG + i * 0x200
        pieces.append(f"""
    ld hl, {page}
    ld c, 0             ; flags
    ld b, 0
n{i}:
    push bc
    pop af              ; a = b, f = c
    {name}
    push af
    pop de
    ld a, (hl)
    add a, d
    ld (hl+), a         ; the sum of a over the flags
    ld a, (hl)
    rrca
    xor e
    ld (hl+), a
    inc b
    jr nz, n{i}
    ld hl, {page}
    ld a, c
    add a, 0x10
    ld c, a
    jr nz, n{i}
""")
        expect[page] = _folded(name)
    return MicroRom(program("\n".join(pieces)), 60, expect)


def _one(name: str, a: int, f: int) -> tuple[int, int]:
    match name:
        case "daa":
            return daa(a, f)
        case "inc a":
            return (a + 1) & 0xFF, f & C | Z * (a == 255) | H * (a & 15 == 15)
        case "dec a":
            return (a - 1) & 0xFF, f & C | N | Z * (a == 1) | H * (a & 15 == 0)
        case "cpl":
            return a ^ 0xFF, f | N | H
    return a, f & Z | (C if name == "scf" else C & ~f)


def _folded(name: str) -> bytes:
    out = bytearray(512)
    for f in range(0, 256, 16):
        for a in range(256):
            result, flags = _one(name, a, f)
            out[2 * a] = (out[2 * a] + result) & 0xFF
            old = out[2 * a + 1]
            out[2 * a + 1] = (old >> 1 | old << 7) & 0xFF ^ flags
    return bytes(out)


@micro
def add_16() -> MicroRom:
    """ADD HL,rr, INC rr, DEC rr, ADD SP,e, LD HL,SP+e: flags over edge values."""
    values = (0x0000, 0x0001, 0x00FF, 0x0100, 0x0FFF, 0x1000, 0x7FFF, 0x8000, 0xFF0F, 0xFFFF)
    code, want, at = [], bytearray(), LOG
    for x in values:
        for y in values:
            code.append(f"ld hl, {x}\n ld de, {y}\n ld a, 0\n or a\n add hl, de\n call store")
            flags = H * ((x & 0xFFF) + (y & 0xFFF) > 0xFFF) | C * (x + y > 0xFFFF)
            want += bytes([(x + y) & 0xFF, (x + y) >> 8 & 0xFF, flags | Z])
    for x in values:
        for e in (0, 1, 15, 16, 127, -1, -16, -128):
            code.append(f"ld sp, {x}\n ld hl, sp + {e}\n ld sp, 0xdff0\n call store")
            code.append(f"ld sp, {x}\n add sp, {e}\n ld hl, sp + 0\n push_safe{len(code)}: ld sp, 0xdff0\n call store")
            full, low = (x + e) & 0xFFFF, e & 0xFF
            flags = H * ((x & 15) + (low & 15) > 15) | C * ((x & 0xFF) + low > 255)
            want += bytes([full & 0xFF, full >> 8, flags]) + bytes([full & 0xFF, full >> 8, 0])
    source = "\n".join([
        f"ld bc, {at}", *code, "jp done", "store:", "push af", "ld a, l", "ld (bc), a", "inc bc", "ld a, h",
        "ld (bc), a", "inc bc", "pop hl", "ld a, l", "ld (bc), a", "inc bc", "ret",
    ])  # fmt: skip
    return MicroRom(program(source), 4, {LOG: bytes(want)})


CONTROL = {"jp", "jr", "call", "ret", "reti", "rst", "halt", "stop", "di", "ei"}
STATES = (
    (0x0000, 0x0000, 0x0000, 0x0000), (0xFFF0, 0xFFFF, 0xFFFF, 0xD1FF), (0x9910, 0x0102, 0xD133, 0xD180),
    (0x0FE0, 0xD110, 0xD120, 0xD130), (0x8070, 0xD180, 0x807F, 0xD111), (0x5580, 0xD1AA, 0xD155, 0xD1F0),
)  # fmt: skip


def plain_forms() -> list[Form]:
    """Every form that goes on to the next instruction and can be run on any registers in WRAM."""
    return [form for form in FORMS.values() if form.name not in CONTROL]


def _number_of(form: Form) -> bytes:
    """What stands behind the opcode: an address in WRAM, a port in HRAM."""
    return {"NN": b"\x44\xd1", "H": b"\x90", "N": b"\x9c", "S": b"\x85"}.get(form.kind, b"")


def _safe(form: Form, state: tuple[int, int, int, int]) -> bool:
    """Whether what the form points at is in WRAM."""
    text = " ".join(form.operands)
    pairs = {"(hl": state[3], "(bc": state[1], "(de": state[2]}
    if "(c)" in text:
        return state[1] & 0xFF in range(0x84, 0xFF)
    return all(0xD100 <= value < 0xD200 for mark, value in pairs.items() if mark in text)


@micro
def opcodes() -> MicroRom:
    """Every opcode but jumps, calls and HALT, run from WRAM on several states; all registers of each run are summed."""
    cases = [
        (form.code + _number_of(form)).ljust(3, b"\0") + bytes([i])
        for form in plain_forms()
        for i, state in enumerate(STATES)
        if _safe(form, state)
    ]
    states = b"".join(value.to_bytes(2, "little") for state in STATES for value in state)
    source = f"""
    {LCD_OFF}
    ld hl, cases
    ld a, low(hl_log)
    ldh (0xff81), a
    ld a, high(hl_log)
    ldh (0xff82), a
    ld a, 0xc3          ; jp back, behind the three bytes of the case
    ld (0xd003), a
    ld a, low(back)
    ld (0xd004), a
    ld a, high(back)
    ld (0xd005), a
next:
    ld a, (hl+)
    ld (0xd000), a
    ld a, (hl+)
    ld (0xd001), a
    ld a, (hl+)
    ld (0xd002), a
    ld a, (hl+)
    ld (0xdff2), sp
    push hl
    add a, a
    add a, a
    add a, a
    ld l, a
    ld h, 0
    ld de, states
    add hl, de
    ld sp, hl
    pop af
    pop bc
    pop de
    pop hl
    ld sp, 0xdfc0
    jp 0xd000
back:
    ld (0xdff4), sp
    ld sp, 0xdfb0
    push af
    push bc
    push de
    push hl
    ld hl, 0xdfa8
    ld d, 0
    ld e, 0
    ld b, 8
sum:
    ld a, (hl+)
    add a, d
    ld d, a
    add a, e
    ld e, a
    dec b
    jr nz, sum
    ld a, (0xdff4)
    add a, d
    ld d, a
    ld a, (0xdff5)
    add a, e
    ld e, a
    ldh a, (0xff81)
    ld l, a
    ldh a, (0xff82)
    ld h, a
    ld a, d
    xor e
    ld (hl+), a
    ld a, l
    ldh (0xff81), a
    ld a, h
    ldh (0xff82), a
    ld sp, 0xdfee
    pop hl
    ld a, h
    cp high(cases_end)
    jr nz, next
    ld a, l
    cp low(cases_end)
    jr nz, next
    jp done
hl_log = {LOG}
states = 0x4000
cases = 0x4100
cases_end = {0x4100 + len(cases) * 4}
"""
    return MicroRom(program(source, data={0x4000: states, 0x4100: b"".join(cases)}), 40)


def _branches() -> tuple[str, bytes]:
    """Every conditional and unconditional branch under all four states of Z and C, and what each must log."""
    code, want = [], bytearray()
    for zero in (0, 1):
        for carry in (0, 1):
            taken_by = {"nz": not zero, "z": zero, "nc": not carry, "c": carry, "": True}
            flags = f"ld bc, {Z * zero | C * carry}\n push bc\n pop af"
            for condition, taken in taken_by.items():
                comma = f"{condition}, " if condition else ""
                for name in ("jr", "jp"):
                    label = f"x{len(code)}"
                    code.append(f"{flags}\n {name} {comma}{label}\n inc d\n{label}: call log")
                    want.append(not taken)
                code.append(f"{flags}\n call {comma}plus\n call log")
                want.append(2 if taken else 0)
                code.append(f"{flags}\n call r{len(code)}\n jr s{len(code)}\nr{len(code)}: ret {condition}\n inc d\n"
                            f" ret\ns{len(code)}: call log")  # fmt: skip
                want.append(not taken)
    for vector in range(0, 0x40, 8):
        code.append(f"rst {vector}\n call log")
        want.append(vector + 1)
    return "\n".join(code), bytes(want)


@micro
def branches() -> MicroRom:
    """JR JP CALL RET with every condition and flag, RST to every vector, JP HL, RETI, backwards JR."""
    code, want = _branches()
    vectors = "\n".join(f"org {v}\n ld d, {v + 1}\n ret" for v in range(0, 0x40, 8))
    source = f"""
    ld hl, {LOG}
    ld d, 0
    {code}
    push hl
    ld hl, by_hl
    jp hl
    inc d
by_hl:
    pop hl
    call log
    ld e, 100
loop:
    inc d
    dec e
    jr nz, loop
    call log
    jp done
plus:
    inc d
    inc d
    ret
log:
    ld (hl), d
    inc hl
    ld d, 0
    ret
"""
    return MicroRom(program(f"{source}\n jp done\n{vectors}\norg 0x3000\n"), 3, {LOG: want + bytes([0, 100])})


@micro
def stack() -> MicroRom:
    """PUSH, POP, LD (nn),SP, LD SP,HL, stacks in HRAM and WRAM; POP AF drops the low bits of F."""
    source = f"""
    ld hl, 0x1234
    ld sp, 0xfffe
    push hl
    pop bc              ; through HRAM
    ld sp, 0xd010
    push bc
    ld bc, 0xabff
    push bc
    pop af
    push af
    ld hl, {LOG}
    ld (0xc010), sp
    ld a, (0xd00c)
    ld (hl+), a         ; F
    ld a, (0xd00d)
    ld (hl+), a
    ld a, (0xd00e)
    ld (hl+), a
    ld a, (0xd00f)
    ld (hl+), a
    ld hl, 0xd100
    ld sp, hl
    inc sp
    ld (0xc012), sp
    dec sp
    dec sp
    ld (0xc014), sp
    ld sp, 0xd200
    call deep
    ld a, d
    ld (0xc016), a
    jp done
deep:
    ld d, 0
    ld b, 200
again:
    push bc
    call once
    pop bc
    dec b
    jr nz, again
    ret
once:
    inc d
    ret
"""
    expect = {LOG: b"\xf0\xab\x34\x12", 0xC010: b"\x0c\xd0\x01\xd1\xff\xd0\xc8"}
    return MicroRom(program(source), 3, expect)


# T-cycles of opcodes 00-FF that go on to the next instruction, 0 for the others: the table of Pan Docs / gbops.
CYCLES = "".join(
    ["1322112152221121", "0322112102221121", "0322112102221121", "0322333102221121"]
    + ["1111112111111121"] * 3
    + ["2222220211111121"]
    + ["1111112111111121"] * 4
    + ["0300042000000020", "0300042000000020", "3320042040400020", "3321042032410020"]
)


def _cycles(form: Form) -> int:
    """M-cycles of a plain form."""
    if len(form.code) == 2:
        return 2 if form.operands[-1] != "(hl)" else 3 if form.name == "bit" else 4
    return int(CYCLES[form.code[0]])


@micro
def cycles() -> MicroRom:
    """The length of every plain opcode: 16 of it in WRAM, timed by TIMA, which counts 16 T-cycles."""
    forms = [form for form in plain_forms() if "sp" not in form.operands[0:1] or form.name == "add"]
    forms = [form for form in forms if form.name not in ("pop",) and form.operands[:1] != ("(c)",)]
    forms = [form for form in forms if not (form.name == "ldh" and form.operands == ("(c)", "a"))]
    cases = [(form.code + _number_of(form)).ljust(3, b"\0") + bytes([form.length]) for form in forms]
    source = f"""
    {LCD_OFF}
    ld a, 5
    ldh (TAC), a
    ld bc, cases
    ld hl, {LOG}
next:
    ld (0xdff2), sp
    push hl
    ld hl, 0xd000
    ld d, 16
copy:
    push bc
    inc bc
    inc bc
    inc bc
    ld a, (bc)
    dec bc
    dec bc
    dec bc
    ld e, a
byte:
    ld a, (bc)
    ld (hl+), a
    inc bc
    dec e
    jr nz, byte
    pop bc
    dec d
    jr nz, copy
    ld (hl), 0xc3
    inc hl
    ld (hl), low(back)
    inc hl
    ld (hl), high(back)
    inc bc
    inc bc
    inc bc
    inc bc
    ld a, c
    ldh (0xffa0), a
    ld a, b
    ldh (0xffa1), a
    ld bc, 0xd1a0
    ld de, 0xd1b0
    ld hl, 0xd1c0
    ld sp, 0xdfc0
    ld a, 0
    ldh (DIV), a
    ldh (TIMA), a
    jp 0xd000
back:
    ldh a, (TIMA)
    ld sp, 0xdfee
    pop hl
    ld (hl+), a
    ldh a, (0xffa0)
    ld c, a
    ldh a, (0xffa1)
    ld b, a
    ld a, b
    cp high(cases_end)
    jp nz, next
    ld a, c
    cp low(cases_end)
    jp nz, next
    jp done
cases = 0x4100
cases_end = {0x4100 + len(cases) * 4}
"""
    want = bytes(4 * _cycles(form) + EXTRA_TICKS for form in forms)
    return MicroRom(program(source, data={0x4100: b"".join(cases)}), 40, {LOG: want})


EXTRA_TICKS = 3  # from the DIV write on, the TIMA write, both jumps and the reading: 56 T-cycles


# M-cycles of what changes PC or SP, taken and not: Pan Docs, "CPU Instruction Set".
CONTROL_CYCLES = {
    "jr @": 3, "jr nz, @": 2, "jr z, @": 3, "jr nc, @": 3, "jr c, @": 2, "jp @": 4, "jp nz, @": 3, "jp z, @": 4,
    "jp nc, @": 4, "jp c, @": 3, "call leave": 10, "call nz, leave": 3, "call z, leave": 10, "call z, late": 12,
    "call late_nz": 14, "rst 0x30": 8, "push bc": 4, "pop bc": 3, "push af": 4, "ld hl, @\n jp hl": 4,
    "ld sp, 0xdfc0": 3, "ld sp, hl": 2, "inc sp": 2, "dec sp": 2, "add sp, -1": 4, "ld hl, sp + 1": 3,
    "ld (0xd100), sp": 5, "di": 1, "call back": 10, "ldh (c), a": 2, "ldh a, (c)": 2,
}  # fmt: skip


@micro
def cycles_of_control() -> MicroRom:
    """The length of jumps, calls, returns and stack operations with Z set and C clear: sixteen of each, by TIMA."""
    pieces = []
    for i, text in enumerate(CONTROL_CYCLES):
        row = "\n".join(f"{text.replace('@', f'c{i}x{k}')}\nc{i}x{k}:" for k in range(16))
        pieces.append(f"""
    ld sp, 0xdfc0
    ld hl, 0xdfc0
    ld bc, 0xa0
    ld a, 0
    cp a
    ldh (DIV), a
    ldh (TIMA), a
{row}
    ldh a, (TIMA)
    ld sp, 0xdff0
    call store""")
    source = f"""
    {LCD_OFF}
    ld a, 5
    ldh (TAC), a
    ld de, {LOG}
    {"".join(pieces)}
    jp done
store:
    ld (de), a
    inc de
    ret
leave:
    ret
late:
    ret nz
    ret
late_nz:
    ret c
    ret nz
    ret
back:
    reti
org 0x30
    ret
"""
    want = bytes(4 * cycles + 1 for cycles in CONTROL_CYCLES.values())
    return MicroRom(program(source), 5, {LOG: want})
