// The SM83: every legal opcode, uniform in its three octal digits x, y, z (Pan Docs, "CPU instruction set").
//
// One description serves two ways to find an instruction. A CPU's compiler gets a switch of 256 cases, each with its
// digits known, and folds them away; on a GPU, where the lanes of a warp are at different opcodes, the digits stay
// variables, so that lanes which do the same kind of thing do it together.
//
// Times of memory accesses within an instruction count from its beginning. Loads and stores are one machine cycle ahead
// of the bus, as the clocks of the timer and the LCD here are.
#ifndef GB_CPU_H
#define GB_CPU_H

#include "bus.h"

enum { FLAG_Z = 0x80, FLAG_N = 0x40, FLAG_H = 0x20, FLAG_C = 0x10 };
enum { AT_HL = 6, LATE = 4 };

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

GB_FN u32 load(Machine *m, Cpu *r, u32 address, i32 after) { return read8(m, address, r->now + after, 0); }

GB_FN void store(Machine *m, Cpu *r, u32 address, u32 value, i32 after) {
    if (address >= 0xc000 && address < 0xfe00) {
        AT(m->wram, address & 0x1fff) = (u8)value;
    } else if (address >= 0xff80 && address != 0xffff) {
        AT(m->high, address & 0xff) = (u8)value;
    } else {
        slow_write(m, address, value, r->now + after);
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
    case 6: return read8(m, hl(r), r->now + after, late);
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

GB_FN u32 zero(u32 value) { return (value & 0xff) ? 0 : FLAG_Z; }

GB_FN u32 condition(const Cpu *r, u32 i) { // NZ, Z, NC, C
    u32 flag = r->f & (i & 2 ? FLAG_C : FLAG_Z);
    return (flag != 0) == (i & 1);
}

// ADD, ADC, SUB, SBC, AND, XOR, OR, CP
GB_FN void alu(Cpu *r, u32 operation, u32 v) {
    u32 a = r->a, carry = r->f >> 4 & 1, t;
    switch (operation) {
    case 0:
    case 1:
        t = a + v + (operation ? carry : 0);
        r->f = zero(t) | ((a ^ v ^ t) & 0x10) << 1 | (t >> 4 & FLAG_C);
        r->a = t & 0xff;
        break;
    case 4:
        r->a = a & v;
        r->f = zero(r->a) | FLAG_H;
        break;
    case 5:
        r->a = a ^ v;
        r->f = zero(r->a);
        break;
    case 6:
        r->a = a | v;
        r->f = zero(r->a);
        break;
    default:
        t = a - v - (operation == 3 ? carry : 0);
        r->f = zero(t) | FLAG_N | ((a ^ v ^ t) & 0x10) << 1 | (t >> 4 & FLAG_C);
        if (operation != 7) r->a = t & 0xff;
    }
}

// RLC, RRC, RL, RR, SLA, SRA, SWAP, SRL: the result, and the flags but Z in r->f
GB_FN u32 rotate(Cpu *r, u32 operation, u32 v) {
    u32 carry = r->f >> 4 & 1, t, out = operation & 1 ? v & 1 : v >> 7;
    switch (operation) {
    case 0: t = v << 1 | v >> 7; break;
    case 1: t = v >> 1 | v << 7; break;
    case 2: t = v << 1 | carry; break;
    case 3: t = v >> 1 | carry << 7; break;
    case 4: t = v << 1; break;
    case 5: t = v >> 1 | (v & 0x80); break;
    case 6:
        t = v << 4 | v >> 4;
        out = 0;
        break;
    default: t = v >> 1;
    }
    r->f = out << 4;
    return t & 0xff;
}

GB_FN void daa(Cpu *r) {
    u32 fix = 0, carry = r->f & FLAG_C;
    if (r->f & FLAG_H || (!(r->f & FLAG_N) && (r->a & 15) > 9)) fix = 6;
    if (carry || (!(r->f & FLAG_N) && r->a > 0x99)) {
        fix |= 0x60;
        carry = FLAG_C;
    }
    r->a = (r->f & FLAG_N ? r->a - fix : r->a + fix) & 0xff;
    r->f = zero(r->a) | (r->f & FLAG_N) | carry;
}

// RLCA, RRCA, RLA, RRA, DAA, CPL, SCF, CCF
GB_FN void accumulator(Cpu *r, u32 operation) {
    switch (operation) {
    case 4: daa(r); break;
    case 5:
        r->a ^= 0xff;
        r->f |= FLAG_N | FLAG_H;
        break;
    case 6: r->f = (r->f & FLAG_Z) | FLAG_C; break;
    case 7: r->f = (r->f & (FLAG_Z | FLAG_C)) ^ FLAG_C; break;
    default: r->a = rotate(r, operation, r->a);
    }
}

GB_FN void jump_relative(Machine *m, Cpu *r, u32 taken) {
    u32 offset = next8(m, r);
    if (taken) {
        r->pc = (r->pc + (i32)(int8_t)offset) & 0xffff;
        r->now += 4;
    }
    r->now += 8;
}

GB_FN void add_hl(Cpu *r, u32 v) {
    u32 a = hl(r), t = a + v;
    r->f = (r->f & FLAG_Z) | ((a ^ v ^ t) >> 7 & FLAG_H) | (t >> 12 & FLAG_C);
    set_hl(r, t);
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
            r->a = read8(m, address, r->now, pair == 1 ? LATE : 0);
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

#ifdef GB_UNIFORM

GB_FN void execute(Machine *m, Cpu *r, u32 opcode) {
    u32 y = opcode >> 3 & 7, z = opcode & 7;
    if (opcode == 0xcb) {
        u32 second = next8(m, r);
        extended(m, r, second >> 6, second >> 3 & 7, second & 7);
        return;
    }
    switch (opcode >> 6) {
    case 0: block_0(m, r, y, z); break;
    case 1: block_1(m, r, y, z); break;
    case 2: block_2(m, r, y, z); break;
    default: block_3(m, r, y, z, opcode);
    }
}

#else

#define EACH_Z(CASE, x, y) CASE(x, y, 0) CASE(x, y, 1) CASE(x, y, 2) CASE(x, y, 3) CASE(x, y, 4) CASE(x, y, 5) CASE(x, y, 6) CASE(x, y, 7)
#define EACH(CASE, x) EACH_Z(CASE, x, 0) EACH_Z(CASE, x, 1) EACH_Z(CASE, x, 2) EACH_Z(CASE, x, 3) EACH_Z(CASE, x, 4) EACH_Z(CASE, x, 5) EACH_Z(CASE, x, 6) EACH_Z(CASE, x, 7)
#define CODE(x, y, z) (64 * x + 8 * y + z)
#define IN_0(x, y, z) case CODE(x, y, z): block_0(m, r, y, z); break;
#define IN_1(x, y, z) case CODE(x, y, z): block_1(m, r, y, z); break;
#define IN_2(x, y, z) case CODE(x, y, z): block_2(m, r, y, z); break;
#define IN_3(x, y, z) case CODE(x, y, z): if (CODE(x, y, z) == 0xcb) execute_extended(m, r); else block_3(m, r, y, z, CODE(x, y, z)); break;
#define IN_CB(x, y, z) case CODE(x, y, z): extended(m, r, x, y, z); break;

GB_FN void execute_extended(Machine *m, Cpu *r) {
    switch (next8(m, r)) {
        EACH(IN_CB, 0)
        EACH(IN_CB, 1)
        EACH(IN_CB, 2)
        EACH(IN_CB, 3)
    }
}

GB_FN void execute(Machine *m, Cpu *r, u32 opcode) {
    switch (opcode) {
        EACH(IN_0, 0)
        EACH(IN_1, 1)
        EACH(IN_2, 2)
        EACH(IN_3, 3)
    }
}

#endif

// Instructions until the target.
GB_FN void cpu_run(Machine *m) {
    Cpu r;
    u32 forward = !m->s.halt_bug;
    m->s.halt_bug = 0;
    cpu_load(&r, m);
    while (r.now < r.target) {
        u32 opcode = load(m, &r, r.pc, 0);
        r.pc = (r.pc + forward) & 0xffff;
        forward = 1;
        execute(m, &r, opcode);
    }
    cpu_store(&r, m);
}

#endif
