//! A run's states as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use paceline_proto::fault::Fault;
use paceline_proto::model::RunState;
use paceline_proto::pb;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// The state now, then every change a reader is quick enough to see. Ends after a final state, or with
/// `SHUTTING_DOWN` when the server stops, so that no watch holds up a shutdown.
pub(super) struct Watching {
    states: WatchStream<RunState>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Watching {
    pub(super) fn new(states: watch::Receiver<RunState>, shutdown: CancellationToken) -> Self {
        Self { states: WatchStream::new(states), shutdown: Box::pin(shutdown.cancelled_owned()), ended: false }
    }
}

impl Stream for Watching {
    type Item = Result<pb::WatchRunResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        // States first: a run that ended is told even while the server stops.
        match Pin::new(&mut this.states).poll_next(context) {
            Poll::Ready(Some(state)) => {
                this.ended = state.status.is_final();
                return Poll::Ready(Some(Ok(pb::WatchRunResponse { state: Some(state.into()) })));
            }
            Poll::Ready(None) => this.ended = true,
            Poll::Pending if this.shutdown.as_mut().poll(context).is_ready() => this.ended = true,
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Some(Err(Fault::ShuttingDown.into())))
    }
}
