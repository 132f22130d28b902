/* The bar at the bottom, on the window layer: key, lamp, map, steps. */
#include "game.h"

#define BAR 0x9C00

static uint8_t digits[4];
static uint8_t changed_digits, shown_key, shown_lamp, shown_room;

static void put_now(uint8_t column, uint8_t block) {
    uint8_t *to = (uint8_t *)BAR + column;
    const uint8_t *tile = blocks + block * 4;
    to[0] = tile[0];
    to[1] = tile[1];
    to[32] = tile[2];
    to[33] = tile[3];
}

/* With the LCD off. */
void hud_start(void) {
    uint8_t i;
    for (i = 0; i != 20; i += 2) put_now(i, BLOCK_HUD_BLANK);
    put_now(1, BLOCK_HUD_SLOT);
    put_now(5, BLOCK_HUD_LAMP_ON);
    put_now(9, BLOCK_MAP + room);
    put_now(13, BLOCK_HUD_BOOT);
    for (i = 0; i != 4; i++) digits[i] = 0;
    changed_digits = 15;
    shown_key = 0;
    shown_lamp = 1;
    shown_room = room;
}

void hud_step(void) {
    uint8_t i = 3;
    steps++;
    for (;;) {
        changed_digits |= 1 << i;
        if (++digits[i] != 10) return;
        digits[i] = 0;
        if (!i--) return;
    }
}

void hud_show(void) {
    uint8_t i;
    for (i = 0; i != 4; i++) {
        if (!(changed_digits & (1 << i))) continue;
        put_tile(BAR + 15 + i, digit_tiles[digits[i] * 2]);
        put_tile(BAR + 47 + i, digit_tiles[digits[i] * 2 + 1]);
    }
    changed_digits = 0;
    if (shown_key != has_key) put_block(BAR + 1, BLOCK_HUD_KEY);
    if (shown_lamp != lamp) put_block(BAR + 5, lamp ? BLOCK_HUD_LAMP_ON : BLOCK_HUD_LAMP_OFF);
    if (shown_room != room) put_block(BAR + 9, BLOCK_MAP + room);
    shown_key = has_key;
    shown_lamp = lamp;
    shown_room = room;
}
