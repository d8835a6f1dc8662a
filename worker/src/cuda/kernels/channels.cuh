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

// Tables of a matrix, (3 + UNITS) · (row values + column values) floats.
struct Tables {
    // What divides fac_g and fac_m: [3, rows] and [3, cols].
    float *row_factor, *col_factor;
    // What the separable channels add to each unit of the first layer: [UNITS, rows] and [UNITS, cols].
    float *row_base, *col_base;
};

template <class Rule>
DEVICE Tables tables_of(const Tensor& tensor, float* memory) {
    u32 rows = row_values(tensor), cols = col_values(tensor);
    float* bases = memory + 3 * (rows + cols);
    Tables tables = {memory, memory + 3 * rows, bases, bases + Rule::UNITS * rows};
    return tables;
}

DEVICE float root_of_moment(float v) {
    return inverse_root(v + 1e-8f);
}

// Fills the factors of a matrix. Barriers before and after are inside.
DEVICE void fill_factors(const Tensor& tensor, const Slots& slots, const Tables& tables, float* scratch, float* totals) {
    u32 rows = row_values(tensor), cols = col_values(tensor);
    float partial[3];
    for (int a = 0; a < 3; ++a) {
        Sum sum = {0.0f, 0.0f};
        for (u32 r = threadIdx.x; r < rows; r += blockDim.x) {
            add(sum, slots.row[a * rows + r]);
        }
        partial[a] = value_of(sum);
    }
    block_sums(partial, scratch, totals);
    for (u32 i = threadIdx.x; i < 3 * rows; i += blockDim.x) {
        float mean = totals[i / rows] / (float)rows;
        tables.row_factor[i] = safe_inverse_root(slots.row[i] / (mean + 1e-9f));
    }
    for (u32 i = threadIdx.x; i < 3 * cols; i += blockDim.x) {
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
        if (is_matrix(tensor)) {
            for_gradient = tables.row_factor[a * row_values(tensor) + place.row] *
                           tables.col_factor[a * col_values(tensor) + place.col];
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

// Adds the squares of a table's values and of their roots, three timescales each, to sums[0..3] and sums[3..6].
DEVICE void add_separable_squares(const float* v, u32 count, float* sums) {
    for (int a = 0; a < 3; ++a) {
        Sum plain = {0.0f, 0.0f}, roots = {0.0f, 0.0f};
        for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
            float value = v[a * count + i], root = root_of_moment(value);
            add(plain, value * value);
            add(roots, root * root);
        }
        sums[a] = value_of(plain);
        sums[3 + a] = value_of(roots);
    }
}

// norms: 1/√(guard + mean x²) of the element channels, then of row ×3, 1/√row ×3, col ×3, 1/√col ×3.
template <class Rule>
DEVICE void fill_norms(const Tensor& tensor, const float* p, const float* g, const Slots& slots, const Tables& tables,
                       float* scratch, float* norms) {
    const u32 C = Rule::CHANNELS, RUN = 32;
    float partial[C + SEPARABLE];
    Sum sums[C];
    for (u32 c = 0; c < C; ++c) {
        sums[c].high = sums[c].low = 0.0f;
    }
    // Runs of squares are summed as they are; only their sums carry their errors.
    for (u32 first = threadIdx.x; first < tensor.size; first += RUN * blockDim.x) {
        float run[C];
        for (u32 c = 0; c < C; ++c) {
            run[c] = 0.0f;
        }
        for (u32 k = 0; k < RUN && first + k * blockDim.x < tensor.size; ++k) {
            u32 e = first + k * blockDim.x;
            Place place = {0, 0};
            if (is_matrix(tensor)) {
                place = place_of(tensor, e);
            }
            float x[C];
            element_channels<Rule>(tensor, e, p[e], g[e], slots, tables, place, x);
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
    u32 rows = is_matrix(tensor) ? row_values(tensor) : tensor.size;
    u32 cols = is_matrix(tensor) ? col_values(tensor) : tensor.size;
    add_separable_squares(is_matrix(tensor) ? slots.row : slots.diag, rows, partial + C);
    add_separable_squares(is_matrix(tensor) ? slots.col : slots.diag, cols, partial + C + 6);
    block_sums(partial, scratch, norms);
    for (u32 c = threadIdx.x; c < C + SEPARABLE; c += blockDim.x) {
        u32 count = c < C ? tensor.size : (c < C + 6 ? rows : cols);
        norms[c] = inverse_root(Rule::guard_norm() + norms[c] / (float)count);
    }
    __syncthreads();
}

#endif
