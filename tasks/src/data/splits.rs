//! One value for each split.

use paceline_optimizer_core::task::Split;

/// A value for each of train, inner_valid, outer_valid and test, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Splits<T>(pub(crate) [T; 4]);

impl<T> Splits<T> {
    pub(crate) fn get(&self, split: Split) -> &T {
        &self.0[position(split) as usize]
    }
}

/// Place of a split in the order of [`Splits`]; also the word that separates the seeds of splits.
pub(crate) const fn position(split: Split) -> u64 {
    match split {
        Split::Train => 0,
        Split::InnerValid => 1,
        Split::OuterValid => 2,
        Split::Test => 3,
    }
}
