//! A coordinator that should answer, and what its clock says of ours.

use std::time::{Duration, SystemTime};

use paceline_proto::client::{Access, Link};
use paceline_proto::pb::ListRunsRequest;
use paceline_proto::pb::run_service_client::RunServiceClient;
use tonic::Request;

use super::check::Check;
use crate::failure::{Exit, Failure};
use crate::remote::{Coordinator, runtime};

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a coordinator is looked for when none is named.
const USUAL_ADDRESS: &str = "http://127.0.0.1:7700";
/// Clocks that are further apart will see a certificate or a token end at different times.
const APART: Duration = Duration::from_secs(60);
/// 2026-01-01: this program did not exist before.
const BEFORE_US: Duration = Duration::from_secs(1_767_225_600);
/// 2100-01-01: no certificate lasts so long.
const TOO_LATE: Duration = Duration::from_secs(4_102_444_800);

/// What asking a coordinator taught.
pub(super) struct Heard {
    pub(super) check: Check,
    /// How late it was there, when it answered.
    pub(super) clock: Option<SystemTime>,
}

/// A coordinator that was named must answer; one that was not is only worth a remark.
pub(super) fn ask(named: Option<&str>, access: &Access) -> Result<Heard, Failure> {
    let address = named.unwrap_or(USUAL_ADDRESS);
    let (answer, clock) = runtime()?.block_on(async {
        let asked = async {
            let coordinator = Coordinator::with(address, access).await?;
            let runs = coordinator.runs.list().await;
            coordinator.answer(runs).map(|runs| runs.len())
        };
        let late = |_| Err(Failure::new(Exit::Unavailable, "TIMEOUT", format!("no answer within {PATIENCE:?}")));
        let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late);
        let link = access.link(address).ok().filter(|_| answer.is_ok());
        let clock = match link {
            Some(link) => tokio::time::timeout(PATIENCE, clock_of(link)).await.ok().flatten(),
            None => None,
        };
        (answer, clock)
    });
    let check = match (answer, named) {
        (Ok(runs), _) => Check::ok("coordinator", format!("{address} answers and knows {runs} runs")),
        (Err(failure), Some(_)) => {
            let found = std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ");
            Check::fail("coordinator", found, failure.help.unwrap_or_else(|| "see the coordinator's log".into()))
        }
        (Err(_), None) => Check::ok("coordinator", format!("none at {address}; `paceline train` needs none")),
    };
    Ok(Heard { check, clock })
}

/// The time at the other end, which its HTTP answers tell to the second.
async fn clock_of(link: Link) -> Option<SystemTime> {
    let request = Request::new(ListRunsRequest { page_size: 1, ..ListRunsRequest::default() });
    let answer = RunServiceClient::new(link).list_runs(request).await.ok()?;
    httpdate::parse_http_date(answer.metadata().get("date")?.to_str().ok()?).ok()
}

/// Whether this machine's clock will do for certificates and tokens. Runs do not care: leases live by durations alone.
pub(super) fn clock(now: SystemTime, coordinators: Option<SystemTime>) -> Check {
    let cure = "set it, best by a time service (NTP): certificates and tokens begin and end by the clock";
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let shown = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_1970.min(TOO_LATE));
    if !(BEFORE_US..TOO_LATE).contains(&since_1970) {
        return Check::fail("clock", format!("{shown} cannot be"), cure);
    }
    let Some(other) = coordinators else { return Check::ok("clock", shown) };
    let (apart, which) = match now.duration_since(other) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let found = format!("{shown}, {} s {which} the coordinator's", apart.as_secs());
    if apart > APART { Check::warn("clock", found, cure) } else { Check::ok("clock", found) }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn clocks_that_stand_at_their_beginning_or_end_are_found_out() {
        // 1970, 2106 (the last second of 32 bits), and a day between.
        for (seconds, outcome) in
            [(0, Outcome::Fail), (u64::from(u32::MAX), Outcome::Fail), (1_800_000_000, Outcome::Ok)]
        {
            assert_eq!(clock(at(seconds), None).outcome, outcome, "{seconds}");
        }
    }

    #[test]
    fn a_clock_far_from_the_coordinators_is_worth_a_warning() {
        let now = 1_800_000_000;
        assert_eq!(clock(at(now), Some(at(now + 60))).outcome, Outcome::Ok);
        let behind = clock(at(now), Some(at(now + 61)));
        assert!(
            behind.outcome == Outcome::Warn && behind.found.ends_with("61 s behind the coordinator's"),
            "{behind:?}"
        );
        let ahead = clock(at(now), Some(at(now - 3600)));
        assert!(ahead.outcome == Outcome::Warn && ahead.found.contains("3600 s ahead of"), "{ahead:?}");
    }
}
