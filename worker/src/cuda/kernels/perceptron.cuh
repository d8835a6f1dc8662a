// The multilayer perceptron of a lane: loss and gradient on one batch, by one block.
//
//   images[batch] ─► x W + b ─► relu ─► … ─► logits ─► softmax cross-entropy       activations stay in the arena
//                                   dW, db ◄─ dz ◄─ … ◄─ probabilities − 1[label]  each gradient takes its activation's place
//
// Examples are gathered from the data set where they lie; only their numbers are sent.
#ifndef PERCEPTRON_CUH
#define PERCEPTRON_CUH
#include "reduce.cuh"

const u32 MOST_LAYERS = 5;

// Eighteen words, as `PerceptronPlan` of src/cuda/window.rs writes them.
struct Perceptron {
    // Linear layers, and examples of a batch.
    u32 layers, batch;
    // Inputs, hidden layers, classes.
    u32 width[MOST_LAYERS + 1];
    // Where weights [inputs, outputs] and bias of each layer begin within a lane.
    u32 weight[MOST_LAYERS], bias[MOST_LAYERS];
};

// Rows of a batch, or of a weight matrix, that one thread computes at once: a weight is read once for all of them.
const u32 TILE = 4;

// A layer's inputs: rows of the arena, or examples of the data set.
struct Rows {
    const float* values;
    // Numbers of the examples, null for rows that lie one after the other.
    const u32* numbers;
    u32 width;
};

DEVICE const float* row_at(const Rows& rows, u32 index) {
    return rows.values + (u64)(rows.numbers ? rows.numbers[index] : index) * rows.width;
}

// Where the outputs of a layer begin within the arena.
DEVICE u32 outputs_at(const Perceptron& net, u32 layer) {
    u32 at = 0;
    for (u32 l = 0; l < layer; ++l) {
        at += net.batch * net.width[l + 1];
    }
    return at;
}

DEVICE void forward_layer(const Perceptron& net, u32 layer, const Rows& in, const float* p, float* out) {
    u32 width = net.width[layer + 1], inputs = net.width[layer];
    const float* w = p + net.weight[layer];
    u32 tiles = (net.batch + TILE - 1) / TILE;
    for (u32 i = threadIdx.x; i < tiles * width; i += blockDim.x) {
        u32 first = i / width * TILE, unit = i % width;
        const float* x[TILE];
        float sum[TILE];
        for (u32 r = 0; r < TILE; ++r) {
            // Rows beyond the batch repeat the last one and are not written.
            x[r] = row_at(in, first + r < net.batch ? first + r : net.batch - 1);
            sum[r] = p[net.bias[layer] + unit];
        }
        for (u32 k = 0; k < inputs; ++k) {
            float weight = w[k * width + unit];
            for (u32 r = 0; r < TILE; ++r) {
                sum[r] = fmaf(x[r][k], weight, sum[r]);
            }
        }
        for (u32 r = 0; r < TILE && first + r < net.batch; ++r) {
            out[(first + r) * width + unit] = layer + 1 < net.layers ? at_least(sum[r], 0.0f) : sum[r];
        }
    }
    __syncthreads();
}

// Replaces logits by their gradient, (probability − 1[label]) / batch; returns the mean loss.
DEVICE float cross_entropy(const Perceptron& net, float* logits, const u32* labels, const u32* numbers, float* scratch,
                           float* total) {
    u32 classes = net.width[net.layers];
    float share = 1.0f / (float)net.batch;
    Sum loss = {0.0f, 0.0f};
    for (u32 b = threadIdx.x; b < net.batch; b += blockDim.x) {
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
    return total[0] / (float)net.batch;
}

// Gradients of a layer's weights and bias from those of its outputs.
DEVICE void weight_gradients(const Perceptron& net, u32 layer, const Rows& in, const float* dz, float* grads) {
    u32 width = net.width[layer + 1], inputs = net.width[layer];
    u32 tiles = (inputs + TILE - 1) / TILE;
    for (u32 i = threadIdx.x; i < tiles * width; i += blockDim.x) {
        u32 first = i / width * TILE, unit = i % width;
        float sum[TILE] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (u32 b = 0; b < net.batch; ++b) {
            float gradient = dz[b * width + unit];
            const float* x = row_at(in, b);
            for (u32 r = 0; r < TILE; ++r) {
                sum[r] = fmaf(x[first + r < inputs ? first + r : inputs - 1], gradient, sum[r]);
            }
        }
        for (u32 r = 0; r < TILE && first + r < inputs; ++r) {
            grads[net.weight[layer] + (first + r) * width + unit] = sum[r];
        }
    }
    for (u32 unit = threadIdx.x; unit < width; unit += blockDim.x) {
        float sum = 0.0f;
        for (u32 b = 0; b < net.batch; ++b) {
            sum += dz[b * width + unit];
        }
        grads[net.bias[layer] + unit] = sum;
    }
    __syncthreads();
}

// Replaces the inputs of a layer, which came from relu, by their gradient. Neighbouring threads have neighbouring inputs,
// whose weights lie a row apart: each begins at another unit, else all would meet in one bank of shared memory.
DEVICE void input_gradients(const Perceptron& net, u32 layer, const float* dz, const float* p, float* in) {
    u32 width = net.width[layer + 1], inputs = net.width[layer];
    for (u32 i = threadIdx.x; i < net.batch * inputs; i += blockDim.x) {
        u32 b = i / inputs, k = i % inputs, unit = k % width;
        const float* w = p + net.weight[layer] + k * width;
        float sum = 0.0f;
        for (u32 done = 0; done < width; ++done) {
            sum = fmaf(dz[b * width + unit], w[unit], sum);
            unit = unit + 1 == width ? 0 : unit + 1;
        }
        in[i] = in[i] > 0.0f ? sum : 0.0f;
    }
    __syncthreads();
}

// Loss on the batch of these examples, and its gradient; all threads learn the loss. The arena has room for the outputs
// of all layers, the scratch for one float a thread.
DEVICE float loss_and_gradient(const Perceptron& net, const float* p, const float* images, const u32* labels,
                               const u32* numbers, float* arena, float* scratch, float* total, float* grads) {
    Rows data = {images, numbers, net.width[0]};
    for (u32 layer = 0; layer < net.layers; ++layer) {
        Rows before = {layer > 0 ? arena + outputs_at(net, layer - 1) : arena, (const u32*)0, net.width[layer]};
        forward_layer(net, layer, layer > 0 ? before : data, p, arena + outputs_at(net, layer));
    }
    float* logits = arena + outputs_at(net, net.layers - 1);
    float loss = cross_entropy(net, logits, labels, numbers, scratch, total);
    for (u32 layer = net.layers; layer-- > 0;) {
        const float* dz = arena + outputs_at(net, layer);
        float* in = layer > 0 ? arena + outputs_at(net, layer - 1) : arena;
        Rows before = {in, (const u32*)0, net.width[layer]};
        weight_gradients(net, layer, layer > 0 ? before : data, dz, grads);
        if (layer > 0) {
            input_gradients(net, layer, dz, p, in);
        }
    }
    return loss;
}

#endif
