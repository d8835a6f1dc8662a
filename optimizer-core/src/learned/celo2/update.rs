//! Celo2 with a theta: its state and one update.
//!
//! Slots, tensor by tensor: the accumulators of a tensor that the learned rule moves, or `m/NAME` and `v/NAME` of one that
//! an Adam moves.

use super::form::{AdamMoments, Form};
use super::rule::{Rule, Tensor};
use crate::learned::accumulators::{TensorPlan, new_tensor_slots};
use crate::learned::bank::Bank;
use crate::learned::{check_lanes, lane_of};
use crate::optimizer::{Moment, OptState, Optimizer, Slot};
use crate::params::{Layout, Params};
use crate::{Result, Theta, ThetaHash};

/// Celo2 with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    rule: Rule,
    form: Form,
    theta: Theta,
    /// One a theta lane.
    networks: Vec<Bank>,
}

/// What moves a tensor, and where its slots lie.
#[derive(Debug)]
enum Mover {
    /// The learned rule.
    Learned(TensorPlan),
    /// An Adam whose first moment is this slot and whose second is the next.
    Adam { first_slot: usize, size: usize },
}

impl Bound {
    /// `theta` has been checked against the shape of the rule's network.
    pub(super) fn new(rule: Rule, form: Form, theta: Theta) -> Self {
        let networks = (0..theta.lanes()).map(|lane| Bank::gather(&rule.shape, 1, &theta, lane)).collect();
        Self { rule, form, theta, networks }
    }

    fn movers(&self, layout: &Layout) -> Vec<Mover> {
        let mut next_slot = 0;
        let tensors = layout.tensors().iter();
        tensors
            .map(|tensor| {
                if self.form.is_learned(tensor) {
                    return Mover::Learned(TensorPlan::new(tensor, &mut next_slot));
                }
                let first_slot = next_slot;
                next_slot += 2;
                Mover::Adam { first_slot, size: tensor.size() }
            })
            .collect()
    }

    fn update_lane(&self, state: &mut OptState, movers: &[Mover], grads: &Params, lane: usize) {
        let now = Moment { step: state.step[lane], horizon: state.horizon[lane] };
        let network = self.networks[lane_of(self.networks.len(), lane)].values();
        let network = self.rule.shape.network(network);
        let mut direction = Vec::new();
        for (index, mover) in movers.iter().enumerate() {
            let (p, g) = (state.params.lane_mut(index, lane), grads.lane(index, lane));
            match mover {
                Mover::Learned(plan) => {
                    let shape = grads.layout().tensors()[index].shape();
                    let tensor = Tensor { shape, p, g, count: now.count() };
                    let accumulators = plan.accumulators(&mut state.slots, lane);
                    self.rule.direct(&mut direction, &tensor, accumulators, &network);
                    self.form.follow(p, &direction, now);
                }
                Mover::Adam { first_slot, .. } => {
                    let [m, v] = &mut state.slots[*first_slot..first_slot + 2] else { unreachable!("two slots") };
                    let moments = AdamMoments { m: m.lane_mut(lane), v: v.lane_mut(lane) };
                    self.form.update_by_adam(p, g, moments, now);
                }
            }
        }
    }
}

impl Mover {
    /// Sizes of the tensor's slots in one lane.
    fn slot_sizes(&self) -> Vec<usize> {
        match self {
            Self::Learned(plan) => plan.slot_sizes().collect(),
            Self::Adam { size, .. } => vec![*size; 2],
        }
    }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "celo2"
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn learning_rate(&self, step: u32, horizon: u32) -> Option<f64> {
        self.form.rate(Moment { step, horizon })
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let form = self.form.with_rate(learning_rate)?;
        Some(Box::new(Self::new(self.rule.clone(), form, self.theta.clone())))
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.networks.len(), params.lanes())?;
        let mut slots = Vec::new();
        for tensor in params.layout().tensors() {
            if self.form.is_learned(tensor) {
                slots.extend(new_tensor_slots(tensor, params.lanes()));
            } else {
                slots.extend(["m", "v"].map(|moment| {
                    Slot::filled(format!("{moment}/{}", tensor.name()), tensor.shape(), params.lanes(), 0.0)
                }));
            }
        }
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.networks.len(), state.lanes())?;
        let movers = self.movers(grads.layout());
        let sizes: Vec<usize> = movers.iter().flat_map(Mover::slot_sizes).collect();
        state.check_slots(sizes.into_iter())?;
        for lane in 0..state.lanes() {
            self.update_lane(&mut state, &movers, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}
