//! The lanes of some pairs on one trajectory: where they begin, their training, what they leave.
//!
//! ```text
//!  pairs 4, 5:   4+  4−  5+  5−          theta ± sigma ε of each
//!                └── part ────┘          an optimizer for all of them, or
//!                └part┘ └part┘           one a pair, or
//!                └┘ └┘  └┘ └┘            one a lane: parts train one after another, so that the nearest caches hold what
//!                                        one needs
//! ```
//!
//! How lanes are cut into parts is the learned optimizer's choice ([`crate::learned::LearnedOptimizer::bind_pairs`]).
//! Lanes do not see each other, so it does not show in the bits. A trainer of its own gets all lanes as one part, and their
//! thetas as a theta and its perturbations: what it makes of them need not exist here.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::trainer::{LaneTrainer, Training, check_losses};
use super::window::LaneTrace;
use super::{Pairs, Particle, UnrollContext, losses};
use crate::estimator::{EstimatorConfig, EstimatorKind, LossFrom};
use crate::inner_loop::InnerLoop;
use crate::learned::check_theta;
use crate::optimizer::{OptState, Optimizer};
use crate::perturbation::{Antithetic, Perturbation};
use crate::schedule::{Trajectory, member_seed, task_seed};
use crate::task::TaskFamily;
use crate::{Error, Params, Result, Seed, Theta};

/// The lanes of some pairs, under one perturbation each, before they are trained.
pub(super) struct Stage<'a> {
    context: &'a UnrollContext<'a>,
    pairs: &'a Pairs,
    family: Arc<dyn TaskFamily>,
    /// Where the lanes stand.
    trajectory: Trajectory,
    under: Under<'a>,
}

/// What the lanes of a stage are trained under.
enum Under<'a> {
    /// Optimizers of successive lanes, equally many each.
    Optimizers(Vec<Box<dyn Optimizer>>),
    /// Thetas, for a trainer of its own.
    Thetas(&'a dyn LaneTrainer, Antithetic),
}

/// The lanes of one part.
pub(super) struct Lanes<'a> {
    context: &'a UnrollContext<'a>,
    family: &'a dyn TaskFamily,
    moved: Moved<'a>,
    inner_step: u32,
    inner: InnerLoop<'a>,
    /// The task of each lane.
    seeds: Vec<Seed>,
}

/// By whom lanes are moved.
#[derive(Clone, Copy)]
enum Moved<'a> {
    /// By the inner loop under this optimizer.
    Here(&'a dyn Optimizer),
    /// By a trainer under these thetas.
    Elsewhere(&'a dyn LaneTrainer, &'a Antithetic),
}

/// All lanes after their training.
pub(super) struct Trained {
    trajectory: Trajectory,
    /// Of each part.
    parts: Vec<(OptState, Option<Params>)>,
    /// Of all lanes.
    diverged: Vec<bool>,
}

impl UnrollContext<'_> {
    /// The family of static shapes that a trajectory trains on: the mixture's, or what that one draws for all pairs of
    /// the slot.
    pub(super) fn family(&self, trajectory: &Trajectory, slot: u32) -> Result<Arc<dyn TaskFamily>> {
        let family = self.families.get(trajectory.family).ok_or_else(|| {
            let reason = format!("a mixture of {} families has no such place", self.families.len());
            Error::setting("window.family", reason, trajectory.family)
        })?;
        let drawn = family.draw(member_seed(self.run, slot, trajectory.index))?;
        Ok(drawn.unwrap_or_else(|| Arc::clone(family)))
    }
}

impl<'a> Stage<'a> {
    /// Lanes that stand at `trajectory`, with each pair's ε of the outer step `perturbed`.
    pub(super) fn new(
        context: &'a UnrollContext<'a>,
        theta: &Theta,
        pairs: &'a Pairs,
        trajectory: Trajectory,
        perturbed: u64,
    ) -> Result<Self> {
        if pairs.pairs.is_empty() {
            return Err(Error::setting("pairs", "there must be at least one", format!("{:?}", pairs.pairs)));
        }
        let family = context.family(&trajectory, pairs.slot)?;
        let EstimatorConfig { noise, sigma, .. } = *context.estimator;
        let epsilon = |pair| Perturbation::new(context.run, noise, theta.layout(), perturbed, pairs.slot, pair);
        let epsilons = pairs.pairs.clone().map(epsilon).collect::<Result<Vec<_>>>()?;
        let under = match context.trainer {
            None => Under::Optimizers(context.optimizer.bind_pairs(theta, &epsilons, sigma)?),
            Some(trainer) => {
                check_theta(context.optimizer.layout(), theta)?;
                Under::Thetas(trainer, Antithetic::new(theta, epsilons, sigma)?)
            }
        };
        let stage = Self { context, pairs, family, trajectory, under };
        let parts = stage.parts().len();
        if parts == 0 || !pairs.lanes().is_multiple_of(parts) {
            let what = "parts of the lanes of some pairs".into();
            return Err(Error::Lanes { what, expected: pairs.lanes(), got: parts });
        }
        Ok(stage)
    }

    /// By whom each part is moved.
    fn parts(&self) -> Vec<Moved<'_>> {
        match &self.under {
            Under::Optimizers(optimizers) => optimizers.iter().map(|optimizer| Moved::Here(&**optimizer)).collect(),
            Under::Thetas(trainer, thetas) => vec![Moved::Elsewhere(*trainer, thetas)],
        }
    }

    /// Begins every lane, or goes on from the particles, and trains it. `traces` has an entry for each lane.
    pub(super) fn run(
        &self,
        mut particles: Vec<Particle>,
        traces: &mut [LaneTrace],
        train: impl for<'l> Fn(Lanes<'l>, &mut [LaneTrace]) -> Result<Lanes<'l>>,
    ) -> Result<Trained> {
        if self.trajectory.inner_step > 0 {
            self.check(&particles)?;
        }
        let parts = self.parts();
        let lanes = self.pairs.lanes() / parts.len();
        let mut trained = Trained { trajectory: self.trajectory, parts: Vec::new(), diverged: Vec::new() };
        for ((part, moved), traces) in parts.into_iter().enumerate().zip(traces.chunks_exact_mut(lanes)) {
            let range = part * lanes..(part + 1) * lanes;
            let seeds = range.clone().map(|lane| self.task_seed(lane)).collect();
            let inner = self.standing(range, moved, &mut particles)?;
            let begun = Lanes {
                context: self.context,
                family: &*self.family,
                moved,
                inner_step: self.trajectory.inner_step,
                inner,
                seeds,
            };
            let Lanes { inner_step, inner, .. } = train(begun, traces)?;
            trained.trajectory.inner_step = inner_step;
            let (state, task_state, diverged) = inner.into_parts();
            trained.parts.push((state, task_state));
            trained.diverged.extend(diverged);
        }
        Ok(trained)
    }

    fn check(&self, particles: &[Particle]) -> Result<()> {
        let elsewhere = particles.iter().find(|particle| particle.trajectory != self.trajectory);
        if particles.len() == self.pairs.pairs.len() && elsewhere.is_none() {
            return Ok(());
        }
        let got = match elsewhere {
            Some(particle) => format!("{:?}", particle.trajectory),
            None if particles.is_empty() => "none".into(),
            None => format!("{} of {}", particles.len(), self.pairs.pairs.len()),
        };
        Err(Error::setting("particle", format!("must stand at {:?}", self.trajectory), got))
    }

    /// Some lanes where they stand.
    fn standing(&self, lanes: Range<usize>, moved: Moved<'_>, particles: &mut Vec<Particle>) -> Result<InnerLoop<'_>> {
        let seeds: Vec<Seed> = lanes.clone().map(|lane| self.task_seed(lane)).collect();
        if self.trajectory.inner_step == 0 {
            let horizon = vec![self.trajectory.horizon; seeds.len()];
            return InnerLoop::begin(&*self.family, &seeds, |params| match moved {
                Moved::Here(optimizer) => optimizer.init(params, &horizon),
                Moved::Elsewhere(_, thetas) => self.context.optimizer.init_pairs(thetas, params, &horizon),
            });
        }
        let (state, task_state, diverged) = match &particles[..] {
            // All lanes of the only pair: as they are.
            [_] if lanes.len() == 2 => {
                let Particle { state, task_state, diverged, .. } = particles.remove(0);
                (state, task_state, diverged.to_vec())
            }
            _ => {
                let of_lanes: Vec<_> = lanes.map(|lane| (&particles[lane / 2], lane % 2)).collect();
                let states: Vec<_> = of_lanes.iter().map(|(particle, lane)| (&particle.state, *lane)).collect();
                let task_states: Option<Vec<_>> =
                    of_lanes.iter().map(|(particle, lane)| Some((particle.task_state.as_ref()?, *lane))).collect();
                (
                    states[0].0.gather(&states),
                    task_states.as_deref().map(gather),
                    of_lanes.iter().map(|(particle, lane)| particle.diverged[*lane]).collect(),
                )
            }
        };
        InnerLoop::resume(&*self.family, &seeds, state, task_state, diverged)
    }

    /// Both lanes of a pair train the same task instance.
    fn task_seed(&self, lane: usize) -> Seed {
        let pair = self.pairs.pairs.start + (lane / 2) as u32;
        task_seed(self.context.run, self.pairs.slot, self.trajectory.index, pair)
    }
}

/// Lanes of several parameters of one layout; there is at least one.
fn gather(lanes: &[(&Params, usize)]) -> Params {
    Params::gather(lanes[0].0.layout(), lanes)
}

impl Lanes<'_> {
    /// Trains `steps` inner steps and notes their normalised losses.
    pub(super) fn train(self, steps: u32, loss_from: LossFrom, traces: &mut [LaneTrace]) -> Result<Self> {
        match self.moved {
            Moved::Here(optimizer) => self.train_here(optimizer, steps, loss_from, traces),
            Moved::Elsewhere(trainer, thetas) => self.train_elsewhere(trainer, thetas, steps, loss_from, traces),
        }
    }

    fn train_here(
        mut self,
        optimizer: &dyn Optimizer,
        steps: u32,
        loss_from: LossFrom,
        traces: &mut [LaneTrace],
    ) -> Result<Self> {
        for _ in 0..steps {
            if self.context.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let batch = u64::from(self.inner_step);
            let (inner, before) = self.inner.step(optimizer, batch)?;
            self.inner = inner;
            let counted = losses::counted(self.family, &mut self.inner, loss_from, batch, &before)?;
            traces.iter_mut().zip(counted).for_each(|(trace, loss)| trace.step(loss));
            self.inner_step += 1;
            self.context.progress.fetch_add(traces.len() as u64, Ordering::Relaxed);
        }
        Ok(self)
    }

    fn train_elsewhere(
        mut self,
        trainer: &dyn LaneTrainer,
        thetas: &Antithetic,
        steps: u32,
        loss_from: LossFrom,
        traces: &mut [LaneTrace],
    ) -> Result<Self> {
        check_losses(loss_from)?;
        if steps == 0 {
            return Ok(self);
        }
        let training = Training {
            family: self.family,
            optimizer: self.context.optimizer,
            thetas,
            seeds: &self.seeds,
            first_batch: u64::from(self.inner_step),
            steps,
        };
        let losses = trainer.train(&training, &mut self.inner.state, &mut self.inner.diverged)?;
        let expected = traces.len() * steps as usize;
        if losses.len() != expected {
            return Err(Error::Length { what: "losses of a trainer".into(), expected, got: losses.len() });
        }
        for (trace, losses) in traces.iter_mut().zip(losses.chunks_exact(steps as usize)) {
            losses::all(self.family, losses)?.into_iter().for_each(|loss| trace.step(loss));
        }
        self.inner_step += steps;
        self.context.progress.fetch_add(expected as u64, Ordering::Relaxed);
        Ok(self)
    }

    /// Losses of all lanes as they are now, over fresh batches.
    pub(super) fn recomputed(&mut self, loss_from: LossFrom, batches: u32) -> Result<Vec<f64>> {
        losses::recomputed(self.family, &mut self.inner, loss_from, batches, self.context.cancelled)
    }
}

impl Trained {
    /// Which lanes are non-finite.
    pub(super) fn diverged(&self) -> &[bool] {
        &self.diverged
    }

    /// Each pair as it goes on.
    pub(super) fn into_particles(mut self, kind: EstimatorKind) -> Vec<Particle> {
        let signs = match kind {
            // Both signs go on from the + lane.
            EstimatorKind::TruncatedEs { .. } => [0, 0],
            EstimatorKind::FullEs { .. }
            | EstimatorKind::Pes { .. }
            | EstimatorKind::Gpes { .. }
            | EstimatorKind::Nres { .. } => [0, 1],
        };
        let trajectory = self.trajectory;
        if signs == [0, 1] && self.parts.len() == 1 && self.diverged.len() == 2 {
            let (state, task_state) = self.parts.remove(0);
            return vec![Particle { trajectory, state, task_state, diverged: [self.diverged[0], self.diverged[1]] }];
        }
        let lanes = self.diverged.len() / self.parts.len();
        let place = |lane: usize| (&self.parts[lane / lanes], lane % lanes);
        let particle = |pair: usize| {
            let of_lanes = signs.map(|sign| place(2 * pair + sign));
            let task_states: Option<Vec<_>> =
                of_lanes.iter().map(|((_, task_state), lane)| Some((task_state.as_ref()?, *lane))).collect();
            Particle {
                trajectory,
                state: of_lanes[0].0.0.gather(&of_lanes.map(|((state, _), lane)| (state, lane))),
                task_state: task_states.as_deref().map(gather),
                diverged: signs.map(|sign| self.diverged[2 * pair + sign]),
            }
        };
        (0..self.diverged.len() / 2).map(particle).collect()
    }
}
