//! Evaluations of checkpoints. What comes in is shown to people as it is, so every number and name is checked here.

use bytes::Bytes;

use super::{Converted, MAX_TASKS, ProtocolError, list, nested, run_id, short_text, theta_hash};
use crate::model::{ContenderCurve, Evaluation, EvaluationReport, FamilyCurves, Quartiles};
use crate::pb;

/// Most spans of a curve.
pub const MAX_SPANS: usize = 64;
/// Most optimizers compared on one family.
pub const MAX_CONTENDERS: usize = 6;
/// Longest name of an optimizer, in characters.
const MAX_NAME: usize = 64;

impl TryFrom<pb::RecordEvaluationRequest> for EvaluationReport {
    type Error = ProtocolError;

    fn try_from(request: pb::RecordEvaluationRequest) -> Converted<Self> {
        Ok(Self { run: run_id(&request.run, "run")?, evaluation: nested(request.evaluation, "evaluation")? })
    }
}

impl From<EvaluationReport> for pb::RecordEvaluationRequest {
    fn from(report: EvaluationReport) -> Self {
        Self { run: report.run.into(), evaluation: Some(report.evaluation.into()) }
    }
}

impl TryFrom<pb::Evaluation> for Evaluation {
    type Error = ProtocolError;

    fn try_from(message: pb::Evaluation) -> Converted<Self> {
        let invalid = |field: &str, reason: String| Err(ProtocolError::invalid(field, reason));
        let ends = message.ends;
        if !(1..=MAX_SPANS).contains(&ends.len()) {
            return invalid("ends", format!("holds 1 to {MAX_SPANS} entries, got {}", ends.len()));
        }
        let begins = std::iter::once(0).chain(ends.iter().copied());
        if let Some((index, (end, before))) =
            ends.iter().zip(begins).enumerate().find(|(_, (end, begin))| *end <= begin)
        {
            return invalid(&format!("ends[{index}]"), format!("is above {before}, where its span begins, got {end}"));
        }
        if message.seeds == 0 {
            return invalid("seeds", "is at least 1, got 0".to_owned());
        }
        let families: Vec<FamilyCurves> = list(message.families, MAX_TASKS, "families")?;
        for (index, family) in families.iter().enumerate() {
            for (place, contender) in family.contenders.iter().enumerate() {
                let (expected, got) = (ends.len(), contender.losses.len());
                if got != expected {
                    let field = format!("families[{index}].contenders[{place}].median");
                    return invalid(&field, format!("has one value a span, so {expected}, got {got}"));
                }
            }
        }
        Ok(Self {
            outer_step: message.outer_step,
            theta_hash: theta_hash(&message.theta_hash, "theta_hash")?,
            recorded_at_ms: message.recorded_at_ms,
            seeds: message.seeds,
            ends,
            families,
        })
    }
}

impl From<Evaluation> for pb::Evaluation {
    fn from(evaluation: Evaluation) -> Self {
        Self {
            outer_step: evaluation.outer_step,
            theta_hash: Bytes::copy_from_slice(&evaluation.theta_hash.0),
            recorded_at_ms: evaluation.recorded_at_ms,
            seeds: evaluation.seeds,
            ends: evaluation.ends,
            families: evaluation.families.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::FamilyCurves> for FamilyCurves {
    type Error = ProtocolError;

    fn try_from(message: pb::FamilyCurves) -> Converted<Self> {
        if message.contenders.is_empty() {
            return Err(ProtocolError::Missing { field: "contenders".into() });
        }
        let contenders = list(message.contenders, MAX_CONTENDERS, "contenders")?;
        Ok(Self { family: short_text(message.family, "family")?, contenders })
    }
}

impl From<FamilyCurves> for pb::FamilyCurves {
    fn from(curves: FamilyCurves) -> Self {
        Self { family: curves.family, contenders: curves.contenders.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<pb::ContenderCurve> for ContenderCurve {
    type Error = ProtocolError;

    fn try_from(message: pb::ContenderCurve) -> Converted<Self> {
        let pb::ContenderCurve { name, lower, median, upper } = message;
        if !(1..=MAX_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            let shown: String = name.chars().take(MAX_NAME).collect();
            let reason = format!("is 1 to {MAX_NAME} characters long, none of them a control character, got {shown:?}");
            return Err(ProtocolError::invalid("name", reason));
        }
        for (field, values) in [("lower", &lower), ("upper", &upper)] {
            if values.len() != median.len() {
                let reason = format!("is as long as median, {}, got {}", median.len(), values.len());
                return Err(ProtocolError::invalid(field, reason));
            }
        }
        let quartiles = lower.into_iter().zip(median).zip(upper).enumerate();
        let check = |(span, ((lower, median), upper)): (usize, ((f32, f32), f32))| {
            let fits =
                [lower, median, upper].iter().all(|value| value.is_finite()) && lower <= median && median <= upper;
            fits.then_some(Quartiles { lower, median, upper }).ok_or_else(|| {
                let reason = format!("lies between lower and upper, all finite, got {lower}, {median}, {upper}");
                ProtocolError::invalid(format!("median[{span}]"), reason)
            })
        };
        Ok(Self { name, losses: quartiles.map(check).collect::<Converted<_>>()? })
    }
}

impl From<ContenderCurve> for pb::ContenderCurve {
    fn from(curve: ContenderCurve) -> Self {
        let of = |value: fn(&Quartiles) -> f32| curve.losses.iter().map(value).collect();
        Self { lower: of(|q| q.lower), median: of(|q| q.median), upper: of(|q| q.upper), name: curve.name }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::ThetaHash;

    use super::*;

    fn curve(name: &str) -> ContenderCurve {
        let at = |loss: f32| Quartiles { lower: loss - 0.5, median: loss, upper: loss + 0.25 };
        ContenderCurve { name: name.into(), losses: vec![at(2.0), at(-0.0)] }
    }

    fn report() -> EvaluationReport {
        let families = ["image_mlp", "quadratic"].map(|family| FamilyCurves {
            family: family.into(),
            contenders: vec![curve("learned"), curve("adam 1e-2, best by final loss")],
        });
        let evaluation = Evaluation {
            outer_step: 7,
            theta_hash: ThetaHash([5; 32]),
            recorded_at_ms: 1_700_000_000_000,
            seeds: 3,
            ends: vec![1, 20],
            families: families.to_vec(),
        };
        EvaluationReport { run: "run-1".parse().unwrap(), evaluation }
    }

    #[test]
    fn an_evaluation_comes_back_equal() {
        assert_eq!(EvaluationReport::try_from(pb::RecordEvaluationRequest::from(report())), Ok(report()));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let refused = |change: fn(&mut pb::Evaluation)| {
            let mut request = pb::RecordEvaluationRequest::from(report());
            change(request.evaluation.as_mut().unwrap());
            EvaluationReport::try_from(request).unwrap_err().to_string()
        };
        fn first(evaluation: &mut pb::Evaluation) -> &mut pb::ContenderCurve {
            &mut evaluation.families[0].contenders[0]
        }
        let within = "evaluation.families[0].contenders[0]";
        for (said, expected) in [
            (refused(|e| e.theta_hash.clear()), "evaluation.theta_hash: is required".to_owned()),
            (refused(|e| e.seeds = 0), "evaluation.seeds: is at least 1".to_owned()),
            (refused(|e| e.ends.clear()), "evaluation.ends: holds 1 to 64 entries, got 0".to_owned()),
            (refused(|e| e.ends = (1..=65).collect()), "evaluation.ends: holds 1 to 64 entries, got 65".to_owned()),
            (
                refused(|e| e.ends = vec![0, 1]),
                "evaluation.ends[0]: is above 0, where its span begins, got 0".to_owned(),
            ),
            (
                refused(|e| e.ends = vec![5, 5]),
                "evaluation.ends[1]: is above 5, where its span begins, got 5".to_owned(),
            ),
            (
                refused(|e| e.families = vec![e.families[0].clone(); 65]),
                "evaluation.families: holds at most 64".to_owned(),
            ),
            (
                refused(|e| e.families[1].contenders.clear()),
                "evaluation.families[1].contenders: is required".to_owned(),
            ),
            (
                refused(|e| e.families[0].family = "x".repeat(200)),
                "evaluation.families[0].family: is at most".to_owned(),
            ),
            (
                refused(|e| e.families[0].contenders = vec![first(e).clone(); 7]),
                "evaluation.families[0].contenders: holds at most 6 entries, got 7".to_owned(),
            ),
            (refused(|e| first(e).name.clear()), format!("{within}.name: is 1 to 64 characters long")),
            (refused(|e| first(e).name = "x".repeat(65)), format!("{within}.name: is 1 to 64 characters long")),
            (refused(|e| first(e).name = "a\u{1b}[31m".into()), format!("{within}.name: is 1 to 64 characters long")),
            (refused(|e| first(e).median[1] = f32::NAN), format!("{within}.median[1]: lies between")),
            (refused(|e| first(e).upper[0] = f32::INFINITY), format!("{within}.median[0]: lies between")),
            (refused(|e| first(e).lower[0] = 2.1), format!("{within}.median[0]: lies between")),
            (refused(|e| first(e).lower.truncate(1)), format!("{within}.lower: is as long as median, 2, got 1")),
            (refused(|e| e.ends = vec![1, 2, 3]), format!("{within}.median: has one value a span, so 3, got 2")),
        ] {
            assert!(said.starts_with(&expected), "{said}\n{expected}");
        }
        let nameless = pb::RecordEvaluationRequest { run: String::new(), ..report().into() };
        assert_eq!(EvaluationReport::try_from(nameless).unwrap_err().to_string(), "run: is required");
        let empty = pb::RecordEvaluationRequest { evaluation: None, ..report().into() };
        assert_eq!(EvaluationReport::try_from(empty).unwrap_err().to_string(), "evaluation: is required");
    }
}
