//! One connection, and who is at its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep_until};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::tls::Reloaded;
use crate::gate::Pace;

/// How long a connection may live without a first call: one that only opens sockets, or sends its first bytes one by one,
/// is cut off.
pub(super) const FIRST_CALL: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    shown: Option<Arc<Shown>>,
    called: Arc<AtomicBool>,
    pace: Arc<Pace>,
}

/// A certificate that a client has shown.
#[derive(Debug)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    tls: Arc<Reloaded>,
    /// When it was judged last, and what is wrong with it.
    judged: Mutex<(Instant, Result<(), String>)>,
}

impl Peer {
    pub(super) fn new(
        address: SocketAddr,
        chain: Option<Vec<CertificateDer<'static>>>,
        tls: Option<&Arc<Reloaded>>,
    ) -> Self {
        let shown = chain.zip(tls).map(|(chain, tls)| {
            Arc::new(Shown { chain, tls: Arc::clone(tls), judged: Mutex::new((Instant::now(), Ok(()))) })
        });
        Self { address, shown, called: Arc::default(), pace: Arc::default() }
    }

    /// Someone at this address who has shown nothing.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::new(address, None, None)
    }

    /// Someone on this machine, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn local() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    /// How fast it may call.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate it has shown, if any.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.shown.as_ref()?.chain.first()
    }

    /// Notes a call, and says whether the certificate that was shown is still good: it may have expired or been revoked
    /// since.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn calls(&self) -> Result<(), String> {
        self.called.store(true, Ordering::Relaxed);
        let Some(shown) = &self.shown else { return Ok(()) };
        let mut judged = shown.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if judged.0.elapsed() >= shown.tls.judgement_holds() {
            *judged = (Instant::now(), shown.tls.judge(&shown.chain));
        }
        judged.1.clone()
    }
}

/// An accepted connection.
pub(crate) struct Connection {
    socket: Socket,
    /// What was read of it before, to see what it speaks.
    first: Bytes,
    peer: Peer,
    /// `None` once a call was made.
    patience: Option<Pin<Box<Sleep>>>,
    /// Ends it, whatever is under way.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Its place among the connections; free again when this is dropped.
    _place: OwnedSemaphorePermit,
}

/// What carries it.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// One that began then, and whose first bytes were read.
    pub(super) fn new(
        socket: Socket,
        (begun, first): (tokio::time::Instant, Bytes),
        peer: Peer,
        place: OwnedSemaphorePermit,
        cut: CancellationToken,
    ) -> Self {
        let patience = Some(Box::pin(sleep_until(begun + FIRST_CALL)));
        Self { socket, first, peer, patience, cut: Box::pin(cut.cancelled_owned()), _place: place }
    }

    /// Whether it is cut off, for everyone's sake.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the coordinator ends")),
            Poll::Pending => Ok(()),
        }
    }

    /// Cuts off a connection that makes no call.
    fn check_patience(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(patience) = &mut self.patience else { return Ok(()) };
        if self.peer.called.load(Ordering::Relaxed) {
            self.patience = None;
            return Ok(());
        }
        match patience.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "made no call in time")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        self.check_patience(cx)?;
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
