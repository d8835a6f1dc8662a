//! Which pairs of a slot are best run together.
//!
//! ```text
//!  16 pairs, 2 threads      optimizer wants 1 pair:  16 groups      wants 8:  [0 … 7] [8 … 15]      wants 32:  the same
//! ```

use std::ops::Range;

use super::UnrollContext;
use crate::Result;
use crate::schedule::Window;

/// What the lanes of a group may take while they train: about half of a cache that a few cores share. What pairs save
/// together by reading shared weights once is little beside what larger models cost.
const GROUP_BYTES: f64 = 8e6;

impl UnrollContext<'_> {
    /// The groups of successive pairs in which `pairs` pairs of a slot are best run by `threads` threads, in order. They
    /// are nearly equally large, and as many for each thread.
    ///
    /// # Errors
    /// As [`super::full_es_pairs`] for the family.
    pub fn groups(&self, slot: u32, window: &Window, pairs: u32, threads: usize) -> Result<Vec<Range<u32>>> {
        if self.trainer.is_some() {
            // It takes them all, and one thread waits.
            return Ok(cut(pairs, pairs as usize, 1));
        }
        let family = self.family(&window.current, slot)?;
        let wanted = self.optimizer.pairs_together(self.estimator.noise, family.layout());
        // Of both lanes; NaN and nonsense give 0 or the largest number.
        let held = (GROUP_BYTES / (2.0 * family.cost().bytes)) as usize;
        Ok(cut(pairs, wanted.min(held), threads))
    }
}

/// Cuts `pairs` into nearly equal groups of at most `most`, their number a multiple of `threads` or one a pair.
fn cut(pairs: u32, most: usize, threads: usize) -> Vec<Range<u32>> {
    let pairs_long = pairs as usize;
    let groups = pairs_long.div_ceil(most.max(1)).next_multiple_of(threads.max(1)).min(pairs_long);
    let begin = |group: usize| (pairs_long * group / groups) as u32;
    (0..groups).map(|group| begin(group)..begin(group + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_equal_and_leave_no_thread_idle() {
        assert_eq!(cut(16, 8, 2), [0..8, 8..16]);
        assert_eq!(cut(16, 32, 2), [0..8, 8..16]);
        assert_eq!(cut(16, 3, 2), [0..2, 2..5, 5..8, 8..10, 10..13, 13..16]);
        assert_eq!(cut(5, 8, 2), [0..2, 2..5]);
        assert_eq!(cut(3, 8, 4), [0..1, 1..2, 2..3]);
        assert_eq!(cut(4, 0, 0), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(cut(0, 8, 2), [0..0; 0]);
        for (pairs, most, threads) in [(1, 1, 1), (7, 2, 3), (64, 8, 6), (33, 5, 4)] {
            let groups = cut(pairs, most, threads);
            assert!(groups.len().is_multiple_of(threads) || groups.len() == pairs as usize);
            assert!(groups.iter().all(|group| !group.is_empty() && group.len() <= most));
            assert_eq!(groups.iter().map(ExactSizeIterator::len).sum::<usize>(), pairs as usize);
        }
    }
}
