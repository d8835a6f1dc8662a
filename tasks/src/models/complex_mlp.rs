//! Small complex networks for signals that are drawn, not recorded.
//!
//! ```text
//!  ComplexMlp   vector ─► (norm) ─► linear ─ act ─► … ─► (norm) ─► linear
//!  DelayNet     [1, times, c] ─► conv 1×k ─ act ─► mean over times ─► linear
//! ```

use candle_core::Result;

use super::complex_parts::{Hidden, apply_conv, apply_linear, apply_norm, list_conv, list_linear, list_norm};
use super::{SignalNet, Signals};
use crate::layers::complex::{ComplexInit, ComplexTensor, average_pool2d};
use crate::layers::{Border, Window};
use crate::problem::{Parameters, ParametersBuilder, Pass};

/// Linear layers with an activation between them.
#[derive(Debug)]
pub(crate) struct ComplexMlp {
    widths: Vec<usize>,
    activation: Hidden,
    /// Whether batch norm comes before each linear layer.
    norm: bool,
    parameters: Parameters,
    state: Parameters,
}

impl ComplexMlp {
    /// From `widths[0]` inputs to as many outputs as the last of `widths`, of which there are at least two.
    pub(crate) fn new(widths: Vec<usize>, activation: Hidden, norm: bool, init: ComplexInit) -> Self {
        let (mut parameters, mut state) = (ParametersBuilder::default(), ParametersBuilder::default());
        let layers = widths.len().saturating_sub(1);
        for index in 0..layers {
            let (inputs, outputs) = (widths[index], widths[index + 1]);
            if norm {
                list_norm(&format!("norm_{index}"), inputs, &mut parameters, &mut state);
            }
            list_linear(&format!("layer_{index}"), [inputs, outputs], init, &mut parameters);
            if index + 1 < layers {
                activation.list(&format!("layer_{index}"), outputs, &mut parameters);
            }
        }
        Self { widths, activation, norm, parameters: parameters.build(), state: state.build() }
    }
}

impl SignalNet for ComplexMlp {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        self.state.some()
    }

    fn outputs(&self, pass: &mut Pass<'_>, signals: &Signals) -> Result<ComplexTensor> {
        let mut values = signals.values.clone();
        if self.norm && values.stacked().dim(0)? != pass.lanes() {
            // Each lane has a norm of its own.
            values = ComplexTensor::from_stacked(values.stacked().repeat((pass.lanes(), 1, 1))?)?;
        }
        let layers = self.widths.len().saturating_sub(1);
        for index in 0..layers {
            if self.norm {
                values = apply_norm(pass, &values)?;
            }
            values = apply_linear(pass, &values)?;
            if index + 1 < layers {
                values = self.activation.apply(pass, &values)?;
            }
        }
        Ok(values)
    }

    fn describe(&self) -> String {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        let norm = if self.norm { ", batch norm" } else { "" };
        format!("complex mlp {}, {:?}{norm}", widths.join("-"), self.activation)
    }
}

/// A convolution along time, its mean, and a linear layer.
#[derive(Debug)]
pub(crate) struct DelayNet {
    kernel: usize,
    channels: usize,
    activation: Hidden,
    parameters: Parameters,
}

impl DelayNet {
    /// Of `inputs` channels; the kernel is not longer than the signal.
    pub(crate) fn new(
        [inputs, channels, classes]: [usize; 3],
        kernel: usize,
        activation: Hidden,
        init: ComplexInit,
    ) -> Self {
        let mut parameters = ParametersBuilder::default();
        list_conv("conv", [1, kernel], [inputs, channels], init, &mut parameters);
        activation.list("conv", channels, &mut parameters);
        list_linear("head", [channels, classes], init, &mut parameters);
        Self { kernel, channels, activation, parameters: parameters.build() }
    }
}

impl SignalNet for DelayNet {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        None
    }

    fn outputs(&self, pass: &mut Pass<'_>, signals: &Signals) -> Result<ComplexTensor> {
        let values = apply_conv(pass, &signals.values)?;
        let values = self.activation.apply(pass, &values)?;
        let (_, _, rows, times, _) = values.stacked().dims5()?;
        let window = Window { size: [rows, times], stride: [rows, times] };
        let values = average_pool2d(&mut pass.tape, &values, window, Border { pixels: [0, 0], counted: false })?;
        let values = values.flatten(&mut pass.tape)?;
        apply_linear(pass, &values)
    }

    fn describe(&self) -> String {
        format!("complex conv 1×{} to {}, {:?}, mean over time", self.kernel, self.channels, self.activation)
    }
}
