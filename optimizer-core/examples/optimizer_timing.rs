//! Time an optimizer's update takes, in nanoseconds a parameter, on one thread and for large tensors on two:
//! `cargo run --release -p paceline-optimizer-core --example optimizer_timing`.
//!
//! With arguments only the models and optimizers whose names contain the first and the second: `… -- 32x10 adafac`.
//!
//! The least of several rounds is printed: the machine's other work only ever adds.

use std::time::Instant;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2Base, Celo2Config, CeloConfig, HyperV2Config, LearnedOptimizerConfig, MlpConfig,
    MlpNominalConfig,
};
use paceline_optimizer_core::optimizer::{AdamW, Optimizer, OptimizerConfig};
use paceline_optimizer_core::perturbation::{Noise, Perturbation};
use paceline_optimizer_core::{Error, Layout, Params, Result, Seed, TensorSpec, noise};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |which: usize, name: &str| arguments.get(which).is_none_or(|part| name.contains(part.as_str()));
    let models: [(&str, Vec<TensorSpec>); 6] = [
        ("matrix 64x32", vec![TensorSpec::new("w", [64, 32])]),
        ("head 32x10", vec![TensorSpec::new("w", [32, 10])]),
        ("MLP 64-32-10", mlp(&[64, 32, 10])),
        ("MLP 784-32-10", mlp(&[784, 32, 10])),
        ("kernel 3x3x16x32", vec![TensorSpec::new("w", [3, 3, 16, 32])]),
        ("1024x1024", vec![TensorSpec::new("w", [1024, 1024])]),
    ];
    let learned = |config: LearnedOptimizerConfig| -> Result<Box<dyn Optimizer>> {
        let optimizer = config.build()?;
        optimizer.bind(optimizer.init_theta(Seed::new(1)))
    };
    let wide = AdafacMlpConfig { hidden_size: 32, ..AdafacMlpConfig::default() };
    let contenders = [
        ("adam_w", OptimizerConfig::AdamW(AdamW::default()).build()?),
        ("adafac h4", learned(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()))?),
        ("adafac h32", learned(LearnedOptimizerConfig::AdafacMlp(wide))?),
        ("hyper_v2", learned(LearnedOptimizerConfig::HyperV2(HyperV2Config::default()))?),
        ("celo", learned(LearnedOptimizerConfig::Celo(CeloConfig::published()))?),
        ("celo2 base", learned(LearnedOptimizerConfig::Celo2(Celo2Config::Base(Celo2Base::default())))?),
        ("mlp", learned(LearnedOptimizerConfig::Mlp(MlpConfig::default()))?),
        ("nominal", learned(LearnedOptimizerConfig::MlpNominal(MlpNominalConfig::default()))?),
    ];
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|_| Error::Cancelled);
    for (name, tensors) in models.into_iter().filter(|(name, _)| chosen(0, name)) {
        let layout = Layout::new(tensors)?;
        let shared = layout.size() > 1 << 16;
        for threads in if shared { 1..=2 } else { 1..=1 } {
            let pool = pool(threads)?;
            let time = |(name, optimizer): &(&str, Box<dyn Optimizer>)| {
                let time = pool.install(|| nanoseconds(optimizer.as_ref(), &layout))?;
                Ok(format!("{name} {time:5.2}"))
            };
            let contenders = contenders.iter().filter(|(name, _)| chosen(1, name));
            let line = contenders.map(time).collect::<Result<Vec<_>>>()?;
            println!("{name:16} threads {threads}, ns a parameter: {}", line.join(", "));
        }
    }
    if arguments.is_empty() { pairs(&Layout::new(mlp(&[64, 32, 10]))?) } else { Ok(()) }
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
