//! How many inner steps a second a worker's threads do in one lease, by optimizer and noise.
//!
//! ```text
//!  cargo run --release -p paceline-worker --example pair_rates -- [threads [pairs [steps [rounds]]]]
//! ```
//!
//! The task is an MLP 64-32-10 on batches of 128. The best of some rounds is printed, perturbing and binding theta
//! included.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::learned::{AdafacMlpConfig, HyperV2Config, LearnedOptimizerConfig};
use paceline_optimizer_core::perturbation::Noise;
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{Pairs, UnrollContext, full_es_pairs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let number = |place: usize, default| numbers.get(place).copied().unwrap_or(default);
    let (threads, pairs, steps, rounds) = (number(0, 2) as usize, number(1, 16), number(2, 50), number(3, 5));
    let settings = serde_json::json!({"image_size": 8, "hidden": [32], "batch_size": 128});
    let family: Arc<dyn TaskFamily> =
        paceline_tasks::build("image_mlp", settings.as_object().ok_or("not an object")?, None)?;
    let families = [family];
    let hyper_v2 = |lstm_hidden_size, param_inits| {
        LearnedOptimizerConfig::HyperV2(HyperV2Config { lstm_hidden_size, param_inits, ..HyperV2Config::default() })
    };
    let low_rank = Noise::LowRank { rank: 1 };
    for (name, config, noise) in [
        ("AdafacMLP, dense", LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()), Noise::Dense),
        ("HyperV2 128/64, dense", hyper_v2(128, 64), Noise::Dense),
        ("HyperV2 128/64, low rank", hyper_v2(128, 64), low_rank),
        ("HyperV2 512/256, dense", hyper_v2(512, 256), Noise::Dense),
        ("HyperV2 512/256, low rank", hyper_v2(512, 256), low_rank),
    ] {
        let optimizer = config.build()?;
        let theta = optimizer.init_theta(Seed::new(1));
        let estimator = EstimatorConfig {
            noise,
            ..EstimatorConfig::new(
                EstimatorKind::FullEs { loss: MetaLoss::Average },
                0.01,
                HorizonSchedule::Constant { steps },
            )
        };
        let (cancelled, progress) = (AtomicBool::new(false), AtomicU64::new(0));
        let context = UnrollContext {
            run: Seed::new(2),
            optimizer: &*optimizer,
            estimator: &estimator,
            families: &families,
            trainer: None,
            cancelled: &cancelled,
            progress: &progress,
        };
        let window = SlotSequence::new(Seed::new(2), 0, &estimator, 1, &[1.0])?.window();
        let groups = context.groups(0, &window, pairs, threads)?;
        let mut best = 0.0_f64;
        for _ in 0..rounds {
            let (start, next) = (Instant::now(), AtomicUsize::new(0));
            let work = || -> paceline_optimizer_core::Result<u64> {
                let mut inner_steps = 0;
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let pairs = Pairs { outer_step: 0, slot: 0, pairs: group.clone() };
                    let outcomes = full_es_pairs(&context, &theta, &pairs, &window)?;
                    inner_steps += outcomes.iter().map(|outcome| outcome.inner_steps).sum::<u64>();
                }
                Ok(inner_steps)
            };
            let done: u64 = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no pair panics")).sum::<Result<_, _>>()
            })?;
            best = best.max(done as f64 / start.elapsed().as_secs_f64());
        }
        let lane_step = 1e6 * threads as f64 / best;
        println!(
            "{name:26} {:2} groups: {best:9.0} inner steps/s, {lane_step:7.1} us a lane, step and thread",
            groups.len()
        );
    }
    Ok(())
}
