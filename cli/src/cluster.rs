//! A coordinator and workers inside this process, talking real gRPC over a loopback port.
//!
//! ```text
//!  train ── RunClient ──► 127.0.0.1:port ◄── worker 0, 1, …      (the same code as on a fleet)
//!                         coordinator ── sled under the store
//! ```
//!
//! Stopping goes from the outside in: workers hand back what they hold, then the coordinator checkpoints and flushes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use paceline_coordinator::store::StoreError;
use paceline_proto::client::Access;
use paceline_proto::fault;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};
use crate::remote::Coordinator;

/// How long a lease lives without a heartbeat. Short, for the workers are here: after a crash, the leases they held must run
/// out before the run goes on.
const LEASE_TTL: Duration = Duration::from_secs(6);
/// How often workers send a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// How to call its coordinator.
    pub(crate) coordinator: Coordinator,
    folder: PathBuf,
    /// `None` once it has ended.
    served: Option<JoinHandle<anyhow::Result<()>>>,
    workers: JoinSet<anyhow::Result<()>>,
    stop_workers: CancellationToken,
    stop_coordinator: CancellationToken,
}

impl Cluster {
    /// Starts a coordinator on the store in `folder` and waits until it answers.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failure> {
        let no_port = |error| Failure::new(Exit::Io, "NO_PORT", "cannot open a loopback port").cause(error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let address = format!("http://{}", listener.local_addr().map_err(no_port)?);
        let stop_coordinator = CancellationToken::new();
        let config = paceline_coordinator::Config {
            data: Some(folder.to_owned()),
            lease_ttl: LEASE_TTL,
            heartbeat: HEARTBEAT,
            ..Default::default()
        };
        let served = Some(tokio::spawn(paceline_coordinator::serve(config, listener, stop_coordinator.clone())));
        let mut cluster = Self {
            coordinator: Coordinator::at(&address).await?,
            folder: folder.to_owned(),
            served,
            workers: JoinSet::new(),
            stop_workers: CancellationToken::new(),
            stop_coordinator,
        };
        cluster.wait_until_it_answers().await?;
        Ok(cluster)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), Failure> {
        loop {
            let coordinator = self.coordinator.clone();
            tokio::select! {
                failure = self.failed() => return Err(failure),
                answer = coordinator.runs.list() => match answer {
                    Ok(_) => return Ok(()),
                    // A coordinator that cannot open its store breaks the connection before it ends: its end says why.
                    Err(status) if fault::is_transient(&status) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(status) => return Err(Failure::from_status(&status, &coordinator.address)),
                },
            }
        }
    }

    /// Adds `count` workers that compute on `threads` threads each, or on a device.
    pub(crate) fn add_workers(
        &mut self,
        count: u16,
        threads: usize,
        device: paceline_worker::Device,
        data_dir: Option<&Path>,
    ) -> Result<(), Failure> {
        for index in 0..count {
            let worker = format!("local-{index}").parse().map_err(Failure::bug)?;
            let coordinator = self.coordinator.address.clone();
            let data_dir = data_dir.map(Path::to_owned);
            let config =
                paceline_worker::Config { coordinator, access: Access::default(), worker, threads, data_dir, device };
            let stop = self.stop_workers.clone();
            self.workers.spawn(async { Ok(paceline_worker::run(config, stop).await?) });
        }
        Ok(())
    }

    /// Waits until the coordinator or a worker ends by itself, which neither should, and says why it did.
    pub(crate) async fn failed(&mut self) -> Failure {
        tokio::select! {
            ended = ended(&mut self.served) => coordinator_ended(&self.folder, ended),
            Some(ended) = self.workers.join_next() => worker_ended(flatten(ended)),
        }
    }

    /// Drains the workers, then lets the coordinator checkpoint every run and close the store.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.stop_workers.cancel();
        while let Some(ended) = self.workers.join_next().await {
            flatten(ended).map_err(|error| worker_ended(Err(error)))?;
        }
        self.stop_coordinator.cancel();
        if self.served.is_some() {
            ended(&mut self.served).await.map_err(|error| coordinator_ended(&self.folder, Err(error)))?;
        }
        Ok(())
    }
}

/// Waits for the coordinator's end, which comes once; never returns if it has been.
async fn ended(served: &mut Option<JoinHandle<anyhow::Result<()>>>) -> anyhow::Result<()> {
    let Some(handle) = served else { return std::future::pending().await };
    let result = flatten(handle.await);
    *served = None;
    result
}

fn flatten(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|panicked| Err(panicked.into()))
}

fn coordinator_ended(folder: &Path, ended: anyhow::Result<()>) -> Failure {
    let Err(error) = ended else { return Failure::bug("the embedded coordinator ended by itself") };
    if error.is::<tokio::task::JoinError>() {
        return Failure::bug(format!("the embedded coordinator panicked: {error}"));
    }
    let (exit, reason, help) = match error.downcast_ref::<StoreError>() {
        Some(StoreError::Locked { .. }) => (
            Exit::TryLater,
            "STORE_IN_USE",
            "another paceline works on it: wait for it to end, or choose another folder with --store",
        ),
        Some(StoreError::FormatTooNew { .. }) => (
            Exit::Config,
            "STORE_TOO_NEW",
            "use the version of paceline that wrote it, or choose another folder with --store",
        ),
        Some(StoreError::Damaged { .. } | StoreError::Io { .. }) => (
            Exit::Io,
            "STORE_DAMAGED",
            "check the disk; restore the folder from a backup, or choose another with --store",
        ),
        Some(_) | None => (
            Exit::CannotCreate,
            "STORE_UNUSABLE",
            "`paceline doctor --store DIR` checks a store; choose another folder with --store",
        ),
    };
    let message = format!("the store {} cannot be used", folder.display());
    let failure = Failure::new(exit, reason, message).help(help);
    error.chain().fold(failure, Failure::cause)
}

fn worker_ended(ended: anyhow::Result<()>) -> Failure {
    match ended {
        Ok(()) => Failure::bug("an embedded worker ended by itself"),
        Err(error) => error.chain().fold(Failure::bug("an embedded worker failed"), Failure::cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_store_has_the_documented_exit_code() {
        for (error, exit) in [
            (StoreError::Locked { path: "x".into() }, Exit::TryLater),
            (StoreError::Unusable { path: "x".into(), reason: "read-only".into() }, Exit::CannotCreate),
            (StoreError::FormatTooNew { found: 2, supported: 1 }, Exit::Config),
            (StoreError::Damaged { what: "run".into(), reason: "crc32c".into() }, Exit::Io),
            (StoreError::Io { reason: "no space".into() }, Exit::Io),
        ] {
            let text = error.to_string();
            let failure =
                coordinator_ended(Path::new("x"), Err(anyhow::Error::new(error).context("opening the store")));
            assert_eq!((failure.exit, &failure.causes[1]), (exit, &text));
            assert!(failure.help.is_some(), "{text}");
        }
        let broken = anyhow::anyhow!("permission denied").context("opening the store");
        let failure = coordinator_ended(Path::new("x"), Err(broken));
        assert_eq!(failure.exit, Exit::CannotCreate);
        assert_eq!(failure.causes, ["opening the store", "permission denied"]);
    }
}
