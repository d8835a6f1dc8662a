//! Whether a device still computes what it should: a tiny lease, by the path that leases take.
//!
//! ```text
//!  two steps of a tiny perceptron ─┬─► processor, once ──────────► losses known
//!                                  └─► the leases' trainer, each time ─► the same, up to rounding?
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::learned::{AdafacMlpConfig, LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence, Window};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{LaneTrainer, Pairs, UnrollContext, full_es_pairs};
use paceline_optimizer_core::{Seed, Theta};
use serde_json::json;

/// Inner steps of the tiny lease.
const STEPS: u32 = 2;
/// How far a loss may be from the processor's, as in the tests of whole leases.
const APART: f64 = 1e-4;
/// Root of its random decisions, like any other.
const SEED: Seed = Seed::new(1);

/// Tries out what trains leases.
#[derive(Debug)]
pub struct DeviceProbe {
    trainer: Arc<dyn LaneTrainer>,
    /// Made with the first try; the same ever after.
    known: OnceLock<Result<Known, String>>,
}

/// A tiny lease and what the processor makes of it.
#[derive(Debug)]
struct Known {
    optimizer: Arc<dyn LearnedOptimizer>,
    families: [Arc<dyn TaskFamily>; 1],
    estimator: EstimatorConfig,
    window: Window,
    theta: Theta,
    losses: [f64; 2],
}

impl DeviceProbe {
    /// Of this trainer.
    pub fn new(trainer: Arc<dyn LaneTrainer>) -> Self {
        Self { trainer, known: OnceLock::new() }
    }

    /// Computes the tiny lease there. Blocks for as long as the device is busy.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let known = self.known.get_or_init(Known::compute).as_ref().map_err(Clone::clone)?;
        let losses = known.train(Some(&*self.trainer))?;
        let apart = losses.iter().zip(&known.losses).map(|(got, expected)| (got - expected).abs());
        // Not `any(… > APART)`: a loss that is not a number must not pass.
        if apart.clone().all(|apart| apart <= APART) {
            return Ok(());
        }
        Err(format!("it computes losses {losses:?} where the processor computes {:?}", known.losses))
    }
}

impl Known {
    fn compute() -> Result<Self, String> {
        let settings = json!({"data": "procedural", "image_size": 4, "hidden": [4], "batch_size": 4});
        let settings = settings.as_object().ok_or("the tiny task has settings")?;
        let family: Arc<dyn TaskFamily> =
            paceline_tasks::build("image_mlp", settings, None).map_err(|error| error.to_string())?;
        let config = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default());
        let optimizer = config.build().map_err(|error| error.to_string())?;
        let kind = EstimatorKind::FullEs { loss: MetaLoss::Average };
        let estimator = EstimatorConfig::new(kind, 0.01, HorizonSchedule::Constant { steps: STEPS });
        let window = SlotSequence::new(SEED, 0, &estimator, 1, &[1.0]).map_err(|error| error.to_string())?.window();
        let theta = optimizer.init_theta(SEED);
        let mut known = Self { optimizer, families: [family], estimator, window, theta, losses: [0.0; 2] };
        known.losses = known.train(None)?;
        Ok(known)
    }

    /// The losses of both lanes of a pair.
    fn train(&self, trainer: Option<&dyn LaneTrainer>) -> Result<[f64; 2], String> {
        let context = UnrollContext {
            run: SEED,
            optimizer: &*self.optimizer,
            estimator: &self.estimator,
            families: &self.families,
            trainer,
            cancelled: &AtomicBool::new(false),
            // Nobody's work, so it is not counted.
            progress: &AtomicU64::new(0),
        };
        let pairs = Pairs { outer_step: 0, slot: 0, pairs: 0..1 };
        let outcomes = full_es_pairs(&context, &self.theta, &pairs, &self.window).map_err(|error| error.to_string())?;
        let outcome = outcomes.first().ok_or("a pair has an outcome")?;
        Ok([outcome.report.loss_plus, outcome.report.loss_minus])
    }
}
