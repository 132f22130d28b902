"""Micro-ROMs of the picture: modes and their interrupts, scenes, registers changed in the middle of a frame."""

import random
from collections.abc import Sequence

from tests.gameboy.micro import LCD_OFF, LOG, MicroRom, alone, endless, micro, pictured, program
from tests.gameboy.picture import picture

SPRITES_ON, TALL, LOW_TILES, WINDOW_ON, BG_ON, LCD_ON = 0x02, 0x04, 0x10, 0x20, 0x01, 0x80


def _tiles(rng: random.Random) -> bytes:
    """384 tiles: noise, stripes and blank ones, so that priorities show."""
    out = bytearray()
    for tile in range(384):
        kind = tile % 4
        for row in range(8):
            if kind == 0:
                out += bytes([rng.randrange(256), rng.randrange(256)])
            elif kind == 1:
                out += bytes([0xF0 >> (row & 3) & 0xFF, (tile * 29 + row * 3) & 0xFF])
            elif kind == 2:
                out += bytes([0x81 if row in (0, 7) else 0x42, 0])
            else:
                out += bytes([0, 0xFF if row == tile % 8 else 0])
    return bytes(out)


def _vram(seed: int) -> bytes:
    rng = random.Random(seed)
    return _tiles(rng) + bytes(rng.randrange(256) for _ in range(0x800))


def _random_oam(seed: int, behind: bool = False) -> bytes:
    """40 sprites anywhere, edges and beyond included, with all attributes, or all but hiding behind the background."""
    rng = random.Random(seed)
    mask = 0xF0 if behind else 0x70
    return b"".join(bytes([rng.randrange(168), rng.randrange(176), rng.randrange(256), rng.randrange(256) & mask])
                    for _ in range(40))  # fmt: skip


def _row_oam(seed: int, behind: bool = False) -> bytes:
    """Crowds: more than ten on a line, equal and near X, X of 0 and of 168 that count and do not show."""
    rng = random.Random(seed)
    out, mask = b"", 0xF0 if behind else 0x70
    for i in range(40):
        y = 16 + (i // 14) * 30 + (0 if i % 3 else rng.randrange(4))
        x = (0, 8, 10, 12, 12, 168, 160, 80, 83, 83, 90, 40, 44, 48)[i % 14]
        out += bytes([y, x, rng.randrange(256), rng.randrange(256) & mask])
    return out


NOPS = "\n".join(["nop"] * 114)
COPY = """
copy:                   ; bc bytes from hl to de
    ld a, (hl+)
    ld (de), a
    inc de
    dec bc
    ld a, b
    or c
    jr nz, copy
    ret
"""


def _registers(values: dict[str, int]) -> str:
    return "\n".join(f"ld a, {value & 0xFF}\n ldh ({name}), a" for name, value in values.items())


def scene(vram: bytes, oam: bytes, *, registers: dict[str, int], lcdc: int, code: str = "", vectors: str = "",
          data: dict[int, bytes] | None = None, lines: dict[str, Sequence[int]] | None = None) -> MicroRom:  # fmt: skip
    """A picture: VRAM, OAM and registers are set with the LCD off, then `code` runs, or nothing.

    lines: registers that are another on each of the 144 lines, as `code` sees to.
    """
    source = f"""
    {LCD_OFF}
    ld hl, 0x4000
    ld de, 0x8000
    ld bc, 0x2000
    call copy
    ld hl, 0x6000
    ld de, 0xfe00
    ld bc, 160
    call copy
    {_registers(registers)}
    ld a, {LCD_ON | lcdc}
    ldh (LCDC), a
    {code or "jr here"}
{COPY}
{vectors}
org 0x3f00
"""
    fixed = registers | {"LCDC": LCD_ON | lcdc}
    ports = [fixed | {name: values[line] for name, values in (lines or {}).items()} for line in range(144)]
    image = program(source, data={0x4000: vram, 0x6000: oam, **(data or {})})
    return MicroRom(image, 13, picture=lambda: picture(vram, oam, ports))


PLAIN = {"SCX": 0, "SCY": 0, "WX": 7, "WY": 0, "BGP": 0xE4, "OBP0": 0xD2, "OBP1": 0x1B}


@micro
@pictured
def background() -> MicroRom:
    """The background, unsigned tiles, map 0, scrolled to wrap both ways."""
    return scene(_vram(1), bytes(160), registers=PLAIN | {"SCX": 203, "SCY": 187}, lcdc=BG_ON | LOW_TILES)


@micro
@pictured
def background_signed() -> MicroRom:
    """Signed tile numbers, map 1, another palette."""
    return scene(_vram(2), bytes(160), registers=PLAIN | {"SCX": 5, "SCY": 250, "BGP": 0x1E}, lcdc=BG_ON | 0x08)


@micro
@pictured
def background_off() -> MicroRom:
    """LCDC bit 0 off: colour 0 everywhere, sprites over it."""
    return scene(_vram(3), _random_oam(3), registers=PLAIN, lcdc=SPRITES_ON)


@micro
@alone
@pictured
def background_off_behind() -> MicroRom:
    """LCDC bit 0 off: a sprite behind the background is seen, as that has colour 0; the window is off as well."""
    return scene(_vram(3), _random_oam(3, behind=True), registers=PLAIN | {"WX": 50, "WY": 30},
                 lcdc=SPRITES_ON | WINDOW_ON)  # fmt: skip


@micro
@pictured
def window() -> MicroRom:
    """A window from the middle on, with the other map."""
    return scene(_vram(4), bytes(160), registers=PLAIN | {"WX": 60, "WY": 45, "SCX": 13},
                 lcdc=BG_ON | LOW_TILES | WINDOW_ON | 0x40)  # fmt: skip


@micro
@pictured
def window_edges() -> MicroRom:
    """WX 7 to 0 pixels at the left, 166, 167 and WX under 7, one a line, set during HBlank by hand."""
    table = bytes([7, 8, 7, 15, 100, 165, 166, 167, 200, 3, 9, 0] * 12)
    return _raster("WX", table, 5, lcdc=BG_ON | LOW_TILES | WINDOW_ON | 0x40, registers={"WY": 3})


@micro
@pictured
def window_lines() -> MicroRom:
    """The window's own line counter: switched off and on again in LCDC, it goes on where it was."""
    on = LCD_ON | BG_ON | LOW_TILES | WINDOW_ON | 0x40
    table = bytes(on if line // 10 % 2 else on & ~WINDOW_ON for line in range(144))
    return _raster("LCDC", table, 6, lcdc=on, registers={"WY": 5, "WX": 30})


@micro
@pictured
def window_wy() -> MicroRom:
    """WY moved below and above the line in the middle of the frame: the window starts once WY was met."""
    table = bytes(200 if line < 20 else line if line == 40 else 10 if line < 60 else 143 for line in range(144))
    return _raster("WY", table, 7, lcdc=BG_ON | LOW_TILES | WINDOW_ON, registers={"WX": 90, "WY": 200})


@micro
@pictured
def sprites() -> MicroRom:
    """Forty 8x8 sprites, all attributes, over a background that some hide behind."""
    return scene(_vram(8), _random_oam(8), registers=PLAIN, lcdc=BG_ON | LOW_TILES | SPRITES_ON)


@micro
@alone
@pictured
def sprites_behind() -> MicroRom:
    """Sprites behind the background, and behind one another: the one in front hides the others even where it hides."""
    return scene(_vram(8), _random_oam(8, behind=True), registers=PLAIN, lcdc=BG_ON | LOW_TILES | SPRITES_ON)


@micro
@alone
@pictured
def sprites_crowd_behind() -> MicroRom:
    """Crowds on few lines, tall, with a window, some behind it."""
    return scene(_vram(11), _row_oam(11, behind=True), registers=PLAIN | {"WX": 70, "WY": 20},
                 lcdc=BG_ON | LOW_TILES | SPRITES_ON | TALL | WINDOW_ON)  # fmt: skip


@micro
@pictured
def sprites_tall() -> MicroRom:
    """Forty 8x16 sprites with flips; odd tile numbers."""
    return scene(_vram(9), _random_oam(9), registers=PLAIN | {"SCX": 3}, lcdc=BG_ON | SPRITES_ON | TALL)


@micro
@pictured
def sprites_crowd() -> MicroRom:
    """More than ten sprites a line, ties in X, sprites off the screen that count."""
    return scene(_vram(10), _row_oam(10), registers=PLAIN, lcdc=BG_ON | LOW_TILES | SPRITES_ON)


@micro
@pictured
def sprites_crowd_tall() -> MicroRom:
    """The same with tall sprites and a window above the background."""
    return scene(_vram(11), _row_oam(11), registers=PLAIN | {"WX": 70, "WY": 20},
                 lcdc=BG_ON | LOW_TILES | SPRITES_ON | TALL | WINDOW_ON)  # fmt: skip


def _raster(name: str, table: bytes, seed: int, *, lcdc: int = BG_ON | LOW_TILES | SPRITES_ON,
            registers: dict[str, int] | None = None) -> MicroRom:  # fmt: skip
    """The register takes table[LY + 1] in the HBlank of each line, by the STAT interrupt of mode 0."""
    code = """
    ld a, 0x08
    ldh (STAT), a
    ld a, 3
    ldh (IE), a
    ei
wait:
    halt
    nop
    jr wait
"""
    vectors = f"""
org 0x40
    push af
    ld a, (0x7000)
    ldh ({name}), a
    pop af
    reti
org 0x48
    push af
    push hl
    ldh a, (LY)
    inc a
    ld l, a
    ld h, 0x70
    ld a, (hl)
    ldh ({name}), a
    pop hl
    jp handled
org 0x3000
handled:
    pop af
    reti
"""
    tables = {0x7000: (table + table)[:256]}
    return scene(_vram(seed), _random_oam(seed), registers=PLAIN | (registers or {}), lcdc=lcdc, code=code,
                 vectors=vectors, data=tables, lines={name: table})  # fmt: skip


@micro
@pictured
def raster_scx() -> MicroRom:
    """SCX another on every line."""
    return _raster("SCX", bytes((line * 3 + line // 7) & 0xFF for line in range(144)), 12)


@micro
@pictured
def raster_scy() -> MicroRom:
    """SCY another on every line."""
    return _raster("SCY", bytes((line * line // 9) & 0xFF for line in range(144)), 13)


@micro
@pictured
def raster_bgp() -> MicroRom:
    """BGP another on every line."""
    return _raster("BGP", bytes((line * 37 + 11) & 0xFF for line in range(144)), 14)


@micro
@pictured
def raster_obp() -> MicroRom:
    """OBP0 another on every line."""
    return _raster("OBP0", bytes((line * 53 + 7) & 0xFF for line in range(144)), 15)


@micro
@pictured
def raster_lcdc() -> MicroRom:
    """LCDC another on every line: maps, tile data, sprites, their size, window and background."""
    rng = random.Random(16)
    table = bytes(LCD_ON | BG_ON | rng.randrange(128) for _ in range(144))
    return _raster("LCDC", table, 16, registers={"WY": 30, "WX": 40})


@micro
@alone
@pictured
def raster_lcdc_off() -> MicroRom:
    """The same with the background, and so the window, switched off on some lines."""
    rng = random.Random(18)
    table = bytes(LCD_ON | rng.randrange(128) for _ in range(144))
    return _raster("LCDC", table, 18, registers={"WY": 30, "WX": 40})


@micro
@pictured
def raster_lyc() -> MicroRom:
    """SCX set by the LYC interrupt on every eighth line, LYC moved on by the handler."""
    code = """
    ld a, 0x40
    ldh (STAT), a
    ld a, 8
    ldh (LYC), a
    ld a, 2
    ldh (IE), a
    ei
wait:
    halt
    nop
    jr wait
"""
    vectors = f"""
org 0x48
    push af
    ldh a, (LYC)
    ldh (SCX), a
    add a, 8
    cp 144
    jp c, next
    ld a, 0
    jp next
org 0x3000
next:
    ldh (LYC), a
    push hl
    ld hl, {LOG}
    inc (hl)
    pop hl
    pop af
    reti
"""
    return scene(_vram(17), _random_oam(17), registers=PLAIN, lcdc=BG_ON | LOW_TILES | SPRITES_ON | TALL, code=code,
                 vectors=vectors, lines={"SCX": [line // 8 * 8 for line in range(144)]})  # fmt: skip


def _poll(port: str, count: int) -> str:
    return f"""
    ld hl, {LOG}
    ld bc, {count}
poll:
    ldh a, ({port})
    ld (hl+), a
    dec bc
    ld a, b
    or c
    jr nz, poll
    jp done
"""


def _lcd_start(oam: bytes = b"", scx: int = 0, lcdc: int = BG_ON | SPRITES_ON | LOW_TILES) -> str:
    """From LCD off to on, with these sprites."""
    writes = "\n".join(f"ld a, {byte}\n ld ({0xFE00 + i}), a" for i, byte in enumerate(oam))
    return f"{LCD_OFF}\n{writes}\n ld a, {scx}\n ldh (SCX), a\n ld a, {LCD_ON | lcdc}\n ldh (LCDC), a\n"


def _modes(port: str) -> MicroRom:
    return MicroRom(program(_lcd_start() + _poll(port, 3900)), 9)


@micro
def stat_first_frame() -> MicroRom:
    """STAT polled from the moment the LCD is switched on, every 56 T-cycles or so."""
    return _modes("STAT")


@micro
def ly_first_frame() -> MicroRom:
    """LY polled in the same way, through VBlank and into the next frame."""
    return _modes("LY")


@micro
def stat_second_frame() -> MicroRom:
    """STAT polled from the second VBlank on."""
    wait = """
v1: ldh a, (LY)
    cp 150
    jr nz, v1
v2: ldh a, (LY)
    cp 150
    jr z, v2
v3: ldh a, (LY)
    cp 150
    jr nz, v3
"""
    return MicroRom(program(_lcd_start() + wait + _poll("STAT", 3900)), 12)


def _mode_moments(oam: bytes, scx: int) -> str:
    """STAT on one line at every M-cycle of it: the line is entered in step with LY by LYC's interrupt from HALT."""
    pieces = []
    for i in range(114):
        pieces.append(f"ld de, {i}\n call sample")
    return f"""
    {_lcd_start(oam, scx)}
    ld a, 0x40
    ldh (STAT), a
    ld a, 40
    ldh (LYC), a
    ld hl, {LOG}
    ld a, 2
    ldh (IE), a
    {chr(10).join(pieces)}
    jp done
sample:                 ; after HALT, e NOPs: into the row from its end
    push hl
    ld hl, row_end
    ld a, l
    sub e
    ld l, a
    ld a, h
    sbc a, 0
    ld h, a
    ld a, 0
    ldh (IF), a
    halt
    nop
    jp hl
row:
    {chr(10).join(["nop"] * 114)}
row_end:
    ldh a, (STAT)
    pop hl
    ld (hl+), a
    ret
"""


@micro
def mode_lengths() -> MicroRom:
    """STAT at every M-cycle of line 40, without sprites."""
    return MicroRom(program(_mode_moments(b"", 0)), 125)


@micro
def mode_lengths_scx() -> MicroRom:
    """The same with SCX = 5, which makes mode 3 longer."""
    return MicroRom(program(_mode_moments(b"", 5)), 125)


@micro
def mode_lengths_sprites() -> MicroRom:
    """The same with six sprites on the line and SCX = 3."""
    oam = b"".join(bytes([50, x, 0, 0]) for x in (8, 20, 20, 33, 100, 0))
    return MicroRom(program(_mode_moments(oam, 3)), 125)


@micro
def mode_lengths_beyond() -> MicroRom:
    """The same with sprites on the line that lie wholly to its right."""
    oam = b"".join(bytes([50, x, 0, 0]) for x in (168, 200, 255))
    return MicroRom(program(_mode_moments(oam, 0)), 125)


def _stat_counts(stat: int, lyc: int, ie: int = 2) -> str:
    return f"""
    {_lcd_start()}
    ld a, {lyc}
    ldh (LYC), a
    ld a, {stat}
    ldh (STAT), a
    ld a, 0
    ldh (IF), a
    ld a, {ie}
    ldh (IE), a
    ei
wait:
    halt
    nop
    jr wait
org 0x40
    push af
    push hl
    ld h, 0xc2
    jp count
org 0x48
    push af
    push hl
    ld h, 0xc0
    jp count
org 0x3000
count:
    ldh a, (LY)
    ld l, a
    inc (hl)
    ldh a, (STAT)
    inc h
    ld (hl), a
    pop hl
    pop af
    reti
org 0x3f00
"""


def _stat_rom(stat: int, lyc: int = 255, ie: int = 2) -> MicroRom:
    return MicroRom(program(_stat_counts(stat, lyc, ie)), 9)


@micro
@endless
def stat_hblank() -> MicroRom:
    """The mode 0 interrupt: LY and STAT at each."""
    return _stat_rom(0x08)


@micro
@endless
def stat_oam() -> MicroRom:
    """The mode 2 interrupt."""
    return _stat_rom(0x20)


@micro
@endless
def stat_vblank() -> MicroRom:
    """The mode 1 interrupt beside that of VBlank."""
    return _stat_rom(0x10, ie=3)


@micro
@endless
def stat_lyc_0() -> MicroRom:
    """LYC = 0."""
    return _stat_rom(0x40, 0)


@micro
@endless
def stat_lyc_77() -> MicroRom:
    """LYC = 77."""
    return _stat_rom(0x40, 77)


@micro
@endless
def stat_lyc_153() -> MicroRom:
    """LYC = 153."""
    return _stat_rom(0x40, 153)


@micro
@endless
def stat_blocking() -> MicroRom:
    """All sources at once: one line, one edge."""
    return _stat_rom(0x78, 30, ie=3)


@micro
@endless
def stat_blocking_0_2() -> MicroRom:
    """Modes 0 and 2."""
    return _stat_rom(0x28, 255)


@micro
@endless
def lcd_switching() -> MicroRom:
    """The LCD off in VBlank and on again after a while, over and over, with LY and STAT looked at; frames end there."""
    source = f"""
    ld hl, {LOG}
    ld d, 1
again:
    ldh a, (LY)
    cp 145
    jr nz, again
    ldh a, (LCDC)
    and 0x7f
    ldh (LCDC), a
    ldh a, (STAT)
    ld (hl+), a
    ldh a, (LY)
    ld (hl+), a
    inc d
    ld b, d
off:
    push bc
    ld c, 0
inner:
    dec c
    jr nz, inner
    pop bc
    dec b
    jr nz, off
    ld a, 0x91
    ldh (LCDC), a
    ldh a, (STAT)
    ld (hl+), a
    ldh a, (LY)
    ld (hl+), a
    ldh a, (STAT)
    ld (hl+), a
    jr again
"""
    return MicroRom(program(source), 40)


@micro
def lyc_writes() -> MicroRom:
    """LYC and STAT written in the middle of lines: the coincidence bit and the interrupt at once."""
    body = []
    for i in range(40):
        body.append(f"""
    ld a, {(i * 7) % 160}
    ldh (LYC), a
    ldh a, (STAT)
    ld (hl+), a
    ldh a, (LY)
    ldh (LYC), a
    ldh a, (STAT)
    ld (hl+), a
    ldh a, (IF)
    ld (hl+), a
    ld a, 0
    ldh (IF), a
    ld a, {(0x40, 0x00, 0x08, 0x20, 0x48)[i % 5]}
    ldh (STAT), a
    ldh a, (IF)
    ld (hl+), a
""")
    return MicroRom(program(f"{_lcd_start()}\n ld hl, {LOG}\n" + "\n".join(body)), 6)


@micro
def lcd_on_lyc() -> MicroRom:
    """LYC and STAT written while the LCD is off: what STAT and IF show in the first cycles after it is on again."""
    pieces = []
    for lyc in (0, 1, 200):
        for stat in (0x00, 0x40, 0x08, 0x20, 0x78):
            pieces.append(f"""
    ld a, 0x11
    ldh (LCDC), a
    ld a, {lyc}
    ldh (LYC), a
    ld a, {stat}
    ldh (STAT), a
    ld a, 0
    ldh (IF), a
    ldh a, (STAT)
    ld (hl+), a
    ld a, 0x91
    ldh (LCDC), a
    ldh a, (STAT)
    ld (hl+), a
    ldh a, (IF)
    ld (hl+), a
    ldh a, (STAT)
    ld (hl+), a
    ld b, 40
w{len(pieces)}: dec b
    jr nz, w{len(pieces)}
    ldh a, (STAT)
    ld (hl+), a
    ldh a, (IF)
    ld (hl+), a
    ldh a, (LY)
    ld (hl+), a
""")
    return MicroRom(program(f"{LCD_OFF}\n ld hl, {LOG}\n{''.join(pieces)}"), 38)


# With HL = DE = STAT and C its low byte. PyBoy's LCD changes once an instruction at most, so no long one goes before.
READS = ("ldh a, (c)", "ld a, (de)", "ldh a, (STAT)", "ld a, (STAT)", "ld a, (hl)", "ld l, (hl)\n ld a, l", "or (hl)",
         "ld a, (hl+)", "ld a, (hl-)")  # fmt: skip


@micro
def lcd_read_moment() -> MicroRom:
    """STAT read by each addressing at every M-cycle of a line, from HALT's end by mode 2 on."""
    again = "ld a, b\n call run{0}\n inc b\n ld a, b\n cp 114\n jr nz, n{0}"
    runs = "\n".join(f" ld b, 0\nn{i}: {again.format(i)}" for i in range(len(READS)))
    rows = "\n".join(f"""
run{i}:
    push hl
    ld hl, end{i}
    cpl
    inc a
    jr z, aimed{i}
    dec h
    add a, l
    ld l, a
    jr nc, aimed{i}
    inc h
aimed{i}:
    push hl
    ld hl, STAT
    ld a, 0
    ldh (IF), a
    halt
    nop
    ret                 ; into the row
    {NOPS}
end{i}:
    {text}
    pop hl
    ld (hl+), a
    ret
""" for i, text in enumerate(READS))  # fmt: skip
    source = f"""
    {_lcd_start()}
    ld a, 0x20
    ldh (STAT), a
    ld a, 2
    ldh (IE), a
    ld de, STAT
    ld c, low(STAT)
    ld hl, {LOG}
    {runs}
    jp done
{rows}
"""
    return MicroRom(program(source), 14)
