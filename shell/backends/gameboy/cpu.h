// The SM83: finding instructions.
//
// One description of them serves two ways. A CPU's compiler gets a switch of 256 cases, each with its digits known, and
// folds them away; on a GPU, where the lanes of a warp are at different opcodes, the digits stay variables, so that
// lanes which do the same kind of thing do it together.
#ifndef GB_CPU_H
#define GB_CPU_H

#include "opcodes.h"

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
GB_HOT void cpu_run(Machine *m) {
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
