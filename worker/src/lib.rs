//! Takes leases, runs unrolls, reports.
use paceline_proto::model::WorkerId;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://host:port` of the coordinator.
    pub coordinator: String,
    /// Its id.
    pub worker: WorkerId,
    /// Threads that compute.
    pub threads: usize,
    /// Where real data is.
    pub data_dir: Option<PathBuf>,
}

/// Works until `shutdown` is cancelled, then drains: hands unfinished leases back and returns.
///
/// # Errors
/// If the coordinator refuses this worker for good (another protocol version).
pub async fn run(_config: Config, _shutdown: CancellationToken) -> anyhow::Result<()> {
    unimplemented!()
}
