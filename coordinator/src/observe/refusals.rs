//! What callers were refused, by reason: for the first page, where whoever wonders why a worker does not come looks first.
//!
//! Only refusals that somebody has to mend are kept: credentials, roles, versions, malformed or too large messages, handshakes
//! that fail. What goes its way by itself (a lease taken over, a busy coordinator) is counted in the metrics alone.

use std::collections::BTreeMap;
use std::time::Instant;

use paceline_proto::fault;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

/// Most reasons kept. Ours are fewer; strangers cannot invent any.
const MOST: usize = 64;
/// Most characters of what was said: it may quote the caller.
const LONGEST: usize = 300;

/// Refusals for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// How many since this start.
    pub(crate) times: u64,
    /// When the last was.
    pub(crate) last: Instant,
    /// What was called then.
    pub(crate) method: String,
    /// What that caller was told, the cure with it.
    pub(crate) said: String,
}

/// All that are kept, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals(BTreeMap<String, Refusal>);

impl Refusals {
    /// Notes one.
    pub(crate) fn note(&mut self, reason: &str, method: &str, said: &str, now: Instant) {
        if !self.0.contains_key(reason) && self.0.len() >= MOST {
            return;
        }
        let times = self.0.get(reason).map_or(0, |before| before.times) + 1;
        let said = said.chars().take(LONGEST).collect();
        self.0.insert(reason.to_owned(), Refusal { times, last: now, method: method.to_owned(), said });
    }

    /// By reason, the latest first.
    pub(crate) fn latest(&self) -> Vec<(&str, &Refusal)> {
        let mut all: Vec<_> = self.0.iter().map(|(reason, refusal)| (reason.as_str(), refusal)).collect();
        all.sort_by_key(|(_, refusal)| std::cmp::Reverse(refusal.last));
        all
    }
}

/// Reason and words of an answer that refuses, if somebody has to mend something.
pub(super) fn in_answer(code: Code, headers: &HeaderMap) -> Option<(String, String)> {
    let mended_by_somebody = matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::ResourceExhausted
    );
    let status = mended_by_somebody.then(|| Status::from_header_map(headers)).flatten()?;
    let reason = fault::reason(&status).unwrap_or_else(|| fault::code_name(code).to_owned());
    Some((reason, status.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paceline_proto::fault::Fault;

    use super::*;

    #[test]
    fn the_latest_come_first_and_are_counted() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        refusals.note("A", "m", "one", at(1));
        refusals.note("B", "m", "two", at(2));
        refusals.note("A", "n", &"x".repeat(1000), at(3));
        let latest = refusals.latest();
        assert_eq!(
            latest.iter().map(|(reason, refusal)| (*reason, refusal.times)).collect::<Vec<_>>(),
            [("A", 2), ("B", 1)]
        );
        assert_eq!((latest[0].1.method.as_str(), latest[0].1.said.len()), ("n", LONGEST));
    }

    #[test]
    fn strangers_cannot_fill_it() {
        let mut refusals = Refusals::default();
        for number in 0..1000 {
            refusals.note(&number.to_string(), "m", "x", Instant::now());
        }
        assert_eq!(refusals.latest().len(), MOST);
    }

    #[test]
    fn only_what_somebody_has_to_mend_is_kept() {
        let found = |status: Status| {
            let code = status.code();
            in_answer(code, status.into_http::<()>().headers()).map(|(reason, _)| reason)
        };
        assert_eq!(found(Status::from(Fault::CredentialMissing)).as_deref(), Some("CREDENTIAL_MISSING"));
        assert_eq!(found(Status::permission_denied("no")).as_deref(), Some("PERMISSION_DENIED"));
        for passing in [Status::ok(""), Status::unavailable(""), Status::aborted(""), Status::cancelled("")] {
            assert_eq!(found(passing), None);
        }
    }
}
