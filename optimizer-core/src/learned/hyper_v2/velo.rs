//! VeLO in one line, for a run whose length is known.
//!
//! ```text
//!  grads, loss ─► decay: g + w p, loss + w Σ p² ─► mean of k calls ─► HyperV2 for ⌊N/k⌋ steps       k = ⌈N / 150 000⌉
//! ```
//!
//! VeLO was meta-trained on runs of up to 150 000 steps and takes the fraction of the run as an input, so it must be told
//! the length, and a longer run is cut into fewer, larger steps (`prefab.py` of google/learned_optimization @ 32186aa4).

use super::{HyperV2, HyperV2Config};
use crate::learned::LearnedOptimizer;
use crate::optimizer::wrapper::{GradientAccumulation, WeightDecay};
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;
use crate::{Error, Result, Theta, ThetaHash};

/// The longest runs VeLO was meta-trained on.
const MAX_TRAINING_STEPS: u32 = 150_000;

/// VeLO for a run of a given length; see [`HyperV2::velo`].
#[derive(Clone, Debug)]
#[must_use = "this is no optimizer before it is given a theta"]
pub struct Velo {
    num_steps: u32,
    max_training_steps: u32,
    weight_decay: f64,
}

impl HyperV2Config {
    /// The settings of VeLO's released weights: an LSTM of 512, 256 networks, loss features of the whole run; 2 320 385
    /// numbers.
    pub fn velo() -> Self {
        Self { lstm_hidden_size: 512, param_inits: 256, use_bugged_loss_features: false, ..Self::default() }
    }
}

impl HyperV2 {
    /// VeLO for a run of `num_steps` updates. Beyond 150 000, gradients and losses of several calls are accumulated.
    ///
    /// ```
    /// # use paceline_optimizer_core::learned::{HyperV2, HyperV2Config, LearnedOptimizer};
    /// # use paceline_optimizer_core::{Layout, Params, Seed, TensorSpec};
    /// # fn main() -> paceline_optimizer_core::Result<()> {
    /// # let theta = HyperV2::new(HyperV2Config::velo())?.init_theta(Seed::new(1));
    /// # let params = Params::zeros(&Layout::new(vec![TensorSpec::new("w", [2, 3])])?, 1);
    /// let optimizer = HyperV2::velo(20_000).weight_decay(1e-6).theta(theta)?;
    /// let state = optimizer.init(params.clone(), &[20_000])?;
    /// assert!(optimizer.init(params, &[10_000]).is_err(), "not the run that was announced");
    /// # Ok(())
    /// # }
    /// ```
    pub fn velo(num_steps: u32) -> Velo {
        Velo { num_steps, max_training_steps: MAX_TRAINING_STEPS, weight_decay: 0.0 }
    }
}

impl Velo {
    /// With a penalty `w Σ p²` on the loss and `w p` on the gradient; about 1e-6 is recommended. 0 is none.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Accumulates beyond another number of steps than 150 000.
    pub fn max_training_steps(self, max_training_steps: u32) -> Self {
        Self { max_training_steps, ..self }
    }

    /// The optimizer that `theta` makes. Its `init` takes no other horizon than the number of steps of this run.
    ///
    /// # Errors
    /// [`Error::Setting`] if a number of steps is 0 or the decay negative or not finite, [`Error::LayoutMismatch`] if
    /// theta is not VeLO's.
    pub fn theta(self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        for (field, steps) in [("num_steps", self.num_steps), ("max_training_steps", self.max_training_steps)] {
            if steps == 0 {
                return Err(Error::setting(field, "must be at least 1", steps));
            }
        }
        let mut optimizer = HyperV2::new(HyperV2Config::velo())?.bind(theta)?;
        if self.num_steps > self.max_training_steps {
            let calls = self.num_steps.div_ceil(self.max_training_steps);
            optimizer = Box::new(GradientAccumulation::new(optimizer, calls)?);
        }
        if self.weight_decay != 0.0 {
            optimizer = Box::new(WeightDecay::new(optimizer, self.weight_decay, true)?);
        }
        Ok(Box::new(Planned { inner: optimizer, num_steps: self.num_steps }))
    }
}

/// An optimizer that was made for runs of one length and refuses others. But for that it is the optimizer inside, whose
/// name it has.
#[derive(Debug)]
struct Planned {
    inner: Box<dyn Optimizer>,
    num_steps: u32,
}

impl Optimizer for Planned {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        self.inner.inner()
    }

    fn needs_loss(&self) -> bool {
        self.inner.needs_loss()
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        self.inner.theta_hash()
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        if let Some(other) = horizon.iter().find(|&&horizon| horizon != self.num_steps) {
            let reason = format!("must be the {} steps this optimizer was made for", self.num_steps);
            return Err(Error::setting("horizon", reason, other));
        }
        self.inner.init(params, horizon)
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        self.inner.update(state, grads, losses)
    }

    fn observe_validation(&self, state: OptState, losses: &[f32]) -> Result<OptState> {
        self.inner.observe_validation(state, losses)
    }
}
