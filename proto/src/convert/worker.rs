//! Who works, and what a heartbeat answers.

use std::time::Duration;

use super::{
    Converted, MAX_FAMILIES, MAX_HOLDINGS, MAX_LEASES, ProtocolError, at_most, list, millis, short_text, worker_id,
};
use crate::model::{
    Directive, HeartbeatAnswer, HeartbeatReport, LeaseRequest, Registered, Registration, ReleaseRequest,
};
use crate::pb;

impl TryFrom<pb::RegisterWorkerRequest> for Registration {
    type Error = ProtocolError;

    fn try_from(request: pb::RegisterWorkerRequest) -> Converted<Self> {
        at_most(request.families.len(), MAX_FAMILIES, "families")?;
        let named = |(index, family)| short_text(family, &format!("families[{index}]"));
        Ok(Self {
            protocol: request.protocol,
            worker: worker_id(&request.worker, "worker")?,
            code_version: short_text(request.code_version, "code_version")?,
            device: short_text(request.device, "device")?,
            threads: request.threads,
            families: request.families.into_iter().enumerate().map(named).collect::<Converted<_>>()?,
        })
    }
}

impl From<Registration> for pb::RegisterWorkerRequest {
    fn from(registration: Registration) -> Self {
        Self {
            protocol: registration.protocol,
            worker: registration.worker.into(),
            code_version: registration.code_version,
            device: registration.device,
            threads: registration.threads,
            families: registration.families,
        }
    }
}

impl TryFrom<pb::RegisterWorkerResponse> for Registered {
    type Error = ProtocolError;

    fn try_from(response: pb::RegisterWorkerResponse) -> Converted<Self> {
        for (field, value) in [("heartbeat_ms", response.heartbeat_ms), ("lease_ttl_ms", response.lease_ttl_ms)] {
            if value == 0 {
                return Err(ProtocolError::invalid(field, "is at least 1 ms, got 0"));
            }
        }
        Ok(Self {
            epoch: response.epoch,
            heartbeat: Duration::from_millis(response.heartbeat_ms.into()),
            lease_ttl: Duration::from_millis(response.lease_ttl_ms.into()),
        })
    }
}

impl From<Registered> for pb::RegisterWorkerResponse {
    fn from(registered: Registered) -> Self {
        Self {
            epoch: registered.epoch,
            heartbeat_ms: millis(registered.heartbeat),
            lease_ttl_ms: millis(registered.lease_ttl),
        }
    }
}

impl TryFrom<pb::LeaseWorkRequest> for LeaseRequest {
    type Error = ProtocolError;

    fn try_from(request: pb::LeaseWorkRequest) -> Converted<Self> {
        Ok(Self {
            worker: worker_id(&request.worker, "worker")?,
            wait: Duration::from_millis(request.wait_ms.into()),
            holdings: list(request.holdings, MAX_HOLDINGS, "holdings")?,
        })
    }
}

impl From<LeaseRequest> for pb::LeaseWorkRequest {
    fn from(request: LeaseRequest) -> Self {
        Self {
            worker: request.worker.into(),
            wait_ms: millis(request.wait),
            holdings: request.holdings.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::HeartbeatRequest> for HeartbeatReport {
    type Error = ProtocolError;

    fn try_from(request: pb::HeartbeatRequest) -> Converted<Self> {
        Ok(Self {
            worker: worker_id(&request.worker, "worker")?,
            leases: list(request.leases, MAX_LEASES, "leases")?,
            epoch: request.epoch,
            inner_steps: request.inner_steps,
        })
    }
}

impl From<HeartbeatReport> for pb::HeartbeatRequest {
    fn from(report: HeartbeatReport) -> Self {
        Self {
            worker: report.worker.into(),
            leases: report.leases.into_iter().map(Into::into).collect(),
            epoch: report.epoch,
            inner_steps: report.inner_steps,
        }
    }
}

impl TryFrom<pb::HeartbeatResponse> for HeartbeatAnswer {
    type Error = ProtocolError;

    fn try_from(response: pb::HeartbeatResponse) -> Converted<Self> {
        at_most(response.directives.len(), MAX_LEASES, "directives")?;
        let directive = |(index, number): (usize, &i32)| match pb::Directive::try_from(*number) {
            Ok(pb::Directive::Continue) => Ok(Directive::Continue),
            Ok(pb::Directive::Cancel) => Ok(Directive::Cancel),
            Ok(pb::Directive::Unspecified) | Err(_) => {
                let reason = format!("value {number} is not known to this version of paceline");
                Err(ProtocolError::invalid(format!("directives[{index}]"), reason))
            }
        };
        Ok(Self {
            epoch: response.epoch,
            directives: response.directives.iter().enumerate().map(directive).collect::<Converted<_>>()?,
            known: response.known,
        })
    }
}

impl From<HeartbeatAnswer> for pb::HeartbeatResponse {
    fn from(answer: HeartbeatAnswer) -> Self {
        let number = |directive: &Directive| match directive {
            Directive::Continue => pb::Directive::Continue.into(),
            Directive::Cancel => pb::Directive::Cancel.into(),
        };
        Self { epoch: answer.epoch, directives: answer.directives.iter().map(number).collect(), known: answer.known }
    }
}

impl TryFrom<pb::ReleaseLeasesRequest> for ReleaseRequest {
    type Error = ProtocolError;

    fn try_from(request: pb::ReleaseLeasesRequest) -> Converted<Self> {
        Ok(Self { worker: worker_id(&request.worker, "worker")?, leases: list(request.leases, MAX_LEASES, "leases")? })
    }
}

impl From<ReleaseRequest> for pb::ReleaseLeasesRequest {
    fn from(request: ReleaseRequest) -> Self {
        Self { worker: request.worker.into(), leases: request.leases.into_iter().map(Into::into).collect() }
    }
}
