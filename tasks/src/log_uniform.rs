//! Log-uniform numbers with the same bits on every host.

/// `low · (high / low)^u` for `u` in `[0, 1)`, given as a fraction of 2³².
///
/// The power is a product of square roots: `exp` and `ln` differ in their last bits between math libraries, `sqrt` and `·`
/// do not.
#[derive(Clone, Debug)]
pub(crate) struct LogUniform {
    low: f64,
    high: f64,
    /// `(high / low)` to the powers ½, ¼, ⅛, …
    roots: [f64; 32],
}

impl LogUniform {
    /// Between these bounds, both above 0.
    pub(crate) fn new(low: f64, high: f64) -> Self {
        let mut ratio = high / low;
        let roots = std::array::from_fn(|_| {
            ratio = ratio.sqrt();
            ratio
        });
        Self { low, high, roots }
    }

    /// The value at `word / 2³²` of the range.
    pub(crate) fn at(&self, word: u32) -> f64 {
        let chosen = self.roots.iter().enumerate().filter(|(bit, _)| word >> (31 - bit) & 1 == 1);
        // Rounding must not leave the bounds.
        chosen.fold(self.low, |product, (_, root)| product * root).clamp(self.low, self.high)
    }

    /// The value at this share of the range, in `[0, 1)`.
    pub(crate) fn at_share(&self, share: f64) -> f64 {
        self.at((share * 2_f64.powi(32)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_uniform() {
        let law = LogUniform::new(1e-3, 1e3);
        assert_eq!(law.at(0), 1e-3);
        for share in [0.0, 0.1, 0.5, 0.75, 0.999] {
            let expected = -3.0 + 6.0 * share;
            assert!((law.at_share(share).log10() - expected).abs() < 1e-8, "{share}");
        }
        assert!(law.at(u32::MAX) <= 1e3 && law.at(u32::MAX) > 0.999_999 * 1e3);
        assert_eq!(LogUniform::new(2.0, 2.0).at(12345), 2.0);
    }
}
