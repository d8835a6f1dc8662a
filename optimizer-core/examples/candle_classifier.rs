//! A candle model trained twice, by a learned optimizer and by candle's own AdamW:
//! `cargo run --release -p paceline-optimizer-core --example candle_classifier [CHECKPOINT]`.
//!
//! CHECKPOINT is a file that `paceline checkpoint pull` wrote. Without one nothing learned is at hand: the theta of learnable_adam is
//! then what it is before meta-training, which is Adam with learning rate 0.001. Both trainings begin at the same weights
//! and see the same batches, and every number comes from a seed.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, loss};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::candle::LearnedOptimizer;
use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::noise::Draws;

const STEPS: u32 = 400;
const BATCH: usize = 64;
const INPUTS: usize = 8;
const HIDDEN: usize = 32;
const CLASSES: usize = 4;

/// Which optimizer is compared with AdamW.
enum Theta {
    /// Of a meta-training run.
    Trained(Box<Checkpoint>),
    /// As it is before meta-training.
    Untrained,
}

impl Theta {
    fn optimizer(&self, vars: &VarMap) -> Result<LearnedOptimizer> {
        Ok(match self {
            Self::Trained(checkpoint) => LearnedOptimizer::from_checkpoint(checkpoint, vars, STEPS)?,
            Self::Untrained => {
                let learnable = LearnedOptimizerConfig::LearnableAdam.build()?;
                LearnedOptimizer::new(learnable.bind(learnable.init_theta(Seed::new(0)))?, vars, STEPS)?
            }
        })
    }
}

/// A perceptron and its variables.
struct Model {
    vars: VarMap,
    layers: [Linear; 2],
}

impl Model {
    /// Weights drawn from a seed: candle's own are different in each run.
    fn new(seed: Seed) -> Result<Self> {
        let mut vars = VarMap::new();
        let builder = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let layers = [linear(INPUTS, HIDDEN, builder.pp("hidden"))?, linear(HIDDEN, CLASSES, builder.pp("out"))?];
        let mut draws = Draws::new(seed);
        for (name, layer) in ["hidden", "out"].iter().zip(&layers) {
            let (outputs, inputs) = layer.weight().dims2()?;
            let scale = 1.0 / (inputs as f32).sqrt();
            let weight: Vec<f32> = (0..outputs * inputs).map(|_| scale * draws.normal()).collect();
            vars.set_one(format!("{name}.weight"), Tensor::from_vec(weight, (outputs, inputs), &Device::Cpu)?)?;
            vars.set_one(format!("{name}.bias"), Tensor::zeros(outputs, DType::F32, &Device::Cpu)?)?;
        }
        Ok(Self { vars, layers })
    }

    fn loss(&self, (inputs, classes): &(Tensor, Tensor)) -> Result<Tensor> {
        let [hidden, out] = &self.layers;
        loss::cross_entropy(&out.forward(&hidden.forward(inputs)?.relu()?)?, classes)
    }
}

/// Points of a class lie around two centres of that class, so no plane separates them.
fn batch(centres: &[[f32; INPUTS]], seed: Seed) -> Result<(Tensor, Tensor)> {
    let mut draws = Draws::new(seed);
    let (mut inputs, mut classes) = (Vec::new(), Vec::new());
    for _ in 0..BATCH {
        let centre = draws.below(centres.len() as u32);
        classes.push(centre % CLASSES as u32);
        inputs.extend(centres[centre as usize].iter().map(|x| x + 0.9 * draws.normal()));
    }
    let inputs = Tensor::from_vec(inputs, (BATCH, INPUTS), &Device::Cpu)?;
    Ok((inputs, Tensor::from_vec(classes, BATCH, &Device::Cpu)?))
}

/// Any optimizer of candle's trait trains the model; returns the loss on one held-out batch, every tenth of the way.
fn train<O: Optimizer>(model: &Model, mut optimizer: O) -> Result<Vec<f32>> {
    let mut draws = Draws::new(Seed::new(1));
    let centres: Vec<[f32; INPUTS]> = (0..2 * CLASSES).map(|_| std::array::from_fn(|_| draws.normal())).collect();
    let held_out = batch(&centres, Seed::new(2))?;
    let mut losses = vec![model.loss(&held_out)?.to_scalar()?];
    for step in 1..=STEPS {
        let batch = batch(&centres, Seed::new(3).fold_in(step.into()))?;
        optimizer.backward_step(&model.loss(&batch)?)?;
        if step % (STEPS / 10) == 0 {
            losses.push(model.loss(&held_out)?.to_scalar()?);
        }
    }
    Ok(losses)
}

/// Held-out losses under the learned optimizer and under AdamW.
fn compare(theta: &Theta) -> Result<(&'static str, [Vec<f32>; 2])> {
    let model = Model::new(Seed::new(0))?;
    let learned = theta.optimizer(&model.vars)?;
    let name = learned.optimizer().name();
    let with_learned = train(&model, learned)?;
    let model = Model::new(Seed::new(0))?;
    let settings = ParamsAdamW { lr: 0.01, ..ParamsAdamW::default() };
    let with_adam_w = train(&model, AdamW::new(model.vars.all_vars(), settings)?)?;
    Ok((name, [with_learned, with_adam_w]))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let theta = match std::env::args_os().nth(1) {
        Some(path) => Theta::Trained(Box::new(Checkpoint::from_bytes(&std::fs::read(path)?)?)),
        None => {
            println!(
                "No checkpoint given: learnable_adam as it is before meta-training (Adam, learning rate 0.001).\n"
            );
            Theta::Untrained
        }
    };
    let (name, [learned, adam_w]) = compare(&theta)?;
    println!("{:>5}  {name:>16}  {:>16}", "step", "AdamW 0.01");
    for (tenth, (learned, adam_w)) in (0..).zip(learned.iter().zip(&adam_w)) {
        println!("{:>5}  {learned:>16.3}  {adam_w:>16.3}", tenth * STEPS / 10);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::checkpoint::{CheckpointMeta, FORMAT};
    use paceline_optimizer_core::outer::OuterState;

    use super::*;

    /// A checkpoint whose theta says: Adam with this learning rate.
    fn checkpoint(log_lr: f32) -> Theta {
        let optimizer = LearnedOptimizerConfig::LearnableAdam;
        let mut theta = optimizer.build().unwrap().init_theta(Seed::new(0));
        let index = theta.layout().index_of("log_lr").unwrap();
        theta.tensor_mut(0, index)[0] = log_lr;
        let (run, code_version) = ("example".into(), "0.1.0".into());
        let recipe = None;
        let meta = CheckpointMeta { format: FORMAT, run, optimizer, recipe, parent: None, code_version };
        let bytes = Checkpoint { meta, state: OuterState::new(theta) }.to_bytes().unwrap();
        Theta::Trained(Box::new(Checkpoint::from_bytes(&bytes).unwrap()))
    }

    #[test]
    fn both_learn_and_two_runs_are_the_same() {
        let (name, [untrained, adam_w]) = compare(&Theta::Untrained).unwrap();
        assert_eq!((name, untrained.len(), adam_w.len()), ("learnable_adam", 11, 11));
        assert_eq!(untrained[0], adam_w[0], "they begin at the same weights");
        assert!(untrained[10] < 0.8 * untrained[0], "{untrained:?}");
        assert!(adam_w[10] < 0.3 * adam_w[0], "{adam_w:?}");
        assert_eq!(compare(&Theta::Untrained).unwrap().1, [untrained.clone(), adam_w]);

        let (_, [faster, _]) = compare(&checkpoint(-4.6)).unwrap();
        assert!(faster[10] < untrained[10], "a checkpoint's theta is used: {faster:?} {untrained:?}");
    }
}
