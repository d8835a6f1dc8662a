//! The two moving averages of Adam's family and their bias correction.

use super::decay::Decay;
use super::rule::{Buffer, Moment};
use super::settings;
use crate::Result;
use crate::params::TensorSpec;

/// Decays of the averages `m` and `v` and what they have collected at one update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Averages {
    /// Decay of `m`.
    pub(super) first: Decay,
    /// Decay of `v`.
    pub(super) second: Decay,
    /// `1 − β1ⁿ`.
    pub(super) collected1: f32,
    /// `1 − β2ⁿ`.
    pub(super) collected2: f32,
}

impl Averages {
    /// The averages with these decays at an update.
    pub(super) fn at(now: Moment, beta1: f64, beta2: f64) -> Self {
        let (first, second) = (Decay::literal(beta1), Decay::literal(beta2));
        let count = now.count();
        Self { first, second, collected1: first.collected(count), collected2: second.collected(count) }
    }
}

/// Checks the two decays.
pub(super) fn validate(beta1: f64, beta2: f64) -> Result<()> {
    settings::decay("beta1", beta1)?;
    settings::decay("beta2", beta2)
}

/// The buffers `m` and `v` of a tensor, beginning at `initial`.
pub(super) fn buffers(tensor: &TensorSpec, initial: f32) -> Vec<Buffer> {
    ["m", "v"].map(|prefix| Buffer { initial, ..Buffer::like(tensor, prefix) }).to_vec()
}
