//! Loss and gradient of perceptrons and convolutional networks: the kernel against the CPU's families.

use std::sync::Arc;

use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::{Params, Seed, noise};
use paceline_worker::cuda::feed_forward::FeedForwardPlan;
use paceline_worker::cuda::layout::{LanePlan, THREADS};
use paceline_worker::cuda::window::LANES_PER_TASK;
use serde_json::{Value, json};

use super::emulator::{Launch, emulator, input, output, value};

pub(super) fn family(name: &str, settings: &Value) -> Arc<dyn TaskFamily> {
    paceline_tasks::build(name, settings.as_object().unwrap(), None).unwrap()
}

/// The largest difference over the largest magnitude.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let apart = got.iter().zip(expected).map(|(got, expected)| f64::from((got - expected).abs())).fold(0.0, f64::max);
    assert!(got.iter().all(|value| value.is_finite()));
    apart / f64::from(largest)
}

#[test]
fn gradients_of_perceptrons_are_those_of_the_cpu() {
    for settings in [
        json!({}),
        json!({"hidden": [7, 5], "batch_size": 13}),
        json!({"hidden": [], "batch_size": 3}),
        json!({"hidden": [6, 9, 33, 4, 8, 4], "batch_size": 2, "image_size": 4}),
    ] {
        follows_the_cpu("cuda_perceptrons", "image_mlp", &settings);
    }
}

#[test]
fn gradients_of_convolutions_are_those_of_the_cpu() {
    for settings in [
        // Strides; channels that fill quads and such that do not, grey images among them.
        json!({"channels": [8, 12], "image_size": 8, "batch_size": 6}),
        json!({"channels": [5, 7, 6], "image_size": 9, "batch_size": 3}),
        json!({"channels": [4, 5], "image_size": 7, "batch_size": 5, "greyscale": true}),
        // Two strides, and an image that becomes one pixel.
        json!({"channels": [4, 4, 8], "leading_strides": 2, "image_size": 8, "batch_size": 4}),
        json!({"channels": [3, 8, 8, 8], "leading_strides": 4, "image_size": 4, "batch_size": 2}),
        // Pools that leave pixels out.
        json!({"channels": [4, 8, 6], "max_pool": true, "image_size": 11, "batch_size": 4}),
        // The mean of the image itself.
        json!({"channels": [], "leading_strides": 0, "image_size": 5, "batch_size": 7}),
        // Sums of several runs of pixels. (A bias is a sum of equal numbers, in which the CPU's one chain of additions always
        // rounds the same way: 1e-6 here, 5e-6 of 24 by 24 pixels. The kernel's runs do not.)
        json!({"channels": [2], "image_size": 16, "batch_size": 1}),
    ] {
        follows_the_cpu("cuda_convolutions", "image_conv", &settings);
    }
}

fn follows_the_cpu(test: &str, name: &str, settings: &Value) {
    let Some(emulator) = emulator(test) else { return };
    let family = family(name, settings);
    let (layout, net) = (family.layout(), family.feed_forward().unwrap());
    let lane = LanePlan::new(layout).unwrap();
    let plan = FeedForwardPlan::new(&net, &lane).unwrap();
    // Two pairs: the lanes of a pair have the same task and other parameters.
    let seeds = [1, 1, 2, 2].map(Seed::new);
    let mut tasks = family.bind(&seeds).unwrap();
    let mut packed = LanePlan::pack_params(&tasks.init_params().unwrap());
    let mut moved = vec![0.0; packed.len()];
    noise::normals(Seed::new(3), 0, &mut moved);
    packed.iter_mut().zip(moved).for_each(|(value, e)| *value += 0.05 * e);
    let params = LanePlan::unpack_params(layout, seeds.len(), &packed);
    let batches: Vec<u32> = [1, 2].into_iter().flat_map(|task| (net.batch)(Seed::new(task), 9)).collect();
    let arguments = [
        input(&plan.layers),
        value(plan.layers.len() as u32),
        value(plan.batch as u32),
        value(lane.size as u32),
        value(plan.activations as u32),
        input(net.images),
        input(net.labels),
        input(&batches),
        value(LANES_PER_TASK),
        input(&packed),
        output(&[f32::NAN; 4]),
        output(&vec![f32::NAN; packed.len()]),
        output(&vec![f32::NAN; seeds.len() * plan.activations]),
    ];
    let launch = Launch { shared_floats: 16 * THREADS as usize + 1, ..Launch::new([seeds.len() as u32, 1], THREADS) };
    let got = emulator.run_f32("feed_forward_gradient", launch, &arguments);
    let (losses, grads) = tasks.loss_and_grads(&params, 9).unwrap();
    let apart = distance(&got[0], &losses);
    assert!(apart <= 1e-6, "losses of {settings}: {apart:e}");
    let got = LanePlan::unpack_params(layout, seeds.len(), &got[1]);
    each_tensor(&got, &grads, settings);
}

fn each_tensor(got: &Params, expected: &Params, settings: &Value) {
    for tensor in 0..expected.layout().len() {
        for lane in 0..expected.lanes() {
            let apart = distance(got.lane(tensor, lane), expected.lane(tensor, lane));
            assert!(apart <= 3e-6, "gradient of tensor {tensor}, lane {lane}, {settings}: {apart:e}");
        }
    }
}
