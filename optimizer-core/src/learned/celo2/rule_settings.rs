//! The settings of Celo2's learned rule, which its forms share. Names and defaults are those of the reference's
//! `Celo2Transformation`.

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use crate::learned::accumulators::Decays;
use crate::learned::bank::NetworkShape;
use crate::learned::channels::Guards;
use crate::learned::inputs::InputGroups;
use crate::learned::network::Activation;
use crate::learned::{check_decays, check_finite, check_range};
use crate::optimizer::newton_schulz::{COEFFICIENTS, Guard, NewtonSchulz};
use crate::{Error, Result};

/// The learned rule of Celo2 (arXiv 2602.19142; `Celo2Transformation` of `amoudgl/celo` @ 66d9761): accumulators,
/// inputs, network, and what becomes of its outputs.
///
/// ```text
///  channels ─► each over its RMS ─► network ─► o0 · scale · exp(exp_mult · o1) ─► Newton–Schulz ─► over its RMS
///       └── over each matrix of the last two axes, or over the vector ──────────────────────────────┘
/// ```
///
/// A linear weight `[in, out]` is one matrix, a convolution `[height, width, in, out]` is `height · width` of them.
/// Slots of a tensor that the rule moves are those of [`AdafacMlp`](crate::learned::AdafacMlp); of one that an Adam
/// moves, `m/NAME` and `v/NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Celo2Rule {
    /// Units of a hidden layer, 1 to 256; 8.
    pub ff_hidden_size: usize,
    /// Hidden layers, 1 to 8; 2.
    pub ff_hidden_layers: usize,
    /// What follows each of them; relu.
    pub mlp_activation: Activation,
    /// Decays of the momenta, each in `[0, 1)`; 0.9, 0.99, 0.999. The values may vary but not their number, which fixes
    /// the channels of the network.
    pub initial_momentum_decays: [f32; 3],
    /// Decay of the second moment; 0.95.
    pub initial_rms_decays: [f32; 1],
    /// Decays of the factored second moments, each in `[0, 1)`; 0.9, 0.99, 0.999.
    pub initial_adafactor_decays: [f32; 3],
    /// Divide momenta, second moment and factored second moments by what they have collected, where they are inputs;
    /// false.
    pub bias_correction: bool,
    /// Normalise the inputs of each matrix; true.
    pub normalize_input: bool,
    /// Factor of the magnitude output inside the exponential; 0, so that it has no effect.
    pub exp_mult: f32,
    /// Replace the magnitude by its mean over the tensor; false.
    pub aggregate_mag: bool,
    /// Multiply directions by the root mean square of the tensor; false.
    pub param_scale_mult: bool,
    /// Coefficients (a, b, c) of the Newton–Schulz iteration `X ← a X + (b A + c A²) X`, `A = X Xᵀ`, where directions
    /// are orthogonalised; those of Muon (Jordan 2024), 3.4445, −4.775 and 2.0315.
    pub ns_coeffs: [f32; 3],
    /// How often it is repeated, at most 100; 5.
    pub ns_iters: usize,
    /// What keeps its norm from being 0; 1e-8.
    pub ns_eps: f32,
    /// Normalise the direction of each matrix to a root mean square of 1; true.
    pub normalize_output: bool,
    /// Factor of the direction after that; 1.
    pub rmsmult: f32,
    /// Multiply directions by `1/√(rms + 1e-6)`, last of all; false.
    pub precondition_output: bool,
    /// Input `g`. This and the flags below are ablations, as those of [`HyperV2Config`](crate::learned::HyperV2Config).
    pub with_g: bool,
    /// Input `clip(g, ±0.1)`.
    pub with_grad_clip_feat: bool,
    /// Input `p`.
    pub with_p: bool,
    /// Inputs `m`.
    pub with_m: bool,
    /// Input `rms`.
    pub with_rms: bool,
    /// Inputs `m·q`, with `q = 1/√(rms + 1e-8)`.
    pub with_rms_norm_g: bool,
    /// Input `q`.
    pub with_rsqrt_rms: bool,
    /// Input `g·q`.
    pub with_rms_only_norm_g: bool,
    /// Inputs `fac_g`.
    pub with_fac_norm_g: bool,
    /// Inputs `row` and `col`, for rank ≥ 2.
    pub with_fac_rms: bool,
    /// Inputs `1/√(row + 1e-8)` and `1/√(col + 1e-8)`, for rank ≥ 2.
    pub with_fac_rsqrt: bool,
    /// Inputs `fac_m`, for rank ≥ 2.
    pub with_fac_mom_mult: bool,
}

impl Default for Celo2Rule {
    fn default() -> Self {
        Self {
            ff_hidden_size: 8,
            ff_hidden_layers: 2,
            mlp_activation: Activation::Relu,
            initial_momentum_decays: [0.9, 0.99, 0.999],
            initial_rms_decays: [0.95],
            initial_adafactor_decays: [0.9, 0.99, 0.999],
            bias_correction: false,
            normalize_input: true,
            exp_mult: 0.0,
            aggregate_mag: false,
            param_scale_mult: false,
            ns_coeffs: COEFFICIENTS,
            ns_iters: 5,
            ns_eps: 1e-8,
            normalize_output: true,
            rmsmult: 1.0,
            precondition_output: false,
            with_g: true,
            with_grad_clip_feat: true,
            with_p: true,
            with_m: true,
            with_rms: true,
            with_rms_norm_g: true,
            with_rsqrt_rms: true,
            with_rms_only_norm_g: true,
            with_fac_norm_g: true,
            with_fac_rms: true,
            with_fac_rsqrt: true,
            with_fac_mom_mult: true,
        }
    }
}

/// Added to mean squares, of inputs and of the direction.
const NORMALISER_GUARD: f32 = 1e-9;

impl Celo2Rule {
    /// The rule these settings describe.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting is out of its range.
    pub(super) fn check(&self, orthogonalize: bool) -> Result<Rule> {
        check_range("rule.ff_hidden_size", self.ff_hidden_size, 1..=256)?;
        check_range("rule.ff_hidden_layers", self.ff_hidden_layers, 1..=8)?;
        check_decays("rule.initial_momentum_decays", &self.initial_momentum_decays)?;
        check_decays("rule.initial_rms_decays", &self.initial_rms_decays)?;
        check_decays("rule.initial_adafactor_decays", &self.initial_adafactor_decays)?;
        check_finite("rule.exp_mult", self.exp_mult)?;
        check_finite("rule.rmsmult", self.rmsmult)?;
        check_range("rule.ns_iters", self.ns_iters, 0..=100)?;
        for coefficient in self.ns_coeffs {
            check_finite("rule.ns_coeffs", coefficient)?;
        }
        if !(self.ns_eps > 0.0 && self.ns_eps.is_finite()) {
            return Err(Error::setting("rule.ns_eps", "must be a positive number", self.ns_eps));
        }
        let newton_schulz = orthogonalize.then_some(NewtonSchulz {
            coefficients: self.ns_coeffs,
            iterations: self.ns_iters as u32,
            guard: Guard::Add(self.ns_eps),
        });
        let normaliser = self.normalize_input.then_some(NORMALISER_GUARD);
        let decays =
            Decays::new(self.initial_momentum_decays, self.initial_rms_decays[0], self.initial_adafactor_decays);
        Ok(Rule {
            shape: NetworkShape {
                inputs: self.inputs()?,
                units: self.ff_hidden_size,
                hidden_layers: self.ff_hidden_layers,
                activation: self.mlp_activation,
            },
            decays,
            bias_correction: self.bias_correction,
            guards: Guards { q: 1e-8, fac_m: 0.0, normaliser },
            exp_mult: self.exp_mult,
            aggregate_magnitude: self.aggregate_mag,
            param_scale_mult: self.param_scale_mult,
            newton_schulz,
            normaliser: self.normalize_output.then_some(NORMALISER_GUARD),
            factor: self.rmsmult,
            precondition: self.precondition_output,
        })
    }

    /// The input groups that the ablation flags leave.
    fn inputs(&self) -> Result<InputGroups> {
        InputGroups::new([
            self.with_g,
            self.with_grad_clip_feat,
            self.with_p,
            self.with_m,
            self.with_rms,
            self.with_rms_norm_g,
            self.with_rsqrt_rms,
            self.with_fac_norm_g,
            self.with_rms_only_norm_g,
            self.with_fac_rms,
            self.with_fac_rms,
            self.with_fac_rsqrt,
            self.with_fac_rsqrt,
            self.with_fac_mom_mult,
        ])
    }
}
