/* Lantern: the three screens and what leads from one to the next. */
#include "game.h"

static uint8_t before;

static void show_title(void) {
    screen_off();
    show_picture(title_tiles, TITLE_TILES, title_map);
    rOBP1 = 0x1C; /* a pale bat in the night */
    screen_on(0);
    mode = TITLE;
}

static void show_win(void) {
    screen_off();
    show_picture(win_tiles, WIN_TILES, win_map);
    screen_on(0);
    won = 1;
    mode = WIN;
}

static void show_play(void) {
    random = frames | 1; /* the bats fly as the time of START will have it */
    won = 0;
    screen_off();
    load_tiles(play_tiles, PLAY_TILES);
    player_start();
    load_room();
    draw_room();
    bats_enter();
    hud_start();
    rOBP1 = 0xD0; /* bats that stand still are paler */
    screen_on(1);
    mode = PLAY;
}

static void update_title(void) {
    uint8_t at = (uint8_t)frames;
    put_sprite(at, 40 + (at & 64 ? 63 - (at & 63) : at & 63) / 4, at & 8 ? SPRITE_BAT : SPRITE_BAT_FLAP, 0x10);
}

static void update_win(void) {
    if (ticks & 8) {
        put_sprite(24, 32, SPRITE_SPARK, 0);
        put_sprite(120, 80, SPRITE_SPARK, 0);
    } else {
        put_sprite(120, 32, SPRITE_SPARK, 0);
        put_sprite(24, 80, SPRITE_SPARK, 0);
    }
}

static void update_play(uint8_t held, uint8_t pressed) {
    player_update(held, pressed);
    if (!scrolling()) bats_update();
    player_draw();
    bats_draw();
    hud_show();
    animate();
}

static void boot(void) {
    if (rLCDC & 0x80) {
        while (rLY < 144) {
        }
        rLCDC = 0;
    }
    rSTAT = 0;
    rTAC = 0;
    rTIMA = 0;
    rTMA = 0;
    rTAC = 4; /* 4096 Hz: 16 interrupts a second */
    rWX = 7;
    rWY = 128;
    rOBP0 = 0xE0;
    copy_from = sprite_tiles;
    copy_to = (uint8_t *)0x8000;
    copy_count = SPRITE_TILES;
    copy_tiles();
    rIE = 5;
    __asm__("ei");
}

void main(void) {
    uint8_t held, pressed;
    boot();
    show_title();
    for (;;) {
        wait_vblank();
        held = read_buttons();
        pressed = held & ~before;
        before = held;
        clear_sprites();
        if (mode == PLAY) {
            update_play(held, pressed);
            if (won) show_win();
        } else if (pressed & BUTTON_START) {
            show_play();
        } else if (mode == TITLE) {
            update_title();
        } else {
            update_win();
        }
    }
}
