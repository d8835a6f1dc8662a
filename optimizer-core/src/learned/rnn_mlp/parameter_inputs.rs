//! Inputs of the per-parameter network, in the order of the reference's sorted names.
//!
//! ```text
//!  normalised over the tensor   g │ p │ ln(|p| + 1e-8) │ m ×5 │ rms ×5 │ m·q ×5 │ q ×5          q = 1/√(rms + 1e-6)
//!  equal for all its parameters sin(t/(τ π)) ×11 │ ln(tensors) − 1 │ ln(‖p‖ + 1e-8) │ ln(size) │ message of the LSTM
//! ```

use super::TIMESCALES;
use super::tensor_features::{TensorView, norm};
use crate::learned::channels::part;
use crate::learned::decays::{TIME_CHANNELS, wave_embedding};
use crate::learned::float::ln;
use crate::learned::network::Inputs;
use crate::simd::{self, Simd};

/// Inputs that belong to a parameter.
pub(super) const CHANNELS: usize = 3 + 4 * TIMESCALES;

/// Inputs that all parameters of a tensor share, beside the message of the LSTM.
pub(super) const SHARED: usize = TIME_CHANNELS + 3;

impl Inputs<CHANNELS> for TensorView<'_> {
    #[inline(always)]
    fn element<S: Simd>(&self, s: S, p: S::Vector, start: usize, length: usize) -> [S::Vector; CHANNELS] {
        const RMS: usize = 3 + TIMESCALES;
        const SCALED: usize = RMS + TIMESCALES;
        const ROOT: usize = SCALED + TIMESCALES;
        let mut x = [s.zero(); CHANNELS];
        (x[0], x[1], x[2]) = (part(s, self.g, start, length), p, simd::log(s, s.add(s.abs(p), s.splat(1e-8))));
        for a in 0..TIMESCALES {
            let m = part(s, self.m, a * self.g.len() + start, length);
            let rms = part(s, self.rms, a * self.g.len() + start, length);
            let q = simd::rsqrt(s, s.add(rms, s.splat(1e-6)));
            (x[3 + a], x[RMS + a], x[SCALED + a], x[ROOT + a]) = (m, rms, s.mul(m, q), q);
        }
        x
    }
}

/// The inputs that all parameters of a tensor share, for a model of `tensors` tensors at `step`.
pub(super) fn shared(step: u32, tensors: usize, p: &[f32], message: &[f32]) -> Vec<f32> {
    let sizes = [ln(tensors as f32) - 1.0, ln(norm(p) + 1e-8), ln(p.len() as f32)];
    wave_embedding(step).into_iter().chain(sizes).chain(message.iter().copied()).collect()
}
