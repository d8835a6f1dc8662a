//! Trajectories of the JAX reference, step by step.
//!
//! Every case of `DIR/optimizers/manifest.json` is run with the theta, gradients and losses of its file; names, shapes
//! and sizes come from the files. `DIR` is `tests/golden` or what `PACELINE_GOLDEN` says. None is skipped.

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::optimizer::{Optimizer, OptimizerConfig};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::golden::{self, Tensors, Worst, below};

/// Largest relative difference between the change of a parameter and the reference's, beside rounding.
const CHANGE_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Case {
    file: String,
    config: Map<String, Value>,
    num_steps: u32,
    steps: usize,
}

/// What the reference calls an optimizer, what we call it, and the largest difference between a parameter and the
/// reference's at any step.
const CLASSES: &[(&str, &str, f32)] = &[
    ("HyperV2", "hyper_v2", 5e-7),
    ("AdafacMLPLOpt", "adafac_mlp", 5e-7),
    ("MLPLOpt", "mlp", 5e-7),
    ("RNNMLPLOpt", "rnn_mlp", 5e-7),
    ("NNAdam", "nn_adam", 2e-6),
    ("MLPNomLOpt", "mlp_nominal", 2e-6),
    ("LearnableSGD", "learnable_sgd", 2e-6),
    ("LearnableSGDM", "learnable_sgdm", 2e-6),
    ("LearnableAdam", "learnable_adam", 5e-7),
    ("sgd", "sgd", 5e-7),
    ("sgdm", "sgdm", 5e-7),
    ("adam", "adam", 5e-7),
    ("adamw", "adamw", 5e-7),
    ("rmsprop", "rmsprop", 5e-7),
    ("nadamw", "nadamw", 5e-7),
    ("lamb", "lamb", 5e-7),
    ("lars", "lars", 5e-7),
    ("radam", "radam", 5e-7),
    ("yogi", "yogi", 5e-7),
    ("adabelief", "adabelief", 5e-7),
    ("adagrad", "adagrad", 5e-7),
    ("adafactor", "adafactor", 5e-7),
    ("sm3", "sm3", 5e-7),
    ("fromage", "fromage", 5e-7),
];

/// The class of a case.
fn class(case: &Case) -> &'static (&'static str, &'static str, f32) {
    let name = case.config["optimizer"].as_str().expect("a name");
    let class = CLASSES.iter().find(|(reference, ..)| *reference == name);
    class.unwrap_or_else(|| panic!("{}: no optimizer {name} is built", case.file))
}

/// The case's optimizer with its theta.
fn optimizer(case: &Case, theta: &Tensors) -> Box<dyn Optimizer> {
    let mut settings = case.config.clone();
    settings.remove("optimizer");
    settings.insert("kind".into(), class(case).1.into());
    if theta.is_empty() {
        let config: OptimizerConfig = serde_json::from_value(settings.into()).unwrap();
        return config.build().unwrap();
    }
    let config: LearnedOptimizerConfig = serde_json::from_value(settings.into()).unwrap();
    let learned = config.build().unwrap();
    learned.bind(golden::theta_of(learned.as_ref(), theta, &case.file)).unwrap()
}

/// Which slot a key below `state/final/` of the reference corresponds to, under an optimizer.
fn slot_name(optimizer: &str, key: &str) -> Option<String> {
    const PREFIXES: &[(&str, &str)] = &[
        ("mom_rolling/m/", "m/"),
        ("rms_rolling/rms/", "rms/"),
        ("rolling_features/m/", "m/"),
        ("rolling_features/rms/", "rms/"),
        ("per_layer_lr/", "per_layer_lr/"),
        ("per_layer_beta1/", "per_layer_beta1/"),
        ("per_layer_beta2/", "per_layer_beta2/"),
        ("per_layer_epsilon/", "per_layer_epsilon/"),
        ("from_mlp/", "from_mlp/"),
        ("from_lstm", "from_lstm"),
        ("train_loss_accum/", "train_loss/"),
        ("valid_loss_accum/", "valid_loss/"),
        ("dynamic_clip/", "gradient_clip/"),
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
    let mut compared = 0;
    let (mut parameter, mut change, mut state_worst) = (Worst::default(), Worst::default(), Worst::default());
    for case in &cases {
        let stored = golden::read(&folder.join(&case.file));
        let optimizer = optimizer(case, &below(&stored, "theta/"));
        let (name, _, tolerance) = *class(case);
        let followed = golden::follow(optimizer.as_ref(), &stored, case.num_steps, case.steps, &case.file);
        let expected = below(&stored, "state/final/");
        let mut case_state = Worst::default();
        let slot_of = |key: &str| slot_name(name, key);
        compared += golden::compare_state(&followed.state, &expected, slot_of, &case.file, &mut case_state);
        println!(
            "{:32} worst difference: parameter {:.1e}, change {:.1e}, state {:.1e}",
            case.file, followed.parameter.value, followed.change.value, case_state.value
        );
        assert!(
            followed.parameter.value <= tolerance,
            "{:e} is beyond {tolerance:e}: {}",
            followed.parameter.value,
            followed.parameter.place
        );
        state_worst.merge(case_state);
        parameter.merge(followed.parameter);
        change.merge(followed.change);
    }
    crate::announce(&format!(
        "golden optimizers: {} cases ran, none skipped; worst parameter difference {:.2e} ({}); worst relative difference \
         of a change, beside rounding, {:.2e} ({}); worst state difference {:.2e} over {compared} tensors ({})",
        cases.len(),
        parameter.value,
        parameter.place,
        change.value,
        change.place,
        state_worst.value,
        state_worst.place
    ));
    assert!(!cases.is_empty(), "{} lists no case", folder.display());
    assert!(change.value <= CHANGE_TOLERANCE, "{:e}: {}", change.value, change.place);
    assert!(state_worst.value <= 2e-5, "{:e}: {}", state_worst.value, state_worst.place);
}
