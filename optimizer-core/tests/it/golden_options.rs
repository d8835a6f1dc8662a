//! Trajectories of optax for settings that the reference's set leaves at their defaults: schedules, decays, Nesterov,
//! factored moments, Muon, clipping, accumulation. `config` in the manifest is what a recipe says.

use std::collections::BTreeSet;

use paceline_optimizer_core::optimizer::{OptimizerConfig, Schedule};
use serde::Deserialize;

use crate::golden::{self, Worst};

/// Largest difference between a parameter and optax's, at any step.
const PARAMETER_TOLERANCE: f32 = 5e-7;

/// Largest relative difference between the change of a parameter and optax's, beside rounding.
const CHANGE_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Manifest {
    num_steps: u32,
    steps: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    config: OptimizerConfig,
}

#[test]
fn golden_trajectories_of_settings() {
    let folder = crate::golden_folder("options");
    let Ok(manifest) = std::fs::read(folder.join("manifest.json")) else {
        crate::announce(&format!("SKIPPED golden options: no manifest in {}", folder.display()));
        return;
    };
    let Manifest { num_steps, steps, cases } = serde_json::from_slice(&manifest).unwrap();
    let inputs = golden::read(&folder.join("inputs.safetensors"));
    let (mut parameter, mut change, mut kinds) = (Worst::default(), Worst::default(), BTreeSet::new());
    for case in &cases {
        let mut stored = golden::read(&folder.join(&case.file));
        for (name, tensor) in &inputs {
            let name = name.strip_prefix("params/").map_or(name.clone(), |tensor| format!("params/0/{tensor}"));
            stored.insert(name, tensor.clone());
        }
        let losses = golden::Tensor { shape: vec![steps], values: vec![1.0; steps] };
        stored.insert("losses".into(), losses);
        let optimizer = case.config.build().unwrap();
        let followed = golden::follow(optimizer.as_ref(), &stored, num_steps, steps, &case.file);
        println!(
            "{:36} worst difference: parameter {:.1e}, change {:.1e}",
            case.file, followed.parameter.value, followed.change.value
        );
        parameter.merge(followed.parameter);
        change.merge(followed.change);
        kinds.insert(optimizer.name());
    }
    crate::announce(&format!(
        "golden options: {} cases of {} kinds; worst parameter difference {:.2e} ({}); worst relative difference of a \
         change, beside rounding, {:.2e} ({})",
        cases.len(),
        kinds.len(),
        parameter.value,
        parameter.place,
        change.value,
        change.place,
    ));
    assert!(parameter.value <= PARAMETER_TOLERANCE, "{:e}: {}", parameter.value, parameter.place);
    assert!(change.value <= CHANGE_TOLERANCE, "{:e}: {}", change.value, change.place);
}

/// What the schedule of Celo2's practical form was, step by step.
#[test]
fn golden_learning_rates() {
    #[derive(Deserialize)]
    struct Run {
        file: String,
        config: serde_json::Value,
        num_steps: u64,
    }
    let folder = crate::golden_folder("celo");
    let (mut compared, mut worst) = (0, Worst::default());
    for Run { file, config, num_steps } in golden::cases::<Run>(&folder) {
        let Some(schedule) = config.get("schedule") else { continue };
        let schedule: Schedule = serde_json::from_value(schedule.clone()).unwrap();
        schedule.validate("schedule").unwrap();
        let stored = golden::read(&folder.join(&file));
        for (step, &rate) in (0..).zip(&stored["learning_rates"].values) {
            let got = schedule.value(step, num_steps) as f32;
            worst.see((got - rate).abs() / rate.abs().max(1e-3), || format!("{file} step {step}: {got} for {rate}"));
            compared += 1;
        }
    }
    crate::announce(&format!("golden learning rates: {compared} compared, worst {:.1e} {}", worst.value, worst.place));
    assert!(compared > 0, "no schedule in {}", folder.display());
    // optax computes in f32, with half a dozen roundings.
    assert!(worst.value <= 5e-7, "{:e}: {}", worst.value, worst.place);
}
