// One Game Boy (DMG): the processor runs to the next thing that happens, then that is done. No sound, no colour.
#ifndef GB_MACHINE_H
#define GB_MACHINE_H

#include "cpu.h"

GB_FN void interrupt_push(Machine *m, i32 value) {
    Cpu r;
    cpu_load(&r, m);
    r.sp = (r.sp - 1) & 0xffff;
    store(m, &r, r.sp, value & 0xff, 0);
    m->s.sp = r.sp;
}

// Go to the handler of the first interrupt that is due. Which one is known only after half of pc has been pushed, which
// may have written over IE: then pc becomes 0.
GB_COLD void interrupt_take(Machine *m) {
    Lane *s = &m->s;
    s->ime = 0;
    interrupt_push(m, s->pc >> 8);
    i32 due = s->irq & s->irq_enable & 0x1f, number = 0;
    if (!due) {
        s->sp = (s->sp + 1) & 0xffff;
        s->pc = 0;
        return;
    }
    while (!(due >> number & 1)) number++;
    s->irq &= ~(1 << number);
    interrupt_push(m, s->pc & 0xff);
    s->pc = 0x40 + 8 * number;
    s->now += 20;
}

GB_FN void wake(Machine *m) {
    Lane *s = &m->s;
    if (!(s->irq & s->irq_enable & 0x1f) || s->ime_delay) return;
    if (s->halted && !s->halt_again) s->pc = (s->pc + 1) & 0xffff;
    s->halted = s->halt_again = 0;
    if (s->ime) interrupt_take(m);
}

// When something next happens that the processor cannot know of.
GB_FN i32 next_event(const Machine *m) {
    i32 due = timer_due(&m->s), lcd = lcd_due(m);
    if (lcd < due) due = lcd;
    if (m->s.serial_end < due) due = m->s.serial_end;
    return due;
}

// When a processor that waits looks up for what is due at a time. It looks at every change of the LCD as well, and then
// not again for 4 T-cycles: a change that comes shortly before, which is one of an odd mode 3, delays it.
GB_FN i32 halt_until(Machine *m, i32 due) {
    i32 now = m->s.now;
    if (!lcd_lazy(m)) return m->target;
    i32 before = due > now + 8 ? due - 4 : now;
    lcd_catch_up(m, before);
    i32 change = m->s.lcd_start + m->s.lcd_target;
    if (before != now) return change > before && change < due ? change + 4 : due;
    if (change < due) due = change;
    return due > now + 4 ? due : now + 4;
}

GB_FN void run_to_event(Machine *m) {
    Lane *s = &m->s;
    i32 due = next_event(m), least = s->now + 4;
    m->target = s->ime_delay ? s->now + 1 : due > least ? due : least; // one instruction at a time until EI counts
    wake(m);
    if (s->halted)
        s->now = halt_until(m, due);
    else
        cpu_run(m);
    if (s->ime_delay && --s->ime_delay == 0) s->ime = 1;
    if (s->dma_on) dma_run(m, s->now);
    serial_run(s, s->now);
    timer_run(m, s->now);
    m->began = s->now;
    lcd_run(m, s->now);
}

// Count time from now on, so that it never grows beyond its 32 bits.
GB_FN void rebase(Lane *s) {
    i32 now = s->now;
    s->now = 0;
    s->timer_at -= now;
    s->dma_start = s->dma_on ? s->dma_start - now : 0;
    s->lcd_start -= now;
    if (s->serial_end != NEVER) s->serial_end -= now;
    clock_run(s, now);
    s->clock_at = 0;
}

// A lane that stands still shows nothing, and counts no line of the window: what it had drawn of this frame depends on
// whether the frame was to be shown.
GB_FN void run_frame(Machine *m) {
    Lane *s = &m->s;
    s->frame_done = 0;
    while (!s->frame_done && !s->stopped && !s->fault) run_to_event(m);
    if (s->frame_done) {
        rebase(s);
    } else {
        s->window_line = 0;
        if (m->drawing) draw_blank(m);
    }
}

GB_FN u8 *lane_memory(u8 *memory, i64 lane, i64 bytes) {
#ifdef GB_INTERLEAVED
    (void)bytes;
    return memory + 4 * lane;
#else
    return memory + lane * bytes;
#endif
}

GB_FN i64 screen_bytes(const Job *job) {
    return job->draw == DRAW_FULL ? WIDTH * HEIGHT : job->draw == DRAW_HALF ? WIDTH * HEIGHT / 4 : 0;
}

GB_FN void machine_open(Machine *m, const Job *job, i64 lane) {
    memcpy(&m->s, job->registers + lane * REGISTERS, sizeof m->s);
    m->job = job;
    m->stride = 4 * job->lanes;
    m->vram = lane_memory(job->vram, lane, VRAM_BYTES);
    m->wram = lane_memory(job->wram, lane, WRAM_BYTES);
    m->oam = lane_memory(job->oam, lane, OAM_BYTES);
    m->high = lane_memory(job->high, lane, HIGH_BYTES);
    m->cart = lane_memory(job->cart, lane, job->cart_bytes);
    m->screen = job->screen + lane * screen_bytes(job);
    m->drawing = 0;
    m->target = m->began = 0;
    cartridge_map(m);
}

GB_FN void machine_close(const Machine *m, i64 lane) {
    memcpy(m->job->registers + lane * REGISTERS, &m->s, sizeof m->s);
}

// What a lane holds in this step. An action that is none presses nothing.
GB_FN i32 lane_buttons(const Job *job, i64 lane) {
    if (!job->actions) return job->buttons[lane];
    i64 action = job->actions[lane];
    return action >= 0 && action < job->num_choices ? job->choices[action] : 0;
}

// A step of one lane: the buttons are held for some of its frames, and the last one is drawn.
GB_FN void step_lane(const Job *job, i64 lane) {
    Machine m;
    machine_open(&m, job, lane);
    for (i32 frame = 0; frame < job->frames; frame++) {
        if (frame == 0) joypad_set(&m.s, lane_buttons(job, lane), m.s.joy_select);
        if (frame == job->release_after) joypad_set(&m.s, 0, m.s.joy_select);
        m.drawing = job->draw != DRAW_NONE && frame == job->frames - 1;
        run_frame(&m);
    }
    machine_close(&m, lane);
}

// `length` bytes from an address on, as the processor of a lane would read them. Nothing changes.
GB_FN void read_lane(const Job *job, i64 lane, i32 address, i32 length, u8 *out) {
    Machine m;
    machine_open(&m, job, lane);
    for (i32 i = 0; i < length; i++) out[lane * length + i] = (u8)peek(&m, (address + i) & 0xffff);
}

// From word to word of 4 bytes of two lanes, each with its own step between them; `parts` threads share the work.
GB_FN void copy_words(u8 *to, i64 to_step, const u8 *from, i64 from_step, i64 words, i32 part, i32 parts) {
    u32 *target = (u32 *)to;
    const u32 *origin = (const u32 *)from;
    if (to_step + from_step + parts == 3) {
        memcpy(target, origin, 4 * words);
        return;
    }
    for (i64 i = part; i < words; i += parts) target[i * to_step] = origin[i * from_step];
}

GB_FN i64 word_step(const Job *job) {
#ifdef GB_INTERLEAVED
    return job->lanes;
#else
    (void)job;
    return 1;
#endif
}

// All that lane `source` of another job is becomes lane `lane` of this one, which stays as it is where there is no such.
GB_FN void copy_lane(const Job *job, const Job *other, i64 lane, i64 source, i32 part, i32 parts) {
    u8 *const to[] = {job->vram, job->wram, job->oam, job->high, job->cart};
    u8 *const from[] = {other->vram, other->wram, other->oam, other->high, other->cart};
    const i64 bytes[] = {VRAM_BYTES, WRAM_BYTES, OAM_BYTES, HIGH_BYTES, job->cart_bytes};
    i64 shown = screen_bytes(job);
    if (source < 0 || source >= other->lanes) return;
    for (i32 i = 0; i < 5; i++)
        copy_words(lane_memory(to[i], lane, bytes[i]), word_step(job), lane_memory(from[i], source, bytes[i]),
                   word_step(other), bytes[i] / 4, part, parts);
    copy_words((u8 *)(job->registers + lane * REGISTERS), 1, (u8 *)(other->registers + source * REGISTERS), 1,
               REGISTERS, part, parts);
    copy_words(job->screen + lane * shown, 1, other->screen + source * shown, 1, shown / 4, part, parts);
}

#endif
