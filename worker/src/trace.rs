//! A worker's part of the trace that a lease belongs to.

use opentelemetry::KeyValue;
use opentelemetry::global::{self, BoxedSpan};
use opentelemetry::trace::{Span, SpanKind, Tracer};
use paceline_proto::model::{Lease, TraceParent, WorkerId};

/// A span below the lease's own, from now until it is dropped; `None` where nobody traces.
pub(crate) fn part(lease: &Lease, name: &'static str, worker: &WorkerId) -> Option<BoxedSpan> {
    let place = lease.traceparent?;
    let parent = paceline_admin::remote((place.trace(), place.span(), place.flags()));
    let tracer = global::tracer("paceline-worker");
    let attributes = [
        KeyValue::new("paceline.worker", worker.to_string()),
        KeyValue::new("paceline.slot", i64::from(lease.key.slot)),
    ];
    let builder = tracer.span_builder(name).with_kind(SpanKind::Internal).with_attributes(attributes);
    Some(builder.start_with_context(&tracer, &parent))
}

/// What a call within a span carries.
pub(crate) fn carried(span: &BoxedSpan) -> Option<TraceParent> {
    let context = span.span_context();
    let (trace, id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceParent::new(u128::from_be_bytes(trace), u64::from_be_bytes(id), context.trace_flags().to_u8())
}
