// What opcodes compute, with their flags.
#ifndef GB_ARITHMETIC_H
#define GB_ARITHMETIC_H

#include "processor.h"

GB_FN u32 zero(u32 value) { return (value & 0xff) ? 0 : FLAG_Z; }

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

GB_FN void add_hl(Cpu *r, u32 v) {
    u32 a = hl(r), t = a + v;
    r->f = (r->f & FLAG_Z) | ((a ^ v ^ t) >> 7 & FLAG_H) | (t >> 12 & FLAG_C);
    set_hl(r, t);
}

#endif
