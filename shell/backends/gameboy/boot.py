"""The program that runs at power-on: 256 bytes of our own, which leave the machine as a game expects to find it.

The registers at the end are those of a DMG (Pan Docs, "Power Up Sequence"). It looks for no logo.
"""

_BODY = bytes.fromhex(
    "31 fe ff"  # ld sp, $fffe
    "3e 80 e0 26 e0 11 3e f3 e0 25 e0 12 3e 77 e0 24"  # sound on, the first channel's tone, all channels, full volume
    "3e fc e0 47 00 00"  # the palette; two NOPs, so that games find DIV as they did
    "3e 91 e0 40"  # the LCD on, with the background
    "21 b0 01 e5 f1"  # af = $01b0
    "01 13 00 11 d8 00 21 4d 01"  # bc = $0013, de = $00d8, hl = $014d
    "c3 fe 00"  # jp $00fe
)


def boot_stub() -> bytes:
    """The 256 bytes that lie over the start of the ROM until they switch themselves off and go on at $0100."""
    return _BODY.ljust(0xFE, b"\x00") + bytes.fromhex("e0 50")  # ldh ($50), a
