//! The gRPC services: message in, model value, handle, message out. Nothing is decided here.
//!
//! ```text
//!  pb request ── accept: checks, names the wrong field ──► model ──► CoordinatorHandle ──► model ──► pb answer
//!                      │                                                 │
//!                      └──────────── Fault ── refuse: logged if grave ◄──┘──► tonic::Status with details
//! ```

mod checkpoint;
mod fleet;
mod page;
mod run;
mod watching;
mod worker;

use std::pin::Pin;

use bytes::Bytes;
use paceline_proto::chunk;
use paceline_proto::convert::ProtocolError;
use paceline_proto::fault::Fault;
use paceline_proto::model::RunId;
use paceline_proto::pb;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::entrance::Throttle;

pub(crate) use checkpoint::Checkpoints;
pub(crate) use fleet::Fleet;
pub(crate) use run::Runs;
pub(crate) use worker::Workers;

/// Answer of a unary call.
type Answer<T> = Result<Response<T>, Status>;

/// A stream of messages of one kind.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The request as a model value.
fn accept<P, M>(request: Request<P>) -> Result<M, Status>
where
    M: TryFrom<P, Error = ProtocolError>,
{
    M::try_from(request.into_inner()).map_err(invalid)
}

/// The run a request names.
fn named_run(run: &str) -> Result<RunId, Status> {
    paceline_proto::convert::run_id(run, "run").map_err(invalid)
}

fn invalid(error: ProtocolError) -> Status {
    refuse(error.into())
}

/// The answer, or the refusal as a status.
fn answer<M, P: From<M>>(outcome: Result<M, Fault>) -> Answer<P> {
    outcome.map(|value| Response::new(value.into())).map_err(refuse)
}

/// A fault as a status. What a person must look at is logged here with its cause, once a second at most: a fleet that
/// calls a coordinator whose disk is full hears the same of every call.
fn refuse(fault: Fault) -> Status {
    static READ_ONLY: Throttle = Throttle::new();
    static GRAVE: Throttle = Throttle::new();
    let throttle = match &fault {
        Fault::StoreReadOnly { .. } => Some(&READ_ONLY),
        Fault::Internal { .. } | Fault::CheckpointCorrupt { .. } => Some(&GRAVE),
        _ => None,
    };
    match throttle {
        Some(throttle) => {
            if let Some(unsaid) = throttle.pass() {
                tracing::error!(reason = fault.reason(), unsaid, "{fault}");
            }
        }
        None => tracing::debug!(reason = fault.reason(), "refused: {fault}"),
    }
    fault.into()
}

/// The pieces of a value from an offset, as a stream. `hash` is the SHA-256 of the value, computed if not known.
async fn pieces(value: Bytes, hash: Option<[u8; 32]>, offset: u64) -> Answer<Messages<pb::Chunk>> {
    let hash = match hash {
        Some(hash) => hash,
        None => hashed(value.clone()).await?,
    };
    let pieces = chunk::pieces(value, hash, offset).map_err(invalid)?;
    Ok(Response::new(Box::pin(tokio_stream::iter(pieces.map(Ok)))))
}

/// The SHA-256 of a value, off the threads that serve calls: 16 MiB take tens of milliseconds.
async fn hashed(value: Bytes) -> Result<[u8; 32], Status> {
    let hashing = tokio::task::spawn_blocking(move || chunk::sha256(&value));
    hashing.await.map_err(|error| refuse(Fault::Internal { reason: format!("hash a value: {error}") }))
}
