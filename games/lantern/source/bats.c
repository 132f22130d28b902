/* Bats: each flies from cell to cell inside its box, as a shift register tells it. */
#include "game.h"

static uint8_t count;
static uint8_t bat_x[2], bat_y[2], bat_cell_x[2], bat_cell_y[2], bat_direction[2], bat_left[2];
static const uint8_t *box[2];

void bats_enter(void) {
    const uint8_t *entry = bats;
    count = 0;
    while (*entry != 255) {
        if (*entry == room) {
            box[count] = entry + 1;
            bat_cell_x[count] = entry[1];
            bat_cell_y[count] = entry[2];
            bat_x[count] = entry[1] << 4;
            bat_y[count] = entry[2] << 4;
            bat_left[count] = 0;
            count++;
        }
        entry += 5;
    }
}

static uint8_t draw_bits(void) {
    uint8_t low = random & 1;
    random >>= 1;
    if (low) random ^= 0xB400;
    return random & 3;
}

static uint8_t inside(uint8_t i, uint8_t direction) {
    uint8_t new_x = bat_cell_x[i] + step_x[direction];
    uint8_t new_y = bat_cell_y[i] + step_y[direction];
    const uint8_t *b = box[i];
    return new_x >= b[0] && new_x <= b[2] && new_y >= b[1] && new_y <= b[3];
}

static void choose(uint8_t i) {
    uint8_t direction = draw_bits();
    if (!inside(i, direction)) direction ^= 1;
    if (!inside(i, direction)) return;
    bat_direction[i] = direction;
    bat_cell_x[i] += step_x[direction];
    bat_cell_y[i] += step_y[direction];
    bat_left[i] = 16;
}

static uint8_t near(uint8_t a, uint8_t b) {
    uint8_t distance = a > b ? a - b : b - a;
    return distance < 12;
}

void bats_update(void) {
    uint8_t i;
    if (bell) return;
    for (i = 0; i != count; i++) {
        if (!bat_left[i]) choose(i);
        if (bat_left[i]) {
            bat_left[i]--;
            bat_x[i] += step_x[bat_direction[i]];
            bat_y[i] += step_y[bat_direction[i]];
        }
        if (near(bat_x[i], pixel_x) && near(bat_y[i], pixel_y)) player_hurt();
    }
}

void bats_draw(void) {
    uint8_t i;
    if (scrolling()) return;
    for (i = 0; i != count; i++) {
        put_sprite(bat_x[i], bat_y[i], !bell && (frames & 8) ? SPRITE_BAT_FLAP : SPRITE_BAT, bell ? 0x10 : 0);
    }
}
