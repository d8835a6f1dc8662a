//! Which traces are kept, where not all are.
//!
//! ```text
//!  a span with a parent, also of another process ─► as its parent
//!  the first of a trace, of a run ─────────────────► by the run's id: all of its traces or none
//!  the first of a trace, of no run ────────────────► by the trace's id, which is drawn by chance
//! ```

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// The attribute that names a run.
pub const RUN: &str = "paceline.run";

/// Keeps a share of all runs, and of all traces that are of no run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByRun {
    /// What a 64-bit number must be below.
    bound: u128,
}

impl ByRun {
    /// This share of them, from 0 to 1.
    pub(crate) fn new(share: f64) -> Self {
        // The product fits: a float that is too large becomes the largest number, and 1 keeps all.
        Self { bound: (share.clamp(0.0, 1.0) * 2_f64.powi(64)) as u128 }
    }

    fn keeps(&self, number: u64) -> bool {
        u128::from(number) < self.bound
    }

    fn keeps_root(&self, trace: TraceId, attributes: &[KeyValue]) -> bool {
        match attributes.iter().find(|attribute| attribute.key.as_str() == RUN) {
            Some(run) => self.keeps(hash(run.value.as_str().as_bytes())),
            None => {
                let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
                self.keeps(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }
}

impl ShouldSample for ByRun {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _name: &str,
        _kind: &SpanKind,
        attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone()).filter(|parent| parent.is_valid());
        let kept = match &parent {
            Some(parent) => parent.is_sampled(),
            None => self.keeps_root(trace, attributes),
        };
        SamplingResult {
            decision: if kept { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state: parent.map_or_else(TraceState::default, |parent| parent.trace_state().clone()),
        }
    }
}

/// FNV-1a, its bits mixed once more: names that differ in their last letter end far apart. The same in every version, so
/// that a run stays in or out.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3_u64));
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(share: f64, parent: Option<&Context>, trace: u128, run: Option<&str>) -> bool {
        let attributes: Vec<_> = run.map(|run| KeyValue::new(RUN, run.to_owned())).into_iter().collect();
        let trace = TraceId::from_bytes(trace.to_be_bytes());
        let result = ByRun::new(share).should_sample(parent, trace, "x", &SpanKind::Internal, &attributes, &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_run_is_in_or_out_whatever_its_traces() {
        let runs: Vec<String> = (0..2000).map(|nth| format!("velo-{nth:08x}")).collect();
        for run in &runs {
            let first = decide(0.25, None, 1, Some(run));
            assert!((2..40).all(|trace| decide(0.25, None, trace << 60 | trace, Some(run)) == first), "{run}");
        }
        let kept = runs.iter().filter(|run| decide(0.25, None, 1, Some(run))).count();
        assert!((400..600).contains(&kept), "a quarter of 2000, by and large: {kept}");
        assert!(runs.iter().all(|run| !decide(0.0, None, 1, Some(run)) && decide(1.0, None, 1, Some(run))));
    }

    #[test]
    fn a_child_goes_with_its_parent() {
        for (flags, kept) in [(1, true), (0, false)] {
            let parent = crate::remote((7, 7, flags));
            assert!([0.0, 0.5, 1.0].iter().all(|share| decide(*share, Some(&parent), 7, Some("velo-1")) == kept));
        }
        assert!(decide(1.0, Some(&Context::new()), 7, None), "a context without a span is no parent");
    }

    #[test]
    fn of_no_run_chance_decides() {
        let traces = (0..2000_u128).map(|nth| u128::from(hash(&nth.to_be_bytes())));
        let kept = traces.filter(|trace| decide(0.25, None, *trace, None)).count();
        assert!((400..600).contains(&kept), "{kept}");
        assert!(decide(1.0, None, u128::MAX, None) && !decide(0.0, None, 0, None));
    }
}
