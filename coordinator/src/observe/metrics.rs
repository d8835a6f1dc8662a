//! Counters and histograms. Labels are few: a run, a family, a class of device, a method, a code, a reason; never a
//! worker, a lease or a step.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::clock::Phase;
use crate::machine::{DeviceClass, Fact};

/// Labels of one series: names and values.
type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Everything that only grows.
#[derive(Debug)]
pub(crate) struct Metrics {
    worker_joins: Counters<1>,
    worker_losses: Counters<1>,
    heartbeat_delay: Histogram,
    leases_issued: Counters<2>,
    lease_outcomes: Counters<2>,
    lease_wait: Histogram,
    lease_duration: Histograms<2>,
    results_rejected: Counters<2>,
    results_late: Counters<1>,
    result_staleness: Histogram,
    step_duration: Histograms<1>,
    journal_append: Histogram,
    journal_fsync: Histogram,
    checkpoint: Histogram,
    shed: Counters<1>,
    rpc: Histograms<2>,
}

/// From 1 ms to 16 s: calls, waits, writes.
fn short() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

/// From 10 ms to 45 min: leases and steps.
fn long() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 10))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            worker_joins: Family::default(),
            worker_losses: Family::default(),
            heartbeat_delay: short(),
            leases_issued: Family::default(),
            lease_outcomes: Family::default(),
            lease_wait: long(),
            lease_duration: Family::new_with_constructor(long),
            results_rejected: Family::default(),
            results_late: Family::default(),
            result_staleness: Histogram::new([0.0, 1.0, 2.0, 4.0, 8.0, 16.0]),
            step_duration: Family::new_with_constructor(long),
            journal_append: short(),
            journal_fsync: short(),
            checkpoint: short(),
            shed: Family::default(),
            rpc: Family::new_with_constructor(short),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let seconds = || Unit::Seconds;
        // The name that others give to what every gRPC server measures.
        registry.register_with_unit(
            "rpc_server_call_duration",
            "Time of a call on the server",
            seconds(),
            self.rpc.clone(),
        );
        let ours = registry.sub_registry_with_prefix("paceline");
        ours.register("worker_joins", "Workers that registered and were not known", self.worker_joins.clone());
        ours.register("worker_losses", "Workers forgotten", self.worker_losses.clone());
        ours.register_with_unit(
            "heartbeat_delay",
            "How much later than asked for heartbeats came",
            seconds(),
            self.heartbeat_delay.clone(),
        );
        ours.register("leases_issued", "Leases given", self.leases_issued.clone());
        ours.register("lease_outcomes", "Leases ended", self.lease_outcomes.clone());
        ours.register_with_unit("lease_wait", "Time a worker waited for a lease", seconds(), self.lease_wait.clone());
        ours.register_with_unit(
            "lease_duration",
            "Time from a lease to the result that filled its slot",
            seconds(),
            self.lease_duration.clone(),
        );
        ours.register("results_rejected", "Results refused", self.results_rejected.clone());
        ours.register(
            "results_late",
            "Results that came after their lease was over or their slot was filled",
            self.results_late.clone(),
        );
        ours.register(
            "result_staleness_steps",
            "Outer steps a run was ahead of a result",
            self.result_staleness.clone(),
        );
        ours.register_with_unit("step_duration", "Phases of an outer step", seconds(), self.step_duration.clone());
        ours.register_with_unit(
            "journal_append",
            "Time to write a group of records, until durable",
            seconds(),
            self.journal_append.clone(),
        );
        ours.register_with_unit("journal_fsync", "Time of a flush to disk", seconds(), self.journal_fsync.clone());
        ours.register_with_unit("checkpoint", "Time to encode a checkpoint", seconds(), self.checkpoint.clone());
        ours.register("shed", "Calls refused because too many waited", self.shed.clone());
    }

    /// Counts a fact.
    pub(crate) fn count(&self, fact: &Fact) {
        let device = |device: &DeviceClass| ("device_class", device.name().to_owned());
        match fact {
            Fact::WorkerJoined(class) => bump(&self.worker_joins, [device(class)]),
            // Workers do not say good-bye: one that was told to stop falls silent like one that died.
            Fact::WorkerLost(_) => bump(&self.worker_losses, [("reason", "silent".to_owned())]),
            Fact::HeartbeatLate(delay) => self.heartbeat_delay.observe(delay.as_secs_f64()),
            Fact::LeaseIssued { run, kind, waited, open: _ } => {
                bump(&self.leases_issued, [("run", run.to_string()), ("attempt_kind", kind.name().to_owned())]);
                self.lease_wait.observe(waited.as_secs_f64());
            }
            Fact::LeaseEnded { run, token: _, outcome } => {
                bump(&self.lease_outcomes, [("run", run.to_string()), ("outcome", outcome.name().to_owned())]);
            }
            Fact::SlotFilled { family, device: class, took } => {
                let labels = [("family", family.clone()), device(class)];
                self.lease_duration.get_or_create(&labels).observe(took.as_secs_f64());
            }
            Fact::ResultJudged { run, staleness, late } => {
                self.result_staleness.observe(*staleness as f64);
                if *late {
                    bump(&self.results_late, [("run", run.to_string())]);
                }
            }
            Fact::ResultRejected { run, reason } => {
                bump(&self.results_rejected, [("run", run.to_string()), ("reason", (*reason).to_owned())]);
            }
        }
    }

    /// A phase of a step is over.
    pub(crate) fn phase(&self, phase: Phase, took: Duration) {
        let labels = [("phase", phase.name().to_owned())];
        self.step_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A group of records is durable; `flushes` are the times of its flushes.
    pub(crate) fn written(&self, whole: Duration, flushes: &[Duration]) {
        self.journal_append.observe(whole.as_secs_f64());
        flushes.iter().for_each(|flush| self.journal_fsync.observe(flush.as_secs_f64()));
    }

    /// A checkpoint is encoded.
    pub(crate) fn encoded(&self, took: Duration) {
        self.checkpoint.observe(took.as_secs_f64());
    }

    /// A call was refused because too many waited.
    pub(crate) fn shed(&self, lane: &'static str) {
        bump(&self.shed, [("lane", lane.to_owned())]);
    }

    /// A call was answered.
    pub(crate) fn called(&self, method: &str, code: &'static str, took: Duration) {
        let labels = [("method", method.to_owned()), ("code", code.to_owned())];
        self.rpc.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

fn bump<const N: usize>(counters: &Counters<N>, labels: Labels<N>) {
    counters.get_or_create(&labels).inc();
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use paceline_proto::model::Token;

    use super::*;
    use crate::machine::{AttemptKind, Outcome};

    #[test]
    fn facts_become_series() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let run = || "velo-1".parse().unwrap();
        let second = Duration::from_secs(1);
        for fact in [
            Fact::WorkerJoined(DeviceClass::Cuda),
            Fact::WorkerLost(DeviceClass::Cpu),
            Fact::HeartbeatLate(second),
            Fact::LeaseIssued { run: run(), kind: AttemptKind::Hedge, waited: second, open: 2 },
            Fact::LeaseEnded { run: run(), token: Token([1; 16]), outcome: Outcome::Expired },
            Fact::SlotFilled { family: "odd \"name\"".into(), device: DeviceClass::Cpu, took: second },
            Fact::ResultJudged { run: run(), staleness: 3, late: true },
            Fact::ResultJudged { run: run(), staleness: 0, late: false },
            Fact::ResultRejected { run: run(), reason: "RESULT_SHAPE" },
        ] {
            metrics.count(&fact);
        }
        metrics.phase(Phase::Commit, second);
        metrics.written(second, &[second / 2, second / 4]);
        metrics.called("paceline.v1.RunService/GetRun", "OK", second);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "paceline_worker_joins_total{device_class=\"cuda\"} 1",
            "paceline_worker_losses_total{reason=\"silent\"} 1",
            "paceline_heartbeat_delay_seconds_sum 1.0",
            "paceline_leases_issued_total{run=\"velo-1\",attempt_kind=\"hedge\"} 1",
            "paceline_lease_outcomes_total{run=\"velo-1\",outcome=\"expired\"} 1",
            "paceline_lease_duration_seconds_count{family=\"odd \\\"name\\\"\",device_class=\"cpu\"} 1",
            "paceline_results_late_total{run=\"velo-1\"} 1",
            "paceline_result_staleness_steps_sum 3.0",
            "paceline_results_rejected_total{run=\"velo-1\",reason=\"RESULT_SHAPE\"} 1",
            "paceline_step_duration_seconds_count{phase=\"commit\"} 1",
            "paceline_journal_append_seconds_count 1",
            "paceline_journal_fsync_seconds_count 2",
            "rpc_server_call_duration_seconds_count{method=\"paceline.v1.RunService/GetRun\",code=\"OK\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
