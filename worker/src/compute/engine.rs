//! The engine: caches around the pure unrolls of `optimizer-core`, and their spread over the executor threads.
//!
//! ```text
//!  pair 0 ─► executor ─► outcome ┐
//!  pair 1 ─► executor ─► outcome ├─► in pair order ─► seed-coded reports, or one dense sum
//!  pair 2 ─► executor ─► outcome ┘
//! ```
//!
//! A pair is computed by one thread from its seeds alone, and outcomes are gathered by their place, so the number of
//! threads and their timing cannot show in a result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paceline_optimizer_core::estimator::{EstimatorKind, PairReport};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::outer::slot_gradient;
use paceline_optimizer_core::schedule::Window;
use paceline_optimizer_core::unroll::{PairId, PairOutcome, Particle, UnrollContext, full_es_pair, pes_pair};
use paceline_optimizer_core::{Error as CoreError, Theta};
use paceline_proto::model::{Holdings, Lease, ResultBody, RunId, RunSpec, SeedCoded};

use super::pool::{Panicked, Pool};
use super::run_state::{Families, RunState, build_families};
use super::theta_cache::HeldTheta;
use super::{Compute, ComputeError, Computed};
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
    /// Oldest use first.
    runs: Vec<RunState>,
}

/// What the pairs of one lease share.
#[derive(Clone, Debug)]
struct SlotWork {
    spec: Arc<RunSpec>,
    optimizer: Arc<dyn LearnedOptimizer>,
    families: Families,
    theta: Arc<Theta>,
    /// Thetas of the outer steps that are run again.
    replayed: Arc<BTreeMap<u64, Arc<Theta>>>,
    particles: Option<Arc<Vec<Particle>>>,
    outer_step: u64,
    slot: u32,
    window: Window,
    stop: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
}

/// What a pair returned.
type PairResult = Result<(PairOutcome, Option<Particle>), CoreError>;

impl Engine {
    /// An engine of `threads` threads. `progress` counts inner steps.
    ///
    /// # Errors
    /// [`crate::Error::Thread`].
    pub(crate) fn new(threads: usize, data_dir: Option<PathBuf>, progress: Arc<AtomicU64>) -> WorkerResult<Self> {
        Ok(Self { pool: Pool::new(threads)?, data_dir: data_dir.map(Arc::new), progress, runs: Vec::new() })
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
        self.used(run)?.families = Some(Arc::clone(&families));
        Ok(families)
    }

    fn slot_work(
        &mut self,
        lease: &Lease,
        families: Families,
        stop: &Arc<AtomicBool>,
    ) -> Result<SlotWork, ComputeError> {
        let progress = Arc::clone(&self.progress);
        let key = &lease.key;
        let held = self.used(&key.run)?;
        let replayed = held.replayed(key.slot, key.outer_step, &lease.window);
        let absent = held.thetas.missing(replayed.clone());
        let theta = held.thetas.get(key.outer_step).cloned();
        let (Some(HeldTheta { theta, hash }), []) = (theta, absent.as_slice()) else {
            return Err(ComputeError::Failed(format!("a theta up to version {} was not supplied", key.outer_step)));
        };
        if hash != lease.theta_hash {
            return Err(ComputeError::Failed(format!(
                "theta version {} hashes to {hash}, but the lease names {}: coordinator and worker disagree about theta; \
                 run the same release of both",
                key.outer_step, lease.theta_hash
            )));
        }
        Ok(SlotWork {
            spec: Arc::clone(&held.spec),
            optimizer: Arc::clone(&held.optimizer),
            families,
            theta,
            replayed: Arc::new(held.thetas.range(replayed)),
            particles: held.particles.at(key.slot, key.outer_step, &lease.window.current),
            outer_step: key.outer_step,
            slot: key.slot,
            window: lease.window,
            stop: Arc::clone(stop),
            progress,
        })
    }

    /// All pairs, in order; or why not, by the first pair that failed of itself.
    async fn pairs(
        &self,
        work: &SlotWork,
        cancel: &LeaseCancel,
    ) -> Result<(Vec<PairOutcome>, Vec<Particle>), ComputeError> {
        let queued: Vec<_> = (0..work.spec.outer.pairs_per_slot)
            .map(|pair| {
                let work = work.clone();
                self.pool.run(move || {
                    let result = work.pair(pair);
                    if result.is_err() {
                        // One pair lost is the lease lost: the others need not finish.
                        work.stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let (mut outcomes, mut particles, mut failure) = (Vec::new(), Vec::new(), None);
        for (pair, result) in queued.into_iter().enumerate() {
            match result.await {
                Ok(Ok((outcome, particle))) => {
                    outcomes.push(outcome);
                    particles.extend(particle);
                }
                Ok(Err(CoreError::Cancelled)) => {}
                Ok(Err(error)) => drop(failure.get_or_insert(ComputeError::Failed(format!("pair {pair}: {error}")))),
                Err(panic) => drop(failure.get_or_insert(panicked(&format!("pair {pair}"), &panic))),
            }
        }
        if outcomes.len() == work.spec.outer.pairs_per_slot as usize {
            // Finished just before it was cancelled: finished work is reported.
            return Ok((outcomes, particles));
        }
        match failure {
            Some(failure) if !cancel.is_cancelled() => Err(failure),
            Some(_) | None => Err(ComputeError::Cancelled),
        }
    }

    async fn body(&self, work: &SlotWork, reports: Vec<PairReport>) -> Result<ResultBody, ComputeError> {
        let outer = &work.spec.outer;
        if !outer.report.is_dense(outer.pairs_per_slot, work.theta.values().len()) {
            return Ok(ResultBody::SeedCoded(SeedCoded { pairs: reports }));
        }
        let work = work.clone();
        let dense = self.pool.run(move || work.dense(&reports));
        dense.await.map_err(|panic| panicked("summing the slot's gradient", &panic))
    }
}

impl Compute for Engine {
    fn admit(&mut self, lease: &Lease) -> Result<Vec<u64>, ComputeError> {
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

    async fn run(&mut self, lease: &Lease, cancel: &LeaseCancel) -> Result<Computed, ComputeError> {
        // However this future ends, also by being dropped, no pair goes on computing.
        let _stop = StopOnDrop(Arc::clone(cancel.flag()));
        let key = &lease.key;
        let families = self.families(&key.run).await?;
        let work = self.slot_work(lease, families, cancel.flag())?;
        let (outcomes, particles) = self.pairs(&work, cancel).await?;
        let reports = outcomes.iter().map(|outcome| outcome.report).collect();
        let body = self.body(&work, reports).await?;
        let held = self.used(&key.run)?;
        if !particles.is_empty() {
            held.particles.put(key.slot, key.outer_step + 1, particles);
        }
        held.thetas.trim();
        Ok(Computed {
            theta_hash: lease.theta_hash,
            body,
            inner_steps: outcomes.iter().map(|outcome| outcome.inner_steps).sum(),
            diverged_lanes: outcomes.iter().map(|outcome| outcome.diverged_lanes).sum(),
        })
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
    /// Computes one pair on the calling thread.
    fn pair(&self, pair: u32) -> PairResult {
        let context = UnrollContext {
            run: self.spec.seed,
            optimizer: &*self.optimizer,
            estimator: &self.spec.estimator,
            families: &self.families,
            cancelled: &self.stop,
            progress: &self.progress,
        };
        if self.stop.load(Ordering::Relaxed) {
            return Err(CoreError::Cancelled);
        }
        let id = PairId { outer_step: self.outer_step, slot: self.slot, pair };
        match self.spec.estimator.kind {
            EstimatorKind::FullEs { .. } => {
                full_es_pair(&context, &self.theta, id, &self.window).map(|outcome| (outcome, None))
            }
            EstimatorKind::Pes { .. } => {
                let particle = self.particles.as_ref().and_then(|held| held.get(pair as usize)).cloned();
                let mut theta_of = |version| self.theta_of(version);
                let ran = pes_pair(&context, &self.theta, id, &self.window, particle, &mut theta_of)?;
                Ok((ran.0, Some(ran.1)))
            }
        }
    }

    fn theta_of(&self, version: u64) -> Result<Theta, CoreError> {
        match self.replayed.get(&version) {
            Some(theta) => Ok(Theta::clone(theta)),
            None if version == self.outer_step => Ok(Theta::clone(&self.theta)),
            None => Err(CoreError::Task {
                family: "replay".into(),
                reason: format!("theta version {version} lies outside the trajectory {:?}", self.window.current),
            }),
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
            self.theta.values().len(),
        );
        let losses: f64 = reports.iter().map(|report| report.loss_plus + report.loss_minus).sum();
        ResultBody::Dense {
            gradient: gradient.into_iter().map(|value| value as f32).collect(),
            loss: losses / (2 * reports.len()) as f64,
        }
    }
}

fn panicked(doing: &str, panic: &Panicked) -> ComputeError {
    ComputeError::Failed(format!("{doing} {panic}: this is a bug of the worker; its log has the place"))
}

/// Tells the executors to stop when the lease is no longer awaited.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
