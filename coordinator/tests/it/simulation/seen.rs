//! What the schedules did: a schedule that never does it proves nothing.

use std::collections::BTreeMap;

/// How often each interesting thing happened: a schedule that never does it proves nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub(super) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(super) fn happened(&self, what: &str) -> bool {
        self.0.contains_key(what)
    }

    pub(super) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, count)| *self.0.entry(what).or_default() += count);
    }

    pub(super) fn assert_nothing_was_missed(&self) {
        for what in [
            "accepted",
            "already accepted",
            "superseded",
            "failure noted",
            "refused",
            "crash with work in flight",
            "folded again after a crash",
            "kept result accepted after a crash",
            "expired",
            "released",
            "hedged",
        ] {
            assert!(self.0.get(what).is_some_and(|count| *count > 0), "never happened: {what}; {self:?}");
        }
    }
}
