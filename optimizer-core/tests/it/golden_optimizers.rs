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

/// What the reference calls an optimizer, and what we call it, where the two differ.
const NAMES: [(&str, &str); 3] =
    [("LearnableAdam", "learnable_adam"), ("AdafacMLPLOpt", "adafac_mlp"), ("HyperV2", "hyper_v2")];

/// The hand-designed optimizers; the reference calls them so too.
const HAND_DESIGNED: [&str; 15] = [
    "sgd",
    "sgdm",
    "adam",
    "adamw",
    "rmsprop",
    "nadamw",
    "lamb",
    "lars",
    "radam",
    "yogi",
    "adabelief",
    "adagrad",
    "adafactor",
    "sm3",
    "fromage",
];

/// The case's optimizer with its theta, `None` if it is not built yet.
fn optimizer(case: &Case, theta: &Tensors) -> Option<Box<dyn Optimizer>> {
    let name = case.config["optimizer"].as_str().expect("a name");
    let same = HAND_DESIGNED.iter().map(|name| (*name, *name));
    let (_, kind) = same.chain(NAMES).find(|(reference, _)| *reference == name)?;
    let mut settings = case.config.clone();
    settings.remove("optimizer");
    settings.insert("kind".into(), kind.into());
    if theta.is_empty() {
        let config: OptimizerConfig = serde_json::from_value(settings.into()).unwrap();
        return Some(config.build().unwrap());
    }
    let config: LearnedOptimizerConfig = serde_json::from_value(settings.into()).unwrap();
    let learned = config.build().unwrap();
    Some(learned.bind(golden::theta_of(learned.as_ref(), theta, &case.file)).unwrap())
}

/// Which slot a key below `state/final/` of the reference corresponds to, under an optimizer.
fn slot_name(optimizer: &str, key: &str) -> Option<String> {
    const PREFIXES: [(&str, &str); 17] = [
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
        ("optax_opt_state/2/trace/", "trace/"),
        ("optax_opt_state/3/trace/", "trace/"),
        ("optax_opt_state/0/sum_of_squares/", "sum/"),
        ("optax_opt_state/0/v/", "v/"),
        ("grad_acc/", "m/"),
        ("grad_sqr_acc/", "v/"),
    ];
    if optimizer == "sm3" {
        // Here `mu` are the accumulators, an axis each, and `nu` is the momentum.
        if let Some(tensor) = key.strip_prefix("optax_opt_state/0/nu/") {
            return Some(format!("m/{tensor}"));
        }
        let (tensor, axis) = key.strip_prefix("optax_opt_state/0/mu/")?.rsplit_once('/')?;
        return Some(format!("axis_{axis}/{tensor}"));
    }
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
        let name = case.config["optimizer"].as_str().expect("a name");
        let followed = golden::follow(optimizer.as_ref(), &stored, case.num_steps, case.steps, &case.file);
        let expected = below(&stored, "state/final/");
        let mut case_state = Worst::default();
        let slot_of = |key: &str| slot_name(name, key);
        compared += golden::compare_state(&followed.state, &expected, slot_of, &case.file, &mut case_state);
        println!(
            "{:32} worst difference: parameter {:.1e}, change {:.1e}, state {:.1e}",
            case.file, followed.parameter.value, followed.change.value, case_state.value
        );
        state_worst.merge(case_state);
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
