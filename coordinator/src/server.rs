//! Listens, limits and stops: everything around the services that is not an answer.
//!
//! ```text
//!  entrance ─► HTTP/2 (keep-alive, bounded streams and age) ─► gate ─┬─► WorkerService, RunService, …
//!                                                                    ├─► grpc.health.v1     NOT_SERVING from shutdown on
//!  shutdown ─► health, long polls and watches end ─► calls in        └─► grpc.reflection.v1, v1alpha
//!              flight finish, for `drain` at most
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use paceline_proto::FILE_DESCRIPTOR_SET;
use paceline_proto::pb::checkpoint_service_server::CheckpointServiceServer;
use paceline_proto::pb::fleet_service_server::FleetServiceServer;
use paceline_proto::pb::run_service_server::RunServiceServer;
use paceline_proto::pb::worker_service_server::WorkerServiceServer;
use paceline_proto::wire;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::field::Empty;

use crate::admin::Admin;
use crate::credentials::{Credentials, CredentialsError};
use crate::entrance::{Reloaded, TlsFiles, incoming};
use crate::gate::{Gate, Gated};
use crate::handle::{CoordinatorHandle, start_seen};
use crate::machine::Settings;
use crate::mending::{Pace, mended, released};
use crate::observe::CallTimes;
use crate::service::{Checkpoints, Fleet, Runs, Workers};
use crate::store::{MemoryStore, SledStore, Store, StoreError};

/// The method with the largest messages of all; the gate holds each method to its own bound.
const LARGEST: &str = "paceline.v1.WorkerService/SubmitResult";
/// Headers hold a path and a deadline.
const LARGEST_HEADERS: u32 = 16 << 10;
/// Calls at once on one connection. Many workers of one process may share it, each with a long poll and a heartbeat;
/// there is no smaller limit on calls being worked on, for heartbeats must never queue behind long polls.
const STREAMS_PER_CONNECTION: u32 = 1024;
/// Long polls that clients gave up, awaiting their end: the default of 20 would cut busy connections.
const PENDING_RESETS: usize = 1024;
/// A dead peer is noticed within interval and timeout together.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Oldest a connection gets. A client opens another for its next call; what is in flight finishes.
const OLDEST: Duration = Duration::from_secs(3600);

/// How often the health of WorkerService is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

type WorkerServer = WorkerServiceServer<Workers>;
type RunServer = RunServiceServer<Runs>;
type CheckpointServer = CheckpointServiceServer<Checkpoints>;
type FleetServer = FleetServiceServer<Fleet>;

/// How a coordinator runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the sled store; `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// How long a lease lives without a heartbeat.
    pub lease_ttl: Duration,
    /// How often workers are asked for a heartbeat; less than a third of the TTL.
    pub heartbeat: Duration,
    /// How long shutdown waits for calls in flight.
    pub drain: Duration,
    /// Who is let in. The default lets everyone in, in plain text: for listeners on loopback.
    pub security: Security,
    /// What an admin listener shows of it.
    pub admin: Admin,
}

/// Who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Certificates; `None` speaks plain text.
    pub tls: Option<TlsFiles>,
    /// Whether callers must show a token, or a certificate that names its holder.
    pub asks: bool,
    /// Where the first operator's token is written; `None` is `operator.token` in the data folder.
    pub operator_token: Option<PathBuf>,
    /// Write a new one, though operators have tokens.
    pub renew_operator_token: bool,
    /// How often certificates are looked at. A client's that was revoked or has expired is refused after four times this
    /// at most.
    pub look_interval: Duration,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            tls: None,
            asks: false,
            operator_token: None,
            renew_operator_token: false,
            look_interval: Duration::from_secs(10),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: None,
            lease_ttl: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            security: Security::default(),
            admin: Admin::default(),
        }
    }
}

/// Serves on a bound listener until `shutdown` is cancelled; then checkpoints every run, flushes and returns. Goes on by
/// itself when a store that could not be written can be again.
///
/// # Errors
/// [`StoreError`] if the store cannot be opened; anything else if the server fails.
pub async fn serve(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    serve_and_tell(config, listener, shutdown, || Ok(())).await
}

/// [`serve`] that calls `opened` once the store is open and calls are about to be answered.
///
/// # Errors
/// As [`serve`], or what `opened` returns.
pub async fn serve_and_tell(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
    opened: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (listener, mut pace, mut opened) = (listener.into_std()?, Pace::default(), Some(opened));
    loop {
        // Whoever calls between two lives waits in the listener's queue.
        let here = TcpListener::from_std(listener.try_clone()?)?;
        let begun = Instant::now();
        match live(config.clone(), here, shutdown.clone(), &pace, &mut opened).await? {
            Ended::Asked => return Ok(()),
            Ended::Mended => tracing::warn!("the store can be written again: runs are rebuilt from it and go on"),
        }
        pace.note(begun.elapsed());
    }
}

/// Why a life of the coordinator ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It was asked to.
    Asked,
    /// Its store broke and could be written again: the next life opens it anew.
    Mended,
}

/// From an opened store to a closed one.
async fn live(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
    pace: &Pace,
    opened: &mut Option<impl FnOnce() -> anyhow::Result<()>>,
) -> anyhow::Result<Ended> {
    let Config { data, lease_ttl, heartbeat, drain, mut security, admin } = config;
    let tls = security.tls.clone().map(|files| Reloaded::open(files, security.look_interval)).transpose()?;
    let (tls, watch) = tls.unzip();
    let watch = async {
        match watch {
            Some(watch) => watch.run(admin.observer().clone()).await,
            None => std::future::pending().await,
        }
    };
    let asks = security.asks;
    // A new operator's token was wished for once.
    security.renew_operator_token &= opened.is_some();
    let folder = data.clone();
    let opening = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let store = open(folder.clone())?;
        Ok((store, known(folder, &security)?))
    });
    let (store, credentials) = opening.await.context("open the store")??;
    let logins = asks.then(|| Arc::clone(&credentials));
    let doors = Doors { tls, gate: Gate::new(Arc::clone(&credentials), asks), credentials };
    let settings = Settings { lease_ttl, heartbeat };
    let (handle, mut actor) = start_seen(store, settings, admin.observer().clone()).await?;
    let shown = admin.open(handle.clone(), logins);
    if let Some(opened) = opened.take() {
        opened()?;
    }
    let stop = shutdown.child_token();
    let mending = async {
        mended(&handle, data, pace).await;
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serve_on(handle.clone(), listener, doors, stop.clone(), drain) => served?,
        () = watch => anyhow::bail!("certificates are no longer looked at: see the log"),
        () = async { shutdown.cancelled().await; shown.draining(); std::future::pending().await } => {}
        () = mending => {}
        ended = &mut actor => {
            ended.context("run the coordinator")?;
            anyhow::bail!("the coordinator ended while calls were served: see its log");
        }
    }
    handle.shutdown().await;
    actor.await.context("save the runs")?;
    if shutdown.is_cancelled() {
        return Ok(Ended::Asked);
    }
    let store = handle.store();
    drop(handle);
    shown.reopens();
    if !released(store).await {
        anyhow::bail!("the store can be written again, but is still being read: start the coordinator anew");
    }
    Ok(Ended::Mended)
}

fn open(data: Option<PathBuf>) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match data {
        Some(folder) => Arc::new(SledStore::open(&folder)?),
        None => Arc::new(MemoryStore::new()),
    })
}

/// The tokens, with one for an operator if nobody has one and callers are asked. Blocks on the disk.
fn known(data: Option<PathBuf>, security: &Security) -> Result<Arc<Credentials>, CredentialsError> {
    let within = |name: &str| data.as_ref().map(|folder| folder.join(name));
    let credentials = Credentials::open(within("credentials.json"))?;
    if security.asks {
        let path = security.operator_token.clone().or_else(|| within("operator.token"));
        let path = path.ok_or(CredentialsError::NoPlace)?;
        if credentials.bootstrap(&path, security.renew_operator_token)? {
            tracing::info!(file = %path.display(), "an operator's token was written: keep it safe, it opens everything");
        }
    }
    Ok(Arc::new(credentials))
}

/// What stands between callers and services.
struct Doors {
    tls: Option<Arc<Reloaded>>,
    gate: Gate,
    credentials: Arc<Credentials>,
}

/// Serves `handle` on a bound listener until `shutdown` is cancelled, then for at most `drain` longer to let calls in
/// flight finish.
///
/// # Errors
/// If the server fails.
async fn serve_on(
    handle: CoordinatorHandle,
    listener: TcpListener,
    doors: Doors,
    shutdown: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let watched = handle.clone();
    let observer = handle.observer().clone();
    let times = CallTimes::new(observer.clone());
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Python's and older clients ask by the earlier name.
    let (reflection, reflection_alpha) = (described().build_v1()?, described().build_v1alpha()?);
    let workers = WorkerServer::new(Workers::new(handle.clone(), shutdown.clone()));
    let runs = RunServer::new(Runs::new(handle.clone(), shutdown.clone()));
    let checkpoints = CheckpointServer::new(Checkpoints::new(handle));

    let Doors { tls, gate, credentials } = doors;
    let gate = Arc::new(gate);
    let fleet = FleetServer::new(Fleet::new(credentials));
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(LARGEST_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_connection_age(OLDEST)
        .layer(times)
        .layer(tower_layer::layer_fn(move |service| Gated::new(Arc::clone(&gate), service)))
        .trace_fn(|request| tracing::info_span!("rpc", method = request.uri().path(), trace_id = Empty))
        .add_service(workers.max_decoding_message_size(wire::largest(LARGEST)))
        .add_service(runs)
        .add_service(checkpoints)
        .add_service(fleet)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_alpha);

    let stopping = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follow(&watched, &health) => {}
        }
        report(&health, ServingStatus::NotServing).await;
    };
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let cut = CancellationToken::new();
    // However it ends, no connection outlives it.
    let _cut = cut.clone().drop_guard();
    tokio::select! {
        served = router.serve_with_incoming_shutdown(incoming(listener, tls, cut, observer), stopping) => served?,
        () = patience => tracing::warn!(drain_s = drain.as_secs_f64(), "calls still in flight were cut off"),
    }
    Ok(())
}

/// Keeps the health of WorkerService true: leases can be given while the store can be written. Never returns.
async fn follow(handle: &CoordinatorHandle, health: &HealthReporter) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        let status = if handle.ready().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status(WorkerServer::NAME, status).await;
    }
}

/// Sets the health of the process (the service without a name) and of each service.
async fn report(health: &HealthReporter, status: ServingStatus) {
    for service in ["", WorkerServer::NAME, RunServer::NAME, CheckpointServer::NAME, FleetServer::NAME] {
        health.set_service_status(service, status).await;
    }
}
