//! Sixteen f32 at a time, with the same bits on every processor.
//!
//! ```text
//!  dispatch(kernel) ─┬─► kernel.run(Avx512)      one register of 16
//!                    ├─► kernel.run(Avx2)        two of 8
//!                    ├─► kernel.run(Neon)        four of 4
//!                    └─► kernel.run(Portable)    an array of 16
//! ```
//!
//! A kernel is written once, for any [`Simd`]; each instruction set gets its own compiled copy, and [`dispatch`] takes the
//! best one the processor has. A vector is 16 values whatever the registers hold, products are added by fused
//! multiply-add everywhere ([`Simd::fma`]; where the processor has none the library computes it, slowly), division and
//! root are IEEE 754's, and the order of a sum is part of the kernel. So a result does not depend on the host.

mod functions;
mod map;
mod portable;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub use functions::{exp, log, rsqrt, sigmoid, tanh};
pub use map::{exp_all, log_all, sigmoid_all, tanh_all};

/// Values of a vector.
pub const WIDTH: usize = 16;

/// Work that is compiled for each instruction set.
pub trait Kernel {
    /// What it gives.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`, or they are compiled without the instructions.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The operations of an instruction set on vectors of [`WIDTH`] values. A value of the type is the proof that the
/// processor has them.
pub trait Simd: Copy + Send + Sync {
    /// Sixteen values.
    type Vector: Copy + Send + Sync;

    /// How many vectors the registers hold: a kernel that keeps more of them is slow.
    const REGISTERS: usize;

    /// All values `x`.
    fn splat(self, x: f32) -> Self::Vector;
    /// The values of an array.
    fn load(self, values: &[f32; WIDTH]) -> Self::Vector;
    /// Writes to an array.
    fn store(self, x: Self::Vector, values: &mut [f32; WIDTH]);
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a − b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a / b`, rounded as IEEE 754 says.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `√x`, rounded as IEEE 754 says.
    fn sqrt(self, x: Self::Vector) -> Self::Vector;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `max(x, bound)` that passes a NaN in `x` on.
    fn at_least(self, x: Self::Vector, bound: Self::Vector) -> Self::Vector;
    /// `min(x, bound)` that passes a NaN in `x` on.
    fn at_most(self, x: Self::Vector, bound: Self::Vector) -> Self::Vector;
    /// `yes` where `a < b`, else (also for NaN) `no`.
    fn select_less(self, a: Self::Vector, b: Self::Vector, yes: Self::Vector, no: Self::Vector) -> Self::Vector;
    /// `|x|`.
    fn abs(self, x: Self::Vector) -> Self::Vector;
    /// The magnitude of `x` with the sign of `sign`.
    fn copy_sign(self, x: Self::Vector, sign: Self::Vector) -> Self::Vector;
    /// `2ⁿ` for integral `n` from −126 to 127; anything for other values, but never a trap.
    fn power_of_two(self, n: Self::Vector) -> Self::Vector;
    /// Of a positive normal number `m · 2^e` with √½ ≤ m < √2: `(m, e)`.
    fn mantissa_exponent(self, x: Self::Vector) -> (Self::Vector, Self::Vector);

    /// All zeros.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(0.0)
    }

    /// The first values of a slice, of at most [`WIDTH`]; zeros behind its end.
    #[inline(always)]
    fn load_part(self, values: &[f32]) -> Self::Vector {
        match values.first_chunk() {
            Some(values) => self.load(values),
            None => {
                let mut padded = [0.0; WIDTH];
                padded[..values.len()].copy_from_slice(values);
                self.load(&padded)
            }
        }
    }

    /// Writes as many values as the slice takes, at most [`WIDTH`].
    #[inline(always)]
    fn store_part(self, x: Self::Vector, values: &mut [f32]) {
        match values.first_chunk_mut() {
            Some(values) => self.store(x, values),
            None => {
                let mut padded = [0.0; WIDTH];
                self.store(x, &mut padded);
                values.copy_from_slice(&padded[..values.len()]);
            }
        }
    }

    /// The first `count` values, of at most [`WIDTH`], and zeros behind them.
    #[inline(always)]
    fn first(self, x: Self::Vector, count: usize) -> Self::Vector {
        let mut values = [0.0; WIDTH];
        self.store(x, &mut values);
        values[count..].fill(0.0);
        self.load(&values)
    }

    /// The sum of the values, by halves: 16 → 8 → 4 → 2 → 1.
    #[inline(always)]
    fn sum(self, x: Self::Vector) -> f32 {
        let mut values = [0.0; WIDTH];
        self.store(x, &mut values);
        let mut width = WIDTH / 2;
        while width > 0 {
            for j in 0..width {
                values[j] += values[j + width];
            }
            width /= 2;
        }
        values[0]
    }
}

/// An instruction set, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What any processor has.
    Portable,
    /// AVX2 and FMA (x86-64).
    Avx2,
    /// AVX-512 F, VL, DQ and BW (x86-64).
    Avx512,
    /// NEON (AArch64, where it is always there).
    Neon,
}

impl InstructionSet {
    /// Those of this processor, worst first.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        sets.extend(
            [x86::Avx2::detect().map(|_| Self::Avx2), x86::Avx512::detect().map(|_| Self::Avx512)]
                .into_iter()
                .flatten(),
        );
        #[cfg(target_arch = "aarch64")]
        sets.push(Self::Neon);
        sets
    }

    /// The best of this processor.
    pub fn best() -> Self {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Portable))
    }

    /// Runs a kernel with these instructions, or portably if the processor does not have them.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if let Some(simd) = x86::Avx512::detect() => simd.call(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 if let Some(simd) = x86::Avx2::detect() => simd.call(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::call(kernel),
            _ => kernel.run(portable::Portable),
        }
    }
}

/// Runs a kernel with the best instructions of this processor.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(test)]
    if let Some(set) = tests::FORCED.get() {
        return set.run(kernel);
    }
    InstructionSet::best().run(kernel)
}

#[cfg(test)]
pub(crate) mod tests;
