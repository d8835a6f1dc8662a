//! Adafactor (arXiv 1804.04235, optax semantics): a second moment from the means of rows and columns, and steps
//! relative to a tensor's size.
//!
//! ```text
//!  β = 1 − n^−0.8        r ← β r + (1−β) mean_d0(g² + eps)        c ← β c + (1−β) mean_d1(g² + eps)
//!  w = g · (r / mean_d1 r)^−½ · c^−½                      two large axes d0 ≥ d1 (`min_dim_size_to_factor`)
//!  w = g · v^−½,  v ← β v + (1−β)(g² + eps)               all other tensors
//!  w ← w / max(1, rms(w)/clip)      w ← lr · w · max(1e-3, rms(p))      p ← p − (EMA of w, or w) − wd · p
//! ```

use serde::{Deserialize, Serialize};

use super::decay::Decay;
use super::norm::root_mean_square;
use super::power::power;
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::learned::axes::Factored;
use crate::params::TensorSpec;

/// Least root mean square that a tensor's steps are scaled by.
const LEAST_SCALE: f32 = 1e-3;

/// Adafactor (Shazeer, Stern, arXiv 1804.04235, Algorithm 4 for matrices), as the reference's `Adafactor` (optax 0.2.8
/// `adafactor`): a second moment from the means of rows and columns, and steps relative to a tensor's size.
///
/// ```text
///  β = 1 − n^−0.8        r ← β r + (1−β) mean_d0(g² + eps)        c ← β c + (1−β) mean_d1(g² + eps)
///  w = g · (r / mean_d1 r)^−½ · c^−½                      two large axes d0 ≥ d1 (`min_dim_size_to_factor`)
///  w = g · v^−½,  v ← β v + (1−β)(g² + eps)               all other tensors
///  w ← w / max(1, rms(w)/clip)      w ← lr · w · max(1e-3, rms(p))      p ← p − (EMA of w, or w) − wd · p
/// ```
///
/// Slots: `v_row/NAME` (the shape without d0) and `v_col/NAME` (without d1) of a factored tensor, `v/NAME` of any
/// other; `m/NAME` if there is momentum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adafactor {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Least size of the second largest axis of a tensor that is factored; 128.
    pub min_dim_size_to_factor: usize,
    /// Exponent e of the decay `1 − n^−e` at update n, in `(0, 1]`; 0.8.
    pub decay_rate: f64,
    /// Updates after which n begins to count, for training that goes on from elsewhere; 0.
    pub decay_offset: u32,
    /// Whether steps are scaled by the root mean square of the tensor; true.
    pub multiply_by_parameter_scale: bool,
    /// Bound on the root mean square of a step before the learning rate; 1. `false` (or `null`): none.
    #[serde(with = "or_false")]
    pub clipping_threshold: Option<f64>,
    /// Decay of an average of steps (without bias correction); none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Share of parameters that is subtracted at every step; none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay_rate: Option<f64>,
    /// Added to squares; 1e-30.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Whether any tensor is factored; true.
    pub factored: bool,
}

impl Default for Adafactor {
    fn default() -> Self {
        Self {
            learning_rate: 0.01.into(),
            min_dim_size_to_factor: 128,
            decay_rate: 0.8,
            decay_offset: 0,
            multiply_by_parameter_scale: true,
            clipping_threshold: Some(1.0),
            momentum: None,
            weight_decay_rate: None,
            epsilon: 1e-30,
            factored: true,
        }
    }
}

impl Adafactor {
    /// The factored axes of a tensor, if it is factored.
    fn axes(&self, tensor: &TensorSpec) -> Option<Factored> {
        let axes = Factored::of(tensor.shape()).filter(|_| self.factored)?;
        // `col_count` is the size of the second largest axis.
        (axes.col_count >= self.min_dim_size_to_factor).then_some(axes)
    }

    /// Writes `g / √(second moment)` to `w`, after the second moment has seen `g`.
    fn precondition(&self, tensor: &TensorSpec, decay: Decay, g: &[f32], buffers: &mut [&mut [f32]], w: &mut [f32]) {
        if g.is_empty() {
            return;
        }
        let eps = self.epsilon as f32;
        match (self.axes(tensor), buffers) {
            (Some(axes), [rows, cols, ..]) => {
                average_rows_and_columns(&axes, decay, g, eps, rows, cols);
                let row_factors = row_factors(&axes, rows);
                let (row_step, col_step) = axes.run_steps();
                let length = axes.run_length();
                for (run, (w, g)) in axes.runs().zip(w.chunks_mut(length).zip(g.chunks(length))) {
                    for (j, (w, g)) in w.iter_mut().zip(g).enumerate() {
                        let row = row_factors[run.row + j * row_step];
                        let col = 1.0 / cols[run.col + j * col_step].sqrt();
                        *w = g * row * col;
                    }
                }
            }
            (None, [v, ..]) => {
                for ((w, &g), v) in w.iter_mut().zip(g).zip(v.iter_mut()) {
                    *v = decay.mix(*v, g * g + eps);
                    *w = g * (1.0 / v.sqrt());
                }
            }
            _ => unreachable!("two buffers of a factored tensor, one of any other"),
        }
    }
}

/// `average ← keep · average + take · mean(g² + eps)` over the largest axis (rows) and the second largest (columns).
fn average_rows_and_columns(axes: &Factored, decay: Decay, g: &[f32], eps: f32, rows: &mut [f32], cols: &mut [f32]) {
    let (mut row_sums, mut col_sums) = (vec![0.0_f64; rows.len()], vec![0.0_f64; cols.len()]);
    let (row_step, col_step) = axes.run_steps();
    for (run, g) in axes.runs().zip(g.chunks(axes.run_length())) {
        for (j, &g) in g.iter().enumerate() {
            let square = f64::from(g * g + eps);
            row_sums[run.row + j * row_step] += square;
            col_sums[run.col + j * col_step] += square;
        }
    }
    for (averages, sums, count) in [(rows, row_sums, axes.row_count), (cols, col_sums, axes.col_count)] {
        for (average, sum) in averages.iter_mut().zip(sums) {
            *average = decay.mix(*average, (sum / count as f64) as f32);
        }
    }
}

/// `(r / mean_d1 r)^−½` of every row average.
fn row_factors(axes: &Factored, rows: &[f32]) -> Vec<f32> {
    let [before, along, after] = axes.row_split;
    let mut factors = vec![0.0; rows.len()];
    for outer in 0..before {
        for inner in 0..after {
            let at = |j: usize| (outer * along + j) * after + inner;
            let sum: f64 = (0..along).map(|j| f64::from(rows[at(j)])).sum();
            let mean = (sum / along as f64) as f32;
            for j in 0..along {
                factors[at(j)] = 1.0 / (rows[at(j)] / mean).sqrt();
            }
        }
    }
    factors
}

impl Rule for Adafactor {
    /// The learning rate and the decay of the second moment.
    type Numbers = (f32, Decay);

    fn name(&self) -> &'static str {
        "adafactor"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        let exponent = self.decay_rate > 0.0 && self.decay_rate <= 1.0;
        settings::require("decay_rate", self.decay_rate, exponent, "must lie in (0, 1]")?;
        settings::positive("clipping_threshold", self.clipping_threshold.unwrap_or(1.0))?;
        settings::decay("momentum", self.momentum.unwrap_or(0.0))?;
        settings::non_negative("weight_decay_rate", self.weight_decay_rate.unwrap_or(0.0))?;
        settings::non_negative("epsilon", self.epsilon)
    }

    /// `v_row` and `v_col` of a factored tensor, else `v`; then `m` if there is momentum.
    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        let mut buffers = match self.axes(tensor) {
            Some(axes) => vec![
                Buffer { prefix: "v_row".into(), shape: axes.row_shape, initial: 0.0 },
                Buffer { prefix: "v_col".into(), shape: axes.col_shape, initial: 0.0 },
            ],
            None => vec![Buffer::like(tensor, "v")],
        };
        if self.momentum.is_some() {
            buffers.push(Buffer::like(tensor, "m"));
        }
        buffers
    }

    fn numbers(&self, now: Moment) -> (f32, Decay) {
        let count = now.step.saturating_sub(self.decay_offset).saturating_add(1);
        let taken = 1.0 / power(count.into(), self.decay_rate);
        (now.of(&self.learning_rate), Decay::traced(1.0 - taken as f32))
    }

    fn update(
        &self,
        &(learning_rate, decay): &(f32, Decay),
        tensor: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let mut w = vec![0.0; g.len()];
        self.precondition(tensor, decay, g, buffers, &mut w);
        if let Some(threshold) = self.clipping_threshold {
            let excess = root_mean_square(&w) / threshold as f32;
            // A NaN stays one.
            let divisor = if excess <= 1.0 { 1.0 } else { excess };
            w.iter_mut().for_each(|w| *w /= divisor);
        }
        w.iter_mut().for_each(|w| *w *= learning_rate);
        if self.multiply_by_parameter_scale {
            let size = root_mean_square(p);
            let scale = if size <= LEAST_SCALE { LEAST_SCALE } else { size };
            w.iter_mut().for_each(|w| *w *= scale);
        }
        if let (Some(momentum), Some(average)) = (self.momentum, buffers.last_mut()) {
            let momentum = Decay::literal(momentum);
            for (w, average) in w.iter_mut().zip(average.iter_mut()) {
                *average = momentum.mix(*average, *w);
                *w = *average;
            }
        }
        let weight_decay = self.weight_decay_rate.unwrap_or(0.0) as f32;
        for (p, w) in p.iter_mut().zip(w) {
            *p -= w + weight_decay * *p;
        }
    }
}

/// An optional number that is there unless it says `false`, for formats that have no null.
mod or_false {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Flag(bool),
        Null,
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) => serializer.serialize_f64(*number),
            None => serializer.serialize_bool(false),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Some(number)),
            Written::Flag(false) | Written::Null => Ok(None),
            Written::Flag(true) => Err(D::Error::custom("expected a number or false, got true")),
        }
    }
}
