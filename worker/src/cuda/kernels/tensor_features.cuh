// What HyperV2's LSTM is told about a tensor: parameters and accumulators as they are before the step
// (optimizer-core/src/learned/hyper_v2/{statistics,tensor_features}.rs).
//
//   course ×18 │ mean_rms │ rank ×5 │ var_m ×3 │ var_rms ×3 │ [validation]
#ifndef TENSOR_FEATURES_CUH
#define TENSOR_FEATURES_CUH
#include "loss_buffer.cuh"
#include "reduce.cuh"
#include "tensor.cuh"

const u32 RANKS = 5;

// Mean square of the parameters; mean and variance of m ×3 and of rms.
struct Statistics {
    float mean_square, mean[4], variance[4];
};

// Two passes: means, then squares around them, with what the rounded means are off taken back. All threads come and get
// them; `scratch` has 8 · blockDim.x places, `totals` has 8.
DEVICE Statistics statistics_of(const Tensor& tensor, const float* p, const Slots& slots, float* scratch, float* totals) {
    // m ×3 and rms lie one after the other.
    const float* moments = slots.m;
    u32 size = tensor.size;
    float count = (float)(size > 0 ? size : 1);
    Sum squares = {0.0f, 0.0f}, sums[4];
    for (u32 c = 0; c < 4; ++c) {
        sums[c].high = sums[c].low = 0.0f;
    }
    for (u32 e = threadIdx.x; e < size; e += blockDim.x) {
        add(squares, p[e] * p[e]);
        for (u32 c = 0; c < 4; ++c) {
            add(sums[c], moments[c * size + e]);
        }
    }
    float first[5] = {value_of(squares), value_of(sums[0]), value_of(sums[1]), value_of(sums[2]), value_of(sums[3])};
    block_sums(first, scratch, totals);
    Statistics of;
    of.mean_square = totals[0] / count;
    Sum apart[8];
    for (u32 c = 0; c < 4; ++c) {
        of.mean[c] = totals[1 + c] / count;
        apart[c].high = apart[c].low = apart[4 + c].high = apart[4 + c].low = 0.0f;
    }
    for (u32 e = threadIdx.x; e < size; e += blockDim.x) {
        for (u32 c = 0; c < 4; ++c) {
            float x = moments[c * size + e] - of.mean[c];
            add(apart[c], x);
            add(apart[4 + c], x * x);
        }
    }
    float second[8];
    for (u32 c = 0; c < 8; ++c) {
        second[c] = value_of(apart[c]);
    }
    block_sums(second, scratch, totals);
    for (u32 c = 0; c < 4; ++c) {
        float off = totals[c] / count, variance = totals[4 + c] / count - off * off;
        of.mean[c] += off;
        of.variance[c] = at_least(variance, 0.0f);
    }
    return of;
}

// ½ clip(ln(1e-8 + |10 x|), ±5)
DEVICE float log_size(float x) {
    return 0.5f * clamp(logarithm(1e-8f + fabsf(10.0f * x)), -5.0f, 5.0f);
}

// The features of a tensor of so many axes longer than one; each thread writes some of them.
DEVICE void write_features(const Statistics& of, u32 long_axes, const float* course, float validation, u32 count,
                           float* features) {
    float scale = safe_inverse_root(of.mean_square), rms = of.mean[3] * scale;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        float feature = validation;
        if (i < COURSE_FEATURES) {
            feature = course[i];
        } else if (i == COURSE_FEATURES) {
            feature = log_size(rms);
        } else if (i < COURSE_FEATURES + 1 + RANKS) {
            feature = long_axes == i - COURSE_FEATURES - 1 ? 1.0f : 0.0f;
        } else if (i < COURSE_FEATURES + 1 + RANKS + 6) {
            u32 c = i - COURSE_FEATURES - 1 - RANKS, a = c % 3;
            // Chosen, not indexed: an index would put the statistics into memory.
            float mean = a == 0 ? of.mean[0] : a == 1 ? of.mean[1] : of.mean[2];
            float variance = a == 0 ? of.variance[0] : a == 1 ? of.variance[1] : of.variance[2];
            // The second moment is centred on the means of the momenta: a quirk that the weights rely on.
            float apart = rms - mean * scale;
            feature = log_size(c < 3 ? variance * (scale * scale) : of.variance[3] * (scale * scale) + apart * apart);
        }
        features[i] = feature;
    }
}

#endif
