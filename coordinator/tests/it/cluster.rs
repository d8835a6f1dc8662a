//! A coordinator in memory behind real gRPC, and a worker that invents its results.

use std::net::SocketAddr;
use std::time::Duration;

use paceline_coordinator::{Config, Security, serve};
use paceline_optimizer_core::estimator::PairReport;
use paceline_proto::PROTOCOL;
use paceline_proto::client::{CheckpointClient, Link, RunClient, WorkerClient, endpoint};
use paceline_proto::fault;
use paceline_proto::model::{
    CheckpointInfo, ContenderCurve, Evaluation, FamilyCurves, Lease, LeaseKey, Quartiles, Registration, ResultBody,
    RunId, RunSpec, SeedCoded, Submission, WorkerId,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Pairs in a slot of [`spec`].
pub(crate) const PAIRS: usize = 2;

/// A running coordinator and its clients.
pub(crate) struct Cluster<L = Channel> {
    pub(crate) channel: L,
    pub(crate) address: SocketAddr,
    pub(crate) workers: WorkerClient,
    pub(crate) runs: RunClient,
    pub(crate) checkpoints: CheckpointClient,
    /// Where its admin listener is: `host:port`.
    pub(crate) admin: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let channel = |address: &str| endpoint(address).expect("an address").connect_lazy();
        Self::guarded(Security::default(), |address| channel(&address.to_string())).await
    }

    /// Behind this security; `connect` makes the clients' channel to an address.
    pub(crate) async fn guarded<L>(security: Security, connect: impl FnOnce(SocketAddr) -> L) -> Cluster<L>
    where
        L: Into<Link> + Clone,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let config = Config { drain: Duration::from_secs(2), security, ..Config::default() };
        let pages = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let admin = pages.local_addr().expect("bound").to_string();
        tokio::spawn(config.admin.clone().serve(pages, shutdown.clone()));
        let served = tokio::spawn(serve(config, listener, shutdown.clone()));
        let channel = connect(address);
        Cluster {
            workers: WorkerClient::new(channel.clone()),
            runs: RunClient::new(channel.clone()),
            checkpoints: CheckpointClient::new(channel.clone()),
            channel,
            address,
            admin,
            shutdown,
            served,
        }
    }
}

impl<L> Cluster<L> {
    /// Introduces a worker.
    pub(crate) async fn register(&self, name: &str) -> WorkerId {
        let registration = registration(name);
        let worker = registration.worker.clone();
        self.workers.register(registration).await.expect("a sound introduction is accepted");
        worker
    }

    /// Creates a run from [`spec`] under this name.
    pub(crate) async fn create(&self, name: &str) -> RunId {
        let request_id = format!("request-{name}");
        self.runs.create(&spec(name), &[], &request_id, false).await.expect("a sound spec is accepted").state.run
    }

    /// The next lease, which must be there.
    pub(crate) async fn lease(&self, worker: &WorkerId) -> Lease {
        let lease = self.workers.lease(worker, Duration::from_secs(5), Vec::new()).await;
        lease.expect("a known worker may ask").expect("there is work")
    }
}

pub(crate) fn registration(name: &str) -> Registration {
    Registration {
        protocol: PROTOCOL,
        worker: name.parse().expect("an id"),
        code_version: "test".into(),
        device: "cpu".into(),
        threads: 1,
        families: vec!["image_mlp".into()],
    }
}

/// A small run: two steps of two slots.
pub(crate) fn spec(name: &str) -> RunSpec {
    let json = format!(
        r#"{{
            "name": "{name}",
            "seed": 7,
            "optimizer": {{"kind": "learnable_adam"}},
            "estimator": {{"kind": "full_es", "sigma": 0.01, "horizon": {{"kind": "constant", "steps": 20}}}},
            "outer": {{
                "steps": 2, "slots": 2, "pairs_per_slot": {PAIRS}, "optimizer": {{"learning_rate": 0.001}},
                "report": "seed_coded"
            }},
            "tasks": [{{"family": "image_mlp"}}],
            "checkpoint": {{"every": 1, "keep": 5}}
        }}"#
    );
    serde_json::from_str(&json).expect("a valid spec")
}

/// An invented, sound result.
pub(crate) fn result(worker: &WorkerId, lease: &Lease) -> Submission {
    let pair = |index: usize| PairReport {
        fresh: 0.25 * index as f64 - 0.1,
        carried: 0.0,
        loss_plus: 1.0 + index as f64,
        loss_minus: 1.5,
    };
    Submission {
        worker: worker.clone(),
        lease: lease.key.clone(),
        theta_hash: lease.theta_hash,
        body: ResultBody::SeedCoded(SeedCoded { pairs: (0..PAIRS).map(pair).collect() }),
        inner_steps: 80,
        diverged_lanes: 0,
        want_lease: false,
        holdings: Vec::new(),
    }
}

/// An invented evaluation of a checkpoint of [`spec`], or of a run with these families.
pub(crate) fn evaluation(info: &CheckpointInfo, families: &[&str]) -> Evaluation {
    let ends = vec![1, 3, 10, 30, 100];
    let contender = |(name, height): (&str, f32)| {
        let at = |end: &u32| {
            let median = 0.2 + height / (*end as f32).sqrt();
            Quartiles { lower: 0.9 * median, median, upper: 1.2 * median }
        };
        ContenderCurve { name: name.into(), losses: ends.iter().map(at).collect() }
    };
    let best = "adam 1e-2, best by mean and final loss";
    let family = |family: &&str| FamilyCurves {
        family: (*family).into(),
        contenders: [("learned", 1.0), ("learned, untrained", 3.0), (best, 2.0)].map(contender).to_vec(),
    };
    Evaluation {
        outer_step: info.outer_step,
        theta_hash: info.theta_hash,
        recorded_at_ms: 0,
        seeds: 5,
        families: families.iter().map(family).collect(),
        ends,
    }
}

/// The key of a lease with something changed.
pub(crate) fn altered(key: &LeaseKey, change: impl FnOnce(&mut LeaseKey)) -> LeaseKey {
    let mut key = key.clone();
    change(&mut key);
    key
}

/// Checks code and reason of a refusal.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = outcome.expect_err("must be refused");
    assert_eq!(status.code(), code, "{}", fault::describe(&status));
    assert_eq!(fault::reason(&status).as_deref(), Some(reason), "{}", fault::describe(&status));
    status
}
