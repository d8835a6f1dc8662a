//! What every call passes before a service sees it.
//!
//! ```text
//!  call ─► is the certificate that the connection has shown still good? ─► service
//!            └ no: refused by name, one line a second in the log
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use paceline_proto::fault::Fault;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use crate::entrance::{Peer, Throttle};

/// Passes calls, or refuses them.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    refused: Throttle,
}

impl Gate {
    fn admit(&self, request: &http::Request<Body>) -> Result<(), Fault> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Err(Fault::Internal { reason: "a call came from no connection".to_owned() });
        };
        let spoiled = |reason| Fault::CertificateRefused { reason, cure: "use a good one".to_owned() };
        peer.calls().map_err(spoiled).inspect_err(|fault| {
            if let Some(unsaid) = self.refused.pass() {
                tracing::warn!(peer = %peer.address(), reason = fault.reason(), unsaid, "call refused: {fault}");
            }
        })
    }
}

/// A service behind a gate.
#[derive(Clone, Debug)]
pub(crate) struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Gated<S> {
    pub(crate) fn new(gate: Arc<Gate>, inner: S) -> Self {
        Self { gate, inner }
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.gate.admit(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(fault) => {
                let refusal = Status::from(fault).into_http();
                Box::pin(async { Ok(refusal) })
            }
        }
    }
}
