// What a learned optimizer remembers of past gradients, and how one gradient enters it
// (optimizer-core/src/learned/accumulators.rs).
#ifndef ACCUMULATORS_CUH
#define ACCUMULATORS_CUH
#include "float.cuh"
#include "tensor.cuh"

// A moving average m ← keep · m + take · x.
struct Decay {
    float keep, take;
};

struct Decays {
    Decay momentum[3], rms, second[3];
};

DEVICE Decay decay_of(float keep) {
    Decay decay = {keep, 1.0f - keep};
    return decay;
}

DEVICE float mixed(Decay decay, float average, float x) {
    return fmaf(decay.keep, average, decay.take * x);
}

// g² + 1e-30: never zero, so that roots of averages can be divided by.
DEVICE float padded_square(float g) {
    return fmaf(g, g, 1e-30f);
}

// The mean of the padded squares of the gradients on a line along an axis. Neighbouring threads have neighbouring lines,
// so each begins at another place of its line: else all would meet in one bank of shared memory.
template <class Rule>
DEVICE float line_mean(const float* g, Axis axis, u32 line) {
    Sum sum = {0.0f, 0.0f};
    g += first_of(axis, line);
    u32 k = line % axis.size;
    for (u32 done = 0; done < axis.size; ++done) {
        add(sum, padded_square(Rule::gradient(g[k * axis.stride])));
        k = k + 1 == axis.size ? 0 : k + 1;
    }
    return value_of(sum) / (float)axis.size;
}

// The gradient of one tensor enters. All threads come; a barrier must follow before others read the slots.
template <class Rule>
DEVICE void update_accumulators(const Tensor& tensor, const float* g, const Slots& slots, const Decays& decays) {
    for (u32 e = threadIdx.x; e < tensor.size; e += blockDim.x) {
        float x = Rule::gradient(g[e]);
        for (int a = 0; a < 3; ++a) {
            float* m = slots.m + a * tensor.size + e;
            *m = mixed(decays.momentum[a], *m, x);
            if (!is_factored(tensor)) {
                float* v = slots.diag + a * tensor.size + e;
                *v = mixed(decays.second[a], *v, padded_square(x));
            }
        }
        slots.rms[e] = mixed(decays.rms, slots.rms[e], x * x);
    }
    if (!is_factored(tensor)) {
        return;
    }
    for (u32 line = threadIdx.x; line < tensor.rows + tensor.cols; line += blockDim.x) {
        // Elements of a row value lie along d0, elements of a column value along d1.
        bool is_row = line < tensor.rows;
        u32 index = is_row ? line : line - tensor.rows, values = is_row ? tensor.rows : tensor.cols;
        float mean = line_mean<Rule>(g, is_row ? tensor.d0 : tensor.d1, index);
        for (int a = 0; a < 3; ++a) {
            float* v = (is_row ? slots.row : slots.col) + a * values + index;
            *v = mixed(decays.second[a], *v, mean);
        }
    }
}

#endif
