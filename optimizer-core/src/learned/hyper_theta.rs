//! Theta of an LSTM that controls per-parameter networks, as HyperV2 and Celo have it.
//!
//! ```text
//!  lstm_init_state/{hidden, cell} [1, H]
//!  rnn_params/{linear, linear_1, linear_2} [F, H]    rnn/linear [F or H, + H, 4H]    rnn_to_controls [H, K]    step_size [H, 1]
//!  ff_mod_stack/~/{w0__i, b0, w1, b1, …} [K, …]
//! ```
//!
//! `rnn_params/linear` is dead: the reference computes it and then overwrites the result. It is kept so that checkpoints
//! go in and out unchanged.

use super::bank::{Bank, NetworkShape};
use super::dense::Matrix;
use super::hypernetwork::Hypernetwork;
use super::initial::{ThetaTensors, linear, zeros};
use super::lane_theta::{LaneTheta, LastBound};
use super::{lane_of, loss_buffer, theta_tensor};
use crate::optimizer::Slot;
use crate::perturbation::{Antithetic, Noise, Perturbation};
use crate::{Result, Theta};

/// What the names of the hypernetwork's layers begin with; the rest of theta is no layer.
pub(super) const LAYERS: &str = "rnn_params/";

/// The sizes that decide the shapes of theta.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HyperShape {
    /// Features a row, F.
    pub(super) features: usize,
    /// Units of the LSTM, H.
    pub(super) hidden: usize,
    /// Whether rows are mixed before the LSTM.
    pub(super) mix: bool,
    /// Networks in the bank, K.
    pub(super) banks: usize,
    /// Each of them.
    pub(super) network: NetworkShape,
}

impl HyperShape {
    /// All tensors of theta.
    pub(super) fn tensors(&self) -> ThetaTensors {
        let mut tensors = self.network.tensors(Some(self.banks));
        tensors.extend(["hidden", "cell"].map(|part| zeros(format!("lstm_init_state/{part}"), [1, self.hidden])));
        let mut dense = |name: &str, inputs: usize, outputs: usize| {
            tensors.extend(linear(&format!("rnn_params/{name}"), inputs, outputs));
        };
        if self.mix {
            for name in ["linear", "linear_1", "linear_2"] {
                dense(name, self.features, self.hidden);
            }
        }
        let inputs = if self.mix { self.hidden } else { self.features };
        dense("rnn/linear", inputs + self.hidden, 4 * self.hidden);
        dense("rnn_to_controls", self.hidden, self.banks);
        dense("step_size", self.hidden, 1);
        tensors
    }

    /// Theta for the lanes of some pairs, in parts that are best run one after another: where lanes share nothing and two
    /// of them exceed the cache of a core, each by itself.
    ///
    /// # Errors
    /// As [`LaneTheta::perturbed`].
    pub(super) fn parts(
        &self,
        theta: &Theta,
        pairs: &[Perturbation],
        sigma: f32,
        last: &LastBound,
    ) -> Result<Vec<LaneTheta>> {
        let lanes = LaneTheta::perturbed(theta, pairs, sigma, LAYERS, last)?;
        if lanes.shares() {
            return Ok(vec![lanes]);
        }
        lanes.apart(if self.layer_bytes() > LARGE { 1 } else { 2 })
    }

    /// How many pairs are best run together for parameters of so many tensors: where they share large weights, enough to
    /// use a weight often once it is read.
    pub(super) fn pairs_together(&self, noise: Noise, rows: usize) -> usize {
        match noise {
            Noise::LowRank { .. } if self.layer_bytes() > LARGE => ROWS.div_ceil(2 * rows.max(1)),
            Noise::LowRank { .. } | Noise::Dense | Noise::Orthogonal => 1,
        }
    }

    /// What the matrices of the layers take.
    fn layer_bytes(&self) -> usize {
        let layers = self.tensors().into_iter().filter(|(spec, _)| spec.name().starts_with(LAYERS));
        4 * layers.map(|(spec, _)| spec.size()).sum::<usize>()
    }

    /// The banks of all lanes of theta, `[K, weights]` each.
    pub(super) fn banks(&self, theta: &LaneTheta) -> Vec<Matrix> {
        let of_lane = |lane| Bank::gather(&self.network, self.banks, theta.own(), lane).matrix();
        (0..theta.lanes()).map(of_lane).collect()
    }

    /// The LSTM, its inputs and its heads in all lanes of theta.
    pub(super) fn hypernetwork<'t>(&self, theta: &'t LaneTheta) -> Hypernetwork<'t> {
        let layer = |name: &str| theta.layer(&format!("{LAYERS}{name}"));
        Hypernetwork {
            mixing: self.mix.then(|| [layer("linear_1"), layer("linear_2")]),
            lstm: layer("rnn/linear"),
            controls: layer("rnn_to_controls"),
            step_size: layer("step_size"),
        }
    }

    /// The slots beside the accumulators, before the first step: the loss buffer with a longest timescale a lane, and the
    /// LSTM's state in `rows` rows, each theta's initial one.
    pub(super) fn slots(&self, theta: &LaneTheta, longest: &[u32], rows: usize) -> Vec<Slot> {
        let mut slots = loss_buffer::new_slots(longest);
        for (name, initial) in LSTM_STATE {
            let mut slot = Slot::filled(name, [rows, self.hidden], longest.len(), 0.0);
            for lane in 0..longest.len() {
                let initial = theta_tensor(theta.own(), lane_of(theta.lanes(), lane), initial);
                slot.lane_mut(lane).chunks_exact_mut(self.hidden).for_each(|row| row.copy_from_slice(initial));
            }
            slots.push(slot);
        }
        slots
    }

    /// Gives each lane the LSTM's initial state of its own theta, in slots that were made for one theta.
    pub(super) fn perturb_slots(&self, lanes: &Antithetic, slots: &mut [Slot]) {
        for (name, initial) in LSTM_STATE {
            let index = lanes.theta().layout().index_of(initial).expect("the layout was made from these names");
            let slot = slots.iter_mut().find(|slot| slot.name == name).expect("it was made with the state");
            for (lane, initial) in lanes.tensor(index).chunks_exact(self.hidden).enumerate() {
                slot.lane_mut(lane).chunks_exact_mut(self.hidden).for_each(|row| row.copy_from_slice(initial));
            }
        }
    }

    /// Sizes of those slots, in one lane.
    pub(super) fn slot_sizes(&self, rows: usize) -> [usize; OWN_SLOTS] {
        let [decays, means, minima, iteration] = loss_buffer::SLOT_SIZES;
        [decays, means, minima, iteration, rows * self.hidden, rows * self.hidden]
    }
}

/// Slots of the LSTM, and the tensor of theta that each begins with.
const LSTM_STATE: [(&str, &str); 2] =
    [("lstm/hidden", "lstm_init_state/hidden"), ("lstm/cell", "lstm_init_state/cell")];

/// Weights that do not stay in a core's own cache.
const LARGE: usize = 1 << 20;

/// Rows for which products with such weights no longer wait for memory. (More of them only need more cache themselves.)
const ROWS: usize = 32;

/// Number of slots beside the accumulators.
pub(super) const OWN_SLOTS: usize = 6;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::bank::combine;
    use super::super::{HyperV2, HyperV2Config, LearnedOptimizer};
    use super::*;
    use crate::{Seed, noise};

    /// `cargo test --release -p paceline-optimizer-core --lib -- --ignored hypernetwork_speed --nocapture`
    #[test]
    #[ignore = "prints what the hypernetwork of an MLP of two layers costs"]
    fn hypernetwork_speed() {
        const ROWS: usize = 4;
        for (hidden, banks, kind, pairs, at_a_time) in [
            (128, 64, Noise::Dense, 1, 2),
            (128, 64, Noise::LowRank { rank: 1 }, 1, 2),
            (512, 256, Noise::Dense, 1, 2),
            (512, 256, Noise::Dense, 1, 1),
            (512, 256, Noise::LowRank { rank: 1 }, 1, 2),
            (512, 256, Noise::LowRank { rank: 1 }, 4, 8),
            (512, 256, Noise::LowRank { rank: 1 }, 8, 16),
        ] {
            let config = HyperV2Config { lstm_hidden_size: hidden, param_inits: banks, ..HyperV2Config::default() };
            let optimizer = HyperV2::new(config.clone()).unwrap();
            let shape = config.check().unwrap();
            let theta = optimizer.init_theta(Seed::new(1));
            let epsilon = |pair| Perturbation::new(Seed::new(2), kind, theta.layout(), 0, 0, pair).unwrap();
            let epsilons: Vec<_> = (0..pairs).map(epsilon).collect();
            let last = LastBound::default();
            let mut bound = f64::INFINITY;
            let mut parts = Vec::new();
            for _ in 0..5 {
                let start = Instant::now();
                let lanes = LaneTheta::perturbed(&theta, &epsilons, 0.01, LAYERS, &last).unwrap();
                parts = if lanes.shares() { vec![lanes] } else { lanes.apart(at_a_time).unwrap() };
                bound = bound.min(start.elapsed().as_secs_f64());
            }
            let lanes = at_a_time;
            let mut features = vec![0.0; lanes * ROWS * shape.features];
            noise::normals(Seed::new(3), 0, &mut features);
            let [mut times, mut mixing] = [f64::INFINITY; 2];
            for part in &parts {
                let (networks, of_banks) = (shape.hypernetwork(part), shape.banks(part));
                let mut state = super::super::lstm::LstmState {
                    hidden: vec![0.1; lanes * ROWS * hidden],
                    cell: vec![0.1; lanes * ROWS * hidden],
                };
                for _ in 0..1000 / lanes {
                    let start = Instant::now();
                    let advice = networks.advise(lanes, &features, &state.hidden, &state.cell);
                    let advised = start.elapsed().as_secs_f64();
                    let weights = combine(&of_banks, &advice.control, 100.0);
                    mixing = mixing.min(start.elapsed().as_secs_f64() - advised);
                    assert!(weights[0].is_finite());
                    times = times.min(advised);
                    state = advice.state;
                }
            }
            println!(
                "{hidden}/{banks} {:22} {lanes:2} lanes: bind {:6.2} ms a pair; a lane and step: advise {:6.1} us, mix {:5.1} us",
                format!("{kind:?}"),
                1e3 * bound / f64::from(pairs),
                1e6 * times / lanes as f64,
                1e6 * mixing / lanes as f64,
            );
        }
    }
}
