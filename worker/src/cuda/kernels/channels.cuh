// The input channels of a per-parameter network, one element at a time, never stored
// (optimizer-core/src/learned/channels.rs).
//
//   element channels    g │ p │ m ×3 │ rms │ m·q ×3 │ q │ fac_g ×3 │ fac_m ×3 │ [clip(g) │ g·q]       q = 1/√(rms + ε)
//   separable channels  row ×3 │ 1/√(row + 1e-8) ×3 │ col ×3 │ 1/√(col + 1e-8) ×3
//
// `Rule` is the learned optimizer: how many channels, its guards, and where each stands among the inputs.
#ifndef CHANNELS_CUH
#define CHANNELS_CUH
#include "accumulators.cuh"
#include "reduce.cuh"

const u32 SEPARABLE = 12;

// Tables of a factored tensor, (3 + UNITS) · (row values + column values) floats.
struct Tables {
    // What divides fac_g and fac_m: [3, rows] and [3, cols].
    float *row_factor, *col_factor;
    // What the separable channels add to each unit of the first layer: [UNITS, rows] and [UNITS, cols].
    float *row_base, *col_base;
};

template <class Rule>
DEVICE Tables tables_of(const Tensor& tensor, float* memory) {
    float* bases = memory + 3 * (tensor.rows + tensor.cols);
    Tables tables = {memory, memory + 3 * tensor.rows, bases, bases + Rule::UNITS * tensor.rows};
    return tables;
}

DEVICE float root_of_moment(float v) {
    return inverse_root(v + 1e-8f);
}

// Fills the factors of a factored tensor; a barrier before readers is inside. A row value is taken over the mean of those
// that differ from it along d1 alone. Each finds that mean by itself: together that is as much as the tensor once, and no
// place is needed for as many means as the other axes have indices.
DEVICE void fill_factors(const Tensor& tensor, const Slots& slots, const Tables& tables) {
    Axis d1 = d1_of_rows(tensor);
    for (u32 i = threadIdx.x; i < 3 * tensor.rows; i += blockDim.x) {
        u32 row = i % tensor.rows;
        const float* others = slots.row + (i - row) + first_of(d1, line_of(d1, row));
        Sum sum = {0.0f, 0.0f};
        for (u32 k = 0; k < d1.size; ++k) {
            add(sum, others[k * d1.stride]);
        }
        float mean = value_of(sum) / (float)d1.size;
        tables.row_factor[i] = safe_inverse_root(slots.row[i] / (mean + 1e-9f));
    }
    for (u32 i = threadIdx.x; i < 3 * tensor.cols; i += blockDim.x) {
        tables.col_factor[i] = safe_inverse_root(slots.col[i]);
    }
    __syncthreads();
}

// The element channels of one element.
template <class Rule>
DEVICE void element_channels(const Tensor& tensor, u32 e, float p, float gradient, const Slots& slots,
                             const Tables& tables, Place place, float (&x)[Rule::CHANNELS]) {
    float g = Rule::gradient(gradient), rms = slots.rms[e];
    float q = inverse_root(rms + Rule::guard_q());
    x[0] = g;
    x[1] = p;
    x[5] = rms;
    x[9] = q;
    for (int a = 0; a < 3; ++a) {
        float m = slots.m[a * tensor.size + e], for_gradient, for_momentum;
        if (is_factored(tensor)) {
            for_gradient =
                tables.row_factor[a * tensor.rows + place.row] * tables.col_factor[a * tensor.cols + place.col];
            for_momentum = for_gradient;
        } else {
            float v = slots.diag[a * tensor.size + e];
            for_gradient = safe_inverse_root(v + 1e-9f);
            for_momentum = inverse_root(v + Rule::guard_fac_m());
        }
        x[2 + a] = m;
        x[6 + a] = m * q;
        x[10 + a] = g * for_gradient;
        x[13 + a] = m * for_momentum;
    }
    if (Rule::CHANNELS == 18) {
        // Written so that it compiles where there are 16.
        x[Rule::CHANNELS - 2] = clamp(g, -0.1f, 0.1f);
        x[Rule::CHANNELS - 1] = g * q;
    }
}

// The squares of a table's values `first..first + count` and of their roots, three timescales of `values` each, as
// sums[0..3] and sums[3..6].
DEVICE void add_separable_squares(const float* v, u32 values, u32 first, u32 count, float* sums) {
    for (int a = 0; a < 3; ++a) {
        Sum plain = {0.0f, 0.0f}, roots = {0.0f, 0.0f};
        for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
            float value = v[a * values + first + i], root = root_of_moment(value);
            add(plain, value * value);
            add(roots, root * root);
        }
        sums[a] = value_of(plain);
        sums[3 + a] = value_of(roots);
    }
}

// norms: 1/√(guard + mean x²) over a slice of the element channels, then of row ×3, 1/√row ×3, col ×3, 1/√col ×3.
template <class Rule>
DEVICE void fill_norms(const Tensor& tensor, const Slice& slice, const float* p, const float* g, const Slots& slots,
                       const Tables& tables, float* scratch, float* norms) {
    const u32 C = Rule::CHANNELS, RUN = 32;
    float partial[C + SEPARABLE];
    Sum sums[C];
    for (u32 c = 0; c < C; ++c) {
        sums[c].high = sums[c].low = 0.0f;
    }
    // Runs of squares are summed as they are; only their sums carry their errors.
    for (u32 first = threadIdx.x; first < slice.size; first += RUN * blockDim.x) {
        float run[C];
        for (u32 c = 0; c < C; ++c) {
            run[c] = 0.0f;
        }
        for (u32 k = 0; k < RUN && first + k * blockDim.x < slice.size; ++k) {
            u32 e = slice.first + first + k * blockDim.x;
            float x[C];
            element_channels<Rule>(tensor, e, p[e], g[e], slots, tables, place_of(tensor, e), x);
            for (u32 c = 0; c < C; ++c) {
                run[c] = fmaf(x[c], x[c], run[c]);
            }
        }
        for (u32 c = 0; c < C; ++c) {
            add(sums[c], run[c]);
        }
    }
    for (u32 c = 0; c < C; ++c) {
        partial[c] = value_of(sums[c]);
    }
    u32 rows = tensor.size, cols = tensor.size;
    if (is_factored(tensor)) {
        rows = slice.rows;
        cols = slice.cols;
        add_separable_squares(slots.row, tensor.rows, slice.first_row, rows, partial + C);
        add_separable_squares(slots.col, tensor.cols, slice.first_col, cols, partial + C + 6);
    } else {
        add_separable_squares(slots.diag, tensor.size, 0, tensor.size, partial + C);
        add_separable_squares(slots.diag, tensor.size, 0, tensor.size, partial + C + 6);
    }
    block_sums(partial, scratch, norms);
    for (u32 c = threadIdx.x; c < C + SEPARABLE; c += blockDim.x) {
        u32 count = c < C ? slice.size : (c < C + 6 ? rows : cols);
        norms[c] = inverse_root(Rule::guard_norm() + norms[c] / (float)count);
    }
    __syncthreads();
}

#endif
