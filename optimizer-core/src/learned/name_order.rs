//! Sums and averages over the tensors of a model that do not depend on the order of its layout.
//!
//! A sum of floats depends on its order, so it is taken in an order that is the model's and not the layout's: that of the
//! tensors' names.

use crate::params::Layout;

/// Indices of a layout's tensors, sorted by name.
#[derive(Clone, Debug)]
pub(crate) struct NameOrder(Vec<usize>);

impl NameOrder {
    /// The order of this layout's tensors.
    pub(crate) fn of(layout: &Layout) -> Self {
        let mut order: Vec<usize> = (0..layout.len()).collect();
        order.sort_by_key(|&index| layout.tensors()[index].name());
        Self(order)
    }

    /// Number of tensors.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The mean over tensors of a value that each index has: summed in f64, rounded once.
    pub(super) fn mean(&self, value: impl Fn(usize) -> f32) -> f32 {
        (self.sum(|index| value(index).into()) / self.len() as f64) as f32
    }

    /// The sum over tensors of a value that each index has.
    pub(crate) fn sum(&self, value: impl Fn(usize) -> f64) -> f64 {
        self.0.iter().map(|&index| value(index)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::TensorSpec;

    #[test]
    fn the_mean_is_that_of_the_names_whatever_the_layout_says() {
        // In this order 1 is lost beside 1e30; in others it is not.
        let values = [("a", 1e30_f32), ("b", 1.0), ("c", -1e30), ("d", 4.0)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3], [1, 3, 0, 2]] {
            let tensors = order.map(|index: usize| values[index]);
            let layout = Layout::new(tensors.iter().map(|(name, _)| TensorSpec::new(*name, [2])).collect()).unwrap();
            assert_eq!(NameOrder::of(&layout).mean(|index| tensors[index].1), 1.0, "{order:?}");
        }
    }
}
