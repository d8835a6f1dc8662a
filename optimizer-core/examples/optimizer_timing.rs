//! Time an optimizer's update takes, in nanoseconds a parameter, on one thread:
//! `cargo run --release -p paceline-optimizer-core --example optimizer_timing`.
//!
//! The least of several rounds is printed: the machine's other work only ever adds.

use std::time::Instant;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2, Celo2Config, CeloConfig, HyperV2Config, LearnedOptimizerConfig,
};
use paceline_optimizer_core::optimizer::{Adam, Optimizer, OptimizerConfig};
use paceline_optimizer_core::perturbation::{Noise, Perturbation};
use paceline_optimizer_core::{Error, Layout, Params, Result, Seed, TensorSpec, noise};

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
    pairs(&Layout::new(mlp(&[64, 32, 10]))?)
}

/// An antithetic pair of VeLO's size, two lanes: its perturbation, its binding, its updates.
fn pairs(model: &std::sync::Arc<Layout>) -> Result<()> {
    let config = HyperV2Config { lstm_hidden_size: 512, param_inits: 256, ..HyperV2Config::default() };
    let velo = LearnedOptimizerConfig::HyperV2(config).build()?;
    let theta = velo.init_theta(Seed::new(1));
    println!("\nVeLO 512/256 on an MLP 64-32-10, one pair:");
    for noise in [Noise::Dense, Noise::LowRank { rank: 1 }, Noise::LowRank { rank: 4 }] {
        let epsilon = Perturbation::new(Seed::new(2), noise, theta.layout(), 0, 0, 0)?;
        let mut normals = vec![0.0; epsilon.normals() as usize];
        let drawn = least(20, || {
            noise::normals(Seed::new(3), 0, &mut normals);
            Ok(())
        })?;
        let bound = least(10, || velo.bind_perturbed(&theta, &epsilon, 0.01))?;
        let optimizer = velo.bind_perturbed(&theta, &epsilon, 0.01)?;
        let grads = random(model, 2, 2);
        let mut state = Some(optimizer.init(random(model, 1, 2), &[1000; 2])?);
        let updated = least(200, || {
            let before = state.take().ok_or(Error::Cancelled)?;
            state = Some(optimizer.update(before, &grads, &[1.0; 2])?);
            Ok(())
        })?;
        println!(
            "{:22} {:8} normals {:8.3} ms, bind {:8.3} ms, update {:7.3} ms",
            format!("{noise:?}"),
            normals.len(),
            1e3 * drawn,
            1e3 * bound,
            1e3 * updated
        );
    }
    Ok(())
}

/// Seconds of the shortest of some rounds.
fn least<T>(rounds: usize, mut round: impl FnMut() -> Result<T>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        round()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}

/// Normal values for some lanes.
fn random(layout: &std::sync::Arc<Layout>, seed: u64, lanes: usize) -> Params {
    let mut params = Params::zeros(layout, lanes);
    for index in 0..layout.len() {
        noise::normals(Seed::new(seed).fold_in(index as u64), 0, params.tensor_mut(index));
    }
    params
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
    let grads = random(layout, 2, 1);
    let mut state = optimizer.init(random(layout, 1, 1), &[1000])?;
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
