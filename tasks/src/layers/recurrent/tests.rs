//! Gradients by differences, values by candle's cells.

use super::*;
use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

const CELLS: [Cell; 4] = [Cell::Vanilla, Cell::Irnn, Cell::Lstm, Cell::Gru];

/// Input and weights for `[lanes, batch 3, time, 4]` to 5 hidden units.
fn arguments(cell: Cell, lanes: usize, time: usize) -> Vec<Tensor> {
    let columns = cell.gates() * 5;
    let small = |shape: &[usize], salt| (values(shape, salt) * 0.4).unwrap();
    vec![
        values(&[lanes, 3, time, 4], 0),
        small(&[lanes, 4, columns], 1),
        small(&[lanes, 5, columns], 2),
        small(&[lanes, columns], 3),
    ]
}

fn run(tape: &mut Tape, x: &[Tensor], cell: Cell) -> Result<Tensor> {
    recurrent(tape, &x[0], RecurrentWeights { input: &x[1], hidden: &x[2], bias: &x[3] }, cell)
}

#[test]
fn gradients_are_those_of_differences() {
    for cell in CELLS {
        let all = arguments(cell, 2, 4);
        check(&format!("{cell:?}"), &all, |tape, x| run(tape, x, cell));
        let data = all[0].narrow(0, 0, 1).unwrap();
        check(&format!("{cell:?} on shared data"), &all[1..], |tape, x| {
            run(tape, &[std::slice::from_ref(&data), x].concat(), cell)
        });
        lanes_are_independent(&arguments(cell, 3, 4), |tape, x| run(tape, x, cell));
    }
}

#[test]
fn at_one_time_the_recurrent_weights_have_no_say() {
    for cell in CELLS {
        let x = arguments(cell, 1, 1);
        let mut tape = Tape::default();
        tape.variable(&x[2]);
        let output = run(&mut tape, &x, cell).unwrap();
        let gradient = tape.backward(&output).unwrap().take(&x[2]).unwrap();
        close("recurrent gradient", &gradient, &gradient.zeros_like().unwrap(), 0.0);
    }
}

#[test]
fn values_are_those_of_the_formulas_in_candle_ops() {
    for cell in CELLS {
        let x = arguments(cell, 2, 4);
        let got = run(&mut Tape::default(), &x, cell).unwrap();
        for lane in 0..2 {
            let of = |i: usize| x[i].get(lane).unwrap();
            close(&format!("{cell:?}"), &got.get(lane).unwrap(), &by_hand(cell, &of(0), &of(1), &of(2), &of(3)), 1e-12);
        }
    }
}

/// The formulas of [`Cell`], word by word.
fn by_hand(cell: Cell, input: &Tensor, w: &Tensor, u: &Tensor, bias: &Tensor) -> Tensor {
    let sigmoid = |x: &Tensor| candle_nn::ops::sigmoid(x).unwrap();
    let zero = Tensor::zeros((3, 5), candle_core::DType::F64, &candle_core::Device::Cpu).unwrap();
    let (mut h, mut c) = (zero.clone(), zero);
    let mut states = Vec::new();
    for time in 0..input.dim(1).unwrap() {
        let x = input.narrow(1, time, 1).unwrap().squeeze(1).unwrap().contiguous().unwrap();
        let from_input = x.matmul(w).unwrap().broadcast_add(bias).unwrap();
        let from_state = h.matmul(u).unwrap();
        let input_gate = |i: usize| from_input.narrow(1, 5 * i, 5).unwrap();
        let gate = |i: usize| (input_gate(i) + from_state.narrow(1, 5 * i, 5).unwrap()).unwrap();
        h = match cell {
            Cell::Vanilla => gate(0).tanh().unwrap(),
            Cell::Irnn => gate(0).relu().unwrap(),
            Cell::Lstm => {
                let (i, g, f, o) = (gate(0), gate(1), gate(2), gate(3));
                let kept = (sigmoid(&(f + 1.0).unwrap()) * &c).unwrap();
                c = (kept + (sigmoid(&i) * g.tanh().unwrap()).unwrap()).unwrap();
                (sigmoid(&o) * c.tanh().unwrap()).unwrap()
            }
            Cell::Gru => {
                let (z, r) = (sigmoid(&gate(0)), sigmoid(&gate(1)));
                let reset = (r * &h).unwrap().matmul(&u.narrow(1, 10, 5).unwrap().contiguous().unwrap()).unwrap();
                let a = (input_gate(2) + reset).unwrap().tanh().unwrap();
                let kept = (z.affine(-1.0, 1.0).unwrap() * &h).unwrap();
                (kept + (z * a).unwrap()).unwrap()
            }
        };
        states.push(h.clone());
    }
    Tensor::stack(&states, 1).unwrap()
}

#[test]
fn values_are_those_of_candles_lstm_with_its_gates_in_our_order() {
    let x = arguments(Cell::Lstm, 1, 4);
    let got = run(&mut Tape::default(), &x, Cell::Lstm).unwrap();
    // Candle and PyTorch: i, f, g, o, rows instead of columns, and no 1 in the forget gate.
    let reorder = |tensor: &Tensor| {
        let axis = tensor.rank() - 1;
        let gate = |i: usize| tensor.narrow(axis, 5 * i, 5).unwrap();
        Tensor::cat(&[gate(0), gate(2), gate(1), gate(3)], axis).unwrap()
    };
    let of = |i: usize| reorder(&x[i].get(0).unwrap());
    let one: Vec<f64> = (0..20).map(|i| if (5..10).contains(&i) { 1.0 } else { 0.0 }).collect();
    let one = Tensor::new(one, &candle_core::Device::Cpu).unwrap();
    let weights = std::collections::HashMap::from([
        ("weight_ih_l0".to_owned(), of(1).t().unwrap().contiguous().unwrap()),
        ("weight_hh_l0".to_owned(), of(2).t().unwrap().contiguous().unwrap()),
        ("bias_ih_l0".to_owned(), of(3)),
        ("bias_hh_l0".to_owned(), one),
    ]);
    let builder = candle_nn::VarBuilder::from_tensors(weights, candle_core::DType::F64, &candle_core::Device::Cpu);
    let layer = candle_nn::lstm(4, 5, candle_nn::LSTMConfig::default(), builder).unwrap();
    let states = candle_nn::RNN::seq(&layer, &x[0].get(0).unwrap()).unwrap();
    let expected = Tensor::stack(&states.iter().map(|state| state.h().clone()).collect::<Vec<_>>(), 1).unwrap();
    close("lstm", &got.get(0).unwrap(), &expected, 1e-12);
}

#[test]
fn nan_stays_and_shapes_that_do_not_fit_are_refused() {
    for cell in CELLS {
        let mut x = arguments(cell, 1, 2);
        x[0] = (&x[0] * f64::NAN).unwrap();
        let output: Vec<f64> = run(&mut Tape::default(), &x, cell).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert!(output.iter().all(|value| value.is_nan()), "{cell:?}");
    }
    let error = run(&mut Tape::default(), &arguments(Cell::Gru, 1, 2), Cell::Lstm).unwrap_err().to_string();
    assert!(error.contains("[1, 4, 15]") && error.contains("Lstm"), "{error}");
}
