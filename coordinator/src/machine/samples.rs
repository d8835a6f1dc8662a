//! How many pairs carry a meta-gradient.
//!
//! A meta-gradient is a sum of perturbations, each with a weight: the difference of its pair's losses, as shaped. Where few
//! weights are much larger than the others, it rests on few pairs however many were computed. Kish's effective sample size
//! counts them: (Σ w)² / Σ w² is n for n equal weights, and 1 where one weight is all.

use std::sync::Arc;

use paceline_optimizer_core::outer::{Contribution, SlotResult};

/// Pairs that carry the meta-gradient of a step; `None` where nothing is known of pairs, for results came as sums, or where
/// all weights are 0.
pub(super) fn effective_samples<'a>(contributions: impl Iterator<Item = &'a Arc<Contribution>>) -> Option<f64> {
    let (mut sum, mut squares) = (0.0, 0.0);
    for contribution in contributions {
        let SlotResult::SeedCoded(pairs) = &contribution.result else { return None };
        for pair in pairs {
            let weight = pair.fresh.abs() + pair.carried.abs();
            sum += weight;
            squares += weight * weight;
        }
    }
    let samples = sum * sum / squares;
    samples.is_finite().then_some(samples)
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::estimator::PairReport;
    use paceline_optimizer_core::schedule::{Trajectory, Window};

    use super::*;

    fn slot(result: SlotResult) -> Arc<Contribution> {
        let window = Window { current: Trajectory { horizon: 30, ..Trajectory::default() }, next: None };
        Arc::new(Contribution { slot: 0, window, result, inner_steps: 10, diverged_lanes: 0 })
    }

    fn coded(weights: &[f64]) -> Arc<Contribution> {
        let pair =
            |weight: &f64| PairReport { fresh: weight / 2.0, carried: -weight / 2.0, loss_plus: 1.0, loss_minus: 1.0 };
        slot(SlotResult::SeedCoded(weights.iter().map(pair).collect()))
    }

    #[test]
    fn equal_weights_all_count_and_a_large_one_counts_alone() {
        let of = |slots: &[Arc<Contribution>]| effective_samples(slots.iter());
        assert_eq!(of(&[coded(&[0.5, -0.5]), coded(&[0.5, 0.5])]), Some(4.0), "over all slots, whatever the sign");
        assert_eq!(of(&[coded(&[3.0, 1.0])]), Some(1.6));
        assert!(of(&[coded(&[1e6, 1.0, 1.0, 1.0])]).is_some_and(|samples| samples < 1.001));
        assert_eq!(of(&[coded(&[2.0, 0.0, 0.0])]), Some(1.0), "a pair of weight 0 carries nothing");
    }

    #[test]
    fn where_nothing_is_known_nothing_is_told() {
        let dense = slot(SlotResult::Dense { gradient: vec![1.0], loss: 1.0 });
        assert_eq!(effective_samples([coded(&[1.0]), dense].iter()), None);
        assert_eq!(effective_samples([coded(&[0.0, 0.0])].iter()), None);
        assert_eq!(effective_samples([].iter()), None);
    }
}
