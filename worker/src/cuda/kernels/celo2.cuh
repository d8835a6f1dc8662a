// Celo2-base with eight hidden units and all inputs (optimizer-core/src/learned/celo2): a direction of root mean square
// 1, followed with a constant step. A tensor of a higher rank is so many matrices, each normalised by itself.
#ifndef CELO2_CUH
#define CELO2_CUH
#include "network.cuh"

struct Celo2 {
    enum : u32 { CHANNELS = 18, UNITS = 8, OUTPUTS = 3, INPUTS = 30, ROW = 15, COL = 18, ROOT_ROW = 21, ROOT_COL = 24 };
    enum : u32 { ADVICE = 0 };
    enum : bool { SEPARABLE_BELOW_MATRICES = false, BY_MATRICES = true };

    // Eleven floats, as src/cuda/rule.rs writes them.
    struct Settings {
        float decays[7], exp_mult, factor, rate, decay;
    };

    static DEVICE float gradient(float g) { return clamp(g, -1000.0f, 1000.0f); }
    static DEVICE float guard_q() { return 1e-8f; }
    static DEVICE float guard_fac_m() { return 0.0f; }
    static DEVICE float guard_norm() { return 1e-9f; }
    // g, clip(g), p, m, rms, m·q, q, fac_g, g·q, then the separable channels, then fac_m.
    static DEVICE u32 row_of(u32 channel) {
        return channel == 0 ? 0 : channel < 13 ? channel + 1 : channel < 16 ? channel + 14 : channel == 16 ? 1 : 14;
    }
    static DEVICE bool has_below_matrices(u32 channel) { return channel < 13 || channel > 15; }

    static DEVICE void load(const float* theta, const u32* place, const Settings& settings, Workspace<Celo2>& space) {
        load_network<Celo2>(theta, place, space);
        for (u32 i = threadIdx.x; i < 7; i += blockDim.x) {
            Decay* decay = i < 3 ? space.decays.momentum + i : (i == 3 ? &space.decays.rms : space.decays.second + i - 4);
            *decay = decay_of(settings.decays[i]);
        }
    }

    static DEVICE void begin_step(const Moment&, const Settings&, Workspace<Celo2>& space) {
        for (u32 unit = threadIdx.x; unit < UNITS; unit += blockDim.x) {
            space.bias[unit] = space.b0[unit];
        }
    }

    static DEVICE void begin_tensor(const float*, Workspace<Celo2>&) {}

    // One slice moves: s = o0 · exp(exp_mult · o1) over its root mean square, p ← p − η s − λ p η. Directions take the
    // gradient's place: an element's is read once, by the thread that overwrites it.
    static DEVICE void move(const Tensor& tensor, const Slice& slice, float* p, float* g, const Slots& slots,
                            const Tables& tables, Workspace<Celo2>& space, const Settings& settings, const float*,
                            float* scratch) {
        Sum squares = {0.0f, 0.0f};
        for (u32 i = threadIdx.x; i < slice.size; i += blockDim.x) {
            u32 e = slice.first + i;
            float direction, magnitude;
            evaluate<Celo2>(tensor, e, p[e], g[e], slots, tables, space, direction, magnitude);
            float s = direction * exponential(settings.exp_mult * magnitude);
            g[e] = s;
            add(squares, s * s);
        }
        float partial[1] = {value_of(squares)};
        block_sums(partial, scratch, space.norms);
        float norm = inverse_root(guard_norm() + space.norms[0] / (float)slice.size);
        for (u32 i = threadIdx.x; i < slice.size; i += blockDim.x) {
            u32 e = slice.first + i;
            float s = g[e] * norm * settings.factor;
            p[e] = p[e] - settings.rate * s - settings.decay * p[e] * settings.rate;
        }
    }
};

#endif
