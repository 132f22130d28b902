"""Micro-ROMs of memory: OAM DMA from every region, the echo of WRAM, and bank switching with RAM and clock."""

from tests.gameboy.assembler import finish
from tests.gameboy.micro import LCD_OFF, LOG, MicroRom, alone, micro, program

# Copied to HRAM at 0xff80: start a DMA from page A and wait 4 x 40 M-cycles and some.
DMA_CODE = """
    ld hl, 0xff80
    ld de, dma_code
    ld b, dma_end - dma_code
copy_dma:
    ld a, (de)
    ld (hl+), a
    inc de
    dec b
    jr nz, copy_dma
"""
DMA_ROUTINE = """
dma_code:
    ldh (DMA), a
    ld a, 45
dma_wait:
    dec a
    jr nz, dma_wait
    ret
dma_end:
"""
FILL = """
fill:                   ; 160 bytes at HL, each the last times 5 plus 7, from A on
    ld b, 160
fill_byte:
    ld (hl+), a
    ld c, a
    add a, a
    add a, a
    add a, c
    add a, 7
    dec b
    jr nz, fill_byte
    ret
"""


def _filled(seed: int) -> bytes:
    out = [seed]
    while len(out) < 160:
        out.append((out[-1] * 5 + 7) & 0xFF)
    return bytes(out)


@micro
def oam_dma() -> MicroRom:
    """DMA from ROM 0, the banked ROM, VRAM, cartridge RAM, WRAM and its echo, also where that lies under OAM."""
    in_rom = bytes((i * 7 + 3) & 0xFF for i in range(160))
    in_bank = bytes((i * 11 + 5) & 0xFF for i in range(160))
    pages = (0x30, 0x51, 0x92, 0xA3, 0xC8, 0xD9, 0xDE, 0xE8, 0xFE)
    sources = [in_rom, in_bank, _filled(0x92), _filled(0xA3), _filled(0xC8), _filled(0xD9), _filled(0xDE)]
    sources += [_filled(0xC8), _filled(0xDE)]
    fills = "\n".join(f"ld hl, {page << 8}\n ld a, {page}\n call fill" for page in pages[2:7])
    runs = "\n".join(f"""
    ld a, {page}
    call 0xff80
    ldh a, (DMA)
    ld (0xc7f0), a
    ld hl, 0xfe00
    ld de, {LOG + i * 160}
    call take
""" for i, page in enumerate(pages))  # fmt: skip
    source = f"""
    {LCD_OFF}
    ld a, 10
    ld (0x0000), a
    ld a, 3
    ld (0x2000), a
    {fills}
    {DMA_CODE}
    {runs}
    jp done
take:
    ld b, 160
take_byte:
    ld a, (hl+)
    ld (de), a
    inc de
    dec b
    jr nz, take_byte
    ret
{FILL}
{DMA_ROUTINE}"""
    image = program(source, mapper=5, rom_banks=4, ram=0x2000, data={0x3000: in_rom, 3 * 0x4000 + 0x1100: in_bank})
    return MicroRom(image, 8, {LOG: b"".join(sources)})


@micro
@alone
def oam_dma_odd() -> MicroRom:
    """DMA from VRAM while that is drawn from, from RAM that is switched off, and OAM written while DMA runs."""
    take = "ld hl, 0xfe00\n ld de, {0}\n call take"
    source = f"""
    {LCD_OFF}
    ld hl, 0x9200
    ld a, 0x92
    call fill
    ld hl, 0xc800
    ld a, 0xc8
    call fill
    {DMA_CODE}
    ld a, 0x81
    ldh (LCDC), a
on: ldh a, (LY)
    cp 20
    jr nz, on
    ld a, 0x92
    call 0xff80         ; longer than a line
    ld hl, here_off
    push hl
    jp lcd_off
here_off:
    {take.format(LOG)}
    ld a, 0xa3
    call 0xff80
    {take.format(LOG + 160)}
    ld hl, 0xfe02
    ld b, 20
    ld a, 0xc8
    ldh (DMA), a
run:
    dec b
    jr nz, run
    ld (hl), 0x99       ; its byte has come already
    ld a, 45
    call 0xff80 + dma_wait - dma_code
    {take.format(LOG + 320)}
    jp done
lcd_off:
    ldh a, (LY)
    cp 144
    jr nz, lcd_off
    ld a, 0
    ldh (LCDC), a
    ret
take:
    ld b, 160
take_byte:
    ld a, (hl+)
    ld (de), a
    inc de
    dec b
    jr nz, take_byte
    ret
{FILL}
{DMA_ROUTINE}"""
    want = _filled(0x92) + b"\xff" * 160 + _filled(0xC8)
    return MicroRom(program(source, mapper=5, rom_banks=4, ram=0x2000), 8, {LOG: want})


@micro
def oam_dma_moment() -> MicroRom:
    """OAM read at every M-cycle of a DMA's beginning and around its end."""
    return _oam_dma_moment("ldh (DMA), a")


@micro
def oam_dma_twice() -> MicroRom:
    """The same for a DMA that is started anew before its first byte."""
    return _oam_dma_moment("ldh (DMA), a\n ldh (DMA), a")


@micro
def oam_dma_twice_later() -> MicroRom:
    """The same for one that is started anew after a few bytes."""
    return _oam_dma_moment("ldh (DMA), a\n nop\n nop\n nop\n nop\n ldh (DMA), a")


def _oam_dma_moment(start: str) -> MicroRom:
    """OAM read so many M-cycles after `start`."""
    waits = (*range(1, 6), 40, *range(150, 172))
    code = "\n".join("nop" for _ in range(180))
    source = f"""
    {LCD_OFF}
    ld hl, 0xc800
    ld a, 0x41
    call fill
    ld hl, 0xc900
    ld a, 0x17
    call fill
    ld bc, {LOG}
    ld de, waits
next:
    ld a, (de)
    cp 0xff
    jp z, done
    inc de
    push de
    ld e, a             ; jump so far before the end of the row of NOPs in HRAM's caller
    call run
    pop de
    ld (bc), a
    inc bc
    jr next
run:
    ld hl, row_end
    ld a, l
    sub e
    ld l, a
    ld a, h
    sbc a, 0
    ld h, a
    ld a, 0xc8
    push hl
    ld hl, 0xfe00
    {start}
    ret                 ; into the row
    {code}
row_end:
    ld a, (hl)
    ld e, a
    ld l, 50
    ld d, (hl)
    ld a, e
    ld (0xc100), a
    ld h, 50
wait:
    dec h
    jr nz, wait
    ret
waits:
    db {", ".join(map(str, waits))}, 0xff
{FILL}"""
    return MicroRom(program(source), 8)


@micro
def oam_dma_restart() -> MicroRom:
    """A DMA started while another runs goes on with its own page from the first byte."""
    source = f"""
    {LCD_OFF}
    ld hl, 0xc800
    ld a, 0x41
    call fill
    ld hl, 0xc900
    ld a, 0x17
    call fill
    ld hl, 0xff80
    ld de, code
    ld b, code_end - code
copy:
    ld a, (de)
    ld (hl+), a
    inc de
    dec b
    jr nz, copy
    call 0xff80
    ld hl, 0xfe00
    ld de, {LOG}
    ld b, 160
take:
    ld a, (hl+)
    ld (de), a
    inc de
    dec b
    jr nz, take
    jp done
code:
    ld a, 0xc8
    ldh (DMA), a
    ld b, 20
first:
    dec b
    jr nz, first
    ld a, 0xc9
    ldh (DMA), a
    ld b, 60
second:
    dec b
    jr nz, second
    ret
code_end:
{FILL}"""
    return MicroRom(program(source), 5, {LOG: _filled(0x17)})


@micro
def echo() -> MicroRom:
    """E000-FDFF is C000-DDFF again, for reading and for writing (Pan Docs, "Echo RAM")."""
    source = f"""
    ld hl, 0xe100
    ld de, 0xc100
    ld b, 0
write:
    ld a, b
    xor 0x5a
    ld (hl+), a
    dec b
    jr nz, write
    ld b, 0
    ld hl, {LOG}
check:
    ld a, (de)
    push de
    ld c, a
    ld a, d
    add a, 0x20
    ld d, a
    ld a, (de)
    cp c
    jr z, same
    ld (hl), b
same:
    pop de
    inc de
    dec b
    jr nz, check
    ld a, 0x77
    ld (0xfdff), a
    ld a, (0xddff)
    ld (0xc001), a
    ld a, 0x66
    ld (0xddfe), a
    ld a, (0xfdfe)
    ld (0xc002), a
"""
    return MicroRom(program(source), 3, {LOG: b"\0\x77\x66"})


def _marks(banks: int) -> dict[int, bytes]:
    """Every bank with its number near its end."""
    return {bank * 0x4000 + 0x3FF0: bank.to_bytes(2, "little") for bank in range(banks)}


class Banks:
    """A program of writes to the mapper and looks at memory, with what each look must see."""

    def __init__(self) -> None:
        self.code, self.want = [f"ld bc, {LOG}"], bytearray()

    def set(self, address: int, value: int) -> None:
        self.code.append(f"ld a, {value}\n ld ({address}), a")

    def see(self, address: int, want: int) -> None:
        self.code.append(f"ld a, ({address})\n ld (bc), a\n inc bc")
        self.want.append(want & 0xFF)

    def see_bank(self, high: int, low: int | None = None) -> None:
        self.see(0x7FF0, high)
        self.see(0x7FF1, high >> 8)
        if low is not None:
            self.see(0x3FF0, low)

    def rom(self, *, mapper: int, rom_banks: int, ram: int = 0, clock: bool = False, frames: int = 4) -> MicroRom:
        body = LCD_OFF + "\n".join(self.code)
        image = program(body, mapper=mapper, rom_banks=rom_banks, ram=ram, clock=clock, data=_marks(rom_banks))
        return MicroRom(image, frames, {LOG: bytes(self.want)})


def _ram(work: Banks, enable: int = 0x0A) -> None:
    """RAM off reads FF and keeps nothing; on, it keeps."""
    work.set(0x0000, 0)
    work.set(0xA000, 0x12)
    work.see(0xA000, 0xFF)
    work.set(0x0000, enable)
    work.set(0xA000, 0x34)
    work.set(0xBFFF, 0x35)
    work.see(0xA000, 0x34)
    work.see(0xBFFF, 0x35)
    work.set(0x0000, 0x0B)
    work.see(0xA000, 0xFF)
    work.set(0xA000, 0x99)
    work.set(0x1FFF, enable)
    work.see(0xA000, 0x34)


@micro
def mbc1_rom() -> MicroRom:
    """MBC1 with 128 banks: 5 + 2 bits, 0 read as 1 (so no 20, 40, 60), and mode 1, which moves 0000-3FFF too."""
    work = Banks()
    for mode in (0, 1):
        work.set(0x6000, mode)
        for upper in range(4):
            work.set(0x4000, upper)
            for lower in (0, 1, 2, 0x11, 0x1F, 0x20, 0x23, 0xE0):
                work.set(0x2000, lower)
                work.see_bank(upper << 5 | (lower & 31 or 1), upper << 5 if mode else 0)
    built = work.rom(mapper=1, rom_banks=128)
    image = bytearray(built.image)
    for bank in (0x20, 0x40, 0x60):  # mode 1 takes these for bank 0: the program must be there too
        image[bank * 0x4000 : bank * 0x4000 + 0x3FF0] = image[:0x3FF0]
    return built._replace(image=finish(image))


@micro
def mbc1_ram() -> MicroRom:
    """MBC1 with 4 RAM banks: enabled by xA, banked in mode 1 only; a small ROM's bank numbers wrap."""
    work = Banks()
    _ram(work, 0x3A)
    work.set(0x6000, 1)
    for bank in range(4):
        work.set(0x4000, bank)
        work.set(0xA123, 0x40 + bank)
    for bank in range(4):
        work.set(0x4000, bank)
        work.see(0xA123, 0x40 + bank)
    work.set(0x6000, 0)
    work.see(0xA123, 0x40)
    work.set(0x4000, 0)
    for lower in (3, 4, 5, 9, 0x10, 0x1F):
        work.set(0x3FFF, lower)
        work.see_bank(lower % 8)
    return work.rom(mapper=1, rom_banks=8, ram=0x8000)


@micro
def mbc2() -> MicroRom:
    """MBC2: address bit 8 tells the bank register from the RAM switch; 512 half bytes, 16 times over A000-BFFF."""
    work = Banks()
    for value in (0, 1, 2, 7, 15, 16, 0x23):
        work.set(0x2100, value)
        work.see_bank(value & 15 or 1)
        work.set(0x0100, value)
        work.see_bank(value & 15 or 1)
        work.set(0x2000, 9)  # bit 8 clear: the RAM switch
        work.see_bank(value & 15 or 1)
    work.set(0x0000, 0x0A)
    work.see(0xA010, 0xF0)  # never written
    work.set(0xA000, 0x57)
    work.set(0xA1FF, 0x38)
    for base in range(0xA000, 0xC000, 0x600):
        work.see(base & ~0x1FF, 0xF7)
        work.see(base | 0x1FF, 0xF8)
    work.set(0x3E00, 0)
    work.see(0xA000, 0xFF)
    return work.rom(mapper=2, rom_banks=16)


@micro
def mbc3() -> MicroRom:
    """MBC3: 7 bits, 0 read as 1; 4 RAM banks."""
    work = Banks()
    for value in (0, 1, 2, 0x1F, 0x20, 0x40, 0x60, 0x7F, 0x80, 0xA1):
        work.set(0x2000, value)
        work.see_bank(value & 0x7F or 1, 0)
    _ram(work)
    for bank in range(4):
        work.set(0x4000, bank)
        work.set(0xA222, 0x50 + bank)
    for bank in (3, 0, 2, 1):
        work.set(0x5FFF, bank)
        work.see(0xA222, 0x50 + bank)
    return work.rom(mapper=3, rom_banks=128, ram=0x8000)


def _latched(work: Banks, wanted: dict[int, int]) -> None:
    work.set(0x6000, 0)
    work.set(0x6000, 1)
    for register, want in wanted.items():
        work.set(0x4000, register)
        work.see(0xA000, want)


@micro
def mbc3_clock() -> MicroRom:
    """The clock: halted, set to the last second of day 511, let run for two seconds; the day's carry; latches."""
    work = Banks()
    work.set(0x0000, 0x0A)
    for register, value in ((12, 0x41), (8, 59), (9, 59), (10, 23), (11, 0xFF)):
        work.set(0x4000, register)
        work.set(0xA000, value)
    _latched(work, {8: 59, 9: 59, 10: 23, 11: 0xFF, 12: 0x41})
    work.set(0x4000, 12)
    work.set(0xA000, 0x01)
    work.code.append("call seconds")
    _latched(work, {8: 1, 9: 0, 10: 0, 11: 0, 12: 0x80})
    work.code.append("call seconds")
    for register, want in ((8, 1), (9, 0), (10, 0), (11, 0), (12, 0x80)):
        work.set(0x4000, register)
        work.see(0xA000, want)
    _latched(work, {8: 3, 9: 0, 10: 0, 11: 0, 12: 0x80})
    work.set(0x4000, 3)
    work.set(0xA000, 0x77)
    work.see(0xA000, 0x77)
    return _clock_rom(work, 285)


@micro
def mbc3_clock_odd() -> MicroRom:
    """Halted, the clock stands; after 63 seconds come 0 and no minute; 1 latches after 0 only; RAM off hides it."""
    work = Banks()
    work.set(0x0000, 0x0A)
    for register, value in ((12, 0x40), (8, 62), (9, 7)):
        work.set(0x4000, register)
        work.set(0xA000, value)
    work.code.append("call seconds")
    _latched(work, {8: 62, 9: 7})
    work.set(0x4000, 9)
    work.set(0xA000, 8)
    work.set(0x6000, 1)
    work.see(0xA000, 7)
    _latched(work, {9: 8})
    work.set(0x0000, 0)
    work.see(0xA000, 0xFF)
    work.set(0x0000, 0x0A)
    work.set(0x4000, 12)
    work.set(0xA000, 0)
    work.code.append("call seconds")
    _latched(work, {8: 0, 9: 8})
    work.set(0x4000, 8)
    for _ in range(2):  # writing the seconds begins one
        work.set(0xA000, 20)
        work.code.append("call part")
    _latched(work, {8: 20, 9: 8})
    return _clock_rom(work, 375)


def _clock_rom(work: Banks, frames: int) -> MicroRom:
    """The program, which may call `seconds`, 9 x 65536 x 16 T-cycles or 2.25 seconds, and `part`, half a second."""
    body = "\n".join(work.code)
    wait = """
seconds:
    push bc
    ld d, 9
s0: ld b, 0
s1: ld c, 0
s2: dec c
    jr nz, s2
    dec b
    jr nz, s1
    dec d
    jr nz, s0
    pop bc
    ret
part:
    push bc
    ld d, 2
    jp s0
"""
    image = program(f"{LCD_OFF}\n{body}\n jp done\n{wait}", mapper=3, clock=True, rom_banks=4, ram=0x8000)
    return MicroRom(image, frames, {LOG: bytes(work.want)})


def _mbc5(rom_banks: int) -> MicroRom:
    work = Banks()
    for value in (0, 1, 2, 0x20, 0x3F, 0x40, 0xFF, 0x100, 0x101, 0x1AB, 0x1FF):
        work.set(0x2000, value & 0xFF)
        work.set(0x3000, value >> 8)
        work.see_bank(value % rom_banks, 0)
    work.set(0x3000, 0xFE)  # one bit counts
    work.set(0x2FFF, 7)
    work.see_bank(7)
    _ram(work)
    for bank in range(16):
        work.set(0x4000, bank)
        work.set(0xA333, 0x60 + bank)
    for bank in range(15, -1, -1):
        work.set(0x4000, bank)
        work.see(0xA333, 0x60 + bank)
    work.set(0x0000, 0x1A)  # all eight bits count
    work.see(0xA333, 0xFF)
    return work.rom(mapper=5, rom_banks=rom_banks, ram=0x20000)


@micro
def mbc5() -> MicroRom:
    """MBC5 with 64 banks: bank 0 at 4000 too, 16 RAM banks, RAM enabled by 0A only."""
    return _mbc5(64)


@micro
def mbc30() -> MicroRom:
    """An MBC3 of 256 banks takes all eight bits."""
    work = Banks()
    for value in (0, 1, 0x7F, 0x80, 0xA1, 0xFF):
        work.set(0x2000, value)
        work.see_bank(value or 1, 0)
    return work.rom(mapper=3, rom_banks=256)


@micro
def mbc5_512() -> MicroRom:
    """MBC5 with all 512 banks: the ninth bit."""
    return _mbc5(512)


def banks_seen(cases: list[tuple[int, int, int]]) -> MicroRom:
    """An MBC1 of 64 banks in mode 0: (upper register, lower register, bank that must be seen)."""
    work = Banks()
    for upper, lower, bank in cases:
        work.set(0x4000, upper)
        work.set(0x2000, lower)
        work.see_bank(bank)
    return work.rom(mapper=1, rom_banks=64)
