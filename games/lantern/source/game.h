/* What the files of the game share. The variables live at the addresses of memory.s. */
#ifndef GAME_H
#define GAME_H

#include <stdint.h>

#include "data.h"

#define REG(address) (*(volatile uint8_t *)(address))
#define rIF REG(0xFF0F)
#define rTIMA REG(0xFF05)
#define rTMA REG(0xFF06)
#define rTAC REG(0xFF07)
#define rLCDC REG(0xFF40)
#define rSTAT REG(0xFF41)
#define rLY REG(0xFF44)
#define rOBP0 REG(0xFF48)
#define rOBP1 REG(0xFF49)
#define rWY REG(0xFF4A)
#define rWX REG(0xFF4B)
#define rIE REG(0xFFFF)

enum { RIGHT, LEFT, UP, DOWN };
enum { TITLE, PLAY, WIN };
enum { BUTTON_A = 1, BUTTON_B = 2, BUTTON_START = 8, KEY_RIGHT = 16, KEY_LEFT = 32, KEY_UP = 64, KEY_DOWN = 128 };

#define BRIGHT 0xE4
#define DIM 0xF9

extern uint8_t oam[160];
extern volatile uint8_t mode, room, x, y, has_key, door_open, won, lamp, hits, busy, facing, bell, ticks;
extern volatile uint8_t pixel_x, pixel_y;
extern volatile uint16_t steps, visited, frames, random;

extern uint8_t strip[20];
extern volatile uint8_t strip_kind, cells_count, tile_ready, scroll_x, scroll_y, palette;
extern volatile uint16_t strip_to, tile_to;
extern const uint8_t *volatile tile_from;
extern uint8_t cells[72];
extern const uint8_t *copy_from;
extern uint8_t *copy_to;
extern uint8_t copy_count;

/* crt0.s */
void copy_tiles(void);
void wait_vblank(void);
uint8_t read_buttons(void);

/* screen.c */
void screen_off(void);
void screen_on(uint8_t window);
void show_picture(const uint8_t *tiles, uint16_t count, const uint8_t *map);
void load_tiles(const uint8_t *tiles, uint16_t count);
void put_tile(uint16_t address, uint8_t tile);
void put_block(uint16_t address, uint8_t block);
void animate(void);
void clear_sprites(void);
void put_sprite(uint8_t left, uint8_t top, uint8_t picture, uint8_t flags);

/* room.c */
extern uint8_t room_cells[80];
void load_room(void);
void draw_room(void);
void draw_cell(uint8_t cell_x, uint8_t cell_y);
uint8_t scrolling(void);
void scroll_start(uint8_t direction);
void scroll_step(void);

/* player.c */
void player_start(void);
void player_update(uint8_t held, uint8_t pressed);
void player_hurt(void);
void player_draw(void);

/* bats.c */
void bats_enter(void);
void bats_update(void);
void bats_draw(void);

/* hud.c */
void hud_start(void);
void hud_step(void);
void hud_show(void);

#endif
