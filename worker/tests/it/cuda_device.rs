//! On a real device: what the emulator cannot show. Skipped by name where there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2Base, Celo2Config, HyperV2Config, LearnedOptimizerConfig,
};
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{PairId, Pairs, UnrollContext, full_es_pair, full_es_pairs};
use paceline_worker::cuda::{CudaDevice, WindowTrainer};

const STEPS: u32 = 50;

fn device(test: &str) -> Option<CudaDevice> {
    match CudaDevice::open(0) {
        Ok(device) => Some(device),
        Err(reason) => {
            crate::announce(&format!("SKIPPED {test}: {reason}"));
            None
        }
    }
}

/// Learned optimizers, and the family and batch each trains: the benchmark's perceptron, and convolutions 16-32.
fn leases() -> [(LearnedOptimizerConfig, &'static str, u32); 7] {
    let celo2 = LearnedOptimizerConfig::Celo2(Celo2Config::Base(Celo2Base::default()));
    let adafac = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default());
    let hyper_v2 = LearnedOptimizerConfig::HyperV2(HyperV2Config::default());
    [
        (adafac.clone(), "image_mlp", 128),
        (celo2.clone(), "image_mlp", 64),
        (hyper_v2.clone(), "image_mlp", 128),
        (LearnedOptimizerConfig::HyperV2(HyperV2Config::velo()), "image_mlp", 128),
        (adafac, "image_conv", 64),
        (celo2, "image_conv", 64),
        (hyper_v2, "image_conv", 64),
    ]
}

/// A whole unroll of `pairs` pairs on the device, `repeat` times: losses, and seconds of the last time.
fn on_the_device(trainer: &WindowTrainer<CudaDevice>, pairs: u32, repeat: usize, compared: u32) -> Vec<(f64, String)> {
    let mut told = Vec::new();
    for (config, name, batch) in leases() {
        let optimizer = config.build().unwrap();
        let settings = serde_json::json!({"batch_size": batch});
        let family: Arc<dyn TaskFamily> = paceline_tasks::build(name, settings.as_object().unwrap(), None).unwrap();
        let kind = EstimatorKind::FullEs { loss: MetaLoss::Average };
        let estimator = EstimatorConfig::new(kind, 0.01, HorizonSchedule::Constant { steps: STEPS });
        let context = UnrollContext {
            run: Seed::new(4),
            optimizer: &*optimizer,
            estimator: &estimator,
            families: &[family],
            trainer: None,
            cancelled: &AtomicBool::new(false),
            progress: &AtomicU64::new(0),
        };
        let window = SlotSequence::new(Seed::new(4), 1, &estimator, 100, &[1.0]).unwrap().window();
        let (theta, slot) = (optimizer.init_theta(Seed::new(2)), Pairs { outer_step: 0, slot: 1, pairs: 0..pairs });
        let (mut outcomes, mut seconds) = (Vec::new(), 0.0);
        for _ in 0..repeat {
            let begun = Instant::now();
            outcomes =
                full_es_pairs(&UnrollContext { trainer: Some(trainer), ..context }, &theta, &slot, &window).unwrap();
            seconds = begun.elapsed().as_secs_f64();
        }
        for (pair, got) in (0..compared).zip(&outcomes) {
            let id = PairId { outer_step: 0, slot: 1, pair };
            let expected = full_es_pair(&context, &theta, id, &window).unwrap().report;
            let apart = (got.report.loss_plus - expected.loss_plus)
                .abs()
                .max((got.report.loss_minus - expected.loss_minus).abs());
            assert!(apart <= 1e-4, "{} on {name}, pair {pair}: {apart:e}", optimizer_name(&config));
        }
        let steps = f64::from(2 * pairs * STEPS) / seconds;
        told.push((steps, format!("{} on {name}, batch {batch}, {pairs} pairs", optimizer_name(&config))));
    }
    told
}

fn optimizer_name(config: &LearnedOptimizerConfig) -> &'static str {
    match config {
        LearnedOptimizerConfig::Celo2(_) => "celo2",
        LearnedOptimizerConfig::HyperV2(config) if *config == HyperV2Config::velo() => "velo",
        LearnedOptimizerConfig::HyperV2(_) => "hyper_v2",
        _ => "adafac_mlp",
    }
}

#[test]
fn losses_on_the_device_are_those_of_the_cpu() {
    let Some(device) = device("cuda_device_losses") else { return };
    on_the_device(&WindowTrainer(device), 4, 1, 4);
}

/// Inner steps a second of whole leases: initial weights and copies included, and thetas, which the device makes.
#[test]
#[ignore = "measures"]
fn inner_steps_a_second_on_the_device() {
    let Some(device) = device("cuda_device_speed") else { return };
    for (steps, what) in on_the_device(&WindowTrainer(device), 1024, 3, 0) {
        crate::announce(&format!("{what}: {steps:.0} inner steps/s"));
    }
}
