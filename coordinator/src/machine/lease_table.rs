//! The leases of one run and what became of them.
//!
//! ```text
//!                  ┌──────── heartbeat, while the slot is open ───────┐
//!                  ▼                                                  │
//!  give ───────► Held ── deadline ─────────────────────────────► Expired ──┐
//!                  ├──── handed back ──────────────────────────► Released ─┤  a valid result with a valid
//!                  ├──── result refused, or worker failed ─► Rejected, Failed ─┤  token fills an open slot,
//!                  ├──── another lease fills the slot ──────► Superseded   │  whatever became of its lease
//!                  └──── valid result ──────────────────────► Accepted ◄───┘
//! ```
//!
//! Every lease is in one state (LS-1 rests on the token: one lease, one worker), so the ledger is the count of leases in
//! each state and LG-1 holds by construction.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use paceline_proto::model::{Ledger, Token};

use super::fact::DeviceClass;
use super::record::{LeaseRecord, LeaseState};

/// Outer step, slot, attempt.
type Place = (u64, u32, u32);

/// A lease that is remembered.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What is stored of it.
    pub(super) record: LeaseRecord,
    /// What its worker computes on, as far as this life of the coordinator knows.
    pub(super) device: DeviceClass,
    /// When it was given.
    pub(super) given_at: Duration,
    /// When it expires unless renewed.
    pub(super) deadline: Duration,
}

/// All remembered leases of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseTable {
    entries: BTreeMap<Place, Entry>,
    places: HashMap<Token, Place>,
    ledger: Ledger,
}

impl LeaseTable {
    /// Puts stored leases back; those held get a whole new term.
    pub(super) fn restored(records: Vec<LeaseRecord>, ledger: Ledger, now: Duration, ttl: Duration) -> Self {
        let mut table = Self { ledger, ..Self::default() };
        for record in records {
            let place = (record.outer_step, record.slot, record.attempt);
            table.places.insert(record.token, place);
            table
                .entries
                .insert(place, Entry { record, device: DeviceClass::Other, given_at: now, deadline: now + ttl });
        }
        table
    }

    /// What became of all leases ever given.
    pub(super) fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The lease this token proves.
    pub(super) fn find(&self, token: Token) -> Option<&Entry> {
        self.entries.get(self.places.get(&token)?)
    }

    /// Whether any lease was given for this slot of this step.
    pub(super) fn any_given(&self, outer_step: u64, slot: u32) -> bool {
        self.of_slot(outer_step, slot).next().is_some()
    }

    /// Leases of one slot of one step, by attempt.
    pub(super) fn of_slot(&self, outer_step: u64, slot: u32) -> impl Iterator<Item = &Entry> {
        self.entries.range((outer_step, slot, 0)..=(outer_step, slot, u32::MAX)).map(|(_, entry)| entry)
    }

    /// Remembers a new lease, held until `deadline`.
    pub(super) fn give(&mut self, record: LeaseRecord, device: DeviceClass, now: Duration, deadline: Duration) {
        debug_assert_eq!(record.state, LeaseState::Held, "a lease starts held");
        debug_assert!(!self.places.contains_key(&record.token), "LS-1: a token proves one lease");
        let place = (record.outer_step, record.slot, record.attempt);
        self.places.insert(record.token, place);
        self.entries.insert(place, Entry { record, device, given_at: now, deadline });
        self.ledger.issued += 1;
        self.ledger.outstanding += 1;
    }

    /// Moves a lease to another state and returns what to store.
    pub(super) fn change(&mut self, token: Token, state: LeaseState) -> Option<LeaseRecord> {
        let entry = self.entries.get_mut(self.places.get(&token)?)?;
        if entry.record.state == state {
            return None;
        }
        *count(&mut self.ledger, entry.record.state) -= 1;
        *count(&mut self.ledger, state) += 1;
        entry.record.state = state;
        Some(entry.record.clone())
    }

    /// Gives a lease a new term.
    pub(super) fn renew(&mut self, token: Token, deadline: Duration) {
        if let Some(entry) = self.places.get(&token).and_then(|place| self.entries.get_mut(place)) {
            entry.deadline = deadline;
        }
    }

    /// Held leases from `outer_step` on whose deadline has passed, in order of place.
    pub(super) fn overdue(&self, outer_step: u64, now: Duration) -> Vec<Token> {
        self.held(outer_step).filter(|entry| entry.deadline <= now).map(|entry| entry.record.token).collect()
    }

    /// Held leases from `outer_step` on.
    pub(super) fn held(&self, outer_step: u64) -> impl Iterator<Item = &Entry> {
        self.entries
            .range((outer_step, 0, 0)..)
            .map(|(_, entry)| entry)
            .filter(|entry| entry.record.state == LeaseState::Held)
    }

    /// Forgets leases of steps before `outer_step`.
    pub(super) fn forget_before(&mut self, outer_step: u64) {
        let kept = self.entries.split_off(&(outer_step, 0, 0));
        for entry in std::mem::replace(&mut self.entries, kept).into_values() {
            self.places.remove(&entry.record.token);
        }
    }

    /// LG-1, and that as many leases are held as the ledger calls outstanding.
    pub(super) fn is_consistent(&self) -> bool {
        self.ledger.balances() && self.held(0).count() as u64 == self.ledger.outstanding
    }
}

/// The ledger's count for a state.
fn count(ledger: &mut Ledger, state: LeaseState) -> &mut u64 {
    match state {
        LeaseState::Held => &mut ledger.outstanding,
        LeaseState::Accepted { .. } => &mut ledger.accepted,
        LeaseState::Superseded => &mut ledger.superseded,
        LeaseState::Expired => &mut ledger.expired,
        LeaseState::Released => &mut ledger.released,
        LeaseState::Rejected | LeaseState::Failed => &mut ledger.rejected,
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::ThetaHash;

    use super::*;

    fn record(slot: u32, token: u8) -> LeaseRecord {
        LeaseRecord {
            token: Token([token; 16]),
            outer_step: 3,
            slot,
            attempt: u32::from(token),
            worker: "w".parse().unwrap(),
            theta_hash: ThetaHash([0; 32]),
            state: LeaseState::Held,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_change_keeps_the_ledger_balanced() {
        let mut table = LeaseTable::default();
        let states = [
            LeaseState::Expired,
            LeaseState::Held,
            LeaseState::Rejected,
            LeaseState::Failed,
            LeaseState::Released,
            LeaseState::Superseded,
            LeaseState::Accepted { digest: [1; 32] },
        ];
        table.give(record(0, 1), DeviceClass::Cpu, SECOND, SECOND * 2);
        table.give(record(0, 2), DeviceClass::Cpu, SECOND, SECOND * 2);
        for state in states {
            assert!(table.change(Token([1; 16]), state).is_some(), "{state:?}");
            assert!(table.is_consistent(), "{state:?}: {:?}", table.ledger());
        }
        assert_eq!(table.change(Token([1; 16]), LeaseState::Accepted { digest: [1; 32] }), None);
        assert_eq!((table.ledger().accepted, table.ledger().outstanding), (1, 1));
    }

    #[test]
    fn only_held_leases_become_overdue_and_renewal_helps() {
        let mut table = LeaseTable::default();
        for token in 1..=3 {
            table.give(record(u32::from(token), token), DeviceClass::Cpu, SECOND, SECOND * 2);
        }
        table.renew(Token([1; 16]), SECOND * 9);
        table.change(Token([2; 16]), LeaseState::Released);
        assert_eq!(table.overdue(3, SECOND), Vec::new());
        assert_eq!(table.overdue(3, SECOND * 2), vec![Token([3; 16])]);
        assert_eq!(table.overdue(4, SECOND * 2), Vec::new());
    }

    #[test]
    fn forgetting_frees_tokens_but_not_the_ledger() {
        let mut table = LeaseTable::default();
        table.give(record(0, 1), DeviceClass::Cpu, SECOND, SECOND * 2);
        table.change(Token([1; 16]), LeaseState::Accepted { digest: [0; 32] });
        table.forget_before(4);
        assert!(table.find(Token([1; 16])).is_none());
        assert!(!table.any_given(3, 0));
        assert_eq!(table.ledger().issued, 1);
        assert!(table.is_consistent());
    }
}
