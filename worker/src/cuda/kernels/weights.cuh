// Gradients of the weights and the bias of a convolution or a linear layer.
//
//   dw[ki, kj, c, o] = Σ x[b, i · stride + ki − padding, j · stride + kj − padding, c] · dz[b, i, j, o]    over b, i, j
//
// Few sums of many terms: a thread has a tile of four channels by four outputs of one tap, whose products need two reads
// of four values, and shares it with others, its `parts`, each of which sums over some lines (b, i):
//
//   threads    part 0: tile, tile, …  │  part 1: tile, tile, …  │ …     then the parts of a tile are added in order
//   a line     runs of pixels, so that no sum of thousands of terms loses their low bits
//
// The bias is the weight of an input that is always 1: one more row of tiles, whose first row is that input.
#ifndef WEIGHTS_CUH
#define WEIGHTS_CUH
#include "affine.cuh"

// Pixels that are summed before their sum is added to the total, roughly.
const u32 RUN_OF_PIXELS = 64;

// Which weights a tile holds.
struct WeightTile {
    // Number of the tap, as many as there are for the bias.
    u32 tap;
    // First channel and output.
    u32 channel, unit;
};

DEVICE WeightTile tile_at(const Layer& layer, u32 index) {
    u32 across = tiles_of(layer.outputs, QUAD), down = tiles_of(layer.channels, QUAD), row = index / across;
    WeightTile tile = {row / down, row % down * QUAD, index % across * QUAD};
    return tile;
}

DEVICE u32 weight_tiles(const Layer& layer) {
    return (layer.window * layer.window * tiles_of(layer.channels, QUAD) + 1) * tiles_of(layer.outputs, QUAD);
}

// Sums a tile over lines `line..end`; a line is a row of outputs of one example.
DEVICE void sum_lines(const Layer& layer, const Images& in, const float* dz, const WeightTile& tile, u32 line, u32 end,
                      float (&total)[QUAD * QUAD]) {
    bool bias = tile.tap == layer.window * layer.window;
    u32 ki = tile.tap / layer.window, kj = tile.tap % layer.window;
    // The outputs of a line whose windows have this tap inside the image.
    u32 first = 0, last = layer.out_width;
    if (!bias) {
        first = kj < layer.padding ? (layer.padding - kj + layer.stride - 1) / layer.stride : 0;
        u32 inside = layer.width + layer.padding > kj ? layer.width + layer.padding - kj : 0;
        u32 windows = (inside + layer.stride - 1) / layer.stride;
        last = windows < last ? windows : last;
    }
    float run[QUAD * QUAD];
    for (u32 k = 0; k < QUAD * QUAD; ++k) {
        total[k] = run[k] = 0.0f;
    }
    for (u32 pixels = 0; line < end; ++line) {
        u32 row = line % layer.out_height * layer.stride + ki - layer.padding;
        if (bias || row < layer.height) {
            const float* x = image_at(in, line / layer.out_height);
            for (u32 j = first; j < last; ++j) {
                float values[QUAD] = {1.0f, 0.0f, 0.0f, 0.0f}, gradients[QUAD];
                if (!bias) {
                    u32 column = j * layer.stride + kj - layer.padding;
                    read_quad(x + (row * layer.width + column) * layer.channels, tile.channel, layer.channels, values);
                }
                read_quad(dz + (line * layer.out_width + j) * layer.outputs, tile.unit, layer.outputs, gradients);
                for (u32 r = 0; r < QUAD; ++r) {
                    for (u32 k = 0; k < QUAD; ++k) {
                        run[r * QUAD + k] = fmaf(values[r], gradients[k], run[r * QUAD + k]);
                    }
                }
            }
        }
        pixels += layer.out_width;
        if (pixels >= RUN_OF_PIXELS || line + 1 == end) {
            for (u32 k = 0; k < QUAD * QUAD; ++k) {
                total[k] += run[k];
                run[k] = 0.0f;
            }
            pixels = 0;
        }
    }
}

// Adds the parts of `tiles` tiles from `first` on, and writes what lies inside weights and bias.
DEVICE void join_parts(const Layer& layer, u32 first, u32 tiles, u32 tiles_at_once, const float* scratch, float* grads) {
    for (u32 i = threadIdx.x; i < QUAD * QUAD * tiles; i += blockDim.x) {
        u32 own = i % tiles, place = i / tiles;
        float sum = 0.0f;
        for (u32 part = 0; part < layer.parts; ++part) {
            sum += scratch[place * blockDim.x + part * tiles_at_once + own];
        }
        WeightTile tile = tile_at(layer, first + own);
        u32 c = tile.channel + place / QUAD, unit = tile.unit + place % QUAD;
        bool bias = tile.tap == layer.window * layer.window;
        if (unit < layer.outputs && c < (bias ? 1 : layer.channels)) {
            u32 weight = layer.weight + (tile.tap * layer.channels + c) * layer.outputs;
            grads[(bias ? layer.bias : weight) + unit] = sum;
        }
    }
}

// The scratch has sixteen floats a thread.
DEVICE void affine_gradients(const Layer& layer, u32 batch, const Images& in, const float* dz, float* scratch,
                             float* grads) {
    u32 tiles = weight_tiles(layer), at_once = blockDim.x / layer.parts;
    u32 lines = batch * layer.out_height, share = tiles_of(lines, layer.parts);
    u32 part = threadIdx.x / at_once, own = threadIdx.x % at_once;
    u32 begin = part * share < lines ? part * share : lines, end = begin + share < lines ? begin + share : lines;
    for (u32 first = 0; first < tiles; first += at_once) {
        if (part < layer.parts && first + own < tiles) {
            float sum[QUAD * QUAD];
            sum_lines(layer, in, dz, tile_at(layer, first + own), begin, end, sum);
            for (u32 k = 0; k < QUAD * QUAD; ++k) {
                scratch[k * blockDim.x + threadIdx.x] = sum[k];
            }
        }
        __syncthreads();
        join_parts(layer, first, tiles - first < at_once ? tiles - first : at_once, at_once, scratch, grads);
        __syncthreads();
    }
}

#endif
