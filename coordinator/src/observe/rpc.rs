//! Times every gRPC call on the server, by method and code, and traces it where traces are sent.
//!
//! A code travels in the headers of an answer without a body and in the trailers of one with a body, so an answer is timed
//! until its last frame. A call whose client went away before that counts as cancelled.
//!
//! A call's span is a child of the one that its `traceparent` names (W3C Trace Context), else the first of a trace of its
//! own. It has the names that OpenTelemetry gives to what every gRPC server traces. What strangers ask for has none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use paceline_proto::FILE_DESCRIPTOR_SET;
use paceline_proto::fault::code_name;
use paceline_proto::model::TraceParent;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::{Observer, refusals};

/// What strangers ask for.
const OTHER: &str = "other";

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
        if self.methods.contains(path) { path.to_owned() } else { OTHER.to_owned() }
    }

    /// A span for this call; none where traces go nowhere, nor for what strangers ask for.
    fn span<R>(&self, request: &Request<R>) -> Option<Context> {
        let method = self.method(request.uri().path());
        let (service, name) = method.split_once('/').filter(|_| paceline_admin::tracing_is_on())?;
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", name.to_owned()),
        ];
        let above = parent(request.headers())
            .map_or_else(Context::new, |place| paceline_admin::remote((place.trace(), place.span(), place.flags())));
        let tracer = global::tracer("paceline-coordinator");
        let builder = tracer.span_builder(method.clone()).with_kind(SpanKind::Server).with_attributes(attributes);
        Some(Context::new().with_span(builder.start_with_context(&tracer, &above)))
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

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let mut call = Call {
            method: self.times.method(request.uri().path()),
            observer: self.times.observer.clone(),
            begun: Instant::now(),
            ended: false,
            span: self.times.span(&request),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            if let Some(span) = &call.span {
                // Of the log's span around this call: here, for it is entered when the call is polled.
                let trace = span.span().span_context().trace_id();
                tracing::Span::current().record("trace_id", tracing::field::display(trace));
            }
            let response = answer.await?;
            if let Some(code) = code_in(response.headers()) {
                if let Some((reason, said)) = refusals::in_answer(code, response.headers()) {
                    call.observer.refused(&reason, &call.method, &said);
                }
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
    ended: bool,
    /// Its span, where traces are sent.
    span: Option<Context>,
}

impl Call {
    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.observer.metrics().called(&self.method, code_name(code), self.begun.elapsed());
        if let Some(context) = self.span.take() {
            let span = context.span();
            span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
            if is_ours(code) {
                span.set_status(Status::error(code_name(code)));
            }
            span.end();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// Whether a code says that the server failed, rather than that the caller asked for what it cannot have.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The span that a call names as its parent. Of two nobody knows which is meant.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut all = headers.get_all("traceparent").iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    first.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sound_parent_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            parent(&headers).map(|place| place.to_string())
        };
        assert_eq!(read(&[good]).as_deref(), Some(good));
        for wrong in [&[][..], &[""], &["x"], &[good, good], &["00-0-0-01"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_the_servers_own_failures_are_errors() {
        for code in [Code::Ok, Code::Cancelled, Code::NotFound, Code::Unauthenticated, Code::ResourceExhausted] {
            assert!(!is_ours(code), "{code:?}");
        }
        assert!([Code::Internal, Code::DeadlineExceeded, Code::Unavailable, Code::DataLoss].into_iter().all(is_ours));
    }

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
