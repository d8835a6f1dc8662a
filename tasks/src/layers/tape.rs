//! Which layers ran, to go back through them: reverse-mode differentiation over lane-batched tensors.
//!
//! ```text
//!  variable ─► layer ─► layer ─► losses         each layer leaves a step: its inputs, its output,
//!               │step    │step                  and how a gradient of the output becomes gradients of the inputs
//!               ▼        ▼
//!  gradients ◄─────────────── backward
//! ```
//!
//! Why not candle's `backward`: several of its gradients are wrong or missing without a word, its custom ops take at most
//! three inputs, it adds each gradient to a tensor of zeros in a thread pool that all threads of the process share, and
//! drops long graphs recursively. A tape takes the first gradient of a tensor as it is and frees it as soon as it is
//! used. Values are candle tensors all the same.
//!
//! Only what [`Tape::variable`] names, and what layers made of it, is differentiated. Everything else is a constant: no
//! step is kept for it, which saves the most expensive product of a first layer, and an evaluation is a tape without
//! variables.

use std::collections::{HashMap, HashSet};

use candle_core::{Result, Tensor, TensorId, bail};

use crate::cost;

/// Turns the gradient of a layer's output into those of its inputs, in order; only `wanted` ones are read.
type Backward = Box<dyn FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>>>;

/// The layers of one forward pass, in order.
#[derive(Default)]
pub struct Tape {
    steps: Vec<Step>,
    tracked: HashSet<TensorId>,
    kept: Kept,
}

/// Buffers that are alive, for [`cost`]: each counts once, from the first who keeps it to the last. The tensor itself is
/// held too, or the address of a buffer freed early would be given to another, which then were not counted.
#[derive(Default)]
struct Kept(HashMap<usize, (Tensor, usize)>);

impl Kept {
    fn keep(&mut self, tensor: &Tensor) -> usize {
        let (buffer, _) = tensor.storage_and_layout();
        let buffer = std::ptr::from_ref(&*buffer).addr();
        let (_, count) = self.0.entry(buffer).or_insert_with(|| {
            cost::hold(bytes(tensor));
            (tensor.clone(), 0)
        });
        *count += 1;
        buffer
    }

    fn release(&mut self, buffer: usize) {
        if let Some((tensor, count)) = self.0.get_mut(&buffer) {
            *count -= 1;
            if *count == 0 {
                cost::hold(-bytes(tensor));
                self.0.remove(&buffer);
            }
        }
    }
}

struct Step {
    layer: &'static str,
    /// Inputs with their number of values, to check what comes back; `None` for a constant.
    inputs: Vec<(TensorId, Vec<usize>, bool)>,
    output: TensorId,
    /// Buffers it keeps alive, while costs are counted.
    keeps: Vec<usize>,
    backward: Backward,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tape of {} layers", self.steps.len())
    }
}

impl Tape {
    /// Asks for the gradient of this tensor.
    pub fn variable(&mut self, tensor: &Tensor) {
        self.tracked.insert(tensor.id());
        self.constant(tensor);
    }

    /// Says that this tensor lives as long as the tape, for the count of memory.
    pub(crate) fn constant(&mut self, tensor: &Tensor) {
        if cost::counting() {
            self.kept.keep(tensor);
        }
    }

    /// Whether a gradient of this tensor is asked for: it is a variable, or made of one.
    pub fn tracks(&self, tensor: &Tensor) -> bool {
        self.tracked.contains(&tensor.id())
    }

    /// Notes that `layer` made `output` of `inputs`. `backward` gets the gradient of the output, contiguous, and which
    /// inputs want one, and returns one gradient an input: `None` where none is wanted. What it needs of the forward
    /// pass it owns: inputs and output, as far as the count of memory goes ([`Tape::record_keeping`] says otherwise).
    pub fn record(
        &mut self,
        layer: &'static str,
        inputs: &[&Tensor],
        output: Tensor,
        backward: impl FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + 'static,
    ) -> Tensor {
        let kept: Vec<&Tensor> = if cost::counting() { [inputs, &[&output]].concat() } else { vec![] };
        self.note(layer, inputs, &output, &kept, Box::new(backward));
        output
    }

    /// As [`Tape::record`], for a layer whose `backward` owns just the tensors `kept`.
    pub fn record_keeping(
        &mut self,
        layer: &'static str,
        inputs: &[&Tensor],
        output: Tensor,
        kept: &[&Tensor],
        backward: impl FnOnce(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + 'static,
    ) -> Tensor {
        self.note(layer, inputs, &output, kept, Box::new(backward));
        output
    }

    fn note(&mut self, layer: &'static str, inputs: &[&Tensor], output: &Tensor, kept: &[&Tensor], backward: Backward) {
        cost::spend(output.elem_count() as f64);
        if inputs.iter().any(|input| self.tracks(input)) {
            debug_assert!(inputs.iter().all(|input| input.id() != output.id()), "{layer}: the output is an input");
            self.tracked.insert(output.id());
            cost::spend(2.0 * output.elem_count() as f64);
            let inputs = inputs.iter().map(|input| (input.id(), input.dims().to_vec(), self.tracks(input))).collect();
            let keeps =
                if cost::counting() { kept.iter().map(|tensor| self.kept.keep(tensor)).collect() } else { vec![] };
            self.steps.push(Step { layer, inputs, output: output.id(), keeps, backward });
        }
    }

    /// The gradient of the sum of `output`'s values for every variable it was made of.
    ///
    /// # Errors
    /// If a layer's backward pass fails, or gives a gradient of another shape than its input has.
    pub fn backward(self, output: &Tensor) -> Result<Gradients> {
        self.backward_from(output, output.ones_like()?)
    }

    /// The gradient of `Σ cotangent · output` for every variable; `cotangent` has the shape of `output`.
    ///
    /// # Errors
    /// As [`Tape::backward`].
    pub fn backward_from(mut self, output: &Tensor, cotangent: Tensor) -> Result<Gradients> {
        if cotangent.dims() != output.dims() {
            bail!("a cotangent {:?} does not fit an output {:?}", cotangent.shape(), output.shape());
        }
        let mut gradients = Gradients(HashMap::with_capacity(2 * self.steps.len() + 1));
        gradients.add(output.id(), cotangent)?;
        for Step { layer, inputs, output, keeps, backward } in std::mem::take(&mut self.steps).into_iter().rev() {
            // What a step keeps is freed with it, needed or not.
            let Some(gradient) = gradients.0.remove(&output) else {
                keeps.into_iter().for_each(|buffer| self.kept.release(buffer));
                continue;
            };
            let wanted: Vec<bool> = inputs.iter().map(|(_, _, wanted)| *wanted).collect();
            let of_inputs = backward(&gradient.contiguous()?, &wanted)?;
            if of_inputs.len() != inputs.len() {
                bail!("{layer}: {} gradients for {} inputs", of_inputs.len(), inputs.len());
            }
            for ((input, shape, wanted), gradient) in inputs.into_iter().zip(of_inputs) {
                match gradient {
                    _ if !wanted => {}
                    Some(gradient) if gradient.dims() == shape => gradients.add(input, gradient)?,
                    Some(gradient) => bail!("{layer}: a gradient {:?} of an input {shape:?}", gradient.shape()),
                    None => bail!("{layer}: no gradient of an input that wants one"),
                }
            }
            cost::hold(-bytes(&gradient));
            keeps.into_iter().for_each(|buffer| self.kept.release(buffer));
        }
        Ok(gradients)
    }
}

/// Gradients by tensor.
#[derive(Debug)]
pub struct Gradients(HashMap<TensorId, Tensor>);

impl Gradients {
    /// The gradient of a variable, if one reached it. Handing it out removes it.
    pub fn take(&mut self, of: &Tensor) -> Option<Tensor> {
        self.remove(of.id())
    }

    fn remove(&mut self, of: TensorId) -> Option<Tensor> {
        let gradient = self.0.remove(&of)?;
        cost::hold(-bytes(&gradient));
        Some(gradient)
    }

    fn add(&mut self, of: TensorId, gradient: Tensor) -> Result<()> {
        let sum = match self.remove(of) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        cost::hold(bytes(&sum));
        self.0.insert(of, sum);
        Ok(())
    }
}

fn bytes(tensor: &Tensor) -> f64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as f64
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn scalar(value: f64) -> Tensor {
        Tensor::new(&[value], &Device::Cpu).unwrap()
    }

    /// `a · b`, by hand.
    fn product(tape: &mut Tape, a: &Tensor, b: &Tensor) -> Tensor {
        let (kept_a, kept_b) = (a.clone(), b.clone());
        tape.record("product", &[a, b], (a * b).unwrap(), move |grad, _| {
            Ok(vec![Some((grad * &kept_b)?), Some((grad * &kept_a)?)])
        })
    }

    #[test]
    fn gradients_that_meet_are_summed_and_constants_get_none() {
        let (a, b) = (scalar(3.0), scalar(5.0));
        let mut tape = Tape::default();
        tape.variable(&a);
        let square = product(&mut tape, &a, &a);
        let output = product(&mut tape, &square, &b);
        assert!(tape.tracks(&output) && !tape.tracks(&b));
        let mut gradients = tape.backward(&output).unwrap();
        assert_eq!(gradients.take(&a).unwrap().to_vec1::<f64>().unwrap(), [30.0]);
        assert!(gradients.take(&b).is_none() && gradients.take(&a).is_none());
    }

    #[test]
    fn without_variables_nothing_is_kept() {
        let mut tape = Tape::default();
        let output = product(&mut tape, &scalar(1.0), &scalar(2.0));
        assert_eq!(format!("{tape:?}"), "tape of 0 layers");
        assert_eq!(output.to_vec1::<f64>().unwrap(), [2.0]);
    }

    #[test]
    fn buffers_said_to_be_kept_count_even_if_they_were_freed() {
        let variable = scalar(3.0);
        let ((), spent) = cost::count(|| {
            let mut tape = Tape::default();
            tape.variable(&variable);
            for _ in 0..10 {
                // Without an own hold on it, the next output may get the address of the last.
                let output = tape.record("careless", &[&variable], scalar(1.0), |_, _| Ok(vec![None]));
                drop(output);
            }
        });
        assert_eq!(spent.bytes, 11.0 * 8.0);
    }

    #[test]
    fn a_layer_that_loses_a_gradient_is_named() {
        let a = scalar(1.0);
        let cases: [(Backward, &str); 3] = [
            (Box::new(|_, _| Ok(vec![None])), "no gradient"),
            (Box::new(|_, _| Ok(vec![])), "0 gradients for 1 inputs"),
            (Box::new(|_, _| Ok(vec![Some(Tensor::zeros(2, DType::F64, &Device::Cpu)?)])), "a gradient [2]"),
        ];
        for (backward, expected) in cases {
            let mut tape = Tape::default();
            tape.variable(&a);
            let output = tape.record("broken", &[&a], a.affine(2.0, 0.0).unwrap(), backward);
            let error = tape.backward(&output).unwrap_err().to_string();
            assert!(error.contains("broken") && error.contains(expected), "{error}");
        }
    }
}
