//! Gradients that come late, as those of an asynchronous worker do.
//!
//! ```text
//!  step       0    1   …   d−1    d     d+1
//!  taken at   w₀   w₀  …   w₀     w₀    w₁        loss and gradient of the weights of d steps ago, on this step's batch
//! ```
//!
//! `AsyncDelayedGradients` of the reference. The weights on their way are a ring in the state of the task, together with
//! what the task inside keeps itself:
//!
//! ```text
//!  state  delay/next []  delay/0/NAME … delay/(d−1)/NAME  inner/NAME …
//!         where the oldest stands ────┘
//! ```
//!
//! The ring begins full of initial weights, so it needs no count of the steps so far.

use std::fmt;
use std::sync::Arc;

use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskLanes};
use paceline_optimizer_core::{Error, Layout, Params, Result, Seed, TensorSpec};

use super::change::Change;

/// Losses and gradients of some steps ago.
#[derive(Clone, Copy)]
pub(super) struct Delay {
    /// How many, at least 1.
    pub(super) steps: u32,
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gradients {} steps late", self.steps)
    }
}

impl Change for Delay {
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        Cost { flop: inner.flop, bytes: inner.bytes + 4.0 * f64::from(self.steps + 1) * parameters as f64 }
    }

    fn apply<'a>(&self, mut inner: Box<dyn TaskLanes + 'a>, _: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        let initial = inner.init_params()?;
        let steps = self.steps as usize;
        let mut specs = vec![TensorSpec::new(NEXT, [])];
        for slot in 0..steps {
            specs.extend(prefixed(&format!("delay/{slot}"), initial.layout()));
        }
        specs.extend(inner.state().into_iter().flat_map(|state| prefixed("inner", state.layout())));
        let state = Params::zeros(&Layout::new(specs)?, initial.lanes());
        let mut lanes = DelayLanes { inner, steps, layout: Arc::clone(initial.layout()), state };
        for slot in 0..steps {
            for index in 0..initial.layout().len() {
                let place = lanes.place(slot, index);
                lanes.state.tensor_mut(place).copy_from_slice(initial.tensor(index));
            }
        }
        lanes.copy_inner_state();
        Ok(Box::new(lanes))
    }
}

/// Name of the tensor that says which slot is the oldest.
const NEXT: &str = "delay/next";

fn prefixed(prefix: &str, layout: &Layout) -> Vec<TensorSpec> {
    let named = |spec: &TensorSpec| TensorSpec::new(format!("{prefix}/{}", spec.name()), spec.shape());
    layout.tensors().iter().map(named).collect()
}

struct DelayLanes<'a> {
    inner: Box<dyn TaskLanes + 'a>,
    steps: usize,
    /// Of the parameters.
    layout: Arc<Layout>,
    state: Params,
}

impl DelayLanes<'_> {
    /// Where tensor `index` of ring slot `slot` stands in the state.
    fn place(&self, slot: usize, index: usize) -> usize {
        1 + slot * self.layout.len() + index
    }

    /// The ring slot of the oldest weights of a lane.
    fn oldest(&self, lane: usize) -> usize {
        self.state.lane(0, lane)[0] as usize
    }

    fn copy_inner_state(&mut self) {
        let first = self.place(self.steps, 0);
        let Some(inner) = self.inner.state() else { return };
        for index in 0..inner.layout().len() {
            self.state.tensor_mut(first + index).copy_from_slice(inner.tensor(index));
        }
    }
}

impl TaskLanes for DelayLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        self.inner.init_params()
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        // The ring trusts their shapes.
        params.check_like(&Params::zeros(&self.layout, self.state.lanes()), "parameters of delayed gradients")?;
        let mut late = params.clone();
        for lane in 0..late.lanes() {
            let oldest = self.oldest(lane);
            for index in 0..self.layout.len() {
                let place = self.place(oldest, index);
                let slot = self.state.lane_mut(place, lane);
                late.lane_mut(index, lane).copy_from_slice(slot);
                slot.copy_from_slice(params.lane(index, lane));
            }
            self.state.lane_mut(0, lane)[0] = ((oldest + 1) % self.steps) as f32;
        }
        let result = self.inner.loss_and_grads(&late, batch)?;
        self.copy_inner_state();
        Ok(result)
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        self.inner.evaluate(params, split, batch)
    }

    fn state(&self) -> Option<&Params> {
        Some(&self.state)
    }

    fn restore(&mut self, state: Params) -> Result<()> {
        self.state.check_like(&state, "state of delayed gradients")?;
        let valid = |next: &f32| next.fract() == 0.0 && (0.0..self.steps as f32).contains(next);
        if let Some(next) = state.tensor(0).iter().find(|next| !valid(next)) {
            let reason = format!("must be a slot below {}", self.steps);
            return Err(Error::setting(NEXT, reason, next));
        }
        if let Some(inner) = self.inner.state() {
            let (layout, first) = (Arc::clone(inner.layout()), self.place(self.steps, 0));
            let tensors = (0..layout.len()).map(|index| state.tensor(first + index).to_vec()).collect();
            self.inner.restore(Params::from_tensors(&layout, state.lanes(), tensors)?)?;
        }
        self.state = state;
        Ok(())
    }
}
