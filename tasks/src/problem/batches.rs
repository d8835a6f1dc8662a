//! Which examples a batch holds.

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};

use crate::data::position;

/// The examples, of `count`, in batch `number` of a split, where a batch has `batch_size`; the first `size` of them.
///
/// Test batches walk through the split in order, so that batches 0, 1, … cover it, and begin again at its end; the other
/// splits are drawn from the task's seed, with replacement.
pub(crate) fn indices(
    seed: Seed,
    split: Split,
    number: u64,
    count: usize,
    batch_size: usize,
    size: usize,
) -> Vec<usize> {
    if split == Split::Test {
        let start = u128::from(number) * batch_size as u128;
        return (0..size).map(|i| ((start + i as u128) % count as u128) as usize).collect();
    }
    let mut draws = Draws::new(seed.purpose(Purpose::Batch).fold_in(position(split)).fold_in(number));
    let count = u32::try_from(count).expect("readers bound the number of examples");
    (0..size).map(|_| draws.below(count) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_batches_cover_the_split_in_order() {
        let all: Vec<usize> = (0..7).flat_map(|number| indices(Seed::new(5), Split::Test, number, 40, 6, 6)).collect();
        assert!(all.iter().enumerate().all(|(i, &index)| index == i % 40));
        assert!(all.len() > 40);
    }

    #[test]
    fn other_splits_draw_from_the_seed_the_split_and_the_batch() {
        let of = |seed, split, number| indices(Seed::new(seed), split, number, 1000, 30, 30);
        let base = of(1, Split::InnerValid, 0);
        assert_eq!(base, of(1, Split::InnerValid, 0));
        for other in [of(2, Split::InnerValid, 0), of(1, Split::OuterValid, 0), of(1, Split::InnerValid, 1)] {
            assert_ne!(base, other);
        }
        assert_eq!(base[..7], indices(Seed::new(1), Split::InnerValid, 0, 1000, 30, 7));
    }
}
