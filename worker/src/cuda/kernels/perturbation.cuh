// Tiles of a pair's ε as optimizer-core/src/perturbation/epsilon.rs makes it, and with each value two lanes of theta.
//
//   dense      the pair's own normals; or of several streams (orthogonal noise) Σ factor · g in f64, in order
//   matrix     (Σ_r A[r, i] · B[r, j]) · 1/√rank in f64, in order of r, rounded once
//
//                      B  16 × 64          of a matrix a block makes 32 × 64 entries: it draws sixteen columns of A and
//              A      ┌──────────┐         of B at a time into shared memory, and a thread sums eight entries that are
//           16 × 32   │ 32 × 64  │         four rows apart
//                     └──────────┘
//
// A product of two f32 is exact in f64, so nothing depends on how often it is rounded.
#ifndef PERTURBATION_CUH
#define PERTURBATION_CUH
#include "philox.cuh"
#include "quantile.cuh"

// Of a tile, as src/cuda/thetas.rs counts them; a block has four rows of threads for the columns of a matrix.
const u32 TILE_QUADS = 512, TILE_ROWS = 32, TILE_COLUMNS = 64, TILE_RANKS = 16, ENTRIES_APART = 4;
const u32 TILE_ENTRIES = TILE_ROWS / ENTRIES_APART;

// A range of theta; six words, as src/cuda/thetas.rs writes them.
struct Part {
    // Its first tile, and its first value in theta.
    u32 first_tile, offset;
    // Of a matrix; what is dense has rank 0 and one row.
    u32 rows, columns, rank;
    // Its first normal in a stream.
    u32 stream;
};

// The streams of a pair, each with its factor.
struct Streams {
    const u64* seeds;
    const double* factors;
    u32 count;
};

// The lanes of a pair.
struct PairOfLanes {
    const float* theta;
    float sigma;
    float *plus, *minus;
};

DEVICE void perturb(const PairOfLanes& lanes, u32 at, float epsilon) {
    float step = lanes.sigma * epsilon;
    lanes.plus[at] = lanes.theta[at] + step;
    lanes.minus[at] = lanes.theta[at] - step;
}

// Four neighbours of a dense part: block `block` of each stream.
DEVICE void dense_quad(const Streams& streams, u32 block, const float* table, float (&epsilon)[4]) {
    if (streams.count == 1 && streams.factors[0] == 1.0) {
        Words words = philox(streams.seeds[0], block, 0);
        for (u32 place = 0; place < 4; ++place) {
            epsilon[place] = normal_of(words.word[place], table);
        }
        return;
    }
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    for (u32 k = 0; k < streams.count; ++k) {
        Words words = philox(streams.seeds[k], block, 0);
        for (u32 place = 0; place < 4; ++place) {
            sum[place] += streams.factors[k] * (double)normal_of(words.word[place], table);
        }
    }
    for (u32 place = 0; place < 4; ++place) {
        epsilon[place] = (float)sum[place];
    }
}

DEVICE void dense_tile(const Part& part, u32 tile, const Streams& streams, const float* table,
                       const PairOfLanes& lanes) {
    // A part may begin within a block of Philox.
    u32 skip = part.stream % 4, quads = (skip + part.columns + 3) / 4, end = (tile + 1) * TILE_QUADS;
    for (u32 k = tile * TILE_QUADS + threadIdx.x; k < end && k < quads; k += blockDim.x) {
        float epsilon[4];
        dense_quad(streams, part.stream / 4 + k, table, epsilon);
        for (u32 place = 0; place < 4; ++place) {
            u32 at = 4 * k + place;
            if (at >= skip && at - skip < part.columns) {
                perturb(lanes, part.offset + at - skip, epsilon[place]);
            }
        }
    }
}

// Normal `at` of a stream.
DEVICE float normal_at(u64 seed, u32 at, const float* table) {
    Words words = philox(seed, at / 4, 0);
    // Chosen, not indexed: an index would put the words into memory.
    u32 low = at & 1 ? words.word[1] : words.word[0], high = at & 1 ? words.word[3] : words.word[2];
    return normal_of(at & 2 ? high : low, table);
}

// Some columns of a factor, as far as a tile needs them: `ranks` columns that lie `length` apart in the stream, of each
// `count` normals from `first` on, and `apart` from one to the next in `out`.
DEVICE void draw_columns(u64 seed, u32 first, u32 length, u32 ranks, u32 count, u32 apart, const float* table,
                         float* out) {
    for (u32 i = threadIdx.x; i < ranks * apart; i += blockDim.x) {
        u32 column = i / apart, place = i % apart;
        if (place < count) {
            out[i] = normal_at(seed, first + column * length + place, table);
        }
    }
}

// `memory` has room for TILE_RANKS · (TILE_ROWS + TILE_COLUMNS) normals.
DEVICE void matrix_tile(const Part& part, double scale, u32 tile, u64 seed, const float* table,
                        const PairOfLanes& lanes, float* memory) {
    u32 across = (part.columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    u32 top = tile / across * TILE_ROWS, left = tile % across * TILE_COLUMNS;
    u32 rows = part.rows - top < TILE_ROWS ? part.rows - top : TILE_ROWS;
    u32 columns = part.columns - left < TILE_COLUMNS ? part.columns - left : TILE_COLUMNS;
    u32 row = threadIdx.x / TILE_COLUMNS, column = threadIdx.x % TILE_COLUMNS;
    u32 stream_of_b = part.stream + part.rank * part.rows;
    float *a = memory, *b = memory + TILE_RANKS * TILE_ROWS;
    double sum[TILE_ENTRIES];
    for (u32 e = 0; e < TILE_ENTRIES; ++e) {
        sum[e] = 0.0;
    }
    for (u32 first = 0; first < part.rank; first += TILE_RANKS) {
        u32 ranks = part.rank - first < TILE_RANKS ? part.rank - first : TILE_RANKS;
        draw_columns(seed, part.stream + first * part.rows + top, part.rows, ranks, rows, TILE_ROWS, table, a);
        draw_columns(seed, stream_of_b + first * part.columns + left, part.columns, ranks, columns, TILE_COLUMNS, table,
                     b);
        __syncthreads();
        // What lies beyond the matrix is summed too, and not kept.
        for (u32 r = 0; r < ranks; ++r) {
            double right = (double)b[r * TILE_COLUMNS + column];
            for (u32 e = 0; e < TILE_ENTRIES; ++e) {
                sum[e] += (double)a[r * TILE_ROWS + row + ENTRIES_APART * e] * right;
            }
        }
        __syncthreads();
    }
    for (u32 e = 0; e < TILE_ENTRIES; ++e) {
        u32 i = row + ENTRIES_APART * e;
        if (i < rows && column < columns) {
            perturb(lanes, part.offset + (top + i) * part.columns + left + column, (float)(sum[e] * scale));
        }
    }
}

#endif
