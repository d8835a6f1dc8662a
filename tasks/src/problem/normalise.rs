//! From a loss in its own units to the range in which tasks are mixed.
//!
//! ```text
//!  cross-entropy of 10 classes     0 ──── ln 2 ──────── ln 10 ── ln 20 ─── 15 …
//!  parametric                   −3.0      0.0            7.0      10.0    10.0
//!  parametric_deep               0.0      2.3            7.7      10.0    10.0
//!  fixed_cross_entropy           0.0      0.7            2.3       3.0     3.45
//! ```
//!
//! The rules are those of the JAX reference, each named after the families that it uses it for (`tasks/parametric/*.py`,
//! `tasks/fixed/*.py`, google/learned_optimization @ 32186aa4). Two are not taken over, since a mixture of tasks needs a
//! finite number whatever happened: its fixed convolutions and auto-encoders let NaN pass, and its fixed ResNets and
//! language models have no rule at all. Here they have the rule of the other fixed tasks of their loss, and what is not
//! finite is the ceiling.

use serde::{Deserialize, Serialize};

/// A rule; `C` is the number of classes or the size of the vocabulary. All are monotone and finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Normaliser {
    /// `(clip(l, 0, ln 2C) − ln(C/5)) · 10 / ln C`: parametric multilayer perceptrons, convolutions, language models.
    Parametric,
    /// `clip(10 l / ln 2C, 0, 10)`: parametric ResNets and vision transformers, fixed MLP-Mixers.
    ParametricDeep,
    /// `clip(l, −12, 1) / 2 + 10`, of the logarithm of a mean squared error: parametric auto-encoders.
    ParametricAutoEncoder,
    /// `clip(l, 0, 10)`, of a negative evidence bound per dimension: parametric variational auto-encoders.
    ParametricVae,
    /// `clip(l, 0, 3/2 ln C)`: fixed tasks with a cross-entropy.
    FixedCrossEntropy,
    /// `10 clip(l, 0, 1)`: fixed classifiers with a mean squared error.
    FixedMse,
    /// `clip(l, 0, 1)`: fixed auto-encoders.
    FixedAutoEncoder,
}

impl Normaliser {
    /// The normalised loss, with `classes` (at least 2 count) for the rules that ask for them.
    pub(crate) fn apply(self, loss: f64, classes: usize) -> f64 {
        let classes = classes.max(2) as f64;
        let double = (2.0 * classes).ln();
        let clip = |low: f64, high: f64| if loss.is_finite() { loss.clamp(low, high) } else { high };
        match self {
            Self::Parametric => (clip(0.0, double) - (classes / 5.0).ln()) * 10.0 / classes.ln(),
            Self::ParametricDeep => clip(0.0, double) * 10.0 / double,
            Self::ParametricAutoEncoder => clip(-12.0, 1.0) * 0.5 + 10.0,
            Self::ParametricVae => clip(0.0, 10.0),
            Self::FixedCrossEntropy => clip(0.0, 1.5 * classes.ln()),
            Self::FixedMse => 10.0 * clip(0.0, 1.0),
            Self::FixedAutoEncoder => clip(0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Normaliser, &str); 7] = [
        (Normaliser::Parametric, "parametric"),
        (Normaliser::ParametricDeep, "parametric_deep"),
        (Normaliser::ParametricAutoEncoder, "parametric_auto_encoder"),
        (Normaliser::ParametricVae, "parametric_vae"),
        (Normaliser::FixedCrossEntropy, "fixed_cross_entropy"),
        (Normaliser::FixedMse, "fixed_mse"),
        (Normaliser::FixedAutoEncoder, "fixed_auto_encoder"),
    ];

    #[test]
    fn values_are_those_of_the_reference() {
        // Rule, classes, loss, its value to 4 digits, worked out by hand.
        let cases = [
            (Normaliser::Parametric, 10, -1.0, -3.0103),
            (Normaliser::Parametric, 10, 2.0_f64.ln(), 0.0),
            (Normaliser::Parametric, 10, 10.0_f64.ln(), 6.9897),
            (Normaliser::Parametric, 10, 99.0, 10.0),
            (Normaliser::Parametric, 1000, 0.0, -7.6701),
            (Normaliser::Parametric, 1000, 99.0, 3.3333),
            (Normaliser::ParametricDeep, 10, -1.0, 0.0),
            (Normaliser::ParametricDeep, 10, 10.0_f64.ln(), 7.6862),
            (Normaliser::ParametricDeep, 10, 99.0, 10.0),
            (Normaliser::ParametricDeep, 100, 2.0, 3.7748),
            (Normaliser::ParametricAutoEncoder, 10, -20.0, 4.0),
            (Normaliser::ParametricAutoEncoder, 10, -3.0, 8.5),
            (Normaliser::ParametricAutoEncoder, 10, 2.0, 10.5),
            (Normaliser::ParametricVae, 10, -1.0, 0.0),
            (Normaliser::ParametricVae, 10, 4.5, 4.5),
            (Normaliser::ParametricVae, 10, 11.0, 10.0),
            (Normaliser::FixedCrossEntropy, 10, -1.0, 0.0),
            (Normaliser::FixedCrossEntropy, 10, 2.0, 2.0),
            (Normaliser::FixedCrossEntropy, 10, 99.0, 3.4539),
            (Normaliser::FixedMse, 10, 0.09, 0.9),
            (Normaliser::FixedMse, 10, 3.0, 10.0),
            (Normaliser::FixedAutoEncoder, 10, 0.3, 0.3),
            (Normaliser::FixedAutoEncoder, 10, 3.0, 1.0),
        ];
        for (rule, classes, loss, expected) in cases {
            let got = rule.apply(loss, classes);
            assert!((got - expected).abs() < 5e-5, "{rule:?} of {loss} with {classes} classes: {got}");
        }
    }

    #[test]
    fn all_are_monotone_finite_and_send_what_is_not_finite_to_the_ceiling() {
        for (rule, _) in ALL {
            for classes in [0, 1, 2, 5, 10, 10_000] {
                let ceiling = rule.apply(f64::MAX, classes);
                let losses = [f64::MIN, -13.0, -12.0, -1.0, 0.0, 0.1, 0.9, 2.0, 5.0, 11.0, 1e30, f64::MAX];
                let values = losses.map(|loss| rule.apply(loss, classes));
                assert!(values.iter().all(|value| value.is_finite()), "{rule:?}: {values:?}");
                assert!(values.is_sorted() && values[0] < ceiling, "{rule:?}: {values:?}");
                for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    assert_eq!(rule.apply(loss, classes), ceiling, "{rule:?}: {loss}");
                }
            }
        }
    }

    #[test]
    fn settings_are_words() {
        for (rule, word) in ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), word);
            assert_eq!(serde_json::from_value::<Normaliser>(word.into()).unwrap(), rule);
        }
        assert!(serde_json::from_str::<Normaliser>("\"identity\"").is_err());
    }
}
