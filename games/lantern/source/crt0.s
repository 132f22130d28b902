; Header, interrupts, the frame's video work and small routines. Everything in VRAM and OAM is written here,
; in VBlank, or in C with the LCD off.

        .module crt0
        .globl  _main
        .include "memory.s"

        .area   _HEADER (ABS)
        .org    0x0040
        jp      vblank
        .org    0x0050
        jp      timer
        .org    0x0100
        nop
        jp      start

        .area   _CODE
start:
        di
        ld      sp, #0xE000
        xor     a
        ld      hl, #0xC000
        ld      bc, #0x0200              ; variables; the stack needs no clearing
clear_wram:
        xor     a
        ld      (hl+), a
        dec     bc
        ld      a, b
        or      a, c
        jr      nz, clear_wram
        ld      c, #0x80                ; the DMA routine goes to HRAM: the CPU reaches nothing else meanwhile
        ld      b, #dma_end - dma
        ld      hl, #dma
copy_dma:
        ld      a, (hl+)
        ldh     (c), a
        inc     c
        dec     b
        jr      nz, copy_dma
        call    _main
stop:
        jr      stop

dma:
        ld      a, #0xC0
        ldh     (0x46), a
        ld      a, #40
dma_wait:
        dec     a
        jr      nz, dma_wait
        ret
dma_end:

vblank:
        push    af
        push    bc
        push    de
        push    hl
        call    0xFF80
        ld      a, (_strip_kind)
        or      a, a
        jr      z, strip_done
        call    strip
        xor     a
        ld      (_strip_kind), a
strip_done:
        ld      a, (_cells_count)
        or      a, a
        jr      z, cells_done
        ld      b, a
        ld      hl, #_cells
cell:
        ld      a, (hl+)
        ld      e, a
        ld      a, (hl+)
        ld      d, a
        ld      a, (hl+)
        ld      (de), a
        dec     b
        jr      nz, cell
        xor     a
        ld      (_cells_count), a
cells_done:
        ld      a, (_tile_ready)
        or      a, a
        jr      z, tile_done
        ld      hl, #_tile_to
        ld      a, (hl+)
        ld      e, a
        ld      d, (hl)
        ld      hl, #_tile_from
        ld      a, (hl+)
        ld      h, (hl)
        ld      l, a
        call    copy16
        xor     a
        ld      (_tile_ready), a
tile_done:
        ld      a, (_scroll_x)
        ldh     (0x43), a
        ld      a, (_scroll_y)
        ldh     (0x42), a
        ld      a, (_palette)
        ldh     (0x47), a
        ld      hl, #_frames
        inc     (hl)
        jr      nz, frames_done
        inc     hl
        inc     (hl)
frames_done:
        ld      a, #1
        ld      (vblank_seen), a
        pop     hl
        pop     de
        pop     bc
        pop     af
        reti

; One strip of the next room: kind 1 is a column of 16 tiles, kind 2 a row of 20. Both wrap within the 32 x 32 map.
strip:
        ld      hl, #_strip_to
        ld      c, (hl)
        inc     hl
        ld      h, (hl)
        ld      l, c
        ld      de, #_strip
        dec     a
        jr      nz, row
        ld      b, #16
column:
        ld      a, (de)
        inc     de
        ld      (hl), a
        ld      a, l
        add     a, #32
        ld      l, a
        jr      nc, no_carry
        inc     h
        res     2, h                    ; 0x9C00 is 0x9800 again
no_carry:
        dec     b
        jr      nz, column
        ret
row:
        ld      b, #20
        ld      a, l
        and     a, #0xE0
        ld      c, a
row_tile:
        ld      a, (de)
        inc     de
        ld      (hl), a
        ld      a, l
        inc     a
        and     a, #0x1F
        or      a, c
        ld      l, a
        dec     b
        jr      nz, row_tile
        ret

; 16 bytes from HL to DE.
copy16:
        .rept   16
        ld      a, (hl+)
        ld      (de), a
        inc     de
        .endm
        ret

timer:
        push    hl
        push    af
        ld      hl, #_ticks
        inc     (hl)
        pop     af
        pop     hl
        reti

; void copy_tiles(void): copy_count tiles from copy_from to copy_to.
_copy_tiles::
        ld      hl, #_copy_to
        ld      a, (hl+)
        ld      e, a
        ld      d, (hl)
        ld      hl, #_copy_from
        ld      a, (hl+)
        ld      h, (hl)
        ld      l, a
        ld      a, (_copy_count)
        ld      b, a
next_tile:
        call    copy16
        dec     b
        jr      nz, next_tile
        ret

; void wait_vblank(void): halts until the interrupt has done the frame's video work. Where the timer woke it and VBlank
; comes between the test and halt, one frame is lost, no more: the timer or the next VBlank wakes it.
_wait_vblank::
        halt
        nop
        ld      a, (vblank_seen)
        or      a, a
        jr      z, _wait_vblank
        xor     a
        ld      (vblank_seen), a
        ret

; uint8_t read_buttons(void): a b select start right left up down, from bit 0.
_read_buttons::
        ld      a, #0x20
        ldh     (0x00), a
        ldh     a, (0x00)
        ldh     a, (0x00)
        cpl
        and     a, #0x0F
        swap    a
        ld      b, a
        ld      a, #0x10
        ldh     (0x00), a
        ldh     a, (0x00)
        ldh     a, (0x00)
        ldh     a, (0x00)
        ldh     a, (0x00)
        cpl
        and     a, #0x0F
        or      a, b
        ld      b, a
        ld      a, #0x30
        ldh     (0x00), a
        ld      a, b
        ret
