//! Golden vectors of the JAX references: reading a file, running a trajectory beside it, measuring the distance.
//!
//! ```text
//!  manifest.json ─► cases, each a file   theta/…   params/0/…   grads/t/…   losses   params/t+1/…   state/final/…
//!                                                      └──────── follow ────────────────┘        compare_state
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::optimizer::{OptState, Optimizer};
use paceline_optimizer_core::{Layout, Params, TensorSpec, Theta};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

/// Shape and values of one stored tensor; integers are converted.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// The cases of a folder's manifest.
pub(crate) fn cases<T: DeserializeOwned>(folder: &Path) -> Vec<T> {
    let path = folder.join("manifest.json");
    let manifest = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&manifest).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn read(path: &Path) -> Tensors {
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
pub(crate) fn below(tensors: &Tensors, prefix: &str) -> Tensors {
    let named =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone())));
    named.collect()
}

pub(crate) fn layout_of(tensors: &Tensors) -> Arc<Layout> {
    let specs = tensors.iter().map(|(name, tensor)| TensorSpec::new(name, tensor.shape.clone()));
    Layout::new(specs.collect()).unwrap()
}

pub(crate) fn params_of(layout: &Arc<Layout>, tensors: &Tensors) -> Params {
    let values = layout.tensors().iter().map(|spec| tensors[spec.name()].values.clone()).collect();
    Params::from_tensors(layout, 1, values).unwrap()
}

/// The stored theta as one of `learned`, whose names and shapes it must have.
pub(crate) fn theta_of(learned: &dyn LearnedOptimizer, stored: &Tensors, file: &str) -> Theta {
    let mut theta = Theta::zeros(learned.layout(), 1);
    assert_eq!(learned.layout().len(), stored.len(), "{file}: theta has other tensors");
    for (index, spec) in learned.layout().tensors().iter().enumerate() {
        let tensor = stored.get(spec.name()).unwrap_or_else(|| panic!("{file}: no theta/{}", spec.name()));
        assert_eq!(spec.shape(), tensor.shape, "{file}: shape of {}", spec.name());
        theta.tensor_mut(0, index).copy_from_slice(&tensor.values);
    }
    theta
}

/// The worst difference found so far, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Worst {
    pub(crate) value: f32,
    pub(crate) place: String,
}

impl Worst {
    /// A difference that is not a number is the worst of all.
    pub(crate) fn see(&mut self, value: f32, place: impl FnOnce() -> String) {
        if value > self.value || (value.is_nan() && !self.value.is_nan()) {
            *self = Self { value, place: place() };
        }
    }

    /// The worse of the two.
    pub(crate) fn merge(&mut self, other: Self) {
        self.see(other.value, || other.place);
    }
}

/// Distance from `x` to its neighbour.
pub(crate) fn ulp(x: f32) -> f32 {
    f32::from_bits(x.abs().to_bits() + 1) - x.abs()
}

/// How far a trajectory is from the reference's.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The state after the last step.
    pub(crate) state: OptState,
    /// Largest difference between a parameter and the reference's, at any step.
    pub(crate) parameter: Worst,
    /// Largest relative difference between the change of a parameter in one step and the reference's, beside rounding.
    pub(crate) change: Worst,
}

/// Runs an optimizer with the gradients and losses of a file, over all its steps.
pub(crate) fn follow(
    optimizer: &dyn Optimizer,
    stored: &Tensors,
    num_steps: u32,
    steps: usize,
    file: &str,
) -> Followed {
    let mut before = below(stored, "params/0/");
    let layout = layout_of(&before);
    let mut state = optimizer.init(params_of(&layout, &before), &[num_steps]).unwrap();
    let (mut parameter, mut change) = (Worst::default(), Worst::default());
    for step in 0..steps {
        let grads = params_of(&layout, &below(stored, &format!("grads/{step}/")));
        let after = below(stored, &format!("params/{}/", step + 1));
        let old = state.params.clone();
        state = optimizer.update(state, &grads, &stored["losses"].values[step..=step]).unwrap();
        for (index, spec) in layout.tensors().iter().enumerate() {
            let (before, after) = (&before[spec.name()].values, &after[spec.name()].values);
            for (i, (got, old)) in state.params.tensor(index).iter().zip(old.tensor(index)).enumerate() {
                let place = || format!("{file} step {step} {}[{i}]: {got} for {}", spec.name(), after[i]);
                parameter.see((got - after[i]).abs(), place);
                let expected = after[i] - before[i];
                let excess = ((got - old) - expected).abs() - 3.0 * ulp(after[i].abs().max(before[i].abs()));
                change.see(excess.max(0.0) / expected.abs().max(f32::MIN_POSITIVE), place);
            }
        }
        before = after;
    }
    Followed { state, parameter, change }
}

/// Difference between a final state and the reference's (`expected`, below `state/final/`), relative to the largest
/// entry of each timescale of each tensor: a slow average is small beside a fast one. `slot_name` says which slot a key
/// corresponds to. The reference puts the timescales of an accumulator last, we put them first. Returns how many tensors
/// were compared.
pub(crate) fn compare_state(
    state: &OptState,
    expected: &Tensors,
    slot_name: impl Fn(&str) -> Option<String>,
    place: &str,
    worst: &mut Worst,
) -> usize {
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
            let timescale = index % timescales;
            let got = values[timescale * size + index / timescales];
            worst.see((got - expected).abs() / largest[timescale], || {
                format!("{place} {key}[{index}]: {got} for {expected}")
            });
        }
        compared += 1;
    }
    compared
}
