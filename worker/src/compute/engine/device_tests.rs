//! The engine with a device: the same leases by another path.

use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::Training;

use super::tests::{FULL_ES, PAIRS, PES, Run, WINDOWED};
use super::*;
use paceline_optimizer_core::outer::Report;

/// A device with the processor's arithmetic: what it computes must be the processor's to the bit.
#[derive(Debug)]
struct Exact {
    knows: bool,
    launches: AtomicU64,
}

impl LaneTrainer for Exact {
    fn knows(&self, _: &dyn TaskFamily, _: &dyn LearnedOptimizer) -> Result<(), String> {
        if self.knows { Ok(()) } else { Err("no kernel".into()) }
    }

    fn train(
        &self,
        training: &Training<'_>,
        state: &mut OptState,
        diverged: &mut [bool],
    ) -> Result<Vec<f32>, CoreError> {
        assert_eq!(diverged.len(), 2 * PAIRS as usize, "all lanes at once");
        self.launches.fetch_add(1, Ordering::Relaxed);
        let optimizer = training.optimizer.bind(training.thetas.made()?)?;
        let mut tasks = training.family.bind(training.seeds)?;
        let steps = training.steps as usize;
        let mut losses = vec![f32::NAN; diverged.len() * steps];
        for step in 0..steps {
            let (loss, grads) = tasks.loss_and_grads(&state.params, training.first_batch + step as u64)?;
            *state = optimizer.update(state.clone(), &grads, &loss)?;
            loss.iter().enumerate().for_each(|(lane, loss)| losses[lane * steps + step] = *loss);
        }
        Ok(losses)
    }
}

fn engine_on(knows: bool) -> (Engine, Arc<Exact>) {
    let device = Arc::new(Exact { knows, launches: AtomicU64::new(0) });
    let trainer = Arc::clone(&device) as Arc<dyn LaneTrainer>;
    (Engine::new(2, None, Arc::default()).unwrap().on(trainer), device)
}

#[tokio::test]
async fn leases_on_a_device_are_those_of_the_processor() {
    for kind in WINDOWED.into_iter().chain([FULL_ES]) {
        let run = Run::new(kind, Report::SeedCoded);
        let (mut engine, device) = engine_on(true);
        let mut results = Vec::new();
        for (outer_step, slot) in (0..6).flat_map(|outer_step| [(outer_step, 0), (outer_step, 1)]) {
            results.push(run.compute(&mut engine, &run.lease(outer_step, slot)).await);
        }
        assert_eq!(results, run.results(2, 6).await, "{kind:?}");
        assert!(device.launches.load(Ordering::Relaxed) >= 12, "{kind:?}");
    }
}

#[tokio::test]
async fn a_lost_trajectory_is_run_again_on_the_device() {
    let run = Run::new(PES, Report::SeedCoded);
    // A lease in the middle of a trajectory, at two engines: one that was there before, one that was not.
    let outer_step = (1..20).find(|step| run.lease(*step, 0).window.current.inner_step > 0).unwrap();
    let (mut fresh, device) = engine_on(true);
    let late = run.pull_and_compute(&mut fresh, &run.lease(outer_step, 0)).await.unwrap();
    assert!(!late.1.is_empty(), "earlier thetas were pulled");
    assert!(device.launches.load(Ordering::Relaxed) as usize > late.1.len(), "and run on the device");
    let whole = run.results(1, outer_step + 1).await;
    assert_eq!(late.0, whole[2 * outer_step as usize]);
}

#[tokio::test]
async fn a_run_the_device_does_not_know_is_the_processors() {
    let run = Run::new(PES, Report::SeedCoded);
    let (mut engine, device) = engine_on(false);
    let computed = run.compute(&mut engine, &run.lease(0, 0)).await;
    assert_eq!(computed, run.results(1, 1).await[0]);
    assert_eq!(device.launches.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_device_that_fails_loses_the_lease_with_its_reason() {
    #[derive(Debug)]
    struct Broken;
    impl LaneTrainer for Broken {
        fn knows(&self, _: &dyn TaskFamily, _: &dyn LearnedOptimizer) -> Result<(), String> {
            Ok(())
        }

        fn train(&self, _: &Training<'_>, _: &mut OptState, _: &mut [bool]) -> Result<Vec<f32>, CoreError> {
            Err(CoreError::Task { family: "image_mlp".into(), reason: "the device fell off the bus".into() })
        }
    }
    let run = Run::new(PES, Report::SeedCoded);
    let mut engine = Engine::new(1, None, Arc::default()).unwrap().on(Arc::new(Broken));
    let failure = run.pull_and_compute(&mut engine, &run.lease(0, 0)).await.unwrap_err();
    assert!(failure.to_string().contains("fell off the bus"), "{failure}");
}
