//! What a worker keeps of one run: its spec, what was built from it, thetas and particles.

use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::schedule::Trajectory;
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{EarlierWindow, LaneTrainer, Particle, check_losses, earlier_windows};
use paceline_proto::model::{Holdings, Lease, RunId, RunSpec, TaskSpec};

use super::ComputeError;
use super::particle_cache::ParticleCache;
use super::theta_cache::ThetaCache;

/// The families of a mixture, in order.
pub(super) type Families = Arc<[Arc<dyn TaskFamily>]>;

/// What the pairs of a lease begin with.
#[derive(Debug)]
pub(super) enum Start {
    /// Nothing: the window begins a trajectory.
    Fresh,
    /// Particles that stand where the window begins.
    Standing(Arc<Vec<Particle>>),
    /// This earlier window must be run again first, from the particles that stand before it if it needs any.
    Behind(EarlierWindow, Option<Arc<Vec<Particle>>>),
}

/// What is held of one run.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) run: RunId,
    pub(super) spec: Arc<RunSpec>,
    pub(super) optimizer: Arc<dyn LearnedOptimizer>,
    /// Built when the first lease is computed; building may read data.
    pub(super) families: Option<Families>,
    /// What trains the lanes of this run, if it is a device; decided with the families, once: a trajectory must not go
    /// from device to processor because of what happens to be cached.
    pub(super) trainer: Option<Arc<dyn LaneTrainer>>,
    pub(super) thetas: ThetaCache,
    pub(super) particles: ParticleCache,
}

impl RunState {
    /// From a spec.
    ///
    /// # Errors
    /// [`ComputeError::Failed`] if its optimizer cannot be built.
    pub(super) fn new(run: &RunId, spec: RunSpec) -> Result<Self, ComputeError> {
        let optimizer = spec
            .optimizer
            .build()
            .map_err(|error| ComputeError::Failed(format!("the run's optimizer cannot be built: {error}")))?;
        let thetas = ThetaCache::new(optimizer.layout());
        let particles = ParticleCache::default();
        Ok(Self { run: run.clone(), spec: Arc::new(spec), optimizer, families: None, trainer: None, thetas, particles })
    }

    /// Takes in the families, and decides whether `device` trains them: all of a run's families, or none.
    pub(super) fn begin(&mut self, families: &Families, device: Option<&Arc<dyn LaneTrainer>>) {
        self.families = Some(Arc::clone(families));
        let Some(device) = device else { return };
        let known = |family: &Arc<dyn TaskFamily>| {
            let known = device.knows(&**family, &*self.optimizer);
            known.map_err(|reason| format!("family {}: {reason}", family.name()))
        };
        let losses = check_losses(self.spec.estimator.loss_from).map_err(|error| error.to_string());
        match losses.and_then(|()| families.iter().try_for_each(known)) {
            Ok(()) => self.trainer = Some(Arc::clone(device)),
            Err(reason) => {
                tracing::warn!(run = %self.run, "the device does not know this run, so the CPU computes it: {reason}");
            }
        }
    }

    /// Takes in the theta of a lease.
    ///
    /// # Errors
    /// [`ComputeError::Failed`] if the lease does not fit the run.
    pub(super) fn admit(&mut self, lease: &Lease) -> Result<(), ComputeError> {
        let key = &lease.key;
        for trajectory in std::iter::once(&lease.window.current).chain(&lease.window.next) {
            if trajectory.family >= self.spec.tasks.len() {
                return Err(ComputeError::Failed(format!(
                    "the lease names family {} of a mixture of {}: coordinator and worker disagree about the run",
                    trajectory.family,
                    self.spec.tasks.len()
                )));
            }
        }
        let held = self.thetas.get(key.outer_step).map(|theta| theta.hash);
        let went_back = self.thetas.newest().is_some_and(|newest| newest > key.outer_step);
        if went_back || held.is_some_and(|hash| hash != lease.theta_hash) {
            // The coordinator's history is not the one we saw; nothing remembered of the run can be trusted.
            tracing::warn!(
                version = key.outer_step,
                "thetas held are not the coordinator's: forgetting what is cached"
            );
            self.thetas.clear();
            self.particles.clear();
        }
        if let Some(theta) = &lease.theta {
            self.thetas.insert(key.outer_step, theta)?;
        }
        Ok(())
    }

    /// Particles of all pairs of a slot where the lease's window begins.
    ///
    /// # Errors
    /// [`ComputeError::Failed`] if the window does not fit the run.
    pub(super) fn start(&self, slot: u32, outer_step: u64, current: &Trajectory) -> Result<Start, ComputeError> {
        if self.spec.estimator.window().is_none() || current.inner_step == 0 {
            return Ok(Start::Fresh);
        }
        if let Some(particles) = self.particles.at(slot, outer_step, current) {
            return Ok(Start::Standing(particles));
        }
        let windows = || earlier_windows(&self.spec.estimator, current, outer_step).map_err(ComputeError::failed);
        let held = |window: EarlierWindow| {
            let particles = self.particles.at(slot, window.outer_step, &window.standing)?;
            Some(Start::Behind(window, Some(particles)))
        };
        let begun = |window| Start::Behind(window, None);
        Ok(windows()?.rev().find_map(held).or(windows()?.next().map(begun)).unwrap_or(Start::Fresh))
    }

    /// What is held, for the coordinator; `None` before the first theta.
    pub(super) fn holdings(&self) -> Option<Holdings> {
        let theta_version = self.thetas.newest()?;
        Some(Holdings { run: self.run.clone(), theta_version, slots: self.particles.slots() })
    }
}

/// Builds the families of a mixture. May read data: call it on an executor thread.
///
/// # Errors
/// [`ComputeError::Failed`] naming the family at fault.
pub(super) fn build_families(tasks: &[TaskSpec], data_dir: Option<&Path>) -> Result<Families, ComputeError> {
    tasks.iter().map(|task| build_family(task, data_dir)).collect()
}

fn build_family(task: &TaskSpec, data_dir: Option<&Path>) -> Result<Arc<dyn TaskFamily>, ComputeError> {
    let TaskSpec { family, settings, .. } = task;
    let failed =
        |reason: String| ComputeError::Failed(format!("task family {family} cannot be built on this worker: {reason}"));
    let resolve = |folder| paceline_tasks::resolve(family, settings, folder).map_err(|error| failed(error.to_string()));
    // RN-2: a worker that chose its own data would report another run's losses.
    if resolve(data_dir)? != resolve(None)? {
        return Err(failed(
            "its data depend on what each worker holds (data = \"auto\"): submit the run with `paceline`, which decides"
                .into(),
        ));
    }
    let built = paceline_tasks::build(family, settings, data_dir).map_err(|error| failed(error.to_string()))?;
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_left_to_each_worker_are_refused_where_they_would_differ() {
        let settings = serde_json::from_str(r#"{"data": "auto", "image_size": 4, "hidden": []}"#).unwrap();
        let task = TaskSpec { family: "image_mlp".into(), weight: 1.0.into(), settings };
        assert!(build_family(&task, None).is_ok(), "without a folder auto can only be procedural");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mnist")).unwrap();
        std::fs::write(folder.path().join("mnist/t10k-images-idx3-ubyte"), []).unwrap();
        let refused = build_family(&task, Some(folder.path())).unwrap_err();
        assert!(refused.to_string().contains("submit the run with `paceline`"), "{refused}");
    }
}
