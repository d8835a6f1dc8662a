//! The leases this worker holds: what heartbeats renew and what can be cancelled.
//!
//! ```text
//!  lease loop ── hold ─► [ key + cancel ] ◄── keys, cancel ── heartbeat
//!             ◄─ drop ──
//! ```
//!
//! A lease stays here from its grant to its verdict, also while its result waits for a coordinator that is away. The
//! mutex is a plain one: sections are a few lines and never await.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use paceline_proto::model::LeaseKey;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Ends the work on one lease: a flag for the inner loop, which asks, and a token for async code, which waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseCancel {
    token: CancellationToken,
    flag: Arc<AtomicBool>,
}

impl LeaseCancel {
    /// Ends the work.
    pub(crate) fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    /// Whether the work was ended from outside.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when the work is ended from outside.
    pub(crate) fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// What the inner loop asks between two steps. The computation also sets it when one of its pairs has failed.
    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.flag
    }
}

/// The leases held now.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldLeases {
    leases: Arc<Mutex<Vec<(LeaseKey, LeaseCancel)>>>,
}

/// One held lease; dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Held {
    leases: HeldLeases,
    key: LeaseKey,
    cancel: LeaseCancel,
}

impl HeldLeases {
    /// Puts a lease in.
    pub(crate) fn hold(&self, key: LeaseKey) -> Held {
        let cancel = LeaseCancel::default();
        self.with(|leases| leases.push((key.clone(), cancel.clone())));
        Held { leases: self.clone(), key, cancel }
    }

    /// The keys, in order of their grant.
    pub(crate) fn keys(&self) -> Vec<LeaseKey> {
        self.with(|leases| leases.iter().map(|(key, _)| key.clone()).collect())
    }

    /// Ends the work on a lease, if it is still held.
    pub(crate) fn cancel(&self, key: &LeaseKey) {
        self.with(|leases| {
            if let Some((_, cancel)) = leases.iter().find(|(held, _)| held == key) {
                cancel.cancel();
            }
        });
    }

    fn with<T>(&self, section: impl FnOnce(&mut Vec<(LeaseKey, LeaseCancel)>) -> T) -> T {
        // No section can leave the list half changed, so a panic elsewhere does not spoil it.
        section(&mut self.leases.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    /// Ends the work on it.
    pub(crate) fn cancel(&self) -> &LeaseCancel {
        &self.cancel
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.with(|leases| leases.retain(|(key, _)| *key != self.key));
    }
}
