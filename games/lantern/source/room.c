/* The room that the player is in, and the scroll into the next one. */
#include "game.h"

uint8_t room_cells[80];
static uint8_t origin_column, origin_row; /* of the room's first tile in the background map of 32 x 32 */
static uint8_t direction, strips;

void load_room(void) {
    const uint8_t *from = rooms + room * 80;
    uint8_t i;
    for (i = 0; i != 80; i++) room_cells[i] = from[i];
    if (room == DOOR_ROOM && door_open) room_cells[DOOR_Y * 10 + DOOR_X] = BLOCK_DOOR_OPEN;
    visited |= room_bit[room];
}

/* The tile of a room's column 0..19 and row 0..15. */
static uint8_t tile_at(uint8_t column, uint8_t row) {
    uint8_t block = room_cells[(row >> 1) * 10 + (column >> 1)];
    return blocks[block * 4 + (row & 1) * 2 + (column & 1)];
}

static uint16_t map_address(uint8_t column, uint8_t row) {
    return 0x9800 + ((uint16_t)((origin_row + row) & 31) << 5) + ((origin_column + column) & 31);
}

void draw_room(void) {
    uint8_t column, row;
    origin_column = 0;
    origin_row = 0;
    strips = 0;
    for (row = 0; row != 16; row++) {
        for (column = 0; column != 20; column++) *(uint8_t *)map_address(column, row) = tile_at(column, row);
    }
}

void draw_cell(uint8_t cell_x, uint8_t cell_y) {
    const uint8_t *tile = blocks + room_cells[cell_y * 10 + cell_x] * 4;
    uint8_t i;
    for (i = 0; i != 4; i++) put_tile(map_address(cell_x * 2 + (i & 1), cell_y * 2 + (i >> 1)), tile[i]);
}

uint8_t scrolling(void) {
    return strips;
}

/* The new room becomes the room at once; its strips follow, one a frame. */
void scroll_start(uint8_t towards) {
    direction = towards;
    room += room_delta[towards];
    load_room();
    if (towards == RIGHT || towards == LEFT) {
        strips = 20;
        origin_column += towards == RIGHT ? 20 : 12;
    } else {
        strips = 16;
        origin_row += 16;
    }
    origin_column &= 31;
    origin_row &= 31;
}

void scroll_step(void) {
    uint8_t i, at;
    strips--;
    if (direction == RIGHT || direction == LEFT) {
        at = direction == RIGHT ? 19 - strips : strips;
        for (i = 0; i != 16; i++) strip[i] = tile_at(at, i);
        strip_to = map_address(at, 0);
        strip_kind = 1;
        scroll_x += direction == RIGHT ? 8 : -8;
    } else {
        at = direction == DOWN ? 15 - strips : strips;
        for (i = 0; i != 20; i++) strip[i] = tile_at(i, at);
        strip_to = map_address(0, at);
        strip_kind = 2;
        scroll_y += direction == DOWN ? 8 : -8;
    }
}
