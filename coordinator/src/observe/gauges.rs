//! Series that are looked up when somebody scrapes: from the last survey, the store and the clock.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use paceline_proto::model::{Ledger, RunState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Observer, Seen};
use crate::machine::{RunView, Survey};

/// A series: labels and a value.
type Sample = (Vec<(&'static str, String)>, f64);

/// Looks when asked.
#[derive(Debug)]
pub(crate) struct Gauges {
    observer: Observer,
}

impl Gauges {
    /// Of what this observer sees.
    pub(crate) fn new(observer: Observer) -> Self {
        Self { observer }
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Seen { survey, at, epoch } = self.observer.seen();
        let plain = |value: f64| vec![(Vec::new(), value)];
        let mut gauge = Writer(&mut encoder);
        let version = vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
        gauge.write("build_info", "What runs", None, &version)?;
        gauge.write("coordinator_epoch", "Starts of a coordinator on this store", None, &plain(epoch as f64))?;
        let broken = self.observer.store_broken().is_some();
        gauge.write("store_read_only", "Whether nothing more can be stored", None, &plain(f64::from(broken)))?;
        let age = Some(&Unit::Seconds);
        gauge.write("survey_age", "Age of what is told here of workers and runs", age, &plain(elapsed(at)))?;
        let store = self.observer.store_bytes().map(|bytes| (Vec::new(), bytes as f64));
        gauge.write("store", "Size of the store on disk", Some(&Unit::Bytes), &Vec::from_iter(store))?;
        let journal = vec![(Vec::new(), self.observer.journal_bytes() as f64)];
        gauge.write("journal", "Accepted results kept for a restart", Some(&Unit::Bytes), &journal)?;
        let end = self.observer.certificate_end().map(|end| (Vec::new(), end as f64));
        let help = "End of the coordinator's certificate, in seconds since 1970";
        gauge.write("certificate_expiry_timestamp", help, age, &Vec::from_iter(end))?;
        gauge.write("workers", "Live workers", None, &workers(&survey))?;
        gauge.write("workers_waiting", "Workers waiting for a lease", None, &plain(survey.waiting as f64))?;
        gauge.write("worker_inner_steps_per_second", "Inner steps a second by heartbeats", None, &rates(&survey))?;
        for (name, help, value) in PER_RUN {
            gauge.write(name, help, None, &per_run(&survey, value))?;
        }
        let checkpoint = |view: &RunView| self.observer.checkpoint_age(&view.state.run).as_secs_f64();
        let going = survey.runs.iter().filter(|view| going(view));
        let ages: Vec<Sample> = going.map(|view| (vec![run(&view.state)], checkpoint(view))).collect();
        gauge.write("checkpoint_age", "Time since the newest checkpoint, or this start", age, &ages)?;
        gauge.write("meta_loss", "Meta-loss of the last step, by family", None, &by_family(&survey))?;
        gauge.count("inner_steps", "Inner steps folded, all lanes", &totals(&survey, |entry| entry.inner_steps))?;
        gauge.count("inner_diverged", "Lanes that ended non-finite", &totals(&survey, |entry| entry.diverged_lanes))
    }
}

/// A value of a run, where it has one.
type OfRun = fn(&RunView) -> Option<f64>;

const PER_RUN: [(&str, &str, OfRun); 13] = [
    ("leases", "Leases held", |view| going(view).then_some(view.held as f64)),
    ("pending_slots", "Slots of the current step without a result", |view| {
        going(view).then_some(view.pending_slots as f64)
    }),
    ("step", "Folded outer steps", |view| Some(view.state.outer_step as f64)),
    ("steps", "Outer steps planned", |view| Some(view.state.spec.outer.steps as f64)),
    ("step_meta_loss", "Mean meta-loss of the last step", |view| view.state.meta_loss),
    ("meta_grad_norm", "Norm of the last meta-gradient before clipping", |view| view.state.grad_norm),
    ("meta_grad_snr", "Signal to noise of the last meta-gradient", |view| view.state.variance.signal_to_noise),
    ("update_norm", "Distance that theta moved in the last step", |view| view.update_norm),
    ("effective_samples", "Pairs that carry the last meta-gradient", |view| view.effective_samples),
    ("unroll_position_ratio", "Mean place of the step's windows in their trajectories", |view| view.unroll_position),
    ("oldest_lease_seconds", "Age of the oldest lease held", |view| view.oldest_lease.map(|age| age.as_secs_f64())),
    ("checkpoint_lag_steps", "Outer steps since the newest checkpoint", |view| {
        Some(view.state.outer_step.saturating_sub(view.state.durable_checkpoint) as f64)
    }),
    ("ledger_imbalance", "Leases the ledger cannot account for; must be 0", |view| Some(imbalance(&view.state.ledger))),
];

fn going(view: &RunView) -> bool {
    !view.state.status.is_final()
}

fn imbalance(ledger: &Ledger) -> f64 {
    let Ledger { issued, accepted, superseded, expired, released, rejected, outstanding } = *ledger;
    issued as f64
        - [accepted, superseded, expired, released, rejected, outstanding].map(|count| count as f64).iter().sum::<f64>()
}

fn elapsed(at: Instant) -> f64 {
    at.elapsed().as_secs_f64()
}

fn run(state: &RunState) -> (&'static str, String) {
    ("run", state.run.to_string())
}

fn workers(survey: &Survey) -> Vec<Sample> {
    let sample = |device: &str, state: &str, count: usize| {
        (vec![("device_class", device.to_owned()), ("state", state.to_owned())], count as f64)
    };
    let groups = survey.workers.iter();
    groups
        .flat_map(|group| {
            let device = group.device.name();
            [sample(device, "active", group.active), sample(device, "suspect", group.suspect)]
        })
        .collect()
}

fn rates(survey: &Survey) -> Vec<Sample> {
    let rate = |group: &crate::machine::WorkerGroup| {
        (vec![("device_class", group.device.name().to_owned())], group.inner_steps_per_second)
    };
    survey.workers.iter().map(rate).collect()
}

fn per_run(survey: &Survey, value: OfRun) -> Vec<Sample> {
    survey.runs.iter().filter_map(|view| Some((vec![run(&view.state)], value(view)?))).collect()
}

/// Mean over the entries of a family that had a slot in the last step.
fn by_family(survey: &Survey) -> Vec<Sample> {
    let mut samples = Vec::new();
    for view in &survey.runs {
        let mut families: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (task, loss) in view.state.spec.tasks.iter().zip(&view.entry_losses) {
            if let Some(loss) = loss {
                let (count, sum) = families.entry(&task.family).or_default();
                *count += 1.0;
                *sum += loss;
            }
        }
        let sample = |(family, (count, sum)): (&str, (f64, f64))| {
            (vec![run(&view.state), ("family", family.to_owned())], sum / count)
        };
        samples.extend(families.into_iter().map(sample));
    }
    samples
}

fn totals(survey: &Survey, count: fn(&paceline_proto::model::EntryProgress) -> u64) -> Vec<Sample> {
    let mut samples = Vec::new();
    for view in &survey.runs {
        let mut families: BTreeMap<&str, u64> = BTreeMap::new();
        for (task, entry) in view.state.spec.tasks.iter().zip(&view.state.entries) {
            *families.entry(&task.family).or_default() += count(entry);
        }
        let sample =
            |(family, total): (&str, u64)| (vec![run(&view.state), ("family", family.to_owned())], total as f64);
        samples.extend(families.into_iter().map(sample));
    }
    samples
}

/// Writes one name with all its series.
struct Writer<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Writer<'_, '_> {
    fn write(&mut self, name: &str, help: &str, unit: Option<&Unit>, samples: &[Sample]) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_gauge(value)?;
            } else {
                metric.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str, help: &str, samples: &[Sample]) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            metric.encode_family(labels)?.encode_counter::<Vec<(&str, String)>, _, f64>(value, None)?;
        }
        Ok(())
    }
}
