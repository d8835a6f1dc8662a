//! Any processor: arrays and the library's fused multiply-add.

use super::{Simd, WIDTH};

/// Needs no proof.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

type V = [f32; WIDTH];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type Vector = V;
    const REGISTERS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; WIDTH]
    }
    #[inline(always)]
    fn load(self, values: &V) -> V {
        *values
    }
    #[inline(always)]
    fn store(self, x: V, values: &mut V) {
        *values = x;
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, x: V) -> V {
        x.map(f32::sqrt)
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn at_least(self, x: V, bound: V) -> V {
        zip(x, bound, |x, bound| if x < bound { bound } else { x })
    }
    #[inline(always)]
    fn at_most(self, x: V, bound: V) -> V {
        zip(x, bound, |x, bound| if x > bound { bound } else { x })
    }
    #[inline(always)]
    fn select_less(self, a: V, b: V, yes: V, no: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn abs(self, x: V) -> V {
        x.map(f32::abs)
    }
    #[inline(always)]
    fn copy_sign(self, x: V, sign: V) -> V {
        zip(x, sign, f32::copysign)
    }
    #[inline(always)]
    fn power_of_two(self, n: V) -> V {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn mantissa_exponent(self, x: V) -> (V, V) {
        const ROOT: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
        let offset = x.map(|x| x.to_bits().wrapping_sub(ROOT));
        let mantissa = offset.map(|offset| f32::from_bits((offset & 0x007f_ffff).wrapping_add(ROOT)));
        (mantissa, offset.map(|offset| ((offset as i32) >> 23) as f32))
    }
}
