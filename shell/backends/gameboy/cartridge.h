// Memory bank controllers and the clock of the MBC3 (Pan Docs, "MBCs").
#ifndef GB_CARTRIDGE_H
#define GB_CARTRIDGE_H

#include "types.h"

enum { BANK_BYTES = 0x4000, RAM_BANK_BYTES = 0x2000, CLOCK_FIRST = 8, CLOCK_LAST = 12 };
enum { CLOCK_HALT = 0x40, CLOCK_CARRY = 0x80 };

// Point the two windows at the banks that are chosen. Every ROM has a power of two of them; what chooses others, as the
// state of another cartridge may, sees the banks again.
GB_FN void cartridge_map(Machine *m) {
    const Job *job = m->job;
    m->s.rom_low &= job->rom_banks - 1;
    m->s.rom_high &= job->rom_banks - 1;
    const u8 *low = m->s.boot ? job->boot : job->rom;
    if (m->s.rom_low) low = job->rom + (i64)m->s.rom_low * BANK_BYTES;
    m->rom[0] = low;
    m->rom[1] = job->rom + (i64)m->s.rom_high * BANK_BYTES - BANK_BYTES;
}

GB_FN void clock_second(Lane *s) {
    s->clock_s = (s->clock_s + 1) & 0x3f;
    if (s->clock_s != 60) return;
    s->clock_s = 0;
    s->clock_m = (s->clock_m + 1) & 0x3f;
    if (s->clock_m != 60) return;
    s->clock_m = 0;
    s->clock_h = (s->clock_h + 1) & 0x1f;
    if (s->clock_h != 24) return;
    s->clock_h = 0;
    s->clock_dl = (s->clock_dl + 1) & 0xff;
    if (s->clock_dl) return;
    if (s->clock_dh & 1) s->clock_dh |= CLOCK_CARRY;
    s->clock_dh ^= 1;
}

GB_COLD void clock_run(Lane *s, i32 at) {
    i32 passed = at - s->clock_at;
    s->clock_at = at;
    if (s->clock_dh & CLOCK_HALT) return;
    for (s->clock_part += passed; s->clock_part >= SECOND_DOTS; s->clock_part -= SECOND_DOTS) clock_second(s);
}

GB_FN i32 clock_read(const Lane *s) {
    switch (s->ram_bank) {
    case 8: return s->latch_s;
    case 9: return s->latch_m;
    case 10: return s->latch_h;
    case 11: return s->latch_dl;
    default: return s->latch_dh;
    }
}

GB_FN void clock_write(Lane *s, i32 value) {
    switch (s->ram_bank) {
    case 8:
        s->clock_s = value & 0x3f;
        s->clock_part = 0;
        break;
    case 9: s->clock_m = value & 0x3f; break;
    case 10: s->clock_h = value & 0x1f; break;
    case 11: s->clock_dl = value; break;
    default: s->clock_dh = value & (CLOCK_CARRY | CLOCK_HALT | 1);
    }
}

GB_FN void clock_latch(Lane *s, i32 value) {
    if (value == 1 && !s->latched) {
        s->latch_s = s->clock_s;
        s->latch_m = s->clock_m;
        s->latch_h = s->clock_h;
        s->latch_dl = s->clock_dl;
        s->latch_dh = s->clock_dh;
    }
    if (value <= 1) s->latched = value;
}

GB_FN i32 clock_chosen(const Machine *m) {
    return m->job->has_clock && m->s.ram_bank >= CLOCK_FIRST && m->s.ram_bank <= CLOCK_LAST;
}

GB_FN i32 ram_place(const Machine *m, i32 address) {
    i32 bank = m->s.ram_bank;
    if (m->job->mapper == MBC1 || m->job->mapper == MBC1_MULTI) bank = m->s.bank_mode ? m->s.bank_2 : 0;
    return (bank * RAM_BANK_BYTES + (address & (RAM_BANK_BYTES - 1))) & (m->job->cart_bytes - 1);
}

GB_FN i32 ram_read(Machine *m, i32 address, i32 at) {
    if (!m->s.ram_on) return 0xff;
    if (clock_chosen(m)) {
        clock_run(&m->s, at);
        return clock_read(&m->s);
    }
    if (!m->job->cart_bytes) return 0xff;
    i32 value = AT(m->cart, ram_place(m, address));
    return m->job->mapper == MBC2 ? value | 0xf0 : value;
}

GB_FN void ram_write(Machine *m, i32 address, i32 value, i32 at) {
    if (!m->s.ram_on) return;
    if (clock_chosen(m)) {
        clock_run(&m->s, at);
        clock_write(&m->s, value);
    } else if (m->job->cart_bytes) {
        AT(m->cart, ram_place(m, address)) = (u8)(m->job->mapper == MBC2 ? value | 0xf0 : value);
    }
}

GB_FN void mbc1_write(Machine *m, i32 address, i32 value) {
    Lane *s = &m->s;
    i32 multi = m->job->mapper == MBC1_MULTI, shift = multi ? 4 : 5;
    switch (address >> 13) {
    case 0: s->ram_on = (value & 15) == 10; break;
    case 1: s->bank_1 = value & 31 ? value & 31 : 1; break;
    case 2: s->bank_2 = value & 3; break;
    default: s->bank_mode = value & 1;
    }
    s->rom_low = s->bank_mode ? s->bank_2 << shift : 0;
    s->rom_high = s->bank_2 << shift | (multi ? s->bank_1 & 15 : s->bank_1);
}

GB_FN void mbc2_write(Machine *m, i32 address, i32 value) {
    if (address >= 0x4000) return;
    if (address & 0x100)
        m->s.rom_high = value & 15 ? value & 15 : 1;
    else
        m->s.ram_on = (value & 15) == 10;
}

GB_FN void mbc3_write(Machine *m, i32 address, i32 value, i32 at) {
    Lane *s = &m->s;
    i32 bank = m->job->rom_banks > 128 ? value : value & 0x7f; // the larger one is known as MBC30
    switch (address >> 13) {
    case 0: s->ram_on = (value & 15) == 10; break;
    case 1: s->rom_high = bank ? bank : 1; break;
    case 2: s->ram_bank = value; break;
    default:
        if (!m->job->has_clock) return;
        clock_run(s, at);
        clock_latch(s, value);
    }
}

GB_FN void mbc5_write(Machine *m, i32 address, i32 value) {
    Lane *s = &m->s;
    switch (address >> 12) {
    case 0:
    case 1: s->ram_on = value == 10; break;
    case 2: s->bank_1 = value; break;
    case 3: s->bank_2 = value & 1; break;
    case 4:
    case 5: s->ram_bank = value & 15; break;
    default: return;
    }
    s->rom_high = s->bank_2 << 8 | s->bank_1;
}

GB_COLD void cartridge_write(Machine *m, i32 address, i32 value, i32 at) {
    switch (m->job->mapper) {
    case MBC1:
    case MBC1_MULTI: mbc1_write(m, address, value); break;
    case MBC2: mbc2_write(m, address, value); break;
    case MBC3: mbc3_write(m, address, value, at); break;
    case MBC5: mbc5_write(m, address, value); break;
    default: return;
    }
    cartridge_map(m);
}

#endif
