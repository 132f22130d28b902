"""Micro-ROMs of what PyBoy does not do: the values are those of Pan Docs, and GameBoy runs them alone."""

import numpy as np

from tests.gameboy.assembler import finish
from tests.gameboy.micro import LCD_OFF, LOG, MicroRom, alone, micro, pictured, program
from tests.gameboy.roms_interrupts import FROM_FD
from tests.gameboy.roms_memory import Banks, banks_seen


@micro
@alone
def halt_bug() -> MicroRom:
    """HALT with interrupts off and one pending reads the byte behind it twice. Pan Docs, "halt bug"."""
    source = f"""
    {LCD_OFF}
    ld a, 4
    ldh (IE), a
    ldh (IF), a
    ld a, 0
    halt
    inc a
    ld ({LOG}), a
    ld b, 0
    halt
    ld b, 5             ; 06 06 05: b is 6, and 5 is DEC B
    ld a, b
    ld ({LOG + 1}), a
"""
    return MicroRom(program(source), 5, {LOG: b"\x02\x05"})


@micro
@alone
def store_sp_moment() -> MicroRom:
    """LD (nn),SP writes in its fourth and fifth M-cycle: as LD (nn),A and a NOP, and as a NOP and LD (nn),A.

    TAC and DIV are written at every M-cycle around an overflow of TIMA, either way, and must show the same.
    """
    pairs = (("ld sp, 0x0000", "ld (TAC), sp", "ld a, 0", "ld (TAC), a\n nop"),
             ("ld sp, 0x0000", "ld (0xff03), sp", "ld a, 0", "nop\n ld (DIV), a"))  # fmt: skip
    store = "ldh a, (TIMA)\n ld (hl+), a\n ldh a, (IF)\n ld (hl+), a\n"
    code = [f"ld hl, {LOG}"]
    for first_sp, by_sp, first_a, by_a in pairs:
        for first, how in ((f"{first_sp}\n ld a, 0", by_sp), (f"{first_sp}\n {first_a}", by_a)):
            code += [f"{FROM_FD}\n {first}\n" + "nop\n" * i + f"{how}\n nop\n nop\n {store}" for i in range(12)]
    check = "\n".join(f"""
    ld hl, {LOG + 48 * pair}
    ld de, {LOG + 48 * pair + 24}
    ld b, 24
c{pair}:
    ld a, (de)
    cp (hl)
    jr z, same{pair}
    inc c
same{pair}:
    inc hl
    inc de
    dec b
    jr nz, c{pair}
""" for pair in range(2))  # fmt: skip
    body = "\n".join(code)
    source = f"{LCD_OFF}\n{body}\n ld sp, 0xdff0\n ld c, 0\n{check}\n ld a, c\n ld (0xc100), a"
    return MicroRom(program(source), 5, {0xC100: b"\0"})


@micro
@alone
def p1_reads() -> MicroRom:
    """P1 with no key held, by selection: bits 7 and 6 are 1, 5 and 4 as written. Pan Docs, "Joypad Input"."""
    looks = "\n".join(
        f"ld a, {value}\n ldh (P1), a\n ldh a, (P1)\n ld (hl+), a" for value in (0x20, 0x10, 0x30, 0, 0xFF)
    )
    return MicroRom(program(f"ld hl, {LOG}\n{looks}"), 3, {LOG: b"\xef\xdf\xff\xcf\xff"})


@micro
@alone
def unusable() -> MicroRom:
    """FEA0 to FEFF: on a DMG reads 00 while OAM is free, and keeps nothing. Pan Docs, "Memory Map"."""
    source = f"""
    {LCD_OFF}
    ld a, 0x55
    ld (0xfea0), a
    ld (0xfeff), a
    ld a, (0xfea0)
    ld ({LOG}), a
    ld a, (0xfeff)
    ld ({LOG + 1}), a
"""
    return MicroRom(program(source), 4, {LOG: b"\0\0"})


@micro
@alone
def rom_only() -> MicroRom:
    """A cartridge without a mapper does not hear writes to ROM. Pan Docs, "No MBC"."""
    source = f"""
    ld a, 0
    ld (0x2000), a
    ld a, 2
    ld (0x2100), a
    ld (0x6000), a
    ld a, (0x7ff0)
    ld ({LOG}), a
    ld a, (0xa000)
    ld ({LOG + 1}), a
"""
    return MicroRom(program(source, data={0x7FF0: b"\x77"}), 3, {LOG: b"\x77\xff"})


@micro
@alone
def locks() -> MicroRom:
    """VRAM in mode 3, OAM in modes 2 and 3: reads FF, writes are lost. Pan Docs, "Accessing VRAM and OAM"."""

    def at_mode(mode: int, code: str, label: str) -> str:
        """Run `code` in that mode of some line."""
        return f"""
{label}:
    ldh a, (STAT)
    and 3
    cp {(mode + 3) % 4 if mode != 2 else 0}
    jr nz, {label}
{label}b:
    ldh a, (STAT)
    and 3
    cp {mode}
    jr nz, {label}b
    {code}
"""

    source = f"""
    {LCD_OFF}
    ld a, 0x11
    ld (0x8000), a
    ld (0xfe00), a
    ld a, 0x91
    ldh (LCDC), a
wait:
    ldh a, (LY)
    cp 20
    jr nz, wait
    ld hl, 0x8000
    ld de, 0xfe00
    {at_mode(3, "ld (hl), 0x22", "a1")}
    {at_mode(3, "ld a, (hl)", "a2")}
    ld ({LOG}), a
    ld hl, 0xfe00
    {at_mode(3, "ld (hl), 0x22", "a3")}
    {at_mode(3, "ld a, (de)", "a4")}
    ld ({LOG + 1}), a
    {at_mode(2, "ld (hl), 0x33", "a5")}
    {at_mode(2, "ld a, (hl)", "a6")}
    ld ({LOG + 2}), a
wait2:
    ldh a, (LY)
    cp 144
    jr nz, wait2
    ld a, (0x8000)
    ld ({LOG + 3}), a
    ld a, (0xfe00)
    ld ({LOG + 4}), a
"""
    return MicroRom(program(source), 5, {LOG: b"\xff\xff\xff\x11\x11"})


@micro
@alone
def serial_length() -> MicroRom:
    """Eight bits at 8192 Hz take 4096 T-cycles, also beyond a frame's end. Pan Docs, "Serial Data Transfer"."""
    source = f"""
    {LCD_OFF}
    ld hl, {LOG}
    ld d, 40            ; more than two frames
again:
    ld a, 0x81
    ldh (SC), a
    ld b, 254           ; 8 + 254 * 16 - 4
late:
    dec b
    jr nz, late
    nop
    nop
    nop
    ldh a, (SC)         ; 4092 after the write
    ld (hl+), a
    ld a, 0x81
    ldh (SC), a
    ld b, 255
over:
    dec b
    jr nz, over
    ldh a, (SC)         ; 4096
    ld (hl+), a
    dec d
    jr nz, again
"""
    return MicroRom(program(source), 8, {LOG: b"\xff\x7f" * 40})


@micro
@alone
def serial_data() -> MicroRom:
    """SB reads back what was written, and ones when a transfer has ended. Pan Docs, "Serial Data Transfer"."""
    source = f"""
    ld hl, {LOG}
    ldh a, (SB)
    ld (hl+), a
    ld a, 0x5a
    ldh (SB), a
    ldh a, (SB)
    ld (hl+), a
    ld a, 0x80          ; a clock from outside never comes
    ldh (SC), a
    ldh a, (SB)
    ld (hl+), a
    ld a, 0x81
    ldh (SC), a
wait:
    ldh a, (SC)
    and 0x80
    jr nz, wait
    ldh a, (SB)
    ld (hl+), a
"""
    return MicroRom(program(source), 3, {LOG: b"\x00\x5a\x5a\xff"})


@micro
def port_masks() -> MicroRom:
    """Bits that no port has read 1, ports that there are not FF; IE keeps all. Pan Docs, "Hardware Registers"."""
    ports = (0x02, 0x03, 0x07, 0x08, 0x0E, 0x0F, 0x41, 0x4C, 0x4D, 0x4F, 0x51, 0x55, 0x68, 0x70, 0x7F)
    zeroed = "\n".join(f"ldh (0xff{port:02x}), a" for port in ports if port != 0x41)
    looks = "\n".join(f"ldh a, (0xff{port:02x})\n ld (hl+), a" for port in ports)
    source = (
        f"{LCD_OFF}\n ld a, 0\n ldh (STAT), a\n ld a, 200\n ldh (LYC), a\n ld a, 0\n{zeroed}\n ld hl, {LOG}\n{looks}\n"
        "ld a, 0xe5\n ldh (IE), a\n ldh a, (IE)\n ld (hl+), a"
    )
    want = bytes([0x7E, 0xFF, 0xF8, 0xFF, 0xFF, 0xE0, 0x80, *[0xFF] * 8, 0xE5])
    return MicroRom(program(source), 4, {LOG: want})


@micro
@alone
def sound_masks() -> MicroRom:
    """Sound registers read back what was written, with ones where nothing can be read. Pan Docs, "Audio Registers"."""
    masks = bytes.fromhex("803f00ffbf ff3f00ffbf 7fff9fffbf ffff0000bf 0000".replace(" ", ""))
    looks = "\n".join(f"ldh a, (0xff{0x10 + i:02x})\n ld (hl+), a" for i in range(len(masks)))
    clear = "\n".join(f"ldh (0xff{0x10 + i:02x}), a" for i in range(len(masks)))
    source = f"ld a, 0x80\n ldh (0xff26), a\n ld a, 0\n{clear}\n ld hl, {LOG}\n{looks}"
    return MicroRom(program(source), 3, {LOG: masks})


@micro
@alone
def sound_off() -> MicroRom:
    """As a DMG starts; NR52 off clears the registers below it, which then keep nothing, but waves. Pan Docs, "FF26"."""
    looks = "".join(f"ldh a, (0xff{port:02x})\n ld (hl+), a\n" for port in (0x11, 0x12, 0x24, 0x25, 0x30))
    source = f"""
    ld a, 0xa5
    ldh (0xff30), a
    ld hl, {LOG}
    {looks}
    ld a, 0
    ldh (0xff26), a
    {looks}
    ld a, 0xff
    ldh (0xff12), a
    ld a, 0x80
    ldh (0xff26), a
    {looks}
"""
    off = bytes([0x3F, 0, 0, 0, 0xA5])
    return MicroRom(program(source), 3, {LOG: bytes([0xBF, 0xF3, 0x77, 0xF3, 0xA5]) + off + off})


@micro
@alone
def mbc3_latch() -> MicroRom:
    """All five registers of the clock are read as they were latched. Pan Docs, "MBC3"."""
    work = Banks()
    work.set(0x0000, 0x0A)
    work.set(0x4000, 12)
    work.set(0xA000, 0xC1)
    work.set(0x6000, 0)
    work.set(0x6000, 1)
    work.set(0xA000, 0x00)
    work.see(0xA000, 0xC1)
    return work.rom(mapper=3, rom_banks=4, ram=0x8000, clock=True)


@micro
@alone
@pictured
def lcd_off_is_white() -> MicroRom:
    """With BGP = FF a picture is black; switched off, the LCD is white. Pan Docs, "LCDC.7"."""
    image = program(f"ld a, 0xff\n ldh (BGP), a\n{LCD_OFF}\n jr here")
    return MicroRom(image, 5, picture=lambda: np.zeros((144, 160), np.uint8))


@micro
def mbc1_multicart() -> MicroRom:
    """Games side by side on an MBC1: the lower register counts with 4 bits. Pan Docs, "MBC1M"."""
    lowers = (0, 1, 7, 0x10, 0x1F)
    built = banks_seen(
        [(upper, lower, upper << 4 | (lower & 15 if lower else 1)) for upper in range(4) for lower in lowers]
    )
    image = bytearray(built.image)
    for bank in range(64):
        image[bank * 0x4000 + 0x104 : bank * 0x4000 + 0x134] = bytes(range(48))
    return built._replace(image=finish(image))
