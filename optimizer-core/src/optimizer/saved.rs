//! The state of an optimizer as bytes, from which the next step is the same to the bit.
//!
//! ```text
//!  header   "__metadata__": { "paceline_state": "{\"digest\":…,\"axes\":…,\"format\":1,\"optimizer\":\"hyper_v2\",
//!                                                  \"params\":[names],\"slots\":[names],\"thetas\":[hashes]}" }
//!  U32      step [lanes]   horizon [lanes]                   how far, of how many
//!  F32      params/NAME         [lanes, shape…]              the parameters
//!  F32      slots/INDEX/NAME    [lanes, shape…]              what the optimizer remembers, in its own order
//! ```
//!
//! A diverged lane holds NaN and infinities, and they are part of the state: every f32 is kept as its four bytes. What
//! is read belongs to nobody yet: it is compared with the optimizer that is to continue it and with the state that
//! optimizer begins with, so it takes the caller's own names and shapes or none.

use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::{OptState, Optimizer, Slot};
use crate::params::{Layout, Params, TensorSpec};
use crate::sealed::{self, Sealed};
use crate::tensor_file::{self, Tensor, TensorFile};
use crate::{Error, Result};

/// Newest format of a saved state that this program reads, and the one it writes.
pub const FORMAT: u32 = 1;

/// Key of the metadata in the safetensors header.
const KEY: &str = "paceline_state";

/// Most steps that a saved state may have made: counters are 32-bit, and must not overflow in the steps that follow.
const MOST_STEPS: u32 = i32::MAX as u32;

/// Axes of parameters that are as in [`Layout`].
const REFERENCE_AXES: &str = "reference";

/// All metadata but the digest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Where the parameters come from, if their axes are ordered otherwise there.
    axes: String,
    format: u32,
    optimizer: String,
    params: Vec<String>,
    slots: Vec<String>,
    thetas: Vec<String>,
}

/// The only field that a file of another format is sure to have.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl OptState {
    /// Deterministic safetensors bytes of the whole state: `step` and `horizon` `[lanes]`, `params/NAME` and
    /// `slots/INDEX/NAME` `[lanes, shape…]`. `optimizer` is the one that made it; its name and the hash of
    /// its theta go with the state.
    ///
    /// ```
    /// use paceline_optimizer_core::optimizer::{Adam, OptState, OptimizerConfig};
    /// use paceline_optimizer_core::{Layout, Params, TensorSpec};
    ///
    /// # fn main() -> paceline_optimizer_core::Result<()> {
    /// let layout = Layout::new(vec![TensorSpec::new("x", [3])])?;
    /// let (adam, x) = (OptimizerConfig::Adam(Adam::new(0.1)).build()?, Params::zeros(&layout, 1));
    /// let fresh = adam.init(x.clone(), &[100])?;
    /// let state = adam.update(fresh.clone(), &x, &[0.5])?;
    ///
    /// let bytes = state.to_bytes(&*adam)?;
    /// assert_eq!(OptState::from_bytes(&bytes, &*adam, &fresh)?, state);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::SavedState`] if the state does not hold together: no lanes, or vectors of another length than lanes and
    /// shapes say.
    pub fn to_bytes(&self, optimizer: &dyn Optimizer) -> Result<Vec<u8>> {
        self.encode(optimizer, REFERENCE_AXES)
    }

    /// Reads and verifies them. `fresh` is the state that `optimizer` begins with (`optimizer.init`, whatever the
    /// values of the parameters).
    ///
    /// # Errors
    /// [`Error::SavedState`] for damage, saying what differs. [`Error::ForeignState`] if another optimizer, another
    /// theta or another horizon made the state, or if names and shapes of its slots are others.
    /// [`Error::LayoutMismatch`] or [`Error::Lanes`] if it holds other parameters.
    pub fn from_bytes(bytes: &[u8], optimizer: &dyn Optimizer, fresh: &Self) -> Result<Self> {
        Self::decode(bytes, optimizer, fresh, REFERENCE_AXES)
    }

    /// [`OptState::to_bytes`] with a note on the axes of the parameters: shapes alone do not tell a square matrix from
    /// its transpose.
    pub(crate) fn encode(&self, optimizer: &dyn Optimizer, axes: &str) -> Result<Vec<u8>> {
        let lanes = self.lanes();
        if lanes == 0 {
            return Err(damaged("a state without lanes cannot be saved"));
        }
        let u32s = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![
            ("step".into(), Dtype::U32, vec![lanes], u32s(&self.step)),
            ("horizon".into(), Dtype::U32, vec![lanes], u32s(&self.horizon)),
        ];
        let with_lanes = |shape: &[usize]| std::iter::once(lanes).chain(shape.iter().copied()).collect();
        let layout = self.params.layout();
        for (index, tensor) in layout.tensors().iter().enumerate() {
            let data = f32s(self.params.tensor(index));
            tensors.push((params_name(tensor.name()), Dtype::F32, with_lanes(tensor.shape()), data));
        }
        for (index, slot) in self.slots.iter().enumerate() {
            tensors.push((slot_name(index, &slot.name), Dtype::F32, with_lanes(&slot.shape), f32s(&slot.values)));
        }
        // A view of data that is not as long as its shape says is refused here.
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            let view = TensorView::new(*dtype, shape.clone(), data);
            view.map(|view| (name.clone(), view)).map_err(|error| damaged(format!("{name}: {error}")))
        });
        let document = Document {
            axes: axes.into(),
            format: FORMAT,
            optimizer: lineage(optimizer),
            params: layout.tensors().iter().map(|tensor| tensor.name().to_owned()).collect(),
            slots: self.slots.iter().map(|slot| slot.name.clone()).collect(),
            thetas: thetas(optimizer),
        };
        let text = sealed::document(&document).map_err(damaged)?;
        sealed::seal(KEY, &text, views.collect::<Result<_>>()?).map_err(damaged)
    }

    /// [`OptState::from_bytes`], refusing another note on the axes.
    pub(crate) fn decode(bytes: &[u8], optimizer: &dyn Optimizer, fresh: &Self, axes: &str) -> Result<Self> {
        let sealed = Sealed::read(KEY, bytes).map_err(damaged)?;
        let unreadable = |error: serde_json::Error| damaged(format!("metadata: {error}"));
        let Format { format } = serde_json::from_str(sealed.unverified()).map_err(unreadable)?;
        if format != u64::from(FORMAT) {
            return Err(damaged(format!("format {format} is not the one this program reads, {FORMAT}")));
        }
        let (text, file) = sealed.verified().map_err(damaged)?;
        let document: Document = serde_json::from_str(&text).map_err(unreadable)?;
        expect("optimizer", &lineage(optimizer), &document.optimizer)?;
        expect("theta", &thetas(optimizer).join(", "), &document.thetas.join(", "))?;
        expect("order of axes", axes, &document.axes)?;
        let state = document.open(&file)?;
        fresh.check_continues(&state)?;
        Ok(state)
    }

    /// Checks that `other` is a later state of the same trajectory, as far as names, shapes and plans can tell.
    fn check_continues(&self, other: &Self) -> Result<()> {
        self.params.check_like(&other.params, "saved parameters")?;
        expect("horizon", &format!("{:?}", self.horizon), &format!("{:?}", other.horizon))?;
        expect("number of slots", &self.slots.len().to_string(), &other.slots.len().to_string())?;
        for (ours, theirs) in self.slots.iter().zip(&other.slots) {
            let described = |slot: &Slot| format!("{} {:?}", slot.name, slot.shape);
            expect("slot", &described(ours), &described(theirs))?;
        }
        Ok(())
    }
}

impl Document {
    /// The state of these tensors, once their shapes agree with each other.
    fn open(self, file: &TensorFile<'_>) -> Result<OptState> {
        let expected = 2 + self.params.len() + self.slots.len();
        if file.len() != expected {
            return Err(damaged(format!("{} tensors instead of {expected}", file.len())));
        }
        let step = u32s(file, "step")?;
        let horizon = u32s(file, "horizon")?;
        let lanes = step.len();
        if lanes == 0 || horizon.len() != lanes {
            return Err(damaged(format!("{lanes} lanes with {} horizons", horizon.len())));
        }
        if let Some(step) = step.iter().find(|&&step| step > MOST_STEPS) {
            return Err(damaged(format!("{step} steps, more than {MOST_STEPS}")));
        }
        let (mut specs, mut values) = (Vec::new(), Vec::new());
        for name in self.params {
            let (shape, tensor) = f32s(file, &params_name(&name), lanes)?;
            specs.push(TensorSpec::new(name, shape));
            values.push(tensor);
        }
        let slots = self.slots.into_iter().enumerate().map(|(index, name)| {
            let (shape, values) = f32s(file, &slot_name(index, &name), lanes)?;
            Ok(Slot { name, shape, values })
        });
        let slots = slots.collect::<Result<_>>()?;
        let layout: Arc<Layout> = Layout::new(specs)?;
        Ok(OptState { params: Params::from_tensors(&layout, lanes, values)?, step, horizon, slots })
    }
}

/// An optimizer and what it wraps: `weight_decay(gradient_clip(adam))`.
fn lineage(optimizer: &dyn Optimizer) -> String {
    let inner: Vec<String> = optimizer.inner().into_iter().map(lineage).collect();
    if inner.is_empty() { optimizer.name().into() } else { format!("{}({})", optimizer.name(), inner.join(", ")) }
}

/// Hashes of the thetas in it, from the outside to the inside.
fn thetas(optimizer: &dyn Optimizer) -> Vec<String> {
    let own = optimizer.theta_hash().map(|hash| hash.to_string());
    own.into_iter().chain(optimizer.inner().into_iter().flat_map(thetas)).collect()
}

fn params_name(name: &str) -> String {
    format!("params/{name}")
}

/// The index keeps apart the slots of an optimizer and of another one inside it.
fn slot_name(index: usize, name: &str) -> String {
    format!("slots/{index}/{name}")
}

fn damaged(reason: impl Into<String>) -> Error {
    Error::SavedState { reason: reason.into() }
}

/// Compares one fact about the optimizer with what the state says of it.
fn expect(what: &'static str, expected: &str, got: &str) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    let said = |fact: &str| if fact.is_empty() { "none".to_owned() } else { fact.to_owned() };
    Err(Error::ForeignState { what, expected: said(expected), got: said(got) })
}

fn tensor<'a>(file: &'a TensorFile<'_>, name: &str, dtype: tensor_file::Dtype) -> Result<Tensor<'a>> {
    let tensor = file.tensor(name).ok_or_else(|| damaged(format!("tensor {name:?} is missing")))?;
    if tensor.dtype != dtype {
        return Err(damaged(format!("tensor {name:?} is {:?}, expected {dtype:?}", tensor.dtype)));
    }
    Ok(tensor)
}

/// Counters, one a lane.
fn u32s(file: &TensorFile<'_>, name: &str) -> Result<Vec<u32>> {
    let tensor = tensor(file, name, tensor_file::Dtype::U32)?;
    if tensor.shape.len() != 1 {
        return Err(damaged(format!("tensor {name:?} has shape {:?}, expected [lanes]", tensor.shape)));
    }
    Ok(tensor.data.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}

/// Shape without lanes, and values. With at least one lane, a shape is no larger than its data.
fn f32s(file: &TensorFile<'_>, name: &str, lanes: usize) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = tensor(file, name, tensor_file::Dtype::F32)?;
    match tensor.shape {
        [first, shape @ ..] if *first == lanes => {
            let values = tensor.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Ok((shape.to_vec(), values))
        }
        other => Err(damaged(format!("tensor {name:?} has shape {other:?}, expected {lanes} lanes first"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{Adam, OptimizerConfig};
    use safetensors::SafeTensors;

    fn adam() -> (Box<dyn Optimizer>, OptState) {
        let tensors = vec![TensorSpec::new("b", []), TensorSpec::new("w", [2, 3])];
        let adam = OptimizerConfig::Adam(Adam::new(0.1)).build().unwrap();
        let state = adam.init(Params::zeros(&Layout::new(tensors).unwrap(), 2), &[5, 7]).unwrap();
        (adam, state)
    }

    /// Sealed bytes of whatever document and tensors a stranger may write.
    fn forged(edit: impl FnOnce(&mut serde_json::Value, &mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>)) -> Vec<u8> {
        let (adam, state) = adam();
        let bytes = state.to_bytes(&*adam).unwrap();
        let (text, _) = Sealed::read(KEY, &bytes).unwrap().verified().unwrap();
        let mut document = serde_json::from_str(&text).unwrap();
        let owned =
            |(name, view): (String, TensorView<'_>)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
        // The public crate reads the same bytes.
        let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(owned).collect();
        edit(&mut document, &mut tensors);
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        sealed::seal(KEY, &sealed::document(&document).unwrap(), views.collect()).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        let (adam, fresh) = adam();
        OptState::from_bytes(bytes, &*adam, &fresh).unwrap_err().to_string()
    }

    #[test]
    fn what_a_stranger_sealed_is_refused_in_words() {
        let (adam, fresh) = adam();
        assert_eq!(OptState::from_bytes(&forged(|_, _| ()), &*adam, &fresh).unwrap(), fresh);
        let document = |field: &'static str, value: serde_json::Value| {
            refusal(&forged(move |document, _| document[field] = value))
        };
        for (said, word) in [
            (document("format", 2.into()), "format 2"),
            (document("format", "one".into()), "metadata"),
            (document("more", 1.into()), "more"),
            (document("optimizer", "adam_w".into()), "its optimizer is adam, the state's adam_w"),
            (document("thetas", ["00"].as_slice().into()), "theta is none, the state's 00"),
            (document("axes", "candle".into()), "order of axes"),
            (document("params", ["b", "b"].as_slice().into()), "appears twice"),
            (document("params", ["b"].as_slice().into()), "8 tensors"),
            (document("params", ["b", "x"].as_slice().into()), "\"params/x\" is missing"),
            (document("slots", ["m/b", "v/b", "v/w", "m/w"].as_slice().into()), "\"slots/2/v/w\" is missing"),
        ] {
            assert!(said.contains(word), "{said} should say {word}");
        }
        let tensor = |name: &'static str, dtype: Dtype, shape: &'static [usize], bytes: usize| {
            refusal(&forged(move |_, tensors| {
                let tensor = tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap();
                *tensor = (name.into(), dtype, shape.to_vec(), vec![0; bytes]);
            }))
        };
        let late = refusal(&forged(|_, tensors| {
            tensors.iter_mut().find(|tensor| tensor.0 == "step").unwrap().3 = vec![0xFF; 8];
        }));
        assert!(late.contains("4294967295 steps"), "{late}");
        const HUGE: usize = usize::MAX / 64;
        for (said, word) in [
            (tensor("step", Dtype::I32, &[2], 8), "\"step\" has dtype \"I32\""),
            (tensor("step", Dtype::U32, &[2, 1], 8), "expected [lanes]"),
            (tensor("step", Dtype::U32, &[0], 0), "0 lanes"),
            (tensor("horizon", Dtype::U32, &[3], 12), "2 lanes with 3 horizons"),
            (tensor("horizon", Dtype::U32, &[2], 8), "its horizon is [5, 7], the state's [0, 0]"),
            (tensor("params/w", Dtype::F64, &[2, 2, 3], 96), "is F64"),
            (tensor("params/w", Dtype::F32, &[2, 3, 2], 48), "saved parameters"),
            (tensor("params/w", Dtype::F32, &[3, 2, 2], 48), "expected 2 lanes first"),
            (tensor("params/b", Dtype::F32, &[], 4), "expected 2 lanes first"),
            (tensor("params/b", Dtype::F32, &[2, HUGE, 0], 0), "saved parameters"),
            (tensor("params/b", Dtype::F32, &[2, 0, HUGE, HUGE], 0), "saved parameters"),
            (tensor("slots/2/m/w", Dtype::F32, &[2, 6], 48), "its slot is m/w [2, 3], the state's m/w [6]"),
        ] {
            assert!(said.contains(word), "{said} should say {word}");
        }
    }

    #[test]
    fn a_state_that_does_not_hold_together_is_not_written() {
        let refused = |edit: &dyn Fn(&mut OptState), word: &str| {
            let (adam, mut state) = adam();
            edit(&mut state);
            let said = state.to_bytes(&*adam).unwrap_err().to_string();
            assert!(said.contains(word), "{said} should say {word}");
        };
        refused(&|state| state.step.truncate(1), "step");
        refused(&|state| state.horizon.push(1), "horizon");
        refused(&|state| state.slots[1].values.truncate(1), "slots/1/v/b");
        refused(&|state| *state = state.select(&[]), "without lanes");
    }
}
