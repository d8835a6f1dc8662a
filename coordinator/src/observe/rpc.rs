//! Times every gRPC call on the server, by method and code.
//!
//! A code travels in the headers of an answer without a body and in the trailers of one with a body, so an answer is timed
//! until its last frame. A call whose client went away before that counts as cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use paceline_proto::FILE_DESCRIPTOR_SET;
use paceline_proto::fault::code_name;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::Observer;

/// The layer.
#[derive(Clone, Debug)]
pub(crate) struct CallTimes {
    observer: Observer,
    /// Paths of our methods, without the slash in front. What strangers ask for is one method, `other`.
    methods: Arc<BTreeSet<String>>,
}

impl CallTimes {
    /// Counts for this observer.
    pub(crate) fn new(observer: Observer) -> Self {
        // Ours, compiled in: were it damaged, reflection would not start either.
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut methods =
            BTreeSet::from(["grpc.health.v1.Health/Check".to_owned(), "grpc.health.v1.Health/Watch".into()]);
        for file in &set.file {
            for service in &file.service {
                let path = |method: &str| format!("{}.{}/{method}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
        Self { observer, methods: Arc::new(methods) }
    }

    fn method(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        if self.methods.contains(path) { path.to_owned() } else { "other".to_owned() }
    }
}

impl<S> Layer<S> for CallTimes {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner, times: self.clone() }
    }
}

/// A service under the layer.
#[derive(Clone, Debug)]
pub(crate) struct Timed<S> {
    inner: S,
    times: CallTimes,
}

impl<S, R> Service<Request<R>> for Timed<S>
where
    S: Service<Request<R>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let mut call = Call {
            method: self.times.method(request.uri().path()),
            observer: self.times.observer.clone(),
            begun: Instant::now(),
            code: Some("CANCELLED"),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(code) = code_in(response.headers()) {
                call.end(code);
                return Ok(response);
            }
            let (parts, body) = response.into_parts();
            let watched = body.map_frame(move |frame: http_body::Frame<Bytes>| {
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
                    call.end(code);
                }
                frame
            });
            Ok(Response::from_parts(parts, Body::new(watched)))
        })
    }
}

/// One call; counted when its code is known, or when it is given up.
struct Call {
    observer: Observer,
    method: String,
    begun: Instant,
    /// What it counts as if nothing more comes; `None` once it is counted.
    code: Option<&'static str>,
}

impl Call {
    fn end(&mut self, code: &'static str) {
        if self.code.take().is_some() {
            self.observer.metrics().called(&self.method, code, self.begun.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(code) = self.code {
            self.end(code);
        }
    }
}

fn code_in(headers: &HeaderMap) -> Option<&'static str> {
    headers.get("grpc-status").map(|value| code_name(Code::from_bytes(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_methods_have_a_series_of_their_own() {
        let times = CallTimes::new(Observer::default());
        assert_eq!(times.method("/paceline.v1.WorkerService/LeaseWork"), "paceline.v1.WorkerService/LeaseWork");
        assert_eq!(times.method("/grpc.health.v1.Health/Watch"), "grpc.health.v1.Health/Watch");
        for path in ["/", "/admin.php", "/paceline.v1.WorkerService/Nonsense", ""] {
            assert_eq!(times.method(path), "other", "{path:?}");
        }
    }
}
