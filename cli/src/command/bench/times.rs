//! Times of one thing, measured again and again.

/// Seconds of some repeats, one at least.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<f64>);

impl Times {
    /// Adds a repeat.
    pub(super) fn push(&mut self, seconds: f64) {
        self.0.insert(self.0.partition_point(|earlier| *earlier < seconds), seconds);
    }

    /// The shortest: other work on the machine only ever adds.
    pub(super) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The middle one, the later of two.
    pub(super) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_and_the_middle() {
        let mut times = Times::default();
        [3.0, 1.0, 2.0, 5.0].into_iter().for_each(|seconds| times.push(seconds));
        assert_eq!((times.min(), times.median()), (1.0, 3.0));
    }
}
