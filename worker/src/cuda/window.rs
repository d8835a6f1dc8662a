//! Windows of a tiny task: what their kernel needs, and how much memory that takes.
//!
//! ```text
//!  a block's arena   parameters │ gradients │ slots │ learned optimizer │ tables │ 1 │ activations, or sums
//!                    in shared memory if it fits there, else in the device's (`spill`)
//! ```

use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::noise;
use paceline_optimizer_core::task::{Perceptron, TaskFamily};

use super::budget::Need;
use super::layout::{LanePlan, THREADS};
use super::{DeviceRule, NotOnDevice};

/// Linear layers the kernels know.
const MOST_LAYERS: usize = 5;

/// Bytes of a float, or of a number of an example.
const WORD: u64 = 4;

/// Both lanes of a pair train the same task.
pub const LANES_PER_TASK: u32 = 2;

/// The network as the kernels read it: `Perceptron` of `kernels/perceptron.cuh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerceptronPlan {
    /// Layers, batch, widths ×6, weights ×5, biases ×5.
    pub words: [u32; 18],
    /// Floats of the outputs of all layers.
    pub activations: usize,
}

impl PerceptronPlan {
    /// The plan of a network whose tensors lie as `lane` says.
    ///
    /// # Errors
    /// [`NotOnDevice::Task`] for a network of more layers.
    pub fn new(net: &Perceptron<'_>, lane: &LanePlan) -> Result<Self, NotOnDevice> {
        let layers = net.layers.len();
        if layers > MOST_LAYERS {
            return Err(NotOnDevice::Task { why: "the kernels know at most five linear layers" });
        }
        let mut words = [0; 18];
        words[0] = layers as u32;
        words[1] = net.batch_size as u32;
        for (word, width) in words[2..].iter_mut().zip(&net.widths) {
            *word = *width as u32;
        }
        for (layer, [weight, bias]) in net.layers.iter().enumerate() {
            let [offset, ..] = lane.tensors[*weight];
            words[3 + MOST_LAYERS + layer] = offset;
            let [offset, ..] = lane.tensors[*bias];
            words[3 + 2 * MOST_LAYERS + layer] = offset;
        }
        let outputs: usize = net.widths[1..].iter().sum();
        Ok(Self { words, activations: net.batch_size * outputs })
    }
}

/// A family and a learned optimizer that the window kernels can train.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowPlan {
    /// The learned optimizer.
    pub rule: DeviceRule,
    /// A lane.
    pub lane: LanePlan,
    /// The network.
    pub net: PerceptronPlan,
    /// Floats of a lane of theta.
    theta: usize,
    /// Floats of the data set, and its labels.
    data: u64,
}

impl WindowPlan {
    /// The plan of a family of static shapes under an optimizer.
    ///
    /// # Errors
    /// [`NotOnDevice`] with what the kernels do not know.
    pub fn new(family: &dyn TaskFamily, optimizer: &dyn LearnedOptimizer) -> Result<Self, NotOnDevice> {
        let rule = DeviceRule::new(optimizer)?;
        let Some(net) = family.perceptron() else {
            let why = "the kernels know plain multilayer perceptrons with relu and a cross-entropy only";
            return Err(NotOnDevice::Task { why });
        };
        let lane = LanePlan::new(family.layout())?;
        let data = (net.images.len() + net.labels.len()) as u64;
        let net = PerceptronPlan::new(&net, &lane)?;
        Ok(Self { rule, lane, net, theta: optimizer.layout().size(), data })
    }

    /// Floats of a block's arena.
    pub fn arena(&self) -> usize {
        let Self { rule, lane, net, .. } = self;
        let passing = (THREADS as usize + net.activations).max(rule.scratch_floats());
        2 * lane.size + lane.slot_size + rule.workspace_floats() + rule.table_floats(lane.most_lines) + 1 + passing
    }

    /// Bytes of shared memory to launch with where a block may have `shared` of them, and floats to spill a lane: one of the
    /// two is 0.
    pub fn arena_within(&self, shared: u64) -> (u64, usize) {
        let bytes = self.arena() as u64 * WORD;
        if bytes <= shared { (bytes, 0) } else { (0, self.arena()) }
    }

    /// `Window` of `kernels/window.cu`.
    pub fn words(&self, steps: u32, spill: usize) -> [u32; 8] {
        let Self { rule, lane, .. } = self;
        let tables = rule.table_floats(lane.most_lines);
        let sizes = [lane.size, lane.slot_size, self.theta, lane.tensors.len(), tables].map(|size| size as u32);
        let [size, slots, theta, tensors, tables] = sizes;
        [size, slots, theta, tensors, tables, steps, LANES_PER_TASK, spill as u32]
    }

    /// Device memory that windows of `steps` steps need.
    pub fn need(&self, steps: u32, spill: usize) -> Need {
        let Self { rule, lane, net, theta, data } = self;
        let plans = net.words.len() + 8 + 5 * lane.tensors.len() + rule.settings.len() + rule.place.len();
        let shared = WORD * (data + (2 * noise::QUANTILE_ROWS + plans + theta) as u64);
        // Per lane: theta, parameters, slots, losses, spill, its step and whether it diverged.
        let floats = (theta + lane.size + lane.slot_size + spill + 2) as u64 + u64::from(steps);
        let batches = u64::from(steps) * u64::from(net.words[1]);
        // The seed of a pair has two words.
        Need { shared, pair: WORD * (u64::from(LANES_PER_TASK) * floats + batches + 2) }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::learned::{AdafacMlpConfig, Celo2Base, Celo2Config, LearnedOptimizerConfig};
    use serde_json::json;

    use super::*;
    use crate::cuda::budget::{parts, usable};

    fn plan(
        family: &str,
        settings: serde_json::Value,
        config: LearnedOptimizerConfig,
    ) -> Result<WindowPlan, NotOnDevice> {
        let family = paceline_tasks::build(family, settings.as_object().unwrap(), None).unwrap();
        WindowPlan::new(&*family, &*config.build().unwrap())
    }

    fn adafac() -> LearnedOptimizerConfig {
        LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default())
    }

    #[test]
    fn the_benchmark_task_fits_into_shared_memory() {
        let celo2 = LearnedOptimizerConfig::Celo2(Celo2Config::Base(Celo2Base::default()));
        // What a block may have on devices of capability 8.0 and 9.0.
        for (config, batch, shared) in [(adafac(), 128, 163 << 10), (celo2, 64, 163 << 10), (adafac(), 128, 227 << 10)]
        {
            let plan = plan("image_mlp", json!({"batch_size": batch}), config).unwrap();
            assert_eq!(plan.lane.size, 64 * 32 + 32 + 32 * 10 + 10);
            assert_eq!(plan.net.words, [2, batch, 64, 32, 10, 0, 0, 0, 0, 2080, 0, 0, 0, 2048, 2400, 0, 0, 0]);
            assert_eq!(plan.arena_within(shared), (plan.arena() as u64 * 4, 0));
        }
    }

    #[test]
    fn what_does_not_fit_into_shared_memory_spills() {
        let plan = plan("image_mlp", json!({"hidden": [512]}), adafac()).unwrap();
        let arena = plan.arena();
        assert_eq!(plan.arena_within(99 << 10), (0, arena));
        assert_eq!(plan.arena_within(4 * arena as u64), (4 * arena as u64, 0));
        assert!(plan.need(50, arena).pair > plan.need(50, 0).pair + 8 * arena as u64 - 1);
    }

    #[test]
    fn tasks_and_shapes_without_a_kernel_are_named() {
        for (family, settings, why) in [
            ("image_mlp", json!({"norm": "layer"}), "plain multilayer perceptrons"),
            ("image_mlp", json!({"activation": "tanh"}), "relu"),
            ("image_mlp", json!({"loss": "mse"}), "cross-entropy"),
            ("image_mlp", json!({"hidden": [4, 4, 4, 4, 4]}), "five linear layers"),
            ("quadratic", json!({}), "plain multilayer perceptrons"),
        ] {
            let refused = plan(family, settings, adafac()).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_large_lease_is_split_by_what_the_device_has() {
        let plan = plan("image_mlp", json!({}), adafac()).unwrap();
        let need = plan.need(50, 0);
        // 2 lanes × (197 + 2410 + slots + 50 + 2) floats and 50 × 128 numbers: 100 kB or so.
        assert!((80_000..200_000).contains(&need.pair), "{need:?}");
        let pairs_that_fit = (usable(1 << 30) - need.shared) / need.pair;
        assert_eq!(parts(100_000, need, usable(1 << 30)).unwrap().len() as u64, 100_000_u64.div_ceil(pairs_that_fit));
        assert!(parts(1, need, need.shared).is_err());
    }
}
