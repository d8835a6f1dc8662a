//! A message that is larger than its method takes is refused while it comes, before anything is made of it: decoded, it may
//! take forty times the memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use paceline_proto::fault::Fault;
use tonic::Status;
use tonic::body::Body;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// The body of a call, up to a bound.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Body,
    method: &'static str,
    largest: usize,
    /// What may still come.
    left: usize,
}

impl Bounded {
    /// Takes a message of `largest` bytes.
    pub(super) fn new(inner: Body, method: &'static str, largest: usize) -> Self {
        Self { inner, method, largest, left: largest + HEAD }
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let came = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => 0,
        };
        match self.left.checked_sub(came) {
            Some(left) => {
                self.left = left;
                Poll::Ready(frame)
            }
            None => {
                let (method, largest) = (self.method.to_owned(), self.largest);
                Poll::Ready(Some(Err(Fault::MessageTooLarge { method, largest }.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn one_byte_more_than_the_bound_is_refused() {
        for (size, taken) in [(0, true), (100, true), (105, true), (106, false), (10_000, false)] {
            let body = Body::new(Full::new(Bytes::from(vec![0; size])));
            let outcome = Bounded::new(body, "a.B/C", 100).collect().await;
            assert_eq!(outcome.is_ok(), taken, "{size}");
        }
    }
}
