// The machine on a GPU: a thread a lane. Few lanes in a warp diverge less; many keep the memory busier.
#include "machine.h"

enum { WARP = 32 };

extern "C" __global__ void gb_step(const __grid_constant__ Job job) {
    i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    i64 within = thread % WARP, lane = thread / WARP * job.lanes_per_warp + within;
    if (within < job.lanes_per_warp && lane < job.lanes) step_lane(&job, lane);
}

extern "C" __global__ void gb_read(const __grid_constant__ Job job, i32 address, i32 length, u8 *out) {
    i64 lane = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (lane < job.lanes) read_lane(&job, lane, address, length, out);
}

// A block a lane, which ends at once where the lane stays as it is.
extern "C" __global__ void gb_copy(const __grid_constant__ Job job, const __grid_constant__ Job other, const u8 *mask, const i64 *choice) {
    i64 lane = blockIdx.x;
    if (mask[lane]) copy_lane(&job, &other, lane, choice[lane], threadIdx.x, blockDim.x);
}
