// The normal transform of noise/v1, as in optimizer-core/src/noise/quantile.rs:
//
//   word  s mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm     s: sign      m: two-sided tail p = (m + 1/2) / 2^31
//   m     0001 ssssss ffffffffffffffffffffffff  leading zeros: octave, 6 bits: segment, 24 bits: fraction
//   z     base[octave, segment] + slope[octave, segment] · fraction
//
// `table` is the CPU's own table [2048][base, slope], copied to the device: one product, one sum, no vendor function.
#ifndef QUANTILE_CUH
#define QUANTILE_CUH
#include "platform.cuh"

DEVICE float normal_of(u32 word, const float* table) {
    u32 magnitude = word & 0x7FFFFFFFu;
    u32 octave = (u32)LEADING_ZEROS((int)(magnitude << 1 | 1u));
    u32 aligned = magnitude << octave;
    u32 segment = (aligned >> 24) & 63u;
    float fraction = (float)(aligned & 0xFFFFFFu);
    u32 row = (octave << 6 | segment) & 2047u;
    // Two roundings, as on the CPU: -fmad=false keeps the compiler from fusing them.
    float product = table[2 * row + 1] * fraction;
    float z = table[2 * row] + product;
    return BITS_FLOAT(FLOAT_BITS(z) ^ (word & 0x80000000u));
}

#endif
