//! Euclidean norms of one tensor and of all, summed in f64 so that a lane's order of summation is its own.

use crate::learned::name_order::NameOrder;
use crate::params::Params;

/// `Σ x²`.
pub(super) fn square(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// `√Σ x²` of one tensor.
pub(super) fn norm(values: &[f32]) -> f32 {
    square(values).sqrt() as f32
}

/// `√(Σ x² / n)` of one tensor, 0 for an empty one.
pub(super) fn root_mean_square(values: &[f32]) -> f32 {
    (square(values) / values.len().max(1) as f64).sqrt() as f32
}

/// `Σ x²` over all tensors of one lane, added up in order of their names: the order of a layout does not matter.
pub(super) fn global_square(params: &Params, lane: usize) -> f64 {
    NameOrder::of(params.layout()).sum(|index| square(params.lane(index, lane)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, TensorSpec};

    #[test]
    fn norms_by_hand() {
        assert_eq!((norm(&[3.0, -4.0]), norm(&[])), (5.0, 0.0));
        assert_eq!((root_mean_square(&[1.0, 7.0]), root_mean_square(&[])), (5.0, 0.0));
        assert!(norm(&[1.0, f32::NAN]).is_nan());
        assert_eq!(norm(&[1e30, 0.0]), 1e30, "squares do not overflow");
    }

    #[test]
    fn a_global_norm_does_not_depend_on_the_order_of_tensors() {
        let sum = |names: [&str; 3]| {
            let layout = Layout::new(names.map(|name| TensorSpec::new(name, [1])).to_vec()).unwrap();
            let value = |name: &str| if name == "b" { 1.0 } else { 1e-8 };
            let tensors = names.map(|name| vec![9.0, value(name)]).to_vec();
            global_square(&Params::from_tensors(&layout, 2, tensors).unwrap(), 1)
        };
        let expected = sum(["a", "b", "c"]);
        for names in [["b", "a", "c"], ["c", "a", "b"], ["c", "b", "a"]] {
            assert_eq!(sum(names), expected);
        }
    }
}
