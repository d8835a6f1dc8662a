//! Optimizers that treat each tensor of each lane by itself: everything hand-designed that is no wrapper.
//!
//! ```text
//!  for each lane:  numbers(step, horizon) ──► learning rate, bias corrections, …
//!    for each tensor:  update(numbers, p, g, buffers)      p, g and the buffers are slices of that lane and tensor
//! ```
//!
//! A [`Rule`] never sees another lane or another tensor, so it cannot mix them; [`Tensorwise`] makes an [`Optimizer`] of
//! it.

use std::borrow::Cow;

use super::{OptState, Optimizer, Schedule, Slot};
use crate::Result;
use crate::params::{Params, TensorSpec};

/// Where a lane stands when it is updated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Updates already applied.
    pub(crate) step: u32,
    /// Planned number of updates.
    pub(crate) horizon: u32,
}

impl Moment {
    /// The number of this update, from 1.
    pub(crate) fn count(self) -> u32 {
        self.step.saturating_add(1)
    }

    /// The value of a schedule now, in the precision of parameters.
    pub(crate) fn of(self, schedule: &Schedule) -> f32 {
        schedule.value(self.step.into(), self.horizon.into()) as f32
    }
}

/// One buffer that a rule keeps for a tensor; its slot is called `PREFIX/TENSOR`.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    /// What it holds.
    pub(super) prefix: Cow<'static, str>,
    /// Its shape in one lane.
    pub(super) shape: Vec<usize>,
    /// What it holds before the first update.
    pub(super) initial: f32,
}

impl Buffer {
    /// A buffer shaped like `tensor`, of zeros.
    pub(super) fn like(tensor: &TensorSpec, prefix: &'static str) -> Self {
        Self { prefix: prefix.into(), shape: tensor.shape().to_vec(), initial: 0.0 }
    }
}

/// What happens to one tensor of one lane.
pub(super) trait Rule: Clone + Send + Sync + std::fmt::Debug {
    /// The numbers of one lane's update that all its tensors share.
    type Numbers;

    /// The optimizer's name.
    fn name(&self) -> &'static str;

    /// The learning rate among the settings, if there is one for all tensors.
    fn schedule(&mut self) -> Option<&mut Schedule>;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`crate::Error::Setting`].
    fn validate(&self) -> Result<()>;

    /// The buffers of a tensor.
    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer>;

    /// The numbers of an update.
    fn numbers(&self, now: Moment) -> Self::Numbers;

    /// Updates `p` from its gradient; `buffers` are those of [`Rule::buffers`].
    fn update(
        &self,
        numbers: &Self::Numbers,
        tensor: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    );
}

/// The optimizer that a rule makes.
#[derive(Debug)]
pub(super) struct Tensorwise<R>(R);

impl<R: Rule> Tensorwise<R> {
    /// The optimizer of these settings.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if one is out of its range.
    pub(super) fn new(rule: R) -> Result<Self> {
        rule.validate()?;
        Ok(Self(rule))
    }
}

impl<R: Rule + 'static> Optimizer for Tensorwise<R> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let mut slots = Vec::new();
        for tensor in params.layout().tensors() {
            slots.extend(self.0.buffers(tensor).into_iter().map(|buffer| {
                let name = format!("{}/{}", buffer.prefix, tensor.name());
                Slot::filled(name, buffer.shape, params.lanes(), buffer.initial)
            }));
        }
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let tensors = grads.layout().tensors();
        let sizes: Vec<Vec<usize>> = tensors
            .iter()
            .map(|tensor| self.0.buffers(tensor).iter().map(|buffer| buffer.shape.iter().product()).collect())
            .collect();
        state.check_slots(sizes.concat().into_iter())?;
        for lane in 0..state.lanes() {
            let numbers = self.0.numbers(Moment { step: state.step[lane], horizon: state.horizon[lane] });
            let mut slots = state.slots.iter_mut();
            for (index, tensor) in tensors.iter().enumerate() {
                let own = slots.by_ref().take(sizes[index].len());
                let mut buffers: Vec<&mut [f32]> = own.map(|slot| slot.lane_mut(lane)).collect();
                let (p, g) = (state.params.lane_mut(index, lane), grads.lane(index, lane));
                self.0.update(&numbers, tensor, p, g, &mut buffers);
            }
        }
        state.count_step();
        Ok(state)
    }

    fn learning_rate(&self, step: u32, horizon: u32) -> Option<f64> {
        let mut rule = self.0.clone();
        rule.schedule().map(|schedule| schedule.value(step.into(), horizon.into()))
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let mut rule = self.0.clone();
        *rule.schedule()? = learning_rate.into();
        Some(Box::new(Self(rule)))
    }
}
