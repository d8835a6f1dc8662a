//! Optimizers of inner parameters: state goes in and comes out.
//!
//! ```text
//!  init(params, horizon) ──► OptState ──► update(state, grads, losses) ──► OptState ──► …
//!                             params + step + named slots, all [lanes, …]
//! ```
//!
//! Hand-designed and learned optimizers share this trait, so an evaluation cannot tell them apart. An optimizer is a
//! value without hidden variables: all that changes is in [`OptState`], which can be saved, split by lane and restored.
//!
//! | hand-designed | are |
//! |---|---|
//! | [`Sgd`], [`Sgdm`], [`Fromage`], [`Lars`] | steps along the gradient, plain or at a tensor's scale |
//! | [`Adam`], [`AdamW`], [`NAdamW`], [`RAdam`], [`Yogi`], [`AdaBelief`], [`Lamb`] | a first moment over the root of a second |
//! | [`RmsProp`], [`AdaGrad`], [`Adafactor`], [`Sm3`] | the gradient over the root of a second moment, whole or factored |
//! | [`Muon`] | momentum, orthogonalised |
//! | [`PiecewiseLinearAdam`], [`AdamSqrtDecayLr`], [`AdamExpDecayLr`] | Adam under a named [`Schedule`] |
//!
//! Each is a struct of its settings; [`OptimizerConfig`] names and builds it, and [`wrapper`]s around it. Any learning
//! rate may be a [`Schedule`]. "The reference" is google/learned_optimization @ 32186aa4, whose hand-designed
//! optimizers (`optimizers/optax_opts.py`) are those of optax, here of version 0.2.8. In formulas `p` is a parameter,
//! `g` its gradient, `n` the number of the update from 1, `m̂ = m / (1 − β1ⁿ)` and `v̂ = v / (1 − β2ⁿ)`; all are
//! element by element. Slots are named after the tensor, NAME.

use crate::params::{Params, TensorSpec};
use crate::{Error, Result, ThetaHash};

mod adabelief;
mod adafactor;
mod adagrad;
mod adam;
mod config;
mod cosine;
mod decay;
mod fromage;
mod lamb;
mod lars;
mod moments;
mod muon;
mod nadamw;
pub(crate) mod newton_schulz;
mod norm;
mod power;
mod radam;
mod rmsprop;
mod rule;
mod saved;
mod schedule;
mod scheduled_adam;
mod settings;
mod sgd;
mod sm3;
pub mod wrapper;
mod yogi;

pub use adabelief::AdaBelief;
pub use adafactor::Adafactor;
pub use adagrad::AdaGrad;
pub use adam::{Adam, AdamW};
pub(crate) use adam::{AdamRule, MOMENTS};
pub use config::{
    ExtendTimeConfig, GlobalNormClipConfig, GradientAccumulationConfig, GradientClipConfig, GraftConfig,
    OptimizerConfig, WeightDecayConfig,
};
pub(crate) use decay::Decay;
pub use fromage::Fromage;
pub use lamb::Lamb;
pub use lars::Lars;
pub use muon::{Muon, MuonKernels, MuonScale, NormGuard};
pub use nadamw::NAdamW;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub(crate) use rule::Moment;
pub use saved::FORMAT as STATE_FORMAT;
pub use schedule::Schedule;
pub use scheduled_adam::{AdamExpDecayLr, AdamSqrtDecayLr, PiecewiseLinearAdam};
pub use sgd::{Sgd, Sgdm};
pub(crate) use sgd::{SgdRule, SgdmRule, TRACE};
pub use sm3::Sm3;
pub use yogi::Yogi;

/// Updates the parameters of some lanes from their gradients: the reference's `Optimizer` (`optimizers/base.py`), with
/// lanes.
pub trait Optimizer: Send + Sync + std::fmt::Debug {
    /// The optimizer's name, as in recipes and tables.
    fn name(&self) -> &'static str;

    /// State before the first step. `params` are `[lanes, shape…]` a tensor; `horizon[lane]` is the planned number of
    /// inner steps of that lane, an input of some learned optimizers.
    ///
    /// # Errors
    /// [`Error::Lanes`] if `horizon` does not have one entry a lane, or if a theta has neither one lane nor these.
    /// [`Error::Setting`] if the optimizer was made for another horizon ([`crate::learned::Velo`]).
    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState>;

    /// One inner step: `grads`, `[lanes, shape…]` a tensor, and `losses[lane]`, in the task's own units, were taken at
    /// `state.params` on the training batch.
    ///
    /// # Errors
    /// [`Error::LayoutMismatch`] or [`Error::Lanes`] if gradients or losses do not belong to these parameters,
    /// [`Error::Length`] if the slots are not this optimizer's.
    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState>;

    /// The optimizers that this one wraps: none, or those whose steps it changes.
    fn inner(&self) -> Vec<&dyn Optimizer> {
        Vec::new()
    }

    /// Whether the losses move the parameters. Where they do not, a training loop may leave them out (as NaN).
    fn needs_loss(&self) -> bool {
        self.inner().into_iter().any(Optimizer::needs_loss)
    }

    /// The hash of the theta that made this optimizer; `None` for a hand-designed one. A saved state remembers it
    /// ([`OptState::to_bytes`]).
    fn theta_hash(&self) -> Option<ThetaHash> {
        None
    }

    /// The learning rate at `step` (from 0) of `horizon` planned steps, where the user sets one: `None` where theta
    /// does, or where there are several.
    fn learning_rate(&self, step: u32, horizon: u32) -> Option<f64> {
        match self.inner()[..] {
            [inner] => inner.learning_rate(step, horizon),
            _ => None,
        }
    }

    /// The same optimizer with a constant learning rate; it continues the same states. `None` where
    /// [`Optimizer::learning_rate`] is.
    fn with_learning_rate(&self, _learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        None
    }

    /// `losses[lane]` were measured at `state.params` on a validation batch (the reference's `is_valid`). Parameters
    /// never change. Most optimizers do not listen, and the state comes back as it was; one that does (RNNMLPLOpt)
    /// counts this as a step.
    ///
    /// # Errors
    /// [`Error::Lanes`] if there is not one loss a lane, [`Error::Length`] if a state is not this optimizer's.
    fn observe_validation(&self, state: OptState, losses: &[f32]) -> Result<OptState> {
        state.check_losses(losses)?;
        Ok(state)
    }
}

/// One named buffer of optimizer state: `[lanes, shape…]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Name, for example `m/layer_0/w`.
    pub name: String,
    /// Shape without the lane axis.
    pub shape: Vec<usize>,
    /// Values of all lanes, `[lanes, shape…]`.
    pub values: Vec<f32>,
}

impl Slot {
    /// A slot `[lanes, shape…]` that holds `initial` everywhere.
    pub fn filled(name: impl Into<String>, shape: impl Into<Vec<usize>>, lanes: usize, initial: f32) -> Self {
        let shape = shape.into();
        let size: usize = shape.iter().product();
        Self { name: name.into(), shape, values: vec![initial; lanes * size] }
    }

    /// Number of values in one lane.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// One lane's values, `[shape…]`.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn lane(&self, lane: usize) -> &[f32] {
        let size = self.size();
        &self.values[lane * size..(lane + 1) * size]
    }

    /// One lane's values, `[shape…]`, to be written.
    ///
    /// # Panics
    /// If there is no such lane.
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
    /// Current parameters, `[lanes, shape…]` a tensor.
    pub params: Params,
    /// Updates already applied, `[lanes]`: those of the innermost optimizer, where wrappers let some calls pass or show
    /// it another time.
    pub step: Vec<u32>,
    /// Planned number of updates, `[lanes]`; the innermost optimizer's.
    pub horizon: Vec<u32>,
    /// The optimizer's own buffers, in an order of its choice.
    pub slots: Vec<Slot>,
}

impl OptState {
    /// A state at step 0. `horizon` is `[lanes]`, in inner steps.
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

    /// The lanes named, in that order (a lane may repeat).
    ///
    /// # Panics
    /// If there is no such lane.
    #[must_use]
    pub fn select(&self, lanes: &[usize]) -> Self {
        self.gather(&lanes.iter().map(|&lane| (self, lane)).collect::<Vec<_>>())
    }

    /// Lanes of several states of the same optimizer as this one, in order.
    pub(crate) fn gather(&self, lanes: &[(&Self, usize)]) -> Self {
        let slot = |(index, slot): (usize, &Slot)| Slot {
            name: slot.name.clone(),
            shape: slot.shape.clone(),
            values: lanes.iter().flat_map(|(state, lane)| state.slots[index].lane(*lane)).copied().collect(),
        };
        Self {
            params: Params::gather(
                self.params.layout(),
                &lanes.iter().map(|(state, lane)| (&state.params, *lane)).collect::<Vec<_>>(),
            ),
            step: lanes.iter().map(|(state, lane)| state.step[*lane]).collect(),
            horizon: lanes.iter().map(|(state, lane)| state.horizon[*lane]).collect(),
            slots: self.slots.iter().enumerate().map(slot).collect(),
        }
    }

    /// One more update was applied, to every lane.
    pub(crate) fn count_step(&mut self) {
        for step in &mut self.step {
            *step = step.saturating_add(1);
        }
    }

    /// Makes one lane what it is in `other`, a state of the same optimizer.
    fn copy_lane(&mut self, other: &Self, lane: usize) {
        for index in 0..self.params.layout().len() {
            self.params.lane_mut(index, lane).copy_from_slice(other.params.lane(index, lane));
        }
        self.step[lane] = other.step[lane];
        self.horizon[lane] = other.horizon[lane];
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            slot.lane_mut(lane).copy_from_slice(other.lane(lane));
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

    /// Checks that gradients, `[lanes, shape…]` a tensor, and losses, `[lanes]`, belong to this state.
    ///
    /// # Errors
    /// [`Error::LayoutMismatch`] if the gradients are of other tensors; [`Error::Lanes`] if gradients or losses are of
    /// another number of lanes.
    pub fn check_gradients(&self, grads: &Params, losses: &[f32]) -> Result<()> {
        self.params.check_like(grads, "gradients")?;
        self.check_losses(losses)
    }

    /// Checks that there is one loss a lane.
    ///
    /// # Errors
    /// [`Error::Lanes`].
    pub(crate) fn check_losses(&self, losses: &[f32]) -> Result<()> {
        if losses.len() != self.lanes() {
            return Err(Error::Lanes { what: "losses".into(), expected: self.lanes(), got: losses.len() });
        }
        Ok(())
    }
}
