//! The engine on real, tiny tasks: nothing but the lease decides a result.

use bytes::Bytes;
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, MetaLoss};
use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::outer::{OuterConfig, Report, ThetaOptimizer};
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_proto::model::{CheckpointPolicy, EvaluationSpec, LeaseKey, TaskSpec, Token};

use super::*;

pub(super) const PES: EstimatorKind = EstimatorKind::Pes { window: 3 };
pub(super) const FULL_ES: EstimatorKind = EstimatorKind::FullEs { loss: MetaLoss::Average };
pub(super) const PAIRS: u32 = 3;

/// Every estimator that runs windows.
pub(super) const WINDOWED: [EstimatorKind; 4] = [
    PES,
    EstimatorKind::Gpes { window: 3, period: 6 },
    EstimatorKind::Nres { window: 3 },
    EstimatorKind::TruncatedEs { window: 3 },
];

/// A coordinator's side of a run whose theta drifts by a fixed rule.
pub(super) struct Run {
    spec: RunSpec,
    optimizer: Arc<dyn LearnedOptimizer>,
}

impl Run {
    pub(super) fn new(kind: EstimatorKind, report: Report) -> Self {
        let settings = serde_json::json!({"image_size": 4, "hidden": [3], "batch_size": 4});
        let task = TaskSpec {
            family: "image_mlp".into(),
            weight: 1.0.into(),
            settings: settings.as_object().expect("an object").clone(),
        };
        let spec = RunSpec {
            name: "tiny".into(),
            seed: Seed::new(5),
            optimizer: LearnedOptimizerConfig::LearnableAdam,
            estimator: EstimatorConfig::new(kind, 0.1, HorizonSchedule::LogUniform { min: 5, max: 9 }),
            outer: OuterConfig {
                steps: 100,
                slots: 2,
                pairs_per_slot: PAIRS,
                optimizer: ThetaOptimizer::default(),
                clip: None,
                clip_norm: None,
                accumulation: 1,
                report,
            },
            tasks: vec![task.clone(), task],
            mixture: Default::default(),
            checkpoint: CheckpointPolicy::default(),
            evaluation: EvaluationSpec::default(),
        };
        let optimizer = spec.optimizer.build().unwrap();
        Self { spec, optimizer }
    }

    fn theta(&self, version: u64) -> Theta {
        let mut theta = self.optimizer.init_theta(self.spec.seed);
        theta.values_mut().iter_mut().for_each(|value| *value += 0.05 * version as f32);
        theta
    }

    fn bytes(&self, version: u64) -> Bytes {
        self.theta(version).values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    pub(super) fn lease(&self, outer_step: u64, slot: u32) -> Lease {
        let mut sequence = SlotSequence::new(self.spec.seed, slot, &self.spec.estimator, 100, &[1.0, 1.0]).unwrap();
        sequence.advance_to(outer_step);
        Lease {
            key: LeaseKey { run: "tiny-1".parse().unwrap(), outer_step, slot, token: Token([0; 16]) },
            attempt: 1,
            epoch: 1,
            ttl: std::time::Duration::from_secs(30),
            window: sequence.window(),
            theta_hash: self.theta(outer_step).hash(),
            theta: Some(self.bytes(outer_step)),
            spec: Some(Box::new(self.spec.clone())),
            traceparent: None,
        }
    }

    /// Computes a lease and answers which versions of theta it had to pull.
    pub(super) async fn pull_and_compute(
        &self,
        engine: &mut Engine,
        lease: &Lease,
    ) -> Result<(Computed, Vec<u64>), ComputeError> {
        engine.admit(lease)?;
        let mut missing = Vec::new();
        loop {
            match engine.run(lease, &LeaseCancel::default()).await? {
                Progress::Computed(computed) => return Ok((computed, missing)),
                Progress::Missing(version) => {
                    engine.supply(&lease.key.run, version, &self.bytes(version))?;
                    missing.push(version);
                }
            }
        }
    }

    pub(super) async fn compute(&self, engine: &mut Engine, lease: &Lease) -> Computed {
        self.pull_and_compute(engine, lease).await.unwrap().0
    }

    /// The results of both slots over `steps` outer steps by an engine of that many threads.
    pub(super) async fn results(&self, threads: usize, steps: u64) -> Vec<Computed> {
        let mut engine = engine(threads);
        let mut results = Vec::new();
        for (outer_step, slot) in (0..steps).flat_map(|outer_step| [(outer_step, 0), (outer_step, 1)]) {
            results.push(self.compute(&mut engine, &self.lease(outer_step, slot)).await);
        }
        results
    }
}

fn engine(threads: usize) -> Engine {
    Engine::new(threads, None, Arc::default()).unwrap()
}

fn reports(computed: &Computed) -> &[PairReport] {
    match &computed.body {
        ResultBody::SeedCoded(SeedCoded { pairs }) => pairs,
        other => panic!("expected seed-coded reports, got {other:?}"),
    }
}

#[tokio::test]
async fn the_number_of_threads_does_not_change_a_bit() {
    let last = EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { batches: 2 } };
    for (kind, steps) in WINDOWED.map(|kind| (kind, 5)).into_iter().chain([(FULL_ES, 2), (last, 2)]) {
        let run = Run::new(kind, Report::SeedCoded);
        let alone = run.results(1, steps).await;
        assert!(
            alone
                .iter()
                .flat_map(reports)
                .any(|pair| pair.fresh + pair.carried != 0.0 && pair.loss_plus != pair.loss_minus)
        );
        for threads in [2, 4] {
            assert_eq!(run.results(threads, steps).await, alone, "{kind:?} on {threads} threads");
        }
    }
}

#[tokio::test]
async fn a_lost_particle_is_rebuilt_to_the_bit() {
    for kind in WINDOWED {
        assert!(rebuilt(kind).await > 5, "the schedule must make trajectories longer than one window");
    }
}

/// Compares an engine that keeps its particles with one that forgets them; returns how many thetas were pulled to
/// replay.
async fn rebuilt(kind: EstimatorKind) -> usize {
    let run = Run::new(kind, Report::SeedCoded);
    let (mut keeps, mut forgets) = (engine(2), engine(2));
    let mut replayed = 0;
    for outer_step in 0..10 {
        let lease = run.lease(outer_step, 0);
        forgets.forget(&lease.key.run, 0);
        keeps.runs.iter_mut().chain(&mut forgets.runs).for_each(|held| held.thetas.clear());
        let (kept, pulled) = run.pull_and_compute(&mut keeps, &lease).await.unwrap();
        assert_eq!(pulled, [0; 0], "the particle is at hand, and the lease brought theta");
        let (rebuilt, pulled) = run.pull_and_compute(&mut forgets, &lease).await.unwrap();
        let began = lease.window.current.began;
        let expected: Vec<u64> =
            if lease.window.current.inner_step == 0 { vec![] } else { (began..outer_step).collect() };
        assert_eq!(pulled, expected);
        replayed += pulled.len();
        assert_eq!(rebuilt, kept, "{kind:?}, outer step {outer_step}");
        assert_eq!(keeps.holdings()[0].slots, [0]);
    }
    replayed
}

#[tokio::test]
async fn a_particle_left_behind_is_run_on_from_where_it_stands() {
    let mut run = Run::new(PES, Report::SeedCoded);
    run.spec.estimator.horizon = HorizonSchedule::Constant { steps: 100 };
    let (mut away, mut fresh) = (engine(2), engine(1));
    drop(run.compute(&mut away, &run.lease(0, 0)).await);
    let lease = run.lease(4, 0);
    let (caught_up, pulled) = run.pull_and_compute(&mut away, &lease).await.unwrap();
    assert_eq!(pulled, [1, 2, 3], "step 0 need not be run again");
    let (rebuilt, pulled) = run.pull_and_compute(&mut fresh, &lease).await.unwrap();
    assert_eq!(pulled, [0, 1, 2, 3]);
    assert_eq!(caught_up, rebuilt);
}

#[tokio::test]
async fn a_coordinator_that_went_back_is_believed() {
    let run = Run::new(PES, Report::SeedCoded);
    let mut engine = engine(1);
    drop(run.compute(&mut engine, &run.lease(1, 0)).await);
    engine.admit(&run.lease(0, 1)).unwrap();
    let held = engine.holdings();
    assert_eq!((held[0].theta_version, held[0].slots.len()), (0, 0), "what came after step 0 is not to be trusted");
}

#[tokio::test]
async fn the_same_lease_again_gives_the_same_result() {
    let run = Run::new(PES, Report::SeedCoded);
    let mut engine = engine(1);
    for outer_step in 0..4 {
        let lease = run.lease(outer_step, 0);
        let first = run.compute(&mut engine, &lease).await;
        assert_eq!(run.pull_and_compute(&mut engine, &lease).await.unwrap(), (first, vec![]));
    }
}

#[tokio::test]
async fn a_dense_result_is_the_sum_of_the_seed_coded_one() {
    let (seeds, dense) = (Run::new(PES, Report::SeedCoded), Run::new(PES, Report::Dense));
    let (mut one, mut other) = (engine(1), engine(2));
    for outer_step in 0..3 {
        let lease = seeds.lease(outer_step, 1);
        let coded = seeds.compute(&mut one, &lease).await;
        let summed = dense.compute(&mut other, &dense.lease(outer_step, 1)).await;
        let ResultBody::Dense { gradient, loss } = &summed.body else { panic!("expected a dense result") };
        let layout = seeds.optimizer.layout();
        let (spec, pairs) = (&seeds.spec, reports(&coded));
        let expected = slot_gradient(spec.seed, outer_step, 1, &lease.window, &spec.estimator, pairs, layout);
        assert_eq!(*gradient, expected.iter().map(|value| *value as f32).collect::<Vec<_>>());
        let mean: f64 = pairs.iter().map(|pair| pair.loss_plus + pair.loss_minus).sum::<f64>() / f64::from(2 * PAIRS);
        assert_eq!(*loss, mean);
        assert_eq!((summed.inner_steps, summed.diverged_lanes), (coded.inner_steps, coded.diverged_lanes));
    }
}

#[tokio::test]
async fn progress_counts_what_results_report() {
    let run = Run::new(FULL_ES, Report::SeedCoded);
    let progress = Arc::new(AtomicU64::new(0));
    let mut engine = Engine::new(2, None, Arc::clone(&progress)).unwrap();
    let computed = run.compute(&mut engine, &run.lease(0, 0)).await;
    assert_eq!(computed.inner_steps, u64::from(2 * PAIRS * run.lease(0, 0).window.current.horizon));
    assert_eq!(progress.load(Ordering::Relaxed), computed.inner_steps);
}

#[tokio::test]
async fn a_cancelled_lease_gives_nothing_and_spoils_nothing() {
    let run = Run::new(PES, Report::SeedCoded);
    let mut engine = engine(2);
    drop(run.compute(&mut engine, &run.lease(0, 0)).await);
    let lease = run.lease(1, 0);
    assert_eq!(engine.admit(&lease), Ok(()));
    let cancel = LeaseCancel::default();
    cancel.cancel();
    assert_eq!(engine.run(&lease, &cancel).await, Err(ComputeError::Cancelled));
    let (computed, pulled) = run.pull_and_compute(&mut engine, &lease).await.unwrap();
    assert_eq!((computed, pulled), (run.results(1, 2).await[2].clone(), vec![]));
}

#[tokio::test]
async fn another_history_of_theta_clears_the_caches() {
    let run = Run::new(PES, Report::SeedCoded);
    let mut engine = engine(1);
    for outer_step in 0..2 {
        drop(run.compute(&mut engine, &run.lease(outer_step, 0)).await);
    }
    assert_eq!(engine.holdings()[0].slots, [0]);
    let moved = Lease { theta: None, theta_hash: run.theta(9).hash(), ..run.lease(1, 0) };
    engine.admit(&moved).unwrap();
    // Neither theta nor particle can be trusted.
    for (version, theta) in [(1, 9), (0, 0)] {
        assert_eq!(engine.run(&moved, &LeaseCancel::default()).await, Ok(Progress::Missing(version)));
        engine.supply(&moved.key.run, version, &run.bytes(theta)).unwrap();
    }
    let Ok(Progress::Computed(there)) = engine.run(&moved, &LeaseCancel::default()).await else {
        panic!("nothing is missing");
    };
    let here = run.compute(&mut engine, &run.lease(1, 0)).await;
    assert_ne!(reports(&there), reports(&here), "the theta of the lease decides");
}

#[tokio::test]
async fn what_cannot_be_computed_says_why() {
    let failure = async |run: &Run, lease: Lease| {
        let failed = run.pull_and_compute(&mut engine(1), &lease).await.unwrap_err();
        failed.to_string()
    };
    let run = Run::new(PES, Report::SeedCoded);

    let without_spec = Lease { spec: None, ..run.lease(0, 0) };
    assert!(failure(&run, without_spec).await.contains("spec of run tiny-1"));

    let mut unknown = Run::new(PES, Report::SeedCoded);
    unknown.spec.tasks[1].family = "protein_folding".into();
    assert!(failure(&unknown, unknown.lease(0, 0)).await.contains("protein_folding"));

    let other_theta = Lease { theta_hash: run.theta(1).hash(), ..run.lease(0, 0) };
    assert!(failure(&run, other_theta).await.contains("disagree about theta"));

    let short_theta = Lease { theta: Some(Bytes::from_static(&[0; 4])), ..run.lease(0, 0) };
    assert!(failure(&run, short_theta).await.contains("4 bytes"));

    let mut far = run.lease(0, 0);
    far.window.current.family = 2;
    assert!(failure(&run, far).await.contains("family 2 of a mixture of 2"));
}

#[tokio::test]
async fn the_run_used_longest_ago_is_forgotten_first() {
    let run = Run::new(FULL_ES, Report::SeedCoded);
    let mut engine = engine(1);
    let named = |name: &str| {
        let mut lease = run.lease(0, 0);
        lease.key.run = name.parse().unwrap();
        lease
    };
    for name in ["a", "b", "c", "d", "a", "e"] {
        assert_eq!(engine.admit(&named(name)), Ok(()));
    }
    let held: Vec<String> = engine.holdings().into_iter().map(|held| held.run.to_string()).collect();
    assert_eq!(held, ["c", "d", "a", "e"]);
}
