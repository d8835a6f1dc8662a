//! Takes connections from a listener, through TLS if it is spoken.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paceline_proto::tls::{explain, in_error};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, FIRST_CALL, Peer, Socket};
use super::greeting;
use super::throttle::Throttle;
use super::tls::Reloaded;
use crate::observe::Observer;

/// Connections at once; one more waits in the listener's queue. A fleet of 10 000 workers has two each.
const MOST: usize = 32_768;
/// Handshakes at once: they cost a signature each, and strangers can ask for them.
const MOST_HANDSHAKES: usize = 512;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a refused client has to hear why. Closing at once would take the answer back, as it has sent more meanwhile.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the system refused, for example for want of descriptors.
const RECOVERY: Duration = Duration::from_millis(100);

/// What all connections share.
struct Entrance {
    tls: Option<Arc<Reloaded>>,
    refused: Throttle,
    observer: Observer,
    handshakes: Semaphore,
    ready: mpsc::Sender<io::Result<Connection>>,
    cut: CancellationToken,
}

/// Connections, ready to be served. The listener closes when the stream is dropped.
/// All are cut off once `cut` is cancelled.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<Reloaded>>,
    cut: CancellationToken,
    observer: Observer,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, taken) = mpsc::channel(1);
    let (refused, handshakes) = (Throttle::default(), Semaphore::new(MOST_HANDSHAKES));
    let entrance = Entrance { tls, refused, observer, handshakes, ready, cut };
    tokio::spawn(accept(listener, Arc::new(entrance)));
    ReceiverStream::new(taken)
}

async fn accept(listener: TcpListener, entrance: Arc<Entrance>) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = entrance.ready.closed() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                tokio::spawn(admit(socket, address, place, Arc::clone(&entrance)));
            }
            Err(error) => {
                if let Some(unsaid) = entrance.refused.pass() {
                    tracing::warn!(%error, unsaid, "a connection could not be accepted");
                }
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

/// Brings a socket to where it can be served, or says why it is not.
async fn admit(socket: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit, entrance: Arc<Entrance>) {
    // A socket that is gone already is noticed at its first read.
    let _ = socket.set_nodelay(true);
    let (mut socket, peer) = match &entrance.tls {
        None => (Socket::Plain(socket), Peer::new(address, None, None)),
        Some(tls) => {
            let Some(stream) = secured(socket, address, tls, &entrance).await else { return };
            let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
            (Socket::Tls(Box::new(stream)), Peer::new(address, chain, Some(tls)))
        }
    };
    let begun = Instant::now();
    let heard = timeout_at(begun + FIRST_CALL, greeting::hear(&mut socket));
    // Whoever says nothing, or goes away, is not missed.
    let Ok(Ok(first)) = heard.await else { return };
    if greeting::is_http_1(&first) {
        entrance.observer.refused("HTTP_1", "-", "this port is for gRPC, pages have their own");
        if let Some(unsaid) = entrance.refused.pass() {
            tracing::warn!(peer = %address, unsaid, "a connection speaks HTTP/1: this port is for gRPC, pages have their own");
        }
        let _ = timeout(LAST_WORDS, greeting::refuse(&mut socket)).await;
        return linger(socket).await;
    }
    // If nobody takes it, the server stops: the connection closes.
    let _ = entrance.ready.send(Ok(Connection::new(socket, (begun, first), peer, place, entrance.cut.clone()))).await;
}

async fn secured(
    socket: TcpStream,
    address: SocketAddr,
    tls: &Arc<Reloaded>,
    entrance: &Entrance,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let _turn = entrance.handshakes.acquire().await.ok()?;
    let handshake = TlsAcceptor::from(tls.config()).accept(socket).into_fallible();
    let (reason, cure) = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err((error, socket))) => {
            tokio::spawn(linger(socket));
            match in_error(&error) {
                Some(error) => explain(error),
                None => (error.to_string(), "the client or something between closed the connection"),
            }
        }
        Err(_) => (format!("not done within {} s", HANDSHAKE.as_secs()), "look at the client"),
    };
    entrance.observer.refused("TLS_HANDSHAKE", "-", &format!("{reason}: {cure}"));
    if let Some(unsaid) = entrance.refused.pass() {
        tracing::warn!(peer = %address, reason, cure, unsaid, "TLS handshake failed");
    }
    None
}

/// Lets a refused client read why.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let drained = async {
        socket.shutdown().await?;
        let mut rest = [0; 4096];
        while socket.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever comes of it, the socket closes now.
    let _ = timeout(LAST_WORDS, drained).await;
}
