//! The first bytes of a connection: HTTP/2, or a browser at the wrong door, which is told where it is.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How HTTP/2 begins. As much of it as tells it from every method of HTTP/1: POST, PUT and PROPFIND begin alike.
const HTTP_2: &[u8; 3] = b"PRI";

/// What whoever speaks HTTP/1 is told.
const WRONG_DOOR: &str = "This port speaks gRPC, over HTTP/2. Pages, metrics and probes have a port of their own, the next one \
                          if nobody chose another (--admin-address).\n";

/// The first bytes, as many as tell what is spoken; fewer if the other side stops there.
pub(super) async fn hear(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut first = [0; HTTP_2.len()];
    let mut here = 0;
    while here < first.len() && first[..here] == HTTP_2[..here] {
        match socket.read(&mut first[here..]).await? {
            0 => break,
            read => here += read,
        }
    }
    Ok(Bytes::copy_from_slice(&first[..here]))
}

/// Whether they begin a request of HTTP/1. What is neither that nor HTTP/2 is HTTP/2's to refuse.
pub(super) fn is_http_1(first: &[u8]) -> bool {
    !HTTP_2.starts_with(first) && first.iter().all(u8::is_ascii_uppercase)
}

/// Answers it, in its own words.
pub(super) async fn refuse(socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let length = WRONG_DOOR.len();
    let head = format!(
        "HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(WRONG_DOOR.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(sent: &[u8]) -> (Vec<u8>, bool) {
        let first = hear(&mut &*sent).await.unwrap();
        let http_1 = is_http_1(&first);
        (first.to_vec(), http_1)
    }

    #[tokio::test]
    async fn http_2_is_told_from_all_else_by_its_first_bytes() {
        for sent in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"PRI",
            b"PR",
            b"P",
            b"",
            b"\x16\x03\x01\x02",
            b"get /",
            b"P\x00\x00",
        ] {
            let (first, http_1) = heard(sent).await;
            assert!(sent.starts_with(&first) && !http_1, "{sent:?}");
        }
        for sent in ["GET / HTTP/1.1", "POST /x", "PUT / HTTP/1.0", "PROPFIND /", "OPTIONS *", "H"] {
            assert!(heard(sent.as_bytes()).await.1, "{sent}");
        }
    }
}
