"""Cartridges for the benchmark, assembled by hand."""

_ENTRY, _PROGRAM = 0x100, 0x150
_TYPES = {0: (0x00, 0), 0x8000: (0x1A, 3)}  # bytes of RAM: no mapper, or MBC5 with RAM; the code of the size


def alu_rom() -> bytes:
    """Arithmetic, logic, rotations and 16-bit sums without end: no memory, no interrupts."""
    start = "f3 013412 117755 210099"  # di; ld bc,$1234; ld de,$5577; ld hl,$9900
    loop = bytes.fromhex(
        "80 89 aa 93 07 04 0d bc"  # add a,b; adc a,c; xor d; sub e; rlca; inc b; dec c; cp h
        "cb37 cb1a 19 b5 1f 1c ce11"  # swap a; rr d; add hl,de; or l; rra; inc e; adc a,$11
        "9b a4 2f 24 cb01 cb2b 09"  # sbc a,e; and h; cpl; inc h; rlc c; sra e; add hl,bc
        "a8 d605 8f"  # xor b; sub $05; adc a,a
    )
    back = bytes([0x18, 0x100 - len(loop) - 2])  # jr to its first instruction
    return _cartridge(bytes.fromhex(start) + loop + back, "ALU")


def ram_rom() -> bytes:
    """Writes a byte in each 256 of the video RAM, the work RAM and 32 KiB of its own, so that their pages are really
    there, and halts for good."""
    program = bytes.fromhex("f3 3e0a ea0000")  # di; ld a,$0a; ld ($0000),a: the RAM is on
    program += _touch(0x80, 0xA0) + _touch(0xC0, 0xE0)
    for bank in range(4):
        program += bytes([0x3E, bank, 0xEA, 0x00, 0x40]) + _touch(0xA0, 0xC0)  # ld a,bank; ld ($4000),a
    return _cartridge(program + bytes.fromhex("76 18fd"), "RAM", ram=0x8000)  # halt; jr to it


def _touch(first: int, last: int) -> bytes:
    """ld (page * 256),a for the pages of [first, last)."""
    return b"".join(bytes([0xEA, 0x00, page]) for page in range(first, last))


def _cartridge(program: bytes, title: str, *, ram: int = 0) -> bytes:
    """An image of 32 KiB whose entry point jumps to `program`. Source: Pan Docs, "The Cartridge Header"."""
    image = bytearray(0x8000)
    image[_ENTRY : _ENTRY + 4] = bytes([0x00, 0xC3, *_PROGRAM.to_bytes(2, "little")])  # nop; jp
    image[0x134 : 0x134 + len(title)] = title.encode("ascii")
    image[0x147], image[0x149] = _TYPES[ram]
    image[0x14D] = -sum(image[0x134:0x14D]) - 25 & 0xFF
    image[_PROGRAM : _PROGRAM + len(program)] = program
    image[0x14E:0x150] = (sum(image) & 0xFFFF).to_bytes(2, "big")
    return bytes(image)
