// A CUDA driver for machines without a GPU: compiled together with a .cu file, whose threads it runs one after another,
// the last one first. -DSOURCE='"cuda.cu"' names the file, -DKERNELS='KERNEL(a) KERNEL(b)' its kernels.
// What threads do together (__syncthreads, votes, shuffles, shared memory) it cannot run, and such code does not compile.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

struct Index {
    unsigned x, y, z;
};
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__

template <class T> static inline T __ldg(const T *p) { return *p; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
static inline void __syncwarp(unsigned = 0xffffffff) {}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}

#include SOURCE

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_FOUND = 500 };

struct Kernel {
    const char *name;
    void (*run)(void **arguments);
};

template <class... A, size_t... i> void spread(void (*kernel)(A...), void **arguments, std::index_sequence<i...>) {
    kernel(*static_cast<A *>(arguments[i])...);
}
template <class... A> void apply(void (*kernel)(A...), void **arguments) {
    spread(kernel, arguments, std::index_sequence_for<A...>{});
}

#define KERNEL(name) {#name, [](void **arguments) { apply(name, arguments); }},
const Kernel kernels[] = {KERNELS};

bool ready = false;
int current = 0;  // contexts pushed and not yet popped
int context;      // its address is the handle

}  // namespace

extern "C" {

int launches[8];  // of the last launch: grid, block, and how many there were

int cuInit(unsigned flags) {
    ready = true;
    return flags == 0 ? SUCCESS : INVALID_VALUE;
}
int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return !ready ? NOT_INITIALIZED : ordinal < 0 ? INVALID_DEVICE : SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **out, int) {
    *out = &context;
    return SUCCESS;
}
int cuCtxPushCurrent_v2(void *pushed) {
    current++;
    return pushed == &context ? SUCCESS : INVALID_CONTEXT;
}
int cuCtxPopCurrent_v2(void **popped) {
    *popped = &context;
    return --current >= 0 ? SUCCESS : INVALID_CONTEXT;
}
int cuModuleLoadData(void **module, const void *image) {
    *module = &context;
    return current != 1 ? INVALID_CONTEXT : image ? SUCCESS : INVALID_VALUE;
}
int cuModuleGetFunction(const Kernel **found, void *module, const char *name) {
    if (current != 1 || module != &context) return INVALID_CONTEXT;
    for (const Kernel &kernel : kernels)
        if (!strcmp(kernel.name, name)) return *found = &kernel, SUCCESS;
    return NOT_FOUND;
}
int cuLaunchKernel(const Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra) {
    if (current != 1) return INVALID_CONTEXT;
    if (!kernel || bx * by * bz > 1024 || gy > 65535 || gz > 65535 || shared || stream || extra) return INVALID_VALUE;
    const int numbers[] = {(int)gx, (int)gy, (int)gz, (int)bx, (int)by, (int)bz, launches[6] + 1};
    memcpy(launches, numbers, sizeof numbers);
    gridDim = {gx, gy, gz}, blockDim = {bx, by, bz};
    for (unsigned block = gx * gy * gz; block-- > 0;)
        for (unsigned thread = bx * by * bz; thread-- > 0;) {
            blockIdx = {block % gx, block / gx % gy, block / gx / gy};
            threadIdx = {thread % bx, thread / bx % by, thread / bx / by};
            kernel->run(arguments);
        }
    return SUCCESS;
}
int cuGetErrorName(int status, const char **text) {
    *text = status == INVALID_VALUE     ? "CUDA_ERROR_INVALID_VALUE"
            : status == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
            : status == NOT_FOUND       ? "CUDA_ERROR_NOT_FOUND"
                                        : nullptr;  // as for a status that is newer than the driver
    return *text ? SUCCESS : INVALID_VALUE;
}
int cuGetErrorString(int, const char **text) {
    *text = "of the driver that pretends";
    return SUCCESS;
}
}
