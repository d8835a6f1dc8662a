//! A series of any length in little memory.
//!
//! ```text
//!  full:   ● ● ● ● ● ● ● ●        each two neighbours become their mean,
//!  then:   ◐   ◐   ◐   ◐ ○        and from now on a point gathers twice as many values
//! ```

/// Most points kept: more than a terminal has columns to show them in.
const MOST: usize = 512;

/// Values over a growing coordinate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve {
    /// `(mean coordinate, mean value)`.
    points: Vec<(f64, f64)>,
    /// Values a point stands for.
    per_point: u32,
    /// The point that is being gathered: sums, and of how many.
    gathering: (f64, f64, u32),
}

impl Default for Curve {
    fn default() -> Self {
        Self { points: Vec::new(), per_point: 1, gathering: (0.0, 0.0, 0) }
    }
}

impl Curve {
    /// Adds a value. One that is not finite is left out: it has no place in a picture.
    pub(crate) fn push(&mut self, at: f64, value: f64) {
        if !value.is_finite() {
            return;
        }
        let (coordinates, values, count) = &mut self.gathering;
        (*coordinates, *values, *count) = (*coordinates + at, *values + value, *count + 1);
        if *count < self.per_point {
            return;
        }
        self.points.push((*coordinates / f64::from(*count), *values / f64::from(*count)));
        self.gathering = (0.0, 0.0, 0);
        if self.points.len() == MOST {
            self.points = self.points.chunks_exact(2).map(|two| mean(two[0], two[1])).collect();
            self.per_point *= 2;
        }
    }

    /// All points, in order.
    pub(crate) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// Least and largest value, widened so that they differ; `None` before the first point.
    pub(crate) fn range(&self) -> Option<[f64; 2]> {
        let values = || self.points.iter().map(|(_, value)| *value);
        let (least, most) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        let margin = if most > least { 0.0 } else { least.abs().max(1.0) * 0.1 };
        Some([least - margin, most + margin])
    }
}

fn mean(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_mean_and_its_ends_in_bounded_memory() {
        let mut curve = Curve::default();
        let count = 64 * MOST;
        (0..count).for_each(|at| curve.push(at as f64, (at % 7) as f64));
        let points = curve.points();
        assert!((MOST / 2..MOST).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|two| two[0].0 < two[1].0));
        let mean = points.iter().map(|(_, value)| value).sum::<f64>() / points.len() as f64;
        assert!((mean - 3.0).abs() < 0.05, "{mean}");
        assert!(points[0].0 < 200.0 && points[points.len() - 1].0 > count as f64 - 400.0);
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_a_flat_curve_has_a_range() {
        let mut curve = Curve::default();
        assert_eq!(curve.range(), None);
        curve.push(0.0, f64::NAN);
        curve.push(1.0, 2.0);
        assert_eq!(curve.points(), [(1.0, 2.0)]);
        assert_eq!(curve.range(), Some([1.8, 2.2]));
        curve.push(2.0, 5.0);
        assert_eq!(curve.range(), Some([2.0, 5.0]));
    }
}
