//! All pairs of a slot at once, for something that trains many lanes together: a device.
//!
//! ```text
//!  pair 0: lanes + −  ┐                                    ┌ pair 0: report, particle
//!  pair 1: lanes + −  ├─► one state ─► LaneTrainer ─► losses ┤ pair 1: report, particle
//!  pair 2: lanes + −  ┘    [2 · pairs]                     └ pair 2: report, particle
//! ```
//!
//! What is trained, when a trajectory is replaced and what enters a report is decided here as for one pair
//! ([`window_pair`](super::window_pair), [`full_es_pair`](super::full_es_pair)); only the steps themselves are the
//! trainer's. Losses that need a batch of their own are the CPU's affair, so [`LossFrom::TrainingBatch`] is the only
//! source of losses known here.

use super::{EarlierWindow, PairId, PairLanes, PairOutcome, Particle, Plan, UnrollContext, WindowTrace, count, losses};
use crate::estimator::{EstimatorKind, LossFrom, MetaLoss, full_es, windowed};
use crate::learned::LearnedOptimizer;
use crate::optimizer::{OptState, Slot};
use crate::perturbation::Perturbation;
use crate::schedule::{Trajectory, Window};
use crate::task::TaskFamily;
use crate::{Error, Params, Result, Seed, Theta};

/// Lanes to be trained together.
#[derive(Debug)]
pub struct Training<'a> {
    /// The family of all lanes.
    pub family: &'a dyn TaskFamily,
    /// The learned optimizer, of which `theta` is a lane each.
    pub optimizer: &'a dyn LearnedOptimizer,
    /// One lane a lane of parameters.
    pub theta: &'a Theta,
    /// The task of each lane; lanes 2i and 2i + 1 have the same.
    pub seeds: &'a [Seed],
    /// Training batch of the first step; each step takes the next.
    pub first_batch: u64,
    /// Inner steps.
    pub steps: u32,
}

/// Trains lanes as the inner loop of this crate does, up to rounding.
pub trait LaneTrainer: Send + Sync + std::fmt::Debug {
    /// Whether it knows this task and this optimizer.
    ///
    /// # Errors
    /// What it does not know, for people.
    fn knows(&self, family: &dyn TaskFamily, optimizer: &dyn LearnedOptimizer) -> Result<(), String>;

    /// Trains all lanes and returns their losses before each update, `[lanes, steps]`; NaN from the first step on that was
    /// not finite. Such a lane is marked in `diverged`, and its parameters and slots are set to 0; a lane that is marked
    /// already stays as it is. `state` counts the steps.
    ///
    /// # Errors
    /// [`Error::Task`] if they cannot be computed, [`Error::Cancelled`].
    fn train(&self, training: &Training<'_>, state: &mut OptState, diverged: &mut [bool]) -> Result<Vec<f32>>;
}

/// The pairs `0..pairs` of a slot in an outer step.
#[derive(Clone, Copy, Debug)]
pub struct SlotId {
    /// Outer step.
    pub outer_step: u64,
    /// Slot.
    pub slot: u32,
    /// How many pairs.
    pub pairs: u32,
}

impl SlotId {
    fn pair(&self, pair: u32) -> PairId {
        PairId { outer_step: self.outer_step, slot: self.slot, pair }
    }
}

/// Whether losses of this kind come with the training itself.
///
/// # Errors
/// [`Error::Setting`] if they need batches of their own.
pub fn check_losses(loss_from: LossFrom) -> Result<()> {
    match loss_from {
        LossFrom::TrainingBatch => Ok(()),
        other => {
            let reason = "must be training_batch for lanes that a device trains";
            Err(Error::setting("estimator.loss_from", reason, format!("{other:?}")))
        }
    }
}

/// As [`super::full_es_pair`], for all pairs of a slot.
///
/// # Errors
/// As that, and those of [`check_losses`].
pub fn full_es_pairs(
    context: &UnrollContext<'_>,
    trainer: &dyn LaneTrainer,
    theta: &Theta,
    slot: SlotId,
    window: &Window,
) -> Result<Vec<PairOutcome>> {
    check_losses(context.estimator.loss_from)?;
    let EstimatorKind::FullEs { loss } = context.estimator.kind else {
        let got = context.estimator.kind.name();
        return Err(Error::setting("estimator.kind", "must be full_es to run whole unrolls", got));
    };
    let family = context.family(&window.current, slot.pair(0))?;
    let mut together = Together { context, trainer, theta, slot, traces: traces(slot) };
    let thetas = together.thetas(slot.outer_step)?;
    let lanes = together.standing(&*family, &window.current, &thetas, None)?;
    let lanes = together.train(lanes, &thetas, window.current.length())?;
    let pairs = lanes.into_iter().zip(together.traces).map(|(mut lanes, mut trace)| {
        if let MetaLoss::LastRecompute { batches } = loss {
            let [plus, minus] = losses::recomputed(
                lanes.family,
                &mut lanes.inner,
                context.estimator.loss_from,
                batches,
                context.cancelled,
            )?;
            trace.replace_last(plus, minus);
        }
        let estimate = full_es::estimate(context.estimator, loss, &trace.plus, &trace.minus);
        Ok(outcome(estimate.report, &trace, &lanes))
    });
    pairs.collect()
}

/// As [`super::window_pair`], for all pairs of a slot; `particles` in their order.
///
/// # Errors
/// As that, and those of [`check_losses`].
pub fn window_pairs(
    context: &UnrollContext<'_>,
    trainer: &dyn LaneTrainer,
    theta: &Theta,
    slot: SlotId,
    window: &Window,
    particles: Option<&[Particle]>,
) -> Result<Vec<(PairOutcome, Particle)>> {
    check_losses(context.estimator.loss_from)?;
    let plan = Plan::new(context.estimator, window)?;
    let kind = context.estimator.kind;
    let mut together = Together { context, trainer, theta, slot, traces: traces(slot) };
    let family = context.family(&window.current, slot.pair(0))?;
    let successor = plan.after_reset.map(|(next, _)| context.family(&next, slot.pair(0))).transpose()?;
    let mut lanes = None;
    if plan.before_reset > 0 {
        let thetas = together.thetas(kind.perturbation_step(window.current.began, slot.outer_step))?;
        let standing = together.standing(&*family, &window.current, &thetas, particles)?;
        lanes = Some(together.train(standing, &thetas, plan.before_reset)?);
    }
    if let Some(((next, steps), family)) = plan.after_reset.zip(successor.as_deref()) {
        together.traces.iter_mut().for_each(WindowTrace::reset);
        let thetas = together.thetas(slot.outer_step)?;
        let fresh = together.standing(family, &Trajectory { inner_step: 0, ..next }, &thetas, None)?;
        lanes = Some(together.train(fresh, &thetas, steps)?);
    }
    let lanes = lanes.expect("a window has at least one place, and each place trains or resets");
    let pairs = lanes.into_iter().zip(together.traces).map(|(lanes, trace)| {
        let estimate = windowed::estimate(context.estimator, &trace.losses());
        (outcome(estimate.report, &trace, &lanes), lanes.into_particle(kind))
    });
    Ok(pairs.collect())
}

/// As [`super::replay_pair`], for all pairs of a slot.
///
/// # Errors
/// As that.
pub fn replay_pairs(
    context: &UnrollContext<'_>,
    trainer: &dyn LaneTrainer,
    theta: &Theta,
    slot: SlotId,
    earlier: &EarlierWindow,
    particles: Option<&[Particle]>,
) -> Result<Vec<Particle>> {
    let kind = context.estimator.kind;
    let family = context.family(&earlier.standing, slot.pair(0))?;
    let mut together = Together { context, trainer, theta, slot, traces: traces(slot) };
    let thetas = together.thetas(kind.perturbation_step(earlier.standing.began, earlier.outer_step))?;
    let standing = together.standing(&*family, &earlier.standing, &thetas, particles)?;
    let lanes = together.train(standing, &thetas, earlier.steps)?;
    Ok(lanes.into_iter().map(|lanes| lanes.into_particle(kind)).collect())
}

fn traces(slot: SlotId) -> Vec<WindowTrace> {
    (0..slot.pairs).map(|_| WindowTrace::default()).collect()
}

fn outcome(report: crate::estimator::PairReport, trace: &WindowTrace, lanes: &PairLanes<'_>) -> PairOutcome {
    PairOutcome { report, inner_steps: trace.inner_steps(), diverged_lanes: count(&lanes.inner.diverged) }
}

/// All pairs of a slot, and what happened to them.
struct Together<'a> {
    context: &'a UnrollContext<'a>,
    trainer: &'a dyn LaneTrainer,
    theta: &'a Theta,
    slot: SlotId,
    traces: Vec<WindowTrace>,
}

impl Together<'_> {
    /// Lanes of all pairs where `trajectory` stands.
    fn standing<'f>(
        &self,
        family: &'f dyn TaskFamily,
        trajectory: &Trajectory,
        thetas: &Theta,
        particles: Option<&[Particle]>,
    ) -> Result<Vec<PairLanes<'f>>> {
        let pairs = 0..self.slot.pairs;
        let standing = pairs.map(|pair| {
            let lane = 2 * pair as usize;
            let own = [thetas.lane(lane), thetas.lane(lane + 1)].concat();
            // A state may begin with something of theta.
            let optimizer = self.context.optimizer.bind(Theta::new(thetas.layout(), 2, own)?)?;
            let particle = particles.and_then(|particles| particles.get(pair as usize)).cloned();
            self.context.standing(family, trajectory, &*optimizer, self.slot.pair(pair), particle)
        });
        standing.collect()
    }

    /// Lanes theta ± sigma ε of all pairs, each with its ε of `step`.
    fn thetas(&self, step: u64) -> Result<Theta> {
        let layout = self.theta.layout();
        let estimator = self.context.estimator;
        let mut values = Vec::with_capacity(2 * self.slot.pairs as usize * layout.size());
        for pair in 0..self.slot.pairs {
            let epsilon =
                Perturbation::new(self.context.run, estimator.noise, layout, step, self.slot.slot, pair)?.whole();
            values.extend_from_slice(self.theta.antithetic(estimator.sigma, &epsilon)?.values());
        }
        Theta::new(layout, 2 * self.slot.pairs as usize, values)
    }

    /// Trains all lanes, each under its theta, and notes their normalised losses.
    fn train<'f>(&mut self, mut pairs: Vec<PairLanes<'f>>, theta: &Theta, steps: u32) -> Result<Vec<PairLanes<'f>>> {
        let Some(first) = pairs.first() else { return Ok(pairs) };
        if steps == 0 {
            return Ok(pairs);
        }
        let (family, trajectory) = (first.family, first.trajectory);
        let seeds: Vec<Seed> =
            (0..self.slot.pairs).flat_map(|pair| self.context.seeds(&trajectory, self.slot.pair(pair))).collect();
        let mut state = joined(pairs.iter().map(|pair| &pair.inner.state));
        let mut diverged: Vec<bool> = pairs.iter().flat_map(|pair| pair.inner.diverged.iter().copied()).collect();
        let training = Training {
            family,
            optimizer: self.context.optimizer,
            theta,
            seeds: &seeds,
            first_batch: u64::from(trajectory.inner_step),
            steps,
        };
        let losses = self.trainer.train(&training, &mut state, &mut diverged)?;
        let expected = seeds.len() * steps as usize;
        if losses.len() != expected {
            return Err(Error::Length { what: "losses of a trainer".into(), expected, got: losses.len() });
        }
        let of_pairs = losses.chunks_exact(2 * steps as usize).zip(&mut self.traces);
        for (index, (pair, (losses, trace))) in pairs.iter_mut().zip(of_pairs).enumerate() {
            let lanes = [2 * index, 2 * index + 1];
            pair.inner.state = state.select(&lanes);
            pair.inner.diverged = lanes.map(|lane| diverged[lane]).to_vec();
            pair.trajectory.inner_step += steps;
            let (plus, minus) = losses.split_at(steps as usize);
            for (plus, minus) in plus.iter().zip(minus) {
                let [plus, minus] = losses::both(family, &[*plus, *minus])?;
                trace.step(plus, minus);
            }
        }
        let trained = u64::from(steps) * seeds.len() as u64;
        self.context.progress.fetch_add(trained, std::sync::atomic::Ordering::Relaxed);
        Ok(pairs)
    }
}

/// States of the same layout as one: the lanes of the first, of the second, and so on.
fn joined<'a>(states: impl Iterator<Item = &'a OptState> + Clone) -> OptState {
    let first = states.clone().next().expect("there is a pair");
    let layout = first.params.layout();
    let lanes = states.clone().map(OptState::lanes).sum();
    let mut params = Params::zeros(layout, lanes);
    for tensor in 0..layout.len() {
        let values: Vec<f32> = states.clone().flat_map(|state| state.params.tensor(tensor)).copied().collect();
        params.tensor_mut(tensor).copy_from_slice(&values);
    }
    let slot = |(index, slot): (usize, &Slot)| Slot {
        values: states.clone().flat_map(|state| &state.slots[index].values).copied().collect(),
        ..slot.clone()
    };
    OptState {
        params,
        step: states.clone().flat_map(|state| &state.step).copied().collect(),
        horizon: states.clone().flat_map(|state| &state.horizon).copied().collect(),
        slots: first.slots.iter().enumerate().map(slot).collect(),
    }
}
