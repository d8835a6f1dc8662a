//! Inner loops under antithetic pairs: what a worker computes.
//!
//! ```text
//!                       ┌ lane 0: theta + sigma ε ┐  same task seed, so same task,
//!  (step, slot, pair) ─►│                         │  weights and batches (common random numbers)
//!         ε             └ lane 1: theta − sigma ε ┘─► l+, l− step by step ─► estimator ─► PairReport
//! ```
//!
//! A pair depends on seeds and thetas only, so any worker computes the same bits for it, first try or fifth, alone or
//! together with other pairs of its slot: some learned optimizers read what pairs share once for all of them
//! ([`UnrollContext::groups`]). Under an estimator that runs windows the two lanes live on between them as a [`Particle`]; a worker that has
//! lost it (or never had it) builds it again by running the trajectory's [`earlier_windows`], each under the theta of its
//! outer step:
//!
//! ```text
//!  began             now − 1               now
//!  replay_pairs ─► … replay_pairs ─► particles ─► window_pairs   one theta at a time: a worker need not hold them all
//! ```

mod groups;
mod lanes;
mod losses;
mod trainer;
mod window;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss, PairReport, full_es, windowed};
use crate::learned::LearnedOptimizer;
use crate::optimizer::OptState;
use crate::schedule::{Trajectory, Window};
use crate::task::TaskFamily;
use crate::{Error, Params, Result, Seed, Theta};

use lanes::{Stage, Trained};
use window::{LaneTrace, Plan, pair_losses};

pub use trainer::{LaneTrainer, Training, check_losses};
pub use window::{EarlierWindow, earlier_windows};

/// What every pair of a run shares.
#[derive(Clone, Copy, Debug)]
pub struct UnrollContext<'a> {
    /// Root seed of the run.
    pub run: Seed,
    /// The learned optimizer.
    pub optimizer: &'a dyn LearnedOptimizer,
    /// The estimator.
    pub estimator: &'a EstimatorConfig,
    /// The mixture's families, in order.
    pub families: &'a [Arc<dyn TaskFamily>],
    /// What trains the lanes, if not the inner loop of this crate; it must know the families and the optimizer.
    pub trainer: Option<&'a dyn LaneTrainer>,
    /// Checked between inner steps.
    pub cancelled: &'a AtomicBool,
    /// Counts inner steps of all lanes, for progress displays only.
    pub progress: &'a AtomicU64,
}

/// Successive pairs of one slot of one outer step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Outer step.
    pub outer_step: u64,
    /// Slot.
    pub slot: u32,
    /// Pairs within the slot; at least one.
    pub pairs: Range<u32>,
}

/// One pair of one slot of one outer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairId {
    /// Outer step.
    pub outer_step: u64,
    /// Slot.
    pub slot: u32,
    /// Pair within the slot.
    pub pair: u32,
}

impl From<PairId> for Pairs {
    fn from(PairId { outer_step, slot, pair }: PairId) -> Self {
        Self { outer_step, slot, pairs: pair..pair.saturating_add(1) }
    }
}

impl Pairs {
    /// Lanes of all pairs: + and − of the first, + and − of the second, …
    fn lanes(&self) -> usize {
        2 * self.pairs.len()
    }
}

/// What running a pair gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairOutcome {
    /// The report.
    pub report: PairReport,
    /// Inner steps of this window or unroll, both lanes: twice the places that train. A diverged lane counts on.
    pub inner_steps: u64,
    /// Lanes that are non-finite at the end.
    pub diverged_lanes: u32,
}

/// The two lanes of a pair between two windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Particle {
    /// Where it stands: `current` of the slot's next window.
    pub trajectory: Trajectory,
    /// State of both lanes: + then −.
    pub state: OptState,
    /// What the tasks keep beside the parameters ([`crate::task::TaskLanes::state`]), of both lanes.
    pub task_state: Option<Params>,
    /// Which lane has diverged; it stays so until the trajectory ends.
    pub diverged: [bool; 2],
}

/// Runs a whole antithetic unroll (Full ES). `theta` has one lane.
///
/// # Errors
/// As [`full_es_pairs`].
pub fn full_es_pair(context: &UnrollContext<'_>, theta: &Theta, pair: PairId, window: &Window) -> Result<PairOutcome> {
    full_es_pairs(context, theta, &pair.into(), window).map(only)
}

/// Runs whole antithetic unrolls (Full ES) of some pairs together: outcomes in their order, each as if it ran alone.
/// `theta` has one lane.
///
/// # Errors
/// [`Error::Task`], [`Error::Cancelled`]; [`Error::Setting`] if the window does not fit the context's families or
/// estimator.
pub fn full_es_pairs(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pairs: &Pairs,
    window: &Window,
) -> Result<Vec<PairOutcome>> {
    let EstimatorKind::FullEs { loss } = context.estimator.kind else {
        let got = context.estimator.kind.name();
        return Err(Error::setting("estimator.kind", "must be full_es to run whole unrolls", got));
    };
    let start = Trajectory { inner_step: 0, ..window.current };
    let stage = Stage::new(context, theta, pairs, start, pairs.outer_step)?;
    let (steps, loss_from) = (start.length(), context.estimator.loss_from);
    let mut traces = vec![LaneTrace::default(); pairs.lanes()];
    let trained = stage.run(Vec::new(), &mut traces, |lanes, traces| match loss {
        MetaLoss::Average | MetaLoss::Min => lanes.train(steps, loss_from, traces),
        // Losses that do not count are not evaluated anew.
        MetaLoss::Last => {
            let lanes = lanes.train(steps - 1, LossFrom::TrainingBatch, traces)?;
            lanes.train(1, loss_from, traces)
        }
        MetaLoss::LastRecompute { batches } => {
            let mut lanes = lanes.train(steps, LossFrom::TrainingBatch, traces)?;
            for (trace, loss) in traces.iter_mut().zip(lanes.recomputed(loss_from, batches)?) {
                trace.replace_last(loss);
            }
            Ok(lanes)
        }
    })?;
    let report = |plus: &LaneTrace, minus: &LaneTrace| {
        full_es::estimate(context.estimator, loss, &plus.losses, &minus.losses).report
    };
    Ok(outcomes(&traces, &trained, report))
}

/// Runs one window of PES, GPES, NRES or truncated ES. `particle` is what the previous window of this trajectory
/// returned, or [`replay_pair`]; a trajectory at its first inner step needs none.
///
/// # Errors
/// As [`window_pairs`].
pub fn window_pair(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pair: PairId,
    window: &Window,
    particle: Option<Particle>,
) -> Result<(PairOutcome, Particle)> {
    window_pairs(context, theta, &pair.into(), window, particle.into_iter().collect()).map(only)
}

/// Runs one window of PES, GPES, NRES or truncated ES of some pairs together: outcomes and particles in their order, each
/// as if it ran alone. `particles` are what the previous window of this trajectory returned, or [`replay_pairs`]; a
/// trajectory at its first inner step needs none.
///
/// # Errors
/// [`Error::Task`], [`Error::Cancelled`]; [`Error::Setting`] if the window does not fit the context's families or
/// estimator, or if there are no particles that stand where the window begins.
pub fn window_pairs(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pairs: &Pairs,
    window: &Window,
    particles: Vec<Particle>,
) -> Result<Vec<(PairOutcome, Particle)>> {
    let plan = Plan::new(context.estimator, window)?;
    let &EstimatorConfig { kind, loss_from, .. } = context.estimator;
    let mut traces = vec![LaneTrace::default(); pairs.lanes()];
    let mut trained = None;
    if plan.before_reset > 0 {
        let perturbed = kind.perturbation_step(window.current.began, pairs.outer_step);
        let stage = Stage::new(context, theta, pairs, window.current, perturbed)?;
        let steps = plan.before_reset;
        trained = Some(stage.run(particles, &mut traces, |lanes, traces| lanes.train(steps, loss_from, traces))?);
    }
    if let Some((next, steps)) = plan.after_reset {
        traces.iter_mut().for_each(LaneTrace::reset);
        // A trajectory whose first step lies in the next window begins under that window's perturbation.
        let stage = Stage::new(context, theta, pairs, Trajectory { inner_step: 0, ..next }, pairs.outer_step)?;
        trained = Some(stage.run(Vec::new(), &mut traces, |lanes, traces| lanes.train(steps, loss_from, traces))?);
    }
    let trained = trained.expect("a window has at least one place, and each place trains or resets");
    let report =
        |plus: &LaneTrace, minus: &LaneTrace| windowed::estimate(context.estimator, &pair_losses(plus, minus)).report;
    let outcomes = outcomes(&traces, &trained, report);
    Ok(outcomes.into_iter().zip(trained.into_particles(kind)).collect())
}

/// Runs one earlier window of a trajectory again, under the theta of its outer step, which is also `pair`'s. `particle` is
/// what the window before it returned; the first one needs none.
///
/// # Errors
/// As [`window_pairs`].
pub fn replay_pair(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pair: PairId,
    earlier: &EarlierWindow,
    particle: Option<Particle>,
) -> Result<Particle> {
    replay_pairs(context, theta, &pair.into(), earlier, particle.into_iter().collect()).map(only)
}

/// Runs one earlier window of a trajectory again, for some pairs together, as [`replay_pair`] does for one.
///
/// # Errors
/// As [`window_pairs`].
pub fn replay_pairs(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pairs: &Pairs,
    earlier: &EarlierWindow,
    particles: Vec<Particle>,
) -> Result<Vec<Particle>> {
    let kind = context.estimator.kind;
    let perturbed = kind.perturbation_step(earlier.standing.began, earlier.outer_step);
    let stage = Stage::new(context, theta, pairs, earlier.standing, perturbed)?;
    // Nobody reads these losses.
    let (loss_from, mut traces) = (LossFrom::TrainingBatch, vec![LaneTrace::default(); pairs.lanes()]);
    let trained = stage.run(particles, &mut traces, |lanes, traces| lanes.train(earlier.steps, loss_from, traces))?;
    Ok(trained.into_particles(kind))
}

/// The outcome of each pair of lanes.
fn outcomes(
    traces: &[LaneTrace],
    trained: &Trained,
    report: impl Fn(&LaneTrace, &LaneTrace) -> PairReport,
) -> Vec<PairOutcome> {
    let pairs = traces.as_chunks::<2>().0.iter().zip(trained.diverged().as_chunks::<2>().0);
    pairs
        .map(|([plus, minus], diverged)| PairOutcome {
            report: report(plus, minus),
            inner_steps: plus.inner_steps() + minus.inner_steps(),
            diverged_lanes: diverged.iter().map(|diverged| u32::from(*diverged)).sum(),
        })
        .collect()
}

/// What one pair gave.
fn only<T>(mut of_pairs: Vec<T>) -> T {
    of_pairs.pop().expect("one pair in, one out")
}
