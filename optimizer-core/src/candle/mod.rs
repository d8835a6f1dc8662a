//! Training candle models with the optimizers of this crate.
//!
//! ```text
//!   VarMap / Vec<Var>           candle's axes        reference's axes
//!    ▲    │ values ──────────────── permuted ───────► OptState.params ─┐
//!    │    └ loss.backward() ─► GradStore ─ permuted ─► gradients ──────┼─► Optimizer::update ─► OptState
//!    │                                                  loss ──────────┘                            │
//!    └───────────────────── Var::set, permuted back ◄──────────────────────────────── new parameters┘
//! ```
//!
//! [`LearnedOptimizer`] takes the place of `candle_nn::AdamW`. Two things it asks for that AdamW does not, because
//! learned optimizers read them: how many steps are planned, and the loss of each step.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Module, VarBuilder, VarMap, linear, loss};
//! use paceline_optimizer_core::candle::LearnedOptimizer;
//! use paceline_optimizer_core::learned::{AdafacMlpConfig, LearnedOptimizerConfig};
//! use paceline_optimizer_core::Seed;
//!
//! # fn main() -> candle_core::Result<()> {
//! let vars = VarMap::new();
//! let model = linear(3, 2, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
//! let (x, y) = (Tensor::ones((8, 3), DType::F32, &Device::Cpu)?, Tensor::zeros((8, 2), DType::F32, &Device::Cpu)?);
//!
//! // A theta as it is before meta-training; a trained one comes from a checkpoint (`LearnedOptimizer::from_checkpoint`).
//! let adafac = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()).build()?;
//! let optimizer = adafac.bind(adafac.init_theta(Seed::new(1)))?;
//! let mut optimizer = LearnedOptimizer::new(optimizer, &vars, 100)?;
//! for _ in 0..100 {
//!     optimizer.backward_step(&loss::mse(&model.forward(&x)?, &y)?)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What differs from candle's own optimizers, and why:
//!
//! * **A variable without a gradient is an error** that names it ([`MissingGradients`]). candle leaves it as it is; but
//!   its fused layer norm, softmax and rope pass no gradient on, so part of a model may stand still unnoticed. And every
//!   tensor is a row of the networks of a learned optimizer, so one cannot be left out.
//! * **A loss or a gradient that is not finite is an error, before anything changes.** Moving averages never forget a
//!   NaN. The training may go on with the next batch.
//! * **Axes are permuted** to those of the reference ([`Role`]).
//! * Variables are read at each step and written with `Var::set`. State lives in plain vectors on the host, outside of
//!   autograd.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use crate::checkpoint::Checkpoint;
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;
use crate::{Error, Result};

mod drop_in;
mod roles;
mod saved;
mod strided;
mod variables;

pub use drop_in::Config;
pub use roles::Role;
use variables::Leaf;
pub use variables::Variables;

/// What to do for a variable that the loss has no gradient for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingGradients {
    /// Refuse the step and name the variable.
    #[default]
    Refuse,
    /// Take zeros, as JAX does for a parameter that the loss does not depend on. Momentum and weight decay still move
    /// it.
    Zeros,
}

/// Trains the variables of a candle model with any [`Optimizer`] of this crate, learned or hand-designed.
///
/// Not to be confused with the trait [`crate::learned::LearnedOptimizer`], which makes an [`Optimizer`] from a theta.
#[derive(Debug)]
pub struct LearnedOptimizer {
    optimizer: Box<dyn Optimizer>,
    num_steps: u32,
    leaves: Vec<Leaf>,
    missing: MissingGradients,
    /// One lane. Its parameters are a copy: the variables are the truth. `None` after an update failed.
    state: Option<OptState>,
    /// Filled anew at each step.
    grads: Params,
    /// A learning rate that could not be set, where it could not be said.
    refused: Option<Error>,
}

impl LearnedOptimizer {
    /// `optimizer` for these variables (a `&VarMap`, a `Vec<Var>` or [`Variables`]), which `num_steps` steps are
    /// planned to train. More steps are possible, but learned optimizers that read how much is left were not trained
    /// for them.
    ///
    /// # Errors
    /// [`Error::Variable`] for a variable that is not f32, stands there twice or does not fit its role.
    /// [`Error::DuplicateTensor`] if a name repeats. [`Error::Setting`] if the optimizer cannot plan for `num_steps`,
    /// [`Error::Lanes`] if its theta has several lanes. [`Error::Candle`] if a device fails.
    pub fn new(optimizer: Box<dyn Optimizer>, variables: impl Into<Variables>, num_steps: u32) -> Result<Self> {
        let (leaves, layout) = variables.into().leaves()?;
        let mut params = Params::zeros(&layout, 1);
        read_variables(&leaves, &mut params)?;
        let grads = Params::zeros(&layout, 1);
        let state = Some(optimizer.init(params, &[num_steps])?);
        Ok(Self { optimizer, num_steps, leaves, missing: MissingGradients::Refuse, state, grads, refused: None })
    }

    /// The optimizer that a meta-training run left in `checkpoint`.
    ///
    /// # Errors
    /// As [`LearnedOptimizer::new`], and if the checkpoint does not hold together: [`Error::Setting`] for its settings,
    /// [`Error::LayoutMismatch`] for its theta.
    pub fn from_checkpoint(checkpoint: &Checkpoint, variables: impl Into<Variables>, num_steps: u32) -> Result<Self> {
        let optimizer = checkpoint.meta.optimizer.build()?.bind(checkpoint.state.theta.clone())?;
        Self::new(optimizer, variables, num_steps)
    }

    /// The same, with another answer to missing gradients.
    #[must_use]
    pub fn with_missing_gradients(mut self, missing: MissingGradients) -> Self {
        self.missing = missing;
        self
    }

    /// The optimizer inside.
    pub fn optimizer(&self) -> &dyn Optimizer {
        self.optimizer.as_ref()
    }

    /// Names of the variables, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|leaf| leaf.name.as_str())
    }

    /// Number of steps that are planned.
    pub fn num_steps(&self) -> u32 {
        self.num_steps
    }

    /// Number of steps that were made.
    pub fn steps_made(&self) -> u32 {
        self.state.as_ref().map_or(0, |state| state.step[0])
    }

    /// The learning rate of the next step, where the user of the optimizer sets one. Learned optimizers mostly have
    /// none.
    pub fn learning_rate(&self) -> Option<f64> {
        self.optimizer.learning_rate(self.steps_made(), self.num_steps)
    }

    /// Goes on with a constant learning rate, instead of what was planned.
    ///
    /// # Errors
    /// [`Error::Setting`] if the optimizer has none, or if this is not a finite number.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        if !learning_rate.is_finite() {
            return Err(Error::setting("learning_rate", "must be a finite number", learning_rate));
        }
        self.optimizer = self.optimizer.with_learning_rate(learning_rate).ok_or_else(|| {
            let reason = format!("{} has no learning rate to be set", self.optimizer.name());
            Error::setting("learning_rate", reason, learning_rate)
        })?;
        Ok(())
    }

    /// Goes backward from `loss` and makes a step.
    ///
    /// # Errors
    /// [`Error::Candle`] if the backward pass fails, or as [`LearnedOptimizer::step`].
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        self.step(loss, &loss.backward()?)
    }

    /// One step: moves all variables. `loss` is the training loss of this batch, one number, and `grads` its gradients,
    /// both taken at the variables as they are.
    ///
    /// # Errors
    /// [`Error::Length`] for a loss of several numbers, [`Error::NotFinite`] for the loss or a gradient,
    /// [`Error::MissingGradient`], [`Error::Variable`] for a gradient of another shape or type, [`Error::Setting`] for
    /// a learning rate that could not be set: nothing has changed then. [`Error::Candle`] if a device fails,
    /// [`Error::StateLost`] after a step that failed inside the optimizer.
    pub fn step(&mut self, loss: &Tensor, grads: &GradStore) -> Result<()> {
        let loss = finite_loss(loss)?;
        self.advance(loss, grads)?;
        self.write_variables()
    }

    /// The step as what is to be added to each variable, of its shape, in the order of [`LearnedOptimizer::names`]; the
    /// variables stay where they are, the state goes on. Adding costs one rounding: `p + (p′ − p)` need not be `p′`.
    ///
    /// # Errors
    /// As [`LearnedOptimizer::step`].
    pub fn update(&mut self, loss: &Tensor, grads: &GradStore) -> Result<Vec<Tensor>> {
        let loss = finite_loss(loss)?;
        let mut before = Params::zeros(self.grads.layout(), 1);
        read_variables(&self.leaves, &mut before)?;
        self.advance(loss, grads)?;
        let after = &self.state()?.params;
        let delta = |(index, leaf): (usize, &Leaf)| {
            let delta: Vec<f32> =
                after.tensor(index).iter().zip(before.tensor(index)).map(|(new, old)| new - old).collect();
            leaf.tensor(&delta)
        };
        self.leaves.iter().enumerate().map(delta).collect()
    }

    /// Tells the optimizer a loss on validation data, measured at the variables as they are. No variable moves; most
    /// optimizers do not listen ([`Optimizer::observe_validation`]).
    ///
    /// # Errors
    /// [`Error::Length`] for a loss of several numbers, [`Error::NotFinite`] for the loss: nothing has changed then.
    /// [`Error::Candle`] if a device fails, [`Error::StateLost`] after a step that failed inside the optimizer.
    pub fn observe_validation(&mut self, loss: &Tensor) -> Result<()> {
        let loss = finite_loss(loss)?;
        let state = self.take_state()?;
        self.state = Some(self.optimizer.observe_validation(state, &[loss])?);
        Ok(())
    }

    /// The state takes a step; the variables do not.
    fn advance(&mut self, loss: f32, grads: &GradStore) -> Result<()> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        self.read_gradients(grads)?;
        let state = self.take_state()?;
        self.state = Some(self.optimizer.update(state, &self.grads, &[loss])?);
        Ok(())
    }

    /// The state, with the variables as they are. It is gone until an optimizer has given it back.
    fn take_state(&mut self) -> Result<OptState> {
        let optimizer = self.optimizer.name();
        let state = self.state.as_mut().ok_or(Error::StateLost { optimizer })?;
        read_variables(&self.leaves, &mut state.params)?;
        self.state.take().ok_or(Error::StateLost { optimizer })
    }

    fn state(&self) -> Result<&OptState> {
        self.state.as_ref().ok_or(Error::StateLost { optimizer: self.optimizer.name() })
    }

    fn read_gradients(&mut self, grads: &GradStore) -> Result<()> {
        for (index, leaf) in self.leaves.iter().enumerate() {
            let values = self.grads.tensor_mut(index);
            match (grads.get(&leaf.var), self.missing) {
                (Some(grad), _) => leaf.read("gradient", grad, values)?,
                (None, MissingGradients::Zeros) => values.fill(0.0),
                (None, MissingGradients::Refuse) => return Err(Error::MissingGradient { name: leaf.name.clone() }),
            }
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::NotFinite { what: format!("gradient of variable {:?}", leaf.name) });
            }
        }
        Ok(())
    }

    /// Sets the variables to the parameters of the state.
    fn write_variables(&self) -> Result<()> {
        let params = &self.state()?.params;
        for (index, leaf) in self.leaves.iter().enumerate() {
            leaf.var.set(&leaf.tensor(params.tensor(index))?)?;
        }
        Ok(())
    }
}

/// Copies the values of all variables.
fn read_variables(leaves: &[Leaf], params: &mut Params) -> Result<()> {
    for (index, leaf) in leaves.iter().enumerate() {
        leaf.read("value", &leaf.var, params.tensor_mut(index))?;
    }
    Ok(())
}

/// The one number in a loss.
fn finite_loss(loss: &Tensor) -> Result<f32> {
    if loss.elem_count() != 1 {
        return Err(Error::Length { what: "loss".into(), expected: 1, got: loss.elem_count() });
    }
    let loss = loss.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?[0];
    if loss.is_finite() { Ok(loss) } else { Err(Error::NotFinite { what: "loss".into() }) }
}
