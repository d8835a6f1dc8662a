//! Loss and gradient of a multilayer perceptron: the kernel against the CPU's family.

use std::sync::Arc;

use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::{Params, Seed, noise};
use paceline_worker::cuda::layout::{LanePlan, THREADS};
use paceline_worker::cuda::window::{LANES_PER_TASK, PerceptronPlan};
use serde_json::{Value, json};

use super::emulator::{Launch, emulator, input, output, value};

pub(super) fn family(settings: &Value) -> Arc<dyn TaskFamily> {
    paceline_tasks::build("image_mlp", settings.as_object().unwrap(), None).unwrap()
}

/// The largest difference over the largest magnitude.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let apart = got.iter().zip(expected).map(|(got, expected)| f64::from((got - expected).abs())).fold(0.0, f64::max);
    assert!(got.iter().all(|value| value.is_finite()));
    apart / f64::from(largest)
}

#[test]
fn losses_and_gradients_are_those_of_the_cpu() {
    let Some(emulator) = emulator("cuda_perceptron") else { return };
    for settings in [
        json!({}),
        json!({"hidden": [7, 5], "batch_size": 13}),
        json!({"hidden": [], "batch_size": 3}),
        json!({"hidden": [6, 9, 33, 4], "batch_size": 2, "image_size": 4}),
    ] {
        let family = family(&settings);
        let (layout, net) = (family.layout(), family.perceptron().unwrap());
        let lane = LanePlan::new(layout).unwrap();
        let plan = PerceptronPlan::new(&net, &lane).unwrap();
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
            input(&[plan.words]),
            value(lane.size as u32),
            input(net.images),
            input(net.labels),
            input(&batches),
            value(LANES_PER_TASK),
            input(&packed),
            output(&[f32::NAN; 4]),
            output(&vec![f32::NAN; packed.len()]),
        ];
        let launch = Launch {
            shared_floats: THREADS as usize + 1 + plan.activations,
            ..Launch::new([seeds.len() as u32, 1], THREADS)
        };
        let got = emulator.run_f32("perceptron_gradient", launch, &arguments);
        let (losses, grads) = tasks.loss_and_grads(&params, 9).unwrap();
        let apart = distance(&got[0], &losses);
        assert!(apart <= 1e-6, "losses of {settings}: {apart:e}");
        let got = LanePlan::unpack_params(layout, seeds.len(), &got[1]);
        each_tensor(&got, &grads, &settings);
    }
}

fn each_tensor(got: &Params, expected: &Params, settings: &Value) {
    for tensor in 0..expected.layout().len() {
        for lane in 0..expected.lanes() {
            let apart = distance(got.lane(tensor, lane), expected.lane(tensor, lane));
            assert!(apart <= 3e-6, "gradient of tensor {tensor}, lane {lane}, {settings}: {apart:e}");
        }
    }
}
