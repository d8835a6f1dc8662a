//! Recurrent layers over a whole sequence, one step of the tape each.
//!
//! ```text
//!            t = 0      1      2                 all times at once:  X W   (one product)
//!  x W + b   ────►─┬────►─┬────►─┬──             time after time:    h U   (one product a time)
//!  h U    0 ──►  cell ─► cell ─► cell            backward the same:  ∂h = ∂gates Uᵀ a time,
//!                  ▼      ▼      ▼               then ∂W, ∂U, ∂x, ∂b for all times at once
//!                 h₀     h₁     h₂
//! ```
//!
//! Within a lane everything is time-major, `[time, batch, …]`, so that a time is one block; the state before the first
//! time is 0. The columns of `W` and `U` are the cell's gates, one after another, each `hidden` wide. The gradient of
//! the weights sums over time and batch in one fixed order.

mod gru;
mod lstm;
mod plain;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::matrix::{Into, Matrix, multiply};
use super::real::Real;
use super::slices::{block, block_mut, swap_axes};
use super::{Tape, by_type, check_lanes, host, tensor};
use crate::cost;

/// What happens at one time; `σ` is the sigmoid, `∘` the product entry by entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// `h ← tanh(x W + h U + b)`.
    Vanilla,
    /// `h ← relu(x W + h U + b)`. Its recurrent matrix `U` is meant to start as the identity and its bias as 0 (Le,
    /// Jaitly, Hinton, arXiv 1504.00941); that is up to whoever initialises the weights.
    Irnn,
    /// Haiku's LSTM, gates `i, g, f, o`: `c ← σ(f + 1) ∘ c + σ(i) ∘ tanh(g)`, `h ← σ(o) ∘ tanh(c)`. The 1 in the forget
    /// gate is there always, so a bias of 0 remembers.
    Lstm,
    /// Haiku's GRU, gates `z, r, a`: `z = σ(z)`, `r = σ(r)`, `a = tanh(x Wₐ + (r ∘ h) Uₐ + bₐ)`, `h ← (1 − z) ∘ h + z ∘ a`.
    /// Unlike PyTorch's, the reset gate comes before the product with `Uₐ`, and `z = 1` forgets.
    Gru,
}

impl Cell {
    /// How many gates it has: `W` is `[input, gates · hidden]`.
    pub const fn gates(self) -> usize {
        match self {
            Self::Vanilla | Self::Irnn => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// The weights of a recurrent layer.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights<'a> {
    /// `W`, `[lanes, input, gates · hidden]`.
    pub input: &'a Tensor,
    /// `U`, `[lanes, hidden, gates · hidden]`.
    pub hidden: &'a Tensor,
    /// `b`, `[lanes, gates · hidden]`.
    pub bias: &'a Tensor,
}

/// Hidden states at all times: `input` `[lanes | 1, batch, time, channels]` to `[lanes, batch, time, hidden]`.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn recurrent(tape: &mut Tape, input: &Tensor, weights: RecurrentWeights<'_>, cell: Cell) -> Result<Tensor> {
    let RecurrentWeights { input: w, hidden: u, bias } = weights;
    check_lanes("recurrent", tape, input, w)?;
    let (input_lanes, batch, time, inputs) = input.dims4()?;
    let (lanes, hidden, columns) = u.dims3()?;
    if columns != cell.gates() * hidden || w.dims() != [lanes, inputs, columns] || bias.dims() != [lanes, columns] {
        bail!(
            "recurrent: weights {:?}, {:?} and {:?} do not fit a {cell:?} cell on {:?}",
            w.shape(),
            u.shape(),
            bias.shape(),
            input.shape()
        );
    }
    let sizes = Sizes { cell, input_lanes, lanes, batch, time, inputs, hidden };
    let (output, kept) = by_type!("recurrent", input.dtype(), forward::<_>(sizes, input, w, u, bias))?;
    let (x, w_kept, u_kept) = (input.clone(), w.clone(), u.clone());
    let Kept { gates, states, memory } = kept.clone();
    let held = [input, w, u, &gates, &states, &memory];
    Ok(tape.record_keeping("recurrent", &[input, w, u, bias], output, &held, move |grad, wanted| {
        by_type!("recurrent", x.dtype(), backward::<_>(sizes, (&x, &w_kept, &u_kept), &kept, grad, wanted[0]))
    }))
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    cell: Cell,
    /// Lanes of the input: `lanes`, or 1 if all share it.
    input_lanes: usize,
    lanes: usize,
    batch: usize,
    time: usize,
    inputs: usize,
    hidden: usize,
}

impl Sizes {
    fn columns(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Values of a batch of states.
    fn state(&self) -> usize {
        self.batch * self.hidden
    }

    /// Values of the gates of a batch.
    fn gates(&self) -> usize {
        self.batch * self.columns()
    }

    /// Values the cell remembers beside its hidden state, a time: those of an LSTM.
    fn memory(&self) -> usize {
        if self.cell == Cell::Lstm { self.state() } else { 0 }
    }

    /// The input of a lane, time-major.
    fn input<T: Copy>(&self, values: &[T], lane: usize, to: &mut [T]) {
        let lane = if self.input_lanes == 1 { 0 } else { lane };
        swap_axes(to, block(values, lane, to.len()), [self.batch, self.time, self.inputs]);
    }
}

/// What the backward pass needs, time-major: gates after their nonlinearities, hidden states, memory cells.
#[derive(Clone, Debug)]
struct Kept {
    gates: Tensor,
    states: Tensor,
    memory: Tensor,
}

/// One lane on the way forward. `gates` come in as `x W + b` and go out as the cell leaves them.
struct Forward<'a, T> {
    recurrent: &'a [T],
    gates: &'a mut [T],
    /// The hidden states, to be written.
    states: &'a mut [T],
    /// The memory, to be written; empty but for an LSTM.
    memory: &'a mut [T],
}

/// One lane on the way back.
struct Backward<'a, T> {
    recurrent: &'a [T],
    /// Come in as the cell left them and go out as the gradients before their nonlinearities.
    gates: &'a mut [T],
    states: &'a [T],
    memory: &'a [T],
    /// Gradients of the hidden states; what earlier times get from later ones is added here.
    grads: &'a mut [T],
    /// The gradient of the recurrent weights, to be written.
    recurrent_grad: &'a mut [T],
}

fn forward<T: Real>(sizes: Sizes, input: &Tensor, w: &Tensor, u: &Tensor, bias: &Tensor) -> Result<(Tensor, Kept)> {
    let (input_guard, w_guard) = (input.storage_and_layout(), w.storage_and_layout());
    let (u_guard, bias_guard) = (u.storage_and_layout(), bias.storage_and_layout());
    let (inputs, w, u) = (host::<T>(&input_guard)?, host::<T>(&w_guard)?, host::<T>(&u_guard)?);
    let bias = host::<T>(&bias_guard)?;
    let Sizes { lanes, batch, time, hidden, .. } = sizes;
    let (columns, rows) = (sizes.columns(), time * batch);
    let mut gates = vec![T::zero(); lanes * time * sizes.gates()];
    let mut states = vec![T::zero(); lanes * time * sizes.state()];
    let mut memory = vec![T::zero(); lanes * time * sizes.memory()];
    let mut output = vec![T::zero(); states.len()];
    let mut x = vec![T::zero(); rows * sizes.inputs];
    for lane in 0..lanes {
        sizes.input(inputs, lane, &mut x);
        let gates = block_mut(&mut gates, lane, time * sizes.gates());
        let bias = block(bias, lane, columns);
        gates.chunks_exact_mut(columns.max(1)).for_each(|row| row.copy_from_slice(bias));
        let w = Matrix::new(block(w, lane, sizes.inputs * columns), sizes.inputs, columns);
        multiply(gates, Matrix::new(&x, rows, sizes.inputs), w, Into::Add);
        let states = block_mut(&mut states, lane, time * sizes.state());
        let lane_of_cell = Forward {
            recurrent: block(u, lane, hidden * columns),
            gates,
            states: &mut *states,
            memory: block_mut(&mut memory, lane, time * sizes.memory()),
        };
        match sizes.cell {
            Cell::Vanilla | Cell::Irnn => plain::forward(sizes, lane_of_cell),
            Cell::Lstm => lstm::forward(sizes, lane_of_cell),
            Cell::Gru => gru::forward(sizes, lane_of_cell),
        }
        swap_axes(block_mut(&mut output, lane, time * sizes.state()), states, [time, batch, hidden]);
    }
    let kept = Kept {
        gates: tensor(gates, &[lanes, time, batch, columns])?,
        states: tensor(states, &[lanes, time, batch, hidden])?,
        memory: tensor(memory, &[lanes, time, sizes.memory()])?,
    };
    Ok((tensor(output, &[lanes, batch, time, hidden])?, kept))
}

fn backward<T: Real>(
    sizes: Sizes,
    (input, w, u): (&Tensor, &Tensor, &Tensor),
    kept: &Kept,
    grad: &Tensor,
    wants_input: bool,
) -> Result<Vec<Option<Tensor>>> {
    let (input_guard, w_guard) = (input.storage_and_layout(), w.storage_and_layout());
    let (u_guard, grad_guard) = (u.storage_and_layout(), grad.storage_and_layout());
    let (gates_guard, states_guard) = (kept.gates.storage_and_layout(), kept.states.storage_and_layout());
    let memory_guard = kept.memory.storage_and_layout();
    let (inputs, ws, us) = (host::<T>(&input_guard)?, host::<T>(&w_guard)?, host::<T>(&u_guard)?);
    let (mut gates, states) = (host::<T>(&gates_guard)?.to_vec(), host::<T>(&states_guard)?);
    let (memory, grads) = (host::<T>(&memory_guard)?, host::<T>(&grad_guard)?);
    let copied = size_of_val(gates.as_slice()) as f64;
    cost::hold(copied);
    let Sizes { lanes, batch, time, hidden, .. } = sizes;
    let (columns, rows) = (sizes.columns(), time * batch);
    let (w_size, u_size) = (sizes.inputs * columns, hidden * columns);
    let mut w_grad = vec![T::zero(); ws.len()];
    let mut u_grad = vec![T::zero(); us.len()];
    let mut bias_grad = vec![T::zero(); lanes * columns];
    let mut input_grad = wants_input.then(|| vec![T::zero(); inputs.len()]);
    let mut x = vec![T::zero(); rows * sizes.inputs];
    let mut state_grads = vec![T::zero(); time * sizes.state()];
    for lane in 0..lanes {
        let gates = block_mut(&mut gates, lane, time * sizes.gates());
        swap_axes(&mut state_grads, block(grads, lane, time * sizes.state()), [batch, time, hidden]);
        let lane_of_cell = Backward {
            recurrent: block(us, lane, u_size),
            gates: &mut *gates,
            states: block(states, lane, time * sizes.state()),
            memory: block(memory, lane, time * sizes.memory()),
            grads: &mut state_grads,
            recurrent_grad: block_mut(&mut u_grad, lane, u_size),
        };
        match sizes.cell {
            Cell::Vanilla | Cell::Irnn => plain::backward(sizes, lane_of_cell),
            Cell::Lstm => lstm::backward(sizes, lane_of_cell),
            Cell::Gru => gru::backward(sizes, lane_of_cell),
        }
        let before = Matrix::new(gates, rows, columns);
        sizes.input(inputs, lane, &mut x);
        let x_matrix = Matrix::new(&x, rows, sizes.inputs);
        multiply(block_mut(&mut w_grad, lane, w_size), x_matrix.transposed(), before, Into::Overwrite);
        sum_rows(block_mut(&mut bias_grad, lane, columns), gates);
        if let Some(input_grad) = &mut input_grad {
            let w = Matrix::new(block(ws, lane, w_size), sizes.inputs, columns);
            multiply(&mut x, before, w.transposed(), Into::Overwrite);
            swap_axes(block_mut(input_grad, lane, rows * sizes.inputs), &x, [time, batch, sizes.inputs]);
        }
    }
    cost::hold(-copied);
    let input_grad = input_grad.map(|values| tensor(values, input.dims())).transpose()?;
    let bias_grad = tensor(bias_grad, &[lanes, columns])?;
    Ok(vec![input_grad, Some(tensor(w_grad, w.dims())?), Some(tensor(u_grad, u.dims())?), Some(bias_grad)])
}

/// The sum of all rows, in f64.
fn sum_rows<T: Real>(out: &mut [T], values: &[T]) {
    let mut sums = vec![0.0; out.len()];
    for row in values.chunks_exact(out.len().max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.to_f64());
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::from_f64(sum));
}

/// `Σ hₜ₋₁ᵀ · ∂gatesₜ` for one set of gates, `[time, batch, columns]`: one product, since the states before times
/// `1..` are those of times `..last`, and the state before time 0 is 0.
fn recurrent_gradient<T: Real>(sizes: Sizes, out: &mut [T], states: &[T], gates: &[T], columns: usize) {
    let rows = sizes.time.saturating_sub(1) * sizes.batch;
    let before = Matrix::new(&states[..rows * sizes.hidden], rows, sizes.hidden);
    let gates = Matrix::new(&gates[gates.len() - rows * columns..], rows, columns);
    multiply(out, before.transposed(), gates, Into::Overwrite);
}

#[cfg(test)]
mod tests;
