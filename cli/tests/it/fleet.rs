//! Real processes, real kills: the next theta is bit-identical whatever the fleet does.
//!
//! ```text
//!  1 worker ─┐
//!  2 workers ├─► the same theta hash after N outer steps
//!  4 workers ┤
//!  workers killed with SIGKILL at random ┤
//!  the coordinator killed with SIGKILL and restarted ┘
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::{Seed, ThetaHash};
use paceline_proto::client::{RunClient, endpoint};
use paceline_proto::model::{RunId, RunSpec, RunState, RunStatus};

use crate::processes::{Process, start_coordinator, start_worker};

/// Longest any run of this test may take; generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

const RECIPE: &str = r#"
name = "fleet"
seed = 11

[optimizer]
kind = "adafac_mlp"

[estimator]
kind = "pes"
window = 8
sigma = 0.01
horizon = { kind = "log_uniform", min = 10, max = 40 }

[outer]
steps = 30
slots = 6
pairs_per_slot = 2
optimizer = { learning_rate = 0.003 }
clip = 3.0

[[tasks]]
family = "image_mlp"
weight = 1.0
settings = { data = "procedural", image_size = 8, hidden = [16], batch_size = 32 }

[[tasks]]
family = "image_mlp"
weight = 0.5
settings = { data = "procedural", image_size = 4, hidden = [8, 8], batch_size = 16 }

[checkpoint]
every = 7
"#;

/// A coordinator with one submitted run.
struct Cluster {
    coordinator: Option<Process>,
    address: SocketAddr,
    data: tempfile::TempDir,
    client: RunClient,
    run: RunId,
}

impl Cluster {
    async fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let (coordinator, address) = start_coordinator(data.path(), "127.0.0.1:0".parse().expect("an address"));
        let client = RunClient::new(endpoint(&format!("http://{address}")).expect("an endpoint").connect_lazy());
        let spec: RunSpec = toml::from_str(RECIPE).expect("the recipe parses");
        let created =
            client.create(&spec, &[], "8a4b5f6e-0000-4000-8000-000000000001", false).await.expect("create the run");
        Self { coordinator: Some(coordinator), address, data, client, run: created.state.run }
    }

    async fn state(&self) -> RunState {
        let begun = Instant::now();
        loop {
            match self.client.get(&self.run).await {
                Ok(state) => return state,
                Err(status) => assert!(begun.elapsed() < PATIENCE, "coordinator did not answer: {status}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `outer_step` steps are folded or the run has ended.
    async fn reach(&self, outer_step: u64) -> RunState {
        let begun = Instant::now();
        loop {
            let state = self.state().await;
            if state.outer_step >= outer_step || state.status.is_final() {
                return state;
            }
            assert!(begun.elapsed() < PATIENCE, "stuck at outer step {}: {}", state.outer_step, state.reason);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn kill_and_restart_coordinator(&mut self) {
        self.coordinator.take().expect("it was started").kill();
        self.coordinator = Some(start_coordinator(self.data.path(), self.address).0);
    }

    async fn finish(self) -> (ThetaHash, RunState) {
        let state = self.reach(u64::MAX).await;
        assert_eq!(state.status, RunStatus::Completed, "{}", state.reason);
        assert_eq!(state.outer_step, state.spec.outer.steps);
        assert!(state.ledger.balances(), "LG-1 after the run: {:?}", state.ledger);
        (state.theta_hash, state)
    }
}

async fn undisturbed(workers: usize) -> ThetaHash {
    let cluster = Cluster::start().await;
    let _fleet: Vec<Process> = (0..workers).map(|i| start_worker(cluster.address, &format!("w{i}"))).collect();
    cluster.finish().await.0
}

/// Three workers; one after the other is killed in the middle of its work and replaced.
async fn with_workers_killed(draws: &mut Draws) -> ThetaHash {
    let cluster = Cluster::start().await;
    let mut fleet: Vec<Process> = (0..3).map(|i| start_worker(cluster.address, &format!("w{i}"))).collect();
    let mut kills = 0;
    for outer_step in [4, 9, 14, 19, 24] {
        if cluster.reach(outer_step).await.status.is_final() {
            break;
        }
        fleet.swap_remove(draws.below(3) as usize).kill();
        kills += 1;
        fleet.push(start_worker(cluster.address, &format!("replacement{kills}")));
    }
    let (hash, state) = cluster.finish().await;
    assert!(kills >= 3, "only {kills} workers were killed before the run ended: the fault did not fire");
    println!("{kills} workers killed; ledger {:?}", state.ledger);
    hash
}

/// Two workers that live through the coordinator's SIGKILL and restart, several times.
async fn with_coordinator_killed() -> ThetaHash {
    let mut cluster = Cluster::start().await;
    let _fleet: Vec<Process> = (0..2).map(|i| start_worker(cluster.address, &format!("w{i}"))).collect();
    let mut kills = 0;
    for outer_step in [3, 10, 17, 25] {
        if cluster.reach(outer_step).await.status.is_final() {
            break;
        }
        cluster.kill_and_restart_coordinator();
        kills += 1;
        let resumed = cluster.state().await.outer_step;
        assert!(resumed >= outer_step, "CK-2: step {outer_step} was seen, the restart stands at {resumed}");
    }
    let hash = cluster.finish().await.0;
    assert!(kills >= 3, "only {kills} kills before the run ended: the fault did not fire");
    hash
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn theta_is_bit_identical_whatever_the_fleet_does() {
    let baseline = undisturbed(1).await;
    assert_eq!(undisturbed(2).await, baseline, "2 workers");
    assert_eq!(undisturbed(4).await, baseline, "4 workers");
    assert_eq!(with_workers_killed(&mut Draws::new(Seed::new(5))).await, baseline, "workers killed at random");
    assert_eq!(with_coordinator_killed().await, baseline, "coordinator killed and restarted");
}
