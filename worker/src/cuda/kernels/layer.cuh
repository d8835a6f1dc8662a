// A layer of a feed-forward network as the kernels see it, and where its inputs lie.
#ifndef LAYER_CUH
#define LAYER_CUH
#include "reduce.cuh"

enum Kind : u32 { AFFINE, MAX_POOL, SPATIAL_MEAN };

// Fifteen words, as `FeedForwardPlan` of src/cuda/feed_forward.rs writes them. A linear layer is a convolution of images of
// one pixel, whose channels are all its inputs.
struct Layer {
    u32 kind;
    // The image: channels last.
    u32 height, width, channels;
    // What the layer makes of it.
    u32 out_height, out_width, outputs;
    // Side of a window, pixels from one window to the next, zeros round the image.
    u32 window, stride, padding;
    // 1 if relu follows.
    u32 relu;
    // Where weights [window, window, channels, outputs] and bias begin within a lane.
    u32 weight, bias;
    // Threads that share the sum of a weight's gradient.
    u32 parts;
    // Where its outputs begin among the activations.
    u32 at;
};

// The layers, and the examples of a batch.
struct Network {
    const Layer* layers;
    u32 count, batch;
};

DEVICE u32 image_size(const Layer& layer) {
    return layer.height * layer.width * layer.channels;
}

DEVICE u32 output_size(const Layer& layer) {
    return layer.out_height * layer.out_width * layer.outputs;
}

// A layer's images: activations, or examples of the data set.
struct Images {
    const float* values;
    // Numbers of the examples, null for images that lie one after the other.
    const u32* numbers;
    u32 size;
};

DEVICE const float* image_at(const Images& images, u32 index) {
    return images.values + (u64)(images.numbers ? images.numbers[index] : index) * images.size;
}

// The gradient of a layer's input at a value that relu, perhaps, has made.
DEVICE float before_relu(bool relu, float value, float gradient) {
    return !relu || value > 0.0f ? gradient : 0.0f;
}

// Values that a thread reads at once where it can, and sides of its tile of sums.
const u32 QUAD = 4;

// Four values from a quad on of `count` that lie one after the other; those beyond the end repeat the last one. If the
// count is a multiple of four, so is the place of all of them, for the kernels' layouts keep to quads.
DEVICE void read_quad(const float* values, u32 first, u32 count, float (&x)[QUAD]) {
    if (count % QUAD == 0) {
        float4 quad = *(const float4*)(values + first);
        x[0] = quad.x;
        x[1] = quad.y;
        x[2] = quad.z;
        x[3] = quad.w;
        return;
    }
    for (u32 k = 0; k < QUAD; ++k) {
        x[k] = values[first + k < count ? first + k : count - 1];
    }
}

#endif
