// The network of a lane: loss and gradient on one batch, by one block.
//
//   images[batch] ─► layer ─► … ─► logits ─► softmax cross-entropy          activations stay where they are made
//          dw, db ◄─ dz ◄─ … ◄─ probabilities − 1[label]                    each gradient takes its activation's place
//
// Examples are gathered from the data set where they lie; only their numbers are sent.
#ifndef FEED_FORWARD_CUH
#define FEED_FORWARD_CUH
#include "pool.cuh"
#include "weights.cuh"

// Replaces logits by their gradient, (probability − 1[label]) / batch; returns the mean loss.
DEVICE float cross_entropy(u32 batch, u32 classes, float* logits, const u32* labels, const u32* numbers, float* scratch,
                           float* total) {
    float share = 1.0f / (float)batch;
    Sum loss = {0.0f, 0.0f};
    for (u32 b = threadIdx.x; b < batch; b += blockDim.x) {
        float* z = logits + b * classes;
        u32 label = labels[numbers[b]];
        float largest = z[0];
        for (u32 c = 1; c < classes; ++c) {
            largest = z[c] > largest ? z[c] : largest;
        }
        float right = z[label] - largest, sum = 0.0f;
        for (u32 c = 0; c < classes; ++c) {
            z[c] = exponential(z[c] - largest);
            sum += z[c];
        }
        add(loss, logarithm(sum) - right);
        for (u32 c = 0; c < classes; ++c) {
            z[c] = (z[c] / sum - (c == label ? 1.0f : 0.0f)) * share;
        }
    }
    float partial[1] = {value_of(loss)};
    block_sums(partial, scratch, total);
    return total[0] / (float)batch;
}

// What layer `index` reads.
DEVICE Images inputs_of(const Network& net, u32 index, const float* images, const u32* numbers, const float* activations) {
    const Layer& layer = net.layers[index];
    Images data = {images, numbers, image_size(layer)};
    if (index > 0) {
        data.values = activations + net.layers[index - 1].at;
        data.numbers = (const u32*)0;
    }
    return data;
}

// Loss on the batch of these examples, and its gradient; all threads learn the loss. The activations have room for the
// outputs of all layers, the scratch for sixteen floats a thread.
DEVICE float loss_and_gradient(const Network& net, const float* p, const float* images, const u32* labels,
                               const u32* numbers, float* activations, float* scratch, float* total, float* grads) {
    // Below the first layer with weights nothing wants a gradient.
    u32 lowest = net.count;
    for (u32 l = 0; l < net.count; ++l) {
        const Layer layer = net.layers[l];
        Images in = inputs_of(net, l, images, numbers, activations);
        float* out = activations + layer.at;
        if (layer.kind == AFFINE) {
            affine_forward(layer, net.batch, in, p, out);
            lowest = l < lowest ? l : lowest;
        } else if (layer.kind == MAX_POOL) {
            max_pool_forward(layer, net.batch, in, out);
        } else {
            mean_forward(layer, net.batch, in, out);
        }
    }
    const Layer& last = net.layers[net.count - 1];
    float loss = cross_entropy(net.batch, last.outputs, activations + last.at, labels, numbers, scratch, total);
    for (u32 l = net.count; l-- > lowest;) {
        const Layer layer = net.layers[l];
        const float* dz = activations + layer.at;
        if (layer.kind == AFFINE) {
            affine_gradients(layer, net.batch, inputs_of(net, l, images, numbers, activations), dz, scratch, grads);
        }
        if (l == lowest) {
            break;
        }
        float* in = activations + net.layers[l - 1].at;
        bool relu = net.layers[l - 1].relu != 0;
        if (layer.kind == AFFINE) {
            affine_backward(layer, net.batch, relu, dz, p, in);
        } else if (layer.kind == MAX_POOL) {
            max_pool_backward(layer, net.batch, relu, dz, in);
        } else {
            mean_backward(layer, net.batch, relu, dz, in);
        }
    }
    return loss;
}

#endif
