//! Celo with a theta: its state and one update.
//!
//! Slots: the accumulators of every tensor, then six of its own, each a lane:
//!
//! ```text
//!  loss/decays [10]   loss/means [10]   loss/running_min [10]   loss/iteration [2]
//!  lstm/hidden [1, H]   lstm/cell [1, H]
//! ```
//!
//! A loss is taken and the LSTM advances in both phases.

use super::{CeloConfig, TrainPhase};
use crate::learned::accumulators::{Decays, TensorPlan, check_slots, new_slots, plans};
use crate::learned::bank::combine;
use crate::learned::channels::{CLIPPED, Guards, InputRows};
use crate::learned::course;
use crate::learned::dense::Matrix;
use crate::learned::float::{exact_exp, maximum};
use crate::learned::fused::Step;
use crate::learned::hyper_theta::{HyperShape, OWN_SLOTS};
use crate::learned::hypernetwork::Advice;
use crate::learned::jobs::for_each_tensor;
use crate::learned::lane_theta::LaneTheta;
use crate::learned::lstm::LstmState;
use crate::learned::network::Network;
use crate::learned::{check_horizons, check_lanes};
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;
use crate::{Result, ThetaHash};

/// Celo with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    config: CeloConfig,
    shape: HyperShape,
    decays: Decays,
    /// Where the channels stand among the inputs of the networks.
    rows: InputRows<CLIPPED>,
    theta: LaneTheta,
    /// One a theta lane.
    banks: Vec<Matrix>,
}

impl Bound {
    /// `shape` is that of `config`, and `theta` has been checked against it.
    pub(super) fn new(config: CeloConfig, shape: HyperShape, theta: LaneTheta) -> Self {
        let (decays, rows) = (config.decays(), shape.network.inputs.rows());
        let banks = shape.banks(&theta);
        Self { config, shape, decays, rows, theta, banks }
    }

    /// The losses enter their lanes' buffers; then the LSTM is asked, which has one row a lane.
    fn advise(&self, state: &mut OptState, losses: &[f32]) -> Advice {
        let first_own = state.slots.len() - OWN_SLOTS;
        let mut features = Vec::with_capacity(losses.len() * self.shape.features);
        for (lane, &loss) in losses.iter().enumerate() {
            let loss = if self.config.constant_loss { 1.0 } else { loss };
            let (step, horizon) = (state.step[lane], state.horizon[lane]);
            features.extend(course::enter(&mut state.slots[first_own..], lane, step, horizon, loss));
            features.extend(self.config.validation());
        }
        let [.., hidden, cell] = &state.slots[..] else { unreachable!("checked to be six slots") };
        self.shape.hypernetwork(&self.theta).advise(losses.len(), &features, &hidden.values, &cell.values)
    }

    /// Moves all parameters, with the weights of the lanes' networks and what the lanes' rates are advised to be.
    fn follow(&self, state: &mut OptState, plans: &[TensorPlan], grads: &Params, weights: &[f32], advised: &[f32]) {
        let networks = weights.chunks_exact(weights.len() / advised.len());
        let networks: Vec<Network<'_>> = networks.map(|weights| self.shape.network.network(weights)).collect();
        let settings = self.config.step();
        for_each_tensor(state, plans, grads, |job| {
            let rate = match self.config.train_phase {
                TrainPhase::Network => 1.0,
                TrainPhase::Scheduler => 0.1 * exact_exp(advised[job.lane]),
            };
            let step = Step {
                decays: &self.decays,
                rows: &self.rows,
                guards: Guards::HYPER_V2,
                network: &networks[job.lane],
                corrected: None,
                by_matrices: false,
            };
            let size = job.p.len();
            step.take(job.p, job.g, job.accumulators, |mean_square| settings.rule(rate, size, mean_square));
        });
    }

    /// The LSTM's next state enters its slots.
    fn store(&self, state: &mut OptState, next: &LstmState) {
        let keep = 1.0 - self.config.rnn_state_decay;
        let [.., hidden, cell] = &mut state.slots[..] else { unreachable!("checked to be six slots") };
        for (stored, next) in [(hidden, &next.hidden), (cell, &next.cell)] {
            for (stored, next) in stored.values.iter_mut().zip(next) {
                *stored = next * keep;
            }
        }
    }
}

/// `e^x / Σ e^x`, of one row. A NaN spoils all of it.
fn softmax(row: &[f32]) -> Vec<f32> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, maximum);
    let powers: Vec<f32> = row.iter().map(|x| exact_exp(x - largest)).collect();
    let sum = powers.iter().map(|&power| f64::from(power)).sum::<f64>() as f32;
    powers.into_iter().map(|power| power / sum).collect()
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "celo"
    }

    fn needs_loss(&self) -> bool {
        !self.config.constant_loss
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.theta.lanes(), params.lanes())?;
        check_horizons(params.lanes(), horizon)?;
        let mut slots = new_slots(params.layout(), params.lanes());
        slots.extend(self.shape.slots(&self.theta, horizon, 1));
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.theta.lanes(), state.lanes())?;
        let plans = plans(grads.layout());
        check_slots(&state, &plans, &self.shape.slot_sizes(1))?;
        if losses.is_empty() {
            return Ok(state);
        }
        let advice = self.advise(&mut state, losses);
        let control: Vec<f32> = advice.control.chunks_exact(self.shape.banks).flat_map(softmax).collect();
        let weights = combine(&self.banks, &control, 1.0);
        self.follow(&mut state, &plans, grads, &weights, &advice.rate);
        self.store(&mut state, &advice.state);
        state.count_step();
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_a_distribution_that_does_not_overflow() {
        let p = softmax(&[1000.0, 999.0, -1000.0]);
        let first = 1.0 / (1.0 + (-1.0_f32).exp());
        assert!((p[0] - first).abs() < 1e-7 && (p[1] - (1.0 - first)).abs() < 1e-7 && p[2] == 0.0, "{p:?}");
        assert_eq!(softmax(&[-3.5]), [1.0]);
        assert!(softmax(&[0.0, f32::NAN]).iter().all(|p| p.is_nan()));
    }
}
