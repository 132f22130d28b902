// DIV, TIMA, TMA and TAC, and the serial port, which counts with them. TIMA counts falling edges of one bit of a 16-bit
// counter; a cycle of four after it has run over it takes TMA and asks for its interrupt (Pan Docs, "Timer obscure
// behaviour").
#ifndef GB_TIMER_H
#define GB_TIMER_H

#include "types.h"

enum { SB = 0x01, TIMER_RUNS = 4, RELOAD_TICKS = 4, TRANSFER_DOTS = 8 * 512 };

GB_FN i32 timer_period(i32 tac) {
    i32 rate = tac & 3;
    return rate == 0 ? 1024 : 4 << (2 * rate); // T-cycles: 1024, 16, 64, 256
}

GB_FN void timer_count(Lane *s) {
    if (++s->tima > 0xff) {
        s->tima = s->tma;
        s->reload = 1;
        s->reload_left = RELOAD_TICKS;
    }
}

// One T-cycle. True when the interrupt falls due.
GB_FN i32 timer_tick(Lane *s) {
    i32 due = 0;
    if (s->reload && --s->reload_left == 0) {
        due = s->reload == 1;
        s->reload_left = due ? RELOAD_TICKS : 0;
        s->reload = due ? 2 : 0;
    }
    s->div = (s->div + 1) & 0xffff;
    if (s->tac & TIMER_RUNS && (s->div & (timer_period(s->tac) - 1)) == 0) timer_count(s);
    return due;
}

// T-cycles until TIMA runs over.
GB_FN i32 timer_overflow(const Lane *s) {
    i32 period = timer_period(s->tac);
    return period - (s->div & (period - 1)) + (0xff - s->tima) * period;
}

GB_COLD void timer_run(Machine *m, i32 at) {
    Lane *s = &m->s;
    i32 left = at - s->timer_at;
    if (left <= 0) return;
    s->timer_at = at;
    while (left > 0) {
        i32 quiet = s->reload ? 0 : s->tac & TIMER_RUNS ? timer_overflow(s) - 1 : left;
        if (quiet > left) quiet = left;
        if (quiet > 0) {
            i32 period = timer_period(s->tac);
            if (s->tac & TIMER_RUNS) s->tima += ((s->div & (period - 1)) + quiet) / period;
            s->div = (s->div + quiet) & 0xffff;
            left -= quiet;
        } else {
            if (timer_tick(s)) s->irq |= IRQ_TIMER;
            left -= 1;
        }
    }
}

// When the timer next needs a look.
GB_FN i32 timer_due(const Lane *s) {
    if (!(s->tac & TIMER_RUNS)) return NEVER;
    i32 due = timer_overflow(s);
    if (s->reload == 1 && s->reload_left < due) due = s->reload_left;
    return s->timer_at + due;
}

GB_FN i32 timer_read(Machine *m, i32 address, i32 at) {
    Lane *s = &m->s;
    timer_run(m, at);
    switch (address) {
    case 0x04: return s->div >> 8;
    case 0x05: return s->reload == 1 ? 0 : s->tima;
    case 0x06: return s->tma;
    default: return s->tac | 0xf8;
    }
}

GB_FN void timer_write(Machine *m, i32 address, i32 value, i32 at) {
    Lane *s = &m->s;
    timer_run(m, at);
    look_up(m);
    i32 high = s->tac & TIMER_RUNS && s->div & timer_period(s->tac) / 2; // the bit whose fall counts
    switch (address) {
    case 0x04:
        if (high) timer_count(s);
        s->div = 0;
        break;
    case 0x05:
        if (s->reload != 2) s->tima = value;
        break;
    case 0x06:
        s->tma = value;
        if (s->reload) s->tima = value;
        break;
    default:
        if (high && !(value & TIMER_RUNS && s->div & timer_period(value) / 2)) timer_count(s);
        s->tac = value & 7;
    }
}

// A transfer by the own clock ends.
GB_FN void serial_run(Lane *s, i32 at) {
    if (at < s->serial_end) return;
    s->sc &= 0x7f;
    s->serial_end = NEVER;
    s->irq |= IRQ_SERIAL;
}

// Nobody is at the other end of the cable: all bits that a transfer brings are 1. SB shows them from its beginning.
GB_FN void serial_write(Machine *m, i32 value, i32 at) {
    Lane *s = &m->s;
    i32 begins = (value & 0x81) == 0x81;
    serial_run(s, at);
    s->sc = value | 0x7e;
    s->serial_end = begins ? at + TRANSFER_DOTS : NEVER;
    if (begins) AT(m->high, SB) = 0xff;
    look_up(m);
}

#endif
