//! Calls to a coordinator.

use paceline_proto::client::{Access, AccessError, CallResult, CheckpointClient, FleetClient, RunClient};
use paceline_proto::model::{CheckpointInfo, RunId};

use crate::arguments::Remote;
use crate::failure::{Exit, Failure};
use crate::file::{hex, sha256_hex};

/// A coordinator and what it can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    /// `http://host:port`.
    pub(crate) address: String,
    /// About runs.
    pub(crate) runs: RunClient,
    /// About checkpoints.
    pub(crate) checkpoints: CheckpointClient,
    /// About tokens.
    pub(crate) fleet: FleetClient,
}

impl Coordinator {
    /// At this address, on this machine, with nothing to show.
    pub(crate) async fn at(address: &str) -> Result<Self, Failure> {
        Self::with(address, &Access::default()).await
    }

    /// Where the arguments say.
    pub(crate) async fn of(remote: &Remote) -> Result<Self, Failure> {
        Self::with(&remote.coordinator, &remote.access.access()).await
    }

    /// At this address. Connects on the first call. (Async, because a channel can be made inside a runtime only.)
    pub(crate) async fn with(address: &str, access: &Access) -> Result<Self, Failure> {
        let link = access.link(address).map_err(|error| no_link(address, error))?;
        let runs = RunClient::new(link.clone());
        let (checkpoints, fleet) = (CheckpointClient::new(link.clone()), FleetClient::new(link));
        Ok(Self { address: address.to_owned(), runs, checkpoints, fleet })
    }

    /// The answer, or why there is none, in words.
    pub(crate) fn answer<T>(&self, result: CallResult<T>) -> Result<T, Failure> {
        result.map_err(|status| Failure::from_status(&status, &self.address))
    }

    /// A checkpoint's description and its bytes, which are checked against the hash in it.
    pub(crate) async fn pull(&self, run: &RunId, step: Option<u64>) -> Result<(CheckpointInfo, Vec<u8>), Failure> {
        let info = self.answer(self.checkpoints.get(run, step).await)?;
        let bytes = self.answer(self.checkpoints.pull(run, Some(info.outer_step)).await)?;
        let found = sha256_hex(&bytes);
        if found != hex(&info.sha256) {
            let what = format!("checkpoint {run}@{} arrived damaged", info.outer_step);
            return Err(Failure::new(Exit::Io, "CHECKPOINT_CORRUPT", what)
                .cause(format!("SHA-256 is {found}, expected {}", hex(&info.sha256)))
                .help("pull it again; if it stays, take another step of `paceline checkpoint list`"));
        }
        Ok((info, bytes.into()))
    }
}

fn no_link(address: &str, error: AccessError) -> Failure {
    match error {
        AccessError::Address(error) => {
            Failure::new(Exit::BadInput, "ADDRESS_INVALID", format!("{address:?} is no coordinator address"))
                .cause(error)
                .help("write it as http://host:port, or https://host:port for TLS")
        }
        error => Failure::new(Exit::Config, "ACCESS_INVALID", error.to_string()),
    }
}

/// A fresh random UUID (version 4), which makes a request safe to repeat.
pub(crate) fn request_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::Io, "NO_RANDOMNESS", "the system gives no random bytes").cause(error))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    Ok([&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
}

/// A runtime for commands that mostly wait.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Io, "NO_RUNTIME", "cannot start threads").cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_and_differ() {
        let (one, two) = (request_id().expect("random"), request_id().expect("random"));
        assert_ne!(one, two);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{one}");
        assert_eq!(&one[14..15], "4");
        assert!("89ab".contains(&one[19..20]), "{one}");
    }
}
