//! One line for every call that changes something: who, what, about what, and how it ended.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use tonic::codegen::http;
use tonic::{Code, Request};

use super::caller::Caller;
use super::policy::{Effect, Rule};
use crate::entrance::Peer;

/// Longest subject and request id in a line; both come from outside.
const LONGEST: usize = 80;

/// What a call is about, said by the service that reads its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject(Arc<OnceLock<String>>);

impl Subject {
    /// It is this.
    pub(super) fn is(&self, subject: impl Display) {
        note(&self.0, subject);
    }
}

/// Notes what a call is about, for the audit.
pub(crate) fn about<T>(request: &Request<T>, subject: impl Display) {
    if let Some(Subject(noted)) = request.extensions().get() {
        note(noted, subject);
    }
}

fn note(noted: &OnceLock<String>, subject: impl Display) {
    // Said once: what a message is about does not change.
    let _ = noted.set(subject.to_string().chars().take(LONGEST).collect());
}

/// What is known of a call before its answer.
#[derive(Debug)]
pub(super) struct Entry {
    rule: &'static Rule,
    caller: Caller,
    peer: Peer,
    request_id: String,
    subject: Subject,
}

impl Entry {
    pub(super) fn new(rule: &'static Rule, caller: Caller, peer: Peer, headers: &http::HeaderMap) -> Self {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        Self { rule, caller, peer, request_id: id.chars().take(LONGEST).collect(), subject: Subject::default() }
    }

    /// To be put where the service finds it.
    pub(super) fn subject(&self) -> Subject {
        self.subject.clone()
    }

    /// Writes the line.
    pub(super) fn ended(&self, headers: &http::HeaderMap) {
        let Self { rule, caller, peer, request_id, subject } = self;
        let token = match caller {
            Caller::Known(known) => known.token.map(|token| token.to_string()),
            Caller::Anyone | Caller::Stranger => None,
        };
        let (peer, token) = (peer.address(), token.unwrap_or_default());
        let subject = subject.0.get().map_or("", String::as_str);
        let code = code(headers);
        match rule.effect {
            Effect::Reads => {}
            Effect::Works => tracing::debug!(
                target: "audit", method = rule.method, %caller, token, %peer, ?subject, ?request_id, ?code, "call"
            ),
            Effect::Changes => tracing::info!(
                target: "audit", method = rule.method, %caller, token, %peer, ?subject, ?request_id, ?code, "call"
            ),
        }
    }
}

/// How a call ended: a refusal stands in the headers, as no message comes before it.
fn code(headers: &http::HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}
