//! What a run is. Numbers are taken as they are here; whether they make sense together is asked once, where a run is
//! made, by [`RunSpec::validate`].

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss};
use paceline_optimizer_core::optimizer::Schedule;
use paceline_optimizer_core::outer::{OuterConfig, Report, ThetaOptimizer};
use paceline_optimizer_core::perturbation::Noise;
use paceline_optimizer_core::schedule::HorizonSchedule;
use serde::de::DeserializeOwned;

use super::{Converted, MAX_TASKS, ProtocolError, list, nested, optional};
use crate::model::{CheckpointPolicy, EvaluationSpec, MixtureLimits, RunSpec, TaskSpec};
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
            mixture: spec.mixture.map_or(MixtureLimits::default(), |pb::MixtureLimits { max_flop, max_bytes }| {
                MixtureLimits { max_flop, max_bytes }
            }),
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
            mixture: (!spec.mixture.is_none()).then(|| {
                let MixtureLimits { max_flop, max_bytes } = spec.mixture;
                pb::MixtureLimits { max_flop, max_bytes }
            }),
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
            pb::estimator::Kind::FullEs(full) => EstimatorKind::FullEs { loss: meta_loss(&full)? },
            pb::estimator::Kind::Pes(pb::Pes { window }) => EstimatorKind::Pes { window },
            pb::estimator::Kind::Gpes(pb::Gpes { window, period }) => EstimatorKind::Gpes { window, period },
            pb::estimator::Kind::Nres(pb::Nres { window }) => EstimatorKind::Nres { window },
            pb::estimator::Kind::TruncatedEs(pb::TruncatedEs { window }) => EstimatorKind::TruncatedEs { window },
        };
        let loss_from = match known(estimator.loss_from, "loss_from")? {
            pb::LossFrom::Unspecified | pb::LossFrom::TrainingBatch => LossFrom::TrainingBatch,
            pb::LossFrom::SameData => LossFrom::SameData,
            pb::LossFrom::Train => LossFrom::Train,
            pb::LossFrom::InnerValid => LossFrom::InnerValid,
            pb::LossFrom::OuterValid => LossFrom::OuterValid,
        };
        let horizon = nested::<_, Wire<_>>(estimator.horizon, "horizon")?.0;
        let noise = optional::<_, Wire<_>>(estimator.noise, "noise")?.map_or(Noise::Dense, |Wire(noise)| noise);
        Ok(Self(EstimatorConfig {
            noise,
            loss_from,
            initial_offset: estimator.initial_offset,
            clip_delta: estimator.clip_delta,
            sign_delta: estimator.sign_delta,
            // Half of the f64 digits are dropped here; a value beyond f32 becomes infinite or 0 and fails validation.
            ..EstimatorConfig::new(kind, estimator.sigma as f32, horizon)
        }))
    }
}

fn meta_loss(full: &pb::FullEs) -> Converted<MetaLoss> {
    let batches = full.recompute_batches;
    let loss = match known(full.loss, "full_es.loss")? {
        pb::MetaLoss::Unspecified => return Err(unspecified("full_es.loss")),
        pb::MetaLoss::Average => MetaLoss::Average,
        pb::MetaLoss::Min => MetaLoss::Min,
        pb::MetaLoss::Last => MetaLoss::Last,
        pb::MetaLoss::LastRecompute => return Ok(MetaLoss::LastRecompute { batches }),
    };
    match batches {
        0 => Ok(loss),
        got => Err(ProtocolError::invalid("full_es.recompute_batches", format!("is 0 with this loss, got {got}"))),
    }
}

impl From<Wire<EstimatorConfig>> for pb::Estimator {
    fn from(Wire(estimator): Wire<EstimatorConfig>) -> Self {
        let kind = match estimator.kind {
            EstimatorKind::FullEs { loss } => {
                let (loss, recompute_batches) = match loss {
                    MetaLoss::Average => (pb::MetaLoss::Average, 0),
                    MetaLoss::Min => (pb::MetaLoss::Min, 0),
                    MetaLoss::Last => (pb::MetaLoss::Last, 0),
                    MetaLoss::LastRecompute { batches } => (pb::MetaLoss::LastRecompute, batches),
                };
                pb::estimator::Kind::FullEs(pb::FullEs { loss: loss.into(), recompute_batches })
            }
            EstimatorKind::Pes { window } => pb::estimator::Kind::Pes(pb::Pes { window }),
            EstimatorKind::Gpes { window, period } => pb::estimator::Kind::Gpes(pb::Gpes { window, period }),
            EstimatorKind::Nres { window } => pb::estimator::Kind::Nres(pb::Nres { window }),
            EstimatorKind::TruncatedEs { window } => pb::estimator::Kind::TruncatedEs(pb::TruncatedEs { window }),
        };
        let loss_from = match estimator.loss_from {
            LossFrom::TrainingBatch => pb::LossFrom::TrainingBatch,
            LossFrom::SameData => pb::LossFrom::SameData,
            LossFrom::Train => pb::LossFrom::Train,
            LossFrom::InnerValid => pb::LossFrom::InnerValid,
            LossFrom::OuterValid => pb::LossFrom::OuterValid,
        };
        Self {
            sigma: estimator.sigma.into(),
            horizon: Some(Wire(estimator.horizon).into()),
            clip_delta: estimator.clip_delta,
            sign_delta: estimator.sign_delta,
            kind: Some(kind),
            loss_from: loss_from.into(),
            initial_offset: estimator.initial_offset,
            noise: Some(Wire(estimator.noise).into()),
        }
    }
}

impl TryFrom<pb::Noise> for Wire<Noise> {
    type Error = ProtocolError;

    fn try_from(noise: pb::Noise) -> Converted<Self> {
        let (noise, rank) = match known(noise.kind, "kind")? {
            pb::NoiseKind::Unspecified => return Err(unspecified("kind")),
            pb::NoiseKind::LowRank => return Ok(Self(Noise::LowRank { rank: noise.rank })),
            pb::NoiseKind::Dense => (Noise::Dense, noise.rank),
            pb::NoiseKind::Orthogonal => (Noise::Orthogonal, noise.rank),
        };
        match rank {
            0 => Ok(Self(noise)),
            got => Err(ProtocolError::invalid("rank", format!("is 0 with this kind of noise, got {got}"))),
        }
    }
}

impl From<Wire<Noise>> for pb::Noise {
    fn from(Wire(noise): Wire<Noise>) -> Self {
        let (kind, rank) = match noise {
            Noise::Dense => (pb::NoiseKind::Dense, 0),
            Noise::Orthogonal => (pb::NoiseKind::Orthogonal, 0),
            Noise::LowRank { rank } => (pb::NoiseKind::LowRank, rank),
        };
        Self { kind: kind.into(), rank }
    }
}

impl TryFrom<pb::Horizon> for Wire<HorizonSchedule> {
    type Error = ProtocolError;

    fn try_from(horizon: pb::Horizon) -> Converted<Self> {
        let pb::Horizon { min_steps: min, max_steps: max, curriculum } = horizon;
        Ok(Self(match curriculum {
            None if min == max => HorizonSchedule::Constant { steps: min },
            None => HorizonSchedule::LogUniform { min, max },
            Some(pb::horizon::Curriculum::Scheduled(pb::ScheduledLength { length_json, deviation })) => {
                let length = json(&length_json, "scheduled.length_json")?;
                HorizonSchedule::Scheduled { length, deviation, min, max }
            }
            Some(pb::horizon::Curriculum::ScheduledLogUniform(bounds)) => {
                let shortest = json(&bounds.shortest_json, "scheduled_log_uniform.shortest_json")?;
                let longest = json(&bounds.longest_json, "scheduled_log_uniform.longest_json")?;
                HorizonSchedule::ScheduledLogUniform { shortest, longest, min, max }
            }
        }))
    }
}

impl From<Wire<HorizonSchedule>> for pb::Horizon {
    fn from(Wire(horizon): Wire<HorizonSchedule>) -> Self {
        let (min_steps, max_steps) = (horizon.min(), horizon.max());
        let text = |schedule: &Schedule| serde_json::to_string(schedule).expect("a schedule is plain numbers");
        let curriculum = match &horizon {
            HorizonSchedule::Constant { .. } | HorizonSchedule::LogUniform { .. } => None,
            HorizonSchedule::Scheduled { length, deviation, .. } => {
                let scheduled = pb::ScheduledLength { length_json: text(length), deviation: *deviation };
                Some(pb::horizon::Curriculum::Scheduled(scheduled))
            }
            HorizonSchedule::ScheduledLogUniform { shortest, longest, .. } => {
                let bounds = pb::ScheduledLogUniform { shortest_json: text(shortest), longest_json: text(longest) };
                Some(pb::horizon::Curriculum::ScheduledLogUniform(bounds))
            }
        };
        Self { min_steps, max_steps, curriculum }
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
        let weight = match task.weight_json.as_str() {
            "" => task.weight.into(),
            text => json(text, "weight_json")?,
        };
        Ok(Self { family: task.family, weight, settings })
    }
}

impl From<TaskSpec> for pb::TaskSpec {
    fn from(task: TaskSpec) -> Self {
        let settings_json = match task.settings.is_empty() {
            true => String::new(),
            false => serde_json::Value::Object(task.settings).to_string(),
        };
        let (weight, weight_json) = match task.weight {
            Schedule::Constant { value } => (value, String::new()),
            // A coordinator that does not know curricula refuses a weight that is no number, by name.
            curriculum => (f64::NAN, serde_json::to_string(&curriculum).expect("a schedule is plain numbers")),
        };
        Self { family: task.family, weight, settings_json, weight_json }
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
