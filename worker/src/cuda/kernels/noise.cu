// noise/v1 on the device: perturbations are generated where they are used, never sent.
//
//   seed ─► Philox block b ─► 4 words ─► 4 normals: places 4b … 4b + 3 of ε(seed)        one thread a block of four
#include "philox.cuh"
#include "quantile.cuh"

// out[i] = ε(seed, first + i) for i < count. Any grid of one dimension.
KERNEL normals(const float* table, u64 seed, u64 first, u64 count, float* out) {
    u64 skip = first % 4;
    u64 blocks = (skip + count + 3) / 4;
    u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 k = (u64)blockIdx.x * blockDim.x + threadIdx.x; k < blocks; k += stride) {
        Words words = philox(seed, first / 4 + k, 0);
        for (u32 place = 0; place < 4; ++place) {
            u64 at = 4 * k + place;
            if (at >= skip && at - skip < count) {
                out[at - skip] = normal_of(words.word[place], table);
            }
        }
    }
}

// Lanes 2i and 2i + 1 of `out` [2 pairs, size]: theta + sigma ε and theta − sigma ε with ε of seeds[i]. blockIdx.y is
// the pair.
KERNEL antithetic(const float* table, const float* theta, u32 size, const u64* seeds, float sigma, float* out) {
    u32 pair = blockIdx.y;
    float* plus = out + (u64)(2 * pair) * size;
    float* minus = plus + size;
    u32 stride = gridDim.x * blockDim.x;
    for (u32 block = blockIdx.x * blockDim.x + threadIdx.x; block < (size + 3) / 4; block += stride) {
        Words words = philox(seeds[pair], block, 0);
        for (u32 place = 0; place < 4 && 4 * block + place < size; ++place) {
            u32 at = 4 * block + place;
            float step = sigma * normal_of(words.word[place], table);
            plus[at] = theta[at] + step;
            minus[at] = theta[at] - step;
        }
    }
}
