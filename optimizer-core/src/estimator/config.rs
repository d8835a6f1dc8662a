//! An estimator's settings, as in a recipe:
//!
//! ```toml
//! [estimator]
//! kind = "pes"                                              # or full_es, gpes, nres, truncated_es
//! window = 50                                               # all but full_es
//! sigma = 0.01
//! horizon = { kind = "log_uniform", min = 100, max = 2000 }
//! ```

use serde::{Deserialize, Serialize};

use crate::perturbation::Noise;
use crate::schedule::HorizonSchedule;
use crate::task::Split;
use crate::{Error, Result};

/// How meta-gradients are estimated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RecipeForm", into = "RecipeForm")]
pub struct EstimatorConfig {
    /// The estimator.
    pub kind: EstimatorKind,
    /// Standard deviation of perturbations, in units of theta; positive.
    pub sigma: f32,
    /// How perturbations are drawn.
    pub noise: Noise,
    /// Planned lengths of trajectories, in inner steps.
    pub horizon: HorizonSchedule,
    /// Random initial offset: the first trajectory of each slot ends a number of inner steps early, uniform below this or
    /// below what its horizon leaves beyond a window, so that slots do not all begin anew in the same outer step. The
    /// reference recommends the longest horizon; 0 is none.
    pub initial_offset: u32,
    /// Which loss of an inner step counts.
    pub loss_from: LossFrom,
    /// Bound on `|l+ − l−|`, in units of the normalised loss, applied after non-finite differences became 0 (the
    /// reference's `clip_loss_diff`).
    pub clip_delta: Option<f64>,
    /// Replace a difference by this times its sign: every task contributes alike, whatever the scale of its loss (the
    /// reference's `sign_delta_loss_scalar`).
    pub sign_delta: Option<f64>,
}

/// Which estimator. All compare the two lanes of antithetic pairs `theta ± sigma ε` (Salimans et al., arXiv
/// 1703.03864).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimatorKind {
    /// Whole unrolls, nothing carried between outer steps: VeLO's estimator (arXiv 2211.09760), the reference's
    /// `FullES` (`outer_trainers/full_es.py`).
    FullEs {
        /// What of an unroll is compared.
        loss: MetaLoss,
    },
    /// Persistent evolution strategies: windows of a longer trajectory, perturbations accumulated (Vicol, Metz,
    /// Sohl-Dickstein, arXiv 2112.13835); the reference's `TruncatedPES` (`outer_trainers/truncated_pes.py`).
    Pes {
        /// Inner steps a window.
        window: u32,
    },
    /// Generalised persistent evolution strategies, GPES(K): as PES, but a perturbation is kept for K inner steps
    /// (arXiv 2304.12180). K = window is PES; K of at least the longest horizon and a window is NRES.
    Gpes {
        /// Inner steps a window.
        window: u32,
        /// K: inner steps a perturbation is kept, a multiple of the window. The first window of a trajectory counts as
        /// a whole one, wherever in it the trajectory began.
        period: u32,
    },
    /// Noise-reuse evolution strategies: one perturbation a trajectory (Li et al., arXiv 2304.12180); the reference's
    /// `research/hysteresis/truncated_es_shared_noise.py`.
    Nres {
        /// Inner steps a window.
        window: u32,
    },
    /// Truncated evolution strategies: every window for itself, biased by what it forgets. A baseline; the
    /// reference's `TruncatedES` (`outer_trainers/truncated_es.py`).
    TruncatedEs {
        /// Inner steps a window.
        window: u32,
    },
}

/// What of a whole unroll is compared between the signs (`loss_type` of the reference's `FullES`). Losses are
/// normalised, one an inner step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetaLoss {
    /// Mean over the unroll.
    #[default]
    Average,
    /// Least over the unroll.
    Min,
    /// At the last step.
    Last,
    /// Of the final weights, anew: mean over this many fresh batches (VeLO's), of the split that [`LossFrom`] names or of
    /// the training split.
    LastRecompute {
        /// Fresh batches, the same for both signs. The reference's default is 50.
        batches: u32,
    },
}

/// Which loss of an inner step the estimator sees (the reference's `meta_loss_split`). Only `split` costs an evaluation
/// more (as does `same_data`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossFrom {
    /// The training batch, at the weights before the update: a free by-product of the gradient.
    #[default]
    TrainingBatch,
    /// The training batch, at the weights after the update.
    SameData,
    /// Another batch of the training split, at the weights after the update.
    Train,
    /// A batch of the inner validation split, at the weights after the update.
    InnerValid,
    /// A batch of the outer validation split, at the weights after the update: a held-out meta-loss.
    OuterValid,
}

/// Most fresh batches of a recomputed loss: each costs an evaluation of both lanes.
const MOST_BATCHES: u32 = 1 << 16;

impl LossFrom {
    /// The split of an independent batch after the update, where there is one.
    pub fn split(self) -> Option<Split> {
        match self {
            Self::TrainingBatch | Self::SameData => None,
            Self::Train => Some(Split::Train),
            Self::InnerValid => Some(Split::InnerValid),
            Self::OuterValid => Some(Split::OuterValid),
        }
    }
}

impl EstimatorKind {
    /// Inner steps of a window; `None` when every outer step is a whole trajectory.
    pub fn window(self) -> Option<u32> {
        match self {
            Self::FullEs { .. } => None,
            Self::Pes { window } | Self::Gpes { window, .. } | Self::Nres { window } | Self::TruncatedEs { window } => {
                Some(window)
            }
        }
    }

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullEs { .. } => "full_es",
            Self::Pes { .. } => "pes",
            Self::Gpes { .. } => "gpes",
            Self::Nres { .. } => "nres",
            Self::TruncatedEs { .. } => "truncated_es",
        }
    }
}

impl EstimatorConfig {
    /// This estimator with every other setting at its default: dense noise, losses of the training batch, differences
    /// neither clipped nor replaced by their sign.
    pub fn new(kind: EstimatorKind, sigma: f32, horizon: HorizonSchedule) -> Self {
        let (noise, loss_from) = Default::default();
        Self { kind, sigma, noise, horizon, initial_offset: 0, loss_from, clip_delta: None, sign_delta: None }
    }

    /// Inner steps of a window; `None` when every outer step is a whole trajectory.
    pub fn window(&self) -> Option<u32> {
        self.kind.window()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the setting as in a recipe.
    pub fn validate(&self) -> Result<()> {
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(Error::setting("estimator.sigma", "must be finite and positive", self.sigma));
        }
        self.noise.validate()?;
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
        if self.window().is_none() && self.initial_offset > 0 {
            let reason = "must be 0 with full_es: every outer step is a whole trajectory";
            return Err(Error::setting("estimator.initial_offset", reason, self.initial_offset));
        }
        match self.kind {
            EstimatorKind::Gpes { window, period } if period == 0 || period % window != 0 => {
                let reason = format!("must be a positive multiple of the window, {window}");
                return Err(Error::setting("estimator.period", reason, period));
            }
            EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { batches } }
                if !(1..=MOST_BATCHES).contains(&batches) =>
            {
                let reason = format!("must be 1 to {MOST_BATCHES}");
                return Err(Error::setting("estimator.recompute_batches", reason, batches));
            }
            EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { .. } } if self.loss_from == LossFrom::SameData => {
                let reason = "names no fresh batches to recompute the last loss on: take train or a held-out split";
                return Err(Error::setting("estimator.loss_from", reason, "same_data"));
            }
            EstimatorKind::FullEs { .. }
            | EstimatorKind::Pes { .. }
            | EstimatorKind::Gpes { .. }
            | EstimatorKind::Nres { .. }
            | EstimatorKind::TruncatedEs { .. } => {}
        }
        for (field, value) in [("estimator.clip_delta", self.clip_delta), ("estimator.sign_delta", self.sign_delta)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::setting(field, "must be finite and positive, or absent", value));
            }
        }
        Ok(())
    }
}

/// The flat form of a recipe. `deny_unknown_fields` and `flatten` do not go together, so the fields of all kinds stand
/// here and the conversion refuses those of another kind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeForm {
    kind: KindName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss: Option<LossName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recompute_batches: Option<u32>,
    sigma: f32,
    #[serde(default, skip_serializing_if = "is_default")]
    initial_offset: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    loss_from: LossFrom,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip_delta: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sign_delta: Option<f64>,
    // Last, because TOML wants tables after plain values.
    #[serde(default, skip_serializing_if = "is_default")]
    noise: Noise,
    horizon: HorizonSchedule,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    FullEs,
    Pes,
    Gpes,
    Nres,
    TruncatedEs,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LossName {
    Average,
    Min,
    Last,
    LastRecompute,
}

/// Fresh batches of `last_recompute` where a recipe does not say, as in the JAX reference.
const RECOMPUTE_BATCHES: u32 = 50;

impl RecipeForm {
    fn loss(&self) -> Result<MetaLoss, String> {
        let loss = match self.loss.unwrap_or(LossName::Average) {
            LossName::Average => MetaLoss::Average,
            LossName::Min => MetaLoss::Min,
            LossName::Last => MetaLoss::Last,
            LossName::LastRecompute => {
                let batches = self.recompute_batches.unwrap_or(RECOMPUTE_BATCHES);
                return Ok(MetaLoss::LastRecompute { batches });
            }
        };
        match self.recompute_batches {
            None => Ok(loss),
            Some(_) => Err("`recompute_batches` belongs to loss = \"last_recompute\"".into()),
        }
    }

    fn kind(&self) -> Result<EstimatorKind, String> {
        let name = match self.kind {
            KindName::FullEs => "full_es",
            KindName::Pes => "pes",
            KindName::Gpes => "gpes",
            KindName::Nres => "nres",
            KindName::TruncatedEs => "truncated_es",
        };
        let foreign =
            |key: &str, owner: &str| Err(format!("`{key}` belongs to kind = \"{owner}\", this is \"{name}\""));
        if self.kind != KindName::FullEs && self.loss.is_some() {
            return foreign("loss", "full_es");
        }
        if self.kind != KindName::FullEs && self.recompute_batches.is_some() {
            return foreign("recompute_batches", "full_es");
        }
        if self.kind == KindName::FullEs && self.window.is_some() {
            return Err("`window` belongs to the kinds that run windows (pes, gpes, nres, truncated_es)".into());
        }
        if self.kind != KindName::Gpes && self.period.is_some() {
            return foreign("period", "gpes");
        }
        let needed = |value: Option<u32>, key: &str, what: &str| {
            value.ok_or_else(|| format!("kind = \"{name}\" needs `{key}`, {what}"))
        };
        let window = || needed(self.window, "window", "inner steps a window");
        Ok(match self.kind {
            KindName::FullEs => EstimatorKind::FullEs { loss: self.loss()? },
            KindName::Pes => EstimatorKind::Pes { window: window()? },
            KindName::Gpes => {
                let period = needed(self.period, "period", "inner steps a perturbation is kept")?;
                EstimatorKind::Gpes { window: window()?, period }
            }
            KindName::Nres => EstimatorKind::Nres { window: window()? },
            KindName::TruncatedEs => EstimatorKind::TruncatedEs { window: window()? },
        })
    }
}

impl TryFrom<RecipeForm> for EstimatorConfig {
    type Error = String;

    fn try_from(form: RecipeForm) -> Result<Self, String> {
        let kind = form.kind()?;
        let RecipeForm { sigma, noise, horizon, initial_offset, loss_from, clip_delta, sign_delta, .. } = form;
        Ok(Self { kind, sigma, noise, horizon, initial_offset, loss_from, clip_delta, sign_delta })
    }
}

impl From<EstimatorConfig> for RecipeForm {
    fn from(config: EstimatorConfig) -> Self {
        let (kind, period, loss) = match config.kind {
            EstimatorKind::FullEs { loss } => (KindName::FullEs, None, Some(loss)),
            EstimatorKind::Pes { .. } => (KindName::Pes, None, None),
            EstimatorKind::Gpes { period, .. } => (KindName::Gpes, Some(period), None),
            EstimatorKind::Nres { .. } => (KindName::Nres, None, None),
            EstimatorKind::TruncatedEs { .. } => (KindName::TruncatedEs, None, None),
        };
        let (loss, recompute_batches) = match loss {
            None => (None, None),
            Some(MetaLoss::Average) => (Some(LossName::Average), None),
            Some(MetaLoss::Min) => (Some(LossName::Min), None),
            Some(MetaLoss::Last) => (Some(LossName::Last), None),
            Some(MetaLoss::LastRecompute { batches }) => (Some(LossName::LastRecompute), Some(batches)),
        };
        let window = config.window();
        let EstimatorConfig { sigma, noise, horizon, initial_offset, loss_from, clip_delta, sign_delta, .. } = config;
        Self {
            kind,
            window,
            period,
            loss,
            recompute_batches,
            sigma,
            initial_offset,
            loss_from,
            clip_delta,
            sign_delta,
            noise,
            horizon,
        }
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
    fn every_kind_survives_the_round_trip() {
        let horizon = HorizonSchedule::LogUniform { min: 100, max: 2000 };
        for kind in [
            EstimatorKind::FullEs { loss: MetaLoss::Last },
            EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { batches: 7 } },
            EstimatorKind::Pes { window: 50 },
            EstimatorKind::Gpes { window: 50, period: 150 },
            EstimatorKind::Nres { window: 50 },
            EstimatorKind::TruncatedEs { window: 50 },
        ] {
            let config = EstimatorConfig {
                clip_delta: Some(0.5),
                noise: Noise::LowRank { rank: 2 },
                loss_from: LossFrom::OuterValid,
                initial_offset: if kind.window().is_some() { 500 } else { 0 },
                ..EstimatorConfig::new(kind, 0.01, horizon.clone())
            };
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
            (json!({"kind": "nres", "sigma": 0.1, "horizon": horizon}), "window"),
            (json!({"kind": "nres", "window": 5, "period": 5, "sigma": 0.1, "horizon": horizon}), "gpes"),
            (json!({"kind": "gpes", "window": 5, "sigma": 0.1, "horizon": horizon}), "period"),
            (
                json!({"kind": "full_es", "loss": "last", "recompute_batches": 5, "sigma": 0.1, "horizon": horizon}),
                "last_recompute",
            ),
            (json!({"kind": "pes", "window": 5, "recompute_batches": 5, "sigma": 0.1, "horizon": horizon}), "full_es"),
            (json!({"kind": "pes", "window": 5, "loss_from": "test", "sigma": 0.1, "horizon": horizon}), "test"),
            (json!({"kind": "cma", "sigma": 0.1, "horizon": horizon}), "cma"),
            (json!({"kind": "full_es", "horizon": horizon}), "sigma"),
            (json!({"kind": "full_es", "sigma": 0.1, "horizon": {"kind": "constant", "steps": 10, "max": 3}}), "max"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(word), "{error} should name {word}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let horizon = HorizonSchedule::Constant { steps: 10 };
        let good = EstimatorConfig::new(EstimatorKind::Pes { window: 5 }, 0.01, horizon);
        for (config, expected) in [
            (EstimatorConfig { sigma: 0.0, ..good.clone() }, "estimator.sigma"),
            (EstimatorConfig { sigma: f32::NAN, ..good.clone() }, "estimator.sigma"),
            (EstimatorConfig { noise: Noise::LowRank { rank: 0 }, ..good.clone() }, "estimator.noise.rank"),
            (EstimatorConfig { horizon: HorizonSchedule::Constant { steps: 0 }, ..good.clone() }, "estimator.horizon"),
            (EstimatorConfig { kind: EstimatorKind::Pes { window: 1 }, ..good.clone() }, "estimator.window"),
            (EstimatorConfig { kind: EstimatorKind::Pes { window: 10 }, ..good.clone() }, "estimator.window"),
            (
                EstimatorConfig { kind: EstimatorKind::Gpes { window: 4, period: 6 }, ..good.clone() },
                "estimator.period",
            ),
            (
                EstimatorConfig { kind: EstimatorKind::Gpes { window: 4, period: 0 }, ..good.clone() },
                "estimator.period",
            ),
            (
                EstimatorConfig {
                    kind: EstimatorKind::FullEs { loss: MetaLoss::LastRecompute { batches: 0 } },
                    ..good.clone()
                },
                "estimator.recompute_batches",
            ),
            (
                EstimatorConfig {
                    kind: EstimatorKind::FullEs { loss: MetaLoss::Last },
                    initial_offset: 3,
                    ..good.clone()
                },
                "estimator.initial_offset",
            ),
            (EstimatorConfig { clip_delta: Some(0.0), ..good.clone() }, "estimator.clip_delta"),
            (EstimatorConfig { sign_delta: Some(f64::INFINITY), ..good.clone() }, "estimator.sign_delta"),
        ] {
            let Err(Error::Setting { field, .. }) = config.validate() else { panic!("{config:?} was accepted") };
            assert_eq!(field, expected);
        }
    }
}
