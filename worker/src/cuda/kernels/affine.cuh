// Convolutions and linear layers: a batch forward, and the gradient of their input back.
//
//   y[b, i, j, o] = bias[o] + Σ x[b, i · stride + ki − padding, j · stride + kj − padding, c] · w[ki, kj, c, o]
//
// Windows are read where they lie, no patches are made. A thread has one output (or input) of several examples, so that a
// weight is read once for all of them, and what falls into the border is the same for all. Neighbouring threads have
// neighbouring channels: they read the same pixels and neighbouring weights, and write side by side.
#ifndef AFFINE_CUH
#define AFFINE_CUH
#include "layer.cuh"

// Examples that one thread computes at once.
const u32 TILE = 4;

DEVICE u32 tiles_of(u32 count, u32 side) {
    return (count + side - 1) / side;
}

DEVICE void affine_forward(const Layer& layer, u32 batch, const Images& in, const float* p, float* out) {
    u32 outputs = layer.outputs, channels = layer.channels, pixels = layer.out_height * layer.out_width;
    for (u32 i = threadIdx.x; i < tiles_of(batch, TILE) * pixels * outputs; i += blockDim.x) {
        u32 unit = i % outputs, pixel = i / outputs % pixels, first = i / (outputs * pixels) * TILE;
        // The window's corner, counted with the border.
        u32 top = pixel / layer.out_width * layer.stride, left = pixel % layer.out_width * layer.stride;
        const float* x[TILE];
        float sum[TILE];
        for (u32 r = 0; r < TILE; ++r) {
            // Examples beyond the batch repeat the last one and are not written.
            x[r] = image_at(in, first + r < batch ? first + r : batch - 1);
            sum[r] = p[layer.bias + unit];
        }
        for (u32 tap = 0; tap < layer.window * layer.window; ++tap) {
            // Above and left of the image these are huge.
            u32 row = top + tap / layer.window - layer.padding, column = left + tap % layer.window - layer.padding;
            if (row >= layer.height || column >= layer.width) {
                continue;
            }
            u32 from = (row * layer.width + column) * channels;
            const float* w = p + layer.weight + tap * channels * outputs + unit;
            u32 quads = channels % QUAD == 0 ? channels : 0;
            for (u32 c = 0; c < quads; c += QUAD) {
                float values[TILE][QUAD];
                for (u32 r = 0; r < TILE; ++r) {
                    read_quad(x[r], from + c, channels, values[r]);
                }
                for (u32 k = 0; k < QUAD; ++k) {
                    float weight = w[(c + k) * outputs];
                    for (u32 r = 0; r < TILE; ++r) {
                        sum[r] = fmaf(values[r][k], weight, sum[r]);
                    }
                }
            }
            for (u32 c = quads; c < channels; ++c) {
                float weight = w[c * outputs];
                for (u32 r = 0; r < TILE; ++r) {
                    sum[r] = fmaf(x[r][from + c], weight, sum[r]);
                }
            }
        }
        for (u32 r = 0; r < TILE && first + r < batch; ++r) {
            out[((first + r) * pixels + pixel) * outputs + unit] = layer.relu ? at_least(sum[r], 0.0f) : sum[r];
        }
    }
    __syncthreads();
}

// Replaces the input of a layer, which perhaps came from relu, by its gradient. Neighbouring threads have neighbouring
// channels, whose weights lie `outputs` apart: each begins at another output, else all would meet in one bank of shared
// memory.
DEVICE void affine_backward(const Layer& layer, u32 batch, bool relu, const float* dz, const float* p, float* in) {
    u32 outputs = layer.outputs, channels = layer.channels, pixels = layer.height * layer.width;
    u32 step = outputs % QUAD == 0 ? QUAD : 1;
    for (u32 i = threadIdx.x; i < tiles_of(batch, TILE) * pixels * channels; i += blockDim.x) {
        u32 c = i % channels, pixel = i / channels % pixels, first = i / (channels * pixels) * TILE;
        // The pixel, counted with the border.
        u32 row = pixel / layer.width + layer.padding, column = pixel % layer.width + layer.padding;
        const float* z[TILE];
        float sum[TILE];
        for (u32 r = 0; r < TILE; ++r) {
            z[r] = dz + (first + r < batch ? first + r : batch - 1) * output_size(layer);
            sum[r] = 0.0f;
        }
        for (u32 tap = 0; tap < layer.window * layer.window; ++tap) {
            // The window that has the pixel at this tap, if there is one.
            u32 down = row - tap / layer.window, right = column - tap % layer.window;
            u32 top = down / layer.stride, left = right / layer.stride;
            if (top * layer.stride != down || left * layer.stride != right || top >= layer.out_height ||
                left >= layer.out_width) {
                continue;
            }
            u32 from = (top * layer.out_width + left) * outputs;
            const float* w = p + layer.weight + (tap * channels + c) * outputs;
            u32 unit = c % (outputs / step) * step;
            for (u32 done = 0; done < outputs; done += step) {
                if (step == QUAD) {
                    float values[TILE][QUAD];
                    for (u32 r = 0; r < TILE; ++r) {
                        read_quad(z[r], from + unit, outputs, values[r]);
                    }
                    for (u32 k = 0; k < QUAD; ++k) {
                        float weight = w[unit + k];
                        for (u32 r = 0; r < TILE; ++r) {
                            sum[r] = fmaf(values[r][k], weight, sum[r]);
                        }
                    }
                } else {
                    float weight = w[unit];
                    for (u32 r = 0; r < TILE; ++r) {
                        sum[r] = fmaf(z[r][from + unit], weight, sum[r]);
                    }
                }
                unit = unit + step == outputs ? 0 : unit + step;
            }
        }
        for (u32 r = 0; r < TILE && first + r < batch; ++r) {
            float* x = in + ((first + r) * pixels + pixel) * channels + c;
            *x = before_relu(relu, *x, sum[r]);
        }
    }
    __syncthreads();
}

#endif
