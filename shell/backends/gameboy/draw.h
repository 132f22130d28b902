// One line of the picture, from the registers and memories as they are when the line is drawn: shades 0 to 3.
#ifndef GB_DRAW_H
#define GB_DRAW_H

#include "types.h"

enum { BG_ON = 1, OBJ_ON = 2, OBJ_TALL = 4, BG_MAP = 8, TILES_LOW = 16, WINDOW_ON = 32, WINDOW_MAP = 64, LCD_ON = 128 };
enum { BEHIND = 0x80, FLIP_Y = 0x40, FLIP_X = 0x20, PALETTE_1 = 0x10 };
enum { LINE_OBJECTS = 10, OBJECTS = 40, PAD = 8 };

// The bits of a byte, the highest first, one to a byte.
GB_FN u64 spread_bits(u32 bits) {
    u64 each = (bits * 0x0101010101010101u) & 0x0102040810204080u;
    return ((each + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u;
}

// Colours of the 8 pixels of a row of a tile, the leftmost in the lowest byte.
GB_FN u64 tile_row(Machine *m, i32 at) { return spread_bits(AT(m->vram, at)) | spread_bits(AT(m->vram, at + 1)) << 1; }

GB_FN void put_row(u8 *line, i32 x, u64 row) {
#ifdef __CUDACC__
    for (i32 i = 0; i < 8; i++) line[x + i] = (u8)(row >> 8 * i);
#else
    memcpy(line + x, &row, 8);
#endif
}

// Colours from pixel `left` on, of a map whose column `column` (in pixels) is there; rows and columns wrap at 256. `line`
// has room on either side.
GB_FN void draw_map(Machine *m, u8 *line, i32 left, i32 map, i32 column, i32 row) {
    i32 tiles = map + (row >> 3 & 31) * 32, down = 2 * (row & 7);
    for (i32 x = left - (column & 7), tile = column >> 3; x < WIDTH; x += 8, tile++) {
        i32 name = AT(m->vram, tiles + (tile & 31));
        i32 at = m->s.lcdc & TILES_LOW ? 16 * name : 0x1000 + 16 * (int8_t)name;
        put_row(line, x, tile_row(m, at + down));
    }
}

GB_FN i32 window_shown(const Lane *s) { // without the background a DMG has no window either
    return (s->lcdc & (BG_ON | WINDOW_ON)) == (BG_ON | WINDOW_ON) && s->window_hit && s->wx < WIDTH + 7;
}

GB_FN void draw_background(Machine *m, u8 *line) {
    Lane *s = &m->s;
    i32 left = s->wx - 7, window = window_shown(s);
    if (!(s->lcdc & BG_ON)) {
        memset(line, 0, WIDTH);
        return;
    }
    if (!window || left > 0)
        draw_map(m, line, 0, s->lcdc & BG_MAP ? 0x1c00 : 0x1800, s->scx, s->scy + s->ly);
    if (window) {
        i32 from = left < 0 ? 0 : left;
        draw_map(m, line, from, s->lcdc & WINDOW_MAP ? 0x1c00 : 0x1800, from - left, s->window_line);
    }
}

// The objects of a line, at most ten, in the order in which they cover one another: by x, then as they lie in OAM.
GB_FN i32 find_objects(Machine *m, i32 height, u8 *found) {
    i32 count = 0;
    for (i32 i = 0; i < OBJECTS && count < LINE_OBJECTS; i++) {
        i32 down = m->s.ly + 16 - AT(m->oam, 4 * i);
        if (down < 0 || down >= height) continue;
        i32 x = AT(m->oam, 4 * i + 1), place = count++;
        for (; place > 0 && AT(m->oam, 4 * found[place - 1] + 1) > x; place--) found[place] = found[place - 1];
        found[place] = (u8)i;
    }
    return count;
}

GB_FN void draw_object(Machine *m, i32 object, i32 height, const u8 *line, u8 *shades, u8 *taken) {
    const Lane *s = &m->s;
    i32 y = AT(m->oam, 4 * object), x = AT(m->oam, 4 * object + 1);
    i32 tile = AT(m->oam, 4 * object + 2), flags = AT(m->oam, 4 * object + 3);
    i32 down = s->ly + 16 - y, palette = flags & PALETTE_1 ? s->obp1 : s->obp0;
    if (flags & FLIP_Y) down = height - 1 - down;
    if (height == 16) tile &= 0xfe;
    u64 row = tile_row(m, 16 * tile + 2 * down);
    for (i32 i = 0; i < 8; i++) {
        i32 at = x - 8 + i, colour = (i32)(row >> 8 * (flags & FLIP_X ? 7 - i : i)) & 3;
        if (at < 0 || at >= WIDTH || !colour || taken[at]) continue;
        taken[at] = 1; // even where the background hides it
        if (!(flags & BEHIND) || !line[at]) shades[at] = palette >> 2 * colour & 3;
    }
}

GB_FN void draw_objects(Machine *m, const u8 *line, u8 *shades) {
    u8 found[LINE_OBJECTS], taken[WIDTH];
    i32 height = m->s.lcdc & OBJ_TALL ? 16 : 8;
    i32 count = find_objects(m, height, found);
    if (count) memset(taken, 0, sizeof taken);
    for (i32 i = 0; i < count; i++) draw_object(m, found[i], height, line, shades, taken);
}

GB_FN void draw_shades(Machine *m, u8 *shades) {
    u8 padded[PAD + WIDTH + PAD], *line = padded + PAD;
    draw_background(m, line);
    for (i32 x = 0; x < WIDTH; x++) shades[x] = m->s.bgp >> 2 * line[x] & 3;
    if (m->s.lcdc & OBJ_ON) draw_objects(m, line, shades);
}

// Draw line LY, if the screen has one. Of half a picture, every second pixel of every second line.
GB_COLD void draw_line(Machine *m) {
    i32 every = m->job->draw == DRAW_HALF ? 2 : 1, ly = m->s.ly;
    if (ly >= HEIGHT) return;
    if (ly % every == 0) {
        u8 shades[WIDTH], *out = m->screen + ly / every * (WIDTH / every);
        draw_shades(m, shades);
        for (i32 x = 0; x < WIDTH; x += every) out[x / every] = shades[x];
    }
    if (window_shown(&m->s)) m->s.window_line++;
}

// Nothing is shown.
GB_COLD void draw_blank(Machine *m) {
    i32 every = m->job->draw == DRAW_HALF ? 2 : 1;
    memset(m->screen, 0, WIDTH / every * (HEIGHT / every));
}

#endif
