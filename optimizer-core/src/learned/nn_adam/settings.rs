//! Adam's settings as an LSTM moves them: a tenth of a logarithm.
//!
//! ```text
//!  lr   0.1 ln lr          decoded to [1e-8, 1e3]          β    0.1 ln(1 − β)    decoded to [0, 1 − e⁻¹⁰]
//!  ε    0.1 ln ε           decoded to [1e-11, 1e4]
//! ```

use crate::learned::float::{exact_exp, ln};

/// How one of Adam's settings is encoded: a tenth of a logarithm.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    /// `0.1 · ln x`, decoded to a value within bounds.
    Log { least: f32, most: f32 },
    /// `0.1 · ln(1 − x)`, decoded to a value between 0 and 1 − e⁻¹⁰.
    LogOneMinus,
}

/// The settings in the order of the LSTM's outputs: names in theta and in slots, and encodings.
pub(super) const SETTINGS: [(&str, Encoding); 4] = [
    ("per_layer_lr", Encoding::Log { least: 1e-8, most: 1e3 }),
    ("per_layer_beta1", Encoding::LogOneMinus),
    ("per_layer_beta2", Encoding::LogOneMinus),
    ("per_layer_epsilon", Encoding::Log { least: 1e-11, most: 1e4 }),
];

impl Encoding {
    /// From a setting.
    pub(super) fn encode(self, value: f32) -> f32 {
        match self {
            Self::Log { .. } => 0.1 * ln(value),
            Self::LogOneMinus => 0.1 * ln(1.0 - value),
        }
    }

    /// To a setting within its bounds.
    pub(super) fn decode(self, encoded: f32) -> f32 {
        match self {
            Self::Log { least, most } => exact_exp(10.0 * encoded).clamp(least, most),
            Self::LogOneMinus => 1.0 - exact_exp((10.0 * encoded).clamp(-10.0, 0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_the_reference() {
        let encoded = |setting: usize, value: f32| SETTINGS[setting].1.encode(value);
        for (got, expected) in [
            (encoded(0, 1e-4), -0.921_034),
            (encoded(1, 0.9), -0.230_258_5),
            (encoded(2, 0.999), -0.690_776_8),
            (encoded(3, 1e-8), -1.842_068_1),
        ] {
            assert!((got - expected).abs() <= 1.2e-7, "{got} instead of {expected}");
        }
    }

    #[test]
    fn decoded_settings_stay_within_their_bounds() {
        let decoded = |setting: usize, encoded: f32| SETTINGS[setting].1.decode(encoded);
        assert_eq!([decoded(0, 9.0), decoded(0, -9.0)], [1e3, 1e-8]);
        assert_eq!([decoded(3, 9.0), decoded(3, -9.0)], [1e4, 1e-11]);
        assert_eq!(decoded(1, 1.0), 0.0);
        assert!((decoded(2, -9.0) - (1.0 - (-10.0_f32).exp())).abs() < 1e-7);
        assert!(decoded(0, f32::NAN).is_nan() && decoded(1, f32::NAN).is_nan());
    }
}
