//! A learned optimizer against tuned Adam on held-out tasks.
//!
//! ```text
//!  families × contenders × seeds ─► units of work ─► threads take the next unit ─► curves, by unit ─► report
//!             learned, its initialisation, Adam × 15 rates      (each computes alone, on one thread)
//! ```
//!
//! Every contender trains the same task instances from the same initial weights on the same batches: seeds come from
//! [`Purpose::Evaluation`], which training never touches. A unit's numbers depend on nothing but the unit, so the
//! report is the same whatever the number of threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use paceline_optimizer_core::evaluation::{Curve, CurveSettings, curves};
use paceline_optimizer_core::optimizer::{Adam, Optimizer, OptimizerConfig};
use paceline_optimizer_core::{Purpose, Seed, Theta};
use paceline_proto::model::{EvaluationSpec, RunSpec};

use crate::failure::{Exit, Failure};
use crate::recipe::Built;

pub(crate) mod plot;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod score;
pub(crate) mod table;

/// Test batches averaged at each evaluation.
const TEST_BATCHES: u32 = 5;
/// Evaluations on the test split a curve, about.
const TEST_POINTS: u32 = 50;

/// An optimizer in the comparison.
#[derive(Debug)]
pub(crate) struct Contender {
    /// As in tables.
    pub(crate) name: String,
    /// What it is to the comparison.
    pub(crate) role: Role,
    optimizer: Box<dyn Optimizer>,
}

/// What a contender is to the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// The checkpoint's theta.
    Learned,
    /// The theta it began from.
    Initial,
    /// Adam at this learning rate.
    Adam {
        /// The rate.
        learning_rate: f32,
    },
}

/// The curves of all contenders on one family.
#[derive(Clone, Debug)]
pub(crate) struct FamilyCurves {
    /// The family's name.
    pub(crate) family: String,
    /// For each contender, in order, one curve a seed.
    pub(crate) contenders: Vec<Vec<Curve>>,
}

/// The learning rates Adam is tried at: {1, 3} × 10^k for k = −7 … −1, and 1
/// (`baselines/hparam_sets.py` of google/learned_optimization).
pub(crate) fn adam_learning_rates() -> Vec<f32> {
    let mut rates: Vec<f32> = (-7..=-1).flat_map(|k| [1.0, 3.0].map(|m| (m * 10.0_f64.powi(k)) as f32)).collect();
    rates.push(1.0);
    rates
}

/// The learned optimizer with `theta`, the same with the run's initial theta, and Adam at every rate.
pub(crate) fn contenders(built: &Built, run: Seed, theta: &Theta) -> Result<Vec<Contender>, Failure> {
    let initial = built.optimizer.init_theta(run.purpose(Purpose::Theta));
    let mut all = vec![
        Contender { name: "learned".into(), role: Role::Learned, optimizer: built.optimizer.bind(theta.clone())? },
        Contender { name: "learned, untrained".into(), role: Role::Initial, optimizer: built.optimizer.bind(initial)? },
    ];
    for learning_rate in adam_learning_rates() {
        let name = format!("adam {learning_rate:e}");
        let optimizer = OptimizerConfig::Adam(Adam::new(learning_rate)).build()?;
        all.push(Contender { name, role: Role::Adam { learning_rate }, optimizer });
    }
    Ok(all)
}

/// The held-out seeds of the family at `place` in a run's mixture.
pub(crate) fn held_out_seeds(run: Seed, place: usize, count: u32) -> Vec<Seed> {
    let family = run.purpose(Purpose::Evaluation).fold_in(place as u64);
    (0..count).map(|index| family.fold_in(u64::from(index))).collect()
}

/// Number of units of work of an evaluation.
pub(crate) fn unit_count(built: &Built, contenders: &[Contender], settings: EvaluationSpec) -> usize {
    built.families.len() * contenders.len() * settings.seeds as usize
}

/// Trains everything on `threads` threads. `progress` moves by one a finished unit.
pub(crate) fn run(
    spec: &RunSpec,
    built: &Built,
    contenders: &[Contender],
    threads: usize,
    cancelled: &AtomicBool,
    progress: &ProgressBar,
) -> Result<Vec<FamilyCurves>, Failure> {
    let EvaluationSpec { steps, seeds: count } = spec.evaluation;
    let settings = CurveSettings { steps, every: steps.div_ceil(TEST_POINTS).max(1), batches: TEST_BATCHES };
    let count = count as usize;
    let unit = |index: usize| -> Result<Curve, Failure> {
        let (place, rest) = (index / (contenders.len() * count), index % (contenders.len() * count));
        let seed = held_out_seeds(spec.seed, place, spec.evaluation.seeds)[rest % count];
        let optimizer = &*contenders[rest / count].optimizer;
        let mut curve = curves(&*built.families[place], optimizer, &[seed], &settings, cancelled)?;
        curve.pop().ok_or_else(|| Failure::bug("an evaluation of one seed gave no curve"))
    };
    let total = unit_count(built, contenders, spec.evaluation);
    let mut all = in_parallel(total, threads, &unit, progress)?.into_iter();
    let families = spec.tasks.iter().map(|task| FamilyCurves {
        family: task.family.clone(),
        contenders: contenders.iter().map(|_| all.by_ref().take(count).collect()).collect(),
    });
    Ok(families.collect())
}

/// `work(0), work(1), …` in order, computed by threads that each take the next piece. The first failure by index wins.
pub(crate) fn in_parallel<T: Send>(
    total: usize,
    threads: usize,
    work: &(dyn Fn(usize) -> Result<T, Failure> + Sync),
    progress: &ProgressBar,
) -> Result<Vec<T>, Failure> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let finished = Mutex::new(Vec::with_capacity(total));
    let take_units = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= total {
                break;
            }
            let result = work(index);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            finished.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
            progress.inc(1);
        }
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads.clamp(1, total.max(1))).map(|_| scope.spawn(|| alone(take_units))).collect();
        started.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(Failure::bug("a computing thread panicked")),
        })
    })?;
    let mut finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    finished.sort_by_key(|(index, _)| *index);
    finished.into_iter().map(|(_, result)| result).collect()
}

/// Runs `work` so that rayon, where the tensor code uses it, stays on this thread.
fn alone(work: impl FnOnce() + Send) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let pool = pool.map_err(|error| Failure::new(Exit::Io, "NO_THREADS", "cannot start threads").cause(error))?;
    pool.install(work);
    Ok(())
}

/// The number of processors this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_fifteen_rates_from_1e_7_to_1() {
        let rates = adam_learning_rates();
        assert_eq!(rates.len(), 15);
        assert_eq!((rates[0], rates[1], rates[13], rates[14]), (1e-7, 3e-7, 0.3, 1.0));
    }

    #[test]
    fn held_out_seeds_differ_by_place_and_number_and_from_training() {
        let run = Seed::new(1);
        let mut seeds = [held_out_seeds(run, 0, 50), held_out_seeds(run, 1, 50)].concat();
        let training = (0..50)
            .flat_map(|slot| (0..4).map(move |pair| paceline_optimizer_core::schedule::task_seed(run, slot, 0, pair)));
        seeds.extend(training);
        let distinct: std::collections::HashSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), seeds.len());
    }

    #[test]
    fn results_come_in_order_whatever_the_threads() {
        for threads in [1, 2, 7, 100] {
            let got = in_parallel(50, threads, &|index| Ok(index * index), &ProgressBar::hidden());
            assert_eq!(got, Ok((0..50).map(|index| index * index).collect()), "{threads} threads");
        }
    }

    #[test]
    fn a_failure_stops_the_rest() {
        let done = AtomicUsize::new(0);
        let work = |index| {
            done.fetch_add(1, Ordering::Relaxed);
            if index == 3 { Err(Failure::bug("three")) } else { Ok(index) }
        };
        let failure = in_parallel(1000, 1, &work, &ProgressBar::hidden()).expect_err("unit 3 fails");
        assert_eq!(failure.message, "three");
        assert_eq!(done.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn nothing_to_do_is_done_at_once() {
        assert_eq!(in_parallel(0, 4, &|index| Ok(index), &ProgressBar::hidden()), Ok(vec![]));
    }
}
