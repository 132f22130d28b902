// What the parts of the machine share. C11 and C++17, for a CPU's compiler, nvcc and NVRTC alike.
#ifndef GB_TYPES_H
#define GB_TYPES_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define GB_FN static __device__ __forceinline__
#define GB_COLD static __device__ __noinline__
#define GB_HOT GB_FN
#else
#define GB_FN static inline __attribute__((always_inline))
#define GB_COLD static __attribute__((noinline))
#define GB_HOT static __attribute__((noinline, aligned(64))) // where it lies is worth a fifth, so no other code moves it
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

#define LINE_DOTS 456
#define FRAME_DOTS 70224
#define VBLANK_DOTS (144 * LINE_DOTS)
#define SECOND_DOTS 4194304
#define NEVER 0x7fffffff

enum { WIDTH = 160, HEIGHT = 144 };
enum { VRAM_BYTES = 0x2000, WRAM_BYTES = 0x2000, OAM_BYTES = 0xa0, HIGH_BYTES = 0x100 };
enum { ROM_ONLY, MBC1, MBC1_MULTI, MBC2, MBC3, MBC5 };
enum { DRAW_NONE, DRAW_HALF, DRAW_FULL };
enum { IRQ_VBLANK = 1, IRQ_STAT = 2, IRQ_TIMER = 4, IRQ_SERIAL = 8, IRQ_JOYPAD = 16 };

// One call's worth of work on all lanes. Python has the same structure: 8-byte fields first, then 4-byte ones.
typedef struct {
    i32 *registers;                      // [N, R]
    u8 *vram, *wram, *oam, *high, *cart; // [N, bytes], laid out as GB_INTERLEAVED says; high: SB, the sound registers, HRAM
    u8 *screen;                          // [N, height, width]
    const u8 *rom;                       // [banks, 16 KiB]
    const u8 *boot;                      // the first 16 KiB of it under the boot stub
    const i64 *actions;                  // [N] indices of `choices`; null: `buttons` are held
    const u8 *choices;                   // [A] buttons of each action
    const u8 *buttons;                   // [N]
    i64 lanes;
    i32 num_choices, rom_banks, cart_bytes, mapper, has_clock;
    i32 frames, release_after; // of a step; frames for which the buttons are held
    i32 draw, lanes_per_warp, unused;
} Job;

typedef struct {
#define R(name) i32 name;
#include "registers.h"
#undef R
} Lane;

enum { REGISTERS = sizeof(Lane) / sizeof(i32) };

typedef struct {
    Lane s;
    const Job *job;
    u8 *vram, *wram, *oam, *high, *cart; // of this lane
    u8 *screen;
    const u8 *rom[2]; // what is seen at $0000 and $4000, less the address
    i64 stride;       // bytes between words of 4 bytes of a lane, GB_INTERLEAVED only
    i32 target;       // the processor runs until then
    i32 began;        // when the instruction that reads or writes now began
    i32 drawing;      // this frame is shown
} Machine;

// Byte i of a lane's memory. Interleaved, words of 4 bytes of neighbouring lanes lie side by side, which is what a
// warp whose lanes do the same reads at once.
#ifdef GB_INTERLEAVED
#define AT(memory, i) (memory)[(i64)((i) >> 2) * m->stride + ((i) & 3)]
#else
#define AT(memory, i) (memory)[i]
#endif

// Ask the processor to stop after the instruction it is in, because what it waits for may have changed.
GB_FN void look_up(Machine *m) { m->target = -NEVER; }

#endif
