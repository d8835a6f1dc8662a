//! What comes in the body of a call: whole messages, none larger than its method takes. What is not is refused while it
//! comes, before anything is made of it.
//!
//! ```text
//!  body ─► compressed?, length ─► message ─► compressed?, length ─► …        one message, unless the method streams
//!             └─ refused at once, though nothing of the message is here yet
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use paceline_proto::fault::{Fault, FieldFault};
use tonic::Status;
use tonic::body::Body;

use super::allowance::Share;
use super::policy::Rule;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// The body of a call, up to a bound.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Body,
    rule: &'static Rule,
    share: Arc<Share>,
    /// What may still come, all messages together.
    left: usize,
    reading: Reading,
    /// Whether a message began.
    begun: bool,
    ended: bool,
}

/// Where in a message the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// So many bytes of a head are here.
    Head([u8; HEAD], usize),
    /// So many bytes of a message are to come, of so many.
    Message { left: usize, length: usize },
}

const NOTHING: Reading = Reading::Head([0; HEAD], 0);

impl Bounded {
    /// The body of a call of this kind; what comes of it is counted in its share.
    pub(super) fn new(inner: Body, rule: &'static Rule, share: Arc<Share>) -> Self {
        Self { inner, rule, share, left: rule.largest() + HEAD, reading: NOTHING, begun: false, ended: false }
    }

    /// Follows the messages through a piece of the body.
    fn follow(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        self.left = self.left.checked_sub(piece.len()).ok_or_else(|| self.too_large())?;
        self.share.take(piece.len())?;
        while !piece.is_empty() {
            match &mut self.reading {
                Reading::Head(head, here) => {
                    let count = piece.len().min(HEAD - *here);
                    head[*here..*here + count].copy_from_slice(&piece[..count]);
                    *here += count;
                    piece = &piece[count..];
                    if *here == HEAD {
                        let head = *head;
                        self.begin(head)?;
                    }
                }
                Reading::Message { left, .. } => {
                    let count = piece.len().min(*left);
                    *left -= count;
                    piece = &piece[count..];
                }
            }
            if matches!(self.reading, Reading::Message { left: 0, .. }) {
                self.reading = NOTHING;
            }
        }
        Ok(())
    }

    fn begin(&mut self, [compressed, length @ ..]: [u8; HEAD]) -> Result<(), Fault> {
        if compressed != 0 {
            return Err(malformed("is marked as compressed, which nothing said: send it as it is"));
        }
        if self.begun && !self.rule.streams() {
            return Err(malformed("is followed by another: send one with each call"));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.rule.largest() {
            return Err(self.too_large());
        }
        self.begun = true;
        self.reading = Reading::Message { left: length, length };
        Ok(())
    }

    /// Whether the body may end here.
    fn finish(&self) -> Result<(), Fault> {
        match self.reading {
            Reading::Head(_, 0) if self.begun || self.rule.streams() => Ok(()),
            Reading::Head(_, 0) => Err(malformed("is missing: send one, if only an empty one")),
            Reading::Head(_, here) => {
                Err(malformed(format!("ends after {here} of the {HEAD} bytes before it: send all of it")))
            }
            Reading::Message { left, length } => {
                Err(malformed(format!("ends after {} of {length} bytes: send all of it", length - left)))
            }
        }
    }

    fn too_large(&self) -> Fault {
        Fault::MessageTooLarge { method: self.rule.method.to_owned(), largest: self.rule.largest() }
    }
}

fn malformed(reason: impl Into<String>) -> Fault {
    Fault::FieldsInvalid(vec![FieldFault { field: "message".to_owned(), reason: reason.into() }])
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let judged = match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(piece) => self.follow(piece),
                None => self.finish(),
            },
            None => self.finish(),
            Some(Err(_)) => Ok(()),
        };
        self.ended = frame.is_none() || judged.is_err();
        match judged {
            Ok(()) => Poll::Ready(frame),
            Err(fault) => Poll::Ready(Some(Err(fault.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        // An empty body must still be asked, or nobody would hear what it lacks.
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // It may end before its time.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use paceline_proto::fault::reason;

    use super::*;
    use crate::gate::policy::rule_of;

    const LIMIT: usize = 64 << 10;

    fn message(length: usize) -> Vec<u8> {
        let head = u32::try_from(length).unwrap().to_be_bytes();
        [&[0], &head[..], &vec![7; length]].concat()
    }

    /// What comes of a body that arrives in pieces of this size: the bytes passed on, or the refusal.
    async fn passed(path: &str, body: &[u8], piece: usize) -> Result<usize, Status> {
        let pieces: Vec<_> =
            body.chunks(piece).map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let body = Body::new(StreamBody::new(tokio_stream::iter(pieces)));
        let bounded = Bounded::new(body, rule_of(path).unwrap(), Share::new(&Arc::default()));
        Body::new(bounded).collect().await.map(|whole| whole.to_bytes().len())
    }

    #[tokio::test]
    async fn whole_messages_pass_and_all_else_is_refused_by_name() {
        let get = "/paceline.v1.RunService/GetRun";
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let announced = |flag: u8, length: u32, rest: &[u8]| [&[flag], &length.to_be_bytes()[..], rest].concat();
        let invalid = |said: &'static str| Err(("FIELD_INVALID", said));
        let large = Err(("MESSAGE_TOO_LARGE", "send less"));
        let two = message(3).repeat(2);
        for (path, body, expected) in [
            (get, message(0), Ok(())),
            (get, message(100), Ok(())),
            (get, message(LIMIT), Ok(())),
            (get, message(LIMIT + 1), large),
            (get, announced(0, u32::MAX, b"abc"), large),
            (get, vec![], invalid("message: is missing")),
            (get, vec![0, 0, 0], invalid("ends after 3 of the 5 bytes")),
            (get, announced(0, 10, b"abc"), invalid("ends after 3 of 10 bytes")),
            (get, announced(1, 3, b"abc"), invalid("marked as compressed")),
            (get, announced(7, 3, b"abc"), invalid("marked as compressed")),
            (get, two.clone(), invalid("followed by another")),
            (reflection, two, Ok(())),
            (reflection, vec![], Ok(())),
            (reflection, message(0).repeat(LIMIT), large),
        ] {
            for piece in [1, 4, 5, 6, 1000, usize::MAX] {
                let outcome = passed(path, &body, piece).await;
                match (&outcome, expected) {
                    (Ok(length), Ok(())) => assert_eq!(*length, body.len()),
                    (Err(status), Err((why, said))) => {
                        assert_eq!(reason(status).as_deref(), Some(why), "{status:?}");
                        assert!(status.message().contains(said), "{status:?}");
                    }
                    other => panic!("{} bytes in pieces of {piece}: {other:?}", body.len()),
                }
            }
        }
    }
}
