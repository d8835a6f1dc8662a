// What makes images smaller: the largest value of windows side by side, and the mean over the whole image.
#ifndef POOL_CUH
#define POOL_CUH
#include "layer.cuh"

// Which window: of a whole one, or of what is left at an edge.
struct PoolWindow {
    u32 example, row, column, channel;
    // Pixels inside the image.
    u32 height, width;
};

// Windows by number: example, then rows, columns, channels.
DEVICE PoolWindow window_at(const Layer& layer, u32 rows, u32 columns, u32 index) {
    u32 channels = layer.channels;
    PoolWindow window = {index / (channels * columns * rows), index / (channels * columns) % rows,
                         index / channels % columns, index % channels, 0, 0};
    u32 below = layer.height - window.row * layer.window, behind = layer.width - window.column * layer.window;
    window.height = below < layer.window ? below : layer.window;
    window.width = behind < layer.window ? behind : layer.window;
    return window;
}

// Where the value of a pixel of a window lies in its image.
DEVICE u32 value_at(const Layer& layer, const PoolWindow& window, u32 pixel) {
    u32 row = window.row * layer.window + pixel / window.width;
    u32 column = window.column * layer.window + pixel % window.width;
    return (row * layer.width + column) * layer.channels + window.channel;
}

// Which pixel of a window is the largest, the first of equals; a NaN is larger than all, as on the CPU.
DEVICE u32 largest(const Layer& layer, const float* image, const PoolWindow& window) {
    u32 winner = 0;
    float best = image[value_at(layer, window, 0)];
    for (u32 pixel = 1; pixel < window.height * window.width; ++pixel) {
        float value = image[value_at(layer, window, pixel)];
        if (value > best || (value != value && best == best)) {
            best = value;
            winner = pixel;
        }
    }
    return winner;
}

DEVICE void max_pool_forward(const Layer& layer, u32 batch, const Images& in, float* out) {
    for (u32 i = threadIdx.x; i < batch * output_size(layer); i += blockDim.x) {
        PoolWindow window = window_at(layer, layer.out_height, layer.out_width, i);
        const float* image = image_at(in, window.example);
        out[i] = image[value_at(layer, window, largest(layer, image, window))];
    }
    __syncthreads();
}

// Replaces the images by their gradient: each window is one thread's, those at an edge that make no output included.
DEVICE void max_pool_backward(const Layer& layer, u32 batch, bool relu, const float* dz, float* images) {
    u32 rows = (layer.height + layer.window - 1) / layer.window;
    u32 columns = (layer.width + layer.window - 1) / layer.window;
    for (u32 i = threadIdx.x; i < batch * rows * columns * layer.channels; i += blockDim.x) {
        PoolWindow window = window_at(layer, rows, columns, i);
        float* image = images + window.example * image_size(layer);
        bool whole = window.row < layer.out_height && window.column < layer.out_width;
        u32 line = window.example * layer.out_height + window.row;
        u32 output = (line * layer.out_width + window.column) * layer.channels + window.channel;
        u32 winner = largest(layer, image, window);
        for (u32 pixel = 0; pixel < window.height * window.width; ++pixel) {
            float* value = image + value_at(layer, window, pixel);
            *value = whole && pixel == winner ? before_relu(relu, *value, dz[output]) : 0.0f;
        }
    }
    __syncthreads();
}

DEVICE void mean_forward(const Layer& layer, u32 batch, const Images& in, float* out) {
    u32 pixels = layer.height * layer.width;
    float share = 1.0f / (float)pixels;
    for (u32 i = threadIdx.x; i < batch * layer.channels; i += blockDim.x) {
        const float* image = image_at(in, i / layer.channels) + i % layer.channels;
        float sum = 0.0f;
        for (u32 pixel = 0; pixel < pixels; ++pixel) {
            sum += image[pixel * layer.channels];
        }
        out[i] = sum * share;
    }
    __syncthreads();
}

// Replaces the images by their gradient.
DEVICE void mean_backward(const Layer& layer, u32 batch, bool relu, const float* dz, float* images) {
    u32 size = image_size(layer);
    float share = 1.0f / (float)(layer.height * layer.width);
    for (u32 i = threadIdx.x; i < batch * size; i += blockDim.x) {
        float gradient = dz[i / size * layer.channels + i % layer.channels] * share;
        images[i] = before_relu(relu, images[i], gradient);
    }
    __syncthreads();
}

#endif
