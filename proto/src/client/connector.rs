//! Connects by TLS.
//!
//! ```text
//!  connect ─► read the files ─► TCP ─► TLS ─► Watched stream ─► HTTP/2
//!                 │                     │          │ an alert that comes later (TLS 1.3 refuses certificates so)
//!                 └───────── Trouble ◄──┴──────────┘ ─► Link: what the call is told
//! ```

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::Uri;

use crate::fault::Fault;
use crate::tls::{Trust, client_config, explain, in_error};

type BoxError = Box<dyn Error + Send + Sync>;

/// The last thing that went wrong with TLS on a link, until a call takes it to explain its own failure: the layers of
/// HTTP/2 between turn every broken connection into the same few words.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<Fault>>>);

impl Trouble {
    pub(super) fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, fault: Fault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    fn note_tls(&self, error: &io::Error) {
        if let Some(error) = in_error(error) {
            self.note(fault(error));
        }
    }

    fn clear(&self) {
        self.take();
    }
}

/// What a caller is told of a TLS error.
fn fault(error: &rustls::Error) -> Fault {
    let (reason, cure) = explain(error);
    let cure = cure.to_owned();
    match error {
        rustls::Error::InvalidCertificate(_) => Fault::CertificateUntrusted { reason, cure },
        rustls::Error::AlertReceived(_) => Fault::CertificateRefused { reason, cure },
        _ => Fault::TlsFailed { reason, cure },
    }
}

/// Makes connections of a link.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    trust: Arc<Trust>,
    trouble: Trouble,
}

impl Connector {
    pub(super) fn new(trust: Trust, trouble: Trouble) -> Self {
        Self { trust: Arc::new(trust), trouble }
    }

    async fn connect(self, uri: Uri) -> Result<Watched, BoxError> {
        let host = uri.host().ok_or("the address names no host")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or("the address names no port")?;
        let trust = Arc::clone(&self.trust);
        // Files: not on a thread of the runtime.
        let config = tokio::task::spawn_blocking(move || client_config(&trust)).await?;
        let config = config.inspect_err(|error| {
            let cure = "mend the files: they are read again at the next try".to_owned();
            self.trouble.note(Fault::TlsFailed { reason: error.to_string(), cure });
        })?;
        let socket = TcpStream::connect((bare.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(bare)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        let stream = stream.inspect_err(|error| self.trouble.note_tls(error))?;
        self.trouble.clear();
        Ok(Watched { stream, trouble: self.trouble })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async { connecting.await.map(TokioIo::new) })
    }
}

/// A TLS stream that notes why it breaks.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TlsStream<TcpStream>,
    trouble: Trouble,
}

impl Watched {
    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.trouble.note_tls(error);
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.noted(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
