//! Why a worker stops for good. Everything else it waits out, or reports and goes on.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use paceline_proto::client::AccessError;
use paceline_proto::fault::describe;
use tonic::Status;

use crate::config::DeviceUnavailable;

/// Why a worker cannot start or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The coordinator speaks another protocol.
    #[error("the coordinator refuses worker protocol {ours}: {}: run the release of the coordinator", status.message())]
    VersionUnsupported {
        /// This worker's protocol.
        ours: u32,
        /// The whole answer.
        status: Box<Status>,
    },
    /// A call that the worker cannot do without was refused for good.
    #[error("could not {call}, the coordinator refuses: {}", describe(status))]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The whole answer.
        status: Box<Status>,
    },
    /// The coordinator does not let this worker in, or is not trusted.
    #[error("could not {call}, not allowed: {}", describe(status))]
    NotAllowed {
        /// What was asked.
        call: &'static str,
        /// The whole answer.
        status: Box<Status>,
    },
    /// The coordinator's address, a certificate or the token cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// This build or machine cannot compute on the device asked for.
    #[error(transparent)]
    Device(#[from] DeviceUnavailable),
    /// The folder of real data is not there.
    #[error("data folder {}: no such folder: name the folder that holds the data sets with --data-dir, or none", path.display())]
    DataDir {
        /// The folder named.
        path: PathBuf,
    },
    /// The operating system gave no thread.
    #[error("executor thread {index} cannot be started: lower --threads or raise the limit on threads")]
    Thread {
        /// Which of the threads, from 0.
        index: usize,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// Exit code of a process that ends for this reason: 64 wrong input, 69 service not usable, 71 operating system,
    /// 77 not allowed, 78 configuration or version (a platform that sees it should replace the worker, not restart it).
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Access(AccessError::Address(_)) | Self::DataDir { .. } => 64,
            Self::NotAllowed { .. } => 77,
            Self::Access(_) => 78,
            Self::Refused { .. } => 69,
            Self::Thread { .. } => 71,
            Self::VersionUnsupported { .. } | Self::Device(_) => 78,
        })
    }
}
