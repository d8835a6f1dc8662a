//! Which layers ran, to go back through them: what candle's `backward` does, for our layers only and without its cost.
//!
//! candle adds each gradient to a tensor of zeros, in a thread pool that all threads of the process share; for the
//! images of a convolution that takes as long as unfolding them, and lanes on different threads wait for each other.
//! A tape takes the first gradient as it is and drops it as soon as it is used. The backward passes are the same ones
//! (the tests compare both ways).

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{CustomOp1, CustomOp3, Result, Tensor, TensorId};

use super::conv::convolution;
use super::cross_entropy::softmax_cross_entropy;
use super::linear::affine;
use super::pool::{Kind, pooling};
use super::{Activation, Conv2d, Window};

/// The layers of one forward pass, in order. The methods are the functions of [`crate::layers`] of the same names.
#[derive(Default)]
pub struct Tape {
    steps: Vec<Step>,
}

enum Step {
    One { op: Arc<Box<dyn CustomOp1 + Send + Sync>>, input: Tensor, output: Tensor },
    Three { op: Arc<Box<dyn CustomOp3 + Send + Sync>>, inputs: [Tensor; 3], output: Tensor },
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tape of {} layers", self.steps.len())
    }
}

impl Tape {
    /// [`super::linear()`], remembered.
    ///
    /// # Errors
    /// As [`super::linear()`].
    pub fn linear(&mut self, input: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
        self.apply3(affine(input, weight, bias, activation)?, input, weight, bias)
    }

    /// [`super::conv2d`], remembered.
    ///
    /// # Errors
    /// As [`super::conv2d`].
    pub fn conv2d(&mut self, input: &Tensor, weight: &Tensor, bias: &Tensor, settings: Conv2d) -> Result<Tensor> {
        self.apply3(convolution(input, weight, bias, settings)?, input, weight, bias)
    }

    /// [`super::max_pool2d`], remembered.
    ///
    /// # Errors
    /// As [`super::max_pool2d`].
    pub fn max_pool2d(&mut self, input: &Tensor, window: Window) -> Result<Tensor> {
        self.apply1(pooling(input, window, Kind::Max)?, input)
    }

    /// [`super::avg_pool2d`], remembered.
    ///
    /// # Errors
    /// As [`super::avg_pool2d`].
    pub fn avg_pool2d(&mut self, input: &Tensor, window: Window) -> Result<Tensor> {
        self.apply1(pooling(input, window, Kind::Average)?, input)
    }

    /// [`super::cross_entropy()`], remembered.
    ///
    /// # Errors
    /// As [`super::cross_entropy()`].
    pub fn cross_entropy(&mut self, logits: &Tensor, labels: &Arc<Vec<u32>>) -> Result<Tensor> {
        self.apply1(softmax_cross_entropy(logits, labels)?, logits)
    }

    fn apply1(&mut self, op: impl CustomOp1 + Send + Sync + 'static, input: &Tensor) -> Result<Tensor> {
        let op: Arc<Box<dyn CustomOp1 + Send + Sync>> = Arc::new(Box::new(op));
        let output = input.apply_op1_arc(Arc::clone(&op))?;
        if output.track_op() {
            self.steps.push(Step::One { op, input: input.clone(), output: output.clone() });
        }
        Ok(output)
    }

    fn apply3(
        &mut self,
        op: impl CustomOp3 + Send + Sync + 'static,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
    ) -> Result<Tensor> {
        let op: Arc<Box<dyn CustomOp3 + Send + Sync>> = Arc::new(Box::new(op));
        let output = input.apply_op3_arc(weight, bias, Arc::clone(&op))?;
        if output.track_op() {
            let inputs = [input.clone(), weight.clone(), bias.clone()];
            self.steps.push(Step::Three { op, inputs, output: output.clone() });
        }
        Ok(output)
    }

    /// The gradient of the sum of `output`'s values for everything it was made of and that nothing on the tape made.
    ///
    /// # Errors
    /// If a layer's backward pass fails.
    pub fn backward(self, output: &Tensor) -> Result<Gradients> {
        let mut gradients = Gradients(HashMap::with_capacity(2 * self.steps.len() + 1));
        gradients.add(output, Some(output.ones_like()?))?;
        for step in self.steps.into_iter().rev() {
            match step {
                Step::One { op, input, output } => {
                    if let Some(gradient) = gradients.take(&output) {
                        gradients.add(&input, op.bwd(&input, &output, &gradient)?)?;
                    }
                }
                Step::Three { op, inputs: [input, weight, bias], output } => {
                    if let Some(gradient) = gradients.take(&output) {
                        let (of_input, of_weight, of_bias) = op.bwd(&input, &weight, &bias, &output, &gradient)?;
                        gradients.add(&input, of_input)?;
                        gradients.add(&weight, of_weight)?;
                        gradients.add(&bias, of_bias)?;
                    }
                }
            }
        }
        Ok(gradients)
    }
}

/// Gradients by tensor.
#[derive(Debug)]
pub struct Gradients(HashMap<TensorId, Tensor>);

impl Gradients {
    /// The gradient of a tensor, if one reached it. Handing it out removes it.
    pub fn take(&mut self, of: &Tensor) -> Option<Tensor> {
        self.0.remove(&of.id())
    }

    fn add(&mut self, of: &Tensor, gradient: Option<Tensor>) -> Result<()> {
        if let Some(gradient) = gradient {
            let sum = match self.take(of) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.0.insert(of.id(), sum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::layers::{conv2d, cross_entropy, linear, max_pool2d};

    fn variable(shape: &[usize], salt: usize) -> Var {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 517 + salt * 131) % 613) as f32 / 613.0 - 0.5).collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_tape_gives_the_gradients_of_candles_backward() {
        let images = variable(&[2, 3, 6, 6, 2], 0).as_detached_tensor();
        let labels = Arc::new(vec![1, 0, 3]);
        let weights =
            [variable(&[2, 3, 3, 2, 4], 1), variable(&[2, 4], 2), variable(&[2, 36, 36], 3), variable(&[2, 36], 4)];
        let settings = Conv2d { stride: [1, 1], padding: [1, 1], activation: Activation::Relu };
        let window = Window { size: [2, 2], stride: [2, 2] };
        // The last layer twice with the same weights: gradients that meet are summed.
        let mut tape = Tape::default();
        let x = tape.conv2d(&images, &weights[0], &weights[1], settings).unwrap();
        let x = tape.max_pool2d(&x, window).unwrap();
        let x = tape.linear(&x, &weights[2], &weights[3], Activation::Relu).unwrap();
        let x = tape.linear(&x, &weights[2], &weights[3], Activation::Identity).unwrap();
        let recorded = tape.cross_entropy(&x, &labels).unwrap();
        let mut by_tape = tape.backward(&recorded).unwrap();

        let x = conv2d(&images, &weights[0], &weights[1], settings).unwrap();
        let x = max_pool2d(&x, window).unwrap();
        let x = linear(&x, &weights[2], &weights[3], Activation::Relu).unwrap();
        let x = linear(&x, &weights[2], &weights[3], Activation::Identity).unwrap();
        let losses = cross_entropy(&x, &labels).unwrap();
        let by_candle = losses.backward().unwrap();

        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&recorded), values(&losses));
        for weight in &weights {
            let gradient = by_tape.take(weight).unwrap();
            assert_eq!(values(&gradient), values(by_candle.get(weight).unwrap()));
            assert!(values(&gradient).iter().any(|&value| value != 0.0));
        }
        assert!(by_tape.take(&images).is_none(), "data get no gradient");
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_tracked() {
        let (x, w, b) = (variable(&[1, 2, 3], 0), variable(&[1, 3, 2], 1), variable(&[1, 2], 2));
        let mut tape = Tape::default();
        let [x, w, b] = [&x, &w, &b].map(|variable| variable.as_detached_tensor());
        tape.linear(&x, &w, &b, Activation::Relu).unwrap();
        assert!(tape.steps.is_empty());
    }
}
