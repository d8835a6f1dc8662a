//! The outer loop's settings, as in a recipe.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Most slots of an outer step, and most pairs of a slot: bounds on what one step holds in memory.
const MOST: u32 = 4096;

/// The outer loop's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterConfig {
    /// Outer steps until the run is complete.
    pub steps: u64,
    /// Slots in an outer step; one lease fills one.
    pub slots: u32,
    /// Antithetic pairs in a slot.
    pub pairs_per_slot: u32,
    /// How theta moves.
    pub optimizer: ThetaOptimizer,
    /// Per-element bound on the meta-gradient.
    #[serde(default)]
    pub clip: Option<f64>,
    /// Bound on the Euclidean norm of the meta-gradient, after the per-element one.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Outer steps folded into one update of theta.
    #[serde(default = "one")]
    pub accumulation: u32,
    /// How results travel.
    #[serde(default)]
    pub report: Report,
}

fn one() -> u32 {
    1
}

/// Adam over theta (Kingma, Ba, arXiv 1412.6980), with decoupled decay when `weight_decay` is positive (AdamW,
/// arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThetaOptimizer {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// Added inside the root; 1e-8 in the reference.
    pub eps_root: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
}

impl Default for ThetaOptimizer {
    fn default() -> Self {
        Self { learning_rate: 3e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, eps_root: 1e-8, weight_decay: 0.0 }
    }
}

/// How a slot's result travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Whichever is cheaper for the coordinator, see [`super::ResultForm`].
    #[default]
    Auto,
    /// Four numbers a pair; the coordinator rebuilds the perturbations.
    SeedCoded,
    /// One vector as long as theta, already summed by the worker.
    Dense,
}

impl OuterConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the setting as in a recipe.
    pub fn validate(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::setting("outer.steps", "must be at least 1", self.steps));
        }
        for (field, value) in [("outer.slots", self.slots), ("outer.pairs_per_slot", self.pairs_per_slot)] {
            if !(1..=MOST).contains(&value) {
                return Err(Error::setting(field, format!("must be 1 to {MOST}"), value));
            }
        }
        if self.accumulation == 0 {
            return Err(Error::setting("outer.accumulation", "must be at least 1", self.accumulation));
        }
        for (field, value) in [("outer.clip", self.clip), ("outer.clip_norm", self.clip_norm)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::setting(field, "must be finite and positive, or absent", value));
            }
        }
        self.optimizer.validate()
    }
}

impl ThetaOptimizer {
    fn validate(&self) -> Result<()> {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            let reason = "must be finite and positive";
            return Err(Error::setting("outer.optimizer.learning_rate", reason, self.learning_rate));
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                let field = format!("outer.optimizer.{name}");
                return Err(Error::setting(field, "must be at least 0 and below 1", value));
            }
        }
        for (name, value) in [("eps", self.eps), ("eps_root", self.eps_root), ("weight_decay", self.weight_decay)] {
            if !(value.is_finite() && value >= 0.0) {
                let field = format!("outer.optimizer.{name}");
                return Err(Error::setting(field, "must be finite and not negative", value));
            }
        }
        if self.eps == 0.0 && self.eps_root == 0.0 {
            let reason = "must be positive where eps_root is 0: a gradient of 0 would divide 0 by 0";
            return Err(Error::setting("outer.optimizer.eps", reason, self.eps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: OuterConfig = OuterConfig {
        steps: 1,
        slots: 1,
        pairs_per_slot: 1,
        optimizer: ThetaOptimizer {
            learning_rate: 1e-3,
            beta1: 0.0,
            beta2: 0.0,
            eps: 1e-8,
            eps_root: 0.0,
            weight_decay: 0.0,
        },
        clip: Some(3.0),
        clip_norm: None,
        accumulation: 1,
        report: Report::Auto,
    };

    #[test]
    fn settings_out_of_range_are_named() {
        GOOD.validate().unwrap();
        let optimizer = GOOD.optimizer;
        let with = |optimizer| OuterConfig { optimizer, ..GOOD };
        for (config, expected) in [
            (OuterConfig { steps: 0, ..GOOD }, "outer.steps"),
            (OuterConfig { slots: 0, ..GOOD }, "outer.slots"),
            (OuterConfig { slots: 4097, ..GOOD }, "outer.slots"),
            (OuterConfig { pairs_per_slot: 0, ..GOOD }, "outer.pairs_per_slot"),
            (OuterConfig { accumulation: 0, ..GOOD }, "outer.accumulation"),
            (OuterConfig { clip: Some(0.0), ..GOOD }, "outer.clip"),
            (OuterConfig { clip_norm: Some(f64::NAN), ..GOOD }, "outer.clip_norm"),
            (with(ThetaOptimizer { learning_rate: 0.0, ..optimizer }), "outer.optimizer.learning_rate"),
            (with(ThetaOptimizer { beta1: 1.0, ..optimizer }), "outer.optimizer.beta1"),
            (with(ThetaOptimizer { beta2: f64::NAN, ..optimizer }), "outer.optimizer.beta2"),
            (with(ThetaOptimizer { eps: 0.0, ..optimizer }), "outer.optimizer.eps"),
            (with(ThetaOptimizer { eps_root: -1.0, ..optimizer }), "outer.optimizer.eps_root"),
            (with(ThetaOptimizer { weight_decay: -1.0, ..optimizer }), "outer.optimizer.weight_decay"),
        ] {
            let Err(Error::Setting { field, .. }) = config.validate() else { panic!("{config:?} was accepted") };
            assert_eq!(field, expected);
        }
    }

    #[test]
    fn a_recipe_may_leave_out_what_has_a_default() {
        let text = r#"{"steps": 10, "slots": 2, "pairs_per_slot": 3, "optimizer": {"learning_rate": 0.01}}"#;
        let config: OuterConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.accumulation, config.report, config.clip), (1, Report::Auto, None));
        assert_eq!(config.optimizer, ThetaOptimizer { learning_rate: 0.01, ..ThetaOptimizer::default() });
        assert!(serde_json::from_str::<OuterConfig>(&text.replace("slots", "slot")).is_err());
    }
}
