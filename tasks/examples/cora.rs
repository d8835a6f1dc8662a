//! Test accuracy of the three graph networks on Cora, by Kipf and Welling's recipe (arXiv 1609.02907, section 5.2): 200
//! steps of Adam at 0.01. They report 81.5 % for `graph_gcn`.
//!
//! ```text
//! cargo run --release -p paceline-tasks --example cora -- DATA [SEEDS]
//! ```
//!
//! The recipe is the families' defaults with `data = "cora"`; nothing is chosen on the test split.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::evaluation::{CurveSettings, curves};
use paceline_optimizer_core::optimizer::{Adam, OptimizerConfig};

// As in the binaries: the system allocator returns large buffers to the kernel and faults them in again every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let data = PathBuf::from(arguments.first().ok_or("usage: cora DATA [SEEDS]")?);
    let seeds: u64 = arguments.get(1).map_or(Ok(10), |count| count.parse())?;
    // TensorFlow's Adam has no epsilon inside the root.
    let adam = OptimizerConfig::Adam(Adam { epsilon_root: 0.0, ..Adam::new(0.01) }).build()?;
    let seeds: Vec<Seed> = (1..=seeds).map(Seed::new).collect();
    for name in ["graph_gcn", "graph_gat", "graph_sage"] {
        let settings = serde_json::Map::from_iter([("data".to_owned(), "cora".into())]);
        let family = paceline_tasks::build(name, &settings, Some(&data))?;
        println!("{family:?}");
        let start = Instant::now();
        let taken = CurveSettings { steps: 200, every: 200, batches: 1 };
        let curves = curves(&*family, &*adam, &seeds, &taken, &AtomicBool::new(false))?;
        let last: Option<Vec<f64>> = curves.iter().map(|curve| curve.test_accuracy.last().copied().flatten()).collect();
        let last = last.ok_or("no classifier")?;
        let count = last.len() as f64;
        let mean = last.iter().sum::<f64>() / count;
        let variance = last.iter().map(|accuracy| (accuracy - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let (low, high) = last.iter().fold((1.0_f64, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
        println!(
            "  test accuracy of {count} seeds: mean {:.2} %, deviation {:.2}, {:.1} to {:.1}; {:.1} s a seed",
            100.0 * mean,
            100.0 * variance.sqrt(),
            100.0 * low,
            100.0 * high,
            start.elapsed().as_secs_f64() / count,
        );
    }
    Ok(())
}
