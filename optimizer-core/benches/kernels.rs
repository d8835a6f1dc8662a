//! Single kernels, beside the whole works of `paceline bench`: updates, noise, the fold of low-rank perturbations.
//!
//! `cargo bench -p paceline-optimizer-core -- update/square` runs some of them. Throughput is in parameters, normals or
//! values of theta a second, on one thread.

#![expect(missing_docs, reason = "a function that a macro of criterion makes")]

use std::sync::Arc;

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2Base, Celo2Config, HyperV2Config, LearnedOptimizerConfig,
};
use paceline_optimizer_core::optimizer::{AdamW, Optimizer, OptimizerConfig};
use paceline_optimizer_core::perturbation::{Noise, Term, weighted_sum};
use paceline_optimizer_core::work::Sequential;
use paceline_optimizer_core::{Layout, Params, Result, Seed, TensorSpec, noise};

/// The optimizers whose kernels are of our own.
fn optimizers() -> Result<Vec<Box<dyn Optimizer>>> {
    let learned = |config: LearnedOptimizerConfig| {
        let optimizer = config.build()?;
        optimizer.bind(optimizer.init_theta(Seed::new(1)))
    };
    Ok(vec![
        learned(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()))?,
        learned(LearnedOptimizerConfig::HyperV2(HyperV2Config::default()))?,
        learned(LearnedOptimizerConfig::Celo2(Celo2Config::Base(Celo2Base::default())))?,
        OptimizerConfig::AdamW(AdamW::default()).build()?,
    ])
}

/// Normal values for one lane.
fn random(layout: &Arc<Layout>, seed: u64) -> Params {
    let mut params = Params::zeros(layout, 1);
    for index in 0..layout.len() {
        noise::normals(Seed::new(seed).fold_in(index as u64), 0, params.tensor_mut(index));
    }
    params
}

/// One step on these tensors, from a state that each step hands to the next.
fn steps(group: &mut BenchmarkGroup<'_, WallTime>, layout: &Arc<Layout>) -> Result<()> {
    group.throughput(Throughput::Elements(layout.size() as u64));
    let grads = random(layout, 2);
    for optimizer in optimizers()? {
        let mut state = Some(optimizer.init(random(layout, 1), &[1_000_000])?);
        group.bench_function(optimizer.name(), |bencher| {
            bencher.iter(|| {
                let before = state.take().expect("every step gives a state");
                state = Some(optimizer.update(before, &grads, &[1.0]).expect("gradients fit"));
            });
        });
    }
    Ok(())
}

fn updates(criterion: &mut Criterion) {
    let lists = [
        ("update/square", vec![TensorSpec::new("w", [1024, 1024])]),
        (
            "update/mlp",
            vec![
                TensorSpec::new("layer_0/b", [32]),
                TensorSpec::new("layer_0/w", [64, 32]),
                TensorSpec::new("layer_1/b", [10]),
                TensorSpec::new("layer_1/w", [32, 10]),
            ],
        ),
    ];
    for (name, tensors) in lists {
        let layout = Layout::new(tensors).expect("names differ");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(if layout.size() > 1 << 16 { 10 } else { 100 });
        steps(&mut group, &layout).expect("optimizers step");
        group.finish();
    }
}

fn normals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("noise");
    for size in [256, 1 << 16] {
        let mut out = vec![0.0; size];
        let mut seed = 0;
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("normals/{size}"), |bencher| {
            bencher.iter(|| {
                seed += 1;
                noise::normals(Seed::new(seed), 0, &mut out);
            });
        });
    }
    group.finish();
}

/// Sixty-four rank-1 perturbations of HyperV2's theta into one sum.
fn fold(criterion: &mut Criterion) {
    let hyper = LearnedOptimizerConfig::HyperV2(HyperV2Config::default()).build().expect("defaults are valid");
    let layout = hyper.layout();
    let term = |pair| Term { outer_step: 0, slot: 0, pair, weight: 0.5 - f64::from(pair % 2) };
    let terms: Vec<Term> = (0..64).map(term).collect();
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(layout.size() as u64)).sample_size(20);
    for (name, noise) in [("rank_1", Noise::LowRank { rank: 1 }), ("dense", Noise::Dense)] {
        group.bench_function(name, |bencher| {
            let fresh = || vec![0.0; layout.size()];
            let sum = |mut sum: Vec<f64>| {
                weighted_sum(noise, layout, Seed::new(1), &terms, &mut sum, &Sequential);
                sum
            };
            bencher.iter_batched(fresh, sum, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(kernels, updates, normals, fold);
criterion_main!(kernels);
