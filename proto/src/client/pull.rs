//! Pulls a large value through streams that may break.
//!
//! ```text
//!  open(0) ─► piece piece ╳  pause  open(2 pieces) ─► piece ╳  pause  open(3 pieces) ─► … ─► SHA-256 fits: done
//! ```

use std::time::Duration;

use bytes::Bytes;
use tonic::{Status, Streaming};

use super::CallResult;
use crate::chunk::{Assembly, AssemblyError};
use crate::fault::is_transient;
use crate::model::Piece;
use crate::pb;

/// Streams opened for one value, the first included.
const TRIES: u32 = 10;
/// Longest silence in a stream, and longest wait for it to open.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// Longest a pull may take.
const DEADLINE: Duration = Duration::from_secs(600);
/// Pause before the second stream; it doubles with each …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a stream ended before the value was whole.
enum Break {
    /// Another stream may go on from here.
    Passing(Status),
    /// No other stream would do better.
    Final(Status),
}

/// The whole value, from streams that `open` begins at an offset.
pub(super) async fn pull<Opening>(open: impl FnMut(u64) -> Opening) -> CallResult<Bytes>
where
    Opening: Future<Output = CallResult<Streaming<pb::Chunk>>>,
{
    let expired = |_| Status::deadline_exceeded(format!("pull took longer than {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, through_breaks(open)).await.map_err(expired)?
}

async fn through_breaks<Opening>(mut open: impl FnMut(u64) -> Opening) -> CallResult<Bytes>
where
    Opening: Future<Output = CallResult<Streaming<pb::Chunk>>>,
{
    let mut assembly = Assembly::new();
    let mut pause = FIRST_PAUSE;
    let mut last = Status::unavailable("no stream was opened");
    for _ in 0..TRIES {
        let opening = open(assembly.offset());
        match read(&mut assembly, opening).await {
            Ok(()) => return assembly.finish().map_err(|error| damaged(&error)),
            Err(Break::Final(status)) => return Err(status),
            Err(Break::Passing(status)) => last = status,
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    Err(last)
}

async fn read(
    assembly: &mut Assembly,
    opening: impl Future<Output = CallResult<Streaming<pb::Chunk>>>,
) -> Result<(), Break> {
    let silence = |_| Break::Passing(Status::deadline_exceeded("the stream fell silent"));
    let mut stream = tokio::time::timeout(LONGEST_SILENCE, opening).await.map_err(silence)?.map_err(judge)?;
    while let Some(chunk) =
        tokio::time::timeout(LONGEST_SILENCE, stream.message()).await.map_err(silence)?.map_err(judge)?
    {
        // A piece that was damaged on its way is worth asking for again.
        let piece = Piece::try_from(chunk).map_err(|error| Break::Passing(damaged(&error)))?;
        assembly.accept(&piece).map_err(|error: AssemblyError| Break::Final(damaged(&error)))?;
    }
    if assembly.is_complete() {
        return Ok(());
    }
    Err(Break::Passing(Status::unavailable(format!("the stream ended early, at byte {}", assembly.offset()))))
}

fn judge(status: Status) -> Break {
    if is_transient(&status) { Break::Passing(status) } else { Break::Final(status) }
}

fn damaged(error: &dyn std::error::Error) -> Status {
    Status::data_loss(format!("pulled value is damaged: {error}"))
}
