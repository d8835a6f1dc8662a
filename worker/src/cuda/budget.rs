//! How many lanes a device takes at a time: never out of memory, whatever the lease.
//!
//! ```text
//!  lease of 100 pairs ─► parts that fit: 34 + 33 + 33          a pair's two lanes stay together
//!                     └► not even one pair fits: refused, with what it needs and what there is
//! ```
//!
//! Lanes are independent to the bit, so how a lease is split cannot show in its result.

use std::ops::{Add, Range};

/// Bytes of device memory that a lease needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Once, whatever the number of lanes: data sets, theta, tables.
    pub shared: u64,
    /// For each pair of lanes: thetas, parameters, optimizer state, batches, losses.
    pub pair: u64,
}

impl Add for Need {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { shared: self.shared.saturating_add(other.shared), pair: self.pair.saturating_add(other.pair) }
    }
}

/// A pair that does not fit the device at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "one pair of lanes needs {needed} bytes of device memory ({} of them shared by all pairs), but {budget} may be used: \
     run this task on a device with more memory, or on the CPU",
    need.shared
)]
pub struct DoesNotFit {
    /// What was asked for.
    pub need: Need,
    /// Bytes for one pair.
    pub needed: u64,
    /// Bytes that may be used.
    pub budget: u64,
}

/// What may be used of the free memory: a tenth stays, for the driver and for fragments.
pub fn usable(free: u64) -> u64 {
    free - free / 10
}

/// The parts in which `pairs` pairs are computed, in order: as few as fit into `budget` bytes, and of sizes that differ by
/// one at most, so that the last one does not leave the device half empty.
///
/// # Errors
/// [`DoesNotFit`], if one pair is too much. No pairs need no part.
pub fn parts(pairs: u32, need: Need, budget: u64) -> Result<Vec<Range<u32>>, DoesNotFit> {
    let at_a_time = budget.saturating_sub(need.shared).checked_div(need.pair).unwrap_or(u64::MAX);
    if pairs > 0 && (at_a_time == 0 || need.shared > budget) {
        return Err(DoesNotFit { need, needed: need.shared.saturating_add(need.pair), budget });
    }
    let parts = u64::from(pairs).div_ceil(at_a_time.max(1)) as u32;
    let edge = |part: u32| (u64::from(pairs) * u64::from(part) / u64::from(parts)) as u32;
    Ok((0..parts).map(|part| edge(part)..edge(part + 1)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(pairs: u32, shared: u64, pair: u64, budget: u64) -> Vec<usize> {
        let parts = parts(pairs, Need { shared, pair }, budget).unwrap();
        assert!(
            parts.iter().map_while(|part| (part.len() as u64 * pair + shared <= budget).then_some(())).count()
                == parts.len()
        );
        let flat: Vec<u32> = parts.iter().cloned().flatten().collect();
        assert_eq!(flat, (0..pairs).collect::<Vec<_>>(), "every pair once and in order");
        parts.iter().map(Range::len).collect()
    }

    #[test]
    fn a_lease_that_fits_is_one_part() {
        assert_eq!(sizes(16, 100, 10, 260), [16]);
        assert_eq!(sizes(0, 100, 10, 0), [0; 0]);
    }

    #[test]
    fn a_lease_too_large_is_split_evenly() {
        assert_eq!(sizes(17, 100, 10, 260), [8, 9]);
        assert_eq!(sizes(100, 0, 1, 34), [33, 33, 34]);
        assert_eq!(sizes(3, 0, 10, 10), [1, 1, 1]);
    }

    #[test]
    fn one_pair_too_much_is_refused_with_the_numbers() {
        for (shared, pair, budget) in [(100, 10, 109), (200, 1, 100), (0, u64::MAX, 1), (u64::MAX, u64::MAX, 5)] {
            let refused = parts(4, Need { shared, pair }, budget).unwrap_err();
            let told = refused.to_string();
            assert!(told.contains(&shared.to_string()) && told.contains(&format!("{budget} may be used")), "{told}");
        }
        assert!(parts(4, Need { shared: 101, pair: 0 }, 100).is_err());
    }

    #[test]
    fn a_tenth_of_the_memory_stays_free() {
        assert_eq!((usable(1000), usable(0), usable(u64::MAX)), (900, 0, u64::MAX - u64::MAX / 10));
    }

    #[test]
    fn pairs_without_memory_are_one_part() {
        assert_eq!(sizes(9, 5, 0, 5), [9]);
    }
}
