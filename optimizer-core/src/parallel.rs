//! Work on long slices, cut into grains that the threads of a rayon pool may share.
//!
//! ```text
//!  0       GRAIN     2 GRAIN                          results[0]  results[1]  results[2]
//!  ├─────────┼─────────┼────┤  ── work on each ──►        │           │           │       the caller folds them
//!  └─ thread 0 ─┘└ thread 1 ┘                             └───────────┴───────────┘       from left to right
//! ```
//!
//! How work is cut depends on its length alone, never on threads, so neither does a result. No thread is started here:
//! only who calls from inside a pool of several threads gets their help.

/// Values of a grain: enough to be worth a thread's attention.
pub(crate) const GRAIN: usize = 1 << 14;

/// Values below which the calling thread does everything: handing over would cost more.
const FEW: usize = 1 << 16;

/// Something that can be cut into what lies before and behind an element.
pub(crate) trait Split: Sized + Send {
    /// The first `middle` elements, and the others.
    fn split_at(self, middle: usize) -> (Self, Self);
}

/// Whether work on so many values is to be shared between threads.
pub(crate) fn is_shared(values: usize) -> bool {
    values > FEW && rayon::current_thread_index().is_some() && rayon::current_num_threads() > 1
}

/// Number of grains of so many values; at least one.
pub(crate) fn grains(values: usize) -> usize {
    values.div_ceil(GRAIN).max(1)
}

/// Calls `work` with each grain, the number of its first element and its result. There are as many results as grains.
pub(crate) fn by_grains<T: Split, R: Send>(
    part: T,
    results: &mut [R],
    shared: bool,
    work: &(impl Fn(T, usize, &mut R) + Sync),
) {
    halve(part, 0, results, shared, work);
}

fn halve<T: Split, R: Send>(
    part: T,
    start: usize,
    results: &mut [R],
    shared: bool,
    work: &(impl Fn(T, usize, &mut R) + Sync),
) {
    if let [result] = results {
        return work(part, start, result);
    }
    let middle = results.len() / 2;
    let (left, right) = part.split_at(middle * GRAIN);
    let (left_results, right_results) = results.split_at_mut(middle);
    let behind = start + middle * GRAIN;
    if shared {
        rayon::join(
            || halve(left, start, left_results, shared, work),
            || halve(right, behind, right_results, shared, work),
        );
    } else {
        halve(left, start, left_results, shared, work);
        halve(right, behind, right_results, shared, work);
    }
}

/// Calls `work` with each item, on several threads if `shared`.
pub(crate) fn for_each<T: Send>(items: Vec<T>, shared: bool, work: impl Fn(T) + Sync + Send) {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    if shared {
        items.into_par_iter().for_each(work);
    } else {
        items.into_iter().for_each(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Split for &mut [u64] {
        fn split_at(self, middle: usize) -> (Self, Self) {
            self.split_at_mut(middle)
        }
    }

    fn numbered(size: usize, shared: bool) -> (Vec<u64>, Vec<usize>) {
        let (mut values, mut lengths) = (vec![0; size], vec![0; grains(size)]);
        by_grains(&mut values[..], &mut lengths, shared, &|part: &mut [u64], start, length: &mut usize| {
            *length = part.len();
            for (i, value) in part.iter_mut().enumerate() {
                *value = (start + i) as u64;
            }
        });
        (values, lengths)
    }

    #[test]
    fn every_element_is_visited_once_and_knows_its_place() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for size in [0, 1, GRAIN - 1, GRAIN, GRAIN + 1, 5 * GRAIN + 7] {
            let (values, lengths) = numbered(size, false);
            assert_eq!(values, (0..size as u64).collect::<Vec<_>>());
            assert_eq!(lengths.iter().sum::<usize>(), size);
            assert!(lengths.iter().all(|&length| length <= GRAIN));
            assert_eq!(pool.install(|| numbered(size, true)), (values, lengths));
        }
    }

    #[test]
    fn only_pools_of_several_threads_share_and_only_long_work() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(!is_shared(1 << 30), "no pool");
        assert!(!pool(1).install(|| is_shared(1 << 30)));
        assert!(pool(2).install(|| is_shared(1 << 30) && !is_shared(1 << 10)));
    }
}
