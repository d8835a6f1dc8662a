//! Traces, sent to a collector over OTLP (gRPC).
//!
//! ```text
//!  spans that ended ─► queue ─► a thread of its own ─► collector
//!                        └─ full, or no collector: dropped. Nothing that works ever waits for it.
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::sampling::ByRun;

/// Whether spans of this process go anywhere; set once, before the first.
static ON: AtomicBool = AtomicBool::new(false);

/// How long the end of a program waits for what is not sent yet.
const LAST: Duration = Duration::from_secs(2);

/// Sends spans until it is [finished](Self::finish).
#[derive(Debug)]
#[must_use = "spans that are not sent yet are lost unless it is finished"]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends the spans of this process to the collector at `endpoint`, for example `http://127.0.0.1:4317`, under the name
    /// of a service; sends none without an endpoint. Of spans without a parent only this share is kept, from 0 to 1, decided
    /// for whole runs. To be called within a runtime, before the first span.
    ///
    /// # Errors
    /// If `endpoint` is no address, in words.
    pub fn start(
        endpoint: Option<&str>,
        share: f64,
        service: &'static str,
        version: &'static str,
    ) -> Result<Self, String> {
        let Some(endpoint) = endpoint else { return Ok(Self(None)) };
        let address: axum::http::Uri =
            endpoint.parse().map_err(|error| format!("{endpoint:?} is no address: {error}"))?;
        if address.scheme_str() != Some("http") || address.port_u16().is_none() {
            return Err(format!("{endpoint:?} is not of the form http://HOST:PORT, for example http://127.0.0.1:4317"));
        }
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.map_err(|error| format!("{endpoint:?}: {error}"))?;
        let version = opentelemetry::KeyValue::new("service.version", version);
        let resource = Resource::builder().with_service_name(service).with_attribute(version).build();
        let builder = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource);
        let provider = builder.with_sampler(ByRun::new(share)).build();
        global::set_tracer_provider(provider.clone());
        ON.store(true, Ordering::Relaxed);
        Ok(Self(Some(provider)))
    }

    /// Sends what is left, for two seconds at most.
    pub async fn finish(self) {
        let Some(provider) = self.0 else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

/// Whether spans of this process go anywhere: whoever would have to make many asks first.
pub fn tracing_is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Where a span stands: trace, span and flags, as W3C Trace Context has them. Ids of 0 mean that nobody traces.
pub fn place(context: &Context) -> (u128, u64, u8) {
    let span = context.span().span_context().clone();
    let (trace, id) = (span.trace_id().to_bytes(), span.span_id().to_bytes());
    (u128::from_be_bytes(trace), u64::from_be_bytes(id), span.trace_flags().to_u8())
}

/// The context of a span of another process.
pub fn remote((trace, span, flags): (u128, u64, u8)) -> Context {
    let (trace, span) = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
    Context::new().with_remote_span_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_on_the_other_side() {
        let there = (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7, 1);
        assert_eq!(place(&remote(there)), there);
        assert_eq!(place(&Context::new()), (0, 0, 0), "nobody traces");
    }

    #[tokio::test]
    async fn only_addresses_of_collectors_are_taken() {
        for wrong in ["", "localhost", "localhost:4317", "http://localhost", "https://localhost:4317", "http://a b:1"] {
            let refused = Traces::start(Some(wrong), 1.0, "p", "0").expect_err(wrong);
            assert!(refused.contains(&format!("{wrong:?}")), "{refused}");
        }
        Traces::start(None, 1.0, "p", "0").unwrap().finish().await;
    }
}
