//! What an inner step costs, and how well hand-tuned optimizers do on each family.
//!
//! ```text
//! cargo run -p paceline-tasks --example inner_loop -- time            microseconds a step, one thread
//! cargo run -p paceline-tasks --example inner_loop -- train [DATA]    loss and accuracy of Adam and SGD
//! ```

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use paceline_optimizer_core::task::{Split, TaskFamily};
use paceline_optimizer_core::{Params, Seed};

// As in the binaries: the system allocator returns large buffers to the kernel and faults them in again every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn family(name: &str, settings: serde_json::Value, data_dir: Option<&PathBuf>) -> Result<Arc<dyn TaskFamily>> {
    let settings = settings.as_object().ok_or("settings are an object")?;
    Ok(paceline_tasks::build(name, settings, data_dir.map(PathBuf::as_path))?)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let data_dir = arguments.get(1).map(PathBuf::from);
    match arguments.first().map(String::as_str) {
        Some("time") => time(),
        Some("train") => train(data_dir.as_ref()),
        _ => Err("usage: inner_loop time | train [DATA]".into()),
    }
}

fn time() -> Result<()> {
    let cases = [
        ("image_mlp", serde_json::json!({})),
        ("image_conv", serde_json::json!({})),
        ("image_conv", serde_json::json!({"max_pool": true})),
    ];
    for (name, settings) in cases {
        let family = family(name, settings, None)?;
        println!("{family:?}");
        for seeds in [vec![1], vec![1, 1], vec![1, 2]] {
            let seeds: Vec<Seed> = seeds.into_iter().map(Seed::new).collect();
            let mut lanes = family.bind(&seeds)?;
            let params = lanes.init_params()?;
            let steps = if name == "image_mlp" { 400 } else { 20 };
            let mut times = Vec::new();
            for round in 0..12 {
                let start = Instant::now();
                for step in 0..steps {
                    black_box(lanes.loss_and_grads(&params, round * steps + step)?);
                }
                times.push(start.elapsed().as_secs_f64() * 1e6 / (steps as f64 * seeds.len() as f64));
            }
            times.sort_by(f64::total_cmp);
            println!("  lanes {seeds:?}: {:.1} us a lane-step (minimum), {:.1} (median)", times[0], times[6]);
        }
    }
    Ok(())
}

/// Adam with the usual constants, or plain gradient descent.
struct Rule {
    adam: bool,
    rate: f32,
}

fn run(family: &dyn TaskFamily, rule: &Rule, steps: u64) -> Result<(f64, f64, f32)> {
    let mut lanes = family.bind(&[Seed::new(7)])?;
    let mut params = lanes.init_params()?;
    let mut first = Params::zeros(family.layout(), 1);
    let mut second = Params::zeros(family.layout(), 1);
    let mut losses = Vec::new();
    for step in 0..steps {
        let (loss, grads) = lanes.loss_and_grads(&params, step)?;
        losses.push(family.normalise(f64::from(loss[0])));
        let time = step as i32 + 1;
        for index in 0..family.layout().len() {
            let moments = first.tensor_mut(index).iter_mut().zip(second.tensor_mut(index));
            let values = params.tensor_mut(index).iter_mut().zip(grads.tensor(index));
            for ((m, v), (value, &grad)) in moments.zip(values) {
                *m = 0.9 * *m + 0.1 * grad;
                *v = 0.999 * *v + 0.001 * grad * grad;
                let (m_hat, v_hat) = (*m / (1.0 - 0.9_f32.powi(time)), *v / (1.0 - 0.999_f32.powi(time)));
                *value -= rule.rate * if rule.adam { m_hat / (v_hat.sqrt() + 1e-8) } else { grad };
            }
        }
    }
    let batches = 8;
    let mut accuracy = 0.0;
    for batch in 0..batches {
        accuracy += lanes.evaluate(&params, Split::Test, batch)?[0].accuracy.ok_or("no classifier")? / batches as f32;
    }
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    let last = losses[losses.len() - 20..].iter().sum::<f64>() / 20.0;
    Ok((mean, last, accuracy))
}

fn train(data_dir: Option<&PathBuf>) -> Result<()> {
    let data = if data_dir.is_some() { "auto" } else { "procedural" };
    for (name, steps) in [("image_mlp", [100, 1000]), ("image_conv", [100, 400])] {
        let family = family(name, serde_json::json!({"data": data}), data_dir)?;
        println!("{family:?}");
        for steps in steps {
            for (adam, rates) in [(true, [0.1, 0.03, 0.01, 0.003, 0.001]), (false, [3.0, 1.0, 0.3, 0.1, 0.01])] {
                for rate in rates {
                    let (mean, last, accuracy) = run(&*family, &Rule { adam, rate }, steps)?;
                    let rule = if adam { "adam" } else { "sgd" };
                    println!(
                        "  {steps} steps {rule} {rate}: mean {mean:.3} last 20 {last:.3} test accuracy {accuracy:.3}"
                    );
                }
            }
        }
    }
    Ok(())
}
