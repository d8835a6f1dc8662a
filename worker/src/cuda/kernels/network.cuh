// The network that moves one parameter: normalisers folded into its first layer, then two hidden layers with relu
// (optimizer-core/src/learned/{first_layer,network}.rs).
//
//   z = base + Σ_c (w_c · norm_c) · channel_c        base: bias + what the element's row and its column add
#ifndef NETWORK_CUH
#define NETWORK_CUH
#include "channels.cuh"

// What a learned optimizer may look at when a step of a lane begins, and where it writes.
struct Moment {
    // Updates already applied, and how many there will be; the loss before this one.
    u32 step, horizon;
    float loss;
    // The lane: its tensors, parameters, slots and theta, and what stands where within theta.
    const Tensor* layout;
    u32 tensors, slot_size;
    const float* p;
    float* slots;
    const float* theta;
    const u32* place;
    // What it tells each tensor, `ADVICE` floats; room that is free until the first tensor moves.
    float *advice, *scratch;
};

// What a lane's threads share of its learned optimizer; floats only, placed in shared memory.
template <class Rule>
struct Workspace {
    // The network's weights, each layer [inputs, outputs] and its bias.
    float w0[Rule::INPUTS * Rule::UNITS], b0[Rule::UNITS];
    float w1[Rule::UNITS * Rule::UNITS], b1[Rule::UNITS];
    float w2[Rule::UNITS * Rule::OUTPUTS], b2[Rule::OUTPUTS];
    Decays decays;
    // Of the step: b0 with the inputs in it that are the same for all parameters.
    float bias[Rule::UNITS];
    // Of the slice: weights of the element channels times their norms, and of v ×3 and 1/√v ×3 below rank 2.
    float element[Rule::UNITS * Rule::CHANNELS], full[Rule::UNITS * 6];
    float norms[Rule::CHANNELS + SEPARABLE];
};

// The weight of an input row times a norm.
template <class Rule>
DEVICE float folded(const Workspace<Rule>& space, u32 row, u32 unit, u32 norm) {
    return space.w0[row * Rule::UNITS + unit] * space.norms[norm];
}

// Σ_a w_a v_a + w_{3+a}/√(v_a + 1e-8) for one unit and one row or column value.
template <class Rule>
DEVICE float separable_base(const Workspace<Rule>& space, const float* v, u32 count, u32 index, u32 unit, u32 plain,
                            u32 roots, u32 norm) {
    float sum = 0.0f;
    for (u32 a = 0; a < 3; ++a) {
        float value = v[a * count + index];
        sum = fmaf(folded(space, plain + a, unit, norm + a), value, sum);
        sum = fmaf(folded(space, roots + a, unit, norm + 3 + a), root_of_moment(value), sum);
    }
    return sum;
}

// Folds the norms of a slice in. A barrier before and after is inside.
template <class Rule>
DEVICE void fold(const Tensor& tensor, const Slice& slice, const Slots& slots, const Tables& tables,
                 Workspace<Rule>& space) {
    const u32 C = Rule::CHANNELS, U = Rule::UNITS;
    for (u32 i = threadIdx.x; i < U * C; i += blockDim.x) {
        u32 unit = i / C, channel = i % C;
        bool there = is_factored(tensor) || Rule::has_below_matrices(channel);
        space.element[i] = there ? folded(space, Rule::row_of(channel), unit, channel) : 0.0f;
    }
    if (is_factored(tensor)) {
        for (u32 i = threadIdx.x; i < U * slice.rows; i += blockDim.x) {
            u32 unit = i / slice.rows, row = slice.first_row + i % slice.rows;
            tables.row_base[unit * tensor.rows + row] =
                separable_base(space, slots.row, tensor.rows, row, unit, (u32)Rule::ROW, (u32)Rule::ROOT_ROW, C);
        }
        for (u32 i = threadIdx.x; i < U * slice.cols; i += blockDim.x) {
            u32 unit = i / slice.cols, col = slice.first_col + i % slice.cols;
            tables.col_base[unit * tensor.cols + col] =
                separable_base(space, slots.col, tensor.cols, col, unit, (u32)Rule::COL, (u32)Rule::ROOT_COL, C + 6);
        }
    } else {
        for (u32 i = threadIdx.x; i < U * 6; i += blockDim.x) {
            u32 unit = i / 6, a = i % 6;
            u32 row = a < 3 ? Rule::ROW + a : Rule::ROOT_ROW + a - 3;
            u32 col = a < 3 ? Rule::COL + a : Rule::ROOT_COL + a - 3;
            // Rows and columns are both the full second moment, so their weights add up.
            float sum = folded(space, row, unit, C + a) + folded(space, col, unit, C + 6 + a);
            space.full[i] = Rule::SEPARABLE_BELOW_MATRICES ? sum : 0.0f;
        }
    }
    __syncthreads();
}

// The network's first two outputs for one element: direction and magnitude.
template <class Rule>
DEVICE void evaluate(const Tensor& tensor, u32 e, float p, float g, const Slots& slots, const Tables& tables,
                     const Workspace<Rule>& space, float& direction, float& magnitude) {
    const u32 C = Rule::CHANNELS, U = Rule::UNITS;
    float x[C], z[U], next[U];
    Place place = place_of(tensor, e);
    element_channels<Rule>(tensor, e, p, g, slots, tables, place, x);
    for (u32 unit = 0; unit < U; ++unit) {
        float sum = space.bias[unit];
        if (is_factored(tensor)) {
            sum = tables.row_base[unit * tensor.rows + place.row] +
                  (sum + tables.col_base[unit * tensor.cols + place.col]);
        } else if (Rule::SEPARABLE_BELOW_MATRICES) {
            for (u32 a = 0; a < 3; ++a) {
                float v = slots.diag[a * tensor.size + e];
                sum = fmaf(space.full[unit * 6 + a], v, sum);
                sum = fmaf(space.full[unit * 6 + 3 + a], root_of_moment(v), sum);
            }
        }
        for (u32 c = 0; c < C; ++c) {
            sum = fmaf(space.element[unit * C + c], x[c], sum);
        }
        z[unit] = at_least(sum, 0.0f);
    }
    for (u32 unit = 0; unit < U; ++unit) {
        float sum = space.b1[unit];
        for (u32 i = 0; i < U; ++i) {
            sum = fmaf(space.w1[i * U + unit], z[i], sum);
        }
        next[unit] = at_least(sum, 0.0f);
    }
    direction = space.b2[0];
    magnitude = space.b2[1];
    for (u32 i = 0; i < U; ++i) {
        direction = fmaf(space.w2[i * Rule::OUTPUTS], next[i], direction);
        magnitude = fmaf(space.w2[i * Rule::OUTPUTS + 1], next[i], magnitude);
    }
}

// One update of one tensor: accumulators, factors, then slice by slice norms, folded weights and the network, by which
// the parameters move.
template <class Rule>
DEVICE void update_tensor(const Tensor& tensor, float* p, float* g, const Slots& slots, const Tables& tables,
                          Workspace<Rule>& space, const typename Rule::Settings& settings, const float* told, float* scratch) {
    update_accumulators<Rule>(tensor, g, slots, space.decays);
    __syncthreads();
    if (is_factored(tensor)) {
        fill_factors(tensor, slots, tables);
    }
    u32 size = Rule::BY_MATRICES ? tensor.matrix : tensor.size;
    for (u32 first = 0; first < tensor.size; first += size) {
        Slice slice = slice_of(tensor, first, size);
        fill_norms<Rule>(tensor, slice, p, g, slots, tables, scratch, space.norms);
        fold<Rule>(tensor, slice, slots, tables, space);
        Rule::move(tensor, slice, p, g, slots, tables, space, settings, told, scratch);
    }
}

// Copies the network of a lane of theta: place[first + i] says where weight i stands within it.
template <class Rule>
DEVICE void load_network(const float* theta, const u32* place, Workspace<Rule>& space) {
    const u32 COUNT = Rule::INPUTS * Rule::UNITS + Rule::UNITS + Rule::UNITS * Rule::UNITS + Rule::UNITS +
                      Rule::UNITS * Rule::OUTPUTS + Rule::OUTPUTS;
    // Weights and biases lie one after the other.
    float* weights = (float*)&space;
    for (u32 i = threadIdx.x; i < COUNT; i += blockDim.x) {
        weights[i] = theta[place[i]];
    }
}

#endif
