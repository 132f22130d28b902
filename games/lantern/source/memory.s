; The memory map: the shadow of OAM, the game's state for whoever watches it, and what the interrupts work on.

_oam            ==      0xC000  ; 160

_mode           ==      0xC0A0  ; 0 title, 1 play, 2 win
_room           ==      0xC0A1  ; 0..8, three rows of three
_x              ==      0xC0A2  ; cell, 0..9
_y              ==      0xC0A3  ; cell, 0..7
_has_key        ==      0xC0A4
_door_open      ==      0xC0A5
_won            ==      0xC0A6
_lamp           ==      0xC0A7  ; 1 bright, 0 dim
_steps          ==      0xC0A8  ; 2, cells walked
_hits           ==      0xC0AA  ; times a bat was met
_visited        ==      0xC0AB  ; 2, a bit for each room
_busy           ==      0xC0AD  ; frames left of the walk or of the scroll, 0 at rest
_facing         ==      0xC0AE  ; 0 right, 1 left, 2 up, 3 down
_bell           ==      0xC0AF  ; frames left for which the bats stand still
_frames         ==      0xC0B0  ; 2, VBlanks since power-on
_random         ==      0xC0B2  ; 2, the shift register
_ticks          ==      0xC0B4  ; timer interrupts
_pixel_x        ==      0xC0B5
_pixel_y        ==      0xC0B6

_strip          ==      0xC0C0  ; 20
_strip_kind     ==      0xC0D4
_strip_to       ==      0xC0D5  ; 2
_cells_count    ==      0xC0D7
_tile_ready     ==      0xC0D8
_tile_from      ==      0xC0D9  ; 2
_tile_to        ==      0xC0DB  ; 2
_scroll_x       ==      0xC0DD
_scroll_y       ==      0xC0DE
_palette        ==      0xC0DF
_copy_from      ==      0xC0E0  ; 2
_copy_to        ==      0xC0E2  ; 2
_copy_count     ==      0xC0E4
vblank_seen     =       0xC0E5
_cells          ==      0xC100  ; 72, address and tile of each
