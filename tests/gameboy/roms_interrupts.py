"""Micro-ROMs of interrupts, HALT, the timer, the serial port and the joypad."""

from tests.gameboy.micro import LCD_OFF, LOG, MicroRom, endless, micro, program

# Every handler notes the low byte of its address in the log; `extra` runs in it with A free.
RECORD = """
record:
    push hl
    ld h, a
    ldh a, (0xff80)
    ld l, a
    inc a
    ldh (0xff80), a
    ld a, h
    ld h, 0xc0
    ld (hl), a
    pop hl
    ret
"""


def handlers(extra: dict[int, str] | None = None) -> str:
    """Code for all five vectors."""
    out = []
    for vector in (0x40, 0x48, 0x50, 0x58, 0x60):
        out.append(f"org {vector}\n push af\n ld a, {vector}\n jp h{vector}")
    out.append("org 0x3000")
    for vector in (0x40, 0x48, 0x50, 0x58, 0x60):
        out.append(f"h{vector}: call record\n {(extra or {}).get(vector, '')}\n pop af\n reti")
    return "\n".join(out) + RECORD


QUIET = f"{LCD_OFF}\n ld a, 0\n ldh (0xff80), a\n ldh (TAC), a\n ldh (IF), a\n"


def note(value: str) -> str:
    """Log one byte from the main program."""
    return f"ld a, {value}\n call record\n"


@micro
def interrupt_order() -> MicroRom:
    """All five sources at once are taken by priority; IE masks them; IF is cleared one by one."""
    source = f"""{QUIET}
    ld a, 0x1f
    ldh (IE), a
    ldh (IF), a
    ei
    nop
    nop
    ldh a, (IF)
    call record
    ld a, 0x0a
    ldh (IE), a
    ld a, 0x1f
    ldh (IF), a
    nop
    nop
    ldh a, (IF)
    call record
    di
    ld a, 0x1f
    ldh (IE), a
    nop
    {note("1")}
    jp done
    {handlers()}"""
    want = bytes([0x40, 0x48, 0x50, 0x58, 0x60, 0xE0, 0x48, 0x58, 0xF5, 1])
    return MicroRom(program(source), 6, {LOG: want})


@micro
def interrupt_nesting() -> MicroRom:
    """A handler that enables interrupts is interrupted itself; RETI returns through both."""
    inner = "ld a, 0x04\n ldh (IF), a\n ei\n nop\n nop\n ld a, 0x41\n call record"
    source = f"""{QUIET}
    ld a, 0x1f
    ldh (IE), a
    ei
    ld a, 1
    ldh (IF), a
    nop
    {note("2")}
    jp done
    {handlers({0x40: inner})}"""
    return MicroRom(program(source), 6, {LOG: bytes([0x40, 0x50, 0x41, 2])})


@micro
def ei_delay() -> MicroRom:
    """EI counts after the instruction behind it; EI DI lets nothing through; RETI counts at once. Pan Docs, "IME"."""
    seen = handlers({0x50: "ld a, b\n call record\n ld b, 7", 0x58: "ld a, b\n call record"})
    source = f"""{QUIET}
    ld a, 0x04
    ldh (IE), a
    ldh (IF), a
    ld b, 0
    ei
    inc b
    inc b
    inc b
    di
    ld a, 0x04
    ldh (IF), a
    ei
    di
    nop
    nop
    {note("0x11")}
    ld a, 0
    ldh (IF), a
    ld hl, 0xc020
    ld a, 0x0c
    ldh (IE), a
    ldh (IF), a
    ei
    nop
    nop
    di
    {note("0x12")}
    jp done
    {seen}"""
    return MicroRom(program(source), 6, {LOG: bytes([0x50, 1, 0x11, 0x50, 9, 0x58, 7, 0x12])})


@micro
def interrupt_ie_push() -> MicroRom:
    """The push of PC onto IE: cancelled (to 0x0000), redirected to a lower priority, or too late (the low byte)."""
    source = f"""{QUIET}
    ld a, 0x04
    ldh (IE), a
    ldh (IF), a
    ld sp, 0x0000       ; the high byte of PC goes to IE
    ei
    nop
    nop
    nop
    jp done
org 0
    ld (0xc020), sp
    ld sp, 0xdff0
    ldh a, (IF)
    call record         ; 0xe4: the request stays
    ldh a, (IE)
    call record         ; the high byte of PC
    ld a, 0
    ldh (IF), a
    ld a, 0x44
    ld (0xc010), a
    jp second
    {handlers()}
org 0x1800              ; high byte 0x18: bits 3 and 4
second:
    ld a, 0x1f
    ldh (IE), a
    ld a, 0x0a
    ldh (IF), a
    ld sp, 0x0000
    ei
    nop
    nop
org 0x58
    ld sp, 0xdff0       ; bit 1 was masked by the push, bit 3 not
    jp third
org 0x2000
third:
    ldh a, (IF)
    call record
    ld a, 0x10
    ldh (IE), a
    ldh (IF), a
    ld sp, 0x0001       ; the low byte goes to IE: too late to matter
    ei
    nop
    nop
org 0x60
    ld sp, 0xdff0
    jp fourth
org 0x2100
fourth:
    ldh a, (IF)
    call record
    ldh a, (IE)
    call record
    jp done
"""
    return MicroRom(program(source), 6, {0xC010: b"\x44", LOG: b"\xe4\x01\xe2\xe0"})


@micro
def interrupt_dispatch_cycles() -> MicroRom:
    """How long an interrupt takes to its handler, by TIMA at 16 T-cycles over four phases; and HALT's wake-up."""
    pieces = []
    for phase in range(8):
        nops = "\n".join(["nop"] * phase)
        pieces.append(f"""
    ld a, 5
    ldh (TAC), a
    ld a, 8
    ldh (IE), a
    ei
    nop
    ld a, 0
    ldh (DIV), a
    ldh (TIMA), a
    {nops}
    ld a, 8
    ldh (IF), a
    nop
    call record""")
    for phase in range(8):
        nops = "\n".join(["nop"] * phase)
        pieces.append(f"""
    ld a, 0
    ldh (IF), a
    ld a, 4
    ldh (IE), a
    ei
    ld a, 0
    ldh (DIV), a
    ld a, 0xf0
    ldh (TIMA), a
    {nops}
    halt
    nop
    call record""")
    source = f"""{QUIET}
    {"".join(pieces)}
    jp done
org 0x58
    ldh a, (TIMA)
    reti
org 0x50
    ldh a, (DIV)
    ldh a, (TIMA)
    reti
org 0x2000
{RECORD}"""
    return MicroRom(program(source), 8)


@micro
def halt() -> MicroRom:
    """HALT ends by an interrupt with IME on, and goes on behind itself with IME off (Pan Docs, "halt")."""
    source = f"""{QUIET}
    ld a, 5
    ldh (TAC), a
    ld a, 4
    ldh (IE), a
    ei
    ld b, 3
wait:
    halt
    dec b
    jr nz, wait
    di
    ld b, 3
wait_off:
    ld a, 0
    ldh (IF), a
    halt
    inc b
    dec b
    dec b
    jr nz, wait_off
    {note("0x21")}
    ldh a, (IF)
    call record
    ld a, 0
    ldh (IF), a
    ei
    halt
    nop
    di
    {note("0x22")}
    jp done
    {handlers()}"""
    return MicroRom(program(source), 9, {LOG: bytes([0x50, 0x50, 0x50, 0x21, 0xE4, 0x50, 0x22])})


@micro
def ei_halt() -> MicroRom:
    """EI HALT with a request pending: the handler returns to HALT (Pan Docs, "halt", last paragraph)."""
    start = handlers({0x50: "ld a, 5\n ldh (TAC), a"})  # so that the HALT ends again
    source = f"""{QUIET}
    ld a, 4
    ldh (IE), a
    ldh (IF), a
    ei
    halt
    nop
    {note("0x31")}
    jp done
    {start}"""
    return MicroRom(program(source), 6, {LOG: bytes([0x50, 0x50, 0x31])})


TAC_PERIODS = (1024, 16, 64, 256)


@micro
def timer_rates() -> MicroRom:
    """TIMA at each rate, sampled every 20 T-cycles, with overflow, TMA and the interrupt; DIV beside it."""
    pieces = []
    for rate in range(4):
        pieces.append(f"""
    ld a, 0
    ldh (IF), a
    ldh (TAC), a
    ld a, 0xf3
    ldh (TMA), a
    ldh (DIV), a
    ld a, 0xfd
    ldh (TIMA), a
    ld a, {4 + rate}
    ldh (TAC), a
    ld hl, {LOG + rate * 0x200}
    ld b, 0
s{rate}:
    ldh a, (TIMA)
    ld (hl+), a
    dec b
    jr nz, s{rate}
    ldh a, (IF)
    ld (hl+), a
    ldh a, (DIV)
    ld (hl+), a
    ldh a, (TAC)
    ld (hl+), a
    ldh a, (TMA)
    ld (hl+), a
""")
    pieces.append(f"""
    ld hl, {LOG + 0x800}
    ldh (DIV), a
    ld b, 0
divs:
    ldh a, (DIV)
    ld (hl+), a
    push bc
    pop bc
    dec b
    jr nz, divs
""")
    return MicroRom(program(QUIET + "".join(pieces)), 8)


def sweep(name: str, count: int, body: str, store: str, start: str) -> str:
    """`body` at `count` moments, one M-cycle apart: `start` first, then as many NOPs; `store` logs through HL."""
    return "\n".join(f"{start}\n" + "nop\n" * i + f"{body.replace('@', f'{name}{i}')}\n{store}" for i in range(count))


FROM_FD = """
    ld a, 0
    ldh (TAC), a
    ldh (IF), a
    ld a, 0x77
    ldh (TMA), a
    ld a, 5
    ldh (TAC), a
    ldh (DIV), a
    ld a, 0xfe
    ldh (TIMA), a
"""
STORE = """
    ld (hl+), a
    ldh a, (TIMA)
    ld (hl+), a
    ldh a, (IF)
    ld (hl+), a
"""


def _sweeps(bodies: list[str], start: str = FROM_FD, count: int = 14, store: str = STORE) -> MicroRom:
    source = f"{QUIET}\n ld hl, {LOG}\n ld de, TIMA\n ld bc, 0xff05\n"
    source += "\n".join(sweep(f"w{i}x", count, body, store, start) for i, body in enumerate(bodies))
    return MicroRom(program(source), 7)


@micro
def timer_read_moment() -> MicroRom:
    """Readings of TIMA by each addressing, at every M-cycle around an overflow: which cycle of it reads."""
    return _sweeps(["ldh a, (TIMA)", "ld a, (TIMA)", "ldh a, (c)", "ld a, (de)", "push hl\n ld h, d\n ld l, e\n"
                    " ld a, (hl)\n pop hl", "ldh a, (IF)", "push hl\n ld hl, IF\n bit 2, (hl)\n push af\n pop hl\n"
                    " ld a, l\n pop hl"])  # fmt: skip


@micro
def timer_write_moment() -> MicroRom:
    """Writes of TIMA, TMA and IF by each addressing around an overflow: the reload window of four T-cycles."""
    by_hl = "push hl\n ld hl, {}\n ld (hl), 0x55\n pop hl"
    return _sweeps(["ld a, 0x55\n ldh (TIMA), a", "ld a, 0x55\n ldh (TMA), a", "ld a, 0x55\n ld (TIMA), a",
                    "ld a, 0\n ldh (IF), a", by_hl.format("TIMA"), by_hl.format("TMA"), "ld a, 0x56\n ldh (c), a",
                    "ld a, 0x57\n ld (de), a"])  # fmt: skip


@micro
def timer_read_modify_write() -> MicroRom:
    """INC, DEC, SET, RES, SWAP of (HL) on TIMA around an overflow: the reading and the writing cycle."""
    bodies = [f"push hl\n ld h, d\n ld l, e\n {text} (hl)\n pop hl"
              for text in ("inc", "dec", "set 3,", "res 0,", "swap", "srl")]  # fmt: skip
    return _sweeps(bodies)


@micro
def timer_stack_moment() -> MicroRom:
    """POP from TIMA and TMA around an overflow."""
    pop = "ld (0xdff4), sp\n ld sp, TIMA\n pop bc\n ld sp, 0xdff0\n ld a, b\n add a, c\n ld bc, 0xff05"
    return _sweeps([pop])


@micro
def timer_div_write() -> MicroRom:
    """Writing DIV clears the counter and counts TIMA once if the selected bit was 1, at every phase and rate."""
    bodies = []
    for rate in (1, 2):
        start = f"ld a, {4 + rate}\n ldh (TAC), a\n ldh (DIV), a\n ld a, 0x10\n ldh (TIMA), a\n"
        bodies.append(sweep(f"v{rate}x", 20, "ldh (DIV), a", STORE, start))
    source = f"{QUIET}\n ld hl, {LOG}\n" + "\n".join(bodies)
    return MicroRom(program(source), 7)


@micro
def timer_tac_write() -> MicroRom:
    """Writing TAC where the selected bit falls counts TIMA once, for every pair of rates and of the enable bit."""
    bodies = []
    for old in (4, 5, 6, 7):
        for new in (0, 1, 4, 5, 6, 7):
            start = f"ld a, {old}\n ldh (TAC), a\n ldh (DIV), a\n ld a, 0x10\n ldh (TIMA), a\n"
            for wait in (1, 3, 8, 12, 30):
                label = f"t{len(bodies)}"
                body = f"ld b, {wait}\n{label}: dec b\n jr nz, {label}\n ld a, {new}\n ldh (TAC), a"
                bodies.append(f"{start}\n{body}\n ldh a, (TIMA)\n ld (hl+), a")
    source = f"{QUIET}\n ld hl, {LOG}\n" + "\n".join(bodies)
    return MicroRom(program(source), 9)


@micro
@endless
def timer_interrupts() -> MicroRom:
    """An endless count of timer interrupts at the quickest rate beside a main loop that is never in step with them."""
    source = f"""
    ld a, 0xe5
    ldh (TMA), a
    ld a, 5
    ldh (TAC), a
    ld a, 4
    ldh (IE), a
    ei
    ld hl, 0xc100
main:
    inc (hl)
    jr nz, main
    inc hl
    ld a, l
    and 0x3f
    ld l, a
    jr main
org 0x50
    push af
    push hl
    ld hl, {LOG}
    inc (hl)
    jr nz, more
    inc hl
    inc (hl)
more:
    ldh a, (DIV)
    ld l, a
    ld h, 0xc2
    inc (hl)
    pop hl
    pop af
    reti
"""
    return MicroRom(program(source), 12)


@micro
def serial() -> MicroRom:
    """A transfer with nobody at the other end: SB fills with ones, SC bit 7 falls, the interrupt comes."""
    source = f"""{QUIET}
    ld a, 8
    ldh (IE), a
    ld a, 0x00
    ldh (SB), a
    ld a, 0x81
    ldh (SC), a
    ei
    halt
    nop
    di
    ldh a, (SB)
    call record
    ldh a, (SC)
    call record
    ld a, 0x80          ; a clock from outside never comes
    ldh (SC), a
    ld b, 0
idle:
    dec b
    jr nz, idle
    ldh a, (IF)
    call record
    jp done
    {handlers()}"""
    return MicroRom(program(source), 6, {LOG: bytes([0x58, 0xFF, 0x7F, 0xE0])})


@micro
@endless
def joypad() -> MicroRom:
    """Both halves of the joypad read four times a frame, VBlank by VBlank, counted key by key."""
    source = f"""
    ld a, 1
    ldh (IE), a
    ei
    ld hl, {LOG}
frame:
    halt
    nop
    ld c, 0
    ld a, 0x20
    call look
    ld a, 0x10
    call look
    ld a, 0x30
    ldh (P1), a
    ldh a, (0xff90)
    inc a
    ldh (0xff90), a
    jr frame
look:
    ldh (P1), a
    ldh a, (P1)
    ldh a, (P1)
    and 0x0f
    ld (hl), a
    inc l
    ld e, a
    ld d, 0xc1
    ld a, (de)
    inc a
    ld (de), a
    ret
org 0x40
    reti
"""
    return MicroRom(program(source), 20)


@micro
@endless
def joypad_interrupt() -> MicroRom:
    """HALT until a direction is pressed, whose half P1 selects; the handler counts, the main program reads P1."""
    source = f"""
    ld a, 0x20
    ldh (P1), a
    ld a, 0x10
    ldh (IE), a
    ld a, 0
    ldh (IF), a
    ei
    ld hl, {LOG}
wait:
    halt
    nop
    ld a, 0x20
    ldh (P1), a
    ldh a, (P1)
    and 0x0f
    inc l
    ld (hl), a
    jr wait
org 0x60
    push af
    push hl
    ld hl, 0xc200
    inc (hl)
    pop hl
    pop af
    reti
"""
    return MicroRom(program(source), 5)
