//! Optimizers of inner parameters: state goes in and comes out.
//!
//! ```text
//!  init(params, horizon) ──► OptState ──► update(state, grads, losses) ──► OptState ──► …
//!                             params + step + named slots, all [lanes, …]
//! ```
//!
//! Hand-designed and learned optimizers share this trait, so an evaluation cannot tell them apart. An optimizer is a
//! value without hidden variables: all that changes is in [`OptState`], which can be saved, split by lane and restored.

use serde::{Deserialize, Serialize};

use crate::params::{Params, TensorSpec};
use crate::{Error, Result};

mod adam;
mod decay;
mod newton_schulz;
mod schedule;
mod sgd;

pub use adam::{Adam, AdamW};
pub(crate) use adam::{AdamRule, MOMENTS};
pub(crate) use decay::Decay;
pub use schedule::Schedule;
pub use sgd::{Sgd, Sgdm};

/// Updates the parameters of some lanes from their gradients.
pub trait Optimizer: Send + Sync + std::fmt::Debug {
    /// The optimizer's name, as in recipes and tables.
    fn name(&self) -> &'static str;

    /// State before the first step. `horizon[lane]` is the planned number of inner steps of that lane, an input of
    /// some learned optimizers.
    ///
    /// # Errors
    /// [`Error::Lanes`] if `horizon` does not have one entry a lane.
    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState>;

    /// One step: `grads` and `losses[lane]` were taken at `state.params()` on the training batch.
    ///
    /// # Errors
    /// [`Error::LayoutMismatch`] or [`Error::Lanes`] if the gradients do not belong to these parameters.
    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState>;
}

/// One named buffer of optimizer state: `[lanes, shape…]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Name, for example `m/layer_0/w`.
    pub name: String,
    /// Shape without the lane axis.
    pub shape: Vec<usize>,
    /// Values of all lanes.
    pub values: Vec<f32>,
}

impl Slot {
    /// A slot in which every lane holds `initial`.
    pub fn filled(name: impl Into<String>, shape: impl Into<Vec<usize>>, lanes: usize, initial: f32) -> Self {
        let shape = shape.into();
        let size: usize = shape.iter().product();
        Self { name: name.into(), shape, values: vec![initial; lanes * size] }
    }

    /// Number of values in one lane.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// One lane's values.
    pub fn lane(&self, lane: usize) -> &[f32] {
        let size = self.size();
        &self.values[lane * size..(lane + 1) * size]
    }

    /// One lane's values, to be written.
    pub fn lane_mut(&mut self, lane: usize) -> &mut [f32] {
        let size = self.size();
        &mut self.values[lane * size..(lane + 1) * size]
    }
}

/// The slots of an optimizer that keeps a few buffers shaped like each tensor: `PREFIX/NAME`, tensor by tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorSlots {
    /// Names of the buffers, in order.
    pub(crate) prefixes: &'static [&'static str],
}

impl TensorSlots {
    /// The slots before the first step.
    pub(crate) fn zeros(&self, params: &Params) -> Vec<Slot> {
        let named = |tensor: &TensorSpec, prefix: &str| {
            Slot::filled(format!("{prefix}/{}", tensor.name()), tensor.shape(), params.lanes(), 0.0)
        };
        let tensors = params.layout().tensors().iter();
        tensors.flat_map(|tensor| self.prefixes.iter().map(move |prefix| named(tensor, prefix))).collect()
    }

    /// Checks that a state has these slots.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub(crate) fn check(&self, state: &OptState) -> Result<()> {
        let tensors = state.params.layout().tensors();
        let count = self.prefixes.len();
        state.check_slots((0..tensors.len() * count).map(|index| tensors[index / count].size()))
    }
}

/// Everything an optimizer knows about some lanes, its parameters included.
#[derive(Clone, Debug, PartialEq)]
pub struct OptState {
    /// Current parameters.
    pub params: Params,
    /// Updates already applied, a lane.
    pub step: Vec<u32>,
    /// Planned number of updates, a lane.
    pub horizon: Vec<u32>,
    /// The optimizer's own buffers, in an order of its choice.
    pub slots: Vec<Slot>,
}

impl OptState {
    /// A state at step 0.
    ///
    /// # Errors
    /// [`Error::Lanes`] if `horizon` does not have one entry a lane.
    pub fn new(params: Params, horizon: &[u32], slots: Vec<Slot>) -> Result<Self> {
        let lanes = params.lanes();
        if horizon.len() != lanes {
            return Err(Error::Lanes { what: "horizon".into(), expected: lanes, got: horizon.len() });
        }
        Ok(Self { params, step: vec![0; lanes], horizon: horizon.to_vec(), slots })
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.params.lanes()
    }

    /// The lanes named, in that order.
    #[must_use]
    pub fn select(&self, lanes: &[usize]) -> Self {
        let slots = self
            .slots
            .iter()
            .map(|slot| Slot {
                name: slot.name.clone(),
                shape: slot.shape.clone(),
                values: lanes.iter().flat_map(|&lane| slot.lane(lane)).copied().collect(),
            })
            .collect();
        Self {
            params: self.params.select(lanes),
            step: lanes.iter().map(|&lane| self.step[lane]).collect(),
            horizon: lanes.iter().map(|&lane| self.horizon[lane]).collect(),
            slots,
        }
    }

    /// One more update was applied, to every lane.
    pub(crate) fn count_step(&mut self) {
        for step in &mut self.step {
            *step += 1;
        }
    }

    /// Checks that the slots hold as many values as `sizes` says, in one lane each: a restored state may belong to
    /// another optimizer.
    ///
    /// # Errors
    /// [`Error::Length`], naming the slot.
    pub(crate) fn check_slots(&self, sizes: impl ExactSizeIterator<Item = usize>) -> Result<()> {
        if self.slots.len() != sizes.len() {
            return Err(Error::Length {
                what: "slots of this optimizer's state".into(),
                expected: sizes.len(),
                got: self.slots.len(),
            });
        }
        for (slot, size) in self.slots.iter().zip(sizes) {
            let expected = size * self.lanes();
            if slot.size() != size || slot.values.len() != expected {
                let what = format!("state slot {}", slot.name);
                return Err(Error::Length { what, expected, got: slot.values.len() });
            }
        }
        Ok(())
    }

    /// Checks that gradients and losses belong to this state.
    ///
    /// # Errors
    /// [`Error::LayoutMismatch`] or [`Error::Lanes`].
    pub fn check_gradients(&self, grads: &Params, losses: &[f32]) -> Result<()> {
        self.params.check_like(grads, "gradients")?;
        if losses.len() != self.lanes() {
            return Err(Error::Lanes { what: "losses".into(), expected: self.lanes(), got: losses.len() });
        }
        Ok(())
    }
}

/// A hand-designed optimizer and its settings, as in a recipe or a baseline sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Gradient descent.
    Sgd {
        /// Step size.
        learning_rate: f32,
    },
    /// Gradient descent with heavy-ball momentum.
    Sgdm {
        /// Step size.
        learning_rate: f32,
        /// Decay of the momentum trace.
        momentum: f32,
    },
    /// Adam with the reference's defaults (`eps_root` 1e-8 inside the root).
    Adam {
        /// Step size.
        learning_rate: f32,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Step size.
        learning_rate: f32,
        /// Decay a step, times the learning rate.
        weight_decay: f32,
    },
}

impl OptimizerConfig {
    /// The optimizer these settings describe.
    pub fn build(&self) -> Box<dyn Optimizer> {
        match *self {
            Self::Sgd { learning_rate } => Box::new(Sgd { learning_rate }),
            Self::Sgdm { learning_rate, momentum } => Box::new(Sgdm { learning_rate, momentum }),
            Self::Adam { learning_rate } => Box::new(Adam::new(learning_rate)),
            Self::AdamW { learning_rate, weight_decay } => Box::new(AdamW::new(learning_rate, weight_decay)),
        }
    }
}
