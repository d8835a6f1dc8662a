// HyperV2 (VeLO) with per-parameter networks of 4-4 units (optimizer-core/src/learned/hyper_v2): when a step begins, a
// hypernetwork writes the network, the rate and the scale with which each tensor moves.
//
//   own slots of a lane   loss buffer [32] │ hidden [tensors, H] │ cell [tensors, H]        behind those of the tensors
//   advice, a tensor      the network's 159 weights │ rate │ scale
#ifndef HYPER_V2_CUH
#define HYPER_V2_CUH
#include "hypernetwork.cuh"
#include "network.cuh"
#include "tensor_features.cuh"

struct HyperV2 {
    enum : u32 { CHANNELS = 18, UNITS = 4, OUTPUTS = 3, INPUTS = 30, ROW = 15, COL = 18, ROOT_ROW = 21, ROOT_COL = 24 };
    enum : bool { SEPARABLE_BELOW_MATRICES = true, BY_MATRICES = false };
    enum : u32 { WEIGHTS = 159, RATE = 159, SCALE = 160, ADVICE = 161 };

    // Seventeen floats, as src/cuda/rule/hyper_v2.rs writes them. What is true is 1.
    struct Settings {
        float decays[7], exp_mult, step_mult, bank_factor, keep, validation, most_scale;
        float scales, preconditions, stays, ignores_loss;
    };

    static DEVICE float gradient(float g) { return clamp(g, -1000.0f, 1000.0f); }
    static DEVICE float guard_q() { return 1e-6f; }
    static DEVICE float guard_fac_m() { return 0.0f; }
    static DEVICE float guard_norm() { return 1e-5f; }
    // As in Celo2: g, clip(g), p, m, rms, m·q, q, fac_g, g·q, then the separable channels, then fac_m.
    static DEVICE u32 row_of(u32 channel) {
        return channel == 0 ? 0 : channel < 13 ? channel + 1 : channel < 16 ? channel + 14 : channel == 16 ? 1 : 14;
    }
    static DEVICE bool has_below_matrices(u32) { return true; }

    static DEVICE void load(const float*, const u32*, const Settings& settings, Workspace<HyperV2>& space) {
        for (u32 i = threadIdx.x; i < 7; i += blockDim.x) {
            Decay* decay = i < 3 ? space.decays.momentum + i : (i == 3 ? &space.decays.rms : space.decays.second + i - 4);
            *decay = decay_of(settings.decays[i]);
        }
    }

    // The loss enters, and all tensors are advised. Scratch: totals and course [48] │ features [tensors, F] │ sums, or
    // mixed [tensors, H], hidden [tensors, H], control [tensors, K].
    static DEVICE void advise(const Moment& now, const Settings& settings) {
        const Hypernetwork& net = *(const Hypernetwork*)now.place;
        const Banked* bank = (const Banked*)(now.place + sizeof(Hypernetwork) / sizeof(u32));
        const u32* long_axes = (const u32*)(bank + WEIGHTS);
        u32 T = now.tensors, H = net.hidden, F = net.features;
        float* own = now.slots + now.slot_size - (LOSS_SLOTS + 2 * T * H);
        Memory memory = {own + LOSS_SLOTS, own + LOSS_SLOTS + T * H, settings.keep, settings.stays != 0.0f};
        float *totals = now.scratch, *course = totals + 20, *features = totals + 48;
        float *sums = features + T * F, *mixed = sums, *next = net.mixes ? mixed + T * H : sums, *control = next + T * H;
        float loss = settings.ignores_loss != 0.0f ? 1.0f : now.loss;
        enter_loss(own, now.step, now.horizon, loss, totals, course);
        for (u32 t = 0; t < T; ++t) {
            Tensor tensor = now.layout[t];
            Statistics of = statistics_of(tensor, now.p + tensor.offset, slots_of(tensor, now.slots), sums, totals);
            write_features(of, long_axes[t], course, settings.validation, F, features + t * F);
            if (threadIdx.x == 0) {
                now.advice[t * ADVICE + SCALE] = scale_of(of.mean_square, tensor.size, settings);
            }
        }
        __syncthreads();
        if (net.mixes) {
            mix(net, now.theta, features, T, mixed);
            __syncthreads();
        }
        advance(net, now.theta, net.mixes ? mixed : features, net.mixes ? H : F, memory, T, next);
        __syncthreads();
        read_heads(net, now.theta, next, memory, T, control, now.advice + RATE, ADVICE);
        __syncthreads();
        combine(bank, WEIGHTS, now.theta, control, net.banks, settings.bank_factor, T, now.advice, ADVICE);
    }

    // The root mean square of the parameters, guarded and bounded, or 1.
    static DEVICE float scale_of(float mean_square, u32 size, const Settings& settings) {
        if (settings.scales == 0.0f) {
            return 1.0f;
        }
        float scale = sqrtf(mean_square + 1e-9f);
        return settings.most_scale > 0.0f ? minimum(scale, settings.most_scale * sqrtf((float)size)) : scale;
    }

    static DEVICE void begin_step(const Moment& now, const Settings& settings, Workspace<HyperV2>&) {
        advise(now, settings);
    }

    // The tensor's network takes its place. Weights and biases lie one after the other.
    static DEVICE void begin_tensor(const float* advice, Workspace<HyperV2>& space) {
        float* weights = (float*)&space;
        for (u32 i = threadIdx.x; i < WEIGHTS; i += blockDim.x) {
            weights[i] = advice[i];
        }
        for (u32 unit = threadIdx.x; unit < UNITS; unit += blockDim.x) {
            space.bias[unit] = advice[INPUTS * UNITS + unit];
        }
    }

    // One slice moves: p ← p − rate · (o0 · (scale · exp(exp_mult · o1)) · step_mult).
    static DEVICE void move(const Tensor& tensor, const Slice& slice, float* p, float* g, const Slots& slots,
                            const Tables& tables, const Workspace<HyperV2>& space, const Settings& settings,
                            const float* advice, float*) {
        float rate = advice[RATE], scale = advice[SCALE];
        for (u32 i = threadIdx.x; i < slice.size; i += blockDim.x) {
            u32 e = slice.first + i;
            float direction, magnitude;
            evaluate<HyperV2>(tensor, e, p[e], g[e], slots, tables, space, direction, magnitude);
            float step = rate * (direction * (scale * exponential(settings.exp_mult * magnitude)) * settings.step_mult);
            p[e] -= settings.preconditions != 0.0f ? step * inverse_root(slots.rms[e] + guard_q()) : step;
        }
    }
};

#endif
