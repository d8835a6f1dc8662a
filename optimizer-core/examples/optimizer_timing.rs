//! Time an optimizer's update takes, in nanoseconds a parameter, on one thread:
//! `cargo run --release -p paceline-optimizer-core --example optimizer_timing`.
//!
//! The least of several rounds is printed: the machine's other work only ever adds.

use std::time::Instant;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2, Celo2Config, CeloConfig, HyperV2Config, LearnedOptimizerConfig,
};
use paceline_optimizer_core::optimizer::{Adam, Optimizer, OptimizerConfig};
use paceline_optimizer_core::{Layout, Params, Result, Seed, TensorSpec, noise};

fn main() -> Result<()> {
    let models: [(&str, Vec<TensorSpec>); 4] = [
        ("matrix 64x32", vec![TensorSpec::new("w", [64, 32])]),
        ("head 32x10", vec![TensorSpec::new("w", [32, 10])]),
        ("MLP 64-32-10", mlp(&[64, 32, 10])),
        ("MLP 784-32-10", mlp(&[784, 32, 10])),
    ];
    let adam = OptimizerConfig::Adam(Adam::new(1e-3)).build()?;
    let learned = |config: LearnedOptimizerConfig| -> Result<Box<dyn Optimizer>> {
        let optimizer = config.build()?;
        optimizer.bind(optimizer.init_theta(Seed::new(1)))
    };
    let adafac = learned(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()))?;
    let hyper = learned(LearnedOptimizerConfig::HyperV2(HyperV2Config::default()))?;
    let celo = learned(LearnedOptimizerConfig::Celo(CeloConfig::published()))?;
    let celo2 = learned(LearnedOptimizerConfig::Celo2(Celo2Config::Shipped(Celo2::new(1e-3))))?;
    for (name, tensors) in models {
        let layout = Layout::new(tensors)?;
        let line = [&adam, &adafac, &hyper, &celo, &celo2]
            .map(|optimizer| Ok(format!("{} {:6.1}", optimizer.name(), nanoseconds(optimizer.as_ref(), &layout)?)))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        println!("{name:14} {:6} parameters, ns a parameter: {}", layout.size(), line.join(", "));
    }
    Ok(())
}

/// Weights and biases of a multilayer perceptron.
fn mlp(sizes: &[usize]) -> Vec<TensorSpec> {
    let layers = sizes.windows(2).enumerate();
    layers
        .flat_map(|(layer, sizes)| {
            [
                TensorSpec::new(format!("layer_{layer}/b"), [sizes[1]]),
                TensorSpec::new(format!("layer_{layer}/w"), [sizes[0], sizes[1]]),
            ]
        })
        .collect()
}

/// Nanoseconds a parameter of one update, the least over rounds.
fn nanoseconds(optimizer: &dyn Optimizer, layout: &std::sync::Arc<Layout>) -> Result<f64> {
    let random = |seed| {
        let mut params = Params::zeros(layout, 1);
        for index in 0..layout.len() {
            noise::normals(Seed::new(seed).fold_in(index as u64), 0, params.tensor_mut(index));
        }
        params
    };
    let grads = random(2);
    let mut state = optimizer.init(random(1), &[1000])?;
    let updates = 2_000_000_usize.div_ceil(layout.size() * 20);
    let mut least = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..updates {
            state = optimizer.update(state, &grads, &[1.0])?;
        }
        least = least.min(start.elapsed().as_nanos() as f64 / (updates * layout.size()) as f64);
    }
    Ok(least)
}
