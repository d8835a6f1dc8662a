//! A training that is put down halfway and taken up again in another program, as far as the optimizer can tell:
//! `cargo run --release -p paceline-optimizer-core --example candle_resume`.
//!
//! The optimizer is Celo (arXiv 2501.12670) with a theta as it is before meta-training, which goes nowhere in particular,
//! and a little weight decay around it. Its state is more than moments: an LSTM and a history of the loss, whose timescales come from the
//! planned number of steps. All of it is in the saved file, so the second half is the same to the bit.

use candle_core::{Device, Result, Tensor, Var};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::candle::LearnedOptimizer;
use paceline_optimizer_core::learned::{CeloConfig, LearnedOptimizerConfig};
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::optimizer::wrapper::WeightDecay;

const STEPS: u32 = 200;
const WIDTH: usize = 16;

fn normal(seed: Seed, shape: (usize, usize)) -> Result<Tensor> {
    let mut draws = Draws::new(seed);
    let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| draws.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// A linear map to be found, and the optimizer that looks for it.
struct Training {
    weight: Var,
    optimizer: LearnedOptimizer,
}

impl Training {
    fn new() -> Result<Self> {
        let weight = Var::from_tensor(&normal(Seed::new(1), (WIDTH, WIDTH))?)?;
        let celo = LearnedOptimizerConfig::Celo(CeloConfig::published()).build()?;
        let decayed = WeightDecay::new(celo.bind(celo.init_theta(Seed::new(2)))?, 1e-6, true)?;
        let optimizer = LearnedOptimizer::new(Box::new(decayed), vec![weight.clone()], STEPS)?;
        Ok(Self { weight, optimizer })
    }

    /// Makes some steps and returns the last loss.
    fn steps(&mut self, steps: u32) -> Result<f32> {
        let target = normal(Seed::new(3), (WIDTH, WIDTH))?;
        let inputs = normal(Seed::new(4), (32, WIDTH))?;
        let mut last = f32::NAN;
        for _ in 0..steps {
            let error = (inputs.matmul(&self.weight)? - inputs.matmul(&target)?)?;
            let loss = error.sqr()?.mean_all()?;
            self.optimizer.backward_step(&loss)?;
            last = loss.to_scalar()?;
        }
        Ok(last)
    }
}

/// Losses after half and all of the steps, without and with a break; and whether the weights are the same at the end.
fn compare() -> Result<([f32; 2], [f32; 2], bool)> {
    let mut straight = Training::new()?;
    let straight_losses = [straight.steps(STEPS / 2)?, straight.steps(STEPS / 2)?];

    let path = std::env::temp_dir().join(format!("candle_resume_{}.safetensors", std::process::id()));
    let mut first = Training::new()?;
    let half = first.steps(STEPS / 2)?;
    first.optimizer.save(&path)?;
    drop(first);

    let mut second = Training::new()?;
    second.optimizer.load(&path)?;
    std::fs::remove_file(&path)?;
    let resumed_losses = [half, second.steps(STEPS / 2)?];
    let bits = |training: &Training| -> Result<Vec<u32>> {
        Ok(training.weight.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    Ok((straight_losses, resumed_losses, bits(&straight)? == bits(&second)?))
}

fn main() -> Result<()> {
    let (straight, resumed, same) = compare()?;
    println!("{:>5}  {:>12}  {:>12}", "step", "straight", "resumed");
    for (half, (straight, resumed)) in (1..).zip(straight.iter().zip(&resumed)) {
        println!("{:>5}  {straight:>12.6}  {resumed:>12.6}", half * STEPS / 2);
    }
    println!("weights at the end: {}", if same { "the same to the bit" } else { "different" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_changes_nothing() {
        let (straight, resumed, same) = compare().unwrap();
        assert_eq!(straight, resumed);
        assert!(same);
        assert_ne!(straight[0], straight[1], "something was trained");
    }
}
