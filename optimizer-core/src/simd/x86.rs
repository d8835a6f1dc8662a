//! x86-64: AVX-512, or AVX2 with FMA.
//!
//! A token of either type exists only where [`detect`](Avx512::detect) found the instructions. That is what makes each
//! `unsafe` block here sound: an intrinsic is unsafe to call only because the processor may lack it.
#![expect(unsafe_code, reason = "intrinsics; a token proves that the processor has them")]

use std::arch::x86_64::*;

use super::{Kernel, Simd, WIDTH};

/// The processor has AVX-512 F, VL, DQ and BW.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

/// The processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    /// Runs a kernel that is compiled with these instructions.
    pub(super) fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn compiled<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled(self, kernel) }
    }
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Runs a kernel that is compiled with these instructions.
    pub(super) fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled(self, kernel) }
    }
}

/// Bits of √½, for splitting a number into mantissa and exponent.
const ROOT: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;

// SAFETY of every block below: the token proves the instructions; loads and stores go to arrays of the vector's size.
impl Simd for Avx512 {
    type Vector = __m512;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, values: &[f32; WIDTH]) -> __m512 {
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, x: __m512, values: &mut [f32; WIDTH]) {
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, x: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(x) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    // The second operand comes back where one is NaN, and of two zeros.
    #[inline(always)]
    fn at_least(self, x: __m512, bound: __m512) -> __m512 {
        unsafe { _mm512_max_ps(bound, x) }
    }
    #[inline(always)]
    fn at_most(self, x: __m512, bound: __m512) -> __m512 {
        unsafe { _mm512_min_ps(bound, x) }
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn abs(self, x: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(x) }
    }
    #[inline(always)]
    fn copy_sign(self, x: __m512, sign: __m512) -> __m512 {
        unsafe { _mm512_or_ps(_mm512_abs_ps(x), _mm512_and_ps(sign, _mm512_set1_ps(-0.0))) }
    }
    #[inline(always)]
    fn power_of_two(self, n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn mantissa_exponent(self, x: __m512) -> (__m512, __m512) {
        unsafe {
            let root = _mm512_set1_epi32(ROOT);
            let offset = _mm512_sub_epi32(_mm512_castps_si512(x), root);
            let mantissa = _mm512_add_epi32(_mm512_and_si512(offset, _mm512_set1_epi32(0x007f_ffff)), root);
            (_mm512_castsi512_ps(mantissa), _mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(offset)))
        }
    }
    #[inline(always)]
    fn load_part(self, values: &[f32]) -> __m512 {
        // A masked load touches no memory behind its last value.
        unsafe { _mm512_maskz_loadu_ps(mask(values.len()), values.as_ptr()) }
    }
    #[inline(always)]
    fn store_part(self, x: __m512, values: &mut [f32]) {
        unsafe { _mm512_mask_storeu_ps(values.as_mut_ptr(), mask(values.len()), x) }
    }
    #[inline(always)]
    fn first(self, x: __m512, count: usize) -> __m512 {
        unsafe { _mm512_maskz_mov_ps(mask(count), x) }
    }
    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        unsafe { halved(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x))) }
    }
}

/// Bits of the first `count` values; all of them for more than there are.
#[inline(always)]
fn mask(count: usize) -> __mmask16 {
    if count >= WIDTH { !0 } else { (1 << count) - 1 }
}

/// The sum of eight values by halves.
#[inline(always)]
fn halved(x: __m256) -> f32 {
    // SAFETY: only called with the proof of more than AVX.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// Applies an intrinsic to both halves.
macro_rules! halves {
    ($f:expr; $($x:ident),+) => {{
        let f = $f;
        [f($($x[0]),+), f($($x[1]),+)]
    }};
}

impl Simd for Avx2 {
    type Vector = [__m256; 2];
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, values: &[f32; WIDTH]) -> [__m256; 2] {
        unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values[8..].as_ptr())] }
    }
    #[inline(always)]
    fn store(self, x: [__m256; 2], values: &mut [f32; WIDTH]) {
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(values[8..].as_mut_ptr(), x[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(|a, b| unsafe { _mm256_add_ps(a, b) }; a, b)
    }
    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(|a, b| unsafe { _mm256_sub_ps(a, b) }; a, b)
    }
    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(|a, b| unsafe { _mm256_mul_ps(a, b) }; a, b)
    }
    #[inline(always)]
    fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        halves!(|a, b| unsafe { _mm256_div_ps(a, b) }; a, b)
    }
    #[inline(always)]
    fn sqrt(self, x: [__m256; 2]) -> [__m256; 2] {
        halves!(|x| unsafe { _mm256_sqrt_ps(x) }; x)
    }
    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        halves!(|a, b, c| unsafe { _mm256_fmadd_ps(a, b, c) }; a, b, c)
    }
    #[inline(always)]
    fn at_least(self, x: [__m256; 2], bound: [__m256; 2]) -> [__m256; 2] {
        halves!(|x, bound| unsafe { _mm256_max_ps(bound, x) }; x, bound)
    }
    #[inline(always)]
    fn at_most(self, x: [__m256; 2], bound: [__m256; 2]) -> [__m256; 2] {
        halves!(|x, bound| unsafe { _mm256_min_ps(bound, x) }; x, bound)
    }
    #[inline(always)]
    fn select_less(self, a: [__m256; 2], b: [__m256; 2], yes: [__m256; 2], no: [__m256; 2]) -> [__m256; 2] {
        halves!(|a, b, yes, no| unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }; a, b, yes, no)
    }
    #[inline(always)]
    fn abs(self, x: [__m256; 2]) -> [__m256; 2] {
        halves!(|x| unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) }; x)
    }
    #[inline(always)]
    fn copy_sign(self, x: [__m256; 2], sign: [__m256; 2]) -> [__m256; 2] {
        halves!(|x, sign| unsafe {
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, x), _mm256_and_ps(bit, sign))
        }; x, sign)
    }
    #[inline(always)]
    fn power_of_two(self, n: [__m256; 2]) -> [__m256; 2] {
        halves!(|n| unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }; n)
    }
    #[inline(always)]
    fn mantissa_exponent(self, x: [__m256; 2]) -> ([__m256; 2], [__m256; 2]) {
        let split = |x| unsafe {
            let root = _mm256_set1_epi32(ROOT);
            let offset = _mm256_sub_epi32(_mm256_castps_si256(x), root);
            let mantissa = _mm256_add_epi32(_mm256_and_si256(offset, _mm256_set1_epi32(0x007f_ffff)), root);
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(offset)))
        };
        let ((low, low_exponent), (high, high_exponent)) = (split(x[0]), split(x[1]));
        ([low, high], [low_exponent, high_exponent])
    }
    #[inline(always)]
    fn sum(self, x: [__m256; 2]) -> f32 {
        unsafe { halved(_mm256_add_ps(x[0], x[1])) }
    }
}
