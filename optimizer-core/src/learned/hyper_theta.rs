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
use super::lane_theta::LaneTheta;
use super::{lane_of, loss_buffer, theta_tensor};
use crate::optimizer::Slot;
use crate::perturbation::{Noise, Perturbation};
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
    pub(super) fn parts(&self, theta: &Theta, pairs: &[Perturbation], sigma: f32) -> Result<Vec<LaneTheta>> {
        let lanes = LaneTheta::perturbed(theta, pairs, sigma, LAYERS)?;
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
        for part in ["hidden", "cell"] {
            let mut slot = Slot::filled(format!("lstm/{part}"), [rows, self.hidden], longest.len(), 0.0);
            for lane in 0..longest.len() {
                let initial =
                    theta_tensor(theta.own(), lane_of(theta.lanes(), lane), &format!("lstm_init_state/{part}"));
                slot.lane_mut(lane).chunks_exact_mut(self.hidden).for_each(|row| row.copy_from_slice(initial));
            }
            slots.push(slot);
        }
        slots
    }

    /// Sizes of those slots, in one lane.
    pub(super) fn slot_sizes(&self, rows: usize) -> [usize; OWN_SLOTS] {
        let [decays, means, minima, iteration] = loss_buffer::SLOT_SIZES;
        [decays, means, minima, iteration, rows * self.hidden, rows * self.hidden]
    }
}

/// Weights that do not stay in a core's own cache.
const LARGE: usize = 1 << 20;

/// Rows for which products with such weights no longer wait for memory.
const ROWS: usize = 64;

/// Number of slots beside the accumulators.
pub(super) const OWN_SLOTS: usize = 6;
