//! An LSTM that has its own state for each row (a row is a tensor of the model).
//!
//! ```text
//!  [x, h] W + b ─► i │ g │ f │ o        c' = σ(f + 1) c + σ(i) tanh(g)        h' = σ(o) tanh(c')
//! ```
//!
//! Gate order and the forget bias of 1, added here and not part of `b`, are Haiku's (`hk.LSTM`). A row's result depends
//! on that row alone, to the bit, so neither the order nor the number of rows matters.

use super::dense::affine;
use super::initial::{ThetaTensors, linear, zeros};
use super::{lane_of, theta_tensor};
use crate::Theta;
use crate::optimizer::Slot;
use crate::simd::{Kernel, Simd, WIDTH, dispatch, sigmoid, tanh};

/// Hidden and cell state, `[rows, H]` each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LstmState {
    /// Hidden state, which is also the output.
    pub(super) hidden: Vec<f32>,
    /// Cell state.
    pub(super) cell: Vec<f32>,
}

/// The state after inputs `x` `[rows, inputs]` at `hidden` and `cell` `[rows, H]`: weights `w` are `[inputs + H, 4H]`, rows
/// of `x` first, and the bias `b` is `[4H]`.
pub(super) fn step(x: &[f32], hidden: &[f32], cell: &[f32], w: &[f32], b: &[f32]) -> LstmState {
    step_by(x, hidden, cell, b.len() / 4, |joined| affine(joined, w, b))
}

/// As [`step`] with `size` units, for gates `[rows, 4H]` that are asked about `[x, h]` `[rows, inputs + H]`.
pub(super) fn step_by(
    x: &[f32],
    hidden: &[f32],
    cell: &[f32],
    size: usize,
    gates: impl FnOnce(&[f32]) -> Vec<f32>,
) -> LstmState {
    let inputs = x.len() / (hidden.len() / size).max(1);
    let mut joined = Vec::with_capacity(x.len() + hidden.len());
    for (x, h) in x.chunks_exact(inputs.max(1)).zip(hidden.chunks_exact(size)) {
        joined.extend_from_slice(x);
        joined.extend_from_slice(h);
    }
    let mut next = LstmState { hidden: hidden.to_vec(), cell: cell.to_vec() };
    dispatch(Cells { gates: &gates(&joined), size, state: &mut next });
    next
}

/// From gates `[rows, 4H]` and the cells before to the next state.
struct Cells<'a> {
    gates: &'a [f32],
    /// H.
    size: usize,
    state: &'a mut LstmState,
}

impl Kernel for Cells<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { gates, size, state } = self;
        let one = s.splat(1.0);
        let rows = state.hidden.chunks_exact_mut(size).zip(state.cell.chunks_exact_mut(size));
        for (gates, (hidden, cell)) in gates.chunks_exact(4 * size).zip(rows) {
            for (block, (hidden, cell)) in hidden.chunks_mut(WIDTH).zip(cell.chunks_mut(WIDTH)).enumerate() {
                let [input, new, forget, output] = load_gates(s, gates, size, block * WIDTH, hidden.len());
                let kept = s.mul(sigmoid(s, s.add(forget, one)), s.load_part(cell));
                let next = s.fma(sigmoid(s, input), tanh(s, new), kept);
                s.store_part(next, cell);
                s.store_part(s.mul(sigmoid(s, output), tanh(s, next)), hidden);
            }
        }
    }
}

/// The four gates of the units from `first`.
#[inline(always)]
fn load_gates<S: Simd>(s: S, gates: &[f32], size: usize, first: usize, units: usize) -> [S::Vector; 4] {
    let mut loaded = [s.zero(); 4];
    for (gate, loaded) in loaded.iter_mut().enumerate() {
        let begin = gate * size + first;
        *loaded = s.load_part(&gates[begin..begin + units]);
    }
    loaded
}

/// The slots `lstm/hidden` and `lstm/cell`, `[tensors, H]`, every row at the lane's `lstm_init_state` of theta.
pub(super) fn slots(theta: &Theta, tensors: usize, lanes: usize) -> [Slot; 2] {
    ["hidden", "cell"].map(|part| {
        let initial = |lane| theta_tensor(theta, lane_of(theta.lanes(), lane), &format!("lstm_init_state/{part}"));
        let size = theta_tensor(theta, 0, &format!("lstm_init_state/{part}")).len();
        let mut slot = Slot::filled(format!("lstm/{part}"), [tensors, size], lanes, 0.0);
        for lane in 0..lanes {
            slot.lane_mut(lane).chunks_exact_mut(size).for_each(|row| row.copy_from_slice(initial(lane)));
        }
        slot
    })
}

/// The tensors of theta that an LSTM of `size` units on `inputs` inputs needs: its weights `rnn_params/rnn/linear` and its
/// initial state `lstm_init_state` (zeros).
pub(super) fn theta_tensors(inputs: usize, size: usize) -> ThetaTensors {
    let state = ["lstm_init_state/hidden", "lstm_init_state/cell"].map(|name| zeros(name, [1, size]));
    state.into_iter().chain(linear("rnn_params/rnn/linear", inputs + size, 4 * size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_stand_in_the_order_of_haiku_and_forget_has_a_bias_of_one() {
        // One unit, one input, no recurrence: the gates are the bias.
        let (x, hidden, cell) = ([0.0], [0.0], [0.5]);
        let b = [0.3_f32, -0.7, 0.2, 1.1];
        let next = step(&x, &hidden, &cell, &[0.0; 8], &b);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let expected_cell = logistic(1.2) * 0.5 + logistic(0.3) * (-0.7_f64).tanh();
        let expected_hidden = logistic(1.1) * expected_cell.tanh();
        assert!((f64::from(next.cell[0]) - expected_cell).abs() < 1e-7, "{next:?}");
        assert!((f64::from(next.hidden[0]) - expected_hidden).abs() < 1e-7, "{next:?}");
    }

    #[test]
    fn inputs_meet_the_first_rows_of_the_weights_and_rows_do_not_see_each_other() {
        let w: Vec<f32> = (0..5 * 8).map(|i| 0.1 * ((i * 7 % 11) as f32 - 5.0)).collect();
        let b = [0.1_f32; 8];
        let x = [1.0, -2.0, 0.5, 0.25, 3.0, -1.0];
        let (hidden, cell) = ([0.1, -0.2, 0.3, 0.4], [1.0, 0.5, -0.5, 0.0]);
        let both = step(&x, &hidden, &cell, &w, &b);
        for row in 0..2 {
            let state = 2 * row..2 * row + 2;
            let alone = step(&x[3 * row..3 * row + 3], &hidden[state.clone()], &cell[state.clone()], &w, &b);
            assert_eq!(alone.hidden, both.hidden[state.clone()]);
            assert_eq!(alone.cell, both.cell[state]);
        }
        let no_input = step(&[0.0; 6], &hidden, &cell, &w, &b);
        let mut silenced = w.clone();
        silenced[..3 * 8].fill(0.0);
        assert_eq!(step(&x, &hidden, &cell, &silenced, &b), no_input);
    }

    #[test]
    fn no_rows_are_no_rows() {
        assert_eq!(step(&[], &[], &[], &[0.0; 12], &[0.0; 4]), LstmState { hidden: vec![], cell: vec![] });
    }
}
