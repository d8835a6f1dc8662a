// How the training loss goes at ten timescales, and how far training has come
// (optimizer-core/src/learned/{loss_buffer,course}.rs).
//
//   slots of a lane   decays [10] │ means [10] │ least corrected means [10] │ losses seen: upper and lower 16 bits
//   course            tanh(10 (t/T − offset)) ×9 │ loss features ×9
#ifndef LOSS_BUFFER_CUH
#define LOSS_BUFFER_CUH
#include "float.cuh"

const u32 LOSS_TIMESCALES = 10, LOSS_SLOTS = 32, COURSE_FEATURES = 18;

// 1 − decay^count. For nearly constant losses the features are quotients of rounding errors, so the power is taken in f64,
// by the CPU's squarings, and rounded before the subtraction.
DEVICE float collected(float decay, u32 count) {
    double power = 1.0, square = (double)decay;
    for (u32 left = count; left > 0; left >>= 1) {
        if (left & 1) {
            power *= square;
        }
        square *= square;
    }
    return 1.0f - (float)power;
}

// A loss enters the lane's buffer at `step` of `horizon`, and the course is told. `scratch` has LOSS_TIMESCALES places. All
// threads come, and may read the course afterwards.
DEVICE void enter_loss(float* buffer, u32 step, u32 horizon, float loss, float* scratch, float* course) {
    const float offsets[9] = {0.03f, 0.1f, 0.2f, 0.4f, 0.6f, 0.8f, 0.9f, 1.0f, 1.1f};
    const float *decays = buffer;
    float *means = buffer + LOSS_TIMESCALES, *least = means + LOSS_TIMESCALES, *seen = least + LOSS_TIMESCALES;
    u32 before = ((u32)seen[0] << 16) + (u32)seen[1];
    u32 count = before == 0xffffffffu ? before : before + 1;
    u32 j = threadIdx.x;
    if (j < LOSS_TIMESCALES) {
        scratch[j] = means[j] / collected(decays[j], count);
    }
    __syncthreads();
    if (j < LOSS_TIMESCALES) {
        float largest = scratch[0];
        for (u32 i = 1; i < LOSS_TIMESCALES; ++i) {
            largest = maximum(largest, scratch[i]);
        }
        float clipped = minimum(2.0f * fabsf(before == 0 ? loss : largest), loss);
        means[j] = decays[j] * means[j] + (1.0f - decays[j]) * clipped;
        least[j] = minimum(least[j], means[j] / collected(decays[j], count));
    }
    __syncthreads();
    if (j < LOSS_TIMESCALES - 1) {
        float fraction = (float)step / (float)horizon;
        course[j] = hyperbolic_tangent(10.0f * (fraction - offsets[j]));
        float above = means[j] / collected(decays[j], count) - least[j];
        float slower_above = maximum(1e-8f, means[j + 1] / collected(decays[j + 1], count) - least[j]);
        course[9 + j] = count <= 2 ? 0.0f : clamp(above / slower_above - 1.0f, -1.0f, 1.0f);
    }
    if (j == 0) {
        seen[0] = (float)(count >> 16);
        seen[1] = (float)(count & 0xffffu);
    }
    __syncthreads();
}

#endif
