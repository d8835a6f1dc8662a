//! The input groups of the per-parameter networks of HyperV2, Celo and Celo2, and which of them an ablation leaves.
//!
//! ```text
//!  group     0    1       2   3    4     5     6   7       8     9     10    11       12       13
//!            g │ clip g │ p │ m3 │ rms │ m·q3 │ q │ fac_g3 │ g·q │ row3 │ col3 │ 1/√row3 │ 1/√col3 │ fac_m3
//!  theta     w0__0  w0__1 …   the groups that are left, numbered one after the other
//! ```
//!
//! A group that is left out has no weights in theta, and its channels meet none in the network.

use super::channels::{CLIPPED, InputRows};
use super::{Error, Result};

/// Number of groups.
const GROUPS: usize = 14;

/// Channels of each group.
const WIDTHS: [usize; GROUPS] = [1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3];

/// The first group that exists only for tensors with factored second moments, in Celo2.
const FIRST_FACTORED: usize = 9;

/// The groups a network has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct InputGroups([bool; GROUPS]);

impl InputGroups {
    /// The groups that are true, in the order of the module's picture.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is none.
    pub(super) fn new(present: [bool; GROUPS]) -> Result<Self> {
        if present.contains(&true) {
            return Ok(Self(present));
        }
        Err(Error::setting("with_g", "some input of the per-parameter network must be left", false))
    }

    /// Number of channels of `w0__0`, `w0__1`, …
    pub(super) fn widths(self) -> impl Iterator<Item = usize> {
        WIDTHS.into_iter().zip(self.0).filter_map(|(width, present)| present.then_some(width))
    }

    /// Number of channels of all groups.
    pub(super) fn channels(self) -> usize {
        self.widths().sum()
    }

    /// Where each channel stands among the inputs.
    pub(super) fn rows(self) -> InputRows<CLIPPED> {
        self.rows_of(GROUPS)
    }

    /// Where each channel stands if rows and columns of second moments are no inputs, as in Celo2 below rank 2.
    pub(super) fn rows_without_factored(self) -> InputRows<CLIPPED> {
        self.rows_of(FIRST_FACTORED)
    }

    fn rows_of(self, groups: usize) -> InputRows<CLIPPED> {
        let mut first = [None; GROUPS];
        let mut next = 0;
        for group in (0..groups).filter(|&group| self.0[group]) {
            first[group] = Some(next);
            next += WIDTHS[group];
        }
        // The order of element channels is that of `channels`.
        let order = [0, 2, 3, 4, 5, 6, 7, 13, 1, 8];
        let mut element = [None; CLIPPED];
        let channels = order.into_iter().flat_map(|group| (0..WIDTHS[group]).map(move |a| (group, a)));
        for (row, (group, a)) in element.iter_mut().zip(channels) {
            *row = first[group].map(|first| first + a);
        }
        InputRows { element, row: first[9], col: first[10], rsqrt_row: first[11], rsqrt_col: first[12] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_stand_where_the_reference_has_them() {
        let rows = InputGroups::new([true; GROUPS]).unwrap().rows();
        let element = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 27, 28, 29, 1, 14].map(Some);
        assert_eq!(rows.element, element);
        assert_eq!((rows.row, rows.col, rows.rsqrt_row, rows.rsqrt_col), (Some(15), Some(18), Some(21), Some(24)));
    }

    #[test]
    fn whatever_is_left_uses_each_row_of_the_weights_once() {
        for left in 1..1 << GROUPS {
            let groups = InputGroups::new(std::array::from_fn(|group| left >> group & 1 == 1)).unwrap();
            assert_eq!(groups.rows().used(), (0..groups.channels()).collect::<Vec<_>>());
            let factored: usize = (FIRST_FACTORED..GROUPS).map(|group| WIDTHS[group] * (left >> group & 1)).sum();
            let vector = groups.rows_without_factored().used();
            assert_eq!(vector, (0..groups.channels() - factored).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_network_without_inputs_is_refused() {
        assert!(matches!(InputGroups::new([false; GROUPS]), Err(Error::Setting { .. })));
    }
}
