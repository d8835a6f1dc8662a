//! The course of the training loss at ten timescales.
//!
//! ```text
//!  loss ─► clip at twice the largest mean ─► ten moving averages M_j, time constants from 10 steps to the horizon
//!                                            └─► C_j = M_j / (1 − d_j^k), its minimum R_j
//!  feature j = clip( (C_j − R_j) / (C_{j+1} − R_j) − 1, ±1 ),   −1 at a new minimum, 0 during the first two steps
//! ```
//!
//! For nearly constant losses the features are quotients of rounding errors, so the place of each rounding matters:
//! powers are taken in f64 and rounded before the subtraction, everything else is f32. Source:
//! `BufferLossAccumulators` of `hyper_v2.py`, google/learned_optimization @ 32186aa4.

use super::float::{maximum, minimum};
use crate::optimizer::wrapper::counter;
use crate::optimizer::{Decay, Slot};

/// Number of moving averages.
pub(super) const TIMESCALES: usize = 10;

/// Number of features.
pub(super) const LOSS_FEATURES: usize = TIMESCALES - 1;

/// Initial running minimum: larger than any loss.
const NO_MINIMUM: f32 = 999_999_999_999.0;

/// Decays `exp(−1/τ_j)`, τ spaced logarithmically from 10 steps to `horizon` (downwards, if that is shorter).
fn decays(horizon: u32) -> [f32; TIMESCALES] {
    let longest = f64::from(horizon).log10();
    std::array::from_fn(|j| {
        let exponent = 1.0 + (longest - 1.0) * j as f64 / (TIMESCALES - 1) as f64;
        (-1.0 / 10_f64.powf(exponent)).exp() as f32
    })
}

/// The slots of the buffers before the first loss, `loss/decays`, `loss/means` and `loss/running_min`, `[10]` each, and the
/// counter `loss/iteration`: `longest` is the longest timescale of each lane.
///
/// The buffer counts its losses itself, as the reference's does: whoever shows an optimizer another time must not change
/// how many losses were seen.
pub(super) fn new_slots(longest: &[u32]) -> Vec<Slot> {
    let slot = |name: &str, initial: f32| Slot::filled(name, [TIMESCALES], longest.len(), initial);
    let mut slots = vec![slot("loss/decays", 0.0), slot("loss/means", 0.0), slot("loss/running_min", NO_MINIMUM)];
    for (lane, &longest) in longest.iter().enumerate() {
        slots[0].lane_mut(lane).copy_from_slice(&decays(longest));
    }
    slots.push(counter::slot("loss/iteration".into(), &vec![0; longest.len()]));
    slots
}

/// Sizes of those slots, in one lane.
pub(super) const SLOT_SIZES: [usize; 4] = [TIMESCALES, TIMESCALES, TIMESCALES, counter::SIZE];

/// Counts one more loss of a lane in slots that begin with [`new_slots`]; returns how many came before.
pub(super) fn count(slots: &mut [Slot], lane: usize) -> u32 {
    let before = counter::read(&slots[3], lane);
    counter::write(&mut slots[3], lane, before.saturating_add(1));
    before
}

/// One lane's buffer.
#[derive(Debug)]
pub(super) struct LossBuffer<'a> {
    /// Decays, fixed at the start of the trajectory.
    decays: &'a [f32],
    /// Moving averages of clipped losses.
    means: &'a mut [f32],
    /// Least corrected mean so far.
    running_min: &'a mut [f32],
}

impl<'a> LossBuffer<'a> {
    /// The buffer of one lane in slots that begin with [`new_slots`].
    pub(super) fn of(slots: &'a mut [Slot], lane: usize) -> Self {
        let [decays, means, running_min, ..] = slots else { unreachable!("checked to be at least three slots") };
        Self { decays: decays.lane(lane), means: means.lane_mut(lane), running_min: running_min.lane_mut(lane) }
    }

    /// Mean `j` corrected as if it had collected `count` losses.
    fn corrected(&self, j: usize, count: u32) -> f32 {
        self.means[j] / Decay::traced(self.decays[j]).collected(count)
    }

    /// One loss enters, after `before` others. The clip already divides by what `before + 1` losses would have
    /// collected, as the reference does.
    pub(super) fn update(&mut self, before: u32, loss: f32) {
        let count = before.saturating_add(1);
        let largest = match before {
            0 => loss,
            _ => (0..TIMESCALES).map(|j| self.corrected(j, count)).reduce(maximum).expect("ten timescales"),
        };
        let clipped = minimum(2.0 * largest.abs(), loss);
        for j in 0..TIMESCALES {
            let decay = Decay::traced(self.decays[j]);
            self.means[j] = decay.keep * self.means[j] + decay.take * clipped;
            self.running_min[j] = minimum(self.running_min[j], self.corrected(j, count));
        }
    }

    /// The features after `count` losses.
    pub(super) fn features(&self, count: u32) -> [f32; LOSS_FEATURES] {
        if count <= 2 {
            return [0.0; LOSS_FEATURES];
        }
        std::array::from_fn(|j| {
            let above = self.corrected(j, count) - self.running_min[j];
            let slower_above = maximum(1e-8, self.corrected(j + 1, count) - self.running_min[j]);
            (above / slower_above - 1.0).clamp(-1.0, 1.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means and features after each of some losses, at horizon 100.
    fn run(losses: &[f32]) -> Vec<([f32; 2], [f32; 2], [f32; LOSS_FEATURES])> {
        let decays = decays(100);
        let (mut means, mut running_min) = ([0.0; TIMESCALES], [NO_MINIMUM; TIMESCALES]);
        let mut buffer = LossBuffer { decays: &decays, means: &mut means, running_min: &mut running_min };
        let mut seen = Vec::new();
        for (before, &loss) in (0..).zip(losses) {
            buffer.update(before, loss);
            let ends = |values: &[f32]| [values[0], values[9]];
            seen.push((ends(buffer.means), ends(buffer.running_min), buffer.features(before + 1)));
        }
        seen
    }

    fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= tolerance, "{got} instead of {expected}");
        }
    }

    #[test]
    fn time_constants_reach_the_horizon() {
        let expected = [
            0.904_837_4,
            0.925_495_15,
            0.941_813_1,
            0.954_644_86,
            0.9647,
            0.972_557_96,
            0.978_686_1,
            0.983_457_3,
            0.987_167_54,
            0.990_049_84,
        ];
        assert_close(&decays(100), &expected, 6e-8);
        assert!(decays(10).iter().all(|&decay| decay == decays(10)[0]), "all equal at horizon 10");
    }

    #[test]
    fn spikes_are_clipped_as_in_the_reference() {
        // Vectors produced by the JAX reference.
        let seen = run(&[1.0, 5.0, 0.5, 20.0, 1.2, 0.9]);
        let means = [
            [0.095_162_6, 0.009_950_2],
            [0.186_023_4, 0.020_298_4],
            [0.215_902_2, 0.025_071_5],
            [0.319_997_4, 0.037_854_5],
            [0.403_740_7, 0.049_418],
            [0.450_966, 0.057_881_4],
        ];
        let minima = [[1.0, 1.0], [1.0, 1.0], [0.833_014_7, 0.848_316_8]];
        for (step, (got_means, got_minima, _)) in seen.iter().enumerate() {
            assert_close(got_means, &means[step], 1.5e-7);
            assert_close(got_minima, &minima[step.min(2)], 1.5e-7);
        }
        assert_eq!(seen[0].2, [0.0; LOSS_FEATURES]);
        assert_eq!(seen[1].2, [0.0; LOSS_FEATURES]);
        assert_eq!(seen[2].2, [-1.0; LOSS_FEATURES]);
        let features = [
            [
                0.010_679_7,
                0.008_067,
                0.006_115_8,
                0.004_648_7,
                0.003_546,
                0.002_717_1,
                0.002_078_2,
                0.001_599_3,
                0.001_231_8,
            ],
            [
                0.017_674_4,
                0.013_839_4,
                0.010_799_9,
                0.008_409,
                0.006_535_2,
                0.005_075_3,
                0.003_940_1,
                0.003_052_7,
                0.002_365_5,
            ],
            [
                0.008_284_9,
                0.006_734_7,
                0.005_398_3,
                0.004_287_6,
                0.003_383_2,
                0.002_654,
                0.002_081,
                0.001_618_9,
                0.001_260_3,
            ],
        ];
        for (step, expected) in features.iter().enumerate() {
            assert_close(&seen[3 + step].2, expected, 2e-6);
        }
    }

    #[test]
    fn a_nan_loss_stays_visible() {
        let seen = run(&[1.0, f32::NAN, 1.0, 1.0]);
        assert!(seen[3].0.iter().chain(&seen[3].2).all(|value| value.is_nan()));
    }
}
