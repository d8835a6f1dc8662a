//! `paceline bench fold`: how long the coordinator needs to turn a step's reports into a meta-gradient.
//!
//! ```text
//!  seeds and weights of N pairs ─► redraw ─► multiply, add ─► VeLO's 2.3 M values
//!                                  floor: normals / rate + multiply-adds / rate, on all threads
//! ```

use std::num::NonZeroUsize;
use std::time::Instant;

use paceline_coordinator::Threads;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss, PairReport};
use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizerConfig};
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::outer::{Contribution, OuterConfig, Report, SlotResult, ThetaOptimizer, fold_with};
use paceline_optimizer_core::perturbation::{Noise, TermCost};
use paceline_optimizer_core::schedule::{HorizonSchedule, Trajectory, Window};
use paceline_optimizer_core::{Layout, Seed};
use serde_json::{Value, json};

use super::machine;
use super::rates::Rates;
use crate::arguments::BenchFold;
use crate::console::Console;
use crate::evaluation::table::plain;
use crate::failure::Failure;
use crate::pace::short;

/// One kind of noise, timed.
struct Timing {
    noise: Noise,
    /// Pairs asked for.
    pairs: u32,
    /// Pairs folded; times are scaled to those asked for.
    measured: u32,
    /// Seconds of each repeat, scaled, shortest first.
    seconds: Vec<f64>,
    /// Of all pairs asked for.
    cost: TermCost,
    floor: f64,
}

/// `paceline bench fold`.
pub(crate) fn fold(arguments: &BenchFold, console: Console) -> Result<(), Failure> {
    let low_rank = Noise::LowRank { rank: arguments.rank };
    low_rank.validate()?;
    let optimizer = velo().build()?;
    let layout = optimizer.layout();
    let threads = machine::threads(arguments.threads);
    let rates = Rates::measure();
    let dense_pairs = arguments.dense_pairs.unwrap_or(arguments.pairs.min(256)).min(arguments.pairs);
    let time = |noise, measured| time(noise, arguments, measured, layout, threads, rates);
    let timings = [time(low_rank, arguments.pairs)?, time(Noise::Dense, dense_pairs)?];
    console.emit(&json!({
        "program": "paceline",
        "benchmark": "fold",
        "device": "cpu",
        "instruction_set": machine::instruction_set(),
        "values": layout.size(),
        "threads": threads,
        "repeats": arguments.repeats,
        "normals_per_second_a_thread": rates.normals,
        "multiply_adds_per_second_a_thread": rates.products,
        "folds": timings.iter().map(object).collect::<Vec<_>>(),
    }));
    say(&timings, layout, threads, rates, console);
    Ok(())
}

/// The optimizer of the size that VeLO was published in.
fn velo() -> LearnedOptimizerConfig {
    let config = HyperV2Config { lstm_hidden_size: 512, param_inits: 256, ..HyperV2Config::default() };
    LearnedOptimizerConfig::HyperV2(config)
}

fn time(
    noise: Noise,
    arguments: &BenchFold,
    measured: u32,
    layout: &Layout,
    threads: usize,
    rates: Rates,
) -> Result<Timing, Failure> {
    let (run, pairs) = (Seed::new(1), f64::from(arguments.pairs));
    let kind = EstimatorKind::FullEs { loss: MetaLoss::Average };
    let horizon = HorizonSchedule::Constant { steps: 1 };
    let estimator = EstimatorConfig { noise, ..EstimatorConfig::new(kind, 0.01, horizon) };
    // A slot a pair: any number of pairs will do.
    let outer = OuterConfig {
        steps: 1,
        slots: measured,
        pairs_per_slot: 1,
        optimizer: ThetaOptimizer::default(),
        clip: None,
        clip_norm: None,
        accumulation: 1,
        report: Report::SeedCoded,
    };
    let contributions = contributions(measured);
    let threads = Threads::new(NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN));
    let mut seconds = Vec::new();
    for _ in 0..arguments.repeats {
        let begun = Instant::now();
        fold_with(&threads, run, 0, &outer, &estimator, layout, &contributions)?;
        seconds.push(begun.elapsed().as_secs_f64() * pairs / f64::from(measured));
    }
    seconds.sort_by(f64::total_cmp);
    let TermCost { normals, adds, products } = noise.term_cost(1, layout);
    let cost = TermCost { normals: pairs * normals, adds: pairs * adds, products: pairs * products };
    let floor = (cost.normals / rates.normals + cost.products / rates.products) / threads.count() as f64;
    Ok(Timing { noise, pairs: arguments.pairs, measured, seconds, cost, floor })
}

/// Reports as of an untrained optimizer: small differences of either sign.
fn contributions(pairs: u32) -> Vec<Contribution> {
    let mut draws = Draws::new(Seed::new(2));
    let window = Window { current: Trajectory::default(), next: None };
    let report = |fresh| PairReport { fresh, carried: 0.0, loss_plus: 1.0 + fresh, loss_minus: 1.0 };
    let slot = |slot| Contribution {
        slot,
        window,
        result: SlotResult::SeedCoded(vec![report(0.01 * f64::from(draws.normal()))]),
        inner_steps: 1,
        diverged_lanes: 0,
    };
    (0..pairs).map(slot).collect()
}

impl Timing {
    fn least(&self) -> f64 {
        self.seconds[0]
    }

    fn median(&self) -> f64 {
        self.seconds[self.seconds.len() / 2]
    }

    /// Bytes that reports of all pairs take on the wire and in the journal.
    fn bytes(&self) -> u64 {
        32 * u64::from(self.pairs)
    }

    fn name(&self) -> String {
        match self.noise {
            Noise::LowRank { rank } => format!("low_rank, rank {rank}"),
            Noise::Dense | Noise::Orthogonal => self.noise.name().to_owned(),
        }
    }
}

fn object(timing: &Timing) -> Value {
    json!({
        "noise": crate::console::plain_json(&timing.noise),
        "pairs": timing.pairs,
        "measured_pairs": timing.measured,
        "seconds": {"min": timing.least(), "median": timing.median()},
        "pairs_per_second": f64::from(timing.pairs) / timing.median(),
        "floor_seconds": timing.floor,
        "normals": timing.cost.normals,
        "multiply_adds": {"products": timing.cost.products, "sums": timing.cost.adds},
        "report_bytes": timing.bytes(),
    })
}

fn say(timings: &[Timing], layout: &Layout, threads: usize, rates: Rates, console: Console) {
    let headings = ["noise", "pairs", "min s", "median s", "pairs/s", "floor s", "normals", "multiply-adds"];
    let mut table = plain(&headings);
    for timing in timings {
        table.add_row([
            timing.name(),
            timing.pairs.to_string(),
            format!("{:.3}", timing.least()),
            format!("{:.3}", timing.median()),
            short(f64::from(timing.pairs) / timing.median()),
            format!("{:.3}", timing.floor),
            short(timing.cost.normals),
            short(timing.cost.products + timing.cost.adds),
        ]);
    }
    let bytes = timings.iter().map(Timing::bytes).max().unwrap_or(0) as f64;
    console.say(format!("fold into VeLO's {} values, threads: {threads}\n{table}", layout.size()));
    for timing in timings.iter().filter(|timing| timing.measured < timing.pairs) {
        let Timing { pairs, measured, .. } = timing;
        console.say(format!("{}: {measured} pairs were folded, times are scaled to {pairs}", timing.name()));
    }
    console.say(format!(
        "floor: {} normals/s and {} multiply-adds/s of products a thread, as measured here; sums are not in it",
        short(rates.normals),
        short(rates.products),
    ));
    let (size, pairs) = (layout.size() as f64, timings.first().map_or(1, |timing| timing.pairs));
    console.say(format!(
        "bytes: reports {} in all, the sums {} each; dense results would be {} a slot, whatever its pairs ({pairs} here)",
        short(bytes),
        short(8.0 * size),
        short(4.0 * size),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fold_is_timed_and_its_cost_known() {
        let arguments = BenchFold { pairs: 4, rank: 1, repeats: 2, threads: Some(2), dense_pairs: None };
        let layout = velo().build().unwrap().layout().clone();
        let rates = Rates { normals: 1e8, products: 1e10 };
        let timing = time(Noise::LowRank { rank: 1 }, &arguments, 2, &layout, 2, rates).unwrap();
        assert_eq!((timing.seconds.len(), timing.bytes()), (2, 128));
        assert!(timing.least() > 0.0 && timing.least() <= timing.median());
        assert_eq!(timing.cost.normals, 4.0 * 49_510.0);
        let floor = (timing.cost.normals / 1e8 + timing.cost.products / 1e10) / 2.0;
        assert!((timing.floor - floor).abs() < 1e-12);
        assert_eq!(object(&timing)["measured_pairs"], 2);
    }
}
