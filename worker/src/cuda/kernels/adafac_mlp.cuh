// AdafacMLPLOpt with four hidden units (optimizer-core/src/learned/adafac_mlp.rs).
#ifndef ADAFAC_MLP_CUH
#define ADAFAC_MLP_CUH
#include "network.cuh"

struct AdafacMlp {
    enum : u32 { CHANNELS = 16, UNITS = 4, OUTPUTS = 2, INPUTS = 39, ROW = 13, COL = 16, ROOT_ROW = 19, ROOT_COL = 22 };
    enum : u32 { ADVICE = 0 };
    enum : bool { SEPARABLE_BELOW_MATRICES = true, BY_MATRICES = false };

    // Nine floats, as src/cuda/rule.rs writes them: ln(1 − decay)/10 of the momenta, the second moment and the factored
    // ones, then the factors of the step.
    struct Settings {
        float encoded[7], exp_mult, step_mult;
    };

    static DEVICE float gradient(float g) { return g; }
    static DEVICE float guard_q() { return 1e-6f; }
    static DEVICE float guard_fac_m() { return 1e-6f; }
    static DEVICE float guard_norm() { return 1e-5f; }
    // fac_m stands behind the separable channels.
    static DEVICE u32 row_of(u32 channel) { return channel < 13 ? channel : channel + 12; }
    static DEVICE bool has_below_matrices(u32) { return true; }

    // Loads a lane of theta: offsets of seven decays, then the network.
    static DEVICE void load(const float* theta, const u32* place, const Settings& settings, Workspace<AdafacMlp>& space) {
        load_network<AdafacMlp>(theta, place + 7, space);
        for (u32 i = threadIdx.x; i < 7; i += blockDim.x) {
            // In f64, as on the CPU: the few places where the last bit is amplified.
            float moved = 1.0f - (float)exp((double)((settings.encoded[i] + theta[place[i]]) * 10.0f));
            Decay* decay = i < 3 ? space.decays.momentum + i : (i == 3 ? &space.decays.rms : space.decays.second + i - 4);
            *decay = decay_of(i < 3 ? moved : clamp(moved, 0.0f, 1.0f));
        }
    }

    // The time embedding enters the bias of the first layer.
    static DEVICE void begin_step(const Moment& now, const Settings&, Workspace<AdafacMlp>& space) {
        const float times[11] = {1.0f, 3.0f, 10.0f, 30.0f, 100.0f, 300.0f, 1e3f, 3e3f, 1e4f, 3e4f, 1e5f};
        for (u32 unit = threadIdx.x; unit < UNITS; unit += blockDim.x) {
            float sum = space.b0[unit];
            for (u32 i = 0; i < 11; ++i) {
                sum = fmaf(hyperbolic_tangent((float)now.step / times[i] - 1.0f), space.w0[(28 + i) * UNITS + unit], sum);
            }
            space.bias[unit] = sum;
        }
    }

    static DEVICE void begin_tensor(const float*, Workspace<AdafacMlp>&) {}

    // One slice moves: p ← p − o0 · exp(exp_mult · o1) · step_mult.
    static DEVICE void move(const Tensor& tensor, const Slice& slice, float* p, float* g, const Slots& slots,
                            const Tables& tables, const Workspace<AdafacMlp>& space, const Settings& settings, const float*,
                            float*) {
        for (u32 i = threadIdx.x; i < slice.size; i += blockDim.x) {
            u32 e = slice.first + i;
            float direction, magnitude;
            evaluate<AdafacMlp>(tensor, e, p[e], g[e], slots, tables, space, direction, magnitude);
            p[e] -= direction * exponential(settings.exp_mult * magnitude) * settings.step_mult;
        }
    }
};

#endif
