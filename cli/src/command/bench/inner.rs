//! `paceline bench inner`: inner steps a second of whole meta-gradients.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::executors::Executors;
use super::machine;
use super::meta_gradient::{Computed, MetaGradient};
use super::times::Times;
use crate::arguments::{BenchInner, InnerWork, NoiseKind};
use crate::console::Console;
use crate::evaluation::table::plain;
use crate::failure::Failure;
use crate::pace::short;
use crate::progress::pieces;

/// One number of threads, timed.
pub(super) struct Timing {
    pub(super) threads: usize,
    pub(super) times: Times,
    /// Of one repeat.
    pub(super) inner_steps: u64,
    /// Of all repeats.
    pub(super) diverged_lanes: u64,
    /// Mean normalised loss of the last repeat.
    pub(super) loss: f64,
}

impl Timing {
    /// Inner steps a second in the median.
    pub(super) fn rate(&self) -> f64 {
        self.inner_steps as f64 / self.times.median()
    }

    /// Inner steps a second at best.
    pub(super) fn best_rate(&self) -> f64 {
        self.inner_steps as f64 / self.times.min()
    }
}

/// `paceline bench inner`.
pub(super) fn inner(arguments: &BenchInner, console: Console) -> Result<(), Failure> {
    let work = &arguments.work;
    let meta_gradient = Arc::new(MetaGradient::new(work)?);
    let threads = machine::threads(arguments.threads);
    let timings = time(&meta_gradient, work, &[threads], console)?;
    for timing in &timings {
        let mut object = describe(work, &meta_gradient);
        object["threads"] = timing.threads.into();
        add_times(&mut object, timing);
        console.emit(&object);
        say(work, &meta_gradient, timing, console);
    }
    Ok(())
}

/// Times meta-gradients at each number of threads, which take turns. The first of each is not timed.
pub(super) fn time(
    meta_gradient: &Arc<MetaGradient>,
    work: &InnerWork,
    threads: &[usize],
    console: Console,
) -> Result<Vec<Timing>, Failure> {
    let executors = threads.iter().map(|threads| Executors::new(*threads)).collect::<Result<Vec<_>, _>>()?;
    let fresh = |threads: &usize| {
        let (threads, times) = (*threads, Times::default());
        Timing { threads, times, inner_steps: 0, diverged_lanes: 0, loss: f64::NAN }
    };
    let mut timings: Vec<Timing> = threads.iter().map(fresh).collect();
    let bar = pieces(console, "meta-gradients", threads.len() as u64 * u64::from(work.reps + 1));
    for rep in 0..=u64::from(work.reps) {
        for (executors, timing) in executors.iter().zip(&mut timings) {
            let begun = Instant::now();
            let Computed { inner_steps, diverged_lanes, loss } = meta_gradient.compute(executors, rep)?;
            if rep > 0 {
                timing.times.push(begun.elapsed().as_secs_f64());
                timing.inner_steps = inner_steps;
                timing.diverged_lanes += diverged_lanes;
                timing.loss = loss;
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(timings)
}

/// What was measured, without the times.
pub(super) fn describe(work: &InnerWork, meta_gradient: &MetaGradient) -> Value {
    let cost = meta_gradient.family().cost();
    json!({
        "program": "paceline",
        "benchmark": "inner",
        "device": "cpu",
        "instruction_set": machine::instruction_set(),
        "optimizer": work.optimizer.optimizer,
        "task": work.task,
        "family": meta_gradient.family().name(),
        "pairs": work.pairs,
        "steps": work.steps,
        "reps": work.reps,
        "theta": meta_gradient.theta_size(),
        "inner_parameters": meta_gradient.family().layout().size(),
        "task_flop_per_inner_step": cost.flop,
        "noise": noise_word(work.noise),
        "rank": (work.noise == NoiseKind::LowRank).then_some(work.rank),
    })
}

/// Adds what one number of threads took.
pub(super) fn add_times(object: &mut Value, timing: &Timing) {
    object["inner_steps"] = timing.inner_steps.into();
    object["diverged_lanes"] = timing.diverged_lanes.into();
    object["loss"] = timing.loss.into();
    object["seconds"] = timing.times.median().into();
    object["seconds_min"] = timing.times.min().into();
    object["inner_steps_per_second"] = timing.rate().round().into();
    object["inner_steps_per_second_max"] = timing.best_rate().round().into();
}

fn noise_word(noise: NoiseKind) -> &'static str {
    match noise {
        NoiseKind::Dense => "dense",
        NoiseKind::LowRank => "low_rank",
    }
}

fn say(work: &InnerWork, meta_gradient: &MetaGradient, timing: &Timing, console: Console) {
    let mut table = plain(&["optimizer", "theta", "threads", "min s", "median s", "inner steps/s", "at best"]);
    table.add_row([
        work.optimizer.optimizer.clone(),
        meta_gradient.theta_size().to_string(),
        timing.threads.to_string(),
        format!("{:.4}", timing.times.min()),
        format!("{:.4}", timing.times.median()),
        format!("{:.0}", timing.rate()),
        format!("{:.0}", timing.best_rate()),
    ]);
    console.say(format!("{}\n{table}", headline(work, meta_gradient)));
    warn_of_divergence(timing, console);
}

/// What was measured, in a sentence.
pub(super) fn headline(work: &InnerWork, meta_gradient: &MetaGradient) -> String {
    let family = meta_gradient.family();
    format!(
        "meta-gradients of {} pairs x {} steps on {} ({} parameters, {} flop an inner step), noise: {}, instructions: {}",
        work.pairs,
        work.steps,
        family.name(),
        family.layout().size(),
        short(family.cost().flop),
        noise_word(work.noise),
        machine::instruction_set(),
    )
}

/// Lanes that diverge compute nothing from then on.
pub(super) fn warn_of_divergence(timing: &Timing, console: Console) {
    if timing.diverged_lanes > 0 {
        let (lanes, threads) = (timing.diverged_lanes, timing.threads);
        console.say(format!(
            "{lanes} lanes diverged at {threads} threads: they stopped computing, so times are too short"
        ));
    }
}
