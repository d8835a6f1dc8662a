//! `paceline bench update`: one step of an optimizer on a list of tensors.
//!
//! ```text
//!  rep 0: learned │ Adam │ AdamW │ rep 1: learned │ Adam │ AdamW │ …      same gradients, same process, in turn
//! ```

use std::sync::Arc;
use std::time::Instant;

use paceline_optimizer_core::optimizer::{Optimizer, OptimizerConfig};
use paceline_optimizer_core::{Layout, Params, Result, Seed, noise};
use serde_json::{Value, json};

use super::times::Times;
use super::{machine, named, shapes};
use crate::arguments::BenchUpdate;
use crate::console::Console;
use crate::evaluation::table::plain;
use crate::failure::{Exit, Failure};
use crate::pace::short;
use crate::progress::pieces;

/// Steps of each optimizer that are not timed.
const WARM_UP: u32 = 3;

/// One optimizer, timed.
struct Contender {
    name: String,
    optimizer: Box<dyn Optimizer>,
    /// Bytes of its state a parameter, parameters included.
    state_bytes: f64,
    times: Times,
}

/// `paceline bench update`.
pub(super) fn update(arguments: &BenchUpdate, console: Console) -> Result<(), Failure> {
    let layout = shapes::layout(&arguments.shapes)?;
    let learned = named::learned(&arguments.optimizer)?;
    let bound = learned.bind(learned.init_theta(Seed::new(1)))?;
    let mut contenders = vec![contender(&arguments.optimizer.optimizer, bound)?];
    for name in ["adam", "adam_w"] {
        let config = json!({"kind": name, "learning_rate": 1e-3});
        let config: OptimizerConfig = serde_json::from_value(config).map_err(Failure::bug)?;
        contenders.push(contender(name, config.build()?)?);
    }
    check_memory(&contenders, &layout, &arguments.shapes)?;
    let threads = machine::threads(arguments.threads);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
        Failure::new(Exit::CannotCreate, "THREAD", format!("cannot start {threads} threads"))
            .cause(error)
            .help("ask for fewer with --threads")
    })?;
    let bar = pieces(console, "steps", u64::from(arguments.reps + WARM_UP) * contenders.len() as u64);
    pool.install(|| time(&mut contenders, &layout, arguments.reps, || bar.inc(1)))?;
    bar.finish_and_clear();
    console.emit(&json!({
        "program": "paceline",
        "benchmark": "update",
        "device": "cpu",
        "instruction_set": machine::instruction_set(),
        "shapes": arguments.shapes,
        "tensors": layout.len(),
        "parameters": layout.size(),
        "threads": threads,
        "reps": arguments.reps,
        "optimizers": contenders.iter().map(|contender| row(contender, &layout)).collect::<Vec<_>>(),
    }));
    say(&contenders, &layout, arguments, threads, console);
    Ok(())
}

fn contender(name: &str, optimizer: Box<dyn Optimizer>) -> Result<Contender, Failure> {
    let state_bytes = state_bytes(&*optimizer)?;
    Ok(Contender { name: name.into(), optimizer, state_bytes, times: Times::default() })
}

/// Bytes of an optimizer's state a parameter, as it is for one matrix; parameters included.
fn state_bytes(optimizer: &dyn Optimizer) -> Result<f64> {
    let layout = Layout::new(vec![paceline_optimizer_core::TensorSpec::new("w", [256, 256])])?;
    let state = optimizer.init(Params::zeros(&layout, 1), &[1000])?;
    let values: usize = state.slots.iter().map(|slot| slot.lane(0).len()).sum();
    Ok(4.0 * (layout.size() + values) as f64 / layout.size() as f64)
}

/// Refuses what would not fit: a machine that swaps measures its disk.
fn check_memory(contenders: &[Contender], layout: &Layout, shapes: &str) -> Result<(), Failure> {
    let largest = contenders.iter().map(|contender| contender.state_bytes).fold(0.0, f64::max);
    // Gradients, the parameters that every contender begins with, and a quarter of all for what a step needs besides.
    let needed = 1.25 * (largest + 4.0 + 4.0) * layout.size() as f64;
    match machine::available_bytes() {
        Some(there) if needed > there as f64 => {
            let message = format!(
                "--shapes {shapes} needs about {:.1} GB for {} parameters and their state, {:.1} GB are free",
                needed / 1e9,
                layout.size(),
                there as f64 / 1e9
            );
            Err(Failure::new(Exit::BadInput, "MEMORY", message).help("choose smaller --shapes, or free some memory"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Steps each by itself, as a training does, and notes its times. (In turn they would throw each other's state out of the
/// cache: 16 MB of Adam's fit a server's L3, those of three optimizers do not.)
fn time(contenders: &mut [Contender], layout: &Arc<Layout>, reps: u32, done: impl Fn()) -> Result<()> {
    let grads = random(layout, 2, 0.01);
    let params = random(layout, 1, 0.1);
    for contender in contenders {
        let mut state = contender.optimizer.init(params.clone(), &[1000])?;
        for rep in 0..WARM_UP + reps {
            let begun = Instant::now();
            state = contender.optimizer.update(state, &grads, &[1.0])?;
            if rep >= WARM_UP {
                contender.times.push(begun.elapsed().as_secs_f64());
            }
            done();
        }
    }
    Ok(())
}

/// Normal values of this scale.
fn random(layout: &Arc<Layout>, seed: u64, scale: f32) -> Params {
    let mut params = Params::zeros(layout, 1);
    for index in 0..layout.len() {
        let tensor = params.tensor_mut(index);
        noise::normals(Seed::new(seed).fold_in(index as u64), 0, tensor);
        tensor.iter_mut().for_each(|value| *value *= scale);
    }
    params
}

fn row(contender: &Contender, layout: &Layout) -> Value {
    let Contender { name, state_bytes, times, .. } = contender;
    let a_parameter = |seconds: f64| 1e9 * seconds / layout.size() as f64;
    json!({
        "optimizer": name,
        "state_bytes_per_parameter": state_bytes,
        "seconds": times.median(),
        "seconds_min": times.min(),
        "ns_per_parameter": a_parameter(times.median()),
        "ns_per_parameter_min": a_parameter(times.min()),
    })
}

fn say(contenders: &[Contender], layout: &Layout, arguments: &BenchUpdate, threads: usize, console: Console) {
    let headings = ["optimizer", "min ms", "median ms", "min ns/parameter", "median ns/parameter", "state B/parameter"];
    let mut table = plain(&headings);
    for Contender { name, state_bytes, times, .. } in contenders {
        let a_parameter = |seconds: f64| format!("{:.3}", 1e9 * seconds / layout.size() as f64);
        table.add_row([
            name.clone(),
            format!("{:.3}", 1e3 * times.min()),
            format!("{:.3}", 1e3 * times.median()),
            a_parameter(times.min()),
            a_parameter(times.median()),
            format!("{state_bytes:.0}"),
        ]);
    }
    console.say(format!(
        "a step on {}: {} parameters in {} tensors, threads: {threads}, instructions: {}\n{table}",
        arguments.shapes,
        short(layout.size() as f64),
        layout.len(),
        machine::instruction_set(),
    ));
}
