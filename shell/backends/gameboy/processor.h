// What the processor holds while it runs, and how it reaches memory.
//
// Times of memory accesses within an instruction count from its beginning. Loads and stores are one machine cycle ahead
// of the bus, as the clocks of the timer and the LCD here are.
#ifndef GB_PROCESSOR_H
#define GB_PROCESSOR_H

#include "bus.h"

enum { FLAG_Z = 0x80, FLAG_N = 0x40, FLAG_H = 0x20, FLAG_C = 0x10 };

// What the processor holds while it runs, in registers of the machine beneath.
typedef struct {
    u32 a, f, b, c, d, e, h, l, sp, pc;
    i32 now, target;
} Cpu;

GB_FN void cpu_load(Cpu *r, const Machine *m) {
    const Lane *s = &m->s;
    r->a = s->a, r->f = s->f, r->b = s->b, r->c = s->c, r->d = s->d, r->e = s->e, r->h = s->h, r->l = s->l;
    r->sp = s->sp, r->pc = s->pc, r->now = s->now, r->target = m->target;
}

GB_FN void cpu_store(const Cpu *r, Machine *m) {
    Lane *s = &m->s;
    s->a = r->a, s->f = r->f, s->b = r->b, s->c = r->c, s->d = r->d, s->e = r->e, s->h = r->h, s->l = r->l;
    s->sp = r->sp, s->pc = r->pc, s->now = r->now;
}

GB_FN u32 load(Machine *m, Cpu *r, u32 address, i32 after) { return read8(m, address, r->now, after, 0); }

GB_FN void store(Machine *m, Cpu *r, u32 address, u32 value, i32 after) {
    if (address >= 0xc000 && address < 0xfe00) {
        AT(m->wram, address & 0x1fff) = (u8)value;
    } else if (address >= 0xff80 && address != 0xffff) {
        AT(m->high, address & 0xff) = (u8)value;
    } else {
        slow_write(m, address, value | after << 8, r->now + after);
        r->target = m->target;
    }
}

GB_FN u32 next8(Machine *m, Cpu *r) {
    u32 value = load(m, r, r->pc, 0);
    r->pc = (r->pc + 1) & 0xffff;
    return value;
}

GB_FN u32 next16(Machine *m, Cpu *r) {
    u32 low = next8(m, r);
    return next8(m, r) << 8 | low;
}

GB_FN u32 hl(const Cpu *r) { return r->h << 8 | r->l; }

GB_FN void set_hl(Cpu *r, u32 value) {
    r->h = value >> 8 & 0xff;
    r->l = value & 0xff;
}

GB_FN u32 get8(Machine *m, Cpu *r, u32 i, i32 after, i32 late) {
    switch (i) {
    case 0: return r->b;
    case 1: return r->c;
    case 2: return r->d;
    case 3: return r->e;
    case 4: return r->h;
    case 5: return r->l;
    case 6: return read8(m, hl(r), r->now, after, late);
    default: return r->a;
    }
}

GB_FN void set8(Machine *m, Cpu *r, u32 i, u32 value, i32 after) {
    switch (i) {
    case 0: r->b = value; break;
    case 1: r->c = value; break;
    case 2: r->d = value; break;
    case 3: r->e = value; break;
    case 4: r->h = value; break;
    case 5: r->l = value; break;
    case 6: store(m, r, hl(r), value, after); break;
    default: r->a = value;
    }
}

GB_FN u32 get16(const Cpu *r, u32 i) {
    switch (i) {
    case 0: return r->b << 8 | r->c;
    case 1: return r->d << 8 | r->e;
    case 2: return hl(r);
    default: return r->sp;
    }
}

GB_FN void set16(Cpu *r, u32 i, u32 value) {
    u32 high = value >> 8 & 0xff, low = value & 0xff;
    switch (i) {
    case 0: r->b = high, r->c = low; break;
    case 1: r->d = high, r->e = low; break;
    case 2: r->h = high, r->l = low; break;
    default: r->sp = value & 0xffff;
    }
}

GB_FN void push(Machine *m, Cpu *r, u32 value, i32 after) {
    store(m, r, (r->sp - 1) & 0xffff, value >> 8, after);
    r->sp = (r->sp - 2) & 0xffff;
    store(m, r, r->sp, value & 0xff, after + 4);
}

GB_FN u32 pop(Machine *m, Cpu *r, i32 after) {
    u32 low = load(m, r, r->sp, after);
    u32 value = load(m, r, (r->sp + 1) & 0xffff, after + 4) << 8 | low;
    r->sp = (r->sp + 2) & 0xffff;
    return value;
}

#endif
