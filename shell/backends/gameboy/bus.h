// Memory as the processor sees it. What has side effects or a time is in the cold half.
#ifndef GB_BUS_H
#define GB_BUS_H

#include "cartridge.h"
#include "lcd_registers.h"
#include "timer.h"

enum { DMA_BYTES = OAM_BYTES, DMA_DELAY = 12, DMA_AGAIN_DELAY = 8, ACCESS = 4 };

// What OAM DMA reads at an address: memory alone, whatever is locked. It sees WRAM where OAM and the ports are.
GB_FN i32 dma_source(Machine *m, i32 address, i32 at) {
    if (address < 0x8000) return m->rom[address >> 14][address];
    if (address < 0xa000) return AT(m->vram, address & 0x1fff);
    if (address < 0xc000) return ram_read(m, address, at);
    return AT(m->wram, address & 0x1fff);
}

// One byte each 4 T-cycles.
GB_COLD void dma_run(Machine *m, i32 at) {
    Lane *s = &m->s;
    i32 due = (at - s->dma_start) / 4;
    if (due > DMA_BYTES) due = DMA_BYTES;
    for (; s->dma_next < due; s->dma_next++)
        AT(m->oam, s->dma_next) = (u8)dma_source(m, s->dma << 8 | s->dma_next, at);
    s->dma_on = s->dma_next < DMA_BYTES;
}

GB_FN void dma_begin(Machine *m, i32 value, i32 at) {
    Lane *s = &m->s;
    s->dma_start = at + (s->dma_on && s->dma_next == 0 ? DMA_AGAIN_DELAY : DMA_DELAY);
    s->dma_on = 1;
    s->dma_next = 0;
    s->dma = value;
}

GB_FN i32 joypad_lines(const Lane *s) { // 0: pressed
    i32 held = 0;
    if (!(s->joy_select & 0x20)) held |= s->buttons & 15;
    if (!(s->joy_select & 0x10)) held |= s->buttons >> 4;
    return 15 & ~held;
}

// A line that falls asks for the interrupt, and ends STOP.
GB_FN void joypad_set(Lane *s, i32 buttons, i32 select) {
    i32 before = joypad_lines(s);
    s->buttons = buttons;
    s->joy_select = select;
    i32 now = joypad_lines(s);
    if (before & ~now) s->irq |= IRQ_JOYPAD;
    if (now != 15) s->stopped = 0;
}

// Bits of the sound registers that cannot be read back (Pan Docs, "Audio Registers"); there is no sound.
GB_FN i32 sound_mask(i32 address) {
    switch (address) {
    case 0x10: return 0x80;
    case 0x11:
    case 0x16: return 0x3f;
    case 0x1a: return 0x7f;
    case 0x1c: return 0x9f;
    case 0x14:
    case 0x19:
    case 0x1e:
    case 0x23: return 0xbf;
    case 0x26: return 0x70;
    case 0x12:
    case 0x17:
    case 0x21:
    case 0x22:
    case 0x24:
    case 0x25: return 0;
    default: return address >= 0x30 ? 0 : 0xff;
    }
}

GB_FN i32 io_read(Machine *m, i32 address, i32 at, i32 late) {
    Lane *s = &m->s;
    if (s->dma_on) dma_run(m, at);
    if (address >= 0x40) return address < 0x4c ? lcd_read(m, address, at + late) : 0xff;
    if (address >= 0x10) return AT(m->high, address) | sound_mask(address);
    switch (address) {
    case 0x00: return 0xc0 | s->joy_select | joypad_lines(s);
    case 0x01: return AT(m->high, SB);
    case 0x02: serial_run(s, at); return s->sc;
    case 0x04:
    case 0x05:
    case 0x06:
    case 0x07: return timer_read(m, address, at);
    case 0x0f: return s->irq | 0xe0;
    default: return 0xff;
    }
}

GB_FN void sound_write(Machine *m, i32 address, i32 value) {
    i32 on = AT(m->high, 0x26) & 0x80;
    if (address == 0x26) {
        if (!(value & 0x80))
            for (i32 i = 0x10; i < 0x26; i++) AT(m->high, i) = 0;
        AT(m->high, address) = value & 0x80;
    } else if (on || address >= 0x30) {
        AT(m->high, address) = (u8)value;
    }
}

GB_FN void io_write(Machine *m, i32 address, i32 value, i32 at) {
    Lane *s = &m->s;
    if (s->dma_on) dma_run(m, at);
    if (address == 0x46) {
        lcd_run(m, at);
        dma_begin(m, value, at);
        look_up(m);
    } else if (address == 0x50) {
        s->boot = 0;
        cartridge_map(m);
    } else if (address >= 0x40) {
        if (address < 0x4c) lcd_write(m, address, value, at);
    } else if (address >= 0x10) {
        sound_write(m, address, value);
    } else {
        switch (address) {
        case 0x00: joypad_set(s, s->buttons, value & 0x30); break;
        case 0x01: AT(m->high, SB) = (u8)value; break;
        case 0x02: serial_write(m, value, at); break;
        case 0x04:
        case 0x05:
        case 0x06:
        case 0x07: timer_write(m, address, value, at); break;
        case 0x0f: s->irq = value & 0x1f; break;
        default: return;
        }
        look_up(m);
    }
}

GB_FN i32 oam_read(Machine *m, i32 address, i32 at) {
    if (oam_locked(m, at + ACCESS)) return 0xff;
    if (m->s.dma_on) dma_run(m, at + ACCESS);
    if (m->s.dma_on && at + ACCESS >= m->s.dma_start) return 0xff;
    return address < 0xa0 ? AT(m->oam, address) : 0;
}

GB_FN void oam_write(Machine *m, i32 address, i32 value, i32 at) {
    if (oam_locked(m, at + ACCESS)) return;
    if (m->s.dma_on) dma_run(m, at + ACCESS);
    if (!m->s.dma_on && address < 0xa0) AT(m->oam, address) = (u8)value;
}

// Few arguments: the processor's registers have to last beyond the call. Read an address at a time; `when` is how long
// the instruction has lasted by then, plus 256 times what is added to the time for the LCD's registers.
GB_COLD i32 slow_read(Machine *m, i32 address, i32 at, i32 when) {
    i32 late = when >> 8;
    m->began = at - (when & 0xff);
    if (address < 0xa000) return vram_locked(m, at + ACCESS) ? 0xff : AT(m->vram, address & 0x1fff);
    if (address < 0xc000) return ram_read(m, address, at);
    if (address < 0xff00) return oam_read(m, address - 0xfe00, at);
    return address == 0xffff ? m->s.irq_enable : io_read(m, address & 0xff, at, late);
}

// `what` is the value, plus 256 times how long the instruction has lasted.
GB_COLD void slow_write(Machine *m, i32 address, i32 what, i32 at) {
    i32 value = what & 0xff;
    m->began = at - (what >> 8);
    if (address < 0x8000) {
        cartridge_write(m, address, value, at);
    } else if (address < 0xa000) {
        if (!vram_locked(m, at + ACCESS)) AT(m->vram, address & 0x1fff) = (u8)value;
    } else if (address < 0xc000) {
        ram_write(m, address, value, at);
    } else if (address < 0xff00) {
        oam_write(m, address - 0xfe00, value, at);
    } else if (address == 0xffff) {
        m->s.irq_enable = value;
        look_up(m);
    } else {
        io_write(m, address & 0xff, value, at);
    }
}

GB_FN i32 read8(Machine *m, u32 address, i32 now, i32 after, i32 late) {
    if (address < 0x8000) return m->rom[address >> 14][address];
    if (address >= 0xc000 && address < 0xfe00) return AT(m->wram, address & 0x1fff);
    if (address >= 0xff80 && address != 0xffff) return AT(m->high, address & 0xff);
    return slow_read(m, address, now + after, after | late << 8);
}

// What a debugger sees: no side effects, no locks.
GB_FN i32 peek(Machine *m, i32 address) {
    Machine copy;
    if (address >= 0x8000 && address < 0xa000) return AT(m->vram, address & 0x1fff);
    if (address >= 0xfe00 && address < 0xff00) return address < 0xfea0 ? AT(m->oam, address - 0xfe00) : 0;
    copy = *m;
    copy.s.dma_on = 0; // its bytes would go to the machine's own memory; those that are due are there
    return read8(&copy, address, m->s.now, 0, 0);
}

#endif
