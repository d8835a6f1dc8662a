//! AArch64: NEON, which every such processor has.
#![expect(unsafe_code, reason = "intrinsics of an instruction set that is always there")]

use std::arch::aarch64::*;

use super::{Kernel, Simd, WIDTH};

/// Needs no proof on this architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neon;

impl Neon {
    pub(super) fn call<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Self)
    }
}

type V = [float32x4_t; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

// SAFETY of every block below: NEON is part of the architecture; loads and stores go to arrays of the vector's size.
impl Simd for Neon {
    type Vector = V;
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, values: &[f32; WIDTH]) -> V {
        unsafe { [0, 4, 8, 12].map(|at| vld1q_f32(values[at..].as_ptr())) }
    }
    #[inline(always)]
    fn store(self, x: V, values: &mut [f32; WIDTH]) {
        for (to, x) in values.as_chunks_mut::<4>().0.iter_mut().zip(x) {
            unsafe { vst1q_f32(to.as_mut_ptr(), x) }
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn sqrt(self, x: V) -> V {
        x.map(|x| unsafe { vsqrtq_f32(x) })
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }
    // Not `vmaxq_f32`, which makes −0 to 0.
    #[inline(always)]
    fn at_least(self, x: V, bound: V) -> V {
        zip(x, bound, |x, bound| unsafe { vbslq_f32(vcltq_f32(x, bound), bound, x) })
    }
    #[inline(always)]
    fn at_most(self, x: V, bound: V) -> V {
        zip(x, bound, |x, bound| unsafe { vbslq_f32(vcgtq_f32(x, bound), bound, x) })
    }
    #[inline(always)]
    fn select_less(self, a: V, b: V, yes: V, no: V) -> V {
        std::array::from_fn(|i| unsafe { vbslq_f32(vcltq_f32(a[i], b[i]), yes[i], no[i]) })
    }
    #[inline(always)]
    fn abs(self, x: V) -> V {
        x.map(|x| unsafe { vabsq_f32(x) })
    }
    #[inline(always)]
    fn copy_sign(self, x: V, sign: V) -> V {
        zip(x, sign, |x, sign| unsafe { vbslq_f32(vdupq_n_u32(0x8000_0000), sign, x) })
    }
    #[inline(always)]
    fn power_of_two(self, n: V) -> V {
        n.map(|n| unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }
    #[inline(always)]
    fn mantissa_exponent(self, x: V) -> (V, V) {
        let split = x.map(|x| unsafe {
            let root = vdupq_n_s32(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
            let offset = vsubq_s32(vreinterpretq_s32_f32(x), root);
            let mantissa = vaddq_s32(vandq_s32(offset, vdupq_n_s32(0x007f_ffff)), root);
            (vreinterpretq_f32_s32(mantissa), vcvtq_f32_s32(vshrq_n_s32::<23>(offset)))
        });
        (split.map(|split| split.0), split.map(|split| split.1))
    }
}
