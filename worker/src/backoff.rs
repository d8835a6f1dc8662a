//! Waiting between attempts: exponential with full jitter, and one log line for each change, not for each attempt.
//!
//! Jitter is the only thing in Paceline that asks the operating system for randomness; it decides when a worker calls,
//! never what it computes.

use std::time::Duration;

use tonic::Status;

use crate::remedy::kind;

const FIRST: Duration = Duration::from_millis(200);
const CAP: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: `jitter` in `[0, 1)` times a bound that doubles from 0.2 s to 10 s.
    pub(crate) fn wait(&mut self, jitter: f64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.attempts.min(16)).min(CAP);
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(jitter)
    }
}

/// A number in `[0, 1)` from the operating system.
pub(crate) fn jitter() -> f64 {
    // Without randomness workers only lose their spread in time, so the middle will do.
    getrandom::u32().map_or(0.5, |word| f64::from(word) / 4_294_967_296.0)
}

/// A time in which one kind of call gets no answer. Logs when it begins, when its reason changes and when it ends.
#[derive(Debug)]
pub(crate) struct Outage {
    call: &'static str,
    backoff: Backoff,
    seen: Option<String>,
}

impl Outage {
    /// No outage yet; `call` names the call in logs.
    pub(crate) fn new(call: &'static str) -> Self {
        Self { call, backoff: Backoff::default(), seen: None }
    }

    /// Notes a failed attempt and answers how long to wait: the back-off, or the coordinator's own wish if longer.
    pub(crate) fn note(&mut self, status: &Status, after: Option<Duration>) -> Duration {
        let kind = kind(status);
        if self.seen.as_ref() != Some(&kind) {
            tracing::warn!(call = self.call, reason = kind, message = status.message(), "no answer, trying again");
            self.seen = Some(kind);
        }
        self.backoff.wait(jitter()).max(after.unwrap_or_default())
    }

    /// Notes an answer.
    pub(crate) fn over(&mut self) {
        if self.seen.take().is_some() {
            tracing::info!(call = self.call, "answered again");
        }
        self.backoff = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u128> = (0..8).map(|_| backoff.wait(1.0).as_millis()).collect();
        assert_eq!(bounds, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.wait(0.5), Duration::from_secs(5));
    }

    #[test]
    fn jitter_is_a_share() {
        assert!((0..100).map(|_| jitter()).all(|share| (0.0..1.0).contains(&share)));
    }

    #[test]
    fn a_longer_wish_of_the_coordinator_wins() {
        let mut outage = Outage::new("lease work");
        let wish = Duration::from_secs(30);
        assert_eq!(outage.note(&Status::unavailable("restarting"), Some(wish)), wish);
    }
}
