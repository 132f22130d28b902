"""Random programs that do not wander off: every jump goes to a label, every address is forced into memory.

They keep clear of where emulators differ by design: sound, VRAM and OAM while the LCD draws, the LCD's switch, P1,
serial transfers, STOP, and HALT with interrupts off and one pending.
"""

import random

from tests.gameboy.assembler import assemble
from tests.gameboy.micro import LCD_OFF, PORTS, MicroRom, program
from tests.gameboy.opcodes import FORMS, Form

STACK_TOP, HRAM = 0xFFFE, range(0x80, 0xA0)
TIMER_PORTS, PICTURE_PORTS = (
    ("DIV", "TIMA", "TMA", "TAC", "IF"),
    ("STAT", "SCX", "SCY", "LYC", "WX", "WY", "BGP", "OBP0"),
)
READ_PORTS = (*TIMER_PORTS, *PICTURE_PORTS, "LY", "LCDC", "IE", "SC")
CONTROL = {"jp", "jr", "call", "ret", "reti", "rst", "halt", "stop", "di", "ei", "push", "pop"}
MAPPERS = ((0, 2, 0), (1, 8, 0x8000), (2, 8, 0), (3, 8, 0x8000), (5, 8, 0x8000))
SUBROUTINES = 4
OBJECTS = 0x1800  # four tables of 64; none hides behind the background, where PyBoy differs (lockstep.EXCEPTIONS)


class Fuzz:
    """Writes one program. In WRAM, code lies at 0xd000 and data below it."""

    def __init__(self, seed: int) -> None:
        self.rng, self.labels = random.Random(seed), 0
        self.in_wram = self.rng.random() < 0.4
        self.waits = self.rng.random() < 0.5  # for VBlank: such a program goes round a few times only
        self.mapper, self.banks, self.ram = self.rng.choice(MAPPERS)
        self.plain = [
            form for form in FORMS.values() if form.name not in CONTROL and "sp" not in " ".join(form.operands)
        ]

    def byte(self) -> int:
        """A byte, edges more often."""
        return self.rng.choice((0, 1, 15, 16, 127, 128, 255, self.rng.randrange(256)))

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def aim(self, pair: str) -> list[str]:
        """Force a pair into WRAM without making it always the same."""
        high = {"bc": "b", "de": "d", "hl": "h"}[pair]
        return [f"set 7, {high}", f"set 6, {high}", f"res 5, {high}", *([f"res 4, {high}"] if self.in_wram else [])]

    def address(self) -> int:
        """Somewhere in memory that may be written."""
        return self.rng.randrange(0xC000, 0xD000 if self.in_wram else 0xDF00)

    def plain_one(self) -> list[str]:
        """One instruction that goes on to the next, with what makes it harmless before it."""
        form: Form = self.rng.choice(self.plain)
        text, before = " ".join(form.operands), []
        for pair in ("hl", "bc", "de"):
            if f"({pair}" in text:
                before = self.aim(pair)
        if "(c)" in text:
            before = [f"ld c, {self.rng.choice(HRAM)}"]
        number = {
            "N": self.byte(), "NN": self.address() if "(NN)" in text else self.rng.randrange(0x10000),
            "H": 0xFF00 + self.rng.choice(HRAM), "B": form.code[-1] >> 3 & 7, "": 0,
        }[form.kind]  # fmt: skip
        operands = [x.replace(form.kind, str(number)) if form.kind else x for x in form.operands]
        return [*before, f"{form.name} {', '.join(operands)}"]

    def block(self, length: int, depth: int = 0) -> list[str]:
        """Some instructions."""
        out: list[str] = []
        for _ in range(length):
            kind = self.rng.random()
            out += self.plain_one() if kind < 0.7 or depth > 2 else self.special(depth)
        return out

    def special(self, depth: int) -> list[str]:
        """Jumps, the stack, ports, banks, interrupts."""
        makers = [
            self.jump,
            self.jump,
            self.push,
            self.port,
            self.port,
            self.read_port,
            self.call,
            self.stack,
            self.bank,
        ]
        makers += [self.interrupts, *([self.wait, self.transfer] if self.waits else [])]
        return self.rng.choice(makers)(depth)

    def jump(self, depth: int) -> list[str]:
        label, condition = self.label(), self.rng.choice(("", "nz, ", "z, ", "nc, ", "c, "))
        name = self.rng.choice(("jr", "jp", "hl"))
        inside = self.block(self.rng.randrange(4), depth + 1)
        first = f"ld hl, {label}\n jp hl" if name == "hl" else f"{'jp' if name == 'jp' else 'jr'} {condition}{label}"
        return [first, *inside, f"{label}:"]

    def push(self, depth: int) -> list[str]:
        pairs = ("af", "bc", "de", "hl")
        inside = self.block(self.rng.randrange(3), depth + 1)
        return [f"push {self.rng.choice(pairs)}", *inside, f"pop {self.rng.choice(pairs)}"]

    def port(self, depth: int) -> list[str]:
        name = self.rng.choice((*TIMER_PORTS, *PICTURE_PORTS, "LCDC", "SC", "IE"))
        value = self.byte()
        if name == "LCDC":
            value |= 0x81
        elif name == "SC":  # no transfer: PyBoy's are too quick (lockstep.EXCEPTIONS)
            value &= 0x7E
        elif name == "TAC":
            value = self.rng.randrange(8)
        elif name in ("IF", "IE"):
            value &= 0x0F
        way = self.rng.randrange(4)
        if way == 0:
            return [f"ld a, {value}", f"ld ({name}), a"]
        if way == 1:
            return [f"ld a, {value}", f"ld c, low({name})", "nop", "ldh (c), a"]
        if way == 2:
            return [f"ld hl, {name}", f"ld (hl), {value}"]
        return [f"ld a, {value}", f"ldh ({name}), a"]

    def read_port(self, depth: int) -> list[str]:
        """The NOPs are for PyBoy, whose LCD changes at most once between two instructions."""
        name = self.rng.choice(READ_PORTS)
        register = self.rng.choice("bcdeh")
        return self.rng.choice((
            [f"ldh a, ({name})"], [f"ld a, ({name})", f"ld {register}, a"],
            [f"ld c, low({name})", "nop", "ldh a, (c)"], [f"ld hl, {name}", "nop", f"ld {register}, (hl)"],
            [f"ld hl, {name}", "nop", "add a, (hl)"], [f"ld hl, {name}", "nop", "bit 1, (hl)"],
        ))  # fmt: skip

    def call(self, depth: int) -> list[str]:
        if self.rng.random() < 0.3:
            return [f"rst {8 * self.rng.randrange(8)}"]
        return [f"call {self.rng.choice(('', 'nz, ', 'z, ', 'nc, ', 'c, '))}sub{self.rng.randrange(SUBROUTINES)}"]

    def stack(self, depth: int) -> list[str]:
        """SP moved down and back; its value taken."""
        down = self.rng.randrange(1, 16)
        moved = ["dec sp"] * down if down < 3 else [f"add sp, {-down}"]
        back = ["inc sp"] * down if self.rng.random() < 0.3 else [f"add sp, {down}"]
        taken = [f"ld hl, sp + {self.rng.randrange(-128, 128)}", f"ld ({self.address()}), sp"]
        return [*moved, self.rng.choice(taken), *back]

    def bank(self, depth: int) -> list[str]:
        """A write to the mapper, a look at the bank and at the cartridge's RAM."""
        if self.mapper == 0:
            return [f"ld a, ({self.rng.randrange(0x1000, 0x8000)})"]
        region = self.rng.choice((0x0000, 0x0000, 0x2000, 0x2100, 0x4000, *([0x3000] if self.mapper == 5 else [])))
        value = self.rng.choice((0x0A, 0x0A, 0)) if region == 0 else self.rng.randrange(8)
        if region == 0x4000:
            value &= 3
        if region == 0x3000:
            value = 0
        out = [f"ld a, {value}", f"ld ({region + self.rng.randrange(0x100)}), a"]
        look = self.rng.choice((0x4000, 0xA000))
        out.append(f"ld a, ({look + self.rng.randrange(0x2000)})")
        if look == 0xA000:
            out.append(f"ld (0xa000 + {self.rng.randrange(0x2000)}), a")
        return out

    def interrupts(self, depth: int) -> list[str]:
        return [self.rng.choice(("di", "ei\n nop", "ei\n nop", "ei\n di"))]

    def wait(self, depth: int) -> list[str]:
        return [f"ld a, {1 | self.rng.randrange(8)}", "ldh (IE), a", "ei", "nop", "halt", "nop"]

    def transfer(self, depth: int) -> list[str]:
        """OAM DMA in VBlank, from the tables of objects."""
        page = self.rng.randrange(OBJECTS >> 8, (OBJECTS >> 8) + 4)
        return ["di", "ld a, 0", "ldh (IF), a", "inc a", "ldh (IE), a", "ei", "nop", "halt", "nop", f"ld a, {page}",
                "ldh (DMA), a"]  # fmt: skip

    def build(self) -> MicroRom:
        """The program, endless."""
        rng = self.rng
        body = ["main:", *self.block(60), "jp main"]
        for i in range(SUBROUTINES):
            early = [f"ret {rng.choice(('nz', 'z', 'nc', 'c'))}"] if rng.random() < 0.5 else []
            body += [f"sub{i}:", *self.block(6, 3), *early, *self.block(3, 3), "ret"]
        vectors = [
            f"org {v}\n {rng.choice(('inc d', 'dec l', 'cpl', 'rla', 'swap e'))}\n ret" for v in range(0, 0x40, 8)
        ]
        for i, v in enumerate((0x40, 0x48, 0x50, 0x58, 0x60)):
            vectors.append(f"org {v}\n push af\n push hl\n jp handler{i}")
        ends = "ld (0xdf10), a\n pop hl\n pop af\n reti"
        for i in range(5):
            look = rng.choice(("nop", "ldh a, (LY)", "ldh a, (DIV)"))
            vectors.append(f"org 0x800 + 32 * {i}\nhandler{i}:\n ld hl, 0xdf00 + {i}\n inc (hl)\n {look}\n {ends}")
        return self.image(body, vectors)

    def clocks(self) -> list[str]:
        """Interrupts on from the start, the timer's too, in most programs."""
        values = {"TAC": self.rng.randrange(8), "TMA": self.byte(), "IE": self.rng.randrange(16), "STAT": self.byte()}
        writes = [f"ld a, {value}\n ldh ({name}), a" for name, value in values.items()]
        return [*writes, *(["ei"] if self.rng.random() < 0.8 else [])]

    def image(self, body: list[str], rest: list[str]) -> MicroRom:
        rng = self.rng
        start = [LCD_OFF, "ld hl, 0x6000", "ld de, 0x8000", "ld bc, 0x1f00", "call copy", f"ld hl, {OBJECTS}",
                 "ld de, 0xfe00", "ld bc, 160", "call copy"]  # fmt: skip
        tables = bytes(rng.randrange(256) & (0x7F if i % 4 == 3 else 0xFF) for i in range(0x400))
        data = {0x4000: rng.randbytes(0x4000 * (self.banks - 1)), OBJECTS: tables}
        if self.in_wram:
            code = assemble(PORTS + "\n" + "\n".join(body), 0xD000).code
            assert len(code) < 0xE00, len(code)
            data[0x4000] = code + data[0x4000][len(code) :]
            start += ["ld hl, 0x4000", "ld de, 0xd000", "ld bc, 0xe00", "call copy"]
            body = ["main = 0xd000"]
        copy = "copy: ld a, (hl+)\n ld (de), a\n inc de\n dec bc\n ld a, b\n or c\n jr nz, copy\n ret"
        registers = [f"ld a, {rng.randrange(256)}\n ldh ({name}), a" for name in PICTURE_PORTS]
        first = [
            *start,
            *registers,
            f"ld sp, {STACK_TOP}",
            "ld a, 0x93",
            "ldh (LCDC), a",
            *self.clocks(),
            "jp main",
            copy,
        ]
        source = "\n".join([*first, *body, "jp main", *rest])
        return MicroRom(program(source, mapper=self.mapper, rom_banks=self.banks, ram=self.ram, data=data), 12)
