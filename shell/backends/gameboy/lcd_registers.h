// The LCD as the processor reaches it: its registers, and when its memories are locked.
#ifndef GB_LCD_REGISTERS_H
#define GB_LCD_REGISTERS_H

#include "lcd.h"

// May the processor not touch the video memory (mode 3), or the object memory (modes 2 and 3), at this time?
GB_FN i32 vram_locked(Machine *m, i32 at) {
    lcd_run(m, at);
    return m->s.lcdc & LCD_ON && (m->s.stat & STAT_MODE) == 3;
}

GB_FN i32 oam_locked(Machine *m, i32 at) {
    lcd_run(m, at);
    return m->s.lcdc & LCD_ON && (m->s.stat & 2 || (m->s.first_frame && m->s.lcd_phase == PHASE_SCAN));
}

GB_COLD void lcd_switch(Machine *m, i32 value, i32 at) {
    Lane *s = &m->s;
    i32 was = s->lcdc;
    s->lcdc = value;
    if ((was ^ value) & LCD_ON) {
        s->lcd_start = at;
        s->lcd_target = 0; // due at once
        if (value & LCD_ON) {
            s->first_frame = s->lcd_restart = 1;
            s->mode_hidden |= s->lyc_written;
            s->lyc_written = 0;
        } else {
            s->ly = s->window_line = 0;
            i32 irq = s->irq;
            lcd_mode(s, 0);
            s->irq = irq; // switching off asks for nothing
        }
    }
}

GB_FN i32 lcd_read(Machine *m, i32 address, i32 at) {
    Lane *s = &m->s;
    lcd_run(m, at);
    switch (address) {
    case 0x40: return s->lcdc;
    case 0x41: {
        i32 value = s->stat | 0x80;
        if (s->mode_hidden) value &= ~STAT_MODE;
        s->mode_hidden = 0;
        return value;
    }
    case 0x42: return s->scy;
    case 0x43: return s->scx;
    case 0x44: return s->ly;
    case 0x45: return s->lyc;
    case 0x46: return s->dma;
    case 0x47: return s->bgp;
    case 0x48: return s->obp0;
    case 0x49: return s->obp1;
    case 0x4a: return s->wy;
    default: return s->wx;
    }
}

GB_FN void lcd_write(Machine *m, i32 address, i32 value, i32 at) {
    Lane *s = &m->s;
    lcd_run(m, at);
    look_up(m);
    switch (address) {
    case 0x40: lcd_switch(m, value, at); break;
    case 0x41:
        s->stat = (s->stat & ~STAT_ANY_IRQ) | (value & STAT_ANY_IRQ);
        stat_update(s);
        break;
    case 0x42: s->scy = value; break;
    case 0x43: s->scx = value; break;
    case 0x45:
        s->lyc = value;
        if (s->lcdc & LCD_ON)
            lcd_compare(s);
        else
            s->lyc_written = 1;
        break;
    case 0x47: s->bgp = value; break;
    case 0x48: s->obp0 = value; break;
    case 0x49: s->obp1 = value; break;
    case 0x4a: s->wy = value; break;
    case 0x4b: s->wx = value; break;
    default: break; // LY cannot be written
    }
}

#endif
