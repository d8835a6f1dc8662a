//! The codec of our services: prost's, behind the scan.

use std::fmt;
use std::marker::PhantomData;

use bytes::Buf;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use super::scan;
use super::shape::Shapes;

/// Encodes `T` and decodes `U` as protobuf.
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// Decodes `U`.
pub struct Careful<U>(PhantomData<U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for Codec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<U> fmt::Debug for Careful<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Careful")
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Careful<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Careful(PhantomData)
    }
}

impl<U: Message + Name + Default> Decoder for Careful<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode(source).map(Some)
    }
}

/// A message from its bytes, which lie in one piece. A request is refused by field; an answer that makes no sense is a
/// matter of versions, and nothing its reader could have sent otherwise.
///
/// # Errors
/// `FIELD_INVALID`, `MESSAGE_TOO_LARGE` for a request; INTERNAL for an answer.
pub fn decode<M: Message + Name + Default>(source: &mut impl Buf) -> Result<M, Status> {
    let request = Shapes::ours().request(M::NAME);
    if let Some(request) = request {
        scan::check(request, source.chunk())?;
    }
    M::decode(source).map_err(|error| match request {
        // The scan takes what prost takes, so this would be a bug of the scan.
        Some(_) => Status::invalid_argument(format!("the request is not understood: {error}")),
        None => Status::internal(format!(
            "the coordinator's answer is not understood ({error}): run client and coordinator from the same version of paceline"
        )),
    })
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::fault;
    use crate::pb;

    #[test]
    fn requests_are_refused_by_reason_and_answers_blame_the_version() {
        let damage: &[u8] = b"\x0a\x02\xff\xfe";
        let refused = decode::<pb::GetRunRequest>(&mut &*damage).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(fault::reason(&refused).as_deref(), Some("FIELD_INVALID"));
        assert!(refused.message().contains("run: the text is not UTF-8"), "{refused:?}");
        let vast = [0x12, 0].repeat(1_000_000);
        let refused = decode::<pb::HeartbeatRequest>(&mut vast.as_slice()).unwrap_err();
        assert_eq!(fault::reason(&refused).as_deref(), Some("MESSAGE_TOO_LARGE"));
        assert!(!fault::is_transient(&refused), "the same message never fits");
        let answer = decode::<pb::GetRunResponse>(&mut &*damage).unwrap_err();
        assert_eq!(answer.code(), Code::Internal);
        assert!(answer.message().contains("same version of paceline"), "{answer:?}");
        let sound = decode::<pb::GetRunRequest>(&mut &b"\x0a\x01a"[..]).unwrap();
        assert_eq!(sound.run, "a");
    }
}
