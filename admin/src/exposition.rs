//! Metrics as a scraper reads them.

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// What a registry holds, in OpenMetrics or in Prometheus' older text format.
pub fn exposition(registry: &Registry, open_metrics: bool) -> String {
    let mut body = String::new();
    let written = match open_metrics {
        true => text::encode(&mut body, registry),
        false => prometheus_text::encode(&mut body, registry),
    };
    written.expect("a String takes everything");
    body
}
