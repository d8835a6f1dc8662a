//! The cell of one gate: tanh, or relu for the IRNN.

use super::{Backward, Cell, Forward, Into, Matrix, Real, Sizes, block, block_mut, multiply, recurrent_gradient};

pub(super) fn forward<T: Real>(sizes: Sizes, lane: Forward<'_, T>) {
    let Forward { recurrent, gates, states, .. } = lane;
    let recurrent = Matrix::new(recurrent, sizes.hidden, sizes.hidden);
    let size = sizes.state();
    for time in 0..sizes.time {
        let gates = block_mut(gates, time, size);
        if time > 0 {
            let before = Matrix::new(block(states, time - 1, size), sizes.batch, sizes.hidden);
            multiply(gates, before, recurrent, Into::Add);
        }
        match sizes.cell {
            // NaN is not below 0 and stays.
            Cell::Irnn => gates.iter_mut().filter(|value| **value <= T::zero()).for_each(|value| *value = T::zero()),
            Cell::Vanilla | Cell::Lstm | Cell::Gru => T::tanh_all(gates),
        }
        block_mut(states, time, size).copy_from_slice(gates);
    }
}

pub(super) fn backward<T: Real>(sizes: Sizes, lane: Backward<'_, T>) {
    let Backward { recurrent, gates, states, grads, recurrent_grad, .. } = lane;
    let recurrent = Matrix::new(recurrent, sizes.hidden, sizes.hidden).transposed();
    let size = sizes.state();
    for time in (0..sizes.time).rev() {
        let (earlier, now) = grads.split_at_mut(time * size);
        let gates = block_mut(gates, time, size);
        for (gate, &grad) in gates.iter_mut().zip(&now[..size]) {
            let slope = match sizes.cell {
                Cell::Irnn => {
                    if *gate > T::zero() {
                        T::one()
                    } else {
                        *gate
                    }
                }
                Cell::Vanilla | Cell::Lstm | Cell::Gru => T::one() - *gate * *gate,
            };
            *gate = grad * slope;
        }
        if time > 0 {
            let gates = Matrix::new(gates, sizes.batch, sizes.hidden);
            multiply(block_mut(earlier, time - 1, size), gates, recurrent, Into::Add);
        }
    }
    recurrent_gradient(sizes, recurrent_grad, states, gates, sizes.hidden);
}
