//! `paceline bench scaling`: what more threads bring.

use std::sync::Arc;

use serde_json::{Value, json};

use super::inner::{self, Timing};
use super::machine;
use super::meta_gradient::MetaGradient;
use crate::arguments::BenchScaling;
use crate::console::Console;
use crate::evaluation::table::plain;
use crate::failure::{Exit, Failure};

/// `paceline bench scaling`.
pub(super) fn scaling(arguments: &BenchScaling, console: Console) -> Result<(), Failure> {
    let work = &arguments.work;
    let mut threads: Vec<usize> = match arguments.threads.as_slice() {
        [] => doubling(machine::available()),
        asked => asked.iter().map(|threads| usize::from(*threads)).collect(),
    };
    threads.sort_unstable();
    if let Some(twice) = threads.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("--threads names {} twice", twice[0]);
        return Err(Failure::new(Exit::BadInput, "SETTING_INVALID", message).help("name each number of threads once"));
    }
    // The most are warned of, if any are.
    machine::threads(threads.last().and_then(|most| u16::try_from(*most).ok()));
    let meta_gradient = Arc::new(MetaGradient::new(work)?);
    let timings = inner::time(&meta_gradient, work, &threads, console)?;
    let mut object = inner::describe(work, &meta_gradient);
    object["benchmark"] = "scaling".into();
    object["scaling"] = timings.iter().map(|timing| row(timing, &timings[0])).collect();
    console.emit(&object);
    let mut table = plain(&["threads", "min s", "median s", "inner steps/s", "at best", "efficiency"]);
    for timing in &timings {
        table.add_row([
            timing.threads.to_string(),
            format!("{:.4}", timing.times.min()),
            format!("{:.4}", timing.times.median()),
            format!("{:.0}", timing.rate()),
            format!("{:.0}", timing.best_rate()),
            format!("{:.0} %", 100.0 * efficiency(timing, &timings[0])),
        ]);
    }
    console.say(format!("{}, {}\n{table}", work.optimizer.optimizer, inner::headline(work, &meta_gradient)));
    timings.iter().for_each(|timing| inner::warn_of_divergence(timing, console));
    Ok(())
}

/// 1, 2, 4 … and `most`.
fn doubling(most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |threads| Some(2 * threads)).take_while(|threads| *threads < most);
    powers.chain([most]).collect()
}

/// Inner steps a second of a thread, over those of a thread of `first`; shortest times, which noise moves least.
fn efficiency(timing: &Timing, first: &Timing) -> f64 {
    let pace = |timing: &Timing| timing.best_rate() / timing.threads as f64;
    pace(timing) / pace(first)
}

fn row(timing: &Timing, first: &Timing) -> Value {
    let mut row = json!({"threads": timing.threads, "efficiency": efficiency(timing, first)});
    inner::add_times(&mut row, timing);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_double_up_to_the_machine() {
        assert_eq!(doubling(1), [1]);
        assert_eq!(doubling(2), [1, 2]);
        assert_eq!(doubling(6), [1, 2, 4, 6]);
    }
}
