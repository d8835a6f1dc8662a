// Elementary functions of f32 from IEEE operations alone, as in optimizer-core: Cephes' polynomials, with fused products.
// NaN goes through all of them, as through JAX's.
#ifndef FLOAT_CUH
#define FLOAT_CUH
#include "platform.cuh"

// min(max(x, low), high) that passes NaN on.
DEVICE float clamp(float x, float low, float high) {
    return x < low ? low : (x > high ? high : x);
}

// max(x, bound) that passes NaN on.
DEVICE float at_least(float x, float bound) {
    return x < bound ? bound : x;
}

// min(a, b) and max(a, b) that pass NaN on from either side.
DEVICE float minimum(float a, float b) {
    return a != a || a < b ? a : b;
}

DEVICE float maximum(float a, float b) {
    return a != a || a > b ? a : b;
}

// e^x with a relative error below 1e-7: x = n ln 2 + r, a polynomial for e^r, two exact scalings by powers of two.
DEVICE float exponential(float x) {
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest integer, which the sum holds in its low bits.
    const float ROUND = 12582912.0f;
    float bounded = clamp(x, -104.0f, 89.0f);
    float shifted = fmaf(bounded, 1.44269504f, ROUND);
    float n = shifted - ROUND;
    float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, bounded));
    float y = 1.98756915e-4f;
    y = fmaf(y, r, 1.39819995e-3f);
    y = fmaf(y, r, 8.33345192e-3f);
    y = fmaf(y, r, 4.16657962e-2f);
    y = fmaf(y, r, 1.66666657e-1f);
    y = fmaf(y, r, 5e-1f);
    y = fmaf(y, r * r, r) + 1.0f;
    int exponent = (int)(FLOAT_BITS(shifted) - FLOAT_BITS(ROUND));
    int half = exponent >> 1;
    float first = BITS_FLOAT((u32)(half + 127) << 23);
    float second = BITS_FLOAT((u32)(exponent - half + 127) << 23);
    return y * first * second;
}

// Natural logarithm of a positive normal number, relative error below 1e-7; infinity and NaN come back as they are.
DEVICE float logarithm(float x) {
    const u32 ROOT_HALF = 0x3f3504f3u;
    // x = m · 2^e with √½ ≤ m < √2.
    u32 offset = FLOAT_BITS(x) - ROOT_HALF;
    float e = (float)((int)offset >> 23);
    float m = BITS_FLOAT((offset & 0x007fffffu) + ROOT_HALF);
    float r = m - 1.0f;
    float y = 7.0376836e-2f;
    y = fmaf(y, r, -1.151461e-1f);
    y = fmaf(y, r, 1.1676999e-1f);
    y = fmaf(y, r, -1.2420141e-1f);
    y = fmaf(y, r, 1.4249323e-1f);
    y = fmaf(y, r, -1.6668058e-1f);
    y = fmaf(y, r, 2.0000715e-1f);
    y = fmaf(y, r, -2.4999994e-1f);
    y = fmaf(y, r, 3.333333e-1f);
    float square = r * r;
    float tail = fmaf(e, -2.12194440e-4f, fmaf(y * r, square, -0.5f * square));
    float log = fmaf(e, 0.693359375f, r + tail);
    return x < BITS_FLOAT(0x7f800000u) ? log : x;
}

// Hyperbolic tangent with an absolute error below 1e-7.
DEVICE float hyperbolic_tangent(float x) {
    float z = x * x;
    float near = -5.70498872e-3f;
    near = fmaf(near, z, 2.06390902e-2f);
    near = fmaf(near, z, -5.37397155e-2f);
    near = fmaf(near, z, 1.33314422e-1f);
    near = fmaf(near, z, -3.33332800e-1f);
    near = fmaf(near * z, x, x);
    float size = 1.0f - 2.0f / (exponential(2.0f * fabsf(x)) + 1.0f);
    float far = x < 0.0f ? -size : size;
    return fabsf(x) < 0.625f ? near : far;
}

// 1/√x, each operation rounded once.
DEVICE float inverse_root(float x) {
    return 1.0f / sqrtf(x);
}

// 1/√max(x, 1e-9).
DEVICE float safe_inverse_root(float x) {
    return inverse_root(at_least(x, 1e-9f));
}

DEVICE bool is_finite(float x) {
    return (FLOAT_BITS(x) & 0x7f800000u) != 0x7f800000u;
}

// A sum with its rounding errors (Knuth's two-sum): f32 values, almost the precision of f64, which many devices lack.
struct Sum {
    float high, low;
};

DEVICE void add(Sum& sum, float x) {
    float total = sum.high + x;
    float taken = total - sum.high;
    sum.low += (sum.high - (total - taken)) + (x - taken);
    sum.high = total;
}

// The errors of a sum that overflowed are NaN; the sum is infinite.
DEVICE float value_of(Sum sum) {
    float total = sum.high + sum.low;
    return sum.low == sum.low ? total : sum.high;
}

#endif
