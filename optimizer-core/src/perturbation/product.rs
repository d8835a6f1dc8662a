//! Sums of outer products, by the `gemm` crate, with the same bits on every host and for any number of threads.
//!
//! A matrix product may differ in its last bits between processors in two ways. Long sums may be cut where the caches
//! say; so they are cut here, at [`INNER`]. And a processor with fused multiply-add rounds once where another rounds
//! twice; so operands are given that make every single product exact in f64 (29 bits times 24), and then both do the same.
//! Within a cut every entry is summed by itself, in order.

use std::ops::Range;

/// Longest inner size given to `gemm` at once; up to 512 it never cuts by itself.
pub(super) const INNER: usize = 512;

/// Shortest inner size: below it `gemm` adds the products to the output one by one, instead of their sum.
pub(super) const SHORTEST: usize = 3;

/// The nearest number of 29 significant bits, halves away from zero: its product with any f32 is exact in f64, unless it
/// leaves the range of f64. The relative error is at most 2⁻²⁹.
pub(super) fn to_29_bits(x: f64) -> f64 {
    const DROPPED: u32 = f64::MANTISSA_DIGITS - 29;
    let half = 1 << (DROPPED - 1);
    let mask = !((1 << DROPPED) - 1);
    if x.is_finite() { f64::from_bits((x.to_bits() + half) & mask) } else { x }
}

/// Adds `Σ_k left[k, i] · right[k, j]` to `sum[i − rows.start, j]` for `rows` of the first matrix: `left` is `[inner, m]`,
/// `right` `[inner, n]`, `sum` `[rows, n]`, all row-major.
///
/// The sums over k are taken in order, in runs of 512, each added to `sum` as a whole. They do not depend on `rows`, and
/// where all products are exact they are the same bits on every host.
///
/// # Panics
/// If the sizes do not fit, `inner` is below 3, or there are fewer than two rows or columns: those would be summed in
/// another order.
pub fn add_outer_products(left: &[f64], right: &[f64], inner: usize, rows: Range<usize>, sum: &mut [f64]) {
    assert!(inner >= SHORTEST, "pad with zeros to {SHORTEST} products, there are {inner}");
    let (m, n) = (left.len() / inner, right.len() / inner);
    assert!(left.len() == inner * m && right.len() == inner * n, "factors must have {inner} rows");
    assert!(rows.end <= m && rows.len() > 1 && n > 1, "a block of at least two rows and columns of {m} by {n}");
    assert_eq!(sum.len(), rows.len() * n, "the sum must have {} rows of {n}", rows.len());
    // Equal runs, so that the last one is not too short.
    let runs = inner.div_ceil(INNER);
    for run in 0..runs {
        let (first, end) = (run * inner / runs, (run + 1) * inner / runs);
        let (left, right) = (&left[first * m + rows.start..], &right[first * n..]);
        #[expect(unsafe_code, reason = "gemm takes raw pointers; the asserts above bound every access")]
        // SAFETY: `left` has the entries `k·m + i` for k < end − first and i < rows.len(), because rows.end ≤ m; `right`
        // has `k·n + j`; `sum` has `i·n + j` and, being borrowed mutably, does not alias.
        unsafe {
            gemm::gemm(
                rows.len(),
                n,
                end - first,
                sum.as_mut_ptr(),
                1,
                n as isize,
                true,
                left.as_ptr(),
                m as isize,
                1,
                right.as_ptr(),
                1,
                n as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::noise::Draws;

    #[test]
    fn twenty_nine_bits_are_the_nearest_ones() {
        for x in [1.0, -1.0, 0.1, 1e-300, -1e300, 0.0, 123_456_789.123_456_79, f64::from(f32::MAX)] {
            let rounded = to_29_bits(x);
            assert!((rounded - x).abs() <= x.abs() * 2f64.powi(-29), "{x}");
            assert_eq!(rounded.to_bits() & ((1 << 24) - 1), 0);
            let product = rounded * f64::from(0.1_f32);
            assert_eq!(rounded.mul_add(f64::from(0.1_f32), -product), 0.0, "{x}: the product is exact");
        }
        // The mantissa may carry into the exponent.
        assert_eq!(to_29_bits(1.0 - f64::EPSILON), 1.0);
        assert!(to_29_bits(f64::INFINITY).is_infinite() && to_29_bits(f64::NAN).is_nan());
    }

    /// The definition, without any fused instruction.
    fn three_loops(left: &[f64], right: &[f64], inner: usize, rows: Range<usize>, sum: &mut [f64]) {
        let (m, n) = (left.len() / inner, right.len() / inner);
        let runs = inner.div_ceil(INNER);
        for run in 0..runs {
            for (row, i) in rows.clone().enumerate() {
                for j in 0..n {
                    let mut entry = 0.0;
                    for k in run * inner / runs..(run + 1) * inner / runs {
                        entry += left[k * m + i] * right[k * n + j];
                    }
                    sum[row * n + j] += entry;
                }
            }
        }
    }

    #[test]
    fn blocks_of_rows_are_the_bits_of_three_plain_loops() {
        let mut draws = Draws::new(Seed::new(3));
        for (m, n, inner) in
            [(2, 3, 3), (5, 2, 4), (17, 9, 7), (64, 64, 512), (65, 31, 513), (40, 130, 1030), (3, 200, 5), (300, 3, 64)]
        {
            let left: Vec<f64> = (0..inner * m).map(|_| to_29_bits(draws.uniform() - 0.5)).collect();
            let right: Vec<f64> = (0..inner * n).map(|_| f64::from(draws.normal())).collect();
            let start: Vec<f64> = (0..m * n).map(|_| draws.uniform()).collect();
            let (mut whole, mut plain) = (start.clone(), start.clone());
            add_outer_products(&left, &right, inner, 0..m, &mut whole);
            three_loops(&left, &right, inner, 0..m, &mut plain);
            assert_eq!(whole, plain, "{m}×{n}, {inner} products");
            let mut parts = start;
            // No block of a single row.
            let cut = if m < 4 { m } else { m / 2 };
            for rows in [0..cut, cut..m].into_iter().filter(|rows| !rows.is_empty()) {
                add_outer_products(&left, &right, inner, rows.clone(), &mut parts[rows.start * n..rows.end * n]);
            }
            assert_eq!(parts, whole, "{m}×{n}, {inner} products, in blocks");
        }
    }
}
