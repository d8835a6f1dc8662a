// Runs CUDA kernels on the host, thread by thread.
//
//   block ─► a fibre a thread ─► run each until it waits at __syncthreads or returns ─► all waited? next phase
//
// The order of threads within a phase is an argument of the launch, and a test demands the same bits of every order: a
// read that a barrier fails to protect shows as a difference. Shared memory begins as NaN, is exactly as long as
// launched, and is followed by a guard; a block of which some threads wait while others have returned is an error.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <vector>

struct Dim3 {
    unsigned x, y, z;
};
inline Dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};

#define DEVICE inline
#define KERNEL static void
#define SHARED_MEMORY(name) float* name = emulator::shared
#define FLOAT_BITS(x) emulator::cast<unsigned>(x)
#define BITS_FLOAT(x) emulator::cast<float>(x)
#define MULTIPLY_HIGH(a, b) ((unsigned)(((unsigned long long)(a) * (b)) >> 32))
#define LEADING_ZEROS(x) __builtin_clz(x)

namespace emulator {

template <class To, class From>
inline To cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "a cast of bits keeps their number");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

[[noreturn]] inline void fail(const char* what) {
    fprintf(stderr, "emulator: %s\n", what);
    exit(3);
}

enum class Order : unsigned { Forward, Backward, Shuffled };

inline float* shared;
inline ucontext_t scheduler;
inline ucontext_t* running;
inline std::function<void()>* body;
inline bool waiting;

inline void barrier() {
    waiting = true;
    swapcontext(running, &scheduler);
}

inline void fibre() {
    (*body)();
    waiting = false;
}

const size_t STACK = 64 * 1024, GUARD = 64;

// One block: phases between barriers, each running every thread in the order asked for.
inline void run_block(std::vector<std::vector<char>>& stacks, Order order) {
    size_t threads = stacks.size();
    std::vector<ucontext_t> contexts(threads);
    std::vector<size_t> sequence(threads);
    for (size_t t = 0; t < threads; ++t) {
        getcontext(&contexts[t]);
        contexts[t].uc_stack.ss_sp = stacks[t].data();
        contexts[t].uc_stack.ss_size = stacks[t].size();
        contexts[t].uc_link = &scheduler;
        makecontext(&contexts[t], fibre, 0);
        sequence[t] = order == Order::Backward ? threads - 1 - t : t;
    }
    unsigned state = 12345;
    for (bool alive = true; alive;) {
        if (order == Order::Shuffled) {
            for (size_t t = threads; t-- > 1;) {
                state = state * 1664525u + 1013904223u;
                std::swap(sequence[t], sequence[(state >> 8) % (t + 1)]);
            }
        }
        size_t waited = 0;
        for (size_t t : sequence) {
            threadIdx = {(unsigned)t, 0, 0};
            running = &contexts[t];
            swapcontext(&scheduler, running);
            waited += waiting;
        }
        if (waited != 0 && waited != threads) {
            fail("some threads of a block wait at a barrier that others never reach");
        }
        alive = waited != 0;
    }
}

inline void launch(Dim3 grid, unsigned threads, size_t shared_bytes, Order order, std::function<void()> kernel) {
    std::vector<std::vector<char>> stacks(threads, std::vector<char>(STACK));
    std::vector<unsigned char> memory(shared_bytes + GUARD);
    gridDim = grid;
    blockDim = {threads, 1, 1};
    shared = (float*)memory.data();
    body = &kernel;
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {x, y, 0};
            memset(memory.data(), 0xFF, memory.size());
            run_block(stacks, order);
            for (size_t i = 0; i < GUARD; ++i) {
                if (memory[shared_bytes + i] != 0xFF) {
                    fail("a kernel wrote beyond its shared memory");
                }
            }
        }
    }
}

}  // namespace emulator

inline void __syncthreads() { emulator::barrier(); }
