//! An estimator's settings, as in a recipe:
//!
//! ```toml
//! [estimator]
//! kind = "pes"                                              # or "full_es"
//! window = 50                                               # pes only
//! sigma = 0.01
//! horizon = { kind = "log_uniform", min = 100, max = 2000 }
//! ```

use serde::{Deserialize, Serialize};

use crate::schedule::HorizonSchedule;
use crate::{Error, Result};

/// How meta-gradients are estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RecipeForm", into = "RecipeForm")]
pub struct EstimatorConfig {
    /// The estimator.
    pub kind: EstimatorKind,
    /// Standard deviation of perturbations.
    pub sigma: f32,
    /// Planned lengths of trajectories.
    pub horizon: HorizonSchedule,
    /// Bound on `|l+ − l−|`, applied after non-finite differences became 0.
    pub clip_delta: Option<f64>,
    /// Replace a difference by this times its sign: every task contributes alike, whatever the scale of its loss.
    pub sign_delta: Option<f64>,
}

/// Which estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimatorKind {
    /// Whole unrolls, nothing carried between outer steps (VeLO's estimator).
    FullEs {
        /// What of an unroll is compared.
        loss: MetaLoss,
    },
    /// Persistent evolution strategies: windows of a longer trajectory, perturbations accumulated (arXiv 2112.13835).
    Pes {
        /// Inner steps a window.
        window: u32,
    },
}

/// What of a whole unroll is compared between the signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetaLoss {
    /// Mean over the unroll.
    #[default]
    Average,
    /// Least over the unroll.
    Min,
    /// At the last step.
    Last,
}

impl EstimatorConfig {
    /// Inner steps of a window; `None` when every outer step is a whole trajectory.
    pub fn window(&self) -> Option<u32> {
        match self.kind {
            EstimatorKind::FullEs { .. } => None,
            EstimatorKind::Pes { window } => Some(window),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the setting as in a recipe.
    pub fn validate(&self) -> Result<()> {
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(Error::setting("estimator.sigma", "must be finite and positive", self.sigma));
        }
        self.horizon.validate()?;
        if let Some(window) = self.window() {
            if window < 2 {
                let reason = "must be at least 2: a window of one place may hold a reset and nothing else";
                return Err(Error::setting("estimator.window", reason, window));
            }
            if window >= self.horizon.min() {
                let reason = format!("must be shorter than the shortest horizon, {}", self.horizon.min());
                return Err(Error::setting("estimator.window", reason, window));
            }
        }
        for (field, value) in [("estimator.clip_delta", self.clip_delta), ("estimator.sign_delta", self.sign_delta)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::setting(field, "must be finite and positive, or absent", value));
            }
        }
        Ok(())
    }
}

/// The flat form of a recipe. `deny_unknown_fields` and `flatten` do not go together, so the fields of both kinds stand
/// here and the conversion refuses those of the other kind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeForm {
    kind: KindName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss: Option<MetaLoss>,
    sigma: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip_delta: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sign_delta: Option<f64>,
    // Last, because TOML wants tables after plain values.
    horizon: HorizonSchedule,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    FullEs,
    Pes,
}

impl TryFrom<RecipeForm> for EstimatorConfig {
    type Error = &'static str;

    fn try_from(form: RecipeForm) -> Result<Self, &'static str> {
        let kind = match (form.kind, form.window, form.loss) {
            (KindName::FullEs, None, loss) => EstimatorKind::FullEs { loss: loss.unwrap_or_default() },
            (KindName::FullEs, Some(_), _) => return Err("`window` belongs to kind = \"pes\", this is \"full_es\""),
            (KindName::Pes, Some(window), None) => EstimatorKind::Pes { window },
            (KindName::Pes, None, _) => return Err("kind = \"pes\" needs `window`, inner steps a window"),
            (KindName::Pes, _, Some(_)) => return Err("`loss` belongs to kind = \"full_es\", this is \"pes\""),
        };
        let RecipeForm { sigma, horizon, clip_delta, sign_delta, .. } = form;
        Ok(Self { kind, sigma, horizon, clip_delta, sign_delta })
    }
}

impl From<EstimatorConfig> for RecipeForm {
    fn from(config: EstimatorConfig) -> Self {
        let (kind, window, loss) = match config.kind {
            EstimatorKind::FullEs { loss } => (KindName::FullEs, None, Some(loss)),
            EstimatorKind::Pes { window } => (KindName::Pes, Some(window), None),
        };
        let EstimatorConfig { sigma, horizon, clip_delta, sign_delta, .. } = config;
        Self { kind, window, loss, sigma, clip_delta, sign_delta, horizon }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<EstimatorConfig, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn both_kinds_survive_the_round_trip() {
        let horizon = HorizonSchedule::LogUniform { min: 100, max: 2000 };
        for kind in [EstimatorKind::FullEs { loss: MetaLoss::Last }, EstimatorKind::Pes { window: 50 }] {
            let config = EstimatorConfig { kind, sigma: 0.01, horizon, clip_delta: Some(0.5), sign_delta: None };
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<EstimatorConfig>(&text).unwrap(), config, "{text}");
            config.validate().unwrap();
        }
    }

    #[test]
    fn keys_that_do_not_belong_are_refused() {
        let horizon = json!({"kind": "constant", "steps": 10});
        assert!(read(json!({"kind": "full_es", "sigma": 0.1, "horizon": horizon})).is_ok());
        for (value, word) in [
            (json!({"kind": "pes", "window": 5, "sigma": 0.1, "horizon": horizon, "sgima": 1}), "sgima"),
            (json!({"kind": "full_es", "window": 5, "sigma": 0.1, "horizon": horizon}), "window"),
            (json!({"kind": "pes", "window": 5, "loss": "last", "sigma": 0.1, "horizon": horizon}), "loss"),
            (json!({"kind": "pes", "sigma": 0.1, "horizon": horizon}), "window"),
            (json!({"kind": "nres", "sigma": 0.1, "horizon": horizon}), "nres"),
            (json!({"kind": "full_es", "horizon": horizon}), "sigma"),
            (json!({"kind": "full_es", "sigma": 0.1, "horizon": {"kind": "constant", "steps": 10, "max": 3}}), "max"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(word), "{error} should name {word}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = EstimatorConfig {
            kind: EstimatorKind::Pes { window: 5 },
            sigma: 0.01,
            horizon: HorizonSchedule::Constant { steps: 10 },
            clip_delta: None,
            sign_delta: None,
        };
        for (config, expected) in [
            (EstimatorConfig { sigma: 0.0, ..good }, "estimator.sigma"),
            (EstimatorConfig { sigma: f32::NAN, ..good }, "estimator.sigma"),
            (EstimatorConfig { horizon: HorizonSchedule::Constant { steps: 0 }, ..good }, "estimator.horizon"),
            (EstimatorConfig { kind: EstimatorKind::Pes { window: 1 }, ..good }, "estimator.window"),
            (EstimatorConfig { kind: EstimatorKind::Pes { window: 10 }, ..good }, "estimator.window"),
            (EstimatorConfig { clip_delta: Some(0.0), ..good }, "estimator.clip_delta"),
            (EstimatorConfig { sign_delta: Some(f64::INFINITY), ..good }, "estimator.sign_delta"),
        ] {
            let Err(Error::Setting { field, .. }) = config.validate() else { panic!("{config:?} was accepted") };
            assert_eq!(field, expected);
        }
    }
}
