//! Learned optimizers: how to train with them, and how they are meta-trained. Without network, clock or threads, and
//! without disk until [`candle`] is told to save a training.
//!
//! A learned optimizer is made by its meta-parameters, theta. Here four of them say "Adam", one of these "learning rate
//! 0.1"; those of a real one are the weights of networks, and come from a [`checkpoint`].
//!
//! ```
//! use candle_core::{Device, Result, Var};
//! use paceline_optimizer_core::{Seed, candle::LearnedOptimizer, learned::LearnedOptimizerConfig};
//!
//! fn main() -> Result<()> {
//!     let learnable_adam = LearnedOptimizerConfig::LearnableAdam.build()?;
//!     let mut theta = learnable_adam.init_theta(Seed::new(0));
//!     let log_lr = theta.layout().index_of("log_lr").expect("a tensor of its theta");
//!     theta.tensor_mut(0, log_lr)[0] = 0.1_f32.ln();
//!
//!     let x = Var::new(&[3_f32, -2., 1., 0.5], &Device::Cpu)?;
//!     let mut optimizer = LearnedOptimizer::new(learnable_adam.bind(theta)?, vec![x.clone()], 100)?;
//!     for _ in 0..100 {
//!         let loss = (x.as_tensor() - 1.)?.sqr()?.sum_all()?;
//!         optimizer.backward_step(&loss)?;
//!     }
//!     let furthest = (x.as_tensor() - 1.)?.abs()?.max_all()?.to_scalar::<f32>()?;
//!     assert!(furthest < 0.1, "{x} should be near 1");
//!     Ok(())
//! }
//! ```
//!
//! # Two nested loops
//!
//! Meta-training has two nested loops. Inside, an optimizer trains a small task; outside, evolution strategies train the optimizer:
//!
//! ```text
//!   theta ──► theta ± sigma ε ──► inner loop: params ← optimizer(params, grads)  ──► losses l+, l−
//!     ▲                            (one lane a sign, many pairs)                           │
//!     └── outer step: clip, Adam ◄── meta-gradient Σ (l+ − l−)/(2 sigma) ε ◄───────────────┘
//! ```
//!
//! The outer loop cannot differentiate through thousands of inner steps, and need not: it moves theta a little in random
//! directions ε, looks which of the two lanes of a pair trained better, and leans that way. What makes this a service and
//! not a script is that every number has a name. A perturbation is a function of `(run, outer step, slot, pair)`, see
//! [`noise`] and [`schedule`]; so a result can travel as four numbers ([`estimator::PairReport`]), any worker can compute
//! any pair, once or twice, and the next theta is the same to the bit.
//!
//! | module | is |
//! |---|---|
//! | [`params`], [`task`] | inner parameters with a lane axis; the inner problem as the unroll sees it |
//! | [`optimizer`], [`learned`] | optimizers, hand-designed and made by a theta; their states as bytes |
//! | [`candle`] | any of them in the place of candle's AdamW |
//! | [`noise`], [`perturbation`] | random numbers that are the same everywhere; directions of theta made of them |
//! | [`schedule`] | when trajectories begin and end |
//! | [`unroll`], [`estimator`] | a pair through its inner loop; from losses to weights of perturbations |
//! | [`outer`], [`checkpoint`] | from weights to the next theta; theta as bytes |
//! | [`interchange`] | theta from and for other programs: flax checkpoints and plain safetensors |
//! | [`evaluation`] | training curves on held-out tasks |
//! | [`simd`] | sixteen f32 at a time, with the same bits on every processor |
//! | [`work`] | independent pieces of work, for a caller's threads |
//!
//! # Meta-training, whole
//!
//! Everything a coordinator and its workers do, in one loop: Adam learns its learning rate on random quadratics.
//!
//! ```
//! # use std::sync::{Arc, atomic::{AtomicBool, AtomicU64}};
//! # use paceline_optimizer_core::{Layout, Params, Result, Seed, TensorSpec};
//! # use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
//! # use paceline_optimizer_core::learned::LearnedOptimizerConfig;
//! # use paceline_optimizer_core::noise::Draws;
//! # use paceline_optimizer_core::outer::{Contribution, OuterConfig, OuterState, Report, SlotResult, ThetaOptimizer, fold};
//! # use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
//! # use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
//! # use paceline_optimizer_core::unroll::{PairId, UnrollContext, full_es_pair};
//! # #[derive(Debug)]
//! # struct Quadratics(Arc<Layout>);
//! # struct Lanes<'a>(&'a Arc<Layout>, Vec<Seed>);
//! # impl TaskFamily for Quadratics {
//! #     fn name(&self) -> &'static str { "quadratics" }
//! #     fn layout(&self) -> &Arc<Layout> { &self.0 }
//! #     fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
//! #         Ok(Box::new(Lanes(&self.0, seeds.to_vec())))
//! #     }
//! #     fn cost(&self) -> Cost { Cost { flop: 8.0, bytes: 48.0 } }
//! #     fn normalise(&self, loss: f64) -> f64 { if loss.is_finite() { loss.min(100.0) } else { 100.0 } }
//! # }
//! # impl TaskLanes for Lanes<'_> {
//! #     fn init_params(&mut self) -> Result<Params> { Ok(Params::zeros(self.0, self.1.len())) }
//! #     fn loss_and_grads(&mut self, x: &Params, _: u64) -> Result<(Vec<f32>, Params)> {
//! #         let mut grads = x.clone();
//! #         let mut losses = vec![];
//! #         for (lane, seed) in self.1.iter().enumerate() {
//! #             let mut centre = Draws::new(*seed);
//! #             grads.lane_mut(0, lane).iter_mut().for_each(|value| *value -= centre.normal());
//! #             losses.push(grads.lane(0, lane).iter().map(|g| 0.5 * g * g).sum());
//! #         }
//! #         Ok((losses, grads))
//! #     }
//! #     fn evaluate(&mut self, x: &Params, _: Split, batch: u64) -> Result<Vec<Evaluation>> {
//! #         let losses = self.loss_and_grads(x, batch)?.0;
//! #         Ok(losses.into_iter().map(|loss| Evaluation { loss, accuracy: None }).collect())
//! #     }
//! # }
//! # fn main() -> Result<()> {
//! # let layout = Layout::new(vec![TensorSpec::new("x", [4])])?;
//! # let families: [Arc<dyn TaskFamily>; 1] = [Arc::new(Quadratics(layout))];
//! # let (cancelled, progress) = (AtomicBool::new(false), AtomicU64::new(0));
//! let run = Seed::new(1);
//! let horizon = HorizonSchedule::Constant { steps: 20 };
//! let kind = EstimatorKind::FullEs { loss: MetaLoss::Average };
//! let estimator = EstimatorConfig::new(kind, 0.1, horizon);
//! let outer = OuterConfig {
//!     steps: 40,
//!     slots: 2,
//!     pairs_per_slot: 4,
//!     optimizer: ThetaOptimizer { learning_rate: 0.1, ..ThetaOptimizer::default() },
//!     clip: Some(3.0),
//!     clip_norm: None,
//!     accumulation: 1,
//!     report: Report::SeedCoded,
//! };
//! let optimizer = LearnedOptimizerConfig::LearnableAdam.build()?;
//! let context = UnrollContext {
//!     run, optimizer: &*optimizer, estimator: &estimator, families: &families, trainer: None, cancelled: &cancelled, progress: &progress,
//! };
//!
//! let mut state = OuterState::new(optimizer.init_theta(run));
//! let mut meta_losses = vec![];
//! for outer_step in 0..outer.steps {
//!     let slots = (0..outer.slots).map(|slot| {
//!         let mut sequence = SlotSequence::new(run, slot, &estimator, outer.steps, &[1.0])?;
//!         sequence.advance_to(outer_step);
//!         let window = sequence.window();
//!         // What a worker computes …
//!         let pair = |pair| full_es_pair(&context, &state.theta, PairId { outer_step, slot, pair }, &window);
//!         let outcomes = (0..outer.pairs_per_slot).map(pair).collect::<Result<Vec<_>>>()?;
//!         // … and the little it reports.
//!         let result = SlotResult::SeedCoded(outcomes.iter().map(|outcome| outcome.report).collect());
//!         Ok(Contribution { slot, window, result, inner_steps: 160, diverged_lanes: 0 })
//!     });
//!     let slots = slots.collect::<Result<Vec<_>>>()?;
//!     let folded = fold(run, outer_step, &outer, &estimator, state.theta.layout(), &slots)?;
//!     meta_losses.push(folded.loss);
//!     state = state.apply(&outer, &folded)?;
//! }
//! assert!(meta_losses[39] < 0.7 * meta_losses[0], "Adam learned to learn: {meta_losses:?}");
//! # Ok(())
//! # }
//! ```

pub mod candle;
pub mod checkpoint;
mod error;
pub mod estimator;
pub mod evaluation;
pub mod feed_forward;
mod inner_loop;
pub mod interchange;
pub mod learned;
pub mod noise;
pub mod optimizer;
pub mod outer;
mod parallel;
pub mod params;
pub mod perturbation;
pub mod schedule;
mod sealed;
mod seed;
pub mod simd;
mod strict_json;
pub mod task;
mod tensor_file;
mod theta;
pub mod unroll;
pub mod work;

pub use error::{Error, Result};
pub use params::{Layout, Params, Part, TensorSpec};
pub use seed::{Purpose, Seed};
pub use theta::{Theta, ThetaHash};
