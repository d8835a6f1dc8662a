//! What becomes of a submission: one pure decision.
//!
//! ```text
//!  token unknown ─► fault      accepted before, same bytes ─► repeat
//!  body damaged  ─► fault, lease rejected
//!  worker failed ─► failed     slot filled ─► too late     else ─► fills the slot
//! ```
//!
//! The body is judged before the slot is looked at, so that a repeat of a refused result is refused the same way
//! however far the run has moved on (LS-4).

use paceline_optimizer_core::estimator::{EstimatorConfig, PairReport};
use paceline_optimizer_core::outer::{OuterConfig, ResultForm};
use paceline_proto::fault::{Fault, FieldFault};
use paceline_proto::model::{ResultBody, Submission};

use super::lease_table::Entry;
use super::record::LeaseState;

/// What a result of this run must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// Pairs in a slot.
    pub(super) pairs: usize,
    /// Values in theta (D).
    pub(super) theta_size: usize,
    /// Whether results travel dense.
    pub(super) dense: bool,
    /// Most inner steps a slot can train, all lanes.
    pub(super) inner_steps: u64,
}

impl Expected {
    /// From the run's settings, the size of theta and how results travel.
    pub(super) fn new(outer: &OuterConfig, estimator: &EstimatorConfig, theta_size: usize, form: ResultForm) -> Self {
        let places = estimator.window().unwrap_or(estimator.horizon.max());
        Self {
            pairs: outer.pairs_per_slot as usize,
            theta_size,
            dense: form.dense,
            inner_steps: 2 * u64::from(outer.pairs_per_slot) * u64::from(places),
        }
    }
}

/// What becomes of a submission that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It fills its slot.
    Fill,
    /// The same result was accepted before.
    Repeat,
    /// Its slot is filled already.
    TooLate,
    /// The worker could not compute it.
    Failed,
}

/// Decides. `lease` is what the submission's token proves, already checked to be its own; `slot_filled` whether the
/// lease's slot of the lease's step has a result.
///
/// # Errors
/// A fault that names what is wrong with the result.
pub(super) fn decide(
    expected: &Expected,
    lease: &Entry,
    slot_filled: bool,
    submission: &Submission,
    digest: [u8; 32],
) -> Result<Decision, Fault> {
    if lease.record.state == (LeaseState::Accepted { digest }) {
        return Ok(Decision::Repeat);
    }
    if let ResultBody::Failure { .. } = submission.body {
        return Ok(Decision::Failed);
    }
    check_body(expected, &submission.body)?;
    check_count("inner_steps", expected.inner_steps, submission.inner_steps)?;
    check_count("diverged_lanes", 2 * expected.pairs as u64, submission.diverged_lanes.into())?;
    if submission.theta_hash != lease.record.theta_hash {
        return Err(Fault::ResultThetaHash {
            expected: lease.record.theta_hash.to_string(),
            got: submission.theta_hash.to_string(),
        });
    }
    Ok(if slot_filled { Decision::TooLate } else { Decision::Fill })
}

fn check_body(expected: &Expected, body: &ResultBody) -> Result<(), Fault> {
    match body {
        ResultBody::SeedCoded(_) if expected.dense => Err(wrong_form("dense", "seed-coded")),
        ResultBody::Dense { .. } if !expected.dense => Err(wrong_form("seed-coded", "dense")),
        ResultBody::SeedCoded(coded) => {
            check_length("seed_coded.pairs", expected.pairs, coded.pairs.len())?;
            coded.pairs.iter().enumerate().try_for_each(|(index, pair)| check_pair(index, pair))
        }
        ResultBody::Dense { gradient, loss } => {
            check_length("dense.gradient", expected.theta_size, gradient.len())?;
            check_finite("dense.loss", loss.is_finite())?;
            match gradient.iter().position(|value| !value.is_finite()) {
                Some(index) => Err(Fault::ResultNonFinite { field: format!("dense.gradient[{index}]") }),
                None => Ok(()),
            }
        }
        ResultBody::Failure { .. } => Ok(()),
    }
}

fn check_pair(index: usize, pair: &PairReport) -> Result<(), Fault> {
    let numbers = [
        ("fresh", pair.fresh),
        ("carried", pair.carried),
        ("loss_plus", pair.loss_plus),
        ("loss_minus", pair.loss_minus),
    ];
    match numbers.iter().find(|(_, number)| !number.is_finite()) {
        Some((name, _)) => Err(Fault::ResultNonFinite { field: format!("seed_coded.pairs[{index}].{name}") }),
        None => Ok(()),
    }
}

fn check_finite(field: &str, finite: bool) -> Result<(), Fault> {
    if finite { Ok(()) } else { Err(Fault::ResultNonFinite { field: field.to_owned() }) }
}

fn check_length(field: &str, expected: usize, got: usize) -> Result<(), Fault> {
    if expected == got { Ok(()) } else { Err(Fault::ResultShape { field: field.to_owned(), expected, got }) }
}

/// A count that cannot be true would spoil the run's sums for good.
fn check_count(field: &str, most: u64, got: u64) -> Result<(), Fault> {
    if got <= most {
        return Ok(());
    }
    let reason = format!("is at most {most} for a slot of this run, got {got}");
    Err(Fault::FieldsInvalid(vec![FieldFault { field: field.to_owned(), reason }]))
}

fn wrong_form(wanted: &str, got: &str) -> Fault {
    let reason = format!("results of this run travel {wanted}, this one is {got}: see outer.report in its recipe");
    Fault::FieldsInvalid(vec![FieldFault { field: "body".to_owned(), reason }])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paceline_optimizer_core::ThetaHash;
    use paceline_proto::model::{LeaseKey, SeedCoded, Token};

    use super::*;
    use crate::machine::fact::DeviceClass;
    use crate::machine::record::LeaseRecord;

    const EXPECTED: Expected = Expected { pairs: 2, theta_size: 3, dense: false, inner_steps: 40 };
    const GOOD: PairReport = PairReport { fresh: 0.5, carried: -0.0, loss_plus: 2.0, loss_minus: 1.0 };

    fn lease(state: LeaseState) -> Entry {
        let record = LeaseRecord {
            token: Token([7; 16]),
            outer_step: 1,
            slot: 0,
            attempt: 1,
            worker: "w".parse().unwrap(),
            theta_hash: ThetaHash([3; 32]),
            state,
        };
        Entry { record, device: DeviceClass::Cpu, given_at: Duration::ZERO, deadline: Duration::MAX }
    }

    fn submission(body: ResultBody) -> Submission {
        Submission {
            worker: "w".parse().unwrap(),
            lease: LeaseKey { run: "r".parse().unwrap(), outer_step: 1, slot: 0, token: Token([7; 16]) },
            theta_hash: ThetaHash([3; 32]),
            body,
            inner_steps: 1,
            diverged_lanes: 0,
            want_lease: false,
            holdings: Vec::new(),
        }
    }

    fn coded(pairs: Vec<PairReport>) -> Submission {
        submission(ResultBody::SeedCoded(SeedCoded { pairs }))
    }

    #[test]
    fn a_valid_result_fills_an_open_slot_whatever_became_of_its_lease() {
        for state in [LeaseState::Held, LeaseState::Expired, LeaseState::Released, LeaseState::Rejected] {
            let decision = decide(&EXPECTED, &lease(state), false, &coded(vec![GOOD; 2]), [1; 32]);
            assert_eq!(decision, Ok(Decision::Fill), "{state:?}");
        }
        let late = decide(&EXPECTED, &lease(LeaseState::Superseded), true, &coded(vec![GOOD; 2]), [1; 32]);
        assert_eq!(late, Ok(Decision::TooLate));
    }

    #[test]
    fn only_the_same_bytes_are_a_repeat() {
        let accepted = lease(LeaseState::Accepted { digest: [1; 32] });
        assert_eq!(decide(&EXPECTED, &accepted, true, &coded(vec![GOOD; 2]), [1; 32]), Ok(Decision::Repeat));
        assert_eq!(decide(&EXPECTED, &accepted, true, &coded(vec![GOOD; 2]), [2; 32]), Ok(Decision::TooLate));
    }

    #[test]
    fn damage_is_named_even_when_the_slot_is_filled() {
        for filled in [false, true] {
            let judge = |submission: Submission| {
                decide(&EXPECTED, &lease(LeaseState::Held), filled, &submission, [1; 32]).unwrap_err()
            };
            let nan = PairReport { loss_minus: f64::NAN, ..GOOD };
            assert_eq!(
                judge(coded(vec![GOOD, nan])),
                Fault::ResultNonFinite { field: "seed_coded.pairs[1].loss_minus".into() }
            );
            assert_eq!(
                judge(coded(vec![GOOD])),
                Fault::ResultShape { field: "seed_coded.pairs".into(), expected: 2, got: 1 }
            );
            let dense = submission(ResultBody::Dense { gradient: vec![0.0; 3], loss: 0.0 });
            assert!(matches!(judge(dense), Fault::FieldsInvalid(_)));
            let foreign = Submission { theta_hash: ThetaHash([4; 32]), ..coded(vec![GOOD; 2]) };
            assert!(matches!(judge(foreign), Fault::ResultThetaHash { .. }));
        }
    }

    #[test]
    fn counts_that_cannot_be_true_are_refused() {
        for (inner_steps, diverged_lanes, field) in
            [(41, 0, "inner_steps"), (u64::MAX, 0, "inner_steps"), (40, 5, "diverged_lanes")]
        {
            let submission = Submission { inner_steps, diverged_lanes, ..coded(vec![GOOD; 2]) };
            let refused = decide(&EXPECTED, &lease(LeaseState::Held), false, &submission, [1; 32]).unwrap_err();
            assert!(matches!(&refused, Fault::FieldsInvalid(fields) if fields[0].field == field), "{refused:?}");
        }
        let most = Submission { inner_steps: 40, diverged_lanes: 4, ..coded(vec![GOOD; 2]) };
        assert_eq!(decide(&EXPECTED, &lease(LeaseState::Held), false, &most, [1; 32]), Ok(Decision::Fill));
    }

    #[test]
    fn dense_results_are_as_long_as_theta_and_finite() {
        let expected = Expected { dense: true, ..EXPECTED };
        let judge = |gradient: Vec<f32>, loss: f64| {
            let body = ResultBody::Dense { gradient, loss };
            decide(&expected, &lease(LeaseState::Held), false, &submission(body), [1; 32])
        };
        assert_eq!(judge(vec![0.0; 3], 1.0), Ok(Decision::Fill));
        assert_eq!(
            judge(vec![0.0; 4], 1.0),
            Err(Fault::ResultShape { field: "dense.gradient".into(), expected: 3, got: 4 })
        );
        assert_eq!(
            judge(vec![0.0, f32::INFINITY, 0.0], 1.0),
            Err(Fault::ResultNonFinite { field: "dense.gradient[1]".into() })
        );
        assert_eq!(judge(vec![0.0; 3], f64::NAN), Err(Fault::ResultNonFinite { field: "dense.loss".into() }));
    }
}
