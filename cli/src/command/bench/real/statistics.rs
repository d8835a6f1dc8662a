//! What seeds say about a difference.

/// The mean of the differences of two experiments, seed by seed.
///
/// Equal seeds have equal batches, so pairs differ by less than strangers would. The interval is Student's: it covers the
/// true mean over all seeds in 95 of 100 cases, on this one test split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) mean: f64,
    /// Half of the interval's width; `None` from one seed.
    pub(super) half_width: Option<f64>,
}

impl Difference {
    /// Of `ours` over `theirs`, seed by seed; `None` without pairs.
    pub(super) fn paired(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let differences: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let freedom = differences.len().checked_sub(1)?;
        let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
        let error = (squares / freedom as f64 / count).sqrt();
        Some(Self { mean, half_width: (freedom > 0).then(|| student(freedom) * error) })
    }

    /// Whether the interval excludes no difference.
    pub(super) fn is_told(self) -> bool {
        self.half_width.is_some_and(|half| self.mean.abs() > half)
    }
}

/// The two-sided 95 % point of Student's distribution of so many degrees of freedom, to 1e-3.
fn student(freedom: usize) -> f64 {
    const EXACT: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    match freedom.checked_sub(1).and_then(|index| EXACT.get(index)) {
        Some(exact) => *exact,
        // Abramowitz and Stegun, 26.7.5, two terms.
        None => {
            let (z, n) = (1.959_964_f64, freedom as f64);
            z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paired_difference_is_the_textbooks() {
        // Differences 1, 2, 3: mean 2, deviation 1, and 4.303 / √3 to each side.
        let told = Difference::paired(&[11.0, 22.0, 33.0], &[10.0, 20.0, 30.0]).expect("three pairs");
        assert_eq!(told.mean, 2.0);
        assert!((told.half_width.expect("an interval") - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert!(!told.is_told());
        let sure = Difference::paired(&[2.0, 2.1, 1.9], &[0.0; 3]).expect("three pairs");
        assert!(sure.is_told());
    }

    #[test]
    fn one_seed_has_no_interval_and_none_no_difference() {
        let one = Difference::paired(&[3.0], &[1.0]).expect("a pair");
        assert_eq!(one, Difference { mean: 2.0, half_width: None });
        assert!(!one.is_told());
        assert_eq!(Difference::paired(&[], &[]), None);
    }

    #[test]
    fn the_points_fall_towards_the_normals() {
        let points: Vec<f64> = (1..200).map(student).collect();
        assert!(points.windows(2).all(|pair| pair[0] > pair[1]), "{points:?}");
        // From the tables: 2.0003 at 60, 1.9799 at 120.
        assert!((student(60) - 2.0003).abs() < 1e-3 && (student(120) - 1.9799).abs() < 1e-3);
    }
}
