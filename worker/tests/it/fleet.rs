//! Real workers, a real coordinator, real gRPC, tiny tasks: whatever happens to the fleet, theta ends with the same bits.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use paceline_coordinator::{Config as CoordinatorConfig, serve};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss};
use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizerConfig};
use paceline_optimizer_core::optimizer::Schedule;
use paceline_optimizer_core::outer::{OuterConfig, Report, ThetaOptimizer};
use paceline_optimizer_core::perturbation::Noise;
use paceline_optimizer_core::schedule::HorizonSchedule;
use paceline_proto::client::{Access, RunClient, endpoint};
use paceline_proto::model::{CheckpointPolicy, EvaluationSpec, RunId, RunSpec, RunState, RunStatus, TaskSpec};
use paceline_worker::{Config, Device};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

/// Longest a run of these may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// So many that a run is far from its end when something happens to its fleet.
const STEPS: u64 = 60;

fn spec(kind: EstimatorKind, report: Report, steps: u64) -> RunSpec {
    let settings = serde_json::json!({"image_size": 4, "hidden": [3], "batch_size": 4});
    let settings = settings.as_object().expect("an object").clone();
    RunSpec {
        name: "tiny".into(),
        seed: Seed::new(5),
        optimizer: LearnedOptimizerConfig::LearnableAdam,
        estimator: EstimatorConfig::new(kind, 0.1, HorizonSchedule::LogUniform { min: 5, max: 12 }),
        outer: OuterConfig {
            steps,
            slots: 3,
            pairs_per_slot: 2,
            optimizer: ThetaOptimizer { learning_rate: 0.05, ..ThetaOptimizer::default() },
            clip: None,
            clip_norm: None,
            accumulation: 1,
            report,
        },
        tasks: vec![TaskSpec { family: "image_mlp".into(), weight: 1.0.into(), settings }],
        mixture: Default::default(),
        checkpoint: CheckpointPolicy { every: 2, keep: 5 },
        evaluation: EvaluationSpec::default(),
    }
}

fn pes() -> RunSpec {
    spec(EstimatorKind::Pes { window: 3 }, Report::SeedCoded, STEPS)
}

/// A hypernetwork whose matrices both lanes of a pair share.
fn low_rank() -> RunSpec {
    let config = HyperV2Config { lstm_hidden_size: 6, param_inits: 8, ..HyperV2Config::default() };
    let mut spec = spec(EstimatorKind::Pes { window: 3 }, Report::SeedCoded, 8);
    spec.optimizer = LearnedOptimizerConfig::HyperV2(config);
    spec.estimator.noise = Noise::LowRank { rank: 1 };
    spec
}

/// Something of ours that runs until told to stop.
struct Running<T> {
    stop: CancellationToken,
    ended: JoinHandle<T>,
}

impl<T, E: std::fmt::Debug> Running<Result<T, E>> {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.ended).await.expect("stops in time").unwrap().unwrap();
    }
}

/// A coordinator at `address`, or at a port of its choice. It serves once this returns.
async fn coordinator(data: Option<&Path>, address: Option<SocketAddr>) -> (SocketAddr, Running<anyhow::Result<()>>) {
    let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = CoordinatorConfig { data: data.map(Path::to_owned), ..CoordinatorConfig::default() };
    let stop = CancellationToken::new();
    (address, Running { ended: tokio::spawn(serve(config, listener, stop.clone())), stop })
}

fn worker(name: &str, threads: usize, address: SocketAddr) -> Running<paceline_worker::Result<()>> {
    let worker = name.parse().unwrap();
    let config = Config {
        coordinator: format!("http://{address}"),
        access: Access::default(),
        worker,
        threads,
        data_dir: None,
        device: Device::Cpu,
    };
    let stop = CancellationToken::new();
    Running { ended: tokio::spawn(paceline_worker::run(config, stop.clone())), stop }
}

fn runs(address: SocketAddr) -> RunClient {
    RunClient::new(endpoint(&address.to_string()).unwrap().connect_lazy())
}

/// The first state of a run that satisfies `wanted`.
async fn until(address: SocketAddr, run: &RunId, wanted: impl Fn(&RunState) -> bool) -> RunState {
    let watching = async {
        let mut states = runs(address).watch(run).await.unwrap();
        while let Some(state) = states.next().await {
            let state = state.unwrap();
            if wanted(&state) {
                return state;
            }
            assert!(!state.status.is_final(), "the run ended before it came: {state:?}");
        }
        panic!("the watch ended before it came");
    };
    tokio::time::timeout(DEADLINE, watching).await.expect("comes in time")
}

async fn create(address: SocketAddr, spec: &RunSpec) -> RunId {
    runs(address).create(spec, &[], "0d8e5f0e-3f0a-4f6e-9d55-0c8a6a3a1c11", false).await.unwrap().state.run
}

async fn completed(address: SocketAddr, run: &RunId) -> RunState {
    let state = until(address, run, |state| state.status.is_final()).await;
    assert_eq!((&state.status, state.outer_step), (&RunStatus::Completed, state.spec.outer.steps), "{state:?}");
    assert!(state.ledger.balances(), "{:?}", state.ledger);
    state
}

/// Trains with workers of these numbers of threads and nothing going wrong.
async fn trained(spec: &RunSpec, fleet: &[usize]) -> RunState {
    let (address, coordinator) = coordinator(None, None).await;
    let run = create(address, spec).await;
    let workers: Vec<_> =
        fleet.iter().enumerate().map(|(index, threads)| worker(&format!("w{index}"), *threads, address)).collect();
    let state = completed(address, &run).await;
    for worker in workers {
        worker.stop().await;
    }
    coordinator.stop().await;
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_and_two_end_with_the_same_theta() {
    let full_es = EstimatorKind::FullEs { loss: MetaLoss::Average };
    let seeds = |kind| spec(kind, Report::SeedCoded, STEPS / 4);
    let mut staggered = seeds(EstimatorKind::Gpes { window: 3, period: 6 });
    staggered.estimator = EstimatorConfig {
        initial_offset: 12,
        loss_from: LossFrom::OuterValid,
        horizon: HorizonSchedule::Scheduled {
            length: Schedule::Linear { init_value: 6.0, end_value: 12.0, steps: 10 },
            deviation: 1.0,
            min: 5,
            max: 14,
        },
        ..staggered.estimator
    };
    let mut orthogonal = spec(full_es, Report::Dense, 3);
    orthogonal.estimator.noise = Noise::Orthogonal;
    for spec in [
        pes(),
        spec(full_es, Report::Dense, 3),
        low_rank(),
        orthogonal,
        seeds(EstimatorKind::Nres { window: 3 }),
        seeds(EstimatorKind::TruncatedEs { window: 3 }),
        staggered,
    ] {
        let alone = trained(&spec, &[1]).await;
        let together = trained(&spec, &[2, 1]).await;
        assert_eq!(together.theta_hash, alone.theta_hash);
        assert_eq!(together.meta_loss, alone.meta_loss);
        assert_eq!(together.inner_steps, alone.inner_steps);
        assert_eq!(together.variance, alone.variance);
        assert!(alone.inner_steps > 0 && alone.grad_norm.is_some_and(|norm| norm > 0.0), "{alone:?}");
        assert!(alone.variance.signal_to_noise.is_some(), "three slots can be split: {alone:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_worker_goes_on_where_a_drained_one_stopped() {
    let (address, coordinator) = coordinator(None, None).await;
    let run = create(address, &pes()).await;
    let first = worker("first", 1, address);
    until(address, &run, |state| state.outer_step >= 3).await;
    first.stop().await;
    let left = runs(address).get(&run).await.unwrap();
    assert!(left.outer_step < STEPS && left.ledger.outstanding == 0, "nothing stays leased: {left:?}");
    let second = worker("second", 1, address);
    let state = completed(address, &run).await;
    second.stop().await;
    coordinator.stop().await;
    assert_eq!(state.theta_hash, trained(&pes(), &[1]).await.theta_hash, "particles were rebuilt by replay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_coordinator_finds_its_workers_again() {
    let folder = tempfile::tempdir().unwrap();
    let (address, first) = coordinator(Some(folder.path()), None).await;
    let run = create(address, &pes()).await;
    let workers = [worker("w0", 1, address), worker("w1", 1, address)];
    until(address, &run, |state| state.outer_step >= 3).await;
    first.stop().await;
    let (_, second) = coordinator(Some(folder.path()), Some(address)).await;
    let found = runs(address).get(&run).await.unwrap();
    assert!((3..STEPS).contains(&found.outer_step), "{found:?}");
    let state = completed(address, &run).await;
    for worker in workers {
        worker.stop().await;
    }
    second.stop().await;
    assert_eq!(state.theta_hash, trained(&pes(), &[1]).await.theta_hash);
}
