//! Which perturbations a report's two weights multiply.
//!
//! ```text
//!  outer step        began        …                    outer_step
//!  PES               ε(began)     ε(began+1)   …       ε(outer_step)        all carried
//!  GPES, 2 windows   ε(began) ──► ε(began+2) ──►       the newest may be one window old
//!  NRES              ε(began) ────────────────────►    one a trajectory
//!  begun in this window                                ε(outer_step)        fresh
//! ```
//!
//! A perturbation is named by the outer step it was first used in, so keeping one longer is nothing but asking for an
//! older name.

use std::num::NonZeroU64;

use super::{EstimatorKind, PairReport};
use crate::perturbation::Term;
use crate::schedule::Window;

impl EstimatorKind {
    /// Windows for which a trajectory keeps a perturbation; `None` for as long as it lives.
    fn windows_kept(self) -> Option<NonZeroU64> {
        match self {
            Self::FullEs { .. } | Self::Pes { .. } | Self::TruncatedEs { .. } => Some(NonZeroU64::MIN),
            Self::Gpes { window, period } => {
                NonZeroU64::new(u64::from(period / window.max(1))).or(Some(NonZeroU64::MIN))
            }
            Self::Nres { .. } => None,
        }
    }

    /// The outer step that names the perturbation under which a trajectory begun in `began` runs in `outer_step`.
    pub fn perturbation_step(self, began: u64, outer_step: u64) -> u64 {
        let age = outer_step.saturating_sub(began);
        match self.windows_kept() {
            Some(windows) => outer_step - age % windows,
            None => outer_step - age,
        }
    }

    /// Number of [`EstimatorKind::terms`] of a pair, on average over windows, where trajectories are between `shortest` and
    /// `longest` inner steps long.
    ///
    /// A trajectory of h steps that keeps each perturbation for K meets n = h/K of them, and its windows carry 1, 2, … n:
    /// (n + 1)/2 on average. Over log-uniform lengths, each weighed by its number of windows, h averages to
    /// (shortest + longest)/2; for other schedules that is a guess. Where a perturbation outlasts a window, the window of
    /// a reset has a fresh one beside it.
    pub fn mean_terms(self, shortest: u32, longest: u32) -> f64 {
        let carried = |length: f64, kept: f64| ((length / kept).max(1.0) + 1.0) / 2.0;
        let length = (f64::from(shortest) + f64::from(longest)) / 2.0;
        match self {
            Self::FullEs { .. } | Self::TruncatedEs { .. } => 1.0,
            Self::Pes { window } => carried(length, f64::from(window)),
            Self::Gpes { window, period } if period <= window => carried(length, f64::from(window)),
            Self::Gpes { window, period } => carried(length, f64::from(period)) + f64::from(window) / length,
            Self::Nres { window } => 1.0 + f64::from(window) / length,
        }
    }

    /// The perturbations of one pair's part of the meta-gradient, `[carried (A + ε) + fresh ε] / (2 sigma)`, oldest
    /// first.
    pub fn terms(
        self,
        window: &Window,
        outer_step: u64,
        slot: u32,
        pair: u32,
        report: &PairReport,
        sigma: f32,
    ) -> Vec<Term> {
        let scale = 0.5 / f64::from(sigma);
        let term = |outer_step, weight| Term { outer_step, slot, pair, weight: scale * weight };
        let mut terms = Vec::new();
        if report.carried != 0.0 {
            let newest = self.perturbation_step(window.current.began, outer_step);
            let mut step = window.current.began.min(newest);
            while step < newest {
                terms.push(term(step, report.carried));
                step += self.windows_kept().map_or(u64::MAX - step, NonZeroU64::get);
            }
            if newest == outer_step {
                let weight = report.carried + report.fresh;
                terms.push(term(outer_step, weight));
                return terms;
            }
            terms.push(term(newest, report.carried));
        }
        if report.fresh != 0.0 {
            terms.push(term(outer_step, report.fresh));
        }
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::estimator::EstimatorConfig;
    use crate::schedule::{HorizonSchedule, SlotSequence, Trajectory};

    const PES: EstimatorKind = EstimatorKind::Pes { window: 4 };
    const GPES: EstimatorKind = EstimatorKind::Gpes { window: 4, period: 12 };
    const NRES: EstimatorKind = EstimatorKind::Nres { window: 4 };

    fn terms(kind: EstimatorKind, began: u64, outer_step: u64, carried: f64, fresh: f64) -> Vec<(u64, f64)> {
        let window = Window { current: Trajectory { began, ..Trajectory::default() }, next: None };
        let report = PairReport { fresh, carried, loss_plus: 0.0, loss_minus: 0.0 };
        let terms = kind.terms(&window, outer_step, 3, 1, &report, 0.5);
        assert!(terms.iter().all(|term| (term.slot, term.pair) == (3, 1)));
        terms.into_iter().map(|term| (term.outer_step, term.weight)).collect()
    }

    #[test]
    fn a_perturbation_is_kept_as_long_as_its_estimator_says() {
        let steps = |kind: EstimatorKind| (5..12).map(|step| kind.perturbation_step(5, step)).collect::<Vec<_>>();
        assert_eq!(steps(PES), [5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(steps(GPES), [5, 5, 5, 8, 8, 8, 11]);
        assert_eq!(steps(NRES), [5; 7]);
    }

    #[test]
    fn carried_differences_meet_each_perturbation_of_the_trajectory_once() {
        assert_eq!(terms(PES, 5, 7, 2.0, 0.0), [(5, 2.0), (6, 2.0), (7, 2.0)]);
        assert_eq!(terms(GPES, 5, 9, 2.0, 0.0), [(5, 2.0), (8, 2.0)]);
        assert_eq!(terms(GPES, 5, 8, 2.0, 0.0), [(5, 2.0), (8, 2.0)]);
        assert_eq!(terms(NRES, 5, 9, 2.0, 0.0), [(5, 2.0)]);
    }

    #[test]
    fn terms_are_as_many_as_the_average_says() {
        let whole = EstimatorKind::FullEs { loss: crate::estimator::MetaLoss::Average };
        let truncated = EstimatorKind::TruncatedEs { window: 4 };
        assert_eq!((whole.mean_terms(10, 1000), truncated.mean_terms(10, 1000)), (1.0, 1.0));
        for kind in [PES, GPES, NRES] {
            for schedule in [HorizonSchedule::Constant { steps: 80 }, HorizonSchedule::LogUniform { min: 30, max: 300 }]
            {
                let (mut terms, mut windows) = (0, 0);
                let estimator = EstimatorConfig::new(kind, 1.0, schedule.clone());
                for slot in 0..60 {
                    let mut sequence = SlotSequence::new(Seed::new(3), slot, &estimator, 800, &[1.0]).unwrap();
                    for outer_step in 0..800 {
                        let window = sequence.window();
                        let fresh = if window.next.is_some() { 1.0 } else { 0.0 };
                        let report = PairReport { fresh, carried: 1.0, loss_plus: 0.0, loss_minus: 0.0 };
                        terms += kind.terms(&window, outer_step, slot, 0, &report, 1.0).len();
                        windows += 1;
                        sequence.advance();
                    }
                }
                let (mean, expected) =
                    (f64::from(terms as u32) / f64::from(windows), kind.mean_terms(schedule.min(), schedule.max()));
                assert!((mean / expected - 1.0).abs() < 0.12, "{kind:?} {schedule:?}: {mean}, not {expected}");
            }
        }
    }

    #[test]
    fn a_trajectory_begun_in_the_window_meets_its_own() {
        assert_eq!(terms(PES, 5, 6, 2.0, 1.0), [(5, 2.0), (6, 3.0)]);
        assert_eq!(terms(GPES, 5, 6, 2.0, 1.0), [(5, 2.0), (6, 1.0)]);
        assert_eq!(terms(NRES, 5, 9, 2.0, 1.0), [(5, 2.0), (9, 1.0)]);
        assert_eq!(terms(NRES, 5, 9, 0.0, 1.0), [(9, 1.0)]);
        assert_eq!(terms(PES, 5, 9, 0.0, 0.0), []);
    }
}
