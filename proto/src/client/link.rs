//! A channel that shows its token with every call and tells why TLS failed.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Channel;

use super::access::Bearer;
use super::connector::Trouble;

type BoxError = Box<dyn Error + Send + Sync>;

/// A way to a coordinator: cheap clones of one connection. Made by [`Access::link`](super::Access::link), or from a
/// channel, which shows no token.
#[derive(Clone, Debug)]
pub struct Link {
    channel: Channel,
    bearer: Option<Arc<Bearer>>,
    trouble: Trouble,
}

impl Link {
    pub(super) fn new(channel: Channel, bearer: Option<Bearer>, trouble: Trouble) -> Self {
        Self { channel, bearer: bearer.map(Arc::new), trouble }
    }
}

impl From<Channel> for Link {
    fn from(channel: Channel) -> Self {
        Self::new(channel, None, Trouble::default())
    }
}

impl Service<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(cx).map_err(|error| told(&self.trouble, error))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(bearer) = &self.bearer {
            let text = format!("Bearer {}", bearer.token().text().expose());
            // A token is made of letters, digits and dots, which any header may hold.
            if let Ok(mut value) = http::HeaderValue::from_str(&text) {
                value.set_sensitive(true);
                request.headers_mut().insert(http::header::AUTHORIZATION, value);
            }
        }
        let calling = self.channel.call(request);
        let trouble = self.trouble.clone();
        Box::pin(async move { calling.await.map_err(|error| told(&trouble, error)) })
    }
}

/// The failure of a call, explained by what is known of the connection.
fn told(trouble: &Trouble, error: tonic::transport::Error) -> BoxError {
    match trouble.take() {
        Some(fault) => Box::new(Status::from(fault)),
        None => error.into(),
    }
}
