//! Typed clients: model in, model out.
//!
//! ```text
//!  Access ─ link("https://host:7700")? ─► Link ─┬─► WorkerClient      (no retries: a worker has its own plan)
//!  TLS, token                                   ├─► RunClient         (three tries while the coordinator is away)
//!                                               ├─► CheckpointClient  (pulls resume where they broke)
//!                                               └─► FleetClient       (an operator's, about tokens)
//! ```
//!
//! Every call has a deadline; a status keeps its code, reason and details for [`crate::fault`]'s readers.

mod access;
mod address;
mod checkpoint;
mod connector;
mod fleet;
mod link;
mod pull;
mod run;
mod worker;

use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use crate::convert::{Converted, ProtocolError};

pub use access::{Access, AccessError, TokenSource};
pub use address::{InvalidAddress, endpoint};
pub use checkpoint::CheckpointClient;
pub use fleet::FleetClient;
pub use link::Link;
pub use run::{Created, RunClient, RunStates};
pub use worker::WorkerClient;

/// Result of a call: a [`tonic::Status`] keeps its code, reason and details.
pub type CallResult<T> = Result<T, Status>;

/// Deadline of calls that only read.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline of calls that change a run.
const CHANGE_DEADLINE: Duration = Duration::from_secs(15);
/// Tries of a call by a person, the first included.
const TRIES: u32 = 3;
/// Pause before the second try; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Values the client asks for in a page of a list.
const PAGE: u32 = 200;

/// A request with its deadline, told to the coordinator too.
fn timed<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// The answer of a call as a model value.
fn answer<P, M>(outcome: Result<Response<P>, Status>) -> CallResult<M>
where
    M: TryFrom<P, Error = ProtocolError>,
{
    M::try_from(plain(outcome)?).map_err(misunderstood)
}

/// The answer of a call as it came.
fn plain<P>(outcome: Result<Response<P>, Status>) -> CallResult<P> {
    outcome.map(Response::into_inner).map_err(punctual)
}

/// Names an expired deadline as what it is: tonic reports it as a cancelled call.
fn punctual(status: Status) -> Status {
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
        return Status::deadline_exceeded("the coordinator did not answer in time: is it overloaded or unreachable?");
    }
    status
}

fn misunderstood(error: ProtocolError) -> Status {
    Status::internal(format!(
        "the coordinator's answer is not understood ({error}): run client and coordinator from the same version of paceline"
    ))
}

/// Values of an answer as model values.
fn models<P, M>(values: Vec<P>) -> CallResult<Vec<M>>
where
    M: TryFrom<P, Error = ProtocolError>,
{
    let values: Converted<Vec<M>> = values.into_iter().map(TryInto::try_into).collect();
    values.map_err(misunderstood)
}

/// All values of a list, page after page: `page` asks for the one that a token names, and answers its values and the token
/// of the next.
async fn pages<P, M, Asking>(mut page: impl FnMut(String) -> Asking) -> CallResult<Vec<M>>
where
    M: TryFrom<P, Error = ProtocolError>,
    Asking: Future<Output = CallResult<(Vec<P>, String)>>,
{
    let (mut values, mut token) = (Vec::new(), String::new());
    loop {
        let (found, next) = retried(|| page(token.clone())).await?;
        values.extend(models(found)?);
        if next.is_empty() {
            return Ok(values);
        }
        token = next;
    }
}

/// Calls until it works, the coordinator says no, or it stayed away for all tries.
async fn retried<T, Calling>(mut call: impl FnMut() -> Calling) -> CallResult<T>
where
    Calling: Future<Output = CallResult<T>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => tokio::time::sleep(pause).await,
            outcome => return outcome,
        }
        pause *= 2;
    }
    call().await
}
