//! Which slot a worker gets: pure functions.
//!
//! Under an estimator that runs windows a slot's trajectories live in the cache of the worker that ran its last window; anyone else must replay
//! them. So a worker first gets the open slots it has cached, then those nobody else has, then any; what it failed at
//! before comes last, so that another worker may try.

use std::time::Duration;

/// An open slot as a certain worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenSlot {
    /// The slot.
    pub(super) slot: u32,
    /// The worker has its trajectories.
    pub(super) cached_here: bool,
    /// Another live worker has them.
    pub(super) cached_elsewhere: bool,
    /// The worker failed at it before.
    pub(super) failed_here: bool,
}

/// The slot to lease, of those open.
pub(super) fn choose_open(open: impl Iterator<Item = OpenSlot>) -> Option<u32> {
    open.min_by_key(|slot| {
        let preference = match (slot.cached_here, slot.cached_elsewhere) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        (slot.failed_here, preference, slot.slot)
    })
    .map(|slot| slot.slot)
}

/// Shortest time a lease is given before its slot is leased a second time.
pub(super) const HEDGE_FLOOR: Duration = Duration::from_secs(2);

/// How long a lease may take before its slot is leased a second time: twice the median of recent leases, at least
/// [`HEDGE_FLOOR`]. `None` before the first lease was completed.
pub(super) fn hedge_after(recent: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut durations: Vec<Duration> = recent.collect();
    durations.sort_unstable();
    let median = durations.get(durations.len() / 2)?;
    Some((*median * 2).max(HEDGE_FLOOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(slot: u32, cached_here: bool, cached_elsewhere: bool) -> OpenSlot {
        OpenSlot { slot, cached_here, cached_elsewhere, failed_here: false }
    }

    #[test]
    fn own_cache_comes_first_then_nobodys_then_anybodys() {
        let slots = [open(0, false, true), open(1, false, false), open(2, true, false), open(3, true, true)];
        assert_eq!(choose_open(slots.into_iter()), Some(2));
        assert_eq!(choose_open(slots[..2].iter().copied()), Some(1));
        assert_eq!(choose_open(slots[..1].iter().copied()), Some(0));
        assert_eq!(choose_open([].into_iter()), None);
        let failed = OpenSlot { failed_here: true, ..slots[2] };
        assert_eq!(choose_open([slots[0], failed].into_iter()), Some(0));
        assert_eq!(choose_open([failed].into_iter()), Some(2));
    }

    #[test]
    fn hedging_waits_for_twice_the_median() {
        let seconds = |values: &[u64]| hedge_after(values.iter().map(|s| Duration::from_secs(*s)));
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[0, 0, 0]), Some(HEDGE_FLOOR));
        assert_eq!(seconds(&[9, 1, 5]), Some(Duration::from_secs(10)));
    }
}
