//! How test batches walk through a test split.
//!
//! ```text
//!  examples  0 ──────────── 63 │ 64 ─────────── 127 │ 128 ── 139 │      140 examples in batches of 64
//!  batch            0          │          1         │      2     │ 3 is 0 again
//! ```

use std::num::NonZero;

/// The test split of a family: batches 0, 1, … score its examples in order, each once, and begin again after the last,
/// which is short where the examples run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestSplit {
    examples: NonZero<usize>,
    batch: NonZero<usize>,
}

impl TestSplit {
    /// So many examples, in batches of so many; `None` if there are none of either.
    pub(crate) fn new(examples: usize, batch: usize) -> Option<Self> {
        Some(Self { examples: NonZero::new(examples)?, batch: NonZero::new(batch)? })
    }

    /// Number of examples.
    pub fn examples(self) -> usize {
        self.examples.get()
    }

    /// Number of batches that score each example once.
    pub fn batches(self) -> u64 {
        self.examples.get().div_ceil(self.batch.get()) as u64
    }

    /// Number of examples that batch `number` scores.
    pub fn size(self, number: u64) -> usize {
        let start = self.place(number) as usize * self.batch.get();
        self.batch.get().min(self.examples.get() - start)
    }

    /// Which of the first batches batch `number` is.
    pub(crate) fn place(self, number: u64) -> u64 {
        number % self.batches()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batches_of_a_walk_hold_every_example_once() {
        for (examples, batch, sizes) in [(140, 64, vec![64, 64, 12]), (128, 64, vec![64, 64]), (5, 64, vec![5])] {
            let split = TestSplit::new(examples, batch).unwrap();
            let walked: Vec<usize> = (0..split.batches()).map(|number| split.size(number)).collect();
            assert_eq!(walked, sizes);
            assert_eq!(walked.iter().sum::<usize>(), split.examples());
            assert_eq!(split.size(split.batches()), sizes[0], "the walk begins again");
        }
        assert_eq!((TestSplit::new(0, 3), TestSplit::new(3, 0)), (None, None));
    }
}
