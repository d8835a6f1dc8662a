//! Trajectories of the JAX reference, step by step.
//!
//! Every case of `DIR/optimizers/manifest.json` is run with the theta, gradients and losses of its file; names, shapes
//! and sizes come from the files. `DIR` is `tests/golden` or what `PACELINE_GOLDEN` says. An optimizer that is not built
//! yet is skipped by its name and counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::optimizer::{OptState, Optimizer, OptimizerConfig};
use paceline_optimizer_core::{Layout, Params, TensorSpec, Theta};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Largest relative difference between the change of a parameter and the reference's, beside rounding.
const CHANGE_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Case {
    file: String,
    config: Map<String, Value>,
    num_steps: u32,
    steps: usize,
}

/// Shape and values of one stored tensor; integers are converted.
#[derive(Clone, Debug)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

type Tensors = BTreeMap<String, Tensor>;

fn read(path: &PathBuf) -> Tensors {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let words = |data: &[u8]| data.as_chunks::<4>().0.to_vec();
    file.iter()
        .map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => words(view.data()).into_iter().map(f32::from_le_bytes).collect(),
                Dtype::I32 => words(view.data()).into_iter().map(|word| i32::from_le_bytes(word) as f32).collect(),
                other => panic!("{name}: unexpected dtype {other:?}"),
            };
            (name.to_owned(), Tensor { shape: view.shape().to_vec(), values })
        })
        .collect()
}

/// The tensors below a prefix, named without it, in sorted order.
fn below(tensors: &Tensors, prefix: &str) -> Tensors {
    let named =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone())));
    named.collect()
}

fn layout_of(tensors: &Tensors) -> Arc<Layout> {
    let specs = tensors.iter().map(|(name, tensor)| TensorSpec::new(name, tensor.shape.clone()));
    Layout::new(specs.collect()).unwrap()
}

fn params_of(layout: &Arc<Layout>, tensors: &Tensors) -> Params {
    let values = layout.tensors().iter().map(|spec| tensors[spec.name()].values.clone()).collect();
    Params::from_tensors(layout, 1, values).unwrap()
}

/// What the reference calls an optimizer, what we call it, and the largest difference between a parameter and the
/// reference's at any step.
const CLASSES: &[(&str, &str, f32)] = &[
    ("sgd", "sgd", 5e-7),
    ("sgdm", "sgdm", 5e-7),
    ("adam", "adam", 5e-7),
    ("adamw", "adam_w", 5e-7),
    ("LearnableSGD", "learnable_sgd", 2e-6),
    ("LearnableSGDM", "learnable_sgdm", 2e-6),
    ("LearnableAdam", "learnable_adam", 5e-7),
    ("MLPLOpt", "mlp", 5e-7),
    ("RNNMLPLOpt", "rnn_mlp", 5e-7),
    ("NNAdam", "nn_adam", 2e-6),
    ("AdafacMLPLOpt", "adafac_mlp", 5e-7),
    ("MLPNomLOpt", "mlp_nominal", 2e-6),
    ("HyperV2", "hyper_v2", 5e-7),
];

/// The class of a case, `None` if it is not built yet.
fn class(case: &Case) -> Option<&'static (&'static str, &'static str, f32)> {
    let name = case.config["optimizer"].as_str().expect("a name");
    CLASSES.iter().find(|(reference, ..)| *reference == name)
}

/// The case's optimizer with its theta, `None` if it is not built yet.
fn optimizer(case: &Case, theta: &Tensors) -> Option<Box<dyn Optimizer>> {
    let (_, kind, _) = class(case)?;
    let mut settings = case.config.clone();
    settings.remove("optimizer");
    settings.insert("kind".into(), (*kind).into());
    if theta.is_empty() {
        let config: OptimizerConfig = serde_json::from_value(settings.into()).unwrap();
        return Some(config.build());
    }
    let config: LearnedOptimizerConfig = serde_json::from_value(settings.into()).unwrap();
    let learned = config.build().unwrap();
    let mut values = Theta::zeros(learned.layout(), 1);
    assert_eq!(learned.layout().len(), theta.len(), "{}: theta has other tensors", case.file);
    for (index, spec) in learned.layout().tensors().iter().enumerate() {
        let stored = theta.get(spec.name()).unwrap_or_else(|| panic!("{}: no theta/{}", case.file, spec.name()));
        assert_eq!(spec.shape(), stored.shape, "{}: shape of {}", case.file, spec.name());
        values.tensor_mut(0, index).copy_from_slice(&stored.values);
    }
    Some(learned.bind(values).unwrap())
}

/// Differences found so far, and where.
#[derive(Default)]
struct Worst {
    value: f32,
    place: String,
}

impl Worst {
    /// A difference that is not a number is the worst of all.
    fn see(&mut self, value: f32, place: impl FnOnce() -> String) {
        if value > self.value || (value.is_nan() && !self.value.is_nan()) {
            *self = Self { value, place: place() };
        }
    }
}

/// Distance from `x` to its neighbour.
fn ulp(x: f32) -> f32 {
    f32::from_bits(x.abs().to_bits() + 1) - x.abs()
}

/// Which slot, and how, a key below `state/final/` of the reference corresponds to.
fn slot_name(key: &str) -> Option<String> {
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
        ("optax_opt_state/0/velocity/", "trace/"),
    ];
    let (prefix, ours) = PREFIXES.iter().find(|(prefix, _)| key.starts_with(prefix))?;
    Some(format!("{ours}{}", &key[prefix.len()..]))
}

/// Difference between a final state and the reference's, relative to the largest entry of each timescale of each tensor.
/// The reference puts the timescales of an accumulator last, we put them first. Returns how many tensors were compared.
fn compare_state(state: &OptState, expected: &Tensors, place: &str, worst: &mut Worst) -> usize {
    let mut compared = 0;
    for (key, tensor) in expected {
        let Some(name) = slot_name(key) else {
            match key.rsplit('/').next() {
                Some("iteration" | "count") => assert_eq!(tensor.values, [state.step[0] as f32], "{place}: {key}"),
                Some("num_steps") => assert_eq!(tensor.values, [state.horizon[0] as f32], "{place}: {key}"),
                _ => {}
            }
            continue;
        };
        let slot = state.slots.iter().find(|slot| slot.name == name);
        let slot = slot.unwrap_or_else(|| panic!("{place}: no slot {name} for {key}"));
        let values = slot.lane(0);
        assert_eq!(values.len(), tensor.values.len(), "{place}: size of {key}");
        let timescales = if slot.shape == tensor.shape { 1 } else { tensor.shape[tensor.shape.len() - 1] };
        let size = values.len() / timescales;
        let mut largest = vec![f32::MIN_POSITIVE; timescales];
        for (index, value) in tensor.values.iter().enumerate() {
            largest[index % timescales] = largest[index % timescales].max(value.abs());
        }
        for (index, expected) in tensor.values.iter().enumerate() {
            let got = values[index % timescales * size + index / timescales];
            worst.see((got - expected).abs() / largest[index % timescales], || {
                format!("{place} {key}[{index}]: {got} for {expected}")
            });
        }
        compared += 1;
    }
    compared
}

#[test]
fn golden_trajectories_of_optimizers() {
    let folder = crate::golden_folder("optimizers");
    let manifest = std::fs::read(folder.join("manifest.json")).expect("a manifest");
    let cases: Vec<Case> = serde_json::from_slice(&manifest).unwrap();
    let (mut ran, mut compared, mut skipped) = (0, 0, 0);
    let (mut parameter, mut change, mut state_worst) = (Worst::default(), Worst::default(), Worst::default());
    for case in &cases {
        let stored = read(&folder.join(&case.file));
        let Some(optimizer) = optimizer(case, &below(&stored, "theta/")) else {
            let name = case.config["optimizer"].as_str().expect("a name");
            crate::announce(&format!("SKIPPED golden optimizers/{}: {name} is not built", case.file));
            skipped += 1;
            continue;
        };
        let mut before = below(&stored, "params/0/");
        let layout = layout_of(&before);
        let mut state = optimizer.init(params_of(&layout, &before), &[case.num_steps]).unwrap();
        let (mut case_worst, mut case_change, mut case_state) = (Worst::default(), Worst::default(), Worst::default());
        for step in 0..case.steps {
            let grads = params_of(&layout, &below(&stored, &format!("grads/{step}/")));
            let after = below(&stored, &format!("params/{}/", step + 1));
            let old = state.params.clone();
            state = optimizer.update(state, &grads, &stored["losses"].values[step..=step]).unwrap();
            for (index, spec) in layout.tensors().iter().enumerate() {
                let (before, after) = (&before[spec.name()].values, &after[spec.name()].values);
                for (i, (got, old)) in state.params.tensor(index).iter().zip(old.tensor(index)).enumerate() {
                    let place = || format!("{} step {step} {}[{i}]: {got} for {}", case.file, spec.name(), after[i]);
                    case_worst.see((got - after[i]).abs(), place);
                    let expected = after[i] - before[i];
                    let excess = ((got - old) - expected).abs() - 3.0 * ulp(after[i].abs().max(before[i].abs()));
                    case_change.see(excess.max(0.0) / expected.abs().max(f32::MIN_POSITIVE), place);
                }
            }
            before = after;
        }
        let expected = below(&stored, "state/final/");
        compared += compare_state(&state, &expected, &case.file, &mut case_state);
        println!(
            "{:32} worst differences: parameter {:.1e}, change {:.1e}, state {:.1e}",
            case.file, case_worst.value, case_change.value, case_state.value
        );
        let (name, _, tolerance) = class(case).expect("the case is built");
        assert!(case_worst.value <= *tolerance, "{name}: {:e}: {}", case_worst.value, case_worst.place);
        parameter.see(case_worst.value, || case_worst.place.clone());
        change.see(case_change.value, || case_change.place.clone());
        state_worst.see(case_state.value, || case_state.place.clone());
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
    assert!(change.value <= CHANGE_TOLERANCE, "{:e}: {}", change.value, change.place);
    assert!(state_worst.value <= 2e-5, "{:e}: {}", state_worst.value, state_worst.place);
}
