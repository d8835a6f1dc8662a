// Sums over all threads of a block, by halves: 256 → 128 → … → 1. The order depends on the number of threads alone, which
// is part of the numerics: THREADS of src/cuda/layout.rs.
#ifndef REDUCE_CUH
#define REDUCE_CUH
#include "float.cuh"

// totals[c] = Σ over threads of their partial[c]. `scratch` has C · blockDim.x places; the number of threads is a power
// of two. All threads must come, and may read `totals` afterwards.
template <int C>
DEVICE void block_sums(const float (&partial)[C], float* scratch, float* totals) {
    u32 threads = blockDim.x;
    for (int c = 0; c < C; ++c) {
        scratch[c * threads + threadIdx.x] = partial[c];
    }
    u32 shift = 31 - LEADING_ZEROS((int)threads);
    for (u32 width = threads / 2; width > 0; width /= 2) {
        shift -= 1;
        __syncthreads();
        for (u32 i = threadIdx.x; i < C * width; i += threads) {
            float* place = scratch + (i >> shift) * threads + (i & (width - 1));
            place[0] += place[width];
        }
    }
    __syncthreads();
    for (u32 c = threadIdx.x; c < C; c += threads) {
        totals[c] = scratch[c * threads];
    }
    __syncthreads();
}

// How many of the block's threads have the flag up, known to all of them.
DEVICE float block_count(bool flag, float* scratch, float* total) {
    float partial[1] = {flag ? 1.0f : 0.0f};
    block_sums(partial, scratch, total);
    return total[0];
}

#endif
