// noise/v1 on the device: perturbations are generated where they are used, never sent.
//
//   seed ─► Philox block b ─► 4 words ─► 4 normals: places 4b … 4b + 3 of ε(seed)        one thread a block of four
//   theta, parts of ε, seeds ─► theta ± sigma ε of every pair                             one block a tile of a pair
#include "perturbation.cuh"

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

// Lanes 2i and 2i + 1 of `out` [2 pairs, size]: theta + sigma ε and theta − sigma ε with ε of pair i, whose streams are
// first_streams[i] to first_streams[i + 1]. Blocks of TILE_COLUMNS · ENTRIES_APART threads, `tiles` of them a pair.
KERNEL lane_thetas(const float* table, const float* theta, u32 size, float sigma, const Part* parts,
                   const double* scales, u32 count, u32 tiles, const u32* first_streams, const u64* seeds,
                   const double* factors, float* out) {
    SHARED_MEMORY(memory);
    u32 pair = blockIdx.x / tiles, tile = blockIdx.x % tiles, at = 0;
    while (at + 1 < count && parts[at + 1].first_tile <= tile) {
        ++at;
    }
    Part part = parts[at];
    u32 first = first_streams[pair];
    Streams streams = {seeds + first, factors + first, first_streams[pair + 1] - first};
    float* plus = out + (u64)(2 * pair) * size;
    PairOfLanes lanes = {theta, sigma, plus, plus + size};
    if (part.rank == 0) {
        dense_tile(part, tile - part.first_tile, streams, table, lanes);
    } else {
        // Drawn from the pair's own stream, the last.
        u64 seed = streams.seeds[streams.count - 1];
        matrix_tile(part, scales[at], tile - part.first_tile, seed, table, lanes, memory);
    }
}
