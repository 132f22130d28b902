/* Video memory. With the LCD on it is written by the interrupt only; these fill its queue. */
#include "game.h"

static uint8_t anim_tile;

void screen_off(void) {
    if (!(rLCDC & 0x80)) return;
    wait_vblank();
    while (rLY < 144) {
    }
    rLCDC = 0;
}

void screen_on(uint8_t window) {
    uint8_t i;
    for (i = 0; i != 160; i += 4) REG(0xFE00 + i) = 0;
    scroll_x = 0;
    scroll_y = 0;
    palette = BRIGHT;
    clear_sprites();
    rIF = 0;
    rLCDC = window ? 0xE7 : 0x87; /* background tiles at 0x8800, sprites of 8 x 16, the window's map at 0x9C00 */
}

void load_tiles(const uint8_t *tiles, uint16_t count) {
    copy_from = tiles;
    copy_to = (uint8_t *)0x9000;
    copy_count = count > 128 ? 128 : (uint8_t)count;
    copy_tiles();
    if (count <= 128) return;
    copy_from = tiles + 2048;
    copy_to = (uint8_t *)0x8800;
    copy_count = (uint8_t)(count - 128);
    copy_tiles();
}

void show_picture(const uint8_t *tiles, uint16_t count, const uint8_t *map) {
    uint8_t *to = (uint8_t *)0x9800;
    uint8_t row, column;
    load_tiles(tiles, count);
    for (row = 0; row != 18; row++) {
        for (column = 0; column != 20; column++) *to++ = *map++;
        to += 12;
    }
}

void put_tile(uint16_t address, uint8_t tile) {
    uint8_t *cell;
    if (cells_count == 24) return;
    cell = cells + cells_count * 3;
    cell[0] = (uint8_t)address;
    cell[1] = (uint8_t)(address >> 8);
    cell[2] = tile;
    cells_count++;
}

void put_block(uint16_t address, uint8_t block) {
    const uint8_t *tile = blocks + block * 4;
    put_tile(address, tile[0]);
    put_tile(address + 1, tile[1]);
    put_tile(address + 32, tile[2]);
    put_tile(address + 33, tile[3]);
}

/* One animated tile a frame; the picture changes four times a second. */
void animate(void) {
    if (++anim_tile >= ANIMATED) anim_tile = 0;
    tile_to = 0x9000 + ((uint16_t)animated_tile[anim_tile] << 4);
    tile_from = animated_tiles + ((anim_tile << 1) + (ticks & 4 ? 1 : 0)) * 16;
    tile_ready = 1;
}

static uint8_t sprites;

void clear_sprites(void) {
    uint8_t i;
    for (i = 0; i != 160; i += 4) oam[i] = 0;
    sprites = 0;
}

/* A picture of 16 x 16 pixels: two sprites side by side, mirrored with flag 0x20. */
void put_sprite(uint8_t left, uint8_t top, uint8_t picture, uint8_t flags) {
    uint8_t *s = oam + sprites;
    uint8_t mirrored = flags & 0x20;
    s[0] = top + 16;
    s[1] = left + 8;
    s[2] = mirrored ? picture + 2 : picture;
    s[3] = flags;
    s[4] = top + 16;
    s[5] = left + 16;
    s[6] = mirrored ? picture : picture + 2;
    s[7] = flags;
    sprites += 8;
}
