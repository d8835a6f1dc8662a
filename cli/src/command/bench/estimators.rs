//! `paceline bench estimators`: every estimator that runs windows, on the toy regression, beside the published curves.
//!
//! Everything runs through what meta-training runs through: windows of a slot, pairs, reports, the fold, Adam over theta.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::outer::{Contribution, OuterConfig, OuterState, Report, SlotResult, ThetaOptimizer, fold};
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{PairId, UnrollContext, window_pair};
use paceline_optimizer_core::{Error, Result, Seed};
use serde_json::{Value, json};

use super::regression::{DecayedRate, HORIZON, Regression, whole_loss};
use crate::arguments::BenchEstimators;
use crate::console::Console;
use crate::evaluation::score::{Spread, spread};
use crate::evaluation::table::plain;
use crate::failure::Failure;
use crate::progress::pieces;

/// Inner steps of a window.
const WINDOW: u32 = 10;
/// Antithetic pairs: a population of 128.
const PAIRS: u32 = 64;
const SIGMA: f32 = 0.2;

/// Generations of the published curves.
const GENERATIONS: [u64; 7] = [0, 500, 1000, 2000, 3000, 4000, 4500];

/// An estimator and the curve published for it, where there is one: evosax @ 270b4e7,
/// `examples/07_persistent_es.ipynb`, one seed.
struct Entry {
    name: &'static str,
    kind: EstimatorKind,
    published: Option<[f64; GENERATIONS.len()]>,
}

/// The published curve of PES.
const PES: [f64; GENERATIONS.len()] = [2423.47, 2321.65, 1545.29, 730.35, 618.68, 604.82, 602.42];

const ENTRIES: [Entry; 4] = [
    Entry { name: "pes", kind: EstimatorKind::Pes { window: WINDOW }, published: Some(PES) },
    Entry {
        name: "nres",
        kind: EstimatorKind::Nres { window: WINDOW },
        published: Some([2423.47, 2095.82, 1656.34, 743.01, 628.86, 600.68, 597.65]),
    },
    Entry { name: "gpes(50)", kind: EstimatorKind::Gpes { window: WINDOW, period: 50 }, published: None },
    Entry { name: "truncated_es", kind: EstimatorKind::TruncatedEs { window: WINDOW }, published: None },
];

/// The loss of a whole trajectory at each of [`GENERATIONS`], under theta after that generation's update.
fn curve(kind: EstimatorKind, seed: Seed, last: u64, stop: &AtomicBool) -> Result<Vec<f64>> {
    let estimator = EstimatorConfig {
        loss_from: LossFrom::SameData,
        ..EstimatorConfig::new(kind, SIGMA, HorizonSchedule::Constant { steps: HORIZON })
    };
    let optimizer = ThetaOptimizer { learning_rate: 1e-3, eps_root: 0.0, ..ThetaOptimizer::default() };
    let outer = OuterConfig {
        steps: last + 1,
        slots: 1,
        pairs_per_slot: PAIRS,
        optimizer,
        clip: None,
        clip_norm: None,
        accumulation: 1,
        report: Report::SeedCoded,
    };
    let rule = DecayedRate::new()?;
    let families: [Arc<dyn TaskFamily>; 1] = [Arc::new(Regression::new()?)];
    let progress = AtomicU64::new(0);
    let context = UnrollContext {
        run: seed,
        optimizer: &rule,
        estimator: &estimator,
        families: &families,
        trainer: None,
        cancelled: stop,
        progress: &progress,
    };
    let mut sequence = SlotSequence::new(seed, 0, &estimator, outer.steps, &[1.0])?;
    let mut state = OuterState::new(rule.init_theta(seed));
    let mut particles = vec![None; PAIRS as usize];
    let mut losses = Vec::new();
    for outer_step in 0..=last {
        let window = sequence.window();
        let mut reports = Vec::with_capacity(PAIRS as usize);
        let mut inner_steps = 0;
        for (pair, particle) in (0..).zip(&mut particles) {
            let id = PairId { outer_step, slot: 0, pair };
            let (outcome, next) = window_pair(&context, &state.theta, id, &window, particle.take())?;
            *particle = Some(next);
            reports.push(outcome.report);
            inner_steps += outcome.inner_steps;
        }
        let result = SlotResult::SeedCoded(reports);
        let contribution = Contribution { slot: 0, window, result, inner_steps, diverged_lanes: 0 };
        let folded = fold(seed, outer_step, &outer, &estimator, rule.layout(), &[contribution])?;
        state = state.apply(&outer, &folded)?;
        if GENERATIONS.contains(&outer_step) {
            losses.push(whole_loss(&state.theta));
        }
        sequence.advance();
    }
    Ok(losses)
}

/// What the seeds of one estimator gave at one generation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    mean: f64,
    /// Standard deviation over seeds; 0 with one seed.
    deviation: f64,
}

impl Cell {
    fn new(losses: &[f64]) -> Self {
        let Spread { mean, std, .. } = spread(losses);
        Self { mean, deviation: std }
    }

    /// Whether a published loss is reached: lies above the mean, or no more than two deviations below it, which is how
    /// far one seed's curve strays.
    fn reaches(self, published: f64) -> bool {
        self.mean - 2.0 * self.deviation <= published
    }
}

/// `paceline bench estimators`.
pub(super) fn estimators(arguments: &BenchEstimators, console: Console) -> Result<(), Failure> {
    let generations: Vec<u64> = GENERATIONS.into_iter().filter(|step| *step <= arguments.generations).collect();
    let last = *generations.last().unwrap_or(&0);
    let jobs: Vec<(usize, u64)> =
        (0..ENTRIES.len()).flat_map(|entry| (0..arguments.seeds.into()).map(move |seed| (entry, seed))).collect();
    let bar = pieces(console, "training", jobs.len() as u64);
    let curves = in_parallel(arguments.threads(), &jobs, |&(entry, seed), stop| {
        let curve = curve(ENTRIES[entry].kind, Seed::new(arguments.seed + seed), last, stop);
        bar.inc(1);
        curve
    })?;
    bar.finish_and_clear();
    let cells: Vec<Vec<Cell>> = (0..ENTRIES.len())
        .map(|entry| {
            let own = |generation: usize| -> Vec<f64> {
                let curves = jobs.iter().zip(&curves).filter(|((of, _), _)| *of == entry);
                curves.map(|(_, curve)| curve[generation]).collect()
            };
            (0..generations.len()).map(|generation| Cell::new(&own(generation))).collect()
        })
        .collect();
    show(arguments, &generations, &cells, console);
    Ok(())
}

/// Runs every job on one of `threads` threads; results in the order of the jobs. The first failure stops the others.
fn in_parallel<J: Sync, T: Send>(
    threads: usize,
    jobs: &[J],
    run: impl Fn(&J, &AtomicBool) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return done };
            let result = run(job, &stop);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            done.push((index, result));
        }
    };
    let mut results: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a job does not panic")).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    // A failure of its own comes before those it caused.
    let own = results.iter().position(|(_, result)| matches!(result, Err(error) if !matches!(error, Error::Cancelled)));
    if let Some(own) = own {
        return Err(results.swap_remove(own).1.err().expect("a failure was found there"));
    }
    results.into_iter().map(|(_, result)| result).collect()
}

fn show(arguments: &BenchEstimators, generations: &[u64], cells: &[Vec<Cell>], console: Console) {
    let headings: Vec<String> = ["estimator".to_owned()]
        .into_iter()
        .chain(generations.iter().map(|generation| format!("generation {generation}")))
        .chain(["reaches the published curve".to_owned()])
        .collect();
    let mut table = plain(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    let mut objects = Vec::new();
    for (entry, cells) in ENTRIES.iter().zip(cells) {
        let text = |cell: &Cell| match arguments.seeds {
            1 => format!("{:.2}", cell.mean),
            _ => format!("{:.2} ± {:.2}", cell.mean, cell.deviation),
        };
        // Estimators without a curve of their own are held to that of PES.
        let (published, whose) = match entry.published {
            Some(published) => (published, ""),
            None => (PES, " (of pes)"),
        };
        let reached: Vec<bool> = cells.iter().zip(published).map(|(cell, loss)| cell.reaches(loss)).collect();
        let verdict = match reached.iter().filter(|reached| !**reached).count() {
            0 => format!("yes{whose}"),
            short => format!("no{whose}, short at {short} of {}", reached.len()),
        };
        table.add_row([entry.name.to_owned()].into_iter().chain(cells.iter().map(text)).chain([verdict]));
        if let Some(published) = entry.published {
            let losses = published.iter().take(generations.len()).map(|loss| format!("{loss:.2}"));
            table.add_row(["  published".to_owned()].into_iter().chain(losses).chain([String::new()]));
        }
        objects.push(object(entry, generations, cells, &reached));
    }
    console.say(format!(
        "toy regression (arXiv 2112.13835): horizon {HORIZON}, window {WINDOW}, {PAIRS} pairs, sigma {SIGMA}, Adam 1e-3, \
         {} seeds",
        arguments.seeds
    ));
    console.say(table.to_string());
    console.say(
        "loss of a whole trajectory, mean ± standard deviation over seeds; published: evosax, one seed. Reached: at most two \
         deviations above the published loss at every generation.",
    );
    console.emit(&json!({"bench": "estimators", "seeds": arguments.seeds, "estimators": objects}));
}

fn object(entry: &Entry, generations: &[u64], cells: &[Cell], reached: &[bool]) -> Value {
    let points =
        generations.iter().zip(cells).zip(reached).enumerate().map(|(index, ((generation, cell), reached))| {
            json!({"generation": generation, "mean": cell.mean, "deviation": cell.deviation,
               "published": entry.published.map(|losses| losses[index]), "reached": reached})
        });
    json!({"estimator": entry.name, "curve": points.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_and_the_own_failure_is_told() {
        let doubled = in_parallel(3, &[1, 2, 3, 4, 5, 6, 7], |job, _| Ok(2 * job));
        assert_eq!(doubled.expect("nothing fails"), [2, 4, 6, 8, 10, 12, 14]);
        let failing = |job: &u32, _: &AtomicBool| -> Result<()> {
            match job {
                4 => Err(Error::NotFinite { what: "job 4".into() }),
                _ => Err(Error::Cancelled),
            }
        };
        assert!(matches!(in_parallel(2, &[1, 4], failing), Err(Error::NotFinite { .. })));
    }

    #[test]
    fn a_curve_is_reached_within_two_deviations() {
        let cell = Cell { mean: 610.0, deviation: 5.0 };
        assert!(cell.reaches(700.0) && cell.reaches(600.0) && !cell.reaches(599.0));
    }

    /// Long enough for truncated ES to have turned away.
    #[test]
    fn persistent_estimators_learn_what_truncated_es_cannot() {
        let stop = AtomicBool::new(false);
        let at_1000 = |kind| *curve(kind, Seed::new(1), 1000, &stop).expect("trains").last().expect("has a last point");
        let [pes, nres, truncated] = [
            EstimatorKind::Pes { window: WINDOW },
            EstimatorKind::Nres { window: WINDOW },
            EstimatorKind::TruncatedEs { window: WINDOW },
        ]
        .map(at_1000);
        assert!(pes < 2000.0 && nres < 2000.0 && truncated > 2400.0, "{pes} {nres} {truncated}");
    }
}
