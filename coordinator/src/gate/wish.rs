//! Changes that somebody asks for on a page: judged by the same table as calls, and told to the audit by the same line.

use std::net::SocketAddr;

use paceline_proto::fault::Fault;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Response};

use super::audit::Entry;
use super::caller::{Caller, Known};
use super::policy::{self, Rule};
use crate::entrance::Peer;

/// A change that may be made.
#[derive(Debug)]
pub(crate) struct Wish(Entry);

/// Whether somebody may do what a method does, `package.Service/Method` with a slash before it.
///
/// # Errors
/// [`Fault::RoleMissing`].
pub(crate) fn may(known: &Known, method: &str) -> Result<(), Fault> {
    policy::allow(row(method)?, Some(known))
}

fn row(method: &str) -> Result<&'static Rule, Fault> {
    policy::rule_of(method).ok_or_else(|| Fault::Internal { reason: format!("{method} is in no row of the policy") })
}

impl Wish {
    /// To do what a method does, about `subject`.
    ///
    /// # Errors
    /// [`Fault::RoleMissing`], told to the audit.
    pub(crate) fn of(
        known: &Known,
        method: &str,
        subject: &str,
        address: SocketAddr,
        headers: &HeaderMap,
    ) -> Result<Self, Fault> {
        let rule = row(method)?;
        let entry = Entry::new(rule, Caller::Known(known.clone()), Peer::at(address), headers);
        entry.subject().is(subject);
        let wish = Self(entry);
        match policy::allow(rule, Some(known)) {
            Ok(()) => Ok(wish),
            Err(fault) => wish.ended(Err(fault)),
        }
    }

    /// Writes the line about how it ended, and answers just that.
    pub(crate) fn ended<T>(self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        let response = match &outcome {
            Ok(_) => Response::new(()),
            Err(fault) => Status::from(fault.clone()).into_http(),
        };
        self.0.ended(response.headers());
        outcome
    }
}
