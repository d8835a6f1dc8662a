//! Trajectories of the JAX reference, step by step.
//!
//! Every case of `DIR/optimizers/manifest.json` is run with the theta, gradients and losses of its file; names, shapes
//! and sizes come from the files. `DIR` is `tests/golden` or what `PACELINE_GOLDEN` says. An optimizer that is not built
//! yet is skipped by its name and counted.

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::optimizer::{Optimizer, OptimizerConfig};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::golden::{self, Tensors, Worst, below};

/// Largest difference between a parameter and the reference's, at any step.
const PARAMETER_TOLERANCE: f32 = 5e-7;

/// Largest relative difference between the change of a parameter and the reference's, beside rounding.
const CHANGE_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Case {
    file: String,
    config: Map<String, Value>,
    num_steps: u32,
    steps: usize,
}

/// What the reference calls an optimizer, and what we call it.
const NAMES: [(&str, &str); 7] = [
    ("sgd", "sgd"),
    ("sgdm", "sgdm"),
    ("adam", "adam"),
    ("adamw", "adam_w"),
    ("LearnableAdam", "learnable_adam"),
    ("AdafacMLPLOpt", "adafac_mlp"),
    ("HyperV2", "hyper_v2"),
];

/// The case's optimizer with its theta, `None` if it is not built yet.
fn optimizer(case: &Case, theta: &Tensors) -> Option<Box<dyn Optimizer>> {
    let name = case.config["optimizer"].as_str().expect("a name");
    let (_, kind) = NAMES.iter().find(|(reference, _)| *reference == name)?;
    let mut settings = case.config.clone();
    settings.remove("optimizer");
    settings.insert("kind".into(), (*kind).into());
    if theta.is_empty() {
        let config: OptimizerConfig = serde_json::from_value(settings.into()).unwrap();
        return Some(config.build());
    }
    let config: LearnedOptimizerConfig = serde_json::from_value(settings.into()).unwrap();
    let learned = config.build().unwrap();
    Some(learned.bind(golden::theta_of(learned.as_ref(), theta, &case.file)).unwrap())
}

/// Which slot, and how, a key below `state/final/` of the reference corresponds to.
fn slot_name(key: &str) -> Option<String> {
    const PREFIXES: [(&str, &str); 12] = [
        ("mom_rolling/m/", "m/"),
        ("rms_rolling/rms/", "rms/"),
        ("fac_rolling/", ""),
        ("fac_rolling_features/", ""),
        ("loss_buffer/decays", "loss/decays"),
        ("loss_buffer/means", "loss/means"),
        ("loss_buffer/running_min", "loss/running_min"),
        ("lstm_hidden_state/", "lstm/"),
        ("optax_opt_state/0/mu/", "m/"),
        ("optax_opt_state/0/nu/", "v/"),
        ("optax_opt_state/0/trace/", "trace/"),
        ("optax_opt_state/0/velocity/", "trace/"),
    ];
    let (prefix, ours) = PREFIXES.iter().find(|(prefix, _)| key.starts_with(prefix))?;
    Some(format!("{ours}{}", &key[prefix.len()..]))
}

#[test]
fn golden_trajectories_of_optimizers() {
    let folder = crate::golden_folder("optimizers");
    let cases: Vec<Case> = golden::cases(&folder);
    let (mut ran, mut compared, mut skipped) = (0, 0, 0);
    let (mut parameter, mut change, mut state_worst) = (Worst::default(), Worst::default(), Worst::default());
    for case in &cases {
        let stored = golden::read(&folder.join(&case.file));
        let Some(optimizer) = optimizer(case, &below(&stored, "theta/")) else {
            let name = case.config["optimizer"].as_str().expect("a name");
            crate::announce(&format!("SKIPPED golden optimizers/{}: {name} is not built", case.file));
            skipped += 1;
            continue;
        };
        let followed = golden::follow(optimizer.as_ref(), &stored, case.num_steps, case.steps, &case.file);
        let expected = below(&stored, "state/final/");
        compared += golden::compare_state(&followed.state, &expected, slot_name, &case.file, &mut state_worst);
        println!("{:32} worst parameter difference {:.1e}", case.file, followed.parameter.value);
        parameter.merge(followed.parameter);
        change.merge(followed.change);
        ran += 1;
    }
    crate::announce(&format!(
        "golden optimizers: {ran} of {} cases ran, {skipped} skipped by name; worst parameter difference {:.2e} ({}); worst \
         relative difference of a change, beside rounding, {:.2e} ({}); worst state difference {:.2e} over {compared} \
         tensors ({})",
        cases.len(),
        parameter.value,
        parameter.place,
        change.value,
        change.place,
        state_worst.value,
        state_worst.place
    ));
    assert!(ran > 0, "no case of {} ran", folder.display());
    assert!(parameter.value <= PARAMETER_TOLERANCE, "{:e}: {}", parameter.value, parameter.place);
    assert!(change.value <= CHANGE_TOLERANCE, "{:e}: {}", change.value, change.place);
    assert!(state_worst.value <= 2e-5, "{:e}: {}", state_worst.value, state_worst.place);
}
