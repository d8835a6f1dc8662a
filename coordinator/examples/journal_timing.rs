//! Time that a journalled byte of a dense result takes, encoding, checksums, sled's chunks and flushes included, against
//! seed-coded results of the same slots: `cargo run --release -p paceline-coordinator --example journal_timing`.
//!
//! `optimizer-core` prices a dense result with this number (`outer::ResultForm`).

use std::sync::Arc;
use std::time::Instant;

use paceline_coordinator::machine::Record;
use paceline_coordinator::store::{Journal, SledStore};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::PairReport;
use paceline_optimizer_core::noise;
use paceline_optimizer_core::outer::{Contribution, SlotResult};
use paceline_optimizer_core::schedule::{Trajectory, Window};

/// Slots of a step, and steps: a step's results are dropped when the next one is written, as behind a checkpoint.
const SLOTS: u32 = 8;
const STEPS: u64 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>10} {:>8} {:>12} {:>10}", "result", "bytes", "ms a result", "ns a byte");
    let report = PairReport { fresh: 0.25, carried: -0.5, loss_plus: 1.0, loss_minus: 2.0 };
    let seed_coded = SlotResult::SeedCoded(vec![report; 16]);
    show("16 pairs", 16 * 32, &seed_coded)?;
    for values in [100_000, 2_320_385] {
        let mut gradient = vec![0.0; values];
        noise::normals(Seed::new(1), 0, &mut gradient);
        show("dense", 4 * values, &SlotResult::Dense { gradient, loss: 1.0 })?;
    }
    Ok(())
}

fn show(name: &str, bytes: usize, result: &SlotResult) -> Result<(), Box<dyn std::error::Error>> {
    let nanoseconds = journalled(result)?;
    let byte = nanoseconds / bytes as f64;
    println!("{name:>10} {bytes:>8} {:>12.3} {byte:>10.2}", nanoseconds / 1e6);
    Ok(())
}

/// Nanoseconds a result: the least over steps.
fn journalled(result: &SlotResult) -> Result<f64, Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("paceline-journal-timing-{}", std::process::id()));
    let store = Arc::new(SledStore::open(&folder)?);
    let mut journal = Journal::open(store)?.0;
    let window = Window { current: Trajectory::default(), next: None };
    let mut least = f64::INFINITY;
    for outer_step in 0..STEPS {
        let of_slot = |slot| Record::Result {
            run: 0,
            outer_step,
            contribution: Arc::new(Contribution {
                slot,
                window,
                result: result.clone(),
                inner_steps: 1,
                diverged_lanes: 0,
            }),
        };
        let records: Vec<Vec<Record>> = (0..SLOTS).map(|slot| vec![of_slot(slot)]).collect();
        let begun = Instant::now();
        for batch in &records {
            journal.write(std::slice::from_ref(batch))?;
        }
        journal.write(&[vec![Record::DropResults { run: 0, before: outer_step }]])?;
        least = least.min(begun.elapsed().as_nanos() as f64 / f64::from(SLOTS));
    }
    drop(journal);
    std::fs::remove_dir_all(&folder)?;
    Ok(least)
}
