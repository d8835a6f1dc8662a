//! The engine: caches around the pure unrolls of `optimizer-core`, and their spread over the executor threads.
//!
//! ```text
//!  pairs 0, 1 ─► executor ─► outcomes ┐
//!  pairs 2, 3 ─► executor ─► outcomes ├─► in pair order ─► seed-coded reports, or one dense sum
//!  pair 4     ─► executor ─► outcome  ┘
//! ```
//!
//! A device computes all pairs of a lease as one group, of the runs whose families and optimizer it knows; which runs those
//! are is decided once a run.
//!
//! A group of pairs is computed by one thread; an optimizer whose pairs share large weights wants several in a group
//! ([`UnrollContext::groups`]). Each pair's bits depend on its seeds alone, and outcomes are gathered by their place, so
//! groups, the number of threads and their timing cannot show in a result.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paceline_optimizer_core::estimator::{EstimatorKind, PairReport};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::outer::{ResultForm, slot_gradient};
use paceline_optimizer_core::schedule::Window;
use paceline_optimizer_core::unroll::{
    LaneTrainer, PairOutcome, Pairs, Particle, UnrollContext, full_es_pairs, replay_pairs, window_pairs,
};
use paceline_optimizer_core::{Error as CoreError, Theta};
use paceline_proto::model::{Holdings, Lease, ResultBody, RunId, RunSpec, SeedCoded};

use super::pool::{Panicked, Pool};
use super::run_state::{Families, RunState, Start, build_families};
use super::{Compute, ComputeError, Computed, Progress};
use crate::Result as WorkerResult;
use crate::held::LeaseCancel;

/// Runs remembered at a time; the one used longest ago is forgotten first.
const RUNS_KEPT: usize = 4;

/// Computes leases.
#[derive(Debug)]
pub(crate) struct Engine {
    pool: Pool,
    data_dir: Option<Arc<PathBuf>>,
    progress: Arc<AtomicU64>,
    /// What trains lanes instead of the executor threads, for the runs it knows.
    device: Option<Arc<dyn LaneTrainer>>,
    /// Oldest use first.
    runs: Vec<RunState>,
}

/// What the pairs of one lease share.
#[derive(Clone, Debug)]
struct SlotWork {
    spec: Arc<RunSpec>,
    optimizer: Arc<dyn LearnedOptimizer>,
    families: Families,
    trainer: Option<Arc<dyn LaneTrainer>>,
    outer_step: u64,
    slot: u32,
    window: Window,
    stop: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
}

/// Where the particles of a slot got to.
enum Reached {
    /// Where the lease's window begins; a fresh trajectory has none.
    Begin(Option<Arc<Vec<Particle>>>),
    /// Where this version of theta is needed.
    Missing(u64),
}

impl Engine {
    /// An engine of `threads` threads. `progress` counts inner steps.
    ///
    /// # Errors
    /// [`crate::Error::Thread`].
    pub(crate) fn new(threads: usize, data_dir: Option<PathBuf>, progress: Arc<AtomicU64>) -> WorkerResult<Self> {
        Ok(Self {
            pool: Pool::new(threads)?,
            data_dir: data_dir.map(Arc::new),
            progress,
            device: None,
            runs: Vec::new(),
        })
    }

    /// The same engine with a device, which computes all pairs of a lease at once.
    pub(crate) fn on(self, device: Arc<dyn LaneTrainer>) -> Self {
        Self { device: Some(device), ..self }
    }

    /// The run, moved to the end of the order of use.
    fn used(&mut self, run: &RunId) -> Result<&mut RunState, ComputeError> {
        let position = self.runs.iter().position(|held| held.run == *run);
        let Some(position) = position else {
            return Err(ComputeError::Failed(format!(
                "the lease came without the spec of run {run}, which is not held"
            )));
        };
        self.runs[position..].rotate_left(1);
        Ok(self.runs.last_mut().expect("a run was just found"))
    }

    async fn families(&mut self, run: &RunId) -> Result<Families, ComputeError> {
        let held = self.used(run)?;
        if let Some(families) = &held.families {
            return Ok(Arc::clone(families));
        }
        let spec = Arc::clone(&held.spec);
        let data_dir = self.data_dir.clone();
        let build = move || build_families(&spec.tasks, data_dir.as_ref().map(|folder| folder.as_path()));
        let families = self.pool.run(build).await.map_err(|panic| panicked("building the task families", &panic))??;
        let device = self.device.clone();
        self.used(run)?.begin(&families, device.as_ref());
        Ok(families)
    }

    fn slot_work(
        &mut self,
        lease: &Lease,
        families: Families,
        stop: &Arc<AtomicBool>,
    ) -> Result<SlotWork, ComputeError> {
        let progress = Arc::clone(&self.progress);
        let held = self.used(&lease.key.run)?;
        Ok(SlotWork {
            spec: Arc::clone(&held.spec),
            optimizer: Arc::clone(&held.optimizer),
            families,
            trainer: held.trainer.clone(),
            outer_step: lease.key.outer_step,
            slot: lease.key.slot,
            window: lease.window,
            stop: Arc::clone(stop),
            progress,
        })
    }

    /// The theta of the lease, if it is held.
    fn theta(&mut self, lease: &Lease) -> Result<Option<Arc<Theta>>, ComputeError> {
        let key = &lease.key;
        match self.used(&key.run)?.thetas.get(key.outer_step) {
            Some(held) if held.hash != lease.theta_hash => Err(ComputeError::Failed(format!(
                "theta version {} hashes to {}, but the lease names {}: coordinator and worker disagree about theta; run \
                 the same release of both",
                key.outer_step, held.hash, lease.theta_hash
            ))),
            held => Ok(held.map(|held| Arc::clone(&held.theta))),
        }
    }

    /// Brings the slot's particles to where the lease's window begins, as far as thetas are held.
    async fn catch_up(
        &mut self,
        work: &SlotWork,
        lease: &Lease,
        cancel: &LeaseCancel,
    ) -> Result<Reached, ComputeError> {
        let key = &lease.key;
        loop {
            let held = self.used(&key.run)?;
            let (earlier, particles) = match held.start(key.slot, key.outer_step, &lease.window.current)? {
                Start::Fresh => return Ok(Reached::Begin(None)),
                Start::Standing(particles) => return Ok(Reached::Begin(Some(particles))),
                Start::Behind(earlier, particles) => (earlier, particles),
            };
            let Some(theta) = held.thetas.get(earlier.outer_step).map(|held| Arc::clone(&held.theta)) else {
                return Ok(Reached::Missing(earlier.outer_step));
            };
            let replay = move |work: &SlotWork, group: Range<u32>| {
                let before = particles_of(particles.as_deref(), &group);
                let pairs = Pairs { outer_step: earlier.outer_step, slot: work.slot, pairs: group };
                replay_pairs(&work.context(), &theta, &pairs, &earlier, before)
            };
            let particles = self.pairs(work, cancel, replay).await?;
            let held = self.used(&key.run)?;
            held.particles.put(key.slot, earlier.outer_step + 1, particles);
            held.thetas.trim();
        }
    }

    /// What each pair returns, in order; or why not, by the first group that failed of itself.
    async fn pairs<T: Send + 'static>(
        &self,
        work: &SlotWork,
        cancel: &LeaseCancel,
        run: impl Fn(&SlotWork, Range<u32>) -> Result<Vec<T>, CoreError> + Send + Sync + 'static,
    ) -> Result<Vec<T>, ComputeError> {
        let run = Arc::new(run);
        let queued: Vec<_> = self
            .groups(work)
            .await?
            .into_iter()
            .map(|group| {
                let (work, run, pairs) = (work.clone(), Arc::clone(&run), group.clone());
                let result = self.pool.run(move || {
                    if work.stop.load(Ordering::Relaxed) {
                        return Err(CoreError::Cancelled);
                    }
                    let result = run(&work, pairs);
                    if result.is_err() {
                        // One group lost is the lease lost: the others need not finish.
                        work.stop.store(true, Ordering::Relaxed);
                    }
                    result
                });
                (group, result)
            })
            .collect();
        let (mut results, mut failure) = (Vec::new(), None);
        for (group, result) in queued {
            match result.await {
                Ok(Ok(of_group)) => results.extend(of_group),
                Ok(Err(CoreError::Cancelled)) => {}
                Ok(Err(error)) => {
                    failure.get_or_insert(ComputeError::Failed(format!("{}: {error}", named(&group))));
                }
                Err(panic) => {
                    failure.get_or_insert(panicked(&named(&group), &panic));
                }
            }
        }
        if results.len() == work.spec.outer.pairs_per_slot as usize {
            // Finished just before it was cancelled: finished work is reported.
            return Ok(results);
        }
        match failure {
            Some(failure) if !cancel.is_cancelled() => Err(failure),
            Some(_) | None => Err(ComputeError::Cancelled),
        }
    }

    /// The groups in which the pairs are best run.
    async fn groups(&self, work: &SlotWork) -> Result<Vec<Range<u32>>, ComputeError> {
        let (work, threads) = (work.clone(), self.pool.threads());
        // Asking a family may mean making one of its members.
        let groups = self
            .pool
            .run(move || work.context().groups(work.slot, &work.window, work.spec.outer.pairs_per_slot, threads));
        groups.await.map_err(|panic| panicked("grouping the pairs", &panic))?.map_err(ComputeError::failed)
    }

    async fn advance(&mut self, lease: &Lease, cancel: &LeaseCancel) -> Result<Progress, ComputeError> {
        let key = &lease.key;
        let Some(theta) = self.theta(lease)? else { return Ok(Progress::Missing(key.outer_step)) };
        let families = self.families(&key.run).await?;
        let work = self.slot_work(lease, families, cancel.flag())?;
        let particles = match self.catch_up(&work, lease, cancel).await? {
            Reached::Begin(particles) => particles,
            Reached::Missing(version) => return Ok(Progress::Missing(version)),
        };
        let run = move |work: &SlotWork, group: Range<u32>| {
            let before = particles_of(particles.as_deref(), &group);
            work.group(&theta, group, before)
        };
        let (outcomes, particles): (Vec<PairOutcome>, Vec<Option<Particle>>) =
            self.pairs(&work, cancel, run).await?.into_iter().unzip();
        let reports = outcomes.iter().map(|outcome| outcome.report).collect();
        let body = self.body(&work, reports).await?;
        let held = self.used(&key.run)?;
        let particles: Vec<Particle> = particles.into_iter().flatten().collect();
        if !particles.is_empty() {
            held.particles.put(key.slot, key.outer_step + 1, particles);
        }
        held.thetas.trim();
        Ok(Progress::Computed(Computed {
            theta_hash: lease.theta_hash,
            body,
            inner_steps: outcomes.iter().map(|outcome| outcome.inner_steps).sum(),
            diverged_lanes: outcomes.iter().map(|outcome| outcome.diverged_lanes).sum(),
        }))
    }

    async fn body(&self, work: &SlotWork, reports: Vec<PairReport>) -> Result<ResultBody, ComputeError> {
        let RunSpec { outer, estimator, .. } = &*work.spec;
        if !ResultForm::of(outer, estimator, work.optimizer.layout()).dense {
            return Ok(ResultBody::SeedCoded(SeedCoded { pairs: reports }));
        }
        let work = work.clone();
        let dense = self.pool.run(move || work.dense(&reports));
        dense.await.map_err(|panic| panicked("summing the slot's gradient", &panic))
    }
}

impl Compute for Engine {
    fn admit(&mut self, lease: &Lease) -> Result<(), ComputeError> {
        let run = &lease.key.run;
        if let Some(spec) = &lease.spec
            && !self.runs.iter().any(|held| held.run == *run)
        {
            let excess = (self.runs.len() + 1).saturating_sub(RUNS_KEPT);
            self.runs.drain(..excess);
            self.runs.push(RunState::new(run, RunSpec::clone(spec))?);
        }
        self.used(run)?.admit(lease)
    }

    fn supply(&mut self, run: &RunId, version: u64, theta: &[u8]) -> Result<(), ComputeError> {
        self.used(run)?.thetas.insert(version, theta)
    }

    async fn run(&mut self, lease: &Lease, cancel: &LeaseCancel) -> Result<Progress, ComputeError> {
        let mut stop = StopOnDrop(Some(Arc::clone(cancel.flag())));
        let progress = self.advance(lease, cancel).await;
        stop.0 = None;
        progress
    }

    fn holdings(&self) -> Vec<Holdings> {
        self.runs.iter().filter_map(RunState::holdings).collect()
    }

    fn forget(&mut self, run: &RunId, slot: u32) {
        if let Some(held) = self.runs.iter_mut().find(|held| held.run == *run) {
            held.particles.forget(slot);
        }
    }
}

impl SlotWork {
    fn context(&self) -> UnrollContext<'_> {
        UnrollContext {
            run: self.spec.seed,
            optimizer: &*self.optimizer,
            estimator: &self.spec.estimator,
            families: &self.families,
            trainer: self.trainer.as_deref(),
            cancelled: &self.stop,
            progress: &self.progress,
        }
    }

    /// Computes some pairs on the calling thread.
    fn group(
        &self,
        theta: &Theta,
        pairs: Range<u32>,
        particles: Vec<Particle>,
    ) -> Result<Vec<(PairOutcome, Option<Particle>)>, CoreError> {
        let pairs = Pairs { outer_step: self.outer_step, slot: self.slot, pairs };
        match self.spec.estimator.kind {
            EstimatorKind::FullEs { .. } => {
                let outcomes = full_es_pairs(&self.context(), theta, &pairs, &self.window)?;
                Ok(outcomes.into_iter().map(|outcome| (outcome, None)).collect())
            }
            EstimatorKind::Pes { .. }
            | EstimatorKind::Gpes { .. }
            | EstimatorKind::Nres { .. }
            | EstimatorKind::TruncatedEs { .. } => {
                let outcomes = window_pairs(&self.context(), theta, &pairs, &self.window, particles)?;
                Ok(outcomes.into_iter().map(|(outcome, particle)| (outcome, Some(particle))).collect())
            }
        }
    }

    /// The reports as one vector.
    fn dense(&self, reports: &[PairReport]) -> ResultBody {
        let gradient = slot_gradient(
            self.spec.seed,
            self.outer_step,
            self.slot,
            &self.window,
            &self.spec.estimator,
            reports,
            self.optimizer.layout(),
        );
        let losses: f64 = reports.iter().map(|report| report.loss_plus + report.loss_minus).sum();
        ResultBody::Dense {
            gradient: gradient.into_iter().map(|value| value as f32).collect(),
            loss: losses / (2 * reports.len()) as f64,
        }
    }
}

/// The particles of some pairs; none where a trajectory begins.
fn particles_of(particles: Option<&Vec<Particle>>, pairs: &Range<u32>) -> Vec<Particle> {
    let held = particles.and_then(|held| held.get(pairs.start as usize..pairs.end as usize));
    held.unwrap_or_default().to_vec()
}

/// Some pairs, as an error names them.
fn named(pairs: &Range<u32>) -> String {
    match pairs.len() {
        1 => format!("pair {}", pairs.start),
        _ => format!("pairs {} to {}", pairs.start, pairs.end.saturating_sub(1)),
    }
}

fn panicked(doing: &str, panic: &Panicked) -> ComputeError {
    ComputeError::Failed(format!("{doing} {panic}: this is a bug of the worker; its log has the place"))
}

/// Tells the executors to stop when a computation is dropped before its end.
struct StopOnDrop(Option<Arc<AtomicBool>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(flag) = &self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod device_tests;

#[cfg(test)]
mod tests;
