// What the kernels take from the compiler, so that one source is compiled by two of them:
//
//   NVRTC ──► PTX, for a device
//   g++   ──► the emulator of tests/it/cuda_kernels, for a machine without one (it supplies `emulator.hpp`)
//
// Arithmetic is IEEE 754 single precision throughout: sums and products are rounded one by one (-fmad=false,
// -ffp-contract=off), a fused product is written `fmaf`, and no function of a vendor's library is called but one f64
// exponential, of which f32 is kept. Some perturbations are sums in f64, likewise rounded one by one. So both compilers
// should give the same bits, and the emulator's tests speak for the device's arithmetic too.
#ifndef PLATFORM_CUH
#define PLATFORM_CUH

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
// One block a multiprocessor is enough: without the 1 the compiler spills registers to make room for two.
#define KERNEL extern "C" __global__ void __launch_bounds__(256, 1)
#define SHARED_MEMORY(name) extern __shared__ __align__(16) float name[]
#define FLOAT_BITS(x) __float_as_uint(x)
#define BITS_FLOAT(x) __uint_as_float(x)
#define MULTIPLY_HIGH(a, b) __umulhi(a, b)
#define LEADING_ZEROS(x) __clz(x)
#else
#include "emulator.hpp"
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

#endif
