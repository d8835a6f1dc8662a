//! Facts as lines of the log. All are below what is shown by default: a fleet makes thousands a second.

use crate::machine::Fact;

/// Says one fact.
pub(crate) fn say(fact: &Fact) {
    match fact {
        Fact::WorkerJoined(device) => tracing::debug!(device_class = device.name(), "worker joined"),
        Fact::WorkerLost(device) => tracing::debug!(device_class = device.name(), reason = "silent", "worker lost"),
        Fact::HeartbeatLate(delay) => tracing::trace!(delay_s = delay.as_secs_f64(), "heartbeat"),
        Fact::LeaseIssued { run, kind, waited, open } => {
            let waited_s = waited.as_secs_f64();
            tracing::debug!(%run, attempt_kind = kind.name(), waited_s, open_slots = open, "lease given");
        }
        // A token proves a lease, so no log holds it.
        Fact::LeaseEnded { run, token: _, outcome } => tracing::debug!(%run, outcome = outcome.name(), "lease ended"),
        Fact::SlotFilled { family, device, took } => {
            tracing::debug!(family, device_class = device.name(), took_s = took.as_secs_f64(), "slot filled");
        }
        Fact::ResultJudged { run, staleness, late } => tracing::debug!(%run, staleness, late, "result judged"),
        Fact::ResultRejected { run, reason } => tracing::debug!(%run, reason, "result refused"),
    }
}
