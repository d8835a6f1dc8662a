//! The direction the learned rule gives one tensor.
//!
//! ```text
//!  channels ─► each over its RMS ─► network ─► o0 · scale · exp(exp_mult · o1) ─► Newton–Schulz ─► over its RMS
//!              └── over each matrix of the last two axes, or over the vector ──────────────────────────────┘
//! ```
//!
//! A convolution `[height, width, in, out]` is `height · width` matrices, for the normalisers and for Newton–Schulz alike.
//! The accumulators stay those of the whole tensor, whose factored axes may be any two.

use crate::learned::accumulators::{Accumulators, Decays};
use crate::learned::bank::NetworkShape;
use crate::learned::channels::{CLIPPED, Channels, Guards};
use crate::learned::first_layer::FirstLayer;
use crate::learned::float::{exp, mean, rsqrt};
use crate::learned::network::{Evaluated, Network, Walk, sweep_next};
use crate::learned::step::parameter_scale;
use crate::optimizer::newton_schulz::NewtonSchulz;

/// Everything about the rule but theta.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The network.
    pub(super) shape: NetworkShape,
    /// Of the accumulators.
    pub(super) decays: Decays,
    /// Correct the bias of the accumulators that are inputs.
    pub(super) bias_correction: bool,
    /// What is added inside the roots of channels.
    pub(super) guards: Guards,
    /// Factor of the magnitude.
    pub(super) exp_mult: f32,
    /// Take the mean of the magnitude over the tensor.
    pub(super) aggregate_magnitude: bool,
    /// Multiply by the root mean square of the tensor.
    pub(super) param_scale_mult: bool,
    /// For rank ≥ 2.
    pub(super) newton_schulz: Option<NewtonSchulz>,
    /// Added to the mean square that the direction is normalised by, if it is.
    pub(super) normaliser: Option<f32>,
    /// Factor after that.
    pub(super) factor: f32,
    /// Divide by the root of the second moment.
    pub(super) precondition: bool,
}

/// One tensor in one lane, after its gradient entered the accumulators.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    /// Shape.
    pub(super) shape: &'a [usize],
    /// The gradient, clipped.
    pub(super) g: &'a [f32],
    /// The accumulators.
    pub(super) accumulators: &'a Accumulators<'a>,
    /// How many gradients have entered.
    pub(super) count: u32,
}

impl Rule {
    /// The direction of a tensor whose parameters are `p`, which stay as they are.
    pub(super) fn direction(&self, p: &mut [f32], tensor: &Tensor<'_>, network: &Network<'_>) -> Vec<f32> {
        if p.is_empty() {
            return Vec::new();
        }
        let corrected = self.bias_correction.then(|| tensor.accumulators.corrected(&self.decays, tensor.count));
        let mut channels = Channels::new(tensor.g, tensor.accumulators, self.guards);
        if let Some(corrected) = &corrected {
            channels = channels.with_corrected(corrected);
        }
        let mut direction = self.scaled(p, &channels, network, tensor.shape.len());
        let matrix = match *tensor.shape {
            [.., rows, columns] => {
                if let Some(newton_schulz) = &self.newton_schulz {
                    newton_schulz.apply(&mut direction, rows, columns);
                }
                rows * columns
            }
            _ => direction.len(),
        };
        for direction in direction.chunks_exact_mut(matrix) {
            let norm = self.normaliser.map_or(1.0, |guard| rsqrt(guard + mean(direction, |s| s * s)));
            direction.iter_mut().for_each(|s| *s = *s * norm * self.factor);
        }
        if self.precondition {
            let rms = corrected.as_ref().map_or(&*tensor.accumulators.rms, |corrected| &corrected.rms);
            direction.iter_mut().zip(rms).for_each(|(s, rms)| *s *= rsqrt(rms + 1e-6));
        }
        direction
    }

    /// What the network says: direction times magnitude.
    fn scaled(&self, p: &mut [f32], channels: &Channels<'_>, network: &Network<'_>, rank: usize) -> Vec<f32> {
        let inputs = self.shape.inputs;
        let rows = if rank < 2 { inputs.rows_without_factored() } else { inputs.rows() };
        let scale = if self.param_scale_mult { parameter_scale(p) } else { 1.0 };
        let (mut direction, mut magnitude) = (Vec::with_capacity(p.len()), Vec::with_capacity(p.len()));
        let mut first = FirstLayer::unfolded(network.first, channels.factors());
        let (mut before, mut walk) = (Walk::new::<CLIPPED>(channels), Walk::new::<CLIPPED>(channels));
        for slice in channels.matrices() {
            first.refold(&rows, &channels.normalisers(p, &slice, &mut before), &slice);
            let count = slice.elements.len();
            sweep_next(p, &mut walk, count, &first, network, 2, |block: &Evaluated<'_, CLIPPED>| {
                direction.extend_from_slice(&block.outputs[0][..block.length]);
                magnitude.extend_from_slice(&block.outputs[1][..block.length]);
                *block.p
            });
        }
        if self.aggregate_magnitude {
            let mean = mean(&magnitude, |magnitude| magnitude);
            magnitude.fill(mean);
        }
        for (s, magnitude) in direction.iter_mut().zip(magnitude) {
            *s *= scale * exp(self.exp_mult * magnitude);
        }
        direction
    }
}
