//! Ends streams whose caller is let in no longer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use paceline_proto::fault::Fault;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

/// How often a stream's caller is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Whether the caller is still let in.
type Check = Box<dyn Fn() -> Result<(), Fault> + Send>;

/// The body of an answer, which ends with a refusal when its caller's token is revoked or has expired meanwhile.
pub(super) struct Guarded {
    inner: Body,
    check: Check,
    looked: Instant,
    /// Wakes a silent stream. Made when there is something to wait for, which single answers have not.
    next_look: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// Its place in a lane; free again when this is dropped.
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("looked", &self.looked).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Guarded {
    pub(super) fn new(inner: Body, place: OwnedSemaphorePermit, check: Check) -> Self {
        Self { inner, check, looked: Instant::now(), next_look: None, ended: false, _place: place }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if self.looked.elapsed() >= LOOK_INTERVAL {
                (self.looked, self.next_look) = (Instant::now(), None);
                if let Err(fault) = (self.check)() {
                    self.ended = true;
                    let mut trailers = HeaderMap::new();
                    return match Status::from(fault).add_header(&mut trailers) {
                        Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                        Err(status) => Poll::Ready(Some(Err(status))),
                    };
                }
            }
            if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
                return Poll::Ready(frame);
            }
            let next = self.next_look.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
            std::task::ready!(next.as_mut().poll(cx));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // It may end before its time.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body::Body as _;

    use super::*;

    /// A stream that never says anything.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_ends_soon_after_its_caller_is_let_in_no_longer() {
        let good = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&good);
        let place = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let check = move || if asked.load(Ordering::Relaxed) { Ok(()) } else { Err(Fault::CredentialMissing) };
        let mut guarded = Box::pin(Guarded::new(Body::new(Silent), place, Box::new(check)));
        let begun = Instant::now();
        let next = async |guarded: &mut Pin<Box<Guarded>>| poll_fn(|cx| guarded.as_mut().poll_frame(cx)).await;
        let minute = tokio::time::timeout(Duration::from_secs(60), next(&mut guarded)).await;
        assert!(minute.is_err(), "nothing ends it while its caller is good");
        good.store(false, Ordering::Relaxed);
        let frame = next(&mut guarded).await.unwrap().unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(60) + LOOK_INTERVAL);
        assert_eq!(frame.trailers_ref().unwrap().get("grpc-status").unwrap(), "16");
        assert!(next(&mut guarded).await.is_none() && guarded.is_end_stream());
    }
}
