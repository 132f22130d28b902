// Every legal opcode, uniform in its three octal digits x, y, z (Pan Docs, "CPU instruction set"): `block_x` has those
// that begin with x, `extended` those after 0xcb.
#ifndef GB_OPCODES_H
#define GB_OPCODES_H

#include "arithmetic.h"

enum { AT_HL = 6, LATE = 4 }; // LATE: these loads see the LCD's registers a machine cycle later, as they do in PyBoy

GB_FN u32 condition(const Cpu *r, u32 i) { // NZ, Z, NC, C
    u32 flag = r->f & (i & 2 ? FLAG_C : FLAG_Z);
    return (flag != 0) == (i & 1);
}

GB_FN void jump_relative(Machine *m, Cpu *r, u32 taken) {
    u32 offset = next8(m, r);
    if (taken) {
        r->pc = (r->pc + (i32)(int8_t)offset) & 0xffff;
        r->now += 4;
    }
    r->now += 8;
}

// SP plus a signed byte, with its flags
GB_FN u32 sp_plus(Machine *m, Cpu *r) {
    u32 v = next8(m, r), t = (r->sp & 0xff) + v;
    r->f = ((r->sp ^ v ^ t) & 0x10) << 1 | (t >> 4 & FLAG_C);
    return (r->sp + (i32)(int8_t)v) & 0xffff;
}

GB_FN void stop(Machine *m, Cpu *r) {
    r->pc = (r->pc + 1) & 0xffff;
    timer_write(m, 0x04, 0, r->now);
    m->s.stopped = joypad_lines(&m->s) == 15;
    r->target = m->target;
    r->now += 4;
}

GB_FN void store_sp(Machine *m, Cpu *r) {
    u32 address = next16(m, r);
    store(m, r, address, r->sp & 0xff, 8);
    store(m, r, (address + 1) & 0xffff, r->sp >> 8, 12);
    r->now += 20;
}

// The address in BC, DE, HL+ or HL-
GB_FN u32 pointer(Cpu *r, u32 i) {
    u32 address = i < 2 ? get16(r, i) : hl(r);
    if (i >= 2) set_hl(r, address + (i == 2 ? 1 : -1));
    return address;
}

GB_FN void increment(Machine *m, Cpu *r, u32 y, u32 down) {
    u32 v = get8(m, r, y, 0, 0), t = (down ? v - 1 : v + 1) & 0xff;
    r->f = zero(t) | (r->f & FLAG_C) | (down ? FLAG_N : 0) | ((v ^ t) & 0x10) << 1;
    set8(m, r, y, t, 4);
    r->now += y == AT_HL ? 12 : 4;
}

GB_FN void block_0(Machine *m, Cpu *r, u32 y, u32 z) {
    u32 pair = y >> 1;
    switch (z) {
    case 0:
        if (y == 0)
            r->now += 4;
        else if (y == 1)
            store_sp(m, r);
        else if (y == 2)
            stop(m, r);
        else
            jump_relative(m, r, y == 3 || condition(r, y - 4));
        break;
    case 1:
        if (y & 1) {
            add_hl(r, get16(r, pair));
            r->now += 8;
        } else {
            set16(r, pair, next16(m, r));
            r->now += 12;
        }
        break;
    case 2: {
        u32 address = pointer(r, pair);
        if (y & 1)
            r->a = read8(m, address, r->now, 0, pair == 1 ? LATE : 0);
        else
            store(m, r, address, r->a, 0);
        r->now += 8;
        break;
    }
    case 3:
        set16(r, pair, get16(r, pair) + (y & 1 ? -1 : 1));
        r->now += 8;
        break;
    case 4: increment(m, r, y, 0); break;
    case 5: increment(m, r, y, 1); break;
    case 6:
        set8(m, r, y, next8(m, r), 4);
        r->now += y == AT_HL ? 12 : 8;
        break;
    default:
        accumulator(r, y);
        r->now += 4;
    }
}

// HALT: pc stays at it until the wait is over.
GB_FN void halt(Machine *m, Cpu *r) {
    Lane *s = &m->s;
    i32 due = s->irq & s->irq_enable & 0x1f;
    r->now += 4;
    look_up(m);
    r->target = m->target;
    if (due && !s->ime && !s->ime_delay) {
        s->halt_bug = 1;
        return;
    }
    s->halted = 1;
    s->halt_again = due && s->ime_delay;
    r->pc = (r->pc - 1) & 0xffff;
}

GB_FN void block_1(Machine *m, Cpu *r, u32 y, u32 z) {
    if (y == AT_HL && z == AT_HL) {
        halt(m, r);
        return;
    }
    set8(m, r, y, get8(m, r, z, 0, y == 7 ? LATE : 0), 0);
    r->now += y == AT_HL || z == AT_HL ? 8 : 4;
}

GB_FN void block_2(Machine *m, Cpu *r, u32 y, u32 z) {
    alu(r, y, get8(m, r, z, 0, 0));
    r->now += z == AT_HL ? 8 : 4;
}

GB_FN void extended(Machine *m, Cpu *r, u32 x, u32 y, u32 z) {
    u32 v = get8(m, r, z, 4, 0);
    switch (x) {
    case 0:
        v = rotate(r, y, v);
        r->f |= zero(v);
        break;
    case 1: r->f = (r->f & FLAG_C) | FLAG_H | zero(v & 1u << y); break;
    case 2: v &= ~(1u << y); break;
    default: v |= 1u << y;
    }
    if (x != 1) set8(m, r, z, v, 8);
    r->now += z != AT_HL ? 8 : x == 1 ? 12 : 16;
}

GB_FN void jump(Machine *m, Cpu *r, u32 taken) {
    u32 address = next16(m, r);
    if (taken) {
        r->pc = address;
        r->now += 4;
    }
    r->now += 12;
}

GB_FN void call(Machine *m, Cpu *r, u32 taken) {
    u32 address = next16(m, r);
    if (taken) {
        push(m, r, r->pc, 16);
        r->pc = address;
        r->now += 12;
    }
    r->now += 12;
}

GB_FN void enable_interrupts(Machine *m, Cpu *r) { // after the next instruction
    if (!m->s.ime_delay) m->s.ime_delay = 2;
    look_up(m);
    r->target = m->target;
}

GB_FN void return_from_interrupt(Machine *m, Cpu *r) {
    m->s.ime = 1;
    m->s.ime_delay = 0;
    look_up(m);
    r->target = m->target;
}

// The lane stands still, and says at which opcode.
GB_FN void illegal(Machine *m, Cpu *r, u32 opcode) {
    m->s.fault = opcode + 1;
    r->pc = (r->pc - 1) & 0xffff;
    look_up(m);
    r->target = m->target;
}

GB_FN void block_3_high(Machine *m, Cpu *r, u32 y, u32 z) { // y >= 4, z in 0, 2: LDH, LD (nn), and what SP does
    switch (y) {
    case 4:
    case 6: {
        u32 address = 0xff00 | (z ? r->c : next8(m, r));
        i32 after = z ? 0 : 4;
        if (y == 4)
            store(m, r, address, r->a, after);
        else
            r->a = load(m, r, address, after);
        r->now += z ? 8 : 12;
        break;
    }
    default: {
        if (z) {
            u32 address = next16(m, r);
            if (y == 5)
                store(m, r, address, r->a, 8);
            else
                r->a = load(m, r, address, 8);
            r->now += 16;
        } else if (y == 5) {
            r->sp = sp_plus(m, r);
            r->now += 16;
        } else {
            set_hl(r, sp_plus(m, r));
            r->now += 12;
        }
    }
    }
}

GB_FN void block_3_odd(Machine *m, Cpu *r, u32 y) { // z = 1
    u32 value;
    switch (y) {
    case 1:
    case 3:
        if (y == 3) return_from_interrupt(m, r);
        r->pc = pop(m, r, 4);
        r->now += 16;
        break;
    case 5:
        r->pc = hl(r);
        r->now += 4;
        break;
    case 7:
        r->sp = hl(r);
        r->now += 8;
        break;
    default:
        value = pop(m, r, 0);
        if (y == 6)
            r->a = value >> 8, r->f = value & 0xf0;
        else
            set16(r, y >> 1, value);
        r->now += 12;
    }
}

GB_FN void block_3(Machine *m, Cpu *r, u32 y, u32 z, u32 opcode) {
    switch (z) {
    case 0:
        if (y >= 4) {
            block_3_high(m, r, y, 0);
        } else if (condition(r, y)) {
            r->pc = pop(m, r, 8);
            r->now += 20;
        } else {
            r->now += 8;
        }
        break;
    case 1: block_3_odd(m, r, y); break;
    case 2:
        if (y >= 4)
            block_3_high(m, r, y, 2);
        else
            jump(m, r, condition(r, y));
        break;
    case 3:
        if (y == 0) {
            jump(m, r, 1);
        } else if (y == 6) {
            m->s.ime = m->s.ime_delay = 0;
            r->now += 4;
        } else if (y == 7) {
            enable_interrupts(m, r);
            r->now += 4;
        } else {
            illegal(m, r, opcode);
        }
        break;
    case 4:
        if (y < 4)
            call(m, r, condition(r, y));
        else
            illegal(m, r, opcode);
        break;
    case 5:
        if (!(y & 1)) {
            push(m, r, y == 6 ? r->a << 8 | r->f : get16(r, y >> 1), 8);
            r->now += 16;
        } else if (y == 1) {
            call(m, r, 1);
        } else {
            illegal(m, r, opcode);
        }
        break;
    case 6:
        alu(r, y, next8(m, r));
        r->now += 8;
        break;
    default:
        push(m, r, r->pc, 8);
        r->pc = 8 * y;
        r->now += 16;
    }
}

#endif
