// CUDA C on the host: one block after the other, its threads as fibers that take turns at barriers.
//
// The threads of a warp exchange values together, each waiting for all others of it.
//
// What a GPU would leave to chance is an order here, forth or back, that the caller chooses: what
// differs between the two misses a barrier.

#pragma once

// Its check of jumps takes another stack for a mistake.
#undef _FORTIFY_SOURCE

#include <math.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __shared__ static

struct Dim3 {
    unsigned x, y, z;
};

static Dim3 threadIdx, blockIdx, blockDim, gridDim;

inline long long __double_as_longlong(double x) {
    long long bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline double __longlong_as_double(long long bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Without a name, lest two libraries that are loaded at once share what is static here.
namespace {
namespace host {

constexpr int MOST_THREADS = 1024;
constexpr int STACK_BYTES = 1 << 16;

constexpr unsigned WARP_THREADS = 32;

enum State { UNMADE, MADE, WAITING, EXCHANGING, DONE };

struct Fiber {
    ucontext_t start;
    jmp_buf place;  // where it goes on; unlike swapcontext, a jump asks nothing of the system
    State state = UNMADE;
    std::vector<char> stack;
};

static std::vector<Fiber> fibers(MOST_THREADS);
static jmp_buf scheduler;
static void (*body)(void**);
static void** arguments;

inline void leave(State state) {
    Fiber& fiber = fibers[threadIdx.x];
    fiber.state = state;
    if (!_setjmp(fiber.place)) _longjmp(scheduler, 1);
}

inline void wait() { leave(WAITING); }

static double exchanged[MOST_THREADS];

// Returns the value of another thread of the warp. All of them give theirs before any goes on.
template <typename T>
inline T exchange(T value, unsigned from) {
    static_assert(sizeof(T) <= sizeof(double));
    std::memcpy(&exchanged[threadIdx.x], &value, sizeof value);
    leave(EXCHANGING);
    std::memcpy(&value, &exchanged[from], sizeof value);
    leave(EXCHANGING);
    return value;
}

// A fiber runs the thread of its number in all blocks of all kernels.
inline void run_bodies() {
    for (;;) {
        body(arguments);
        leave(DONE);
    }
}

inline void make(Fiber& fiber) {
    fiber.stack.resize(STACK_BYTES);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.data();
    fiber.start.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.start, run_bodies, 0);
    fiber.state = MADE;
}

inline void resume(Fiber& fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.state == MADE) setcontext(&fiber.start);
    _longjmp(fiber.place, 1);
}

// Whether a thread of a warp exchanges values while another does not.
inline bool exchange_lacks_threads(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
        const State first = fibers[i / WARP_THREADS * WARP_THREADS].state;
        if ((fibers[i].state == EXCHANGING) != (first == EXCHANGING)) return true;
    }
    return false;
}

// Runs the threads of a block; false if some end, or do other things, while others wait for them.
inline bool run_block(bool backward) {
    const unsigned count = blockDim.x;
    static bool goes_on[MOST_THREADS];
    for (unsigned i = 0; i < count; ++i) {
        if (fibers[i].state == UNMADE) make(fibers[i]);
        goes_on[i] = true;
    }
    for (;;) {
        unsigned done = 0, waiting = 0;
        for (unsigned i = 0; i < count; ++i) {
            threadIdx.x = backward ? count - 1 - i : i;
            Fiber& fiber = fibers[threadIdx.x];
            if (goes_on[threadIdx.x]) resume(fiber);
            done += fiber.state == DONE;
            waiting += fiber.state == WAITING;
        }
        if (done == count) return true;
        if ((done > 0 && done + waiting == count) || exchange_lacks_threads(count)) {
            for (unsigned i = 0; i < count; ++i) fibers[i].state = UNMADE;
            return false;
        }
        for (unsigned i = 0; i < count; ++i) {
            goes_on[i] = waiting == count || fibers[i].state == EXCHANGING;
        }
    }
}

template <typename T>
std::string name_of() {
    using Plain = std::remove_const_t<std::remove_pointer_t<T>>;
    std::string name = std::is_same_v<Plain, real>        ? "real"
                       : std::is_same_v<Plain, double>    ? "double"
                       : std::is_same_v<Plain, long long> ? "int64"
                       : std::is_same_v<Plain, bool>      ? "bool"
                       : std::is_class_v<Plain>           ? "struct"
                                                          : "?";
    return (std::is_const_v<std::remove_pointer_t<T>> ? "const " : "") + name +
           (std::is_pointer_v<T> ? "*" : "");
}

template <auto kernel>
struct Launch;

template <typename... P, void (*kernel)(P...)>
struct Launch<kernel> {
    template <std::size_t... I>
    static void unpack(void** args, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_const_t<P>*>(args[I])...);
    }

    static void call(void** args) { unpack(args, std::index_sequence_for<P...>()); }

    // Separated by commas.
    static const char* parameters() {
        static const std::string names = [] {
            std::string joined;
            ((joined += (joined.empty() ? "" : ", ") + name_of<P>()), ...);
            return joined;
        }();
        return names.c_str();
    }

    static bool run(unsigned grid_x, unsigned grid_y, unsigned threads, bool backward,
                    void** args) {
        gridDim = {grid_x, grid_y, 1};
        blockDim = {threads, 1, 1};
        body = call;
        arguments = args;
        const unsigned blocks = grid_x * grid_y;
        for (unsigned i = 0; i < blocks; ++i) {
            const unsigned block = backward ? blocks - 1 - i : i;
            blockIdx = {block % grid_x, block / grid_x, 0};
            if (!run_block(backward)) return false;
        }
        return true;
    }
};

}  // namespace host
}  // namespace

inline void __syncthreads() { host::wait(); }

template <typename T>
inline T __shfl_sync(unsigned, T value, unsigned lane) {
    return host::exchange(value, threadIdx.x / host::WARP_THREADS * host::WARP_THREADS + lane);
}

// A lane beyond the last gets its own value.
template <typename T>
inline T __shfl_down_sync(unsigned, T value, unsigned lanes) {
    const bool inside = threadIdx.x % host::WARP_THREADS + lanes < host::WARP_THREADS;
    return host::exchange(value, threadIdx.x + (inside ? lanes : 0));
}

// What Python calls of a kernel.
#define LAUNCH_FROM_PYTHON(kernel)                                                        \
    extern "C" bool launch_##kernel(unsigned grid_x, unsigned grid_y, unsigned threads,   \
                                    bool backward, void** args) {                         \
        return host::Launch<kernel>::run(grid_x, grid_y, threads, backward, args);        \
    }                                                                                     \
    extern "C" const char* parameters_of_##kernel() {                                     \
        return host::Launch<kernel>::parameters();                                        \
    }
