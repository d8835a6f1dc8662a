//! What a run is. Numbers are taken as they are here; whether they make sense together is asked once, where a run is
//! made, by [`RunSpec::validate`].

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::outer::{OuterConfig, Report, ThetaOptimizer};
use paceline_optimizer_core::schedule::HorizonSchedule;
use serde::de::DeserializeOwned;

use super::{Converted, MAX_TASKS, ProtocolError, list, nested, optional};
use crate::model::{CheckpointPolicy, EvaluationSpec, RunSpec, TaskSpec};
use crate::pb;

fn json<T: DeserializeOwned>(text: &str, field: &str) -> Converted<T> {
    serde_json::from_str(text)
        .map_err(|error| ProtocolError::invalid(field, format!("is no valid JSON for it: {error}")))
}

fn known<E: TryFrom<i32>>(number: i32, field: &str) -> Converted<E> {
    E::try_from(number)
        .map_err(|_| ProtocolError::invalid(field, format!("no value {number} is known to this version of paceline")))
}

fn unspecified(field: &str) -> ProtocolError {
    ProtocolError::Missing { field: field.into() }
}

impl TryFrom<pb::RunSpec> for RunSpec {
    type Error = ProtocolError;

    fn try_from(spec: pb::RunSpec) -> Converted<Self> {
        Ok(Self {
            name: spec.name,
            seed: Seed::new(spec.seed),
            optimizer: json(&spec.optimizer_json, "optimizer_json")?,
            estimator: nested::<_, Wire<_>>(spec.estimator, "estimator")?.0,
            outer: nested::<_, Wire<_>>(spec.outer, "outer")?.0,
            tasks: list(spec.tasks, MAX_TASKS, "tasks")?,
            checkpoint: optional(spec.checkpoint, "checkpoint")?.unwrap_or_default(),
            evaluation: optional(spec.evaluation, "evaluation")?.unwrap_or_default(),
        })
    }
}

impl From<RunSpec> for pb::RunSpec {
    fn from(spec: RunSpec) -> Self {
        Self {
            name: spec.name,
            seed: spec.seed.value(),
            optimizer_json: serde_json::to_string(&spec.optimizer)
                .expect("settings of an optimizer have text keys and plain values"),
            estimator: Some(Wire(spec.estimator).into()),
            outer: Some(Wire(spec.outer).into()),
            tasks: spec.tasks.into_iter().map(Into::into).collect(),
            checkpoint: Some(spec.checkpoint.into()),
            evaluation: Some(spec.evaluation.into()),
        }
    }
}

/// A type of `optimizer-core` at the border: neither it nor the conversion traits are ours, the wrapper is.
pub(crate) struct Wire<T>(pub(crate) T);

impl TryFrom<pb::Estimator> for Wire<EstimatorConfig> {
    type Error = ProtocolError;

    fn try_from(estimator: pb::Estimator) -> Converted<Self> {
        let kind = match estimator.kind.ok_or_else(|| ProtocolError::Missing { field: "kind".into() })? {
            pb::estimator::Kind::FullEs(full) => EstimatorKind::FullEs {
                loss: match known(full.loss, "full_es.loss")? {
                    pb::MetaLoss::Unspecified => return Err(unspecified("full_es.loss")),
                    pb::MetaLoss::Average => MetaLoss::Average,
                    pb::MetaLoss::Min => MetaLoss::Min,
                    pb::MetaLoss::Last => MetaLoss::Last,
                },
            },
            pb::estimator::Kind::Pes(pes) => EstimatorKind::Pes { window: pes.window },
        };
        Ok(Self(EstimatorConfig {
            kind,
            // Half of the f64 digits are dropped here; a value beyond f32 becomes infinite or 0 and fails validation.
            sigma: estimator.sigma as f32,
            horizon: nested::<_, Wire<_>>(estimator.horizon, "horizon")?.0,
            clip_delta: estimator.clip_delta,
            sign_delta: estimator.sign_delta,
        }))
    }
}

impl From<Wire<EstimatorConfig>> for pb::Estimator {
    fn from(Wire(estimator): Wire<EstimatorConfig>) -> Self {
        let kind = match estimator.kind {
            EstimatorKind::FullEs { loss } => {
                let loss = match loss {
                    MetaLoss::Average => pb::MetaLoss::Average,
                    MetaLoss::Min => pb::MetaLoss::Min,
                    MetaLoss::Last => pb::MetaLoss::Last,
                };
                pb::estimator::Kind::FullEs(pb::FullEs { loss: loss.into() })
            }
            EstimatorKind::Pes { window } => pb::estimator::Kind::Pes(pb::Pes { window }),
        };
        Self {
            sigma: estimator.sigma.into(),
            horizon: Some(Wire(estimator.horizon).into()),
            clip_delta: estimator.clip_delta,
            sign_delta: estimator.sign_delta,
            kind: Some(kind),
        }
    }
}

impl TryFrom<pb::Horizon> for Wire<HorizonSchedule> {
    type Error = ProtocolError;

    fn try_from(horizon: pb::Horizon) -> Converted<Self> {
        let pb::Horizon { min_steps: min, max_steps: max } = horizon;
        Ok(Self(match min == max {
            true => HorizonSchedule::Constant { steps: min },
            false => HorizonSchedule::LogUniform { min, max },
        }))
    }
}

impl From<Wire<HorizonSchedule>> for pb::Horizon {
    fn from(Wire(horizon): Wire<HorizonSchedule>) -> Self {
        Self { min_steps: horizon.min(), max_steps: horizon.max() }
    }
}

impl TryFrom<pb::OuterLoop> for Wire<OuterConfig> {
    type Error = ProtocolError;

    fn try_from(outer: pb::OuterLoop) -> Converted<Self> {
        let report = match known(outer.report, "report")? {
            pb::Report::Unspecified => return Err(unspecified("report")),
            pb::Report::Auto => Report::Auto,
            pb::Report::SeedCoded => Report::SeedCoded,
            pb::Report::Dense => Report::Dense,
        };
        let optimizer = outer.optimizer.ok_or_else(|| ProtocolError::Missing { field: "optimizer".into() })?;
        Ok(Self(OuterConfig {
            steps: outer.steps,
            slots: outer.slots,
            pairs_per_slot: outer.pairs_per_slot,
            optimizer: ThetaOptimizer {
                learning_rate: optimizer.learning_rate,
                beta1: optimizer.beta1,
                beta2: optimizer.beta2,
                eps: optimizer.eps,
                eps_root: optimizer.eps_root,
                weight_decay: optimizer.weight_decay,
            },
            clip: outer.clip,
            clip_norm: outer.clip_norm,
            accumulation: outer.accumulation,
            report,
        }))
    }
}

impl From<Wire<OuterConfig>> for pb::OuterLoop {
    fn from(Wire(outer): Wire<OuterConfig>) -> Self {
        let report = match outer.report {
            Report::Auto => pb::Report::Auto,
            Report::SeedCoded => pb::Report::SeedCoded,
            Report::Dense => pb::Report::Dense,
        };
        let optimizer = outer.optimizer;
        Self {
            steps: outer.steps,
            slots: outer.slots,
            pairs_per_slot: outer.pairs_per_slot,
            optimizer: Some(pb::ThetaOptimizer {
                learning_rate: optimizer.learning_rate,
                beta1: optimizer.beta1,
                beta2: optimizer.beta2,
                eps: optimizer.eps,
                eps_root: optimizer.eps_root,
                weight_decay: optimizer.weight_decay,
            }),
            clip: outer.clip,
            clip_norm: outer.clip_norm,
            accumulation: outer.accumulation,
            report: report.into(),
        }
    }
}

impl TryFrom<pb::TaskSpec> for TaskSpec {
    type Error = ProtocolError;

    fn try_from(task: pb::TaskSpec) -> Converted<Self> {
        let settings = match task.settings_json.as_str() {
            "" => serde_json::Map::new(),
            text => json(text, "settings_json")?,
        };
        Ok(Self { family: task.family, weight: task.weight, settings })
    }
}

impl From<TaskSpec> for pb::TaskSpec {
    fn from(task: TaskSpec) -> Self {
        let settings_json = match task.settings.is_empty() {
            true => String::new(),
            false => serde_json::Value::Object(task.settings).to_string(),
        };
        Self { family: task.family, weight: task.weight, settings_json }
    }
}

impl TryFrom<pb::CheckpointPolicy> for CheckpointPolicy {
    type Error = ProtocolError;

    fn try_from(policy: pb::CheckpointPolicy) -> Converted<Self> {
        Ok(Self { every: policy.every, keep: policy.keep })
    }
}

impl From<CheckpointPolicy> for pb::CheckpointPolicy {
    fn from(policy: CheckpointPolicy) -> Self {
        Self { every: policy.every, keep: policy.keep }
    }
}

impl TryFrom<pb::EvaluationSpec> for EvaluationSpec {
    type Error = ProtocolError;

    fn try_from(evaluation: pb::EvaluationSpec) -> Converted<Self> {
        Ok(Self { steps: evaluation.steps, seeds: evaluation.seeds })
    }
}

impl From<EvaluationSpec> for pb::EvaluationSpec {
    fn from(evaluation: EvaluationSpec) -> Self {
        Self { steps: evaluation.steps, seeds: evaluation.seeds }
    }
}
