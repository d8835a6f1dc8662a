//! One trace an outer step, from its leases to its fold.
//!
//! ```text
//!  outer step ─┬─ lease (slot 0) ─┬─ compute    by the worker
//!              │                  └─ report     by the worker
//!              ├─ lease (slot 1) ─ …
//!              └─ fold
//! ```
//!
//! A lease carries its `traceparent` to the worker. Unless somebody set up an exporter, spans are empty, nothing is carried
//! and nothing kept.

use std::collections::HashMap;

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{Status, TraceContextExt, TraceId, Tracer};
use opentelemetry::{Context, KeyValue};
use paceline_proto::model::{Lease, RunId, Token, TraceParent};

use crate::machine::Outcome;

/// Spans that are open.
#[derive(Debug)]
pub(crate) struct Traces {
    tracer: BoxedTracer,
    steps: HashMap<RunId, Step>,
    leases: HashMap<Token, Context>,
}

#[derive(Debug)]
struct Step {
    outer_step: u64,
    context: Context,
    fold: Option<Context>,
}

impl Traces {
    /// For the exporter that this process has, if any.
    pub(crate) fn new() -> Self {
        Self { tracer: global::tracer("paceline-coordinator"), steps: HashMap::new(), leases: HashMap::new() }
    }

    /// A lease goes out; answers what it carries.
    pub(crate) fn leased(&mut self, lease: &Lease) -> Option<TraceParent> {
        let key = &lease.key;
        let parent = self.step(&key.run, key.outer_step)?;
        let attributes = [
            KeyValue::new("paceline.slot", i64::from(key.slot)),
            KeyValue::new("paceline.attempt", i64::from(lease.attempt)),
        ];
        let span =
            self.tracer.span_builder("lease").with_attributes(attributes).start_with_context(&self.tracer, &parent);
        let context = parent.with_span(span);
        let (trace, span, flags) = paceline_admin::place(&context);
        let carried = TraceParent::new(trace, span, flags);
        self.leases.insert(key.token, context);
        carried
    }

    /// The span of a step, opened if it is not; `None` where nobody listens.
    fn step(&mut self, run: &RunId, outer_step: u64) -> Option<Context> {
        if let Some(step) = self.steps.get(run).filter(|step| step.outer_step == outer_step) {
            return Some(step.context.clone());
        }
        let attributes = [
            KeyValue::new(paceline_admin::RUN, run.to_string()),
            KeyValue::new("paceline.outer_step", i64::try_from(outer_step).unwrap_or(i64::MAX)),
        ];
        let builder = self.tracer.span_builder("outer step").with_attributes(attributes);
        let context = Context::new().with_span(builder.start_with_context(&self.tracer, &Context::new()));
        if !context.span().span_context().is_valid() {
            return None;
        }
        let step = Step { outer_step, context: context.clone(), fold: None };
        if let Some(unfinished) = self.steps.insert(run.clone(), step) {
            unfinished.context.span().end();
        }
        Some(context)
    }

    /// The trace of a lease, while it is open.
    pub(crate) fn of_lease(&self, token: &Token) -> Option<TraceId> {
        self.leases.get(token).map(|context| context.span().span_context().trace_id())
    }

    /// A lease ended.
    pub(crate) fn ended(&mut self, token: Token, outcome: Outcome) {
        let Some(context) = self.leases.remove(&token) else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("paceline.outcome", outcome.name()));
        match outcome {
            Outcome::Accepted | Outcome::Superseded | Outcome::Released => {}
            Outcome::Expired | Outcome::Rejected | Outcome::Failed => span.set_status(Status::error(outcome.name())),
        }
        span.end();
    }

    /// A step's fold begins.
    pub(crate) fn folding(&mut self, run: &RunId) {
        if let Some(step) = self.steps.get_mut(run) {
            let span = self.tracer.span_builder("fold").start_with_context(&self.tracer, &step.context);
            step.fold = Some(step.context.with_span(span));
        }
    }

    /// A step's fold is done, and with it the step.
    pub(crate) fn folded(&mut self, run: &RunId, failure: Option<&str>) {
        let Some(step) = self.steps.remove(run) else { return };
        if let Some(reason) = failure {
            step.context.span().set_status(Status::error(reason.to_owned()));
        }
        if let Some(fold) = step.fold {
            fold.span().end();
        }
        step.context.span().end();
    }

    /// A run ended, perhaps in the middle of a step.
    pub(crate) fn closed(&mut self, run: &RunId) {
        if let Some(step) = self.steps.remove(run) {
            step.context.span().set_attribute(KeyValue::new("paceline.unfinished", true));
            step.context.span().end();
        }
    }
}
