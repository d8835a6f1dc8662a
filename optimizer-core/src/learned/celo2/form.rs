//! How directions move parameters, and which tensors something else moves.

use regex::Regex;

use crate::optimizer::{AdamRule, Decay, Moment, Schedule};
use crate::params::TensorSpec;
use crate::{Error, Result};

/// A form of Celo2, its settings checked.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// The learned rule moves all tensors.
    Base {
        /// The step size η.
        rate: f32,
        /// Decay, times the step size.
        decay: f32,
    },
    /// Adam* moves the tensors whose name matches.
    Meta {
        /// The step size η.
        rate: f32,
        /// Decay, times the step size.
        decay: f32,
        /// What moves the tensors that match.
        adam: AdamStar,
        /// Which those are.
        pattern: Pattern,
    },
    /// AdamW, if there is one, moves vectors, scalars and embeddings.
    Shipped {
        /// The learning rate.
        rate: Schedule,
        /// Decay, times the learning rate.
        decay: f32,
        /// What moves vectors, scalars and embeddings.
        adam: Option<AdamW>,
    },
}

/// Adam without bias correction and with its epsilon inside the root.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdamStar {
    /// Its own step size.
    pub(super) rate: f32,
    /// First moment.
    pub(super) beta1: Decay,
    /// Second moment.
    pub(super) beta2: Decay,
    /// Added inside the root.
    pub(super) eps: f32,
    /// Correct the bias after all.
    pub(super) bias_correction: bool,
}

/// optax's AdamW.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdamW {
    /// Its learning rate over that of the learned rule.
    pub(super) mult: f32,
    /// First moment.
    pub(super) beta1: Decay,
    /// Second moment.
    pub(super) beta2: Decay,
    /// Added to the root.
    pub(super) eps: f32,
}

/// Names that match a regular expression somewhere; an empty one matches none.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Option<Regex>);

impl Pattern {
    /// From the text of the setting `field`.
    ///
    /// # Errors
    /// [`Error::Setting`] with the reason if it is no regular expression.
    pub(super) fn new(field: &str, text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let invalid =
            |error: regex::Error| Error::setting(field, format!("must be a regular expression: {error}"), text);
        Ok(Self(Some(Regex::new(text).map_err(invalid)?)))
    }

    fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(name))
    }
}

/// The moments of a tensor that an Adam moves.
#[derive(Debug)]
pub(super) struct AdamMoments<'a> {
    /// First.
    pub(super) m: &'a mut [f32],
    /// Second.
    pub(super) v: &'a mut [f32],
}

impl Form {
    /// Whether the learned rule moves a tensor, rather than an Adam.
    pub(super) fn is_learned(&self, tensor: &TensorSpec) -> bool {
        match self {
            Self::Base { .. } | Self::Shipped { adam: None, .. } => true,
            Self::Meta { pattern, .. } => !pattern.matches(tensor.name()),
            Self::Shipped { adam: Some(_), .. } => tensor.shape().len() > 1 && !tensor.name().contains("embed"),
        }
    }

    /// The step size now, where there is one for all tensors: Adam* has its own.
    pub(super) fn rate(&self, now: Moment) -> Option<f64> {
        match self {
            Self::Base { rate, .. } => Some(f64::from(*rate)),
            Self::Meta { .. } => None,
            Self::Shipped { rate, .. } => Some(rate.value(now.step.into(), now.horizon.into())),
        }
    }

    /// The same form with a constant step size, where there is one for all tensors.
    pub(super) fn with_rate(&self, rate: f64) -> Option<Self> {
        match self {
            Self::Base { decay, .. } => Some(Self::Base { rate: rate as f32, decay: *decay }),
            Self::Meta { .. } => None,
            Self::Shipped { decay, adam, .. } => Some(Self::Shipped { rate: rate.into(), decay: *decay, adam: *adam }),
        }
    }

    /// Moves parameters in a direction.
    pub(super) fn follow(&self, p: &mut [f32], direction: &[f32], now: Moment) {
        match *self {
            Self::Base { rate, decay } | Self::Meta { rate, decay, .. } => {
                p.iter_mut().zip(direction).for_each(|(p, s)| *p = moved(*p, *s, rate, decay));
            }
            Self::Shipped { ref rate, decay, .. } => {
                let rate = now.of(rate);
                p.iter_mut().zip(direction).for_each(|(p, s)| *p -= rate * (s + decay * *p));
            }
        }
    }

    /// Updates a tensor that the learned rule does not move, from its gradient as it is.
    pub(super) fn update_by_adam(&self, p: &mut [f32], g: &[f32], moments: AdamMoments<'_>, now: Moment) {
        let (count, AdamMoments { m, v }) = (now.count(), moments);
        match *self {
            Self::Meta { ref adam, decay, .. } => adam.update(count, p, g, AdamMoments { m, v }, decay),
            Self::Shipped { ref rate, decay, adam: Some(AdamW { mult, beta1, beta2, eps }) } => {
                let learning_rate = mult * now.of(rate);
                let rule = AdamRule { learning_rate, beta1, beta2, eps, eps_root: 0.0, weight_decay: decay };
                rule.update_tensor(count, p, g, m, v);
            }
            Self::Base { .. } | Self::Shipped { adam: None, .. } => unreachable!("the learned rule moves all tensors"),
        }
    }
}

/// `p − η s − λ p η`.
fn moved(p: f32, s: f32, rate: f32, decay: f32) -> f32 {
    p - rate * s - decay * p * rate
}

impl AdamStar {
    fn update(&self, count: u32, p: &mut [f32], g: &[f32], moments: AdamMoments<'_>, decay: f32) {
        let collected = |beta: Decay| if self.bias_correction { beta.collected(count) } else { 1.0 };
        let (collected1, collected2) = (collected(self.beta1), collected(self.beta2));
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(moments.m).zip(moments.v) {
            *m = self.beta1.keep * *m + self.beta1.take * g;
            *v = self.beta2.keep * *v + self.beta2.take * (g * g);
            let s = (*m / collected1) / (*v / collected2 + self.eps).sqrt();
            *p = moved(*p, s, self.rate, decay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_searched_anywhere_and_invalid_ones_refused() {
        let matches = |pattern: &str, name: &str| Pattern::new("regex_1d", pattern).unwrap().matches(name);
        assert!(matches("/b$", "mlp/~/linear_0/b") && !matches("/b$", "mlp/~/linear_0/bias"));
        assert!(matches(".*bias.*|.*embed.*", "token_embedding") && !matches(".*bias.*|.*embed.*", "mlp/w"));
        assert!(!matches("", "anything"), "an empty pattern names no tensor");
        let error = Pattern::new("regex_1d", "(").unwrap_err();
        assert!(matches!(&error, Error::Setting { field, .. } if field == "regex_1d"), "{error}");
        assert!(error.to_string().contains("unclosed group"), "{error}");
    }
}
