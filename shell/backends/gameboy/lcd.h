// The LCD's clock: modes, LY, LYC, and the STAT and VBlank interrupts (Pan Docs, "Rendering" and "LCD Status Register").
//
// A line takes 456 T-cycles: mode 2 for 80, mode 3 for 172 and more, mode 0 for the rest; LY moves 4 T-cycles before
// mode 2. Where nothing is drawn and nothing asks for a STAT interrupt, nobody can tell when within the frame that
// happened: it is then done when somebody looks (`lcd_lazy`).
#ifndef GB_LCD_H
#define GB_LCD_H

#include "draw.h"

enum { STAT_MODE = 3, STAT_SAME = 4, STAT_MODE_IRQ = 0x38, STAT_LYC_IRQ = 0x40, STAT_ANY_IRQ = 0x78 };
enum { PHASE_MODE, PHASE_NEW_LINE, PHASE_SCAN };
enum { SCAN_DOTS = 80, LEAST_DRAW_DOTS = 172, NEW_LINE_DOTS = 4 };

GB_FN void stat_update(Lane *s) {
    i32 mode = s->stat & STAT_MODE;
    i32 line = (mode != 3 && s->stat >> (mode + 3) & 1) || (s->stat & (STAT_LYC_IRQ | STAT_SAME)) == (STAT_LYC_IRQ | STAT_SAME);
    if (line && !s->stat_line) s->irq |= IRQ_STAT;
    s->stat_line = line;
}

GB_FN void lcd_mode(Lane *s, i32 mode) {
    if ((s->stat & STAT_MODE) == mode) return;
    s->stat = (s->stat & ~STAT_MODE) | mode;
    stat_update(s);
}

GB_FN void lcd_compare(Lane *s) {
    s->stat = s->ly == s->lyc ? s->stat | STAT_SAME : s->stat & ~STAT_SAME;
    stat_update(s);
}

// T-cycles that the objects of line LY add to mode 3, as PyBoy counts them. That is near Pan Docs' "OBJ penalty
// algorithm", but 7 less in a line, only the first of those at one X waits for the background (there: at one tile), and a
// line whose objects all lie wholly to the right of the screen takes 4 less than one without any.
GB_FN i32 object_stretch(Machine *m) {
    if (!(m->s.lcdc & OBJ_ON)) return 0;
    u8 met[LINE_OBJECTS];
    i32 height = m->s.lcdc & OBJ_TALL ? 16 : 8, count = 0, columns = 0, dots = 0;
    for (i32 i = 0; i < OBJECTS && count < LINE_OBJECTS; i++) {
        i32 down = m->s.ly + 16 - AT(m->oam, 4 * i), x = AT(m->oam, 4 * i + 1), again = 0;
        if (down < 0 || down >= height) continue;
        count++;
        if (x >= WIDTH + 8) continue;
        for (i32 k = 0; k < columns; k++) again |= met[k] == x;
        dots += 6;
        if (again) continue;
        met[columns++] = (u8)x;
        i32 wait = 5 - ((x + m->s.scx) & 7);
        if (wait > 0) dots += wait;
    }
    if (!count) return 0;
    if (!columns) return -4;
    return dots > 7 ? dots - 7 : 0;
}

GB_FN i32 line_stretch(Machine *m) {
    i32 scroll = m->s.first_frame ? 0 : ((m->s.scx & 7) + 3) / 4 * 4;
    return object_stretch(m) + scroll;
}

GB_FN void lcd_next(Lane *s, i32 dots, i32 mode, i32 phase) {
    s->lcd_target += dots;
    s->next_mode = mode;
    s->lcd_phase = phase;
}

GB_FN void lcd_scan(Lane *s) {
    lcd_mode(s, 2);
    lcd_next(s, SCAN_DOTS, 3, PHASE_MODE);
}

// The LCD has been off, or is: a frame of nothing.
GB_FN void lcd_off_frame(Machine *m, i32 clock) {
    Lane *s = &m->s;
    s->frame_done = 1;
    if (clock >= FRAME_DOTS) s->lcd_start += FRAME_DOTS;
    s->lcd_target = FRAME_DOTS;
    if (m->drawing) draw_blank(m);
}

GB_FN void lcd_begin(Machine *m, i32 at) {
    Lane *s = &m->s;
    s->lcd_restart = 0;
    s->frame_done = 1;
    s->ly = 0;
    s->lcd_start = at;
    s->lcd_target = 0;
    lcd_next(s, SCAN_DOTS - 4, 3, PHASE_MODE); // the first line has no mode 2, and is shorter
    lcd_mode(s, 0);
    s->window_hit = s->wy == 0;
    s->window_line = 0;
    lcd_compare(s);
    if (m->drawing) draw_blank(m);
}

GB_FN void lcd_last_line(Machine *m) {
    Lane *s = &m->s;
    if (s->first_frame && s->lcd_target < FRAME_DOTS) {
        s->lcd_target = FRAME_DOTS; // what the first line lacked
        return;
    }
    s->frame_done = 1;
    s->ly = 0;
    s->lcd_start += FRAME_DOTS;
    s->lcd_target -= FRAME_DOTS;
    s->first_frame = 0;
    lcd_scan(s);
    s->window_hit = s->wy == 0;
    s->window_line = 0;
    lcd_compare(s);
}

GB_FN void lcd_new_line(Lane *s) {
    s->ly++;
    if (s->first_frame) {
        s->stat &= ~STAT_SAME; // compared again when mode 2 begins
        stat_update(s);
    } else {
        lcd_compare(s);
    }
    lcd_next(s, NEW_LINE_DOTS, 2, PHASE_SCAN);
}

GB_FN void lcd_new_scan(Lane *s) {
    lcd_scan(s);
    if (s->first_frame) lcd_compare(s);
    s->window_hit |= s->wy == s->ly;
}

GB_FN void lcd_hblank(Machine *m) {
    Lane *s = &m->s;
    i32 rest = LINE_DOTS - SCAN_DOTS - LEAST_DRAW_DOTS - NEW_LINE_DOTS - s->stretch;
    if (s->ly < HEIGHT - 1)
        lcd_next(s, rest, 2, PHASE_NEW_LINE);
    else
        lcd_next(s, s->first_frame ? rest : rest + NEW_LINE_DOTS, 1, PHASE_MODE);
    if (m->drawing) draw_line(m);
}

GB_FN void lcd_vblank_line(Machine *m) {
    Lane *s = &m->s;
    lcd_next(s, LINE_DOTS, 1, PHASE_MODE);
    s->ly++;
    lcd_compare(s);
    if (s->ly != HEIGHT) return;
    if (s->stat & 0x20 && !s->stat_line) s->irq |= IRQ_STAT; // mode 2's interrupt comes for line 144 as well
    s->irq |= IRQ_VBLANK;
    if (s->first_frame && m->drawing) draw_blank(m);
}

GB_FN void lcd_next_mode(Machine *m) {
    Lane *s = &m->s;
    lcd_mode(s, s->next_mode);
    switch (s->next_mode) {
    case 3:
        s->stretch = line_stretch(m);
        lcd_next(s, LEAST_DRAW_DOTS + s->stretch, 0, PHASE_MODE);
        break;
    case 0: lcd_hblank(m); break;
    default: lcd_vblank_line(m);
    }
}

GB_COLD void lcd_change(Machine *m, i32 at) {
    Lane *s = &m->s;
    if (!(s->lcdc & LCD_ON))
        lcd_off_frame(m, at - s->lcd_start);
    else if (s->lcd_restart)
        lcd_begin(m, at);
    else if (s->ly == 153)
        lcd_last_line(m);
    else if (s->lcd_phase == PHASE_NEW_LINE)
        lcd_new_line(s);
    else if (s->lcd_phase == PHASE_SCAN)
        lcd_new_scan(s);
    else
        lcd_next_mode(m);
}

// Nobody needs the changes within the visible lines at their time.
GB_FN i32 lcd_lazy(const Machine *m) {
    const Lane *s = &m->s;
    return !(m->drawing | s->dma_on | s->first_frame | s->lcd_restart) && !(s->stat & STAT_ANY_IRQ) &&
           s->lcdc & LCD_ON;
}

// Go on to the beginning of the line that the clock is in, as its changes would have.
GB_FN void lcd_skip(Lane *s, i32 clock) {
    i32 line = clock / LINE_DOTS;
    if (line > HEIGHT - 1) line = HEIGHT - 1;
    if (s->ly >= line) return;
    i32 next = s->ly + (s->lcd_phase != PHASE_SCAN); // the first line not yet compared with WY
    s->window_hit |= s->wy >= next && s->wy <= line;
    s->ly = line;
    s->lcd_target = line * LINE_DOTS;
    s->stat &= ~STAT_SAME;
    if (line == s->lyc) s->stat |= STAT_SAME;
    lcd_scan(s);
}

GB_COLD void lcd_catch_up(Machine *m, i32 at) {
    Lane *s = &m->s;
    i32 clock = at - s->lcd_start;
    if (s->ly < HEIGHT - 1) lcd_skip(s, clock);
    while (clock >= s->lcd_target && !s->frame_done) lcd_change(m, at);
}

// One change at a time within an instruction: one that lasts beyond two of them sees the second later.
GB_FN void lcd_run(Machine *m, i32 at) {
    Lane *s = &m->s;
    if (at - s->lcd_start < s->lcd_target) return;
    if (lcd_lazy(m)) lcd_catch_up(m, m->began);
    if (at - s->lcd_start >= s->lcd_target) lcd_change(m, at);
}

// When the LCD next needs a look.
GB_FN i32 lcd_due(const Machine *m) {
    const Lane *s = &m->s;
    i32 target = s->lcd_target;
    if (lcd_lazy(m)) {
        if (s->ly < HEIGHT)
            target = VBLANK_DOTS;
        else
            target = FRAME_DOTS;
    }
    return s->lcd_start + target;
}

#endif
