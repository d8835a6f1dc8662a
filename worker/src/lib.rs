//! Takes leases from a coordinator, runs inner training and reports. Keeps nothing that cannot be lost.
//!
//! ```text
//!            lease            admit, pull theta           pairs, in order
//!  waiting ────────► lease loop ─────────────► engine ──────────────────► executor threads
//!     ▲                 │  ▲ next lease          caches: theta, particles   one pair at a time each
//!     └─ empty ─────────┘  └────── submit ◄───── result
//!
//!  heartbeat: own task, own channel ── renews what is held, cancels what is refused
//! ```
//!
//! - A lease is held from its grant to its verdict. A result outlives the coordinator: it is kept and sent again until
//!   there is a verdict or a refusal for good.
//! - Results depend on the lease alone: neither on threads, nor on what happens to be cached, nor on time.
//! - Shutdown drains: no new lease, running work stops between two inner steps and is handed back, a finished result is
//!   still sent.

mod backoff;
mod compute;
mod config;
mod coordinator_client;
pub mod cuda;
mod error;
mod heartbeat;
mod held;
mod lease_loop;
mod remedy;
mod session;
#[cfg(test)]
mod testing;
mod trace;
mod vitals;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use paceline_proto::client::WorkerClient;
use paceline_proto::model::Registration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::compute::{Compute, Engine};
use crate::coordinator_client::CoordinatorClient;
use crate::cuda::DeviceProbe;
use crate::heartbeat::Heartbeat;
use crate::held::HeldLeases;
use crate::lease_loop::LeaseLoop;
use crate::session::{Caller, Session};

pub use compute::{Panicked, Pool};
pub use config::{Config, Device, DeviceUnavailable, InvalidDevice};
pub use error::Error;
pub use vitals::Vitals;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Works until `shutdown` is cancelled, then drains: hands unfinished leases back and returns. Waits for a coordinator
/// that is away, however long. May run several times in one process.
///
/// # Errors
/// [`Error`], if this worker can never work for this coordinator.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    run_seen(config, Vitals::default(), shutdown).await
}

/// [`run`] that lets probes see how the worker is.
///
/// # Errors
/// As [`run`].
pub async fn run_seen(config: Config, vitals: Vitals, shutdown: CancellationToken) -> Result<()> {
    let (device, trainer) = config.device.open()?;
    if let Some(path) = config.data_dir.clone().filter(|folder| !folder.is_dir()) {
        return Err(Error::DataDir { path });
    }
    let progress = Arc::new(AtomicU64::new(0));
    let mut engine = Engine::new(config.threads.max(1), config.data_dir.clone(), Arc::clone(&progress))?;
    if let Some(trainer) = trainer {
        vitals.computes_on(device.to_string(), DeviceProbe::new(Arc::clone(&trainer)));
        engine = engine.on(trainer);
    }
    // Two connections, so that a large result on one cannot hold up a heartbeat on the other.
    let channels = [config.access.link(&config.coordinator)?, config.access.link(&config.coordinator)?];
    let channels = channels.map(WorkerClient::new);
    let registration = Registration {
        protocol: paceline_proto::PROTOCOL,
        worker: config.worker.clone(),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device.to_string(),
        threads: u32::try_from(config.threads.max(1)).unwrap_or(u32::MAX),
        families: paceline_tasks::families().iter().map(|family| family.name.to_owned()).collect(),
    };
    tracing::info!(worker = %config.worker, coordinator = config.coordinator, "connecting");
    work(&config.coordinator, channels, engine, registration, (progress, vitals), shutdown).await
}

/// The worker without its surroundings: a channel for leases and one for heartbeats, something that computes, and a
/// reason to stop. `address` is for people.
async fn work<C: CoordinatorClient>(
    address: &str,
    [for_leases, for_heartbeats]: [C; 2],
    compute: impl Compute,
    registration: Registration,
    (progress, vitals): (Arc<AtomicU64>, Vitals),
    shutdown: CancellationToken,
) -> Result<()> {
    let session = Session::new(registration);
    let held = HeldLeases::default();
    vitals.watch(&session, &held, &progress, &shutdown);
    let living = vitals.live();
    tokio::select! {
        worked = work_on(address, [for_leases, for_heartbeats], compute, (session.clone(), held, progress), shutdown) => worked,
        () = living => unreachable!("it lives until the work is done"),
    }
}

async fn work_on<C: CoordinatorClient>(
    address: &str,
    [for_leases, for_heartbeats]: [C; 2],
    compute: impl Compute,
    (session, held, progress): (Arc<Session>, HeldLeases, Arc<AtomicU64>),
    shutdown: CancellationToken,
) -> Result<()> {
    let caller = Caller::new(for_leases, &session);
    tokio::select! {
        registered = caller.register() => {
            let terms = registered?;
            tracing::info!(epoch = terms.epoch, "registered with {address} as {}", session.worker());
        }
        () = shutdown.cancelled() => return Ok(()),
    }

    // The drain begins when the worker is told to stop, or when its heartbeat learns that it can never go on.
    let drain = shutdown.child_token();
    let stop_heartbeat = CancellationToken::new();
    let heartbeat = Heartbeat {
        caller: Caller::new(for_heartbeats, &session),
        held: held.clone(),
        progress,
        stop: stop_heartbeat.clone(),
    };
    let mut spawned = JoinSet::new();
    let on_failure = drain.clone();
    spawned.spawn(async move { heartbeat.run().await.inspect_err(|_| on_failure.cancel()) });

    let worked = LeaseLoop::new(caller, compute, held, drain).run().await;
    stop_heartbeat.cancel();
    match spawned.join_next().await {
        Some(Ok(beaten)) => worked.and(beaten),
        Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Some(Err(_)) | None => worked,
    }
}
