//! Windows of a tiny task: what their kernel needs, and how much memory that takes.
//!
//! ```text
//!  a block's arena   sums │ learned optimizer │ tables │ advice │ parameters │ gradients │ slots │ activations
//!                    in shared memory: as many parts as fit there, from the left; the others in the device's (`spill`)
//! ```

use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::task::TaskFamily;

use super::budget::Need;
use super::feed_forward::{FeedForwardPlan, quads};
use super::layout::LanePlan;
use super::{DeviceRule, NotOnDevice};

/// Bytes of a float, or of a number of an example.
const WORD: u64 = 4;

/// Both lanes of a pair train the same task.
pub const LANES_PER_TASK: u32 = 2;

/// A family and a learned optimizer that the window kernels can train.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowPlan {
    /// The learned optimizer.
    pub rule: DeviceRule,
    /// A lane.
    pub lane: LanePlan,
    /// The network.
    pub net: FeedForwardPlan,
    /// Floats of a lane of theta.
    theta: usize,
    /// Floats of the data set, and its labels.
    data: u64,
}

/// How the arena of a block is divided, in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    /// What lies in shared memory.
    pub shared: usize,
    /// What lies in the device's.
    pub spill: usize,
}

impl WindowPlan {
    /// The plan of a family of static shapes under an optimizer.
    ///
    /// # Errors
    /// [`NotOnDevice`] with what the kernels do not know.
    pub fn new(family: &dyn TaskFamily, optimizer: &dyn LearnedOptimizer) -> Result<Self, NotOnDevice> {
        let rule = DeviceRule::new(optimizer)?.for_lanes(family.layout());
        let Some(net) = family.feed_forward() else {
            let why =
                "the kernels know plain perceptrons and convolutional networks with relu and a cross-entropy only";
            return Err(NotOnDevice::Task { why });
        };
        let tensors = family.layout().len();
        let lane = LanePlan::new(family.layout())?.with_own_slots(rule.kept(tensors).slots)?;
        let data = (net.images.len() + net.labels.len()) as u64;
        let net = FeedForwardPlan::new(&net, &lane)?;
        Ok(Self { rule, lane, net, theta: optimizer.layout().size(), data })
    }

    /// Floats of the parts of a block's arena: what is read most often comes first.
    fn parts(&self) -> [usize; 8] {
        let Self { rule, lane, net, .. } = self;
        let of_rule = [self.scratch(), rule.workspace_floats(), rule.table_floats(lane.most_lines)];
        let [scratch, workspace, tables] = of_rule;
        let advice = rule.kept(lane.tensors.len()).advice;
        [scratch, workspace, tables, advice, lane.size, lane.size, lane.slot_size, net.activations].map(quads)
    }

    /// Floats in which a block sums, and behind them the one they end in; or what a step that begins needs.
    fn scratch(&self) -> usize {
        (self.rule.scratch_floats() + 1).max(self.rule.kept(self.lane.tensors.len()).scratch)
    }

    /// Where the arena of a block lies that may have `shared` bytes of shared memory.
    pub fn arena_within(&self, shared: u64) -> Arena {
        let parts = self.parts();
        let ends = parts.iter().scan(0, |end, part| {
            *end += part;
            Some(*end)
        });
        let fits = ends.take_while(|end| *end as u64 * WORD <= shared).last().unwrap_or(0);
        Arena { shared: fits, spill: parts.iter().sum::<usize>() - fits }
    }

    /// `Window` of `kernels/window.cu`.
    pub fn words(&self, steps: u32, arena: Arena) -> [u32; 13] {
        let Self { rule, lane, net, .. } = self;
        let tables = rule.table_floats(lane.most_lines);
        let sizes = [lane.size, lane.slot_size, self.theta, tables, net.activations].map(|size| size as u32);
        let [size, slots, theta, tables, activations] = sizes;
        let [tensors, layers, batch, shared, spill] =
            [lane.tensors.len(), net.layers.len(), net.batch, arena.shared, arena.spill].map(|count| count as u32);
        let scratch = self.scratch() as u32;
        [scratch, size, slots, theta, tables, activations, tensors, layers, batch, steps, LANES_PER_TASK, shared, spill]
    }

    /// Device memory that windows of `steps` steps need beside their thetas.
    pub fn need(&self, steps: u32, arena: Arena) -> Need {
        let Self { rule, lane, net, data, .. } = self;
        let plans = 13 + 15 * net.layers.len() + 10 * lane.tensors.len() + rule.settings.len() + rule.place.len();
        let shared = WORD * (data + plans as u64);
        // Per lane: parameters, slots, losses, spill, its step, its horizon and whether it diverged.
        let floats = (lane.size + lane.slot_size + arena.spill + 3) as u64 + u64::from(steps);
        let batches = u64::from(steps) * net.batch as u64;
        Need { shared, pair: WORD * (u64::from(LANES_PER_TASK) * floats + batches) }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::learned::{
        AdafacMlpConfig, Celo2Base, Celo2Config, HyperV2Config, LearnedOptimizerConfig,
    };
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
            assert_eq!((plan.net.batch, plan.net.layers.len()), (batch, 2));
            assert_eq!(plan.arena_within(shared).spill, 0);
        }
    }

    #[test]
    fn of_a_convolution_the_activations_spill() {
        let plan = plan("image_conv", json!({}), adafac()).unwrap();
        assert_eq!(plan.net.activations, 64 * (16 * 16 * 16 + 8 * 8 * 32 + 32 + 10));
        let hopper = plan.arena_within(227 << 10);
        assert_eq!(hopper.spill, plan.net.activations);
        // The optimizer's state too, where a block may have less.
        assert_eq!(plan.arena_within(163 << 10).spill, plan.net.activations + quads(plan.lane.slot_size));
    }

    #[test]
    fn velo_fits_beside_its_theta_which_stays_in_device_memory() {
        let hyper_v2 = |config| plan("image_mlp", json!({"batch_size": 128}), LearnedOptimizerConfig::HyperV2(config));
        let (velo, small) = (hyper_v2(HyperV2Config::velo()).unwrap(), hyper_v2(HyperV2Config::default()).unwrap());
        // In KiB.
        let arena = velo.arena_within(163 << 10);
        assert_eq!((arena.shared / 256, arena.spill), (132, 0));
        // Both lanes of a pair have twice an LSTM's state in each of its four tensors.
        let more = 2 * 2 * 4 * (512 - 128);
        let need = |plan: &WindowPlan| plan.need(50, plan.arena_within(163 << 10)).pair;
        assert_eq!(need(&velo) - need(&small), WORD * more);
        assert_eq!(velo.lane.slot_size - small.lane.slot_size, 2 * 4 * (512 - 128));
    }

    #[test]
    fn what_does_not_fit_into_shared_memory_spills() {
        let plan = plan("image_mlp", json!({"hidden": [512]}), adafac()).unwrap();
        let Arena { spill: arena, shared: 0 } = plan.arena_within(0) else { panic!("nothing fits into nothing") };
        for shared in [1 << 10, 29 << 10, 99 << 10, 1 << 20, 4 * arena as u64 - 1, 4 * arena as u64] {
            let divided = plan.arena_within(shared);
            assert_eq!(divided.shared + divided.spill, arena);
            assert!(divided.shared as u64 * 4 <= shared && divided.shared.is_multiple_of(4), "{divided:?}");
            assert_eq!(divided.spill == 0, shared == 4 * arena as u64, "{divided:?}");
        }
        let need = |shared| plan.need(50, plan.arena_within(shared)).pair;
        assert_eq!(need(0), need(1 << 40) + 8 * arena as u64);
    }

    #[test]
    fn tasks_and_shapes_without_a_kernel_are_named() {
        for (family, settings, why) in [
            ("image_mlp", json!({"norm": "layer"}), "plain perceptrons"),
            ("image_mlp", json!({"activation": "tanh"}), "relu"),
            ("image_conv", json!({"norm": "batch"}), "convolutional networks"),
            ("image_conv", json!({"loss": "mse"}), "cross-entropy"),
            ("quadratic", json!({}), "plain perceptrons"),
        ] {
            let refused = plan(family, settings, adafac()).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_large_lease_is_split_by_what_the_device_has() {
        let plan = plan("image_mlp", json!({}), adafac()).unwrap();
        let need = plan.need(50, plan.arena_within(227 << 10));
        // 2 lanes × (2410 + slots + 50 + 3) floats and 50 × 128 numbers: 100 kB or so.
        assert!((80_000..200_000).contains(&need.pair), "{need:?}");
        let pairs_that_fit = (usable(1 << 30) - need.shared) / need.pair;
        assert_eq!(parts(100_000, need, usable(1 << 30)).unwrap().len() as u64, 100_000_u64.div_ceil(pairs_that_fit));
        assert!(parts(1, need, need.shared).is_err());
    }
}
