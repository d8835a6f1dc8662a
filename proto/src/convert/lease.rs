//! Leases and what comes back for them.
//!
//! Numbers of a result that are NaN or infinite pass through on purpose: the coordinator refuses them by name
//! ([`crate::fault::Fault::ResultNonFinite`]) and counts the refusal in the ledger, which a failed conversion could not.

use std::time::Duration;

use bytes::Bytes;
use paceline_optimizer_core::estimator::PairReport;
use paceline_optimizer_core::schedule::{Trajectory, Window};

use super::spec::Wire;
use super::{
    Converted, MAX_HOLDINGS, MAX_PAIRS, MAX_SLOTS, ProtocolError, at_most, cut, list, millis, nested, optional, run_id,
    theta_hash, token, vector, worker_id,
};
use crate::model::{Holdings, Lease, LeaseKey, ResultBody, RunSpec, SeedCoded, Submission, SubmissionOutcome, Verdict};
use crate::pb;

impl TryFrom<pb::LeaseKey> for LeaseKey {
    type Error = ProtocolError;

    fn try_from(key: pb::LeaseKey) -> Converted<Self> {
        Ok(Self {
            run: run_id(&key.run, "run")?,
            outer_step: key.outer_step,
            slot: key.slot,
            token: token(&key.token, "token")?,
        })
    }
}

impl From<LeaseKey> for pb::LeaseKey {
    fn from(key: LeaseKey) -> Self {
        Self {
            run: key.run.into(),
            outer_step: key.outer_step,
            slot: key.slot,
            token: Bytes::copy_from_slice(&key.token.0),
        }
    }
}

impl TryFrom<pb::Trajectory> for Wire<Trajectory> {
    type Error = ProtocolError;

    fn try_from(trajectory: pb::Trajectory) -> Converted<Self> {
        if trajectory.horizon == 0 {
            return Err(ProtocolError::invalid("horizon", "is at least 1 inner step, got 0"));
        }
        if trajectory.offset >= trajectory.horizon {
            let reason = format!("is below the horizon {}, got {}", trajectory.horizon, trajectory.offset);
            return Err(ProtocolError::invalid("offset", reason));
        }
        let length = trajectory.horizon - trajectory.offset;
        if trajectory.inner_step > length {
            let reason = format!("is at most the trajectory's length {length}, got {}", trajectory.inner_step);
            return Err(ProtocolError::invalid("inner_step", reason));
        }
        Ok(Self(Trajectory {
            index: trajectory.index,
            family: trajectory.family as usize,
            horizon: trajectory.horizon,
            offset: trajectory.offset,
            began: trajectory.began,
            inner_step: trajectory.inner_step,
        }))
    }
}

impl From<Wire<Trajectory>> for pb::Trajectory {
    fn from(Wire(trajectory): Wire<Trajectory>) -> Self {
        Self {
            index: trajectory.index,
            family: u32::try_from(trajectory.family).unwrap_or(u32::MAX),
            horizon: trajectory.horizon,
            offset: trajectory.offset,
            began: trajectory.began,
            inner_step: trajectory.inner_step,
        }
    }
}

impl TryFrom<pb::Lease> for Lease {
    type Error = ProtocolError;

    fn try_from(lease: pb::Lease) -> Converted<Self> {
        let current = nested::<_, Wire<Trajectory>>(lease.current, "current")?.0;
        let next = optional::<_, Wire<Trajectory>>(lease.next, "next")?.map(|wire| wire.0);
        let spec = optional::<_, RunSpec>(lease.spec, "spec")?.map(Box::new);
        if let Some(spec) = &spec {
            let families = [("current.family", Some(current)), ("next.family", next)];
            for (field, trajectory) in families {
                if trajectory.is_some_and(|trajectory| trajectory.family >= spec.tasks.len()) {
                    let reason = format!("is an index into the {} tasks of spec", spec.tasks.len());
                    return Err(ProtocolError::invalid(field, reason));
                }
            }
        }
        if let Some(theta) = &lease.theta {
            vector(theta, "theta")?;
        }
        Ok(Self {
            key: LeaseKey {
                run: run_id(&lease.run, "run")?,
                outer_step: lease.outer_step,
                slot: lease.slot,
                token: token(&lease.token, "token")?,
            },
            attempt: lease.attempt,
            epoch: lease.epoch,
            ttl: Duration::from_millis(lease.ttl_ms.into()),
            window: Window { current, next },
            theta_hash: theta_hash(&lease.theta_hash, "theta_hash")?,
            theta: lease.theta,
            spec,
            // A place that cannot be read is none: work does not depend on it.
            traceparent: lease.traceparent.parse().ok(),
        })
    }
}

impl From<Lease> for pb::Lease {
    fn from(lease: Lease) -> Self {
        Self {
            run: lease.key.run.into(),
            outer_step: lease.key.outer_step,
            slot: lease.key.slot,
            attempt: lease.attempt,
            token: Bytes::copy_from_slice(&lease.key.token.0),
            epoch: lease.epoch,
            ttl_ms: millis(lease.ttl),
            current: Some(Wire(lease.window.current).into()),
            next: lease.window.next.map(|next| Wire(next).into()),
            theta_hash: Bytes::copy_from_slice(&lease.theta_hash.0),
            theta: lease.theta,
            spec: lease.spec.map(|spec| (*spec).into()),
            traceparent: lease.traceparent.map(|place| place.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::Holdings> for Holdings {
    type Error = ProtocolError;

    fn try_from(holdings: pb::Holdings) -> Converted<Self> {
        at_most(holdings.slots.len(), MAX_SLOTS, "slots")?;
        Ok(Self { run: run_id(&holdings.run, "run")?, theta_version: holdings.theta_version, slots: holdings.slots })
    }
}

impl From<Holdings> for pb::Holdings {
    fn from(holdings: Holdings) -> Self {
        Self { run: holdings.run.into(), theta_version: holdings.theta_version, slots: holdings.slots }
    }
}

impl TryFrom<pb::SubmitResultRequest> for Submission {
    type Error = ProtocolError;

    fn try_from(request: pb::SubmitResultRequest) -> Converted<Self> {
        let body = match request.body.ok_or_else(|| ProtocolError::Missing { field: "body".into() })? {
            pb::submit_result_request::Body::SeedCoded(coded) => {
                ResultBody::SeedCoded(coded.try_into().map_err(|error: ProtocolError| error.within("seed_coded"))?)
            }
            pb::submit_result_request::Body::Dense(dense) => {
                vector(&dense.gradient, "dense.gradient")?;
                ResultBody::Dense { gradient: floats(&dense.gradient), loss: dense.loss }
            }
            pb::submit_result_request::Body::Failure(failure) => ResultBody::Failure { reason: cut(failure.reason) },
        };
        Ok(Self {
            worker: worker_id(&request.worker, "worker")?,
            lease: nested(request.lease, "lease")?,
            theta_hash: theta_hash(&request.theta_hash, "theta_hash")?,
            body,
            inner_steps: request.inner_steps,
            diverged_lanes: request.diverged_lanes,
            want_lease: request.want_lease,
            holdings: list(request.holdings, MAX_HOLDINGS, "holdings")?,
        })
    }
}

impl From<Submission> for pb::SubmitResultRequest {
    fn from(submission: Submission) -> Self {
        let body = match submission.body {
            ResultBody::SeedCoded(coded) => pb::submit_result_request::Body::SeedCoded(coded.into()),
            ResultBody::Dense { gradient, loss } => {
                let gradient = gradient.iter().flat_map(|value| value.to_le_bytes()).collect();
                pb::submit_result_request::Body::Dense(pb::Dense { gradient, loss })
            }
            ResultBody::Failure { reason } => {
                pb::submit_result_request::Body::Failure(pb::Failure { reason: cut(reason) })
            }
        };
        Self {
            worker: submission.worker.into(),
            lease: Some(submission.lease.into()),
            theta_hash: Bytes::copy_from_slice(&submission.theta_hash.0),
            body: Some(body),
            inner_steps: submission.inner_steps,
            diverged_lanes: submission.diverged_lanes,
            want_lease: submission.want_lease,
            holdings: submission.holdings.into_iter().map(Into::into).collect(),
        }
    }
}

fn floats(bytes: &Bytes) -> Vec<f32> {
    let four = |chunk: &[u8]| f32::from_le_bytes(chunk.try_into().expect("chunks_exact gives four bytes"));
    bytes.chunks_exact(4).map(four).collect()
}

impl TryFrom<pb::SeedCoded> for SeedCoded {
    type Error = ProtocolError;

    fn try_from(coded: pb::SeedCoded) -> Converted<Self> {
        let expected = coded.fresh.len();
        at_most(expected, MAX_PAIRS, "fresh")?;
        let siblings = [
            ("carried", coded.carried.len()),
            ("loss_plus", coded.loss_plus.len()),
            ("loss_minus", coded.loss_minus.len()),
        ];
        if let Some((field, got)) = siblings.into_iter().find(|(_, length)| *length != expected) {
            return Err(ProtocolError::Shape { field: field.into(), expected, got });
        }
        let pair = |index: usize| PairReport {
            fresh: coded.fresh[index],
            carried: coded.carried[index],
            loss_plus: coded.loss_plus[index],
            loss_minus: coded.loss_minus[index],
        };
        Ok(Self { pairs: (0..expected).map(pair).collect() })
    }
}

impl From<SeedCoded> for pb::SeedCoded {
    fn from(coded: SeedCoded) -> Self {
        Self {
            fresh: coded.pairs.iter().map(|pair| pair.fresh).collect(),
            carried: coded.pairs.iter().map(|pair| pair.carried).collect(),
            loss_plus: coded.pairs.iter().map(|pair| pair.loss_plus).collect(),
            loss_minus: coded.pairs.iter().map(|pair| pair.loss_minus).collect(),
        }
    }
}

impl TryFrom<pb::SubmitResultResponse> for SubmissionOutcome {
    type Error = ProtocolError;

    fn try_from(response: pb::SubmitResultResponse) -> Converted<Self> {
        let verdict = match response.verdict() {
            pb::Verdict::Unspecified => {
                let reason = format!("value {} is not known to this version of paceline", response.verdict);
                return Err(ProtocolError::invalid("verdict", reason));
            }
            pb::Verdict::Accepted => Verdict::Accepted,
            pb::Verdict::AlreadyAccepted => Verdict::AlreadyAccepted,
            pb::Verdict::Superseded => Verdict::Superseded,
            pb::Verdict::FailureNoted => Verdict::FailureNoted,
        };
        Ok(Self { verdict, next: optional(response.next, "next")? })
    }
}

impl From<SubmissionOutcome> for pb::SubmitResultResponse {
    fn from(outcome: SubmissionOutcome) -> Self {
        let verdict = match outcome.verdict {
            Verdict::Accepted => pb::Verdict::Accepted,
            Verdict::AlreadyAccepted => pb::Verdict::AlreadyAccepted,
            Verdict::Superseded => pb::Verdict::Superseded,
            Verdict::FailureNoted => pb::Verdict::FailureNoted,
        };
        Self { verdict: verdict.into(), next: outcome.next.map(Into::into) }
    }
}
