//! Inner loops under antithetic pairs: what a worker computes.
//!
//! ```text
//!                       ┌ lane 0: theta + sigma ε ┐  same task seed, so same task,
//!  (step, slot, pair) ─►│                         │  weights and batches (common random numbers)
//!         ε             └ lane 1: theta − sigma ε ┘─► l+, l− step by step ─► estimator ─► PairReport
//! ```
//!
//! A pair is one call. It depends on seeds and thetas only, so any worker computes the same bits for it, first try or
//! fifth. Under an estimator that runs windows the two lanes live on between them as a [`Particle`]; a worker that has
//! lost it (or never had it) builds it again by running the trajectory's [`earlier_windows`], each under the theta of its
//! outer step:
//!
//! ```text
//!  began            now − 1              now
//!  replay_pair ─► … replay_pair ─► particle ─► window_pair   one theta at a time: a worker need not hold them all
//! ```

mod losses;
mod together;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss, PairReport, full_es, windowed};
use crate::inner_loop::InnerLoop;
use crate::learned::LearnedOptimizer;
use crate::optimizer::{OptState, Optimizer};
use crate::perturbation::Perturbation;
use crate::schedule::{Trajectory, Window, member_seed, task_seed};
use crate::task::TaskFamily;
use crate::{Error, Params, Result, Seed, Theta};

use window::{Plan, WindowTrace};

pub use together::{LaneTrainer, SlotId, Training, check_losses, full_es_pairs, replay_pairs, window_pairs};
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
    /// Checked between inner steps.
    pub cancelled: &'a AtomicBool,
    /// Counts inner steps of all lanes, for progress displays only.
    pub progress: &'a AtomicU64,
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
/// [`Error::Task`], [`Error::Cancelled`]; [`Error::Setting`] if the window does not fit the context's families or
/// estimator.
pub fn full_es_pair(context: &UnrollContext<'_>, theta: &Theta, pair: PairId, window: &Window) -> Result<PairOutcome> {
    let EstimatorKind::FullEs { loss } = context.estimator.kind else {
        let got = context.estimator.kind.name();
        return Err(Error::setting("estimator.kind", "must be full_es to run whole unrolls", got));
    };
    let optimizer = context.perturbed(theta, pair, pair.outer_step)?;
    let family = context.family(&window.current, pair)?;
    let mut lanes = context.begin(&*family, &window.current, &*optimizer, pair)?;
    let (steps, loss_from) = (window.current.length(), context.estimator.loss_from);
    let mut trace = WindowTrace::default();
    match loss {
        MetaLoss::Average | MetaLoss::Min => {
            lanes = context.train(lanes, &*optimizer, steps, loss_from, &mut trace)?;
        }
        // Losses that do not count are not evaluated anew.
        MetaLoss::Last => {
            lanes = context.train(lanes, &*optimizer, steps - 1, LossFrom::TrainingBatch, &mut trace)?;
            lanes = context.train(lanes, &*optimizer, 1, loss_from, &mut trace)?;
        }
        MetaLoss::LastRecompute { batches } => {
            lanes = context.train(lanes, &*optimizer, steps, LossFrom::TrainingBatch, &mut trace)?;
            let [plus, minus] =
                losses::recomputed(lanes.family, &mut lanes.inner, loss_from, batches, context.cancelled)?;
            trace.replace_last(plus, minus);
        }
    }
    let estimate = full_es::estimate(context.estimator, loss, &trace.plus, &trace.minus);
    Ok(PairOutcome {
        report: estimate.report,
        inner_steps: trace.inner_steps(),
        diverged_lanes: count(&lanes.inner.diverged),
    })
}

/// Runs one window of PES, GPES, NRES or truncated ES. `particle` is what the previous window of this trajectory
/// returned, or [`replay_pair`]; a trajectory at its first inner step needs none.
///
/// # Errors
/// [`Error::Task`], [`Error::Cancelled`]; [`Error::Setting`] if the window does not fit the context's families or
/// estimator, or if there is no particle that stands where the window begins.
pub fn window_pair(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pair: PairId,
    window: &Window,
    particle: Option<Particle>,
) -> Result<(PairOutcome, Particle)> {
    let plan = Plan::new(context.estimator, window)?;
    let &EstimatorConfig { kind, loss_from, .. } = context.estimator;
    let mut trace = WindowTrace::default();
    let family = context.family(&window.current, pair)?;
    let successor = plan.after_reset.map(|(next, _)| context.family(&next, pair)).transpose()?;
    let mut lanes = None;
    if plan.before_reset > 0 {
        let optimizer =
            context.perturbed(theta, pair, kind.perturbation_step(window.current.began, pair.outer_step))?;
        let standing = context.standing(&*family, &window.current, &*optimizer, pair, particle)?;
        lanes = Some(context.train(standing, &*optimizer, plan.before_reset, loss_from, &mut trace)?);
    }
    if let Some(((next, steps), family)) = plan.after_reset.zip(successor.as_deref()) {
        trace.reset();
        // A trajectory whose first step lies in the next window begins under that window's perturbation.
        let optimizer = context.perturbed(theta, pair, pair.outer_step)?;
        let fresh = context.begin(family, &next, &*optimizer, pair)?;
        lanes = Some(context.train(fresh, &*optimizer, steps, loss_from, &mut trace)?);
    }
    let lanes = lanes.expect("a window has at least one place, and each place trains or resets");
    let estimate = windowed::estimate(context.estimator, &trace.losses());
    let outcome = PairOutcome {
        report: estimate.report,
        inner_steps: trace.inner_steps(),
        diverged_lanes: count(&lanes.inner.diverged),
    };
    Ok((outcome, lanes.into_particle(kind)))
}

/// Runs one earlier window of a trajectory again, under the theta of its outer step, which is also `pair`'s. `particle` is
/// what the window before it returned; the first one needs none.
///
/// # Errors
/// As [`window_pair`].
pub fn replay_pair(
    context: &UnrollContext<'_>,
    theta: &Theta,
    pair: PairId,
    earlier: &EarlierWindow,
    particle: Option<Particle>,
) -> Result<Particle> {
    let kind = context.estimator.kind;
    let optimizer =
        context.perturbed(theta, pair, kind.perturbation_step(earlier.standing.began, earlier.outer_step))?;
    let family = context.family(&earlier.standing, pair)?;
    let standing = context.standing(&*family, &earlier.standing, &*optimizer, pair, particle)?;
    // Nobody reads these losses.
    let (loss_from, mut trace) = (LossFrom::TrainingBatch, WindowTrace::default());
    Ok(context.train(standing, &*optimizer, earlier.steps, loss_from, &mut trace)?.into_particle(kind))
}

/// Both lanes of a pair on one trajectory.
struct PairLanes<'a> {
    family: &'a dyn TaskFamily,
    trajectory: Trajectory,
    inner: InnerLoop<'a>,
}

impl PairLanes<'_> {
    fn into_particle(self, kind: EstimatorKind) -> Particle {
        let PairLanes { trajectory, inner, .. } = self;
        let diverged = [inner.diverged[0], inner.diverged[1]];
        let task_state = inner.tasks.state().cloned();
        match kind {
            // Both signs go on from the + lane.
            EstimatorKind::TruncatedEs { .. } => Particle {
                trajectory,
                state: inner.state.select(&[0, 0]),
                task_state: task_state.map(|state| state.select(&[0, 0])),
                diverged: [diverged[0]; 2],
            },
            EstimatorKind::FullEs { .. }
            | EstimatorKind::Pes { .. }
            | EstimatorKind::Gpes { .. }
            | EstimatorKind::Nres { .. } => Particle { trajectory, state: inner.state, task_state, diverged },
        }
    }
}

fn count(diverged: &[bool]) -> u32 {
    diverged.iter().map(|diverged| u32::from(*diverged)).sum()
}

impl UnrollContext<'_> {
    /// The optimizer of lanes `theta + sigma ε` and `theta − sigma ε`, with the pair's ε of `step`.
    fn perturbed(&self, theta: &Theta, pair: PairId, step: u64) -> Result<Box<dyn Optimizer>> {
        let EstimatorConfig { noise, sigma, .. } = *self.estimator;
        let epsilon = Perturbation::new(self.run, noise, theta.layout(), step, pair.slot, pair.pair)?;
        self.optimizer.bind_perturbed(theta, &epsilon, sigma)
    }

    /// The family of static shapes that a trajectory trains on: the mixture's, or what that one draws for all pairs of
    /// the slot.
    fn family(&self, trajectory: &Trajectory, pair: PairId) -> Result<Arc<dyn TaskFamily>> {
        let family = self.families.get(trajectory.family).ok_or_else(|| {
            let reason = format!("a mixture of {} families has no such place", self.families.len());
            Error::setting("window.family", reason, trajectory.family)
        })?;
        let drawn = family.draw(member_seed(self.run, pair.slot, trajectory.index))?;
        Ok(drawn.unwrap_or_else(|| Arc::clone(family)))
    }

    /// Both lanes train the same task instance.
    fn seeds(&self, trajectory: &Trajectory, pair: PairId) -> [Seed; 2] {
        [task_seed(self.run, pair.slot, trajectory.index, pair.pair); 2]
    }

    fn begin<'f>(
        &self,
        family: &'f dyn TaskFamily,
        trajectory: &Trajectory,
        optimizer: &dyn Optimizer,
        pair: PairId,
    ) -> Result<PairLanes<'f>> {
        let seeds = self.seeds(trajectory, pair);
        let inner = InnerLoop::begin(family, optimizer, &seeds, trajectory.horizon)?;
        Ok(PairLanes { family, trajectory: Trajectory { inner_step: 0, ..*trajectory }, inner })
    }

    /// Lanes that stand at `trajectory`: fresh ones at its first step, else the particle's.
    fn standing<'f>(
        &self,
        family: &'f dyn TaskFamily,
        trajectory: &Trajectory,
        optimizer: &dyn Optimizer,
        pair: PairId,
        particle: Option<Particle>,
    ) -> Result<PairLanes<'f>> {
        if trajectory.inner_step == 0 {
            return self.begin(family, trajectory, optimizer, pair);
        }
        match particle {
            Some(Particle { trajectory: standing, state, task_state, diverged }) if standing == *trajectory => {
                let seeds = self.seeds(trajectory, pair);
                let inner = InnerLoop::resume(family, &seeds, state, task_state, diverged.to_vec())?;
                Ok(PairLanes { family, trajectory: standing, inner })
            }
            other => {
                let got = other.map_or("none".to_owned(), |particle| format!("{:?}", particle.trajectory));
                Err(Error::setting("particle", format!("must stand at {trajectory:?}"), got))
            }
        }
    }

    /// Trains `steps` inner steps and notes their normalised losses.
    fn train<'f>(
        &self,
        mut lanes: PairLanes<'f>,
        optimizer: &dyn Optimizer,
        steps: u32,
        loss_from: LossFrom,
        trace: &mut WindowTrace,
    ) -> Result<PairLanes<'f>> {
        for _ in 0..steps {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let batch = u64::from(lanes.trajectory.inner_step);
            let (inner, before) = lanes.inner.step(optimizer, batch)?;
            lanes.inner = inner;
            let [plus, minus] = losses::counted(lanes.family, &mut lanes.inner, loss_from, batch, &before)?;
            trace.step(plus, minus);
            lanes.trajectory.inner_step += 1;
            self.progress.fetch_add(2, Ordering::Relaxed);
        }
        Ok(lanes)
    }
}
