//! How an [`EstimatorConfig`] is written in a recipe: one flat table.
//!
//! Serde's `flatten` cannot refuse unknown keys (it sees them only after the tagged enum took a copy of everything), and
//! a misspelt key must not pass. So the flat form is a type of its own, and what belongs to another estimator is refused
//! by name.

use serde::Deserialize;

use super::{EstimatorConfig, EstimatorKind, MetaLoss};
use crate::schedule::HorizonSchedule;

/// The flat table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EstimatorText {
    kind: Kind,
    #[serde(default)]
    loss: Option<MetaLoss>,
    #[serde(default)]
    window: Option<u32>,
    sigma: f32,
    horizon: HorizonSchedule,
    #[serde(default)]
    clip_delta: Option<f64>,
    #[serde(default)]
    sign_delta: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    FullEs,
    Pes,
}

impl TryFrom<EstimatorText> for EstimatorConfig {
    type Error = &'static str;

    fn try_from(text: EstimatorText) -> Result<Self, Self::Error> {
        let kind = match (text.kind, text.loss, text.window) {
            (Kind::FullEs, loss, None) => EstimatorKind::FullEs { loss: loss.unwrap_or_default() },
            (Kind::Pes, None, Some(window)) => EstimatorKind::Pes { window },
            (Kind::FullEs, _, Some(_)) => return Err("`window` belongs to kind \"pes\", not to \"full_es\""),
            (Kind::Pes, Some(_), _) => return Err("`loss` belongs to kind \"full_es\", not to \"pes\""),
            (Kind::Pes, None, None) => return Err("kind \"pes\" needs `window`, the inner steps of a window"),
        };
        let EstimatorText { sigma, horizon, clip_delta, sign_delta, .. } = text;
        Ok(Self { kind, sigma, horizon, clip_delta, sign_delta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<EstimatorConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_reads_back() {
        for kind in [EstimatorKind::FullEs { loss: MetaLoss::Min }, EstimatorKind::Pes { window: 20 }] {
            let horizon = HorizonSchedule::LogUniform { min: 50, max: 500 };
            let config = EstimatorConfig { kind, sigma: 0.01, horizon, clip_delta: Some(1.5), sign_delta: None };
            let text = serde_json::to_string(&config).expect("a configuration is valid JSON");
            assert_eq!(read(&text), Ok(config), "{text}");
        }
    }

    #[test]
    fn keys_that_do_not_belong_are_refused() {
        let table =
            |rest: &str| read(&format!(r#"{{"sigma": 0.01, "horizon": {{"kind": "constant", "steps": 9}}, {rest}}}"#));
        assert!(table(r#""kind": "pes", "window": 5"#).is_ok());
        assert!(table(r#""kind": "pes""#).is_err_and(|e| e.contains("needs `window`")));
        assert!(table(r#""kind": "full_es", "window": 5"#).is_err_and(|e| e.contains("`window` belongs to")));
        assert!(table(r#""kind": "pes", "window": 5, "windw": 6"#).is_err_and(|e| e.contains("unknown field `windw`")));
    }
}
