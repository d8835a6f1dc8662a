// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011), as in
// optimizer-core/src/noise/philox.rs: ten rounds of two 32×32→64-bit products and a few exclusive ors.
#ifndef PHILOX_CUH
#define PHILOX_CUH
#include "platform.cuh"

struct Words {
    u32 word[4];
};

// The block of counter [block low, block high, stream, 0] under key [seed low, seed high].
DEVICE Words philox(u64 seed, u64 block, u32 stream) {
    u32 w0 = (u32)block, w1 = (u32)(block >> 32), w2 = stream, w3 = 0;
    u32 key0 = (u32)seed, key1 = (u32)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        u32 high0 = MULTIPLY_HIGH(0xD2511F53u, w0), low0 = 0xD2511F53u * w0;
        u32 high1 = MULTIPLY_HIGH(0xCD9E8D57u, w2), low1 = 0xCD9E8D57u * w2;
        w0 = high1 ^ w1 ^ key0;
        w1 = low1;
        w2 = high0 ^ w3 ^ key1;
        w3 = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    Words words = {{w0, w1, w2, w3}};
    return words;
}

#endif
