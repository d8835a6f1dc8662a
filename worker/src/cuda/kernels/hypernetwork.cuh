// From the features of a lane's tensors to a network and a rate for each
// (optimizer-core/src/learned/{hypernetwork,lstm,bank}.rs).
//
//   X [tensors, F] ─► relu(X W1 + b1) ─ max over tensors ─┐
//         └─────────► X W2 + b2 ──────────────────────────┴─(+)─► LSTM (own state a tensor) ─┬─► control ─► Σ_k c_k bank_k
//                                                                                            └─► rate
//
// Theta stays where it is, in the device's memory: neighbouring threads have neighbouring outputs, so they read
// neighbouring weights, each once a step for all tensors (for every eight, if there are more).
#ifndef HYPERNETWORK_CUH
#define HYPERNETWORK_CUH
#include "float.cuh"

// Where weights [inputs, outputs] and bias of a layer begin within a lane of theta.
struct Affine {
    u32 w, b;
};

// Where the values of one weight in all networks of the bank stand: the first, and how far from one to the next.
struct Banked {
    u32 first, stride;
};

// Fourteen words, as src/cuda/rule/hyper_v2.rs writes them.
struct Hypernetwork {
    // Units of the LSTM, networks of the bank, features, and whether tensors are mixed.
    u32 hidden, banks, features, mixes;
    Affine pooled, own, lstm, controls, rate;
};

// Tensors that are done together.
const u32 TOGETHER = 8;

// sum[c][r] += Σ_i x[r][i] · w[i][c], for columns of w that lie `apart`, and as many rows of x as there are: further ones
// repeat the last. Inputs are added in order, so a row's result does not depend on the rows beside it.
template <int COLUMNS, int ROWS>
DEVICE void add_products(const float* w, u32 width, u32 apart, const float* x, u32 inputs, u32 rows,
                         float (&sum)[COLUMNS][ROWS]) {
    const float* row[ROWS];
    for (u32 r = 0; r < ROWS; ++r) {
        row[r] = x + (r < rows ? r : rows - 1) * inputs;
    }
    // Enough loads under way to hide the way to the memory.
#pragma unroll (COLUMNS > 1 ? 8 : 16)
    for (u32 i = 0; i < inputs; ++i) {
        for (u32 c = 0; c < COLUMNS; ++c) {
            float weight = w[(u64)i * width + c * apart];
            for (u32 r = 0; r < ROWS; ++r) {
                sum[c][r] = fmaf(row[r][i], weight, sum[c][r]);
            }
        }
    }
}

template <int COLUMNS, int ROWS>
DEVICE void clear(float (&sum)[COLUMNS][ROWS]) {
    for (u32 c = 0; c < COLUMNS; ++c) {
        for (u32 r = 0; r < ROWS; ++r) {
            sum[c][r] = 0.0f;
        }
    }
}

// mixed [tensors, H] = X W2 + b2 + max over tensors of relu(X W1 + b1).
DEVICE void mix(const Hypernetwork& net, const float* theta, const float* features, u32 tensors, float* mixed) {
    u32 H = net.hidden, F = net.features;
    for (u32 unit = threadIdx.x; unit < H; unit += blockDim.x) {
        float most = 0.0f, sum[1][TOGETHER];
        for (u32 first = 0; first < tensors; first += TOGETHER) {
            clear(sum);
            add_products(theta + net.pooled.w + unit, H, 0, features + first * F, F, tensors - first, sum);
            for (u32 r = 0; r < TOGETHER; ++r) {
                // A row that repeats another changes no maximum.
                most = maximum(most, at_least(sum[0][r] + theta[net.pooled.b + unit], 0.0f));
            }
        }
        for (u32 first = 0; first < tensors; first += TOGETHER) {
            clear(sum);
            add_products(theta + net.own.w + unit, H, 0, features + first * F, F, tensors - first, sum);
            for (u32 r = 0; r < TOGETHER && first + r < tensors; ++r) {
                mixed[(first + r) * H + unit] = sum[0][r] + theta[net.own.b + unit] + most;
            }
        }
    }
}

DEVICE float logistic(float x) {
    return 1.0f / (1.0f + exponential(0.0f - x));
}

// What becomes of the LSTM's state.
struct Memory {
    // Units of a tensor, [tensors, H] each.
    float *hidden, *cell;
    // Factor of what is stored; whether the state before is kept instead.
    float keep;
    bool stays;
};

// One unit of some tensors: inputs x [rows, inputs], states [rows, H]. The cell is stored, the hidden state is not: others
// still read it.
template <int ROWS>
DEVICE void advance_unit(const Hypernetwork& net, const float* theta, const float* x, u32 inputs, const Memory& memory,
                         u32 unit, u32 first, u32 rows, float* next) {
    u32 H = net.hidden;
    const float* w = theta + net.lstm.w + unit;
    const float* b = theta + net.lstm.b + unit;
    float gates[4][ROWS];
    clear(gates);
    add_products(w, 4 * H, H, x + first * inputs, inputs, rows, gates);
    add_products(w + (u64)inputs * 4 * H, 4 * H, H, memory.hidden + first * H, H, rows, gates);
    for (u32 r = 0; r < ROWS; ++r) {
        if (r < rows) {
            float* cell = memory.cell + (first + r) * H + unit;
            float kept = logistic(gates[2][r] + b[2 * H] + 1.0f) * *cell;
            float advanced = fmaf(logistic(gates[0][r] + b[0]), hyperbolic_tangent(gates[1][r] + b[H]), kept);
            next[(first + r) * H + unit] = logistic(gates[3][r] + b[3 * H]) * hyperbolic_tangent(advanced);
            *cell = (memory.stays ? *cell : advanced) * memory.keep;
        }
    }
}

// next [tensors, H]: the hidden state after inputs x [tensors, inputs].
DEVICE void advance(const Hypernetwork& net, const float* theta, const float* x, u32 inputs, const Memory& memory,
                    u32 tensors, float* next) {
    for (u32 unit = threadIdx.x; unit < net.hidden; unit += blockDim.x) {
        for (u32 first = 0; first < tensors; first += TOGETHER) {
            u32 rows = tensors - first;
            if (rows <= TOGETHER / 2) {
                advance_unit<TOGETHER / 2>(net, theta, x, inputs, memory, unit, first, rows, next);
            } else {
                advance_unit<TOGETHER>(net, theta, x, inputs, memory, unit, first, rows, next);
            }
        }
    }
}

// control [tensors, K] and rates, `apart` from one to the next, from the LSTM's new state. The state is stored.
DEVICE void read_heads(const Hypernetwork& net, const float* theta, const float* next, const Memory& memory, u32 tensors,
                       float* control, float* rates, u32 apart) {
    u32 H = net.hidden, K = net.banks;
    for (u32 i = threadIdx.x; i < tensors * H; i += blockDim.x) {
        memory.hidden[i] = (memory.stays ? memory.hidden[i] : next[i]) * memory.keep;
    }
    // The rate is one more output.
    for (u32 output = threadIdx.x; output <= K; output += blockDim.x) {
        bool is_rate = output == K;
        const float* w = theta + (is_rate ? net.rate.w : net.controls.w + output);
        float bias = theta[is_rate ? net.rate.b : net.controls.b + output];
        for (u32 first = 0; first < tensors; first += TOGETHER) {
            float sum[1][TOGETHER];
            clear(sum);
            add_products(w, is_rate ? 1 : K, 0, next + first * H, H, tensors - first, sum);
            for (u32 r = 0; r < TOGETHER && first + r < tensors; ++r) {
                float* to = is_rate ? rates + (first + r) * apart : control + (first + r) * K + output;
                *to = sum[0][r] + bias;
            }
        }
    }
}

// The networks of all tensors, `apart` from one to the next: the bank's, weighted by control, times `factor`.
DEVICE void combine(const Banked* bank, u32 weights, const float* theta, const float* control, u32 K, float factor,
                    u32 tensors, float* networks, u32 apart) {
    for (u32 i = threadIdx.x; i < weights; i += blockDim.x) {
        for (u32 first = 0; first < tensors; first += TOGETHER) {
            float sum[1][TOGETHER];
            clear(sum);
            add_products(theta + bank[i].first, bank[i].stride, 0, control + first * K, K, tensors - first, sum);
            for (u32 r = 0; r < TOGETHER && first + r < tensors; ++r) {
                networks[(first + r) * apart + i] = sum[0][r] * factor;
            }
        }
    }
}

#endif
