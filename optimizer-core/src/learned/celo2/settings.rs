//! The settings of Celo2's forms.
//!
//! Names and defaults are those of the reference's constructors, where it has the setting.

use serde::{Deserialize, Serialize};

use super::form::{AdamStar, AdamW, Form, Pattern};
use super::{Celo2Config, Celo2Rule, Family};
use crate::learned::{LearnedOptimizer, check_decays, check_finite, check_not_negative};
use crate::optimizer::{Decay, Optimizer, Schedule};
use crate::{Result, Theta};

/// Celo2 as it is shipped to users: `p ← p − lr(t) · (s + λ p)` with the direction s of [`Celo2Rule`], and AdamW for
/// vectors, scalars and embeddings (arXiv 2602.19142; `scale_by_celo2` of `amoudgl/celo` @ 66d9761 in a chain of
/// optax).
///
/// The learning rate takes the place of a step size: a direction has root mean square 1, so 1e-3 moves every parameter
/// by about 1e-3. The paper tunes it between 1e-5 and 1e-3, with 5 % of warm-up and a cosine.
///
/// ```
/// # use paceline_optimizer_core::learned::{Celo2, LearnedOptimizerConfig};
/// # use paceline_optimizer_core::Seed;
/// # fn main() -> paceline_optimizer_core::Result<()> {
/// # let theta = LearnedOptimizerConfig::Celo2(paceline_optimizer_core::learned::Celo2Config::Shipped(Celo2::new(1.0)))
/// #     .build()?.init_theta(Seed::new(1));
/// let optimizer = Celo2::new(3e-4).weight_decay(0.1).theta(theta)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Celo2 {
    /// The step size: root mean square of a step of the learned rule.
    pub learning_rate: Schedule,
    /// Decoupled decay λ, times the learning rate; 0.
    #[serde(default)]
    pub weight_decay: f32,
    /// Pull the singular values of a direction towards each other; true. The published weights of Celo2-base were
    /// trained without, and nothing in their file says so.
    #[serde(default = "yes")]
    pub orthogonalize: bool,
    /// What moves vectors, scalars and embeddings; AdamW.
    #[serde(default)]
    pub vectors: Celo2Vectors,
    /// The learned rule.
    #[serde(default)]
    pub rule: Celo2Rule,
}

fn yes() -> bool {
    true
}

impl Celo2 {
    /// Celo2 with a learning rate: a number, or a [`Schedule`].
    pub fn new(learning_rate: impl Into<Schedule>) -> Self {
        Self {
            learning_rate: learning_rate.into(),
            weight_decay: 0.0,
            orthogonalize: true,
            vectors: Celo2Vectors::default(),
            rule: Celo2Rule::default(),
        }
    }

    /// Celo2-base with a learning rate: directions are not orthogonalised, and the learned rule moves all tensors.
    pub fn base(learning_rate: impl Into<Schedule>) -> Self {
        Self { orthogonalize: false, vectors: Celo2Vectors::Learned, ..Self::new(learning_rate) }
    }

    /// With a decoupled decay, times the learning rate.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f32) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// The optimizer that `theta` makes.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range, [`crate::Error::LayoutMismatch`] if theta is not
    /// Celo2's, [`crate::Error::Lanes`] if it has no lane.
    pub fn theta(self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        Family::new(Celo2Config::Shipped(self))?.bind(theta)
    }

    pub(super) fn form(&self) -> Result<Form> {
        self.learning_rate.validate("learning_rate")?;
        check_not_negative("weight_decay", self.weight_decay)?;
        let adam = match &self.vectors {
            Celo2Vectors::Learned => None,
            Celo2Vectors::AdamW(adam) => Some(adam.check()?),
        };
        Ok(Form::Shipped { rate: self.learning_rate.clone(), decay: self.weight_decay, adam })
    }
}

/// What [`Celo2`] does with tensors of rank 0 and 1, and with those that have `embed` in their name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Celo2Vectors {
    /// AdamW moves them.
    AdamW(Celo2AdamW),
    /// The learned rule moves them as all others, without the inputs from rows and columns below rank 2.
    Learned,
}

impl Default for Celo2Vectors {
    fn default() -> Self {
        Self::AdamW(Celo2AdamW::default())
    }
}

/// AdamW (arXiv 1711.05101, Algorithm 2) beside [`Celo2`], with optax's arithmetic: bias-corrected, decay λ times its
/// own learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Celo2AdamW {
    /// AdamW's learning rate over that of the learned rule; 20, as the class that is meta-trained has it. (The authors
    /// leave it to the user; their model card has 1.)
    pub mult_1d: f32,
    /// Decay of the first moment; 0.9.
    pub adam_b1: f64,
    /// Decay of the second moment; 0.95.
    pub adam_b2: f64,
    /// Added to the root; 1e-8.
    pub adam_epsilon: f32,
}

impl Default for Celo2AdamW {
    fn default() -> Self {
        Self { mult_1d: 20.0, adam_b1: 0.9, adam_b2: 0.95, adam_epsilon: 1e-8 }
    }
}

impl Celo2AdamW {
    fn check(&self) -> Result<AdamW> {
        check_finite("vectors.adam_w.mult_1d", self.mult_1d)?;
        check_decays("vectors.adam_w.adam_b1", &[self.adam_b1 as f32])?;
        check_decays("vectors.adam_w.adam_b2", &[self.adam_b2 as f32])?;
        check_not_negative("vectors.adam_w.adam_epsilon", self.adam_epsilon)?;
        let (beta1, beta2) = (Decay::literal(self.adam_b1), Decay::literal(self.adam_b2));
        Ok(AdamW { mult: self.mult_1d, beta1, beta2, eps: self.adam_epsilon })
    }
}

/// Celo2-base as it is meta-trained: `p ← p − η s − λ p η` for all tensors, with the direction s of
/// [`Celo2Rule`] (arXiv 2602.19142; `Celo2Base` of `amoudgl/celo` @ 66d9761, `celo/optimizers/celo2.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Celo2Base {
    /// The step size η; 0.001.
    pub step_mult: f32,
    /// Decoupled decay λ, times the step size; 0.
    pub weight_decay: f32,
    /// Pull the singular values of a direction towards each other; false.
    pub orthogonalize: bool,
    /// The learned rule.
    pub rule: Celo2Rule,
}

impl Default for Celo2Base {
    fn default() -> Self {
        Self { step_mult: 0.001, weight_decay: 0.0, orthogonalize: false, rule: Celo2Rule::default() }
    }
}

impl Celo2Base {
    pub(super) fn form(&self) -> Result<Form> {
        check_finite("step_mult", self.step_mult)?;
        check_not_negative("weight_decay", self.weight_decay)?;
        Ok(Form::Base { rate: self.step_mult, decay: self.weight_decay })
    }
}

/// Celo2 as it is meta-trained: as [`Celo2Base`], but Adam* moves the tensors that a pattern names (arXiv
/// 2602.19142; `Celo2` of `amoudgl/celo` @ 66d9761, `celo/optimizers/celo2.py`).
///
/// Adam*: `m ← β1 m + (1−β1) g`, `v ← β2 v + (1−β2) g²`, `s = m/√(v + ε)` with the gradient as it is, and step size
/// `mult_1d · η`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Celo2Meta {
    /// The step size η; 0.001.
    pub step_mult: f32,
    /// Decoupled decay λ, times the step size; 0.
    pub weight_decay: f32,
    /// Pull the singular values of a direction towards each other; true.
    pub orthogonalize: bool,
    /// A regular expression, searched anywhere in a tensor's name (its path, slash-joined): Adam* moves the tensors
    /// that match. An empty one matches none. `.*bias.*|.*embed.*`; the authors meta-train with `/b$`.
    pub regex_1d: String,
    /// Adam*'s step size over that of the learned rule; 20.
    pub mult_1d: f32,
    /// Decay of the first moment; 0.9.
    pub adam_b1: f32,
    /// Decay of the second moment; 0.999. (The authors meta-train with 0.95.)
    pub adam_b2: f32,
    /// Added inside the root; 1e-8.
    pub adam_epsilon: f32,
    /// Divide both moments by what they have collected; false.
    pub adam_bias_correction: bool,
    /// The learned rule.
    pub rule: Celo2Rule,
}

impl Default for Celo2Meta {
    fn default() -> Self {
        Self {
            step_mult: 0.001,
            weight_decay: 0.0,
            orthogonalize: true,
            regex_1d: ".*bias.*|.*embed.*".into(),
            mult_1d: 20.0,
            adam_b1: 0.9,
            adam_b2: 0.999,
            adam_epsilon: 1e-8,
            adam_bias_correction: false,
            rule: Celo2Rule::default(),
        }
    }
}

impl Celo2Meta {
    pub(super) fn form(&self) -> Result<Form> {
        check_finite("step_mult", self.step_mult)?;
        check_not_negative("weight_decay", self.weight_decay)?;
        check_finite("mult_1d", self.mult_1d)?;
        check_decays("adam_b1", &[self.adam_b1])?;
        check_decays("adam_b2", &[self.adam_b2])?;
        check_not_negative("adam_epsilon", self.adam_epsilon)?;
        let adam = AdamStar {
            rate: self.step_mult * self.mult_1d,
            beta1: Decay::traced(self.adam_b1),
            beta2: Decay::traced(self.adam_b2),
            eps: self.adam_epsilon,
            bias_correction: self.adam_bias_correction,
        };
        let pattern = Pattern::new("regex_1d", &self.regex_1d)?;
        Ok(Form::Meta { rate: self.step_mult, decay: self.weight_decay, adam, pattern })
    }
}
