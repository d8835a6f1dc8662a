//! Owns theta, leases, the ledger and the store.
pub mod handle;
pub mod machine;
pub mod server;
mod service;
pub mod store;

use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: None,
            lease_ttl: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves on a bound listener until `shutdown` is cancelled; then checkpoints every run, flushes and returns.
///
/// # Errors
/// If the store cannot be opened or the server fails.
pub async fn serve(_config: Config, _listener: TcpListener, _shutdown: CancellationToken) -> anyhow::Result<()> {
    unimplemented!()
}
