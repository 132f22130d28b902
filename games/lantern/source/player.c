/* The player: one cell a walk of 16 frames, one room a scroll. */
#include "game.h"

static uint8_t entrance_x, entrance_y, safe;
static uint8_t walk; /* cells walked, for the legs */

static void stand(void) {
    pixel_x = x << 4;
    pixel_y = y << 4;
    busy = 0;
}

static void remember_entrance(void) {
    entrance_x = x;
    entrance_y = y;
}

void player_start(void) {
    room = START_ROOM;
    x = START_X;
    y = START_Y;
    has_key = 0;
    door_open = 0;
    lamp = 1;
    steps = 0;
    hits = 0;
    visited = 0;
    facing = DOWN;
    bell = 0;
    safe = 0;
    walk = 0;
    stand();
    remember_entrance();
}

static void arrive(void) {
    if (room == KEY_ROOM && x == KEY_X && y == KEY_Y) has_key = 1;
    if (room == LANTERN_ROOM && x == LANTERN_X && y == LANTERN_Y) won = 1;
}

static void leave(void) {
    scroll_start(facing);
    if (facing == RIGHT) x = 0;
    if (facing == LEFT) x = 9;
    if (facing == UP) y = 7;
    if (facing == DOWN) y = 0;
    busy = scrolling();
    hud_step();
}

static void try_walk(uint8_t towards) {
    uint8_t new_x = x + step_x[towards];
    uint8_t new_y = y + step_y[towards];
    uint8_t block;
    facing = towards;
    if (new_x > 9 || new_y > 7) {
        leave();
        return;
    }
    block = room_cells[new_y * 10 + new_x];
    if (block == BLOCK_DOOR && has_key) {
        door_open = 1;
        room_cells[new_y * 10 + new_x] = BLOCK_DOOR_OPEN;
        draw_cell(new_x, new_y);
        busy = 16;
        return;
    }
    if (!block_open[block]) return;
    x = new_x;
    y = new_y;
    busy = 16;
    walk++;
    hud_step();
}

static void advance(void) {
    uint8_t pace = facing < UP && !(busy & 3) ? 8 : 7; /* 144 pixels in 20 frames, or 112 in 16; stand() rounds */
    if (scrolling()) {
        scroll_step();
        pixel_x -= step_x[facing] * pace;
        pixel_y -= step_y[facing] * pace;
    } else if (pixel_x != x << 4 || pixel_y != y << 4) {
        pixel_x += step_x[facing];
        pixel_y += step_y[facing];
    }
    if (--busy) return;
    stand();
    arrive();
}

void player_update(uint8_t held, uint8_t pressed) {
    uint8_t entering = scrolling();
    if (safe) safe--;
    if (bell) bell--;
    if (pressed & BUTTON_A) bell = 96;
    if (pressed & BUTTON_B) {
        lamp ^= 1;
        palette = lamp ? BRIGHT : DIM;
    }
    if (!busy) {
        if (held & KEY_RIGHT) try_walk(RIGHT);
        else if (held & KEY_LEFT) try_walk(LEFT);
        else if (held & KEY_UP) try_walk(UP);
        else if (held & KEY_DOWN) try_walk(DOWN);
    }
    if (busy) advance();
    if (entering && !scrolling()) {
        remember_entrance();
        bats_enter();
    }
}

void player_hurt(void) {
    if (safe) return;
    hits++;
    safe = 64;
    x = entrance_x;
    y = entrance_y;
    stand();
}

void player_draw(void) {
    uint8_t picture = player_picture[facing];
    uint8_t flags = facing == LEFT ? 0x20 : 0;
    if (busy & 8) {
        picture += 4;
        if ((facing & 2) && (walk & 1)) flags = 0x20;
    }
    if (!(safe & 4)) put_sprite(pixel_x, pixel_y, picture, flags);
    if (room == KEY_ROOM && !has_key && !scrolling()) {
        put_sprite(KEY_X << 4, (KEY_Y << 4) - (ticks & 8 ? 2 : 0), SPRITE_KEY, 0);
    }
    if (room == LANTERN_ROOM && (ticks & 4) && !scrolling()) {
        put_sprite(LANTERN_X << 4, (LANTERN_Y << 4) - 14, SPRITE_SPARK, 0);
    }
}
