//! The work that is timed: one meta-gradient, as a fleet of one worker and its coordinator compute it.
//!
//! ```text
//!  theta ─► P pairs, on threads ─────────────────────────────► P reports ─► fold ─► meta-gradient
//!           perturb, data, T steps of both lanes, losses           (ε from seeds again)
//! ```

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use paceline_coordinator::Threads;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::outer::{Contribution, OuterConfig, Report, SlotResult, ThetaOptimizer, fold_with};
use paceline_optimizer_core::perturbation::Noise;
use paceline_optimizer_core::schedule::{HorizonSchedule, Trajectory, Window};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{PairOutcome, Pairs, UnrollContext, full_es_pairs};
use paceline_optimizer_core::{Result, Seed, Theta};

use super::executors::Executors;
use super::named;
use crate::arguments::{InnerWork, NoiseKind};
use crate::failure::Failure;

/// Standard deviation of the perturbations.
const SIGMA: f32 = 0.01;

/// Everything that does not change from one meta-gradient to the next.
pub(super) struct MetaGradient {
    run: Seed,
    optimizer: Arc<dyn LearnedOptimizer>,
    families: [Arc<dyn TaskFamily>; 1],
    theta: Theta,
    estimator: EstimatorConfig,
    outer: OuterConfig,
    steps: u32,
}

/// What computing one gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Computed {
    /// Inner steps of all lanes.
    pub(super) inner_steps: u64,
    /// Lanes that ended non-finite: they stop computing, so a figure with any is worth less.
    pub(super) diverged_lanes: u64,
    /// Mean normalised loss.
    pub(super) loss: f64,
}

impl MetaGradient {
    /// For the work that was typed.
    pub(super) fn new(work: &InnerWork) -> Result<Self, Failure> {
        let optimizer = named::learned(&work.optimizer)?;
        let family = named::task(&work.task, work.batch)?;
        let noise = match work.noise {
            NoiseKind::Dense => Noise::Dense,
            NoiseKind::LowRank => Noise::LowRank { rank: work.rank },
        };
        noise.validate()?;
        let run = Seed::new(1);
        let theta = optimizer.init_theta(run);
        let kind = EstimatorKind::FullEs { loss: MetaLoss::Average };
        let horizon = HorizonSchedule::Constant { steps: work.steps };
        let loss_from = LossFrom::TrainingBatch;
        let estimator = EstimatorConfig { noise, loss_from, ..EstimatorConfig::new(kind, SIGMA, horizon) };
        let outer = OuterConfig {
            steps: u64::MAX,
            slots: 1,
            pairs_per_slot: work.pairs,
            optimizer: ThetaOptimizer::default(),
            clip: None,
            clip_norm: None,
            accumulation: 1,
            report: Report::SeedCoded,
        };
        Ok(Self { run, optimizer, families: [family], theta, estimator, outer, steps: work.steps })
    }

    /// The inner problem.
    pub(super) fn family(&self) -> &dyn TaskFamily {
        &*self.families[0]
    }

    /// Values of theta.
    pub(super) fn theta_size(&self) -> usize {
        self.theta.layout().size()
    }

    /// The meta-gradient of one outer step.
    pub(super) fn compute(self: &Arc<Self>, executors: &Executors, outer_step: u64) -> Result<Computed, Failure> {
        let window = self.window(outer_step);
        let groups =
            self.with_context(|context| context.groups(0, &window, self.outer.pairs_per_slot, executors.count()))?;
        let own = Arc::clone(self);
        let outcomes =
            executors.map(groups.len(), move |group| own.unroll(outer_step, &window, groups[group].clone()))?;
        let outcomes: Vec<PairOutcome> = outcomes.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let contribution = Contribution {
            slot: 0,
            window,
            inner_steps: outcomes.iter().map(|outcome| outcome.inner_steps).sum(),
            diverged_lanes: outcomes.iter().map(|outcome| outcome.diverged_lanes).sum(),
            result: SlotResult::SeedCoded(outcomes.into_iter().map(|outcome| outcome.report).collect()),
        };
        let threads = Threads::new(NonZeroUsize::new(executors.count()).unwrap_or(NonZeroUsize::MIN));
        let (layout, estimator) = (self.optimizer.layout(), &self.estimator);
        let folded = fold_with(&threads, self.run, outer_step, &self.outer, estimator, layout, &[contribution])?;
        let (inner_steps, diverged_lanes) = (folded.inner_steps, folded.diverged_lanes);
        Ok(Computed { inner_steps, diverged_lanes, loss: folded.loss })
    }

    /// A whole trajectory, a new one every outer step.
    fn window(&self, outer_step: u64) -> Window {
        let trajectory =
            Trajectory { index: outer_step, horizon: self.steps, began: outer_step, ..Trajectory::default() };
        Window { current: trajectory, next: None }
    }

    /// Some pairs, on the calling thread.
    fn unroll(&self, outer_step: u64, window: &Window, pairs: Range<u32>) -> Result<Vec<PairOutcome>> {
        let pairs = Pairs { outer_step, slot: 0, pairs };
        self.with_context(|context| full_es_pairs(context, &self.theta, &pairs, window))
    }

    fn with_context<T>(&self, run: impl FnOnce(&UnrollContext<'_>) -> T) -> T {
        let (cancelled, progress) = (AtomicBool::new(false), AtomicU64::new(0));
        run(&UnrollContext {
            run: self.run,
            optimizer: &*self.optimizer,
            estimator: &self.estimator,
            families: &self.families,
            trainer: None,
            cancelled: &cancelled,
            progress: &progress,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::OptimizerChoice;

    #[test]
    fn all_lanes_are_stepped_and_threads_do_not_show() {
        let optimizer = OptimizerChoice { optimizer: "adafac_mlp".into(), lstm: None, bank: None, hidden: None };
        let (task, noise) = ("mlp".to_owned(), NoiseKind::Dense);
        let work = InnerWork { optimizer, task, pairs: 3, steps: 4, batch: Some(8), noise, rank: 1, reps: 1 };
        let meta_gradient = Arc::new(MetaGradient::new(&work).unwrap());
        let computed = |threads| meta_gradient.compute(&Executors::new(threads).unwrap(), 0).unwrap();
        let [one, two] = [1, 2].map(computed);
        assert_eq!((one.inner_steps, one.diverged_lanes), (2 * 3 * 4, 0));
        assert_eq!(one.loss.to_bits(), two.loss.to_bits());
    }
}
