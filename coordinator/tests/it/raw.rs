//! HTTP/2 over TLS without gRPC's manners: any method, any header, any bytes; and its frames by hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use paceline_proto::tls::{Trust, client_config};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

/// A TLS stream to a local port.
pub(crate) async fn stream(trust: &Trust, port: u16) -> io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(client_config(trust).unwrap());
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    tokio_rustls::TlsConnector::from(config).connect("localhost".try_into().unwrap(), socket).await
}

#[derive(Clone)]
struct Connector {
    trust: Trust,
    port: u16,
}

/// What the connector makes.
struct Secured(TlsStream<TcpStream>);

impl Service<http::Uri> for Connector {
    type Response = TokioIo<Secured>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self { trust, port } = self.clone();
        Box::pin(async move { Ok(TokioIo::new(Secured(stream(&trust, port).await?))) })
    }
}

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A client that says what it is told to say.
#[derive(Clone)]
pub(crate) struct Raw {
    client: Client<Connector, Body>,
    port: u16,
}

impl Raw {
    pub(crate) fn new(trust: &Trust, port: u16) -> Self {
        let connector = Connector { trust: trust.clone(), port };
        Self { client: Client::builder(TokioExecutor::new()).http2_only(true).build(connector), port }
    }

    /// Makes a call of these very bytes and headers; answers HTTP status and what gRPC says.
    pub(crate) async fn call(
        &self,
        path: &str,
        headers: &[(&str, &[u8])],
        body: Bytes,
    ) -> Result<(u16, Status), String> {
        self.send("POST", path, headers, Body::new(Full::new(body))).await
    }

    /// Sends a request; answers HTTP status and what gRPC says.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: Body,
    ) -> Result<(u16, Status), String> {
        let uri = format!("https://localhost:{}{path}", self.port);
        let mut request = http::Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
        let usual = [("content-type", &b"application/grpc"[..]), ("te", b"trailers")];
        let said = |name: &str| headers.iter().any(|(given, _)| *given == name);
        // An empty value leaves a usual header out.
        let given = headers.iter().filter(|(name, value)| !(usual.iter().any(|(u, _)| u == name) && value.is_empty()));
        for (name, value) in usual.iter().filter(|(name, _)| !said(name)).chain(given) {
            request = request.header(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        let response = self.client.request(request.body(body).unwrap()).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.map_err(|error| error.to_string())?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let status = Status::from_header_map(&parts.headers).or_else(|| Status::from_header_map(&trailers));
        Ok((parts.status.as_u16(), status.unwrap_or_else(|| Status::unknown("said nothing"))))
    }
}

/// How a client begins: the preface, and settings of which all are usual.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call without a token, compressed by nothing: places in HPACK's table, and literals.
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let post_https = vec![0x83, 0x87];
    let authority = [vec![0x01], literal("localhost")].concat();
    let path = [vec![0x04], literal(path)].concat();
    let content_type = [vec![0x0f, 0x10], literal("application/grpc")].concat();
    let te = [vec![0x00], literal("te"), literal("trailers")].concat();
    [post_https, authority, path, content_type, te].concat()
}

/// Tells of each frame that stands whole in these bytes its kind, flags, stream and payload; answers their length.
pub(crate) fn for_each_frame(bytes: &[u8], mut note: impl FnMut((u8, u8, u32, &[u8]))) -> usize {
    let mut rest = bytes;
    while let Some((head, more)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, more)) = more.split_at_checked(length) else { break };
        note((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload));
        rest = more;
    }
    bytes.len() - rest.len()
}
